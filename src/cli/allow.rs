//! `lsm allow`: who may connect to the signer's port, changed while it runs.

use crate::backend::{self, Layout, native};
use crate::cli::machine::{self, MachineArgs};
use crate::cli::{Common, rights};
use crate::error::Result;
use crate::plan::{self, History, Machine, Plan};
use crate::spec::{Spec, parse_cidr};
use crate::ui::{self, say};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::json;

/// What to do with the allowlist.
#[derive(Debug, Subcommand)]
pub enum AllowVerb {
    /// Let an address or net connect
    #[command(after_help = "Examples:\n  sudo lsm allow add 10.0.0.7\n  lsm allow add 10.0.0.0/28 --dry-run")]
    Add(Change),
    /// Let it connect no more, and end the connections that it has
    #[command(after_help = "Example:\n  sudo lsm allow remove 10.0.0.7 --yes")]
    Remove(Change),
    /// Show who may connect
    #[command(after_help = "Examples:\n  lsm allow list\n  lsm allow list --json")]
    List,
}

/// One entry of the list.
#[derive(Debug, Args)]
pub struct Change {
    /// An address, or a net such as 10.0.0.0/28
    #[arg(value_name = "CIDR", value_parser = parse_cidr)]
    net: IpNet,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Under which names the journal has these plans.
const ADD: &str = "allow add";
const REMOVE: &str = "allow remove";

/// Runs `lsm allow`.
///
/// # Errors
/// Where there is no such signer, the entry cannot be added or removed, or a step fails.
pub(super) fn run(verb: AllowVerb, common: &Common) -> Result<()> {
    match verb {
        AllowVerb::Add(args) => change(ADD, &args, common, |spec| spec.allowing(args.net)),
        AllowVerb::Remove(args) => change(REMOVE, &args, common, |spec| spec.forbidding(args.net)),
        AllowVerb::List => list(common),
    }
}

fn list(common: &Common) -> Result<()> {
    let spec = rights::installed(&common.instance)?;
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "allow": spec.allow}));
        return Ok(());
    }
    if spec.allow.is_empty() {
        say!("nobody may connect");
    }
    spec.allow.iter().for_each(|net| say!("{net}"));
    Ok(())
}

fn change(verb: &str, args: &Change, common: &Common, wanted: impl Fn(&Spec) -> Result<Spec>) -> Result<()> {
    let layout = Layout::new(&common.instance);
    let look = |history: &History| -> Result<(Spec, Plan)> {
        let spec = wanted(&rights::installed(&common.instance)?)?;
        let steps = backend::allow_steps(&spec, &native::read_specs(layout.places())?)?;
        let facts = plan::observe(layout.look(), &steps);
        let unfinished = history.unfinished().is_some_and(|record| record.verb == verb);
        Ok((spec, plan::make_plan(steps, &facts, unfinished)))
    };
    let (spec, plan) = look(&History::read(&layout.journal())?)?;
    if args.machine.dry_run {
        machine::show_plan(&plan);
        return Ok(());
    }
    if plan.is_empty() {
        tell(&spec, args.net, false);
        return Ok(());
    }
    rights::require_rights(&layout)?;
    let agreed = machine::consent(&args.machine, &plan)?;
    let mut journal = machine::open_journal(&layout)?;
    // Until the lock was taken another lsm may have changed the list.
    let (spec, plan) = look(journal.history())?;
    machine::admit(journal.history(), verb)?;
    agreed.hold(&plan)?;
    // What it goes back to, where a step fails.
    let stays = native::stays(&layout, Some(&rights::installed(&common.instance)?))?;
    plan::carry_out(&plan, verb, &mut journal, &Machine::default(), &stays)?;
    tell(&spec, args.net, true);
    Ok(())
}

fn tell(spec: &Spec, net: IpNet, changed: bool) {
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": changed, "allow": spec.allow}));
        return;
    }
    let (now, may) = (if changed { "now" } else { "already" }, spec.allow.iter().any(|there| there.contains(&net)));
    say!("{net} {} connect, {now}", if may { "may" } else { "may not" });
    if spec.allow.is_empty() {
        say!("nobody may connect");
    }
}
