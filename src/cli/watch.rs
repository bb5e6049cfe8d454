//! `lsm harden --watch`: a timer that has the audit run; and `lsm harden-watch` (hidden), which that timer runs.

use crate::backend::preflight;
use crate::backend::{Layout, native};
use crate::cli::machine::{self, MachineArgs};
use crate::cli::{Common, rights};
use crate::error::Result;
use crate::facts::{self, Facts};
use crate::harden::{self, Baseline, Choice, Waivers};
use crate::host::file::{self, Access};
use crate::plan::{self, History, Machine, Plan};
use crate::ui::{self, say};
use serde_json::json;
use std::path::Path;

/// Under which name the journal has this plan.
const VERB: &str = "harden --watch";

/// What the operator answers for, where the watch finds it.
const WAIVERS: &str = "/etc/lsm/waivers.toml";

/// Turns the watch on.
///
/// # Errors
/// Where systemd does not run this machine, or a step fails.
pub(super) fn turn_on(args: &MachineArgs, common: &Common) -> Result<()> {
    let layout = Layout::new(&common.instance);
    let machine = Facts::gather();
    let look = |history: &History| -> Result<Plan> {
        let steps = native::watch_steps(&common.instance, facts::hash_self().unwrap_or_default())?;
        let facts = plan::observe(machine.clone(), &steps);
        let unfinished = history.unfinished().is_some_and(|record| record.verb == VERB);
        Ok(plan::make_plan(steps, &facts, unfinished))
    };
    let plan = look(&History::read(&layout.journal())?)?;
    if args.dry_run {
        machine::show_plan(&plan);
        return Ok(());
    }
    if !plan.is_empty() {
        rights::require_root()?;
        preflight::check_systemd(&machine)?;
        let agreed = machine::consent(args, &plan)?;
        let mut journal = machine::open_journal(&layout)?;
        // Until the lock was taken another lsm may have done it.
        let plan = look(journal.history())?;
        machine::admit(journal.history(), VERB)?;
        agreed.hold(&plan)?;
        let own = native::read_specs(layout.places())?.into_iter().find(|spec| spec.instance == common.instance);
        let stays = native::stays(&layout, own.as_ref())?;
        plan::carry_out(&plan, VERB, &mut journal, &Machine::default(), &stays)?;
    }
    tell(&layout, common, !plan.is_empty());
    Ok(())
}

fn tell(layout: &Layout, common: &Common, changed: bool) {
    let (timer, service) = (layout.watch_timer(), layout.watch_service());
    if ui::voice().json {
        say!("{}", json!({"instance": common.instance, "changed": changed, "timer": timer, "service": service}));
        return;
    }
    say!("watched    every day and after each boot, {}", if changed { "from now on" } else { "already" });
    say!("changes    journalctl -u {service}");
}

/// Runs the audit, and prints what changed since its last run here: for the journal, one line each.
///
/// # Errors
/// Where the waivers cannot be read, or the report cannot be kept.
pub(super) fn run(common: &Common) -> Result<()> {
    let kept = Layout::new(&common.instance).watch().join("report.json");
    let waivers = Path::new(WAIVERS);
    let waivers = if file::is_there(waivers)? { Waivers::read(waivers)? } else { Waivers::default() };
    let host = harden::look(&common.instance);
    let report = harden::judge(&host, &Choice::default()).waive(&waivers, host.taken);
    let text = json!(report).to_string();
    let report = match last(&kept) {
        Some(baseline) => report.compare(&baseline),
        None => report,
    };
    // Told first: cut off in between, it is told again.
    harden::render_watch(&report).iter().for_each(|line| say!("{line}"));
    file::replace(&kept, text.as_bytes(), Access::mode(0o600))
}

/// The last report. One that cannot be read is as none: everything is told anew, and that it is.
fn last(kept: &Path) -> Option<Baseline> {
    match file::is_there(kept).and_then(|is| is.then(|| Baseline::read(kept)).transpose()) {
        Ok(baseline) => baseline,
        Err(e) => {
            say!("<4>the last report is lost: {}", e.cause());
            None
        }
    }
}
