//! System call filters, installed in a child between fork and exec.

use crate::error::{Code, Error, Result};
use crate::host::program::Program;
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;

const NO_FILTER: Code = Code::lacking("E-SANDBOX-001");

/// A compiled filter.
pub struct Filter(BpfProgram);

impl Filter {
    /// No network: no new socket of any family (a unix socket too can lead to a daemon that has one), and no io_uring,
    /// whose requests no filter sees. The program inherits no socket: lsm opens every descriptor close-on-exec.
    ///
    /// # Errors
    /// Where lsm has no filter for this kind of processor.
    pub fn no_network() -> Result<Self> {
        let cannot = |e: &dyn std::fmt::Display| {
            Error::new(NO_FILTER, format!("cannot make a system call filter on this machine: {e}"))
        };
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| cannot(&e))?;
        let mut refused = BTreeMap::new();
        for call in [libc::SYS_socket, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
        {
            refused.insert(call, Vec::new());
            // The x32 door to the same calls; another architecture's numbers kill the process (seccompiler's prologue).
            #[cfg(target_arch = "x86_64")]
            refused.insert(call | X32_BIT, Vec::new());
        }
        let filter = SeccompFilter::new(refused, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)
            .map_err(|e| cannot(&e))?;
        BpfProgram::try_from(filter).map(Self).map_err(|e| cannot(&e))
    }

    /// Has `program` run under this filter and no_new_privs; where that fails, it does not start.
    #[must_use]
    pub fn confine(self, program: Program) -> Program {
        let install =
            move || seccompiler::apply_filter(&self.0).map_err(|_| std::io::Error::from_raw_os_error(libc::EPERM));
        // SAFETY: apply_filter makes two system calls (prctl, seccomp) on memory that was allocated before the fork.
        unsafe { program.before_exec(install) }
    }
}

/// `__X32_SYSCALL_BIT` of the kernel's asm/unistd.h.
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_filter_and_no_new_privs_are_in_force() {
        let program = Program::new("grep").args(["-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]);
        let seen = Filter::no_network().unwrap().confine(program).run().unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    }
}
