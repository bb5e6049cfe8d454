//! Faults that the KERN checks have to find, in the facts of a kernel that has none.

use super::{Area, Recorded, set_text};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: &[], recorded: RECORDED, clean: &[] };

/// A kernel as it should be.
const SOUND: &[(&str, &str)] = &[
    ("/proc/sys/kernel/yama/ptrace_scope", "1"),
    ("/proc/sys/fs/suid_dumpable", "0"),
    ("/proc/sys/kernel/core_pattern", "core"),
    ("/proc/sys/kernel/kptr_restrict", "1"),
    ("/proc/sys/kernel/dmesg_restrict", "1"),
    ("/proc/sys/kernel/unprivileged_bpf_disabled", "2"),
    ("/proc/sys/net/core/bpf_jit_harden", "2"),
    ("/proc/sys/kernel/perf_event_paranoid", "3"),
    ("/proc/sys/kernel/randomize_va_space", "2"),
    ("/proc/sys/kernel/kexec_load_disabled", "1"),
    ("/proc/sys/fs/protected_hardlinks", "1"),
    ("/proc/sys/fs/protected_symlinks", "1"),
    ("/proc/sys/fs/protected_fifos", "1"),
    ("/proc/sys/fs/protected_regular", "2"),
    ("/sys/kernel/security/lockdown", "none [integrity] confidentiality"),
    ("/sys/kernel/security/lsm", "lockdown,capability,landlock,yama,apparmor"),
    ("/sys/module/apparmor/parameters/enabled", "Y"),
    ("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet"),
    ("/proc/sys/kernel/modules_disabled", "1"),
    ("/proc/sys/kernel/tainted", "0"),
    ("/proc/sys/kernel/sysrq", "176"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    ("/proc/sys/user/max_user_namespaces", "95000"),
    ("/proc/sys/kernel/io_uring_disabled", "2"),
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("KERN-001", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/yama/ptrace_scope", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-002", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/fs/suid_dumpable", "2\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-003", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/core_pattern", "|/usr/lib/systemd/systemd-coredump %P\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-004", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/dmesg_restrict", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-004", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/kptr_restrict", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-005", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/unprivileged_bpf_disabled", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-006", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/perf_event_paranoid", "1\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-007", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/randomize_va_space", "1\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-008", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/kexec_load_disabled", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-009", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/fs/protected_symlinks", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-010", "fail"),
        cause: |facts| set_text(facts, "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-012", "fail"),
        cause: |facts| set_text(facts, "/sys/kernel/security/lsm", "capability,landlock,yama\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-015", "fail"),
        cause: |facts| set_text(facts, "/proc/cmdline", "root=/dev/vda1 mitigations=off nokaslr\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-016", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/tainted", "8192\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-017", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/modules_disabled", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-018", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/unprivileged_userns_clone", "1\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-019", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/io_uring_disabled", "0\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-020", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/sysrq", "438\n"),
        with: &[],
    },
    Recorded {
        found: ("KERN-021", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/net/core/bpf_jit_harden", "0\n"),
        with: &[],
    },
    // What a kernel does not have it does not do; Yama it lacks.
    Recorded {
        found: ("KERN-001", "fail"),
        cause: |facts| unset(facts, "/proc/sys/kernel/yama/ptrace_scope"),
        with: &[],
    },
    Recorded {
        found: ("KERN-008", "na"),
        cause: |facts| unset(facts, "/proc/sys/kernel/kexec_load_disabled"),
        with: &[],
    },
    Recorded { found: ("KERN-010", "na"), cause: |facts| unset(facts, "/sys/kernel/security/lockdown"), with: &[] },
    // What nobody can make out has not passed.
    Recorded {
        found: ("KERN-007", "error"),
        cause: |facts| set_text(facts, "/proc/sys/kernel/randomize_va_space", "x"),
        with: &[],
    },
    Recorded {
        found: ("KERN-010", "error"),
        cause: |facts| set_text(facts, "/sys/kernel/security/lockdown", "none"),
        with: &[],
    },
];

/// True of the checks that look at the kernel.
pub fn is_of_it(id: &str) -> bool {
    id.starts_with("KERN-")
}

/// Gives facts a kernel as it should be.
pub fn make_sound(facts: &mut Value) {
    SOUND.iter().for_each(|(path, text)| set_text(facts, path, text));
    unset(facts, "/sys/fs/selinux/enforce");
    unset(facts, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
}

fn unset(facts: &mut Value, path: &str) {
    facts["texts"][path] = json!("absent");
}
