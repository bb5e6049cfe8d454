//! lsm killed at every step, on real hosts: the next command goes on or goes back, and nothing is ever half done.

mod lab;
mod stage;

#[path = "faults/cut.rs"]
mod cut;
#[path = "faults/held.rs"]
mod held;

use cut::Moment;
use held::{Held, assert_complete};
use lab::process::Done;
use lab::snapshot::{Snapshot, is_kept_with_a_wallet, is_kept_without_a_wallet};
use lab::trace::Fate;
use stage::{Stage, port};
use std::collections::BTreeSet;

/// Where in a step lsm is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The journal has the intent, nothing was done.
    Before,
    /// Something was done: at the second call that changes something, or after the only one.
    During,
    /// All was done, and the journal does not say so.
    After,
    /// The journal says so, and lsm does not go on.
    Told,
}

const PLACES: [Place; 4] = [Place::During, Place::After, Place::Before, Place::Told];

impl Place {
    fn is(self, moment: &Moment) -> bool {
        match (self, moment) {
            (Self::Before, Moment::Written(line)) => line.event == "intent",
            (Self::During, Moment::Change(n)) => *n == 2,
            (Self::During | Self::After, Moment::Coming(line)) | (Self::Told, Moment::Written(line)) => {
                line.event == "done"
            }
            _ => false,
        }
    }
}

#[test]
fn what_is_killed_at_every_step_goes_on_until_it_is_done() {
    let Some(stage) = Stage::boot("faults-go-on") else { return };
    let (before, mut held) = (Snapshot::of(&stage.host), Held::default());
    let install = consented(stage.arguments());
    port::call_while(&stage.host, || {
        chain(&stage, "install", &install, 30, &mut held);
        assert_complete(&stage, "after the last resume");
        chain(&stage, "uninstall", &words("uninstall --yes"), 20, &mut held);
    });
    assert_back(&stage, &before, is_kept_with_a_wallet, "uninstalled");
    // The same wallet again; then all of it goes.
    stage.host.lsm(&install).ok();
    held.look(&stage, "installed again");
    assert_complete(&stage, "installed again");
    held.forget();
    chain(&stage, "purge", &words("uninstall --purge --confirm=signer --yes"), 20, &mut held);
    assert_back(&stage, &before, is_kept_without_a_wallet, "purged");
}

#[test]
fn a_killed_install_is_rolled_back_without_a_trace() {
    let Some(stage) = Stage::boot("faults-back") else { return };
    let before = Snapshot::of(&stage.host);
    let mut install = consented(stage.arguments());
    install.push("--no-wallet".into());
    let mut held = Held::default();
    for (round, place) in PLACES.into_iter().enumerate() {
        let nth = 5 + round * 8;
        let done = kill_in_step(&stage, &install, nth, place);
        assert_eq!(done.code, 128 + 9, "step {nth}: {done:?}");
        let when = format!("rolled back after a kill {place:?} step {nth}");
        chain_if(round == 3, &stage, &mut held);
        stage.host.lsm(["rollback", "--yes"]).ok();
        assert_back(&stage, &before, is_kept_without_a_wallet, &when);
    }
}

/// Kills the rollback itself at every step, where that is wanted.
#[track_caller]
fn chain_if(wanted: bool, stage: &Stage, held: &mut Held) {
    if wanted {
        chain(stage, "rollback", &words("rollback --yes"), 20, held);
    }
}

/// Runs lsm with these arguments and kills it in its step number `nth`, from 0.
fn kill_in_step(stage: &Stage, arguments: &[String], nth: usize, place: Place) -> Done {
    let mut begun = 0;
    cut::run(&stage.host, arguments, |step, moment| {
        begun += usize::from(matches!(moment, Moment::Written(line) if line.event == "intent"));
        let is_in = begun == nth + 1 && !step.is_empty();
        if is_in && (place.is(moment) || is_last(moment)) { Fate::Kill } else { Fate::Go }
    })
}

/// The host is as it was, but for what may stay.
#[track_caller]
fn assert_back(stage: &Stage, before: &Snapshot, may_stay: impl Fn(&str) -> bool, when: &str) {
    let differences = before.differences(&Snapshot::of(&stage.host), may_stay);
    let journal = std::fs::read_to_string(stage.host.path(held::JOURNAL)).unwrap_or_default();
    assert!(differences.is_empty(), "{when}: {differences:#?}\n{journal}");
}

/// Kills a verb at every step until it ends well, and holds that these were at least so many.
#[track_caller]
fn chain(stage: &Stage, verb: &str, arguments: &[String], least: usize, held: &mut Held) {
    let killed = kill_at_every_step(stage, arguments, held);
    println!("MEASURED steps at which {verb} was killed, and went on: {}", killed.len());
    assert!(killed.len() >= least, "{verb}: {killed:?}");
    held.look(stage, &format!("{verb} came to its end"));
}

fn consented(mut arguments: Vec<String>) -> Vec<String> {
    arguments.push("--yes".into());
    arguments
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Runs lsm with these arguments until it ends well. Each run is killed in the first step that no run was killed in.
/// Returns these steps.
#[track_caller]
fn kill_at_every_step(stage: &Stage, arguments: &[String], held: &mut Held) -> BTreeSet<String> {
    let mut killed = BTreeSet::new();
    loop {
        let place = PLACES[killed.len() % PLACES.len()];
        let mut victim = None;
        let done = cut::run(&stage.host, arguments, |step, moment| {
            if step.is_empty() || killed.contains(step) {
                return Fate::Go;
            }
            if !place.is(moment) && !is_last(moment) {
                return Fate::Go;
            }
            victim = Some(step.to_owned());
            Fate::Kill
        });
        let Some(step) = victim else {
            assert_eq!(done.code, 0, "after {} kills: {}", killed.len(), done.stderr);
            return killed;
        };
        println!("killed {place:?} {step}");
        assert_eq!(done.code, 128 + 9, "{step}: {done:?}");
        held.look(stage, &format!("killed {place:?} {step}"));
        killed.insert(step);
    }
}

/// A step that has no such moment is killed at its end.
fn is_last(moment: &Moment) -> bool {
    matches!(moment, Moment::Written(line) if line.event == "done")
}
