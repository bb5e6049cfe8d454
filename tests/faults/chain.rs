//! A verb that is killed at every step and run again, until it comes to its end.

use super::cut::{self, Moment};
use super::fault::Place;
use super::held::Held;
use crate::lab::host::LSM_INSIDE;
use crate::lab::trace::Fate;
use crate::stage::Stage;
use std::collections::BTreeSet;
use std::process::Command;

/// Runs lsm with these arguments until it ends well. Each run is killed in the first step that no run was killed in, at
/// these places in turn. Returns the steps.
///
/// # Panics
/// Where something does not hold that has to after each kill, or the last run fails.
#[track_caller]
pub fn run(stage: &Stage, arguments: &[String], places: &[Place], held: &mut Held) -> BTreeSet<String> {
    let mut command = stage.host.command(LSM_INSIDE);
    command.args(arguments);
    run_command(&command, places, |when| held.look(stage, when))
}

/// The same of a command that starts lsm otherwise; `look` holds what has to.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_command(command: &Command, places: &[Place], mut look: impl FnMut(&str)) -> BTreeSet<String> {
    let mut killed = BTreeSet::new();
    loop {
        let place = places[killed.len() % places.len()];
        let mut victim = None;
        let done = cut::run_command(command, |step, moment: &Moment| {
            if step.is_empty() || killed.contains(step) || !place.is(moment) {
                return Fate::Go;
            }
            victim = Some(step.to_owned());
            Fate::Kill
        });
        let Some(step) = victim else {
            assert_eq!(done.code, 0, "after {} kills: {}", killed.len(), done.stderr);
            look("after the last run");
            return killed;
        };
        println!("killed {place:?} {step}");
        assert_eq!(done.code, 128 + 9, "{step}: {done:?}");
        look(&format!("killed {place:?} {step}"));
        killed.insert(step);
    }
}
