//! `lsm release update`: shows what a signed update changes, asks, and keeps it.

use crate::cli::machine::MachineArgs;
use crate::error::Result;
use crate::release::policy::judge;
use crate::release::policy::signed::{Accepted, Signed};
use crate::release::{self, Change, known, trust};
use crate::ui::{self, say, terminal};
use serde_json::json;
use std::path::Path;
use time::OffsetDateTime;

/// Runs it.
///
/// # Errors
/// Where the update is not accepted: nothing is changed then.
pub fn run(file: &Path, machine: &MachineArgs) -> Result<()> {
    let (policy, signed) = (known::in_force()?, Signed::read(file)?);
    if let Some(kept) = policy.kept(&signed) {
        show(kept, &[], machine.dry_run, false);
        return Ok(());
    }
    let judged = judge::judge(&signed, policy, trust::in_force()?, OffsetDateTime::now_utc())?;
    if machine.dry_run {
        show(&judged.accepted, &judged.changes, true, true);
        return Ok(());
    }
    if !machine.yes {
        terminal::require()?;
        describe(&judged.accepted, &judged.changes).iter().for_each(|line| terminal::ask_about(line));
        terminal::confirm("Accept this update?")?;
    }
    release::keep_update(&trust::folder(), &signed, OffsetDateTime::now_utc())?;
    show(&judged.accepted, &judged.changes, false, true);
    Ok(())
}

/// One line a change, after one about the update; what they quote is escaped.
fn describe(accepted: &Accepted, changes: &[Change]) -> Vec<String> {
    let Accepted { counter, key, expires, comment, .. } = accepted;
    let about = format!("update {counter} of key {key}, expires {expires}, comment {comment:?}");
    std::iter::once(about).chain(changes.iter().map(|change| format!("  {}", change.describe()))).collect()
}

fn show(accepted: &Accepted, changes: &[Change], dry_run: bool, is_new: bool) {
    if ui::voice().json {
        let Accepted { counter, key, expires, comment, .. } = accepted;
        let mut object = json!({
            "counter": counter, "key": key, "expires": expires, "comment": comment, "changes": changes,
        });
        if dry_run {
            let place = release::place_of_update(&trust::folder(), *counter);
            object["steps"] = if is_new { json!([{"kind": "keep-update", "path": place}]) } else { json!([]) };
        } else {
            object["changed"] = json!(is_new);
        }
        say!("{object}");
        return;
    }
    if !is_new {
        say!("nothing to do: update {} is accepted already", accepted.counter);
        return;
    }
    for line in describe(accepted, changes) {
        say!("{line}");
    }
    if !dry_run {
        say!("accepted: it is kept in {}", release::place_of_update(&trust::folder(), accepted.counter).display());
    }
}
