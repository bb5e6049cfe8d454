//! What the verbs that change the machine have in common: consent, the plan as text, the journal, what was cut off.

use crate::backend::Layout;
use crate::backend::preflight;
use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::user::Owner;
use crate::plan::history::ROLLBACK;
use crate::plan::{History, Journal, Plan, Step};
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const BAD_PATH: Code = Code::usage("E-INSTALL-013");
const CUT_OFF: Code = Code::refused("E-PLAN-050");

/// What stopping for a moment means to the other machine.
pub(super) const GAP: &str = "one signing call in the meantime stops the watch-only node, whose unit needs \
    Restart=always; open MuSig2 sessions are lost";

/// Where all that signers own is.
const HOME: &str = "/var/lib/lsm";

/// What every verb understands that changes the machine.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Show what would be done and change nothing; needs no root
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

/// Has the person at the terminal agree to the plan, unless that was done beforehand.
pub(super) fn consent(machine: &MachineArgs, plan: &Plan) -> Result<()> {
    // Also where the option was given long ago and the bundle is exported again.
    if plan.steps.iter().any(|step| matches!(step, Step::Bundle { taproot_channels: true, .. })) {
        ui::note(
            "warning: with --taproot-channels whoever holds the bundle can compute private keys of the signer (MuSig2); see SECURITY.md",
        );
    }
    if plan.steps.iter().any(|step| matches!(step, Step::Snapshot { .. })) {
        ui::note(&format!("warning: {GAP}"));
    }
    if machine.yes {
        return Ok(());
    }
    for step in &plan.steps {
        ui::note(&format!("  {}", step.describe()));
    }
    terminal::confirm(&format!("Do these {} steps?", plan.steps.len()))
}

/// Opens the journal of a signer, and takes the lock of the machine.
pub(super) fn open_journal(layout: &Layout) -> Result<Journal> {
    let path = layout.journal();
    file::make_folder(Path::new(HOME), Access::owned(0o711, Owner::ROOT))?;
    // Root's, whoever it was made for: who can write here can tell lsm what it did.
    let folder = path.parent().unwrap_or(Path::new("/var/lib/lsm/journal"));
    file::make_folder(folder, Access::owned(0o700, Owner::ROOT))?;
    Journal::open(&path)
}

/// Prints a plan as the result of a dry run.
pub(super) fn show_plan(plan: &Plan) {
    if ui::voice().json {
        say!("{}", json!(plan));
        return;
    }
    if plan.is_empty() {
        say!("nothing to do: the signer is as wanted");
    }
    for step in &plan.steps {
        say!("{}", step.describe());
    }
}

/// A path that the operator named, as root is to use it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let bad = |e| Error::new(BAD_PATH, format!("{} is no path: {e}", path.display()));
    let path = std::path::absolute(path).map_err(bad)?;
    preflight::check_place(&path)?;
    Ok(path)
}

/// Removes a journal that answers for nothing any more, and lsm's folder where nothing else is in it.
pub(super) fn retire(journal: Journal) -> Result<()> {
    journal.retire()?;
    file::remove_folder(Path::new(HOME)).map(drop)
}

/// What was cut off, in words; nothing where the last plan came to its end.
pub(super) fn describe_cut_off(history: &History) -> Option<String> {
    let record = history.unfinished()?;
    let at = OffsetDateTime::from_unix_timestamp(record.at.cast_signed()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (reached, kind) = record.reached();
    Some(format!("the {} of {} was cut off at step {reached} of {} ({kind})", record.verb, at.date(), record.steps))
}

/// Holds that no other verb than `verb` was cut off; this one goes on.
pub(super) fn admit(history: &History, verb: &str) -> Result<()> {
    match (history.unfinished(), describe_cut_off(history)) {
        (Some(record), Some(what)) if record.verb != verb => {
            let again = if record.verb == ROLLBACK {
                String::new()
            } else {
                format!("finish it with: lsm {}; or ", record.verb)
            };
            Err(Error::new(CUT_OFF, what).hint(format!("{again}undo it with: lsm rollback")))
        }
        _ => Ok(()),
    }
}
