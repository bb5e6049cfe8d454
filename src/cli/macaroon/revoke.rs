//! `lsm macaroon revoke`: root keys go, and with each the macaroons on it; or all of them are replaced.

use super::list::live_keys;
use crate::backend::native::Wishes;
use crate::backend::{Layout, credentials};
use crate::cli::Common;
use crate::cli::machine::{self, MachineArgs, NO_OVERLAP};
use crate::error::{Code, Error, Result};
use crate::plan::register::{self, GUARD};
use crate::plan::{self, History, Plan, Register};
use crate::spec::Spec;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use time::OffsetDateTime;

const ADMINS: Code = Code::usage("E-MAC-022");
const BUNDLES: Code = Code::refused("E-MAC-023");
const UNKNOWN: Code = Code::usage("E-MAC-024");
const GUARDS: Code = Code::refused("E-MAC-026");

/// Under which names the journal has these plans.
pub(in crate::cli) const VERB: &str = "macaroon revoke";
pub(in crate::cli) const ADMIN: &str = "macaroon revoke --admin";

/// The options of `lsm macaroon revoke`.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("which").required(true).args(["root_keys", "admin"])),
    after_help = "With --admin the signer stops for some seconds: lnd replaces its root keys only while its wallet is locked.\n\
    Every macaroon that there is is refused afterwards, those too that somebody baked with the one that leaked.\n\
    lnd writes new ones, the bundle is exported with a new one, and the watch-only side is cut off until it has that.\n\n\
    Examples:\n  sudo lsm macaroon revoke 4\n  sudo lsm macaroon revoke --admin"
)]
pub struct RevokeArgs {
    /// The root key of the macaroon, as lsm macaroon list and show tell it
    #[arg(value_name = "ID")]
    root_keys: Vec<u64>,
    /// An admin macaroon of lnd's leaked: revoke every macaroon of this signer, and export the bundle with a new one
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs it.
pub(super) fn run(args: &RevokeArgs, common: &Common) -> Result<()> {
    if args.admin { renew_admin(args, common) } else { revoke(args, common) }
}

fn revoke(args: &RevokeArgs, common: &Common) -> Result<()> {
    let asked: BTreeSet<u64> = args.root_keys.iter().copied().collect();
    let look = |spec: &Spec, _: &History| {
        let layout = Layout::of(spec);
        let register = Register::read(&layout.register())?;
        check(&asked, &register, spec)?;
        let mut keys: Vec<u64> = asked.iter().copied().collect();
        if layout.is_ours() {
            let live = live_keys(&layout)?;
            if let Some(strange) =
                keys.iter().find(|key| !live.contains(key) && **key != GUARD && register.find(**key).is_none())
            {
                return Err(Error::new(UNKNOWN, format!("there is no macaroon on root key {strange}"))
                    .hint("all that there are: lsm macaroon list"));
            }
            keys.retain(|key| live.contains(key));
        }
        Ok((Plan { steps: credentials::revoke_steps(spec, &keys) }, keys))
    };
    let Some((keys, changed)) = machine::change(VERB, &args.machine, common, look)? else { return Ok(()) };
    if ui::voice().json {
        say!("{}", json!({"changed": changed, "revoked": keys}));
    } else if keys.is_empty() {
        say!("nothing to do: revoked already");
    }
    if !ui::voice().json {
        keys.iter().for_each(|key| say!("revoked    what hangs on root key {key}"));
    }
    Ok(())
}

/// Holds that none of them is lnd's own, or the watch-only side's.
fn check(asked: &BTreeSet<u64>, register: &Register, spec: &Spec) -> Result<()> {
    if asked.contains(&0) {
        return Err(Error::new(ADMINS, "root key 0 cannot be deleted: lnd's own macaroons hang on it")
            .hint("where one of them leaked: lsm macaroon revoke --admin"));
    }
    if spec.guard.is_on() && asked.contains(&GUARD) {
        return Err(Error::new(GUARDS, format!("root key {GUARD} is the guard's: without it lnd answers nobody"))
            .hint("take the guard away first: lsm install with --guard off"));
    }
    let bundle = register.bundle_key(spec.taproot_channels);
    if let Some(bundle) = bundle.filter(|bundle| asked.contains(bundle)) {
        return Err(Error::new(
            BUNDLES,
            format!("root key {bundle} is the bundle's: without it the watch-only node stops"),
        )
        .hint("give it a new one first: lsm macaroon rotate, then lsm macaroon rotate --finish"));
    }
    Ok(())
}

fn renew_admin(args: &RevokeArgs, common: &Common) -> Result<()> {
    let now = register::seconds(OffsetDateTime::now_utc());
    let look = |spec: &Spec, history: &History| {
        let layout = Layout::of(spec);
        let (wishes, register, facts) =
            (Wishes::for_export(&layout, history)?, Register::read(&layout.register())?, layout.look());
        // Whatever keys lnd has, they go.
        let root_key = register.free_key(&[]);
        let register = register.rotated(spec.taproot_channels, root_key, now, &[]).finished();
        let steps = credentials::renew_root_keys_steps(spec, &register, &wishes, &facts)?;
        let facts = plan::observe(facts, &steps);
        Ok((plan::make_plan(steps, &facts, false), (wishes.bundle, root_key)))
    };
    if !args.machine.dry_run {
        terminal::ask_about(&format!("warning: every macaroon is refused from then on; {NO_OVERLAP}"));
    }
    let Some(((bundle, root_key), _)) = machine::change(ADMIN, &args.machine, common, look)? else { return Ok(()) };
    if ui::voice().json {
        say!("{}", json!({"changed": true, "revoked": "all", "root_key_id": root_key, "bundle": bundle}));
        return Ok(());
    }
    say!("revoked    every macaroon that this signer had; lnd has written new ones of its own");
    say!("bundle     {} (its macaroon on root key {root_key})", bundle.display());
    say!("next       {}", machine::SWITCH_OVER);
    say!("besides    macaroons that you had baked for others: lsm macaroon list tells which; bake them anew");
    Ok(())
}
