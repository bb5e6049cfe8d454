//! Processes that lsm left running, found again by the number that it kept.

use crate::error::{Code, Error, Result};
use crate::host::{file, user};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CANNOT_STOP: Code = Code::refused("E-HOST-040");
const IN_USE: Code = Code::refused("E-ADOPT-003");

/// The end was asked for, and is on its way.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Held while another program makes something for lsm, or takes it away.
static CHANGING: Mutex<()> = Mutex::new(());

thread_local! {
    /// This thread cleans up, and holds [`CHANGING`] to the end.
    static CLEANS_UP: Cell<bool> = const { Cell::new(false) };
}

/// How long what asks for the end may ask in more than one way, such as timeout(1), which signals a process and its group.
const ONE_ASKING: Duration = Duration::from_secs(1);
/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number kept in `pid_file`, where that process runs and is `program`, or is about to be: numbers are used again.
pub fn find(pid_file: &Path, program: &Path) -> Option<u32> {
    let pid: u32 = file::read_text(pid_file).ok()?.trim().parse().ok()?;
    (program_of(pid)? == program.canonicalize().ok()?).then_some(pid)
}

/// The program of process `pid`; of an `lsm launch` the one that it is about to become. What of a sealed process can be
/// seen is its command line alone, and until it has become the program that names it after `--`.
fn program_of(pid: impl Display) -> Option<PathBuf> {
    let line = command_line(&pid)?;
    let mut args = line.split(|byte| *byte == 0).skip(1);
    if args.next() == Some(b"launch") {
        return PathBuf::from(OsStr::from_bytes(args.skip_while(|arg| arg != b"--").nth(1)?)).canonicalize().ok();
    }
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The arguments of process `pid`, each with a zero byte after it. There is a moment in every exec at which the old ones
/// are gone and the new ones not there yet; a dead process and the kernel's own have none, and no program.
fn command_line(pid: &impl Display) -> Option<Vec<u8>> {
    // Of another user's, as most of the kernel's own are, nobody can tell; none of them is waited for.
    let has_program = || {
        is_own(pid) && !std::fs::read_link(format!("/proc/{pid}/exe")).is_err_and(|e| e.kind() == ErrorKind::NotFound)
    };
    let read = || std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    for _ in 0..50 {
        let line = read()?;
        if !line.is_empty() || !has_program() {
            return Some(line);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    read()
}

/// True where this user runs process `pid`. Not by the owner of its files in /proc, who is root where it is sealed.
fn is_own(pid: &impl Display) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    uid == Some(user::own_uid())
}

/// True where the process kept in `pid_file` runs and is `program`; one that ended and was ours is laid to rest.
pub fn is_alive(pid_file: &Path, program: &Path) -> bool {
    let Some(number) = find(pid_file, program) else { return false };
    let pid = Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX));
    // Its own child has to be waited for; somebody else's is not there to be.
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
}

/// Has `clean` run, and this process end, when the user or the system asks for the end (SIGINT, SIGTERM, SIGHUP). Asked once
/// more, after a second, it ends at once: what it waits for may hang.
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
            INTERRUPTED.store(true, Ordering::SeqCst);
            // Where there is no thread to be had, the first asking has to do.
            let _ = std::thread::Builder::new().spawn(move || end_when_asked_again(asked));
            // Kept to the end: what was asked for is there by now, to be taken away, and nothing more is asked for.
            let _kept = CHANGING.lock();
            CLEANS_UP.set(true);
            clean();
            // As a shell shows a death by signal.
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

fn end_when_asked_again(asked: SigSet) {
    let first = Instant::now();
    while let Ok(signal) = asked.wait() {
        if first.elapsed() > ONE_ASKING {
            std::process::exit(128 + signal as i32);
        }
    }
}

/// Has another program make something or take it away, which it would go on with after lsm's end: [`on_interrupt`] cleans up
/// after that, not meanwhile, and once the end was asked for nothing more is begun. Not from within another such call.
pub fn hold_interrupt<T>(change: impl FnOnce() -> T) -> T {
    let _changing = (!CLEANS_UP.get()).then(|| {
        loop {
            let changing = CHANGING.lock();
            if !is_interrupted() {
                break changing;
            }
            drop(changing);
            yield_to_interrupt();
        }
    });
    change()
}

/// True once the end was asked for: what is done within [`hold_interrupt`] for long is broken off then.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Where the end was asked for, leaves it to [`on_interrupt`]: what its cleaning up makes fail is not how it ended.
pub fn yield_to_interrupt() {
    while is_interrupted() {
        std::thread::park();
    }
}

/// Holds that nobody fills `folder`, which is to be copied.
///
/// # Errors
/// Where another process has a file in it open, of those that this user may look at.
pub fn hold_unused(folder: &Path) -> Result<()> {
    let Some(pid) = holder(folder) else { return Ok(()) };
    let cause = format!("process {pid} has files of {} open", folder.display());
    Err(Error::new(IN_USE, cause).hint("stop that lnd first: the database is copied when nobody fills it"))
}

fn holder(folder: &Path) -> Option<u32> {
    let below = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|file| file.starts_with(folder))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .find(below)
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
    let runs = |pid: &i32| program_of(pid).is_some_and(|program| program.starts_with(folder));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_launch_counts_as_the_program_that_it_becomes() {
        let dir = tempfile::tempdir().unwrap();
        let (pid_file, program) = (dir.path().join("pid"), dir.path().join("program"));
        std::fs::write(&program, "").unwrap();
        // Waits for somebody to write into its first argument.
        nix::unistd::mkfifo(&dir.path().join("launch"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut launch = Command::new("cat");
        let mut launch = launch.current_dir(dir.path()).args(["launch", "--"]).arg(&program).spawn().unwrap();
        std::fs::write(&pid_file, launch.id().to_string()).unwrap();
        let found = (find(&pid_file, &program), find(&pid_file, Path::new("/bin/cat")), running_below(dir.path()));
        launch.kill().and_then(|()| launch.wait()).unwrap();
        let pid = Pid::from_raw(launch.id() as i32);
        assert_eq!(found, (Some(launch.id()), None, BTreeSet::from([pid])));
        assert_eq!(find(&pid_file, &program), None, "it has ended");
    }
}
