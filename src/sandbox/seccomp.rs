//! System call filters: for a program that lsm starts, for lsm itself, for what it becomes.

use crate::error::{Code, Error, Result};
use crate::host::program::Program;
use crate::sandbox::calls::{Calls, Use};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

const NO_FILTER: Code = Code::lacking("E-SANDBOX-001");
const NOT_ENFORCED: Code = Code::lacking("E-SANDBOX-004");

const NETWORK: [i64; 4] =
    [libc::SYS_socket, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// What a process with one thread needs that reads and writes what is open, allocates, and ends (also by a panic).
const PIPES: [i64; 24] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

const REFUSE: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);

/// A compiled filter.
pub struct Filter(BpfProgram);

impl Filter {
    /// No network: no new socket of any family (a unix socket too can lead to a daemon that has one), and no io_uring,
    /// whose requests no filter sees. The program inherits no socket: lsm opens every descriptor close-on-exec.
    ///
    /// # Errors
    /// Where lsm has no filter for this kind of processor.
    pub fn no_network() -> Result<Self> {
        let mut refused = NETWORK.to_vec();
        // The x32 door to the same calls; another architecture's numbers kill the process (seccompiler's prologue).
        #[cfg(target_arch = "x86_64")]
        refused.extend(NETWORK.map(|call| call | X32_BIT));
        Self::compile(whole(&refused), SeccompAction::Allow, REFUSE)
    }

    /// Reading and writing what is open, memory, and the end; every other call is refused. For the calling process, which
    /// has one thread and stands between two pipes.
    ///
    /// # Errors
    /// As [`Filter::no_network`].
    pub fn pipes_alone() -> Result<Self> {
        let mut allowed = whole(&PIPES);
        // To end by a panic. Root's processes may signal each other without any capability, so only itself is named.
        let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, std::process::id().into());
        let own = own.and_then(|own| SeccompRule::new(vec![own])).map_err(|e| no_filter(&e))?;
        allowed.insert(libc::SYS_tgkill, vec![own]);
        Self::compile(allowed, REFUSE, SeccompAction::Allow)
    }

    /// What a launched program may call, in the order in which they are put in force: what kills, what is not there,
    /// what is allowed. Of several answers the strictest counts, and of two errors the later filter's (seccomp(2)).
    ///
    /// # Errors
    /// As [`Filter::no_network`].
    pub fn of_launch(wanted: Use) -> Result<[Self; 3]> {
        let filters = Calls::load()?.filters(std::env::consts::ARCH, wanted).to_string();
        let mut compiled = seccompiler::compile_from_json(filters.as_bytes(), arch()?).map_err(|e| no_filter(&e))?;
        let mut take = |name| compiled.remove(name).map(Self).ok_or_else(|| no_filter(&name));
        Ok([take("kill")?, take("absent")?, take("allow")?])
    }

    fn compile(calls: BTreeMap<i64, Vec<SeccompRule>>, other: SeccompAction, named: SeccompAction) -> Result<Self> {
        let filter = SeccompFilter::new(calls, other, named, arch()?).map_err(|e| no_filter(&e))?;
        BpfProgram::try_from(filter).map(Self).map_err(|e| no_filter(&e))
    }

    /// Puts the calling thread under this filter and no_new_privs, for good. What it refuses goes to the kernel's log
    /// (audit) where that is wanted there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn enforce(&self) -> Result<()> {
        self.install().map_err(|e| Error::new(NOT_ENFORCED, format!("cannot install a system call filter: {e}")))
    }

    /// Has `program` run under this filter and no_new_privs; where that fails, it does not start.
    #[must_use]
    pub fn confine(self, program: Program) -> Program {
        // SAFETY: two system calls (prctl, seccomp) on memory that was allocated before the fork.
        unsafe { program.before_exec(move || self.install()) }
    }

    /// seccompiler's own way to do this has no flag for the log.
    fn install(&self) -> std::io::Result<()> {
        nix::sys::prctl::set_no_new_privs()?;
        let len = self.0.len().try_into().map_err(|_| std::io::Error::from_raw_os_error(libc::EINVAL))?;
        let program = libc::sock_fprog { len, filter: self.0.as_ptr().cast_mut().cast() };
        let flags = libc::SECCOMP_FILTER_FLAG_LOG;
        // SAFETY: seccomp(2) copies the instructions and writes to none; both kinds of `sock_filter` are the kernel's
        // struct, and `program` lives until it returns.
        match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

fn arch() -> Result<TargetArch> {
    TargetArch::try_from(std::env::consts::ARCH).map_err(|e| no_filter(&e))
}

/// These calls, whatever their arguments.
fn whole(calls: &[i64]) -> BTreeMap<i64, Vec<SeccompRule>> {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn no_filter(e: &dyn std::fmt::Display) -> Error {
    Error::new(NO_FILTER, format!("cannot make a system call filter on this machine: {e}"))
}

/// `__X32_SYSCALL_BIT` of the kernel's asm/unistd.h.
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    // bash opens a TCP socket for /dev/tcp; the port is closed, so only the reason of the refusal differs.
    const CONNECT: [&str; 2] = ["-c", "exec 3<>/dev/tcp/127.0.0.1/1"];

    #[test]
    fn no_socket_can_be_opened_under_the_filter() {
        let free = Program::new("bash").args(CONNECT).output().unwrap();
        assert!(free.stderr.contains("refused"), "{}", free.stderr);
        let confined = Filter::no_network().unwrap().confine(Program::new("bash").args(CONNECT)).output().unwrap();
        assert!(confined.stderr.contains("not permitted"), "{}", confined.stderr);
    }

    #[test]
    fn no_file_is_opened_and_no_program_started_with_pipes_alone() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        // A filter holds a thread; the other tests stay free.
        let refused = std::thread::spawn(move || {
            Filter::pipes_alone().unwrap().enforce().unwrap();
            writer.write_all(b"open").unwrap();
            [
                std::fs::File::open("/etc/hostname").map(drop).err(),
                std::fs::remove_file("/no/such/file").err(),
                std::process::Command::new("/bin/true").status().map(drop).err(),
                std::net::UdpSocket::bind("127.0.0.1:0").map(drop).err(),
            ]
            .map(|e| e.map(|e| e.kind()))
        });
        assert_eq!(refused.join().unwrap(), [Some(std::io::ErrorKind::PermissionDenied); 4]);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "open");
    }

    #[test]
    fn nobody_else_is_signalled_with_pipes_alone() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (own, theirs) = (i64::from(std::process::id()), i64::from(other.id()));
        let signalled = std::thread::spawn(move || {
            // SAFETY: gettid(2) and tgkill(2) with signal 0, which is never delivered, are plain system calls.
            let signal = |pid: i64, thread: i64| unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, 0_i64) };
            // SAFETY: as above.
            let thread = unsafe { libc::syscall(libc::SYS_gettid) };
            assert_eq!(signal(theirs, theirs), 0, "it is there, and may be signalled");
            Filter::pipes_alone().unwrap().enforce().unwrap();
            (signal(theirs, theirs), signal(own, thread))
        });
        let signalled = signalled.join();
        other.kill().and_then(|()| other.wait()).unwrap();
        assert_eq!(signalled.unwrap(), (-1, 0));
    }

    #[test]
    fn the_filter_and_no_new_privs_are_in_force() {
        let program = Program::new("grep").args(["-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]);
        let seen = Filter::no_network().unwrap().confine(program).run().unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    }
}
