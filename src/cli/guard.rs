//! `lsm guard`: the daemon that judges what lnd is asked, and what its operator does with it.

mod approve;
mod clock;
mod forget;
mod freeze;
mod policy;
mod status;

use crate::backend::Layout;
use crate::cli::rights::{installed, require_root};
use crate::cli::{Common, cert};
use crate::error::{Code, Error, Result};
use crate::guard::budget::Ledger;
use crate::guard::clock::in_words;
use crate::guard::daemon::Guard;
use crate::guard::entry::{Entry, Verdict};
use crate::guard::log::{self, Seen, Whole};
use crate::guard::proxy;
use crate::guard::word;
use crate::host::beneath;
use crate::host::file::{self, Access};
use crate::host::notify;
use crate::host::user::Owner;
use crate::signer::Node;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use crate::signer::middleware::CREDENTIAL;
use crate::spec::{Network, Spec};
use crate::ui::{self, say};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

const NO_GUARD: Code = Code::refused("E-GUARD-020");
const NO_LINE: Code = Code::refused("E-GUARD-022");
const NO_CREDENTIAL: Code = Code::lacking("E-GUARD-021");
const NO_PORT: Code = Code::lacking("E-GUARD-027");

/// What to do with the guard.
#[derive(Debug, Subcommand)]
pub enum GuardVerb {
    /// Judge what lnd is asked, for ever: what the guard's unit runs
    Run(RunArgs),
    /// Pass everything on from the port to lnd, and back what the guard was asked about: what the port's unit runs where a guard
    /// enforces
    #[command(after_help = "Example:\n  lsm guard proxy --instance signer")]
    Proxy,
    /// Tell whether it enforces, proved by a call that it has to refuse; exits 1 where it does not
    #[command(after_help = "Example:\n  sudo lsm guard status")]
    Status,
    /// Refuse every signature from now on, and after a reboot too, until thaw
    #[command(after_help = "Example:\n  sudo lsm guard freeze")]
    Freeze(MuteArgs),
    /// Sign again
    #[command(after_help = "Example:\n  sudo lsm guard thaw")]
    Thaw(MuteArgs),
    /// Say that the clock is right, where it was ahead: what was signed meanwhile counts from now, and not until then
    #[command(after_help = "Example:\n  sudo lsm guard clock")]
    Clock(WordArgs),
    /// Say that nobody asks for more inputs of what was signed by now, so that it need not be remembered: after a flood
    #[command(after_help = "Example:\n  sudo lsm guard forget")]
    Forget(WordArgs),
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
#[command(after_help = "Example:\n  lsm guard run --mode enforce --instance signer")]
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

/// `lsm guard freeze` and `thaw`, which are for the moment in which nobody has time for a question.
#[derive(Debug, Args)]
pub struct MuteArgs {
    /// Nothing is asked, with or without it: accepted as other verbs do
    #[arg(long)]
    yes: bool,
}

/// `lsm guard clock` and `forget`: what the operator says to a guard that runs.
#[derive(Debug, Args)]
pub struct WordArgs {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
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
    #[command(after_help = "Examples:\n  sudo lsm guard log verify\n  sudo lsm guard log verify --from 4711:a2c4...")]
    Verify {
        /// The last entry that was seen before, and its hash, as they were told then: it has to be in the log as it was
        #[arg(long, value_name = "ID:HASH")]
        from: Option<Seen>,
    },
    /// Write all of it to standard output as JSON lines, once every entry was held to the one before it
    #[command(after_help = "Example:\n  sudo lsm guard log export >entries.jsonl")]
    Export,
}

/// Runs it.
///
/// # Errors
/// Where there is no such signer or guard, it is not root who asks, or what is asked fails.
pub(super) fn run(verb: GuardVerb, common: &Common) -> Result<ExitCode> {
    match verb {
        GuardVerb::Run(args) => return Err(serve(&args, common)?),
        GuardVerb::Proxy => pass_on(common)?,
        GuardVerb::Status => return status::run(common),
        GuardVerb::Freeze(MuteArgs { yes: _either_way }) => freeze::freeze(common)?,
        GuardVerb::Thaw(MuteArgs { yes: _either_way }) => freeze::thaw(common)?,
        GuardVerb::Clock(args) => clock::run(&args, common)?,
        GuardVerb::Forget(args) => forget::run(&args, common)?,
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
        taproot_channels: args.taproot_channels,
        log: layout.guard_log(),
        accounts: layout.guard_accounts(),
        addresses: layout.guard_addresses(),
        frozen: layout.frozen(),
        policy: layout.guard_policy(),
        approvals: layout.guard_approvals(),
        clock: layout.guard_clock(),
        forget: layout.guard_forget(),
        fence: layout.guard_fence(),
    };
    guard.run(node)
}

fn pass_on(common: &Common) -> Result<()> {
    let layout = Layout::new(&common.instance);
    let port = notify::given(&layout.socket()).pop().ok_or_else(|| {
        Error::new(NO_PORT, "the proxy has no port").hint("systemd gives it one: lsm install with --guard enforce")
    })?;
    proxy::run(port.into(), &layout.door().socket, &layout.guard_fence())
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

fn show_log(args: &LogArgs, common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    require_root()?;
    let log = read_whole_log(&Layout::of(&spec))?;
    let entries = &log.entries;
    match &args.verb {
        Some(LogVerb::Verify { from }) => {
            from.iter().try_for_each(|seen| log.hold(seen))?;
            tell_verified(&log);
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
    read_whole_log(layout).map(|log| log.entries)
}

/// What its entries say has left.
fn read_ledger(layout: &Layout) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    ledger.read(&read_log(layout)?);
    Ok(ledger)
}

/// Says it at `path`, where the guard that runs reads it.
fn say_to_guard(path: &Path, at: u64) -> Result<()> {
    file::replace(path, &word::render(at), Access::owned(0o644, Owner::ROOT))
}

fn read_whole_log(layout: &Layout) -> Result<Whole> {
    log::verify(&layout.guard_log(), read_file)
}

/// One of its files. Their folder is the guard's, and root follows nobody's links.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let there = beneath::is_there(path.parent().unwrap_or(path), path)?;
    there.then(|| beneath::read(path, limit)).transpose()
}

fn tell_verified(log: &Whole) {
    let (entries, rest, seen) = (&log.entries, log.rest, log.last().map(|seen| seen.to_string()));
    let (first, last) = (entries.first().map(|entry| entry.id), entries.last().map(|entry| entry.id));
    if ui::voice().json {
        say!("{}", json!({"entries": entries.len(), "first": first, "last": last, "seen": seen, "rest": rest}));
        return;
    }
    if let (Some(first), Some(last), Some(seen)) = (first, last, seen) {
        say!("{} entries, {first} to {last}, each follows from the one before it", entries.len());
        say!("to hold a later log to this one: lsm guard log verify --from {seen}");
    } else {
        say!("no entries");
    }
    if rest > 0 {
        say!("{rest} bytes after that are no whole entry: it was cut off while it was written, or its end was changed");
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

fn show(entry: &Entry) {
    let verdict = match entry.verdict {
        Verdict::Passed => "passed",
        Verdict::Refused => "REFUSED",
        Verdict::WouldRefuse => "would refuse",
    };
    let why = entry.why.as_ref().map(|why| format!(": {why} ({})", entry.rule.as_deref().unwrap_or_default()));
    say!("{:>6} {} {verdict} {}{}", entry.id, in_words(entry.at), entry.call, why.unwrap_or_default());
}
