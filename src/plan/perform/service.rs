//! Units and processes: enabled, started, stopped.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::program::Program;
use crate::plan::step::Process;

const NOT_STARTED: Code = Code::refused("E-PLAN-030");

pub(super) fn reload_units() -> Result<()> {
    Program::new("systemctl").arg("daemon-reload").run().map(drop)
}

/// Enables a oneshot unit and has it do its work, again where it did it before.
pub(super) fn load(unit: &str) -> Result<()> {
    Program::new("systemctl").args(["enable", "--quiet", unit]).run()?;
    systemctl("reload-or-restart", unit)
}

/// Enables a unit and starts it, or starts it anew.
pub(super) fn run(unit: &str) -> Result<()> {
    Program::new("systemctl").args(["enable", "--quiet", unit]).run()?;
    systemctl("restart", unit)
}

/// One verb of systemctl(1) on one unit; where it fails, the hint names the command that shows why.
pub(super) fn systemctl(verb: &str, unit: &str) -> Result<()> {
    Program::new("systemctl").args([verb, unit]).run().map(drop).map_err(|e| {
        Error::new(NOT_STARTED, format!("systemctl {verb} {unit} failed"))
            .hint(format!("see why with: journalctl -u {unit} -n 50"))
            .because(e)
    })
}

/// Starts lnd as a process and keeps its number.
pub(super) fn start(process: &Process) -> Result<()> {
    let log = file::append(&process.log, 0o600)?;
    let child = Program::new(&process.program).args(&process.args).start(log)?;
    file::replace(&process.pid_file, format!("{}\n", child.id()).as_bytes(), Access::mode(0o600))
}

/// Ends the process whose number is kept there: asks, waits, and insists after ten seconds. Nothing where none runs.
pub fn stop(process: &Process) -> Result<()> {
    crate::host::process::stop(&process.pid_file, &process.program)
}
