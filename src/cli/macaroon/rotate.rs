//! `lsm macaroon rotate`: the bundle's macaroon on a new root key, and the end of the old one.

use super::list::live_keys;
use crate::backend::native::Wishes;
use crate::backend::{Layout, credentials};
use crate::cli::Common;
use crate::cli::machine::{self, MachineArgs};
use crate::error::{Code, Error, Result};
use crate::plan::{self, History, Plan, Register};
use crate::spec::Spec;
use crate::ui::{self, say};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use time::OffsetDateTime;

const NEW_IS_GONE: Code = Code::refused("E-MAC-021");

/// Under which names the journal has these plans.
pub(in crate::cli) const BEGIN: &str = "macaroon rotate";
pub(in crate::cli) const FINISH: &str = "macaroon rotate --finish";

/// The options of `lsm macaroon rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "First it makes a new macaroon, proves that it signs, and exports the bundle with it; the old one stays good.\n\
    Then copy the bundle to the watch-only machine, import it there (lsm bundle import) and restart its lnd.\n\
    Last, --finish revokes the old one.\n\n\
    Examples:\n  sudo lsm macaroon rotate\n  sudo lsm macaroon rotate --finish --yes"
)]
pub struct RotateArgs {
    /// The other side has switched to the new bundle: revoke the macaroon of before
    #[arg(long)]
    finish: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs it.
pub(super) fn run(args: &RotateArgs, common: &Common) -> Result<()> {
    if args.finish { finish(args, common) } else { begin(args, common) }
}

/// What there is to tell of a rotation.
struct Rotation {
    bundle: PathBuf,
    root_key: u64,
    retiring: Vec<u64>,
}

fn begin(args: &RotateArgs, common: &Common) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let look = |spec: &Spec, history: &History| look(spec, history, now);
    let Some((rotation, changed)) = machine::change(BEGIN, &args.machine, common, look)? else { return Ok(()) };
    if ui::voice().json {
        say!(
            "{}",
            json!({"changed": changed, "root_key_id": rotation.root_key, "retiring": rotation.retiring, "bundle": rotation.bundle})
        );
        return Ok(());
    }
    let was = if changed { "is now" } else { "is already" };
    say!("macaroon   the bundle's {was} on root key {}; it signs", rotation.root_key);
    say!("bundle     {}", rotation.bundle.display());
    say!("old        good still, on root key {}", keys(&rotation.retiring));
    say!("next       {}", machine::SWITCH_OVER);
    say!("then       lsm macaroon rotate --finish");
    Ok(())
}

fn look(spec: &Spec, history: &History, now: OffsetDateTime) -> Result<(Plan, Rotation)> {
    let layout = Layout::of(spec);
    let register = Register::read(&layout.register())?;
    let bundle = Wishes::for_export(&layout, history)?.bundle;
    let goes_on = history.was_cut_off(BEGIN);
    let is_pending = !register.retiring().is_empty();
    let live = if layout.is_ours() && (goes_on || !is_pending) { live_keys(&layout)? } else { vec![] };
    let wanted = if is_pending {
        register
    } else {
        let now = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let root_key = register.free_key(&live);
        register.rotated(spec.taproot_channels, root_key, now, &live)
    };
    let root_key = wanted.bundle_key(spec.taproot_channels);
    let retiring = wanted.retiring().iter().map(|entry| entry.root_key).collect();
    let steps = credentials::rotate_steps(spec, &wanted, root_key, &bundle)?;
    let facts = plan::observe(layout.look(), &steps);
    let plan = plan::make_plan(steps, &facts, goes_on);
    // One at a time: the other side may be about to take the new bundle.
    let plan = if is_pending && !goes_on { Plan { steps: vec![] } } else { plan };
    Ok((plan, Rotation { bundle, root_key, retiring }))
}

fn finish(args: &RotateArgs, common: &Common) -> Result<()> {
    let look = |spec: &Spec, _: &History| {
        let layout = Layout::of(spec);
        let register = Register::read(&layout.register())?;
        let retiring: Vec<u64> = register.retiring().iter().map(|entry| entry.root_key).collect();
        let root_key = register.bundle_key(spec.taproot_channels);
        if !retiring.is_empty() && layout.is_ours() {
            require(&layout, root_key)?;
        }
        Ok((Plan { steps: credentials::retire_steps(spec, &register)? }, retiring))
    };
    let Some((retired, changed)) = machine::change(FINISH, &args.machine, common, look)? else { return Ok(()) };
    if ui::voice().json {
        say!("{}", json!({"changed": changed, "revoked": retired}));
    } else if retired.is_empty() {
        say!("nothing to do: no rotation is under way");
    } else {
        say!("revoked    what hangs on root key {}", keys(&retired));
    }
    Ok(())
}

/// Holds that the new macaroon is good before the old one goes.
fn require(layout: &Layout, root_key: u64) -> Result<()> {
    if live_keys(layout)?.contains(&root_key) {
        return Ok(());
    }
    Err(Error::new(NEW_IS_GONE, format!("lnd has no root key {root_key}: the new bundle's macaroon is not good"))
        .hint("export the bundle again, and give it to the watch-only side first: lsm bundle export"))
}

fn keys(keys: &[u64]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
