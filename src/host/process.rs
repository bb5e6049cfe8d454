//! Processes that lsm left running, found again by the number that it kept.

use crate::error::{Code, Error, Result};
use crate::host::file;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};

const CANNOT_STOP: Code = Code::refused("E-HOST-040");

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number kept in `pid_file`, where that process runs and is `program`: numbers are used again.
pub fn find(pid_file: &Path, program: &Path) -> Option<u32> {
    let pid: u32 = file::read_text(pid_file).ok()?.trim().parse().ok()?;
    let runs = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    (runs == program.canonicalize().ok()?).then_some(pid)
}

/// Ends the process kept in `pid_file`, if it runs and is `program`: asks, waits, and insists after ten seconds.
///
/// # Errors
/// Where it cannot be signalled or does not end.
pub fn stop(pid_file: &Path, program: &Path) -> Result<()> {
    let Some(number) = find(pid_file, program) else { return file::remove(pid_file).map(drop) };
    let pid = Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(Error::new(CANNOT_STOP, format!("cannot stop process {number}: {e}"))),
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // Its own child has to be waited for; somebody else's is not there to be.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            if find(pid_file, program).is_none() {
                return file::remove(pid_file).map(drop);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::new(CANNOT_STOP, format!("process {number} does not end")))
}
