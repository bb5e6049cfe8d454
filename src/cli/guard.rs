//! `lsm guard`: the daemon that judges what lnd is asked, and what its operator does with it.

mod approve;
mod policy;

use crate::backend::Layout;
use crate::cli::control::{installed, require_root};
use crate::cli::{Common, cert, machine};
use crate::error::{Code, Error, Exit, Result};
use crate::facts;
use crate::guard::budget::Ledger;
use crate::guard::daemon::Guard;
use crate::guard::judge::Terms;
use crate::guard::log::{self, Entry, Verdict};
use crate::guard::policy::Policy;
use crate::guard::{self, canary, frozen, now};
use crate::host::beneath;
use crate::host::file::{self, Access};
use crate::host::user::Owner;
use crate::plan;
use crate::signer::Node;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use crate::signer::middleware::CREDENTIAL;
use crate::spec::{self, Network, Spec};
use crate::ui::{self, say};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NO_GUARD: Code = Code::refused("E-GUARD-020");
const NO_LINE: Code = Code::refused("E-GUARD-022");
const NO_CREDENTIAL: Code = Code::lacking("E-GUARD-021");

/// What to do with the guard.
#[derive(Debug, Subcommand)]
pub enum GuardVerb {
    /// Judge what lnd is asked, for ever: what the guard's unit runs
    Run(RunArgs),
    /// Tell whether it enforces, proved by a call that it has to refuse; exits 1 where it does not
    #[command(after_help = "Example:\n  sudo lsm guard status")]
    Status,
    /// Refuse every signature from now on, and after a reboot too, until thaw
    #[command(after_help = "Example:\n  sudo lsm guard freeze")]
    Freeze,
    /// Sign again
    #[command(after_help = "Example:\n  sudo lsm guard thaw")]
    Thaw,
    /// Say in words what the policy lets pass, and by which rule it refuses the rest
    #[command(
        after_help = "Examples:\n  lsm guard check --example >guard.toml\n  lsm guard check --file guard.toml\n  \
        sudo lsm guard check"
    )]
    Check(policy::CheckArgs),
    /// Try a policy on what was asked before; exits 1 where it would refuse any of it
    #[command(after_help = "Examples:\n  sudo lsm guard replay --file guard.toml\n  sudo lsm guard replay --hours 168")]
    Replay(policy::ReplayArgs),
    /// Let pass, once, what one of the policy's limits has refused: the same payments, by whatever inputs
    #[command(
        after_help = "Examples:\n  sudo lsm guard approve 4711\n  sudo lsm guard approve 4711 --max-fee 5000 --minutes 10"
    )]
    Approve(approve::Options),
    /// Show what it was asked and what it said
    #[command(after_help = "Examples:\n  sudo lsm guard log\n  sudo lsm guard log -n 1000 --json\n  \
        sudo lsm guard log verify\n  sudo lsm guard log export >entries.jsonl")]
    Log(LogArgs),
}

/// `lsm guard run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Whether it refuses, or writes down what it would refuse
    #[arg(long, value_enum)]
    mode: Mode,
    /// The signer's watch-only node has taproot channels
    #[arg(long)]
    taproot_channels: bool,
}

/// What a guard that runs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Observe,
    Enforce,
}

/// `lsm guard log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// How many entries, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: usize,
    /// Hold every entry to the one before it instead
    #[command(subcommand)]
    verb: Option<LogVerb>,
}

/// What else to do with the log.
#[derive(Debug, Subcommand)]
pub enum LogVerb {
    /// Hold every entry to the one before it: finds one that was changed, taken out, put in or moved
    Verify,
    /// Write all of it to standard output as JSON lines, once every entry was held to the one before it
    Export,
}

/// Runs it.
///
/// # Errors
/// Where there is no such signer or guard, it is not root who asks, or what is asked fails.
pub(super) fn run(verb: GuardVerb, common: &Common) -> Result<ExitCode> {
    match verb {
        GuardVerb::Run(args) => return Err(serve(&args, common)?),
        GuardVerb::Status => return status(common),
        GuardVerb::Freeze => freeze(common)?,
        GuardVerb::Thaw => thaw(common)?,
        GuardVerb::Check(args) => policy::check(&args, common)?,
        GuardVerb::Replay(args) => return policy::replay(&args, common),
        GuardVerb::Approve(options) => approve::run(&options, common)?,
        GuardVerb::Log(args) => show_log(&args, common)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs it, and says why it ended.
fn serve(args: &RunArgs, common: &Common) -> Result<Error> {
    let layout = Layout::new(&common.instance);
    let no_credential = |why: &str| {
        Error::new(NO_CREDENTIAL, format!("the guard has no macaroon: {why}"))
            .hint("systemd gives it one: lsm install with --guard observe or enforce")
    };
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| no_credential("it runs in no unit"))?;
    let macaroon = file::read_plain(&Path::new(&folder).join(CREDENTIAL), 1 << 16)?;
    let macaroon = Macaroon::parse(macaroon).map_err(|e| no_credential("it does not read").because(e))?;
    let door = layout.door();
    let node = Node::new(Endpoint::Unix(door.socket), &cert::read(&door.certificate)?).with_macaroon(&macaroon);
    let guard = Guard {
        enforces: args.mode == Mode::Enforce,
        terms: Terms { taproot_channels: args.taproot_channels, wallet: None },
        log: layout.guard_log(),
        reach: layout.guard_reach(),
        frozen: layout.frozen(),
        policy: layout.guard_policy(),
        approvals: layout.guard_approvals(),
    };
    Ok(guard.run(node))
}

/// The signer, which has a guard.
fn guarded(common: &Common) -> Result<Spec> {
    let spec = installed(&common.instance)?;
    if spec.guard.is_on() {
        return Ok(spec);
    }
    Err(Error::new(NO_GUARD, format!("the signer {} has no guard", spec.instance))
        .hint(format!("give it one: sudo lsm install --network {} --guard observe", spec.network)))
}

fn status(common: &Common) -> Result<ExitCode> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let runs = facts::is_active(&layout.guard_service());
    let frozen = frozen(&layout.frozen());
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
                "instance": spec.instance, "guard": spec.guard, "running": runs, "frozen": frozen,
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
        say!("frozen     {}", if frozen { "YES: nothing is signed; lsm guard thaw" } else { "no" });
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
        let day = read_log(layout).map(|entries| {
            let mut ledger = Ledger::default();
            ledger.read(&entries);
            ledger.day(now())
        });
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

fn freeze(common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let flag = layout.frozen();
    // Whatever else is done to the signer now: nothing waits here.
    let changed = !file::is_there(&flag)?;
    if changed {
        file::replace(&flag, b"", Access::owned(0o644, Owner::ROOT))?;
    }
    tell_frozen(&spec, changed, true);
    Ok(())
}

fn thaw(common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let _lock = machine::open_journal(&layout)?;
    let changed = file::remove(&layout.frozen())?;
    tell_frozen(&spec, changed, false);
    Ok(())
}

fn tell_frozen(spec: &Spec, changed: bool, frozen: bool) {
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": changed, "frozen": frozen}));
        return;
    }
    let what = match (frozen, spec.guard) {
        (true, spec::Guard::Enforce) => "frozen: nothing is signed until lsm guard thaw",
        (true, _) => "marked as frozen, but the guard only observes: everything is signed as before",
        (false, _) => "not frozen",
    };
    say!("{what}{}", if changed { "" } else { ", already" });
}

fn show_log(args: &LogArgs, common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    require_root()?;
    let entries = read_log(&Layout::of(&spec))?;
    match args.verb {
        Some(LogVerb::Verify) => {
            tell_verified(&entries);
            return Ok(());
        }
        Some(LogVerb::Export) => {
            // Written as they were: each holds the hash of the line before it.
            return entries.iter().try_for_each(|entry| {
                let line = serde_json::to_string(entry).map_err(|e| Error::new(NO_LINE, format!("{e}")).because(e))?;
                say!("{line}");
                Ok(())
            });
        }
        None => {}
    }
    let shown = &entries[entries.len().saturating_sub(args.lines)..];
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "entries": shown}));
        return Ok(());
    }
    shown.iter().for_each(show);
    Ok(())
}

fn read_log(layout: &Layout) -> Result<Vec<Entry>> {
    log::verify(&layout.guard_log(), read_file)
}

/// One of its files. Their folder is the guard's, and root follows nobody's links.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let there = beneath::is_there(path.parent().unwrap_or(path), path)?;
    there.then(|| beneath::read(path, limit)).transpose()
}

fn tell_verified(entries: &[Entry]) {
    let (first, last) = (entries.first().map(|entry| entry.id), entries.last().map(|entry| entry.id));
    if ui::voice().json {
        say!("{}", json!({"entries": entries.len(), "first": first, "last": last}));
    } else if let (Some(first), Some(last)) = (first, last) {
        say!("{} entries, {first} to {last}, each follows from the one before it", entries.len());
    } else {
        say!("no entries");
    }
}

/// A network whose addresses are known here: simnet's are not.
fn known(network: Network) -> Option<bitcoin::Network> {
    match network {
        Network::Mainnet => Some(bitcoin::Network::Bitcoin),
        Network::Testnet => Some(bitcoin::Network::Testnet),
        Network::Testnet4 => Some(bitcoin::Network::Testnet4),
        Network::Signet => Some(bitcoin::Network::Signet),
        Network::Regtest => Some(bitcoin::Network::Regtest),
        Network::Simnet => None,
    }
}

/// A time of the log's in words.
pub(super) fn clock(at: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn show(entry: &Entry) {
    let verdict = match entry.verdict {
        Verdict::Passed => "passed",
        Verdict::Refused => "REFUSED",
        Verdict::WouldRefuse => "would refuse",
    };
    let why = entry.why.as_ref().map(|why| format!(": {why} ({})", entry.rule.as_deref().unwrap_or_default()));
    say!("{:>6} {} {verdict} {}{}", entry.id, clock(entry.at), entry.call, why.unwrap_or_default());
}
