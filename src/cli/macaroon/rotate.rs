//! `lsm macaroon rotate`: the bundle's macaroon on a new root key, and the end of the old one.

use super::list::live_keys;
use crate::backend::native::Wishes;
use crate::backend::{Layout, credentials};
use crate::cli::Common;
use crate::cli::machine::{self, MachineArgs};
use crate::error::{Code, Error, Result};
use crate::plan::{self, History, Plan, Register, register};
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
    /// The root keys of before, as far as lnd has them.
    retiring: Vec<u64>,
    /// lnd was asked which it has.
    asked: bool,
    layout: Layout,
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
    if changed {
        say!("macaroon   the bundle's is now on root key {}{}", rotation.root_key, machine::proved(&rotation.layout));
    } else {
        say!("macaroon   the bundle's is already on root key {}", rotation.root_key);
    }
    say!("bundle     {}", rotation.bundle.display());
    say!("old        {}", describe_old(&rotation.retiring, rotation.asked));
    say!("next       {}", machine::SWITCH_OVER);
    say!("then       lsm macaroon rotate --finish");
    Ok(())
}

/// Of the macaroons of before, on these root keys, what lnd says where it was asked.
fn describe_old(root_keys: &[u64], asked: bool) -> String {
    match (asked, root_keys) {
        (true, []) => "refused already".to_owned(),
        (true, some) => format!("good still, on root key {}", keys(some)),
        (false, all) => format!("on root key {}; lnd does not answer, and may have it still", keys(all)),
    }
}

fn look(spec: &Spec, history: &History, now: OffsetDateTime) -> Result<(Plan, Rotation)> {
    let layout = Layout::of(spec);
    let register = Register::read(&layout.register())?;
    let bundle = Wishes::for_export(&layout, history)?.bundle;
    let goes_on = history.was_cut_off(BEGIN);
    // One at a time: the other side may be about to take the new bundle.
    let is_pending = !register.retiring().is_empty() && !goes_on;
    let live = match layout.is_ours().then(|| live_keys(&layout)).transpose() {
        // Nothing is to be done that lnd is needed for.
        Err(_) if is_pending => None,
        asked => asked?,
    };
    let has = live.as_deref().unwrap_or_default();
    let wanted = if register.retiring().is_empty() {
        let now = register::seconds(now);
        let root_key = register.free_key(has);
        register.rotated(spec.taproot_channels, root_key, now, has)
    } else {
        register
    };
    let root_key = new_key(&wanted, spec)?;
    let of_before = wanted.retiring().into_iter().map(|entry| entry.root_key);
    let retiring = of_before.filter(|key| live.is_none() || has.contains(key)).collect();
    let plan = if is_pending {
        if let Some(live) = &live {
            hold_good(root_key, live)?;
        }
        Plan { steps: vec![] }
    } else {
        let steps = credentials::rotate_steps(spec, &wanted, root_key, &bundle)?;
        let facts = plan::observe(layout.look(), &steps);
        plan::make_plan(steps, &facts, goes_on)
    };
    Ok((plan, Rotation { bundle, root_key, retiring, asked: live.is_some(), layout }))
}

fn finish(args: &RotateArgs, common: &Common) -> Result<()> {
    let look = |spec: &Spec, _: &History| {
        let layout = Layout::of(spec);
        let register = Register::read(&layout.register())?;
        let retiring: Vec<u64> = register.retiring().iter().map(|entry| entry.root_key).collect();
        // The new macaroon is good before the old one goes.
        if !retiring.is_empty() && layout.is_ours() {
            hold_good(new_key(&register, spec)?, &live_keys(&layout)?)?;
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

/// The root key of the new bundle's macaroon.
fn new_key(register: &Register, spec: &Spec) -> Result<u64> {
    let root_key = register.bundle_key(spec.taproot_channels);
    root_key
        .ok_or_else(|| not_good("the bundle's macaroon hangs on a root key that is revoked with the rotation's end"))
}

/// Holds that the new macaroon is good: lnd has its root key.
fn hold_good(root_key: u64, live: &[u64]) -> Result<()> {
    if live.contains(&root_key) {
        return Ok(());
    }
    Err(not_good(format!("lnd has no root key {root_key}: the new bundle's macaroon is not good")))
}

fn not_good(cause: impl Into<String>) -> Error {
    Error::new(NEW_IS_GONE, cause)
        .hint("export the bundle again, and give it to the watch-only side first: lsm bundle export")
}

fn keys(keys: &[u64]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Instance, Network};

    #[test]
    fn what_is_good_still_is_told_as_lnd_tells_it() {
        assert_eq!(describe_old(&[2, 1], true), "good still, on root key 2, 1");
        assert_eq!(describe_old(&[], true), "refused already");
        assert!(!describe_old(&[1], false).contains("good"), "nobody was asked");
    }

    #[test]
    fn a_rotation_comes_to_no_end_before_the_new_macaroon_is_good() {
        let spec = Spec::new(&Instance::default(), Network::Regtest, "v0");
        let begun = Register::default().rotated(true, 3, 0, &[1, 2]);
        assert_eq!(new_key(&begun, &spec).unwrap_err().code(), NEW_IS_GONE, "all that the role had retires");
        let begun = Register::default().rotated(false, 3, 0, &[1]);
        let root_key = new_key(&begun, &spec).unwrap();
        hold_good(root_key, &[0, 1, 3]).unwrap();
        assert_eq!(hold_good(root_key, &[0, 1]).unwrap_err().code(), NEW_IS_GONE);
    }
}
