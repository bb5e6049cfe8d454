//! `lsm wallet unlock`: opens the wallet of an lnd that came up locked.

use super::require_wallet;
use crate::backend::Layout;
use crate::backend::control::parts;
use crate::cli::machine::{self, MachineArgs};
use crate::cli::{Common, control, rights};
use crate::error::{Code, Error, Result};
use crate::host::credential::Keep;
use crate::plan;
use crate::signer::Node;
use crate::signer::wallet::State;
use crate::spec::Spec;
use crate::ui::progress::Progress;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const NOT_OPENED: Code = Code::refused("E-WALLET-050");

/// Under which name it is held against a plan that was cut off.
const VERB: &str = "wallet unlock";

/// How long lnd may take from its start until it asks for its password, and from there until it can sign.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of `lsm wallet unlock`.
#[derive(Debug, Args)]
pub struct Options {
    /// The wallet's password, in a file [default: the one that is sealed for this signer]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs it.
///
/// # Errors
/// Where no lnd answers, nobody agrees, another lsm is at work, or the password does not open the wallet.
pub(super) fn run(options: &Options, common: &Common) -> Result<()> {
    let spec = rights::installed(&common.instance)?;
    require_wallet(&spec)?;
    let layout = Layout::of(&spec);
    let node = plan::open(&layout.door())?;
    if options.machine.dry_run {
        // Who cannot ask lnd is shown what would be tried.
        let is_open = node.state().is_ok_and(|state| state > State::Locked);
        let parts = parts(&spec);
        control::show("unlock", &parts[..usize::from(!is_open)]);
        return Ok(());
    }
    rights::require_rights(&layout)?;
    let is_locked = || {
        let waited = node.wait_for(|state| state >= State::Locked, PATIENCE);
        waited.map(|state| state == State::Locked).map_err(|e| e.hint_if_none("start it first: lsm start"))
    };
    let mut changed = is_locked()?;
    if changed {
        if !options.machine.yes {
            terminal::confirm(&format!("Open the wallet of the signer {}?", spec.instance))?;
        }
        // Holds the lock: another lsm may have lnd locked, to change its wallet.
        let journal = machine::open_journal(&layout)?;
        control::admit_for_lnd(journal.history(), VERB)?;
        changed = is_locked()?;
        if changed {
            options.unlock(&node, &layout.keep("wallet-password", spec.sealed))?;
        }
    }
    node.wait_for(|state| state == State::Active, PATIENCE)?;
    tell(&spec, changed);
    Ok(())
}

impl Options {
    fn unlock(&self, node: &Node, kept: &Keep) -> Result<()> {
        let _shown = Progress::new("unlocking the wallet", None);
        let password = self.password_file.as_deref().map_or_else(|| kept.load(), plan::read_password)?;
        node.unlock(&password).map_err(|e| {
            Error::new(NOT_OPENED, "the wallet does not open with this password")
                .hint("the one that is kept for the signer is taken without --password-file")
                .because(e)
        })
    }
}

fn tell(spec: &Spec, changed: bool) {
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": changed}));
    } else if changed {
        say!("the wallet of the signer {} is open, and it can sign", spec.instance);
    } else {
        say!("nothing to do: the wallet of the signer {} is open", spec.instance);
    }
}
