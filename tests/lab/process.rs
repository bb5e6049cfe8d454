//! Programs of the lab: run to their end, or running until dropped.

use nix::sys::signal::Signal;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The search path inside hosts and peers.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a finished program left.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Done {
    /// Its standard output, where it ended well.
    ///
    /// # Panics
    /// Where it did not, with all it said.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard output as JSON, where it ended well.
    ///
    /// # Panics
    /// Where it did not, or where that is no JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("no JSON ({e}): {text}"))
    }
}

/// Runs `command` to its end with nothing on its standard input.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn run(mut command: Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Done {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Copies a program that will be started. A process of its own does it: a descriptor open for writing that another
/// thread's child inherits for a moment would make it busy (execve(2), ETXTBSY).
///
/// # Panics
/// Where it cannot be copied.
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg(from).arg(to);
    run(copy).ok();
}

/// A program that runs until this is dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts `command`, its output going to the new file `log`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("the log can be written");
        let errors = log.try_clone().expect("a descriptor is left");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks it to end with `signal` and waits for that; kills it after `limit`. Says whether it ended by itself.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> bool {
        if self.alive() {
            // Until it is waited for, its id cannot be another's.
            let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, signal);
        }
        let start = Instant::now();
        while self.alive() {
            if start.elapsed() > limit {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end(Signal::SIGTERM, Duration::from_secs(15));
    }
}
