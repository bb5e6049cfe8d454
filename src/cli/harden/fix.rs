//! `lsm harden --fix`: what was found is mended by a plan like any other, and the host is looked at again.

use crate::backend::{Layout, native};
use crate::cli::Common;
use crate::cli::machine::{self, MachineArgs};
use crate::cli::rights;
use crate::error::Result;
use crate::facts::Facts;
use crate::facts::audit::Host;
use crate::harden::{self, Fixes, Report};
use crate::host::rights::Rights;
use crate::host::user;
use crate::plan::{self, History, Machine, Plan, Step};
use crate::ui::{self, say, terminal};
use std::collections::BTreeSet;

/// Under which name the journal has these plans.
const VERB: &str = "harden --fix";

/// A host, what was found there, and what is to be done about it.
struct Look {
    host: Host,
    report: Report,
    fixes: Fixes,
    plan: Plan,
}

impl Look {
    fn take(ids: &BTreeSet<String>, judge: impl Fn(&Host) -> Report, common: &Common, history: &History) -> Self {
        let host = harden::look(&common.instance);
        let report = judge(&host);
        let mut fixes = harden::fix(&host, &report, ids);
        let steps: Vec<Step> = std::mem::take(&mut fixes.steps).into_iter().filter(can_be_done).collect();
        let facts = plan::observe(Facts::gather(), &steps);
        let plan = plan::make_plan(steps, &facts, history.was_cut_off(VERB));
        Self { host, report, fixes, plan }
    }

    /// Says what is mended in other ways.
    fn tell_rest(&self) {
        let Fixes { named_only, by_install, by_hand, untouched, warnings, .. } = &self.fixes;
        untouched.iter().for_each(|(id, is)| ui::note(&format!("left as it is: {id} is {is}, not fail")));
        if !named_only.is_empty() {
            let all = named_only.join(",");
            ui::note(&format!(
                "only when named, since it could lock somebody out, or changes the kernel or whose a file is: --fix {all}"
            ));
        }
        if !by_install.is_empty() {
            ui::note(&format!("mended by lsm install: {}", by_install.join(", ")));
        }
        by_hand.iter().for_each(|(id, how)| ui::note(&format!("by hand: {id}: {how}")));
        warnings.iter().for_each(|warning| terminal::ask_about(&format!("warning: {warning}")));
    }
}

/// What lies behind a link, or has another name too, is left: it may be anybody's.
fn can_be_done(step: &Step) -> bool {
    let Step::Close { path, .. } = step else { return true };
    match Rights::read(path) {
        Ok(rights) => rights.is_some(),
        // Whoever is not root plans alone.
        Err(_) if !user::is_root() => true,
        Err(e) => {
            ui::note(&format!("left as it is: {e}"));
            false
        }
    }
}

/// Mends what `judge` finds and `ids` name, or all that is safe to mend, and gives what is found afterwards; nothing where
/// it was a dry run.
///
/// # Errors
/// Where a step fails: those before it were undone.
pub(super) fn run(
    ids: &BTreeSet<String>,
    args: &MachineArgs,
    judge: impl Fn(&Host) -> Report,
    common: &Common,
) -> Result<Option<(Host, Report)>> {
    let layout = Layout::new(&common.instance);
    let history = History::read(&layout.journal())?;
    let look = Look::take(ids, &judge, common, &history);
    look.tell_rest();
    if args.dry_run {
        if look.plan.is_empty() && !ui::voice().json {
            say!("nothing to do: what was found is not mended by a plan");
        } else {
            machine::show_plan(&look.plan);
        }
        return Ok(None);
    }
    if look.plan.is_empty() && !history.was_cut_off(VERB) {
        return Ok(Some((look.host, look.report)));
    }
    rights::require_root()?;
    let agreed = machine::consent(args, &look.plan)?;
    let mut journal = machine::open_journal(&layout)?;
    machine::admit(journal.history(), VERB)?;
    let look = Look::take(ids, &judge, common, journal.history());
    agreed.hold(&look.plan)?;
    let stays = native::stays(&layout, native::read_spec(&layout.spec()).ok().as_ref())?;
    plan::carry_out_all(&look.plan, VERB, &mut journal, &Machine::default(), &stays)?;
    drop(journal);
    let host = harden::look(&common.instance);
    let report = judge(&host);
    tell_untaken(&look.fixes, &report);
    Ok(Some((host, report)))
}

fn tell_untaken(fixes: &Fixes, report: &Report) {
    let again = report.findings.iter().filter(|finding| fixes.mended.contains(&finding.id));
    for finding in again.filter(|finding| finding.verdict.is_finding()) {
        ui::note(&format!("{} did not take: {}", finding.id, finding.evidence));
    }
}
