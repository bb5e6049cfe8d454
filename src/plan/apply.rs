//! The one interpreter: it performs a plan step by step, and says so in the journal before and after each.

use crate::error::Result;
use crate::plan::journal::{Event, Journal};
use crate::plan::perform::{Machine, perform};
use crate::plan::planner::Plan;
use crate::ui::progress::Progress;

/// Performs `plan`, which `verb` made. Stops at the first step that fails; run again, the verb goes on from there.
///
/// # Errors
/// That of the step that failed.
pub fn apply(plan: &Plan, verb: &str, journal: &mut Journal, machine: &Machine<'_>) -> Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    journal.begin(verb, plan.steps.len(), machine.accepted_risk)?;
    for (place, step) in plan.steps.iter().enumerate() {
        let shown = Progress::new(&step.describe(), None);
        journal.intend(place, step)?;
        if let Err(error) = perform(step, journal, machine, &shown) {
            journal.write(Event::Failed { step: place, code: error.code().id.to_owned() })?;
            return Err(error);
        }
        journal.write(Event::Done { step: place })?;
        tracing::info!(step = place, "{}", step.describe());
    }
    journal.write(Event::End)
}
