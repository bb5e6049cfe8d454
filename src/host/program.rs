//! Programs, started with an empty environment, no shell, and secrets only through standard input.

mod limited;

use crate::error::{Code, Error, Result};
use crate::host::user::Owner;
use crate::secret::Secret;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

const MISSING: Code = Code::lacking("E-HOST-020");
const FAILED: Code = Code::lacking("E-HOST-021");
const HANGS: Code = Code::lacking("E-HOST-022");

/// How long a program may run whose whole output is wanted: longer than a unit of lsm's may take to stop and to start.
const LIMIT: Duration = Duration::from_secs(300);

/// The search path of every program that lsm starts: the system's folders, nothing that a caller could prepend.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One program to run. Its environment holds `PATH` ([`SYSTEM_PATH`]), `LC_ALL=C.UTF-8` and what [`Program::env`] adds.
pub struct Program {
    command: Command,
    name: OsString,
    input: Option<Secret>,
    limit: Duration,
}

/// What a finished program left.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// A program that runs between two pipes.
pub struct Piped {
    /// The process.
    pub child: Child,
    /// What it reads.
    pub input: ChildStdin,
    /// What it writes.
    pub output: PipedOutput,
}

/// What a program writes into its pipe. A read that waits for longer than the program may be silent fails with
/// [`ErrorKind::TimedOut`].
pub struct PipedOutput {
    from: ChildStdout,
    silence: PollTimeout,
}

impl Read for PipedOutput {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match poll(&mut [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)], self.silence)? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => self.from.read(into),
        }
    }
}

impl Program {
    /// A program by name (looked up in [`SYSTEM_PATH`]) or by path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        let found = find(name).unwrap_or_else(|| name.to_owned());
        let mut command = Command::new(found);
        command.env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        Self { command, name: name.to_owned(), input: None, limit: LIMIT }
    }

    /// Adds one argument. Never a secret: arguments are readable by every user.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets one environment variable. Never a secret.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn folder(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Gives it so long and no longer, where its whole output is wanted.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Gives these bytes on standard input.
    #[must_use]
    pub fn input(mut self, bytes: Secret) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes);
        self
    }

    /// Runs it as `owner` with no further group; only root can ask for that.
    #[must_use]
    pub fn as_user(mut self, owner: Owner) -> Self {
        // With a uid set and root calling, the standard library empties the supplementary groups before it changes over.
        self.command.gid(owner.gid).uid(owner.uid);
        self
    }

    /// Lets it leave no core dump, and end when lsm ends, however lsm ends.
    #[must_use]
    pub fn tethered(self) -> Self {
        let prepare = || {
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        };
        // SAFETY: setrlimit(2) and prctl(2) are plain system calls; nothing is allocated.
        unsafe { self.before_exec(prepare) }
    }

    /// Runs `prepare` in the child between fork and exec: to drop rights there.
    ///
    /// # Safety
    /// As [`CommandExt::pre_exec`]: only async-signal-safe calls, no allocation.
    #[must_use]
    pub unsafe fn before_exec(mut self, prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        // SAFETY: the caller keeps pre_exec's rules, which are this function's own.
        unsafe { self.command.pre_exec(prepare) };
        self
    }

    /// The command line, for a log: arguments never hold secrets.
    pub fn shown(&self) -> String {
        let args = self.command.get_args().map(|a| a.to_string_lossy());
        std::iter::once(self.name.to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end and returns what it left, whatever its exit status.
    ///
    /// # Errors
    /// Where it is not there or cannot be started, and where it does not end in time ([`Program::within`], else five
    /// minutes): it is killed then.
    pub fn output(mut self) -> Result<Output> {
        tracing::debug!(command = %self.shown(), "run");
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = self.input.take();
        let mut child = self.spawn_child()?;
        // The pipes are small against a full buffer here: inputs are passwords and unit-sized texts.
        let fed = input.map_or(Ok(()), |bytes| feed(&mut child, &bytes));
        let (status, stdout, stderr) = limited::wait(child, self.limit).map_err(|e| match e.kind() {
            ErrorKind::TimedOut => self.hangs(),
            _ => self.failed(&e.to_string()),
        })?;
        if status.success() {
            fed.map_err(|e| self.failed(&e.to_string()))?;
        }
        Ok(Output { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// As [`Program::output`], and where it ends with anything but success.
    pub fn run(self) -> Result<Vec<u8>> {
        let shown = self.shown();
        let output = self.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failure(&shown, output.status, &output.stderr))
    }

    /// Runs it with its standard output going into `file`.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_into(mut self, file: File) -> Result<()> {
        tracing::debug!(command = %self.shown(), "run");
        let shown = self.shown();
        self.command.stdout(file).stderr(Stdio::piped());
        let child = self.spawn_child()?;
        let output = child.wait_with_output().map_err(|e| self.failed(&e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failure(&shown, output.status, &String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs it, handing each line of its standard error to `line` as it comes, and returns its standard output.
    ///
    /// # Errors
    /// As [`Program::run`]; the error names the last lines of standard error.
    pub fn run_with_lines(mut self, mut line: impl FnMut(&str)) -> Result<Vec<u8>> {
        tracing::debug!(command = %self.shown(), "run");
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = self.shown();
        let mut child = self.spawn_child()?;
        let mut stdout = child.stdout.take().expect("piped above");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).map(|_| all)
        });
        let mut last = std::collections::VecDeque::with_capacity(LAST_LINES);
        for text in BufReader::new(child.stderr.take().expect("piped above")).lines().map_while(|l| l.ok()) {
            line(&text);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(text);
        }
        let status = child.wait().map_err(|e| self.failed(&e.to_string()))?;
        let stdout = reader.join().expect("the reader does not panic").map_err(|e| self.failed(&e.to_string()))?;
        if status.success() {
            return Ok(stdout);
        }
        Err(failure(&shown, status, &last.make_contiguous().join("\n")))
    }

    /// Starts it between two pipes, its standard input and output; its standard error goes nowhere. It may be silent for
    /// so many seconds.
    ///
    /// # Errors
    /// Where it is not there or cannot be started.
    pub fn start_piped(mut self, silence: u16) -> Result<Piped> {
        tracing::debug!(command = %self.shown(), "start");
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = self.spawn_child()?;
        let (input, output) = (child.stdin.take().expect("piped above"), child.stdout.take().expect("piped above"));
        // Larger pipes let both sides work longer at a time; an unprivileged user may not have any more.
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        let _ = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        let silence = PollTimeout::try_from(i32::from(silence) * 1000).unwrap_or(PollTimeout::MAX);
        Ok(Piped { child, input, output: PipedOutput { from: output, silence } })
    }

    /// Starts it in a process group of its own and leaves it running, with output appended to `log`. What it writes is
    /// its user's alone, unless it says otherwise.
    ///
    /// # Errors
    /// Where it is not there or cannot be started.
    pub fn start(mut self, log: std::fs::File) -> Result<Child> {
        tracing::debug!(command = %self.shown(), "start");
        let errors = log.try_clone().map_err(|e| self.failed(&e.to_string()))?;
        self.command.stdout(log).stderr(errors).process_group(0);
        let prepare = || {
            umask(Mode::from_bits_truncate(0o077));
            Ok(())
        };
        // SAFETY: umask(2) is a plain system call that cannot fail; nothing is allocated.
        unsafe { self.before_exec(prepare) }.spawn_child()
    }

    fn spawn_child(&mut self) -> Result<Child> {
        self.command.spawn().map_err(|e| match e.kind() {
            ErrorKind::NotFound => missing(&self.name.to_string_lossy()),
            _ => self.failed(&e.to_string()),
        })
    }

    fn hangs(&self) -> Error {
        let cause = format!("{} did not end within {} seconds and was killed", self.shown(), self.limit.as_secs());
        Error::new(HANGS, cause).hint("see what it waits for, by running it yourself")
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(FAILED, format!("cannot run {}: {why}", self.name.to_string_lossy()))
    }
}

/// Asks a started program to end (SIGTERM), waits up to `patience`, then kills it.
///
/// # Errors
/// Where it can neither be asked nor waited for.
pub fn stop(child: &mut Child, patience: std::time::Duration) -> Result<ExitStatus> {
    let failed = |e: std::io::Error| Error::new(FAILED, format!("cannot stop process {}: {e}", child.id()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // Not yet waited for, so the number is still this child's.
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).map_err(|e| failed(e.into()))?;
    let end = std::time::Instant::now() + patience;
    while std::time::Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(e) => return Err(Error::new(FAILED, format!("cannot wait for process {pid}: {e}"))),
        }
    }
    child.kill().and_then(|()| child.wait()).map_err(|e| Error::new(FAILED, format!("cannot kill process {pid}: {e}")))
}

const LAST_LINES: usize = 20;

/// In bytes; what /proc/sys/fs/pipe-max-size allows everybody by default.
const PIPE_SIZE: i32 = 1 << 20;

/// The path of program `name` in [`SYSTEM_PATH`], where it is there; a name with a slash is its own path.
pub fn find(name: impl AsRef<OsStr>) -> Option<OsString> {
    let name = Path::new(name.as_ref());
    if name.components().count() > 1 {
        return name.is_file().then(|| name.into());
    }
    SYSTEM_PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|p| p.is_file()).map(Into::into)
}

/// The error for a program that is not on the machine, with the command that gets it.
pub fn missing(name: &str) -> Error {
    let package = match name {
        "nft" => "nftables",
        "systemctl" | "systemd-creds" | "systemd-analyze" | "systemd-sysusers" | "systemd-tmpfiles" => "systemd",
        other => other,
    };
    Error::new(MISSING, format!("this machine has no {name}")).hint(format!("get it with: apt-get install {package}"))
}

fn feed(child: &mut Child, bytes: &Secret) -> std::io::Result<()> {
    child.stdin.take().expect("piped with the input").write_all(bytes.expose())
}

fn failure(shown: &str, status: ExitStatus, stderr: &str) -> Error {
    let mut lines = stderr.lines().rev().filter(|line| line.contains(char::is_alphanumeric));
    // nft(8) and compilers quote the place below the error.
    let says = lines.clone().find(|line| line.to_ascii_lowercase().contains("error")).or_else(|| lines.next());
    let reason = says.unwrap_or("it printed no reason").trim();
    Error::new(FAILED, format!("{shown} failed ({status}): {reason}")).because(stderr.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_reason_not_with_what_points_at_the_place() {
        let script = "printf 'f:1:2: Error: no such user\\n  skuid { a }\\n          ^\\n' >&2; exit 1";
        let error = Program::new("sh").args(["-c", script]).run().unwrap_err();
        assert!(error.cause().ends_with("f:1:2: Error: no such user"), "{error}");
    }

    #[test]
    fn a_program_that_says_nothing_is_not_waited_on_for_ever() {
        let Piped { mut child, mut output, .. } = Program::new("sleep").arg("60").start_piped(1).unwrap();
        let silent = output.read(&mut [0; 8]).unwrap_err().kind();
        child.kill().and_then(|()| child.wait()).unwrap();
        assert_eq!(silent, ErrorKind::TimedOut);
        let Piped { mut child, mut output, .. } = Program::new("echo").arg("a").start_piped(60).unwrap();
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        assert_eq!(said, "a\n");
    }

    #[test]
    fn a_program_sees_no_environment_but_its_own() {
        let seen = Program::new("env").env("A", "1").run().unwrap();
        let mut seen: Vec<_> = std::str::from_utf8(&seen).unwrap().lines().map(str::to_owned).collect();
        seen.sort();
        assert_eq!(seen, ["A=1", "LC_ALL=C.UTF-8", &format!("PATH={SYSTEM_PATH}")]);
    }

    #[test]
    fn a_missing_program_is_named_with_what_gets_it() {
        let error = Program::new("no-such-program").run().unwrap_err();
        assert_eq!(error.code(), MISSING);
        assert!(error.advice().unwrap().contains("apt-get install no-such-program"));
    }

    #[test]
    fn input_arrives_and_a_failure_tells_its_last_line() {
        assert_eq!(Program::new("cat").input(Secret::new(b"abc".to_vec())).run().unwrap(), b"abc");
        let error = Program::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"]).run().unwrap_err();
        assert!(error.cause().ends_with("two"), "{error}");
    }

    #[test]
    fn output_goes_into_a_file_and_no_core_is_left() {
        let mut file = tempfile::tempfile().unwrap();
        let program = Program::new("sh").args(["-c", "ulimit -c"]).tethered();
        program.run_into(file.try_clone().unwrap()).unwrap();
        let mut written = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut written).unwrap();
        assert_eq!(written, "0\n");
    }

    #[test]
    fn another_user_has_no_group_but_its_own() {
        if !crate::host::user::is_root() {
            return; // Only root can become somebody else.
        }
        let seen = Program::new("id").as_user(Owner { uid: 61184, gid: 61185 }).run().unwrap();
        assert_eq!(String::from_utf8(seen).unwrap().trim(), "uid=61184 gid=61185 groups=61185");
    }

    #[test]
    fn lines_come_one_by_one() {
        let mut lines = Vec::new();
        let out = Program::new("sh")
            .args(["-c", "echo a >&2; echo b >&2; echo out"])
            .run_with_lines(|l| lines.push(l.to_owned()))
            .unwrap();
        assert_eq!((lines, out.as_slice()), (vec!["a".to_owned(), "b".to_owned()], b"out\n".as_slice()));
    }
}
