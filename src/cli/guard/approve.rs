//! `lsm guard approve`: what one of the limits has refused passes once, for a time.

use super::{guarded, known, read_log};
use crate::backend::Layout;
use crate::cli::rights::require_root;
use crate::cli::{Common, machine};
use crate::error::{Code, Error, Result};
use crate::guard::approval::{self, Approval};
use crate::guard::clock::in_words;
use crate::guard::freeze::AFTER;
use crate::guard::{MINUTE, now};
use crate::host::file::{self, Access};
use crate::host::user::{self, Owner};
use crate::spec::{Guard, Network, Spec};
use crate::ui::{self, say, terminal};
use bitcoin::{Address, ScriptBuf};
use clap::Args;
use serde_json::json;

const NO_USER: Code = Code::lacking("E-GUARD-024");
const TOO_LONG: Code = Code::usage("E-GUARD-025");

/// How long one may hold, in minutes: as long as the guard remembers that it was used.
const LONGEST: u64 = 24 * 60;

/// `lsm guard approve`.
#[derive(Debug, Args)]
pub struct Options {
    /// The refused entry of the guard's log, which the refusal names
    #[arg(value_name = "ID")]
    id: u64,
    /// What more may leave the wallet than is paid, in satoshis
    #[arg(long, value_name = "SAT", default_value_t = 10_000)]
    max_fee: u64,
    /// For how many minutes it holds
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

/// Writes it where the guard reads it.
///
/// # Errors
/// Where there is no such entry, no limit refused it, it is not root who asks, or nobody agrees.
pub(super) fn run(options: &Options, common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    if !(1..=LONGEST).contains(&options.minutes) {
        return Err(Error::new(TOO_LONG, format!("an approval holds for 1 to {LONGEST} minutes")));
    }
    let layout = Layout::of(&spec);
    let at = now();
    let until = at + options.minutes * MINUTE;
    let one = Approval::of(&read_log(&layout)?, options.id, at, until, options.max_fee)?;
    if !options.yes {
        let about = payments(&one, spec.network).into_iter().map(|(to, amount)| format!("  {amount} sat to {to}"));
        let first = one.first.iter().map(|first| format!("  nobody is paid, and what is spent first is {first}"));
        about.chain(first).for_each(|line| terminal::ask_about(&line));
        terminal::confirm(&format!(
            "Let this pass once until {}, with a fee of at most {} sat?",
            in_words(until),
            one.fee
        ))?;
    }
    let _lock = machine::open_journal(&layout)?;
    let path = layout.guard_approvals();
    let mut all = approval::read(&path)?;
    // An entry that is approved again has the newer approval alone; what is over is of no use.
    all.retain(|other| other.until > at && other.entry != one.entry);
    all.push(one.clone());
    let group = user::find_group(&layout.guard_user())?;
    let gid = group.ok_or_else(|| Error::new(NO_USER, format!("there is no group {}", layout.guard_user())))?;
    file::replace(&path, &approval::render(&all), Access::owned(0o640, Owner { uid: 0, gid }))?;
    tell(&one, &spec);
    Ok(())
}

/// Each payment, to an address where it has one.
fn payments(approval: &Approval, network: Network) -> Vec<(String, u64)> {
    let network = known(network).unwrap_or(bitcoin::Network::Regtest);
    let name = |script: &str| {
        let known = ScriptBuf::from_hex(script).ok().and_then(|script| Address::from_script(&script, network).ok());
        known.map_or_else(|| format!("the script {script}"), |address| address.to_string())
    };
    approval.pays.iter().map(|(script, amount)| (name(script), *amount)).collect()
}

fn tell(one: &Approval, spec: &Spec) {
    let payments = payments(one, spec.network);
    if ui::voice().json {
        let pays = payments.iter().map(|(to, amount)| json!({"to": to, "amount": amount}));
        say!(
            "{}",
            json!({
                "instance": spec.instance, "entry": one.entry, "until": one.until, "max_fee": one.fee,
                "pays": pays.collect::<Vec<_>>(), "first": one.first,
                "next": (spec.guard == Guard::Enforce).then_some(AFTER),
            })
        );
        return;
    }
    let sum = payments.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(*amount));
    say!(
        "entry {} is approved once until {}: {sum} sat, and {} sat at most for its fee",
        one.entry,
        in_words(one.until),
        one.fee
    );
    if spec.guard != Guard::Enforce {
        say!("the guard only observes: it passes as before");
        return;
    }
    say!("repeat what you had asked the node for; where it had asked by itself, {AFTER}");
}
