//! The one interpreter: it performs a plan step by step, and says so in the journal before and after each.

use crate::error::{Error, Result};
use crate::host::process;
use crate::plan::event::Event;
use crate::plan::history::ROLLBACK;
use crate::plan::journal::Journal;
use crate::plan::perform::{Machine, perform};
use crate::plan::planner::Plan;
use crate::plan::undo::{Stays, undo_last};
use crate::ui;
use crate::ui::progress::Progress;

/// Performs `plan`, which `verb` made; where a step fails, the steps before it are undone, unless what nothing undoes was begun:
/// then the verb, run again, goes on.
///
/// # Errors
/// That of the step that failed; the hint says whether all is as it was.
pub fn carry_out(plan: &Plan, verb: &str, journal: &mut Journal, machine: &Machine<'_>, stays: &Stays) -> Result<()> {
    if plan.is_empty() { Ok(()) } else { carry_out_all(plan, verb, journal, machine, stays) }
}

/// As [`carry_out`]; an empty plan, too, is said to have begun and ended: it ends one that was cut off.
///
/// # Errors
/// As [`carry_out`].
pub fn carry_out_all(
    plan: &Plan,
    verb: &str,
    journal: &mut Journal,
    machine: &Machine<'_>,
    stays: &Stays,
) -> Result<()> {
    let Err(error) = apply_all(plan, verb, journal, machine) else { return Ok(()) };
    let next = error.advice().unwrap_or("mend it and run the same command again").to_owned();
    if journal.history().is_past_return() {
        let gone = "macaroons of before may be refused by now, and the same command goes on to new ones";
        return Err(error.hint(format!("{next}; {gone}")));
    }
    ui::note(&format!("{}; undoing what was done", error.cause()));
    Err(match go_back(journal, stays) {
        Ok(lost) => {
            let lost: String = lost.iter().map(|lost| format!("{lost}; ")).collect();
            error.hint(format!("what was done before was undone; {lost}{next}"))
        }
        Err(second) => {
            let hint = format!("and undoing it failed: {second}; mend that, then run: lsm rollback");
            Error::new(error.code(), error.cause()).hint(hint).because(error)
        }
    })
}

/// Undoes it, and gives what stays lost.
fn go_back(journal: &mut Journal, stays: &Stays) -> Result<Vec<String>> {
    let Some(undo) = undo_last(journal.history(), stays)? else { return Ok(vec![]) };
    undo.foreign
        .iter()
        .for_each(|kept| ui::note(&format!("somebody else changed it, so it is left: {:?}", kept.thing())));
    apply_all(&undo.plan, ROLLBACK, journal, &Machine::default())?;
    Ok(undo.lost)
}

/// Performs `plan`, which `verb` made. Stops at the first step that fails; run again, the verb goes on from there.
///
/// # Errors
/// That of the step that failed.
pub fn apply(plan: &Plan, verb: &str, journal: &mut Journal, machine: &Machine<'_>) -> Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    apply_all(plan, verb, journal, machine)
}

/// Also says of an empty plan that it began and ended: an undoing with nothing to do is one.
///
/// # Errors
/// As [`apply`].
pub fn apply_all(plan: &Plan, verb: &str, journal: &mut Journal, machine: &Machine<'_>) -> Result<()> {
    journal.begin(verb, plan.steps.len(), machine.about.clone())?;
    for (place, step) in plan.steps.iter().enumerate() {
        let shown = Progress::new(&step.describe(), None);
        journal.intend(place, step)?;
        if let Err(error) = perform(step, journal, machine, &shown) {
            // A plan that was interrupted goes on when it is run again, or back when that is asked for.
            process::yield_to_interrupt();
            journal.write(Event::Failed { step: place, code: error.code().id.to_owned() })?;
            return Err(error);
        }
        journal.finish(place, step)?;
        tracing::info!(step = place, "{}", step.describe());
    }
    journal.end()
}
