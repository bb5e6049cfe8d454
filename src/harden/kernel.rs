//! The kernel: what it lets one process see of another, what it leaves behind of one that died, and how it is closed itself.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Needs, Unknown};

pub(super) const PTRACE: &str = "/proc/sys/kernel/yama/ptrace_scope";
pub(super) const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";
pub(super) const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";
pub(super) const KPTR: &str = "/proc/sys/kernel/kptr_restrict";
pub(super) const DMESG: &str = "/proc/sys/kernel/dmesg_restrict";
pub(super) const BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
pub(super) const BPF_JIT: &str = "/proc/sys/net/core/bpf_jit_harden";
pub(super) const PERF: &str = "/proc/sys/kernel/perf_event_paranoid";
pub(super) const ASLR: &str = "/proc/sys/kernel/randomize_va_space";
pub(super) const KEXEC: &str = "/proc/sys/kernel/kexec_load_disabled";
pub(super) const PROTECTED: [(&str, i64); 4] = [
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
pub(super) const SYSRQ: &str = "/proc/sys/kernel/sysrq";
pub(super) const USERNS: &str = "/proc/sys/kernel/unprivileged_userns_clone";
pub(super) const USERNS_APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
const USERNS_MOST: &str = "/proc/sys/user/max_user_namespaces";
pub(super) const IO_URING: &str = "/proc/sys/kernel/io_uring_disabled";

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
            USERNS_APPARMOR,
            USERNS_MOST,
            IO_URING,
        ],
        programs: &[],
    },
    checks: CHECKS,
};

const CHECKS: &[Check] = &[
    Check {
        id: "KERN-001",
        title: "A process cannot look into another of its user",
        why: "lnd's memory holds the seed while it runs",
        mend: "sysctl -w kernel.yama.ptrace_scope=1, and the same in /etc/sysctl.d",
        judge: Judge::Host(ptrace),
    },
    Check {
        id: "KERN-002",
        title: "A sealed program leaves no core dump",
        why: "lnd's memory holds the seed; a core dump writes it to disk",
        mend: "sysctl -w fs.suid_dumpable=0, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, SUID_DUMPABLE, |value| value == 0)),
    },
    Check {
        id: "KERN-003",
        title: "No program keeps core dumps",
        why: "what keeps the memory of dead processes keeps the seed, outside of lnd's limits",
        mend: "sysctl -w kernel.core_pattern=core; or Storage=none and ProcessSizeMax=0 in /etc/systemd/coredump.conf.d",
        judge: Judge::Host(core_pattern),
    },
    Check {
        id: "KERN-004",
        title: "The kernel tells nobody its addresses and its log",
        why: "an attack on the kernel begins with where things are",
        mend: "sysctl -w kernel.kptr_restrict=1 kernel.dmesg_restrict=1, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| settings(host, &[(KPTR, 1), (DMESG, 1)])),
    },
    Check {
        id: "KERN-005",
        title: "Only root loads BPF programs",
        why: "the verifier of such programs is where the kernel is broken into most",
        mend: "sysctl -w kernel.unprivileged_bpf_disabled=1, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, BPF, |value| value >= 1)),
    },
    Check {
        id: "KERN-006",
        title: "Only root measures the kernel",
        why: "perf events show what other processes do, and have been a way in",
        mend: "sysctl -w kernel.perf_event_paranoid=2, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, PERF, |value| value >= 2)),
    },
    Check {
        id: "KERN-007",
        title: "Every program lies at random addresses",
        why: "a fault in lnd or lsm is harder to use where nobody knows the addresses",
        mend: "sysctl -w kernel.randomize_va_space=2, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, ASLR, |value| value == 2)),
    },
    Check {
        id: "KERN-008",
        title: "No other kernel can be started from this one",
        why: "a kernel of the intruder's own obeys none of these rules, and survives in memory alone",
        mend: "sysctl -w kernel.kexec_load_disabled=1, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, KEXEC, |value| value == 1)),
    },
    Check {
        id: "KERN-009",
        title: "Links, pipes and files in shared folders cannot trap root",
        why: "a link in /tmp makes a program of root's write or read where it should not",
        mend: "sysctl -w fs.protected_hardlinks=1 fs.protected_symlinks=1 fs.protected_fifos=1 fs.protected_regular=1",
        judge: Judge::Host(|host| settings(host, &PROTECTED)),
    },
    Check {
        id: "KERN-010",
        title: "Root cannot change the running kernel",
        why: "whoever becomes root for a moment would otherwise be the kernel for good",
        mend: "lockdown=integrity on the kernel's command line; Secure Boot sets it by itself",
        judge: Judge::Host(lockdown),
    },
    Check {
        id: "KERN-012",
        title: "AppArmor or SELinux is in force",
        why: "it bounds what the host's other daemons reach once one of them is taken over",
        mend: "install apparmor and boot with it, or set SELinux to enforcing",
        judge: Judge::Host(mandatory),
    },
    Check {
        id: "KERN-015",
        title: "The kernel's command line weakens nothing",
        why: "one word there switches off what every other check relies on",
        mend: "take the words out of GRUB_CMDLINE_LINUX, update-grub, reboot",
        judge: Judge::Host(command_line),
    },
    Check {
        id: "KERN-016",
        title: "The kernel runs its own modules alone",
        why: "a module that nobody signed can be a way to hide in the kernel",
        mend: "find it with lsmod and dmesg, remove it, reboot",
        judge: Judge::Host(tainted),
    },
    Check {
        id: "KERN-017",
        title: "No module can be loaded any more",
        why: "a signer needs no new hardware; what cannot be loaded cannot hide",
        mend: "sysctl -w kernel.modules_disabled=1 at the end of the boot",
        judge: Judge::Host(|host| setting(host, MODULES, |value| value == 1)),
    },
    Check {
        id: "KERN-018",
        title: "Only root makes user namespaces",
        why: "in one, any user reaches parts of the kernel that were written for root alone",
        mend: "sysctl -w kernel.unprivileged_userns_clone=0 (Debian) or kernel.apparmor_restrict_unprivileged_userns=1 \
            (Ubuntu); not user.max_user_namespaces=0: a unit with PrivateUsers= needs one",
        judge: Judge::Host(namespaces),
    },
    Check {
        id: "KERN-019",
        title: "io_uring is root's, or off",
        why: "it works past system call filters, and is young",
        mend: "sysctl -w kernel.io_uring_disabled=2, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, IO_URING, |value| value >= 1)),
    },
    Check {
        id: "KERN-020",
        title: "The magic keys do no more than a safe restart",
        why: "whoever reaches a console could kill programs or dump memory by them",
        mend: "sysctl -w kernel.sysrq=0, or 176 for sync, remount and reboot",
        judge: Judge::Host(|host| setting(host, SYSRQ, |value| value & !SAFE_KEYS == 0)),
    },
    Check {
        id: "KERN-021",
        title: "Compiled BPF programs are hardened",
        why: "without it, what a program chooses ends up as code in the kernel",
        mend: "sysctl -w net.core.bpf_jit_harden=1, and the same in /etc/sysctl.d",
        judge: Judge::Host(|host| setting(host, BPF_JIT, |value| value >= 1)),
    },
];

/// systemd-coredump(8), by both names of its folder, and programs that take a dump and keep nothing.
const COREDUMP: [&str; 2] = ["/usr/lib/systemd/systemd-coredump", "/lib/systemd/systemd-coredump"];
const KEEPS_NOTHING: [&str; 4] = ["/bin/false", "/usr/bin/false", "/bin/true", "/usr/bin/true"];
/// Sync, remount read-only and reboot (Documentation/admin-guide/sysrq.rst).
const SAFE_KEYS: i64 = 16 | 32 | 128;
/// Words that switch something off (Documentation/admin-guide/kernel-parameters.txt). Debian's own line has none.
const WEAK: [&str; 15] = [
    "mitigations=off",
    "nopti",
    "pti=off",
    "nospectre_v1",
    "nospectre_v2",
    "spectre_v2=off",
    "mds=off",
    "l1tf=off",
    "nokaslr",
    "nosmep",
    "nosmap",
    "nosecurity",
    "security=none",
    "apparmor=0",
    "lockdown=none",
];
/// Bits of a kernel that runs strange modules: forced, out of tree, unsigned (Documentation/admin-guide/tainted-kernels.rst).
const STRANGE: [(u32, &str); 3] = [
    (1, "a module was loaded by force"),
    (12, "a module from outside of the kernel"),
    (13, "a module without a signature"),
];

/// What a setting is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Its file below /proc/sys.
    pub(super) path: &'static str,
    /// The value that mends it.
    pub(super) value: &'static str,
    /// A larger number is as good.
    or_more: bool,
}

impl Wanted {
    pub(super) const fn exactly(path: &'static str, value: &'static str) -> Self {
        Self { path, value, or_more: false }
    }

    pub(super) const fn least(path: &'static str, value: &'static str) -> Self {
        Self { path, value, or_more: true }
    }

    /// True where this kernel has the setting, with another value.
    pub(super) fn is_missing(&self, host: &Host) -> bool {
        let Ok(Some(is)) = host.text(self.path) else { return false };
        let (is, numbers) = (is.trim(), [is.trim(), self.value].map(str::parse::<i64>));
        match numbers {
            [Ok(is), Ok(wanted)] if self.or_more => is < wanted,
            _ => is != self.value,
        }
    }
}

/// The name that sysctl(8) gives to a file in /proc/sys.
pub(super) fn name(path: &str) -> String {
    path.trim_start_matches("/proc/sys/").replace('/', ".")
}

/// Holds one number to `good`; a kernel without the setting lacks what it is about.
fn setting(host: &Host, path: &str, good: impl Fn(i64) -> bool) -> Judged {
    Ok(match host.number(path)? {
        Some(value) => Verdict::hold(good(value), format!("{}={value}", name(path))),
        None => Verdict::NotApplicable(format!("this kernel has no {}", name(path))),
    })
}

/// Holds several numbers each to be at least so large.
fn settings(host: &Host, wanted: &[(&str, i64)]) -> Judged {
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (path, least) in wanted {
        let Some(value) = host.number(path)? else { continue };
        let words = format!("{}={value}", name(path));
        if value < *least { &mut wrong } else { &mut seen }.push(words);
    }
    Ok(match (wrong.is_empty(), seen.is_empty()) {
        (false, _) => Verdict::Fail(few(&wrong)),
        (true, false) => Verdict::Pass(few(&seen)),
        (true, true) => Verdict::NotApplicable("this kernel has none of these settings".to_owned()),
    })
}

/// Without Yama every process looks into every other of its user (ptrace(2)).
fn ptrace(host: &Host) -> Judged {
    Ok(match host.number(PTRACE)? {
        Some(value) => Verdict::hold(value >= 1, format!("kernel.yama.ptrace_scope={value}")),
        None => Verdict::Fail("this kernel has no Yama: a process can look into every other of its user".to_owned()),
    })
}

/// A pattern that begins with a bar starts a program for each dump, whatever the process's limit says (core(5)).
fn core_pattern(host: &Host) -> Judged {
    let pattern = host.text(CORE_PATTERN)?.ok_or_else(|| Unknown::new(format!("there is no {CORE_PATTERN}")))?.trim();
    let evidence = format!("kernel.core_pattern={pattern}");
    let Some(command) = pattern.strip_prefix('|') else { return Ok(Verdict::Pass(evidence)) };
    let program = command.split_whitespace().next().unwrap_or_default();
    if !COREDUMP.contains(&program) {
        return Ok(Verdict::hold(KEEPS_NOTHING.contains(&program), evidence));
    }
    // Only both together: for a trace of calls it puts all memory into a file, whatever it keeps (coredump.conf(5)).
    let told = host.disks.coredump.get()?;
    let said = |name: &str| told.and_then(|told| told.get(name)).map_or("not set", String::as_str);
    let (storage, most) = (said("Storage"), said("ProcessSizeMax"));
    let evidence = format!("{evidence}; Storage {storage}, ProcessSizeMax {most}");
    Ok(Verdict::hold(storage == "none" && most == "0", evidence))
}

fn lockdown(host: &Host) -> Judged {
    let Some(text) = host.text(LOCKDOWN)? else {
        return Ok(Verdict::NotApplicable("this kernel has no lockdown".to_owned()));
    };
    // Of all modes, the one in brackets is in force: "none [integrity] confidentiality".
    let mode = text.split(['[', ']']).nth(1).ok_or_else(|| Unknown::new(format!("{LOCKDOWN} names no mode")))?;
    Ok(Verdict::hold(mode != "none", format!("lockdown: {mode}")))
}

fn mandatory(host: &Host) -> Judged {
    let apparmor = host.text(APPARMOR)?.is_some_and(|text| text.trim() == "Y");
    let selinux = host.text(SELINUX)?.is_some_and(|text| text.trim() == "1");
    // What the kernel could do and does not use shows in the first, and not in this list.
    let in_use = host.text(LSMS)?.unwrap_or_default();
    let names = |name: &str| in_use.trim().split(',').any(|one| one == name);
    Ok(match (apparmor && names("apparmor"), selinux) {
        (true, _) => Verdict::Pass("AppArmor".to_owned()),
        (_, true) => Verdict::Pass("SELinux, enforcing".to_owned()),
        _ => Verdict::Fail("neither".to_owned()),
    })
}

fn command_line(host: &Host) -> Judged {
    let line = host.text(COMMAND_LINE)?.ok_or_else(|| Unknown::new(format!("there is no {COMMAND_LINE}")))?;
    Ok(Verdict::none(line.split_whitespace().filter(|word| WEAK.contains(word)), "nothing that weakens it"))
}

fn tainted(host: &Host) -> Judged {
    let Some(bits) = host.number(TAINTED)? else {
        return Ok(Verdict::NotApplicable("this kernel does not say".to_owned()));
    };
    let found = STRANGE.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, words)| words);
    Ok(Verdict::none(found, "no strange module"))
}

/// Debian's switch, Ubuntu's, or the limit that every kernel has.
fn namespaces(host: &Host) -> Judged {
    let mut seen = Vec::new();
    for (path, closed) in [(USERNS, 0), (USERNS_APPARMOR, 1), (USERNS_MOST, 0)] {
        let Some(value) = host.number(path)? else { continue };
        let words = format!("{}={value}", name(path));
        if value == closed {
            return Ok(Verdict::Pass(words));
        }
        seen.push(words);
    }
    let none = || Verdict::NotApplicable("this kernel has no user namespaces".to_owned());
    Ok(if seen.is_empty() { none() } else { Verdict::Fail(few(&seen)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::Answer;
    use crate::harden::tests::recorded;

    #[test]
    fn a_program_that_is_handed_dumps_passes_where_it_keeps_none() {
        const SYSTEMD: &str = "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h\n";
        let mut host = recorded();
        let none: &[(&str, &str)] = &[("Storage", "none"), ("ProcessSizeMax", "0")];
        type Settings<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, Settings<'_>, &str); 10] = [
            ("core\n", &[], "pass"),
            ("/var/cores/%e", &[], "pass"),
            ("|/bin/false\n", &[], "pass"),
            ("|/usr/share/apport/apport -p%p\n", none, "fail"),
            ("|/home/x/false", none, "fail"),
            (SYSTEMD, &[], "fail"),
            (SYSTEMD, &none[..1], "fail"),
            (SYSTEMD, &none[1..], "fail"),
            (SYSTEMD, &[("Storage", "external"), ("ProcessSizeMax", "0")], "fail"),
            (SYSTEMD, none, "pass"),
        ];
        for (pattern, told, wanted) in cases {
            let told = told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            host.disks.coredump = Answer::Is(told.collect());
            host.texts.insert(CORE_PATTERN.to_owned(), Answer::Is(pattern.to_owned()));
            assert_eq!(core_pattern(&host).unwrap().name(), wanted, "{pattern}");
        }
        host.disks.coredump = Answer::Unknown("it is a pipe".to_owned());
        assert!(core_pattern(&host).is_err());
    }
}
