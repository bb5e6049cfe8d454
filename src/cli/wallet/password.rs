//! `lsm wallet change-password`: another password for lnd and where it is kept, both or neither.

use super::require_wallet;
use crate::backend::native::{self, Wishes};
use crate::backend::password::aside;
use crate::backend::{Layout, docker, password_steps, preflight};
use crate::cli::machine::{self, Interrupt, MachineArgs, absolute};
use crate::cli::{Common, rights};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::file;
use crate::plan::prior::Database;
use crate::plan::{self, History, Machine, Plan, Step, Told};
use crate::release::known;
use crate::release::pins::Arch;
use crate::spec::{Instance, Spec};
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

const OTHER_PASSWORD: Code = Code::refused("E-WALLET-071");

/// Under which name the journal has these plans.
const VERB: &str = "wallet change-password";

/// The options of `lsm wallet change-password`.
#[derive(Debug, Args)]
pub struct Options {
    /// Take the new password from this file instead of making one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs it.
///
/// # Errors
/// A password that lnd would refuse, before anything starts. Later, that of the step that failed: then the old password is
/// in force again, and the database as it was.
pub(super) fn run(options: &Options, common: &Common) -> Result<()> {
    let look = Look::take(options, &common.instance)?;
    if options.machine.dry_run {
        machine::show_plan(&look.plan);
        return Ok(());
    }
    rights::require_rights(&look.layout)?;
    preflight::check_machine(&look.spec, &look.facts, true)?;
    docker::hold_own(&look.spec)?;
    if look.check()? {
        tell(&look.spec, None);
        return Ok(());
    }
    if !options.machine.yes {
        terminal::require()?;
    }
    let agreed = machine::consent(&options.machine, &look.plan)?;
    let mut journal = machine::open_journal(&look.layout)?;
    let look = Look::take(options, &common.instance)?;
    machine::admit(journal.history(), VERB)?;
    agreed.hold(&look.plan)?;
    if look.check()? {
        tell(&look.spec, None);
        return Ok(());
    }
    Interrupt::arm(|| ())?.stop_lnd_of(&look.plan);
    let stays = native::stays(&look.layout, Some(&look.spec))?;
    let machine = Machine::default();
    // Also where nothing is left to do: that ends one that was cut off at its end.
    plan::carry_out_all(&look.plan, VERB, &mut journal, &machine, &stays)?;
    tell(&look.spec, Some(&machine.told.take()));
    Ok(())
}

/// What is wanted, what is there, and what follows.
struct Look {
    spec: Spec,
    layout: Layout,
    wishes: Wishes,
    facts: Facts,
    /// The mark of the file that holds the old password.
    old: String,
    /// The old password is forgotten already: what is left is to clear up.
    clears_up: bool,
    plan: Plan,
}

impl Look {
    fn take(options: &Options, instance: &Instance) -> Result<Self> {
        let spec = rights::installed(instance)?;
        require_wallet(&spec)?;
        let (release, layout) = (known::find(&spec.release)?, Layout::of(&spec));
        let history = History::read(&layout.journal())?;
        let goes_on = history.was_cut_off(VERB);
        let mut wishes = Wishes::standing(&layout, &history)?;
        wishes.password = options.password_file.as_deref().map(absolute).transpose()?;
        let begun = history.unended_step("snapshot").filter(|_| goes_on);
        let old = begun.and_then(|step| step["database"]["swapped"].as_str()).map(str::to_owned);
        let place = layout.keep("wallet-password", spec.sealed);
        let old = old.or_else(|| Database::mark(place.path())).unwrap_or_default();
        let facts = layout.look();
        let mut wanted = password_steps(&spec, release, Arch::of_this_machine()?, &wishes, &facts, old.clone())?;
        let clears_up = goes_on && history.unended_step("discard").is_some();
        if clears_up {
            wanted.retain(|step| matches!(step, Step::Discard { .. }));
        }
        let facts = plan::observe(facts, &wanted);
        let plan = plan::make_plan(wanted, &facts, goes_on);
        Ok(Self { spec, layout, wishes, facts, old, clears_up, plan })
    }

    /// Whether the wallet has that password already.
    ///
    /// # Errors
    /// Where lnd would refuse it, another one is on its way, or the database cannot be copied.
    fn check(&self) -> Result<bool> {
        let place = self.layout.keep("wallet-password", self.spec.sealed);
        if let Some(path) = &self.wishes.password {
            let wanted = plan::read_password(path)?;
            let aside = aside(&place);
            let under_way = file::is_there(aside.path())?;
            // The new one is aside until the two change places.
            let is_aside = under_way && Database::mark(aside.path()).as_ref() != Some(&self.old);
            let new = if is_aside { aside } else { place };
            let is_new = file::is_there(new.path())? && new.load()?.expose() == wanted.expose();
            if is_new && !under_way {
                return Ok(!self.clears_up);
            }
            if !is_new && (under_way || self.clears_up) {
                return Err(Error::new(OTHER_PASSWORD, "a change to another password was cut off")
                    .hint("finish it without --password-file; or undo it with: lsm rollback"));
            }
        }
        for step in &self.plan.steps {
            if let Step::Snapshot { database, .. } = step {
                plan::check_snapshot(database)?;
            }
        }
        Ok(false)
    }
}

/// Tells what was done; nothing was, where it was the password already.
fn tell(spec: &Spec, told: Option<&Told>) {
    let gap = told.and_then(|told| told.gap).map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": told.is_some(), "gap_ms": gap}));
        return;
    }
    if told.is_none() {
        say!("nothing to do: this is the password of the wallet of {}", spec.instance);
        return;
    }
    say!(
        "password   changed, lnd's and the kept one; the signer {} opened its wallet with it and signed",
        spec.instance
    );
    if let Some(gap) = gap {
        say!("gap        {gap} ms without a signature");
    }
}
