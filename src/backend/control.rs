//! An installed signer is started, stopped, started anew, and its log shown: by systemd, or by a container engine.

use super::{Layout, docker};
use crate::error::{Code, Error, Result};
use crate::facts;
use crate::host::program::Program;
use crate::plan;
use crate::spec::{Mode, Spec};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

const NO_WALLET: Code = Code::refused("E-NATIVE-003");
const STILL_OPEN: Code = Code::refused("E-NATIVE-004");
const CANNOT_SHOW: Code = Code::lacking("E-NATIVE-005");

/// What of a signer starts and stops: its units, lnd's and then the port's where that has one of its own; or its container.
pub fn parts(spec: &Spec) -> Vec<String> {
    spec.docker.as_ref().map_or_else(|| units(spec), |docker| vec![docker::container(docker).to_string()])
}

/// True where all of it runs.
pub fn is_up(spec: &Spec) -> bool {
    match &spec.docker {
        Some(docker) => docker::runs(docker),
        None => units(spec).iter().all(|unit| facts::is_active(unit)),
    }
}

/// True where none of it runs, or is about to: systemd starts what has failed again.
pub fn is_down(spec: &Spec) -> bool {
    match &spec.docker {
        Some(docker) => !docker::runs(docker),
        None => units(spec).iter().all(|unit| facts::state(unit).is_ok_and(|state| !state.is_up())),
    }
}

/// True where its port is open.
pub fn is_open(spec: &Spec) -> bool {
    match &spec.docker {
        Some(docker) => docker::runs(docker),
        None => facts::is_active(&Layout::of(spec).public_unit(spec)),
    }
}

/// The number of the lnd that runs, where one does.
pub fn pid(spec: &Spec) -> Option<u32> {
    match &spec.docker {
        Some(docker) => docker::pid(docker),
        None => facts::units::main_pid(&Layout::of(spec).service()),
    }
}

fn units(spec: &Spec) -> Vec<String> {
    let layout = Layout::new(&spec.instance);
    let socket = (spec.mode == Mode::Isolated).then(|| layout.socket());
    let guard = spec.guard.is_on().then(|| layout.guard_service());
    [layout.service()].into_iter().chain(guard).chain(socket).collect()
}

/// Starts the signer and waits until it can sign and its port is open.
///
/// # Errors
/// Where it has no wallet, or does not get there: the hint names the log.
pub fn start(spec: &Spec) -> Result<()> {
    require_wallet(spec)?;
    if let Some(docker) = &spec.docker {
        return docker::start(spec, docker);
    }
    units(spec).iter().try_for_each(|unit| plan::systemctl("start", unit))
}

/// Stops the signer; its port is shut from then on.
///
/// # Errors
/// Where a unit does not stop.
pub fn stop(spec: &Spec) -> Result<()> {
    if let Some(docker) = &spec.docker {
        return docker::stop(docker);
    }
    // The port first: a connection could start lnd again.
    for unit in units(spec).iter().rev() {
        plan::systemctl("stop", unit)?;
    }
    let open = Layout::new(&spec.instance).public_unit(spec);
    if facts::is_active(&open) {
        return Err(Error::new(STILL_OPEN, format!("{open} runs again")).hint("somebody else started it: see its log"));
    }
    Ok(())
}

/// Starts lnd anew and waits until it can sign. In isolated mode the port stays, and callers wait.
///
/// # Errors
/// As [`start`].
pub fn restart(spec: &Spec) -> Result<()> {
    require_wallet(spec)?;
    if let Some(docker) = &spec.docker {
        docker::stop(docker)?;
        return docker::start(spec, docker);
    }
    plan::systemctl("restart", &Layout::new(&spec.instance).service())?;
    start(spec)
}

fn require_wallet(spec: &Spec) -> Result<()> {
    if Layout::of(spec).receipt().exists() {
        return Ok(());
    }
    Err(Error::new(NO_WALLET, format!("the signer {} has no wallet yet", spec.instance))
        .hint(format!("finish it with: lsm install --network {}", spec.network)))
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// When, in microseconds since 1970.
    pub at: u64,
    /// The unit that it is about.
    pub unit: String,
    /// What was said.
    pub message: String,
}

/// The last `lines` of the log of lnd, the port and the packet filter.
///
/// # Errors
/// Where journalctl(1), or the engine, cannot show it.
pub fn read_log(spec: &Spec, lines: u32) -> Result<Vec<Entry>> {
    if let Some(docker) = &spec.docker {
        return docker::read_log(docker, lines);
    }
    let said = journalctl(spec, lines).args(["--output=json", "--all"]).run()?;
    Ok(String::from_utf8_lossy(&said).lines().filter_map(parse_entry).collect())
}

/// Shows the same on standard output, and with `follow` what comes, until it is interrupted.
///
/// # Errors
/// As [`read_log`].
pub fn show_log(spec: &Spec, lines: u32, follow: bool) -> Result<()> {
    if let Some(docker) = &spec.docker {
        return docker::show_log(docker, lines, follow);
    }
    let out = io::stdout().as_fd().try_clone_to_owned();
    let out = out.map_err(|e| Error::new(CANNOT_SHOW, format!("cannot write the log: {e}")))?;
    let follow = follow.then_some("--follow");
    journalctl(spec, lines).args(follow).run_into(File::from(out))
}

fn journalctl(spec: &Spec, lines: u32) -> Program {
    let layout = Layout::new(&spec.instance);
    let proxy = layout.socket().replace(".socket", ".service");
    let units = [layout.service(), layout.guard_service(), layout.socket(), proxy, "lsm-firewall.service".to_owned()];
    let units = units.map(|unit| format!("--unit={unit}"));
    Program::new("journalctl").args(["--no-pager", &format!("--lines={lines}")]).args(units)
}

/// What journalctl's JSON says of an entry (systemd.journal-fields(7)); a message that is no text is an array of bytes.
fn parse_entry(line: &str) -> Option<Entry> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        at: String,
        #[serde(rename = "UNIT")]
        about: Option<String>,
        #[serde(rename = "_SYSTEMD_UNIT")]
        by: Option<String>,
        #[serde(rename = "MESSAGE")]
        message: serde_json::Value,
    }
    let raw: Raw = serde_json::from_str(line).ok()?;
    let message = match raw.message {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    Some(Entry { at: raw.at.parse().ok()?, unit: raw.about.or(raw.by).unwrap_or_default(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_text_or_bytes_and_about_the_unit_that_systemd_names() {
        let entry = |rest: &str| parse_entry(&format!("{{\"__REALTIME_TIMESTAMP\":\"7\",{rest}}}"));
        let said = entry(r#""_SYSTEMD_UNIT":"init.scope","UNIT":"lsm@a.service","MESSAGE":"Started""#).unwrap();
        assert_eq!((said.at, said.unit.as_str(), said.message.as_str()), (7, "lsm@a.service", "Started"));
        assert_eq!(entry(r#""_SYSTEMD_UNIT":"x","MESSAGE":[104,105]"#).unwrap().message, "hi");
        assert_eq!(entry(r#""MESSAGE":null"#), None);
        assert_eq!(parse_entry("-- No entries --"), None);
    }
}
