//! What the verbs that change the machine have in common: consent, the plan as text, the journal, what was cut off.

use crate::backend::preflight;
use crate::backend::{Layout, docker, native};
use crate::bundle;
use crate::cli::{Common, rights};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::facts;
use crate::guard::freeze::Frozen;
use crate::host::file::{self, Access};
use crate::host::process;
use crate::host::user::Owner;
use crate::plan::history::ROLLBACK;
use crate::plan::prior::Prior;
use crate::plan::{self, History, Journal, Machine, Plan, Runner, Step};
use crate::spec::Spec;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;

const BAD_PATH: Code = Code::usage("E-INSTALL-013");
const CUT_OFF: Code = Code::refused("E-PLAN-050");
const OTHER_PLAN: Code = Code::refused("E-PLAN-051");

/// What a dry run says where nothing is to be done.
const AS_WANTED: &str = "nothing to do: the signer is as wanted";

/// What stopping for a moment means to the other machine.
pub(super) const GAP: &str = "one signing call in the meantime stops the watch-only node, whose unit needs \
    Restart=always; open MuSig2 sessions are lost";

/// What other credentials mean to the other machine where nothing overlaps.
pub(super) const NO_OVERLAP: &str = "the watch-only side is cut off until it has the new bundle";

/// How the watch-only side gets a new bundle.
pub(super) const SWITCH_OVER: &str = "copy the bundle to the watch-only machine, there: lsm bundle import --bundle DIR --lnddir DIR, and restart its lnd";

/// What is told of a signer that was asked for a signature: while it is frozen none is given, nor missed.
pub(super) fn proved(layout: &Layout) -> &'static str {
    if Frozen::look(&layout.frozen()).is_some() { "" } else { "; it signs" }
}

/// What every verb understands that changes the machine.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Show what would be done and change nothing; needs root for an undoing alone
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

/// What may be done: the plan that the person at the terminal has seen; with --yes whatever is planned under the lock.
#[must_use = "the plan that is made under the lock has to be held to it"]
pub(super) struct Agreed(Option<Plan>);

impl Agreed {
    /// Holds that it is this plan, made under the lock: until that was taken another lsm may have been at work.
    ///
    /// # Errors
    /// Where it is another one.
    pub(super) fn hold(&self, plan: &Plan) -> Result<()> {
        let is_same = self.0.as_ref().is_none_or(|seen| settled(seen).eq(settled(plan)));
        if is_same { Ok(()) } else { Err(changed_meanwhile()) }
    }
}

/// The steps that are planned whenever one looks: a unit that systemd starts over and over is to be stopped at one moment, and is
/// down at the next.
fn settled(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().filter(|step| !matches!(step, Step::Restore { to: Prior::Unit { active: false, .. } }))
}

/// What says that something else is to be done by now than what was agreed to.
pub(super) fn changed_meanwhile() -> Error {
    Error::new(
        OTHER_PLAN,
        "something changed meanwhile, and other steps are to be done than those agreed to; none was done",
    )
    .hint("run it again, and look at them")
}

/// Has the person at the terminal agree to the plan, unless that was done beforehand, or nothing is to be done.
///
/// # Errors
/// Where they do not; before, where a bundle is to go into a folder that others use.
pub(super) fn consent(machine: &MachineArgs, plan: &Plan) -> Result<Agreed> {
    // What comes before it may be for good.
    plan.steps.iter().filter_map(Step::exports_to).try_for_each(|folder| bundle::check_folder(folder, None))?;
    // Also where the option was given long ago and the bundle is exported again.
    let is_taproot = |step: &Step| matches!(step, Step::Bundle { taproot_channels: true, .. });
    if plan.steps.iter().any(|step| match step {
        Step::Rotate { bundle, .. } => is_taproot(bundle),
        step => is_taproot(step),
    }) {
        terminal::ask_about(
            "warning: with --taproot-channels whoever holds the bundle can compute private keys of the signer (MuSig2); see SECURITY.md",
        );
    }
    if plan.steps.iter().any(stops) {
        terminal::ask_about(&format!("warning: {GAP}"));
    }
    if machine.yes {
        return Ok(Agreed(None));
    }
    if !plan.is_empty() {
        plan.steps.iter().for_each(|step| terminal::ask_about(&format!("  {}", step.describe())));
        terminal::confirm(&format!("Do these {} steps?", plan.steps.len()))?;
    }
    Ok(Agreed(Some(plan.clone())))
}

/// True of a step that stops a signer which runs, be it for a moment.
fn stops(step: &Step) -> bool {
    match step {
        Step::Snapshot { .. } | Step::RenewRootKeys { .. } | Step::Switch { .. } => true,
        // A timer's unit is no signer's.
        Step::Service { unit, anew: true, .. } => facts::is_active(unit) && !unit.ends_with(".timer"),
        Step::GuardMacaroon { unit, .. } | Step::Retire { unit, .. } => facts::is_active(unit),
        Step::Container { object, .. } => Engine::open(&object.engine).is_ok_and(|engine| engine.runs(&object.name)),
        _ => false,
    }
}

/// What is done where the person at the terminal ends lsm. Before the lock that is nothing to any signer: it may be another
/// lsm's that has come to run meanwhile.
pub(super) struct Interrupt(Arc<Mutex<Option<Runner>>>);

impl Interrupt {
    /// From here on the terminal is restored, and `also` done.
    ///
    /// # Errors
    /// Where the signals cannot be waited for.
    pub(super) fn arm(also: impl FnOnce() + Send + 'static) -> Result<Self> {
        let stops: Arc<Mutex<Option<Runner>>> = Arc::default();
        let armed = Arc::clone(&stops);
        process::on_interrupt(move || {
            terminal::restore();
            if let Some(runner) = armed.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                // The next run stops it too.
                let _ = plan::stop(runner);
            }
            also();
        })?;
        Ok(Self(stops))
    }

    /// From here on, under the lock, an lnd is stopped too whose wallet `plan` makes, or locks for a while: it must not go on
    /// running.
    pub(super) fn stop_lnd_of(&self, plan: &Plan) {
        let runner = plan.steps.iter().find_map(|step| match step {
            Step::Wallet { runner, .. }
            | Step::ChangePassword { runner, .. }
            | Step::RenewRootKeys { runner, .. }
            | Step::GuardMacaroon { runner, .. } => Some(runner.clone()),
            _ => None,
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = runner;
    }
}

/// Makes one change to an installed signer: planned, agreed to, planned the same once more under the lock, and carried out.
/// `look` gives the plan, and what there is to tell of it. Returns that, and whether anything was changed; nothing after a dry
/// run.
///
/// # Errors
/// Those of `look`; where it is not root who asks, nobody agrees, another verb was cut off, or a step fails.
pub(super) fn change<T>(
    verb: &str,
    args: &MachineArgs,
    common: &Common,
    look: impl Fn(&Spec, &History) -> Result<(Plan, T)>,
) -> Result<Option<(T, bool)>> {
    let layout = Layout::new(&common.instance);
    let find = |history: &History| {
        let spec = rights::installed(&common.instance)?;
        docker::hold_own(&spec)?;
        look(&spec, history)
    };
    let history = History::read(&layout.journal())?;
    let (plan, found) = find(&history)?;
    if args.dry_run {
        // What ends something has nothing to end where that was never begun: no word on the rest of the signer.
        show_plan_or(&plan, if verb.ends_with("--finish") { "nothing to finish" } else { AS_WANTED });
        return Ok(None);
    }
    rights::require_rights(&layout)?;
    if plan.is_empty() && !history.was_cut_off(verb) {
        return Ok(Some((found, false)));
    }
    admit(&history, verb)?;
    let agreed = consent(args, &plan)?;
    let mut journal = open_journal(&layout)?;
    let (plan, found) = find(journal.history())?;
    admit(journal.history(), verb)?;
    agreed.hold(&plan)?;
    Interrupt::arm(|| ())?.stop_lnd_of(&plan);
    let stays = native::stays(&layout, Some(&rights::installed(&common.instance)?))?;
    // Also where nothing is left to do: that ends one that was cut off.
    plan::carry_out_all(&plan, verb, &mut journal, &Machine::default(), &stays)?;
    Ok(Some((found, true)))
}

/// Opens the journal of a signer, and takes the lock of the machine.
pub(super) fn open_journal(layout: &Layout) -> Result<Journal> {
    let (path, places) = (layout.journal(), layout.places());
    // Root's, whoever it was made for: who can write here can tell lsm what it did.
    let access = |mode| if places.are_users() { Access::mode(mode) } else { Access::owned(mode, Owner::ROOT) };
    for root in places.roots() {
        // One that is not lsm's own and is there keeps its mode until a step of the journal changes that.
        if places.is_own(&root) || !file::is_there(&root)? {
            file::make_folder(&root, access(places.root_mode()))?;
        }
    }
    file::make_folder(path.parent().unwrap_or(Path::new("/")), access(0o700))?;
    Journal::open(&path)
}

/// Prints a plan as the result of a dry run.
pub(super) fn show_plan(plan: &Plan) {
    show_plan_or(plan, AS_WANTED);
}

/// The same, with words of its own for a plan of no step.
fn show_plan_or(plan: &Plan, empty: &str) {
    if ui::voice().json {
        say!("{}", json!(plan));
        return;
    }
    if plan.is_empty() {
        say!("{empty}");
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

/// Removes a journal that answers for nothing any more, and the folders of lsm's that nothing else is in.
pub(super) fn retire(journal: Journal, layout: &Layout) -> Result<()> {
    journal.retire()?;
    layout.places().roots().iter().rev().try_for_each(|root| file::remove_folder(root).map(drop))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_starts_over_and_over_may_be_down_at_one_moment_and_up_at_the_next() {
        let stop = Step::Restore { to: Prior::Unit { unit: "a.service".into(), active: false } };
        let start = Step::Restore { to: Prior::Unit { unit: "a.service".into(), active: true } };
        let gone = Step::Restore { to: Prior::nothing_at(Path::new("/a")) };
        let plan = |steps: &[&Step]| Plan { steps: steps.iter().map(|step| (*step).clone()).collect() };
        let agreed = Agreed(Some(plan(&[&stop, &gone])));
        for same in [&[&gone][..], &[&stop, &gone], &[&stop, &stop, &gone]] {
            agreed.hold(&plan(same)).unwrap();
        }
        for other in [&[&stop][..], &[&stop, &gone, &start], &[]] {
            assert_eq!(agreed.hold(&plan(other)).unwrap_err().code(), OTHER_PLAN);
        }
    }
}
