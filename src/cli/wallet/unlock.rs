//! `lsm wallet unlock`: opens the wallet of an lnd that came up locked.

use super::require_wallet;
use crate::backend::Layout;
use crate::cli::{Common, control};
use crate::error::{Code, Error, Result};
use crate::plan;
use crate::signer::wallet::State;
use crate::ui::progress::Progress;
use crate::ui::{self, say};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const NOT_OPENED: Code = Code::refused("E-WALLET-050");

/// How long lnd may take from its start until it asks for its password, and from there until it can sign.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of `lsm wallet unlock`.
#[derive(Debug, Args)]
pub struct Options {
    /// The wallet's password, in a file [default: the one that is sealed for this signer]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// Where no lnd answers, or the password does not open the wallet.
pub(super) fn run(options: &Options, common: &Common) -> Result<()> {
    let spec = control::installed(&common.instance)?;
    require_wallet(&spec)?;
    let layout = Layout::of(&spec);
    control::require_rights(&layout)?;
    let shown = Progress::new("unlocking the wallet", None);
    let node = plan::open(&layout.door())?;
    let state = node
        .wait_for(|state| state >= State::Locked, PATIENCE)
        .map_err(|e| e.hint_if_none("start it first: lsm start"))?;
    if state == State::Locked {
        let password = match &options.password_file {
            Some(path) => plan::read_password(path)?,
            None => layout.keep("wallet-password", spec.sealed).load()?,
        };
        node.unlock(&password).map_err(|e| {
            Error::new(NOT_OPENED, "the wallet does not open with this password")
                .hint("the one that is kept for the signer is taken without --password-file")
                .because(e)
        })?;
    }
    node.wait_for(|state| state == State::Active, PATIENCE)?;
    drop(shown);
    let changed = state == State::Locked;
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": changed}));
    } else if changed {
        say!("the wallet of the signer {} is open, and it can sign", spec.instance);
    } else {
        say!("nothing to do: the wallet of the signer {} is open", spec.instance);
    }
    Ok(())
}
