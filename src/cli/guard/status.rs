//! `lsm guard status`: whether it enforces, proved, and what the operator has to know of it.

use super::{guarded, read_ledger};
use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::rights::require_root;
use crate::error::{Exit, Result};
use crate::facts;
use crate::guard::freeze::{Frozen, IN_SHORT};
use crate::guard::policy::Policy;
use crate::guard::{self, canary, now};
use crate::plan;
use crate::spec;
use crate::ui::{self, say};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Tells it.
///
/// # Errors
/// Where there is no guard, or it is not root who asks.
pub(super) fn run(common: &Common) -> Result<ExitCode> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let runs = facts::is_active(&layout.guard_service());
    let frozen = Frozen::look(&layout.frozen());
    let canary = plan::open_as_admin(&layout.door()).and_then(|admin| canary(&admin));
    let refuses = canary.as_ref().is_ok_and(|refused| *refused);
    let why = canary.err().map(|e| e.to_string());
    // After the canary, which has the guard find out.
    let said = facts::units::status(&layout.guard_service()).unwrap_or_default();
    let trouble = guard::trouble(&said).filter(|_| runs);
    // A guard that observes is as wanted where it runs.
    let well =
        runs && (refuses || spec.guard == spec::Guard::Observe) && trouble.is_none() && guard::no_coin(&said).is_none();
    if ui::voice().json {
        say!(
            "{}",
            json!({
                "instance": spec.instance, "guard": spec.guard, "running": runs, "frozen": frozen.is_some(),
                "frozen_seconds": frozen.and_then(|frozen| frozen.seconds(now())), "warnings": guard::warnings(&said),
                "canary_refused": why.is_none().then_some(refuses), "why": why, "trouble": trouble,
                "says": said, "coins": Coins::look(&layout).to_json(),
            })
        );
    } else {
        let yes = |is: bool| if is { "yes" } else { "NO" };
        say!("guard      {}", spec.guard.name());
        say!("runs       {}{}", yes(runs), if said.is_empty() { String::new() } else { format!(": {said}") });
        let canary = match (&why, refuses) {
            (Some(why), _) => format!("cannot tell: {why}"),
            (None, true) => "yes: lnd was asked for what the guard has to refuse, and refused it".to_owned(),
            (None, false) => "NO: lnd was asked for what the guard has to refuse, and signed it".to_owned(),
        };
        say!("enforces   {canary}");
        say!("coins      {}", Coins::look(&layout).describe());
        match frozen {
            Some(frozen) => say!("frozen     YES, {}: {IN_SHORT}; lsm guard thaw", frozen.describe(now())),
            None => say!("frozen     no"),
        }
        guard::warnings(&said).iter().for_each(|what| say!("warning    {what}"));
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) })
}

/// What may leave the wallet's coins, and what has.
struct Coins {
    policy: Result<Policy>,
    day: Result<(u64, u64)>,
}

impl Coins {
    fn look(layout: &Layout) -> Self {
        let day = read_ledger(layout).map(|ledger| ledger.day(now()));
        Self { policy: Policy::read(&layout.guard_policy()), day }
    }

    fn to_json(&self) -> Value {
        let (policy, day) = (self.policy.as_ref(), self.day.as_ref());
        let coins = policy.ok().map(|policy| &policy.coins);
        json!({
            "per_transaction": coins.and_then(|coins| coins.per_transaction),
            "per_hour": coins.and_then(|coins| coins.per_hour),
            "per_day": coins.and_then(|coins| coins.per_day),
            "last_day": day.ok().map(|day| day.0),
            "into_channels": day.ok().map(|day| day.1),
            "why": policy.err().or(day.err()).map(ToString::to_string),
        })
    }

    fn describe(&self) -> String {
        let (policy, (left, into_channels)) = match (&self.policy, &self.day) {
            (Err(why), _) => return format!("none leaves the wallet: {why}"),
            (_, Err(why)) => return format!("none leaves the wallet: {why}"),
            (Ok(policy), Ok(day)) => (policy, day),
        };
        let limit = |name, limit: Option<u64>| match limit {
            Some(limit) => format!("{limit} sat by {name}"),
            None => format!("no limit by {name}"),
        };
        let (one, all) = (limit("a transaction", policy.coins.per_transaction), limit("a day", policy.coins.per_day));
        format!("{one}, {all}; {left} sat left it in the last 24 hours, {into_channels} sat went into channels")
    }
}
