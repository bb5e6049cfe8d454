//! Processes that lsm left running, found again by the number that it kept.

use crate::error::{Code, Error, Result};
use crate::host::file;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
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

/// True where the process kept in `pid_file` runs and is `program`; one that ended and was ours is laid to rest.
pub fn is_alive(pid_file: &Path, program: &Path) -> bool {
    let Some(number) = find(pid_file, program) else { return false };
    let pid = Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX));
    // Its own child has to be waited for; somebody else's is not there to be.
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
}

/// Has `clean` run, and this process end, when the user or the system asks for the end (SIGINT, SIGTERM, SIGHUP).
///
/// Call it before any thread or child is started: they get the same signal mask; std gives children an empty one.
///
/// # Errors
/// Where the kernel refuses the signal mask.
pub fn on_interrupt(clean: impl FnOnce() + Send + 'static) -> Result<()> {
    let asked = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    asked.thread_block().map_err(|e| Error::new(CANNOT_STOP, format!("cannot wait for signals: {e}")))?;
    std::thread::spawn(move || {
        if let Ok(signal) = asked.wait() {
            clean();
            // As a shell shows a death by signal.
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Ends every process of this user whose program is below `folder`, however it came to run: asks, waits, and insists
/// after ten seconds. One that is started meanwhile is ended too.
///
/// # Errors
/// Where one does not end.
pub fn end_below(folder: &Path) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let (mut asked, end) = (BTreeSet::new(), Instant::now() + PATIENCE);
        while Instant::now() < end {
            let running = running_below(folder);
            if running.is_empty() {
                return Ok(());
            }
            for pid in running {
                if asked.insert(pid) {
                    // One that is gone by now is what is wanted.
                    let _ = kill(pid, signal);
                }
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::new(CANNOT_STOP, format!("what runs from {} does not end", folder.display())))
}

/// The processes whose program is below `folder`, of those that this user may look at.
fn running_below(folder: &Path) -> BTreeSet<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(folder));
    numbers.filter(runs).map(Pid::from_raw).collect()
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
            if !is_alive(pid_file, program) {
                return file::remove(pid_file).map(drop);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::new(CANNOT_STOP, format!("process {number} does not end")))
}
