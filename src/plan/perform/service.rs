//! Units and processes: enabled, started, stopped.

use crate::engine::{Engine, Object};
use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::program::{self, Program};
use crate::plan::door::open;
use crate::plan::prior::Database;
use crate::plan::step::{Door, Process, Runner};
use crate::secret::Secret;
use crate::signer::Node;
use crate::signer::wallet::State;
use crate::ui;
use crate::{facts, host::process};
use ipnet::IpNet;
use std::error::Error as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const ENDED: Code = Code::refused("E-PLAN-031");
const NOT_STARTED: Code = Code::refused("E-PLAN-030");

/// How long lnd may take until it serves: its key derivation and database on a slow disk.
const ACTIVE_DEADLINE: Duration = Duration::from_secs(180);
/// How often a unit is told to stop until it does.
const STOPS: u32 = 5;
/// How systemctl says that another job took a unit's place in the queue.
const GIVEN_UP: &str = " canceled";
/// How often it is looked at whether lnd still runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Has systemd read its units again where it holds any of which `files` say something, or, without a file, in any case. What it
/// does not hold it reads when it is needed, and to read all of a host's takes longer than most steps.
pub(super) fn reload_units<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let units: Vec<String> = files.into_iter().filter_map(units_of).collect();
    let list = ["list-units", "--all", "--full", "--plain", "--no-legend", "--"];
    if !units.is_empty() && Program::new("systemctl").args(list).args(units).run()?.is_empty() {
        return Ok(());
    }
    Program::new("systemctl").arg("daemon-reload").run().map(drop)
}

/// The units of which a unit's file or drop-in says something, as a pattern of systemctl(1): of a template every instance, and of
/// a beginning (`a-.service.d`) all that begin so.
fn units_of(file: &Path) -> Option<String> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let folder = file.parent().and_then(name).and_then(|folder| folder.strip_suffix(".d").map(str::to_owned));
    let unit = folder.or_else(|| name(file))?;
    let (stem, kind) = unit.rsplit_once('.')?;
    Some(if stem.ends_with(['@', '-']) { format!("{stem}*.{kind}") } else { unit })
}

/// Writes the packet filter once nft has found no fault in it, and loads it now and at every boot. A filter that does
/// not load would keep every signer of this host from starting.
pub(super) fn load(unit: &str, path: &Path, text: &str) -> Result<()> {
    Program::new("nft").args(["-c", "-f", "-"]).input(Secret::new(text.as_bytes().to_vec())).run()?;
    file::replace(path, text.as_bytes(), Access::mode(0o644))?;
    enable(unit, true)?;
    systemctl("reload-or-restart", unit)
}

/// Enables a unit by its link; where it is asked for, starts it `anew`.
pub(super) fn run(unit: &str, link: &Path, anew: bool) -> Result<()> {
    let wanted_by = link.parent().and_then(Path::file_stem).unwrap_or_default();
    enable(unit, Path::new(wanted_by).extension().is_some_and(|kind| kind == "target"))?;
    if anew { systemctl("restart", unit) } else { Ok(()) }
}

/// Enables a unit. What a target wants counts at the next boot, and systemd need not read its units again for that.
fn enable(unit: &str, at_boot: bool) -> Result<()> {
    let reload: &[&str] = if at_boot { &["--no-reload"] } else { &[] };
    Program::new("systemctl").args(["enable", "--quiet"]).args(reload).arg(unit).run().map(drop)
}

/// Has a unit started, and does not wait for that.
pub(super) fn begin(unit: &str) -> Result<()> {
    say("start", &["--no-block"], unit)
}

/// Waits until a unit is active that is being started; one that has ended meanwhile is not started again.
pub(super) fn finish(unit: &str) -> Result<()> {
    if is_up(unit) {
        return systemctl("start", unit);
    }
    Err(Error::new(ENDED, "lnd ended instead of serving").hint(format!("see why: {}", journal_of(unit))))
}

/// True of a unit that runs or is being started: one that waits for its wallet is that all the while.
fn is_up(unit: &str) -> bool {
    facts::state(unit).is_ok_and(facts::State::is_up)
}

fn journal_of(unit: &str) -> String {
    format!("journalctl -u {unit} -n 50")
}

/// Has a unit read its settings again; one that does not run reads them when it starts.
pub(super) fn reload(unit: &str, check: &[String]) -> Result<()> {
    if let Some((name, args)) = check.split_first() {
        Program::new(name).args(args).run()?;
    }
    if facts::state(unit)?.is_active() { systemctl("reload", unit) } else { Ok(()) }
}

/// Stops a unit and disables it.
pub(super) fn retire(unit: &str) -> Result<()> {
    Program::new("systemctl").args(["disable", "--quiet", unit]).run()?;
    systemctl("stop", unit)
}

/// Stops a unit, and forgets that it failed; one that systemd cannot start is stopped.
pub(super) fn halt(unit: &str) -> Result<()> {
    if facts::state(unit)? != facts::State::Unknown {
        systemctl("stop", unit)?;
    }
    // Nothing to forget is no failure.
    Program::new("systemctl").args(["reset-failed", "--quiet", unit]).output().map(drop)
}

/// Stops whatever fills the database: unit or container.
pub(super) fn halt_lnd(database: &Database) -> Result<()> {
    match &database.container {
        Some(object) => stop_container(object, database),
        None => halt(&database.unit),
    }
}

/// Stops the container that fills the database; not another one that has its name meanwhile.
pub(super) fn stop_container(object: &Object, database: &Database) -> Result<()> {
    let engine = Engine::open(&object.engine)?;
    let home = database.data.parent().unwrap_or(Path::new("/"));
    if engine.has_other(&object.name, home)? { Ok(()) } else { engine.stop(&object.name) }
}

/// Ends the connections to `address` whose peer is none of `peers`; both sides learn of it at once (ss(8), `--kill`).
pub(super) fn cut(address: SocketAddr, peers: &[IpNet]) -> Result<()> {
    if program::find("ss").is_none() {
        // They get no packet through any more.
        ui::note("this machine has no ss (apt-get install iproute2): connections that were cut off end by timing out");
        return Ok(());
    }
    let strangers = strangers(address, peers);
    Program::new("ss").args(["--kill", "--tcp", "--numeric", "state", "connected", &strangers]).run().map(drop)
}

/// In ss's words; a net of IPv6 stands in brackets, and one of IPv4 is also seen behind a socket for both.
fn strangers(address: SocketAddr, peers: &[IpNet]) -> String {
    let port = match address.ip().is_unspecified() {
        true => format!("sport = :{}", address.port()),
        false => format!("src {address}"),
    };
    peers.iter().fold(port, |said, peer| match peer {
        IpNet::V4(net) => format!("{said} and not dst {net}"),
        IpNet::V6(net) => format!("{said} and not dst [{net}]"),
    })
}

/// One verb of systemctl(1) on one unit; where it fails, the hint names the command that shows why.
///
/// # Errors
/// Where it fails.
pub fn systemctl(verb: &str, unit: &str) -> Result<()> {
    // A signer that fails and is started again at that moment has its port opened, and systemd gives up a stop of that.
    let tries = if verb == "stop" { STOPS } else { 1 };
    let is_given_up = |e: &Error| e.source().is_some_and(|why| why.to_string().contains(GIVEN_UP));
    (1..tries).fold(say(verb, &[], unit), |said, _| match said {
        Err(e) if is_given_up(&e) => say(verb, &[], unit),
        said => said,
    })
}

fn say(verb: &str, options: &[&str], unit: &str) -> Result<()> {
    Program::new("systemctl").arg(verb).args(options).arg(unit).run().map(drop).map_err(|e| {
        Error::new(NOT_STARTED, format!("systemctl {verb} {unit} failed"))
            .hint(format!("see why with: {}", journal_of(unit)))
            .because(e)
    })
}

/// Starts lnd in its sandbox as a process and keeps its number: whoever ends lsm meanwhile finds it. The running lsm becomes it,
/// not the file of that name.
pub(super) fn start(lnd: &Process) -> Result<()> {
    process::hold_interrupt(|| {
        let log = file::append(&lnd.log, 0o600)?;
        let launch = Program::new("/proc/self/exe").args(["launch", "--policy"]).arg(&lnd.policy).arg("--");
        let child = launch.arg(&lnd.program).args(&lnd.args).start(log)?;
        file::replace(&lnd.pid_file, format!("{}\n", child.id()).as_bytes(), Access::mode(0o600))
    })
}

/// Waits until `node`, which `runner` runs, is in a state that `wanted` accepts.
///
/// # Errors
/// At once where it has ended; after the deadline, why it did not get there. The hint says where its log is.
pub(super) fn wait(node: &Node, runner: &Runner, wanted: impl Fn(State) -> bool) -> Result<State> {
    let (runs, log): (Box<dyn Fn() -> bool>, String) = match runner {
        Runner::Process(p) => (Box::new(|| process::is_alive(&p.pid_file, &p.program)), p.log.display().to_string()),
        Runner::Unit { unit, .. } => (Box::new(|| is_up(unit)), journal_of(unit)),
        Runner::Container { object, .. } => {
            let runs = || Engine::open(&object.engine).is_ok_and(|engine| engine.runs(&object.name));
            (Box::new(runs), format!("docker logs --tail 50 {}", object.name))
        }
    };
    let end = Instant::now() + ACTIVE_DEADLINE;
    loop {
        let error = match node.wait_for(&wanted, PATIENCE) {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        if !runs() {
            // A container's log goes with it.
            let said = match runner {
                Runner::Container { object, .. } => Engine::open(&object.engine)?.last_words(&object.name),
                Runner::Process(_) | Runner::Unit { .. } => None,
            };
            let last = said.map(|said| format!("; it said: {said}")).unwrap_or_default();
            return Err(Error::new(ENDED, format!("lnd ended instead of serving{last}"))
                .hint(format!("see why: {log}"))
                .because(error));
        }
        if Instant::now() >= end {
            return Err(error.hint_if_none(&format!("see why: {log}")));
        }
    }
}

/// Waits until the lnd that `runner` runs can sign.
///
/// # Errors
/// Where it ends or does not get there: the hint names its log.
pub fn wait_until_active(door: &Door, runner: &Runner) -> Result<()> {
    wait(&open(door)?, runner, |state| state == State::Active).map(drop)
}

/// Ends the process whose number is kept there: asks, waits, and insists after ten seconds. Nothing where none runs.
pub(super) fn stop(kept: &Process) -> Result<()> {
    process::hold_interrupt(|| process::stop(&kept.pid_file, &kept.program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_units_of_which_it_says_something() {
        for (file, units) in [
            ("/etc/systemd/system/lsm-firewall.service", "lsm-firewall.service"),
            ("/etc/systemd/system/lsm@.service", "lsm@*.service"),
            ("/etc/systemd/system/lsm@a.service.d/lsm.conf", "lsm@a.service"),
            ("/etc/systemd/system/lsm-proxy-.service.d/x.conf", "lsm-proxy-*.service"),
            ("/etc/systemd/system/lsm@a.service.wants/lsm-proxy@a.socket", "lsm-proxy@a.socket"),
        ] {
            assert_eq!(units_of(Path::new(file)).as_deref(), Some(units));
        }
    }
    use crate::spec::parse_cidr;

    #[test]
    fn whoever_is_not_on_the_list_is_named_in_the_words_of_ss() {
        let peers = ["10.0.0.5", "10.0.1.0/24", "fd00::/64"].map(|net| parse_cidr(net).unwrap());
        let rest = " and not dst 10.0.0.5/32 and not dst 10.0.1.0/24 and not dst [fd00::/64]";
        for (listen, port) in [("10.0.0.5:10012", "src 10.0.0.5:10012"), ("[fd00::5]:1", "src [fd00::5]:1")] {
            assert_eq!(strangers(listen.parse().unwrap(), &peers), format!("{port}{rest}"));
        }
        assert_eq!(strangers("[::]:10012".parse().unwrap(), &[]), "sport = :10012");
    }
}
