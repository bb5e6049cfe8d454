//! lsm under a tracer: at each of its system calls the test decides, from outside, whether it is made, fails, or is the last.

use super::process::Done;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// One system call of lsm's main thread, which waits for what the test decides.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number.
    pub number: libc::c_long,
    /// Its first three arguments.
    pub arguments: [u64; 3],
    /// The process, as seen from outside.
    pub pid: i32,
}

impl Call {
    /// True where it is `fdatasync`: lsm makes this call for each line of its journal, the line being written, and for
    /// nothing else.
    pub fn ends_a_line(self) -> bool {
        self.number == libc::SYS_fdatasync
    }

    /// True where it changes a file or what is at a path.
    pub fn changes_a_file(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        const OLD: &[libc::c_long] =
            &[libc::SYS_rename, libc::SYS_mkdir, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_symlink, libc::SYS_link];
        #[cfg(not(target_arch = "x86_64"))]
        const OLD: &[libc::c_long] = &[];
        let new = [
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_symlinkat,
            libc::SYS_linkat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_fsetxattr,
            libc::SYS_fsync,
        ];
        OLD.contains(&self.number) || new.contains(&self.number)
    }

    /// The file descriptor of a `write`, and what is about to be written.
    pub fn writes(self) -> Option<(u64, Vec<u8>)> {
        if self.number != libc::SYS_write {
            return None;
        }
        let [file, from, length] = self.arguments;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        File::open(format!("/proc/{}/mem", self.pid)).ok()?.read_exact_at(&mut bytes, from).ok()?;
        Some((file, bytes))
    }

    /// True where it waits for what a program prints, so long and no longer.
    pub fn waits(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        const OLD: libc::c_long = libc::SYS_poll;
        #[cfg(not(target_arch = "x86_64"))]
        const OLD: libc::c_long = libc::SYS_ppoll;
        self.number == OLD || self.number == libc::SYS_ppoll
    }

    /// True where it starts a program or waits for one.
    pub fn is_about_a_program(self) -> bool {
        [libc::SYS_clone, libc::SYS_clone3, libc::SYS_wait4].contains(&self.number)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Go,
    /// lsm is killed before it is made (SIGKILL).
    Kill,
    /// It is not made and fails with this.
    Fail(Errno),
    /// It is not made and returns 0: of a wait with a limit, that the time is up.
    TimeOut,
}

/// Runs `command`, which starts lsm by exec or fork, to its end, asking `decide` at each system call of lsm's main thread.
/// What lsm starts is not traced, and lives on where lsm is killed.
///
/// # Panics
/// Where it cannot be started or traced, or `decide` does; lsm is dead then.
#[track_caller]
pub fn run(command: &Command, decide: impl FnMut(Call) -> Fate + Send) -> Done {
    let (out, err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    let stopped = stopped_first(command, &out, &err);
    // A thread of its own: it waits for every child of its, and other threads' are none of them.
    let code = std::thread::scope(|threads| {
        let tracer = threads.spawn(move || Tracer::start(stopped, decide).wait());
        tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    Done { code, stdout: text_of(out), stderr: text_of(err) }
}

/// `command` behind a shell that stops itself first, so that nothing of it runs before it is traced.
fn stopped_first(command: &Command, out: &File, err: &File) -> Command {
    let mut stopped = Command::new("/bin/sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    stopped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let handle = |file: &File| file.try_clone().expect("a descriptor is left");
    stopped.stdin(Stdio::null()).stdout(handle(out)).stderr(handle(err)).process_group(0);
    stopped
}

fn text_of(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("the output can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Tracer<F> {
    decide: F,
    first: Pid,
    /// lsm, once it runs.
    lsm: Option<Pid>,
    /// lsm is inside a call, which returns this where it was decided so.
    inside: Option<Option<i64>>,
}

impl<F: FnMut(Call) -> Fate> Tracer<F> {
    #[expect(clippy::zombie_processes, reason = "it is waited for by its number, with all that it starts")]
    fn start(mut command: Command, decide: F) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let first = Pid::from_raw(child.id().cast_signed());
        let stopped = waitpid(first, Some(WaitPidFlag::WUNTRACED)).expect("a child");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let follow = Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, follow).expect("root may trace");
        kill(first, Signal::SIGCONT).expect("it is there");
        Self { decide, first, lsm: None, inside: None }
    }

    /// Until the first process ends; its exit code, or 128 and the signal's number.
    fn wait(mut self) -> i32 {
        loop {
            // Children and tracees of this thread alone.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).expect("a child") {
                WaitStatus::Exited(pid, code) if pid == self.first => return code,
                WaitStatus::Signaled(pid, signal, _) if pid == self.first => return 128 + signal as i32,
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => self.watch_if_lsm(pid),
                WaitStatus::PtraceEvent(pid, ..) => self.go_on(pid, None),
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
                // Its own traps mean nothing to a process that is traced.
                WaitStatus::Stopped(pid, Signal::SIGTRAP) => self.go_on(pid, None),
                WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
                _ => {}
            }
        }
    }

    /// Of lsm the calls are watched, and what it starts is left alone.
    fn watch_if_lsm(&mut self, pid: Pid) {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if self.lsm.is_none() && program.file_name().is_some_and(|name| name == "lsm") {
            self.lsm = Some(pid);
            // The end of execve(2) itself comes first.
            self.inside = Some(None);
            let calls = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
            ptrace::setoptions(pid, calls).expect("a stopped tracee");
        }
        self.go_on(pid, None);
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let gone_on = if self.lsm == Some(pid) { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
        // One that was killed meanwhile is not there any more.
        assert!(matches!(gone_on, Ok(()) | Err(Errno::ESRCH)), "{gone_on:?}");
    }

    fn at_call(&mut self, pid: Pid) {
        match self.inside.take() {
            Some(decided) => {
                if let Some(returned) = decided {
                    answer(pid, returned);
                }
                self.go_on(pid, None);
            }
            None => self.enter(pid),
        }
    }

    fn enter(&mut self, pid: Pid) {
        self.inside = Some(None);
        let Some(call) = call_of(pid) else { return self.go_on(pid, None) };
        match (self.decide)(call) {
            Fate::Go => self.go_on(pid, None),
            Fate::Kill => {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Fate::Fail(errno) => self.instead(pid, -i64::from(errno as i32)),
            Fate::TimeOut => self.instead(pid, 0),
        }
    }

    /// Has a call return this without being made.
    fn instead(&mut self, pid: Pid, returned: i64) {
        skip(pid);
        self.inside = Some(Some(returned));
        self.go_on(pid, None);
    }
}

/// The call that a stopped process is about to make.
#[cfg(target_arch = "x86_64")]
fn call_of(pid: Pid) -> Option<Call> {
    let registers = ptrace::getregs(pid).ok()?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx];
    Some(Call { number: registers.orig_rax.cast_signed(), arguments, pid: pid.as_raw() })
}

/// The call that a stopped process is about to make.
#[cfg(not(target_arch = "x86_64"))]
fn call_of(pid: Pid) -> Option<Call> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let (number, rest) = text.split_once(' ')?;
    let argument = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let arguments: Vec<u64> = rest.split(' ').map_while(argument).take(3).collect();
    Some(Call { number: number.parse().ok()?, arguments: arguments.try_into().ok()?, pid: pid.as_raw() })
}

/// Why calls cannot be made to fail here, where they cannot.
pub fn cannot_fail() -> Option<&'static str> {
    (!cfg!(target_arch = "x86_64")).then_some("calls can be made to fail on x86_64 alone")
}

/// Turns the call that is being entered into none.
#[cfg(target_arch = "x86_64")]
fn skip(pid: Pid) {
    let mut registers = ptrace::getregs(pid).expect("a stopped tracee");
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers).expect("a stopped tracee");
}

/// Has the call that was entered return this.
#[cfg(target_arch = "x86_64")]
fn answer(pid: Pid, returned: i64) {
    let mut registers = ptrace::getregs(pid).expect("a stopped tracee");
    registers.rax = returned.cast_unsigned();
    ptrace::setregs(pid, registers).expect("a stopped tracee");
}

#[cfg(not(target_arch = "x86_64"))]
fn skip(_: Pid) {
    panic!("{}", cannot_fail().expect("not here"));
}

#[cfg(not(target_arch = "x86_64"))]
fn answer(_: Pid, _: i64) {}
