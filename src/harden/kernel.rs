//! The kernel: what it lets one process see of another, what it leaves behind of one that died, and how it is closed itself.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Needs, Unknown};

const PTRACE: &str = "/proc/sys/kernel/yama/ptrace_scope";
const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";
const KPTR: &str = "/proc/sys/kernel/kptr_restrict";
const DMESG: &str = "/proc/sys/kernel/dmesg_restrict";
const BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
const BPF_JIT: &str = "/proc/sys/net/core/bpf_jit_harden";
const PERF: &str = "/proc/sys/kernel/perf_event_paranoid";
const ASLR: &str = "/proc/sys/kernel/randomize_va_space";
const KEXEC: &str = "/proc/sys/kernel/kexec_load_disabled";
const PROTECTED: [(&str, i64); 4] = [
    ("/proc/sys/fs/protected_hardlinks", 1),
    ("/proc/sys/fs/protected_symlinks", 1),
    ("/proc/sys/fs/protected_fifos", 1),
    ("/proc/sys/fs/protected_regular", 1),
];
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const LSMS: &str = "/sys/kernel/security/lsm";
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
const SELINUX: &str = "/sys/fs/selinux/enforce";
const COMMAND_LINE: &str = "/proc/cmdline";
const MODULES: &str = "/proc/sys/kernel/modules_disabled";
const TAINTED: &str = "/proc/sys/kernel/tainted";
const SYSRQ: &str = "/proc/sys/kernel/sysrq";
const USERNS: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const USERNS_MOST: &str = "/proc/sys/user/max_user_namespaces";
const IO_URING: &str = "/proc/sys/kernel/io_uring_disabled";

pub(super) const AREA: Area = Area {
    needs: Needs {
        texts: &[
            PTRACE,
            SUID_DUMPABLE,
            CORE_PATTERN,
            KPTR,
            DMESG,
            BPF,
            BPF_JIT,
            PERF,
            ASLR,
            KEXEC,
            PROTECTED[0].0,
            PROTECTED[1].0,
            PROTECTED[2].0,
            PROTECTED[3].0,
            LOCKDOWN,
            LSMS,
            APPARMOR,
            SELINUX,
            COMMAND_LINE,
            MODULES,
            TAINTED,
            SYSRQ,
            USERNS,
            USERNS_MOST,
            IO_URING,
        ],
        programs: &[],
    },
    checks: CHECKS,
};
