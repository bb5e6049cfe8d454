//! What is broken for real in the machine, and what puts it right again.

/// Something broken on purpose while the machine runs.
pub struct Planted {
    /// What was done, for the table.
    pub what: &'static str,
    /// What comes of it.
    pub found: (&'static str, &'static str),
    /// What does it, for a shell inside.
    pub cause: &'static str,
    /// What undoes it, for a shell inside.
    pub cure: &'static str,
    /// What else has to be found, because it follows.
    pub with: &'static [&'static str],
}

/// A setting of the kernel, by its check: its name, what it must not be, and what the fix makes of it.
pub type Setting = (&'static str, &'static str, &'static str, &'static str);

/// Each is bad in a file of the machine's too, so that every boot brings it back: read after Debian's own.
pub const SETTINGS: &[Setting] = &[
    ("KERN-001", "kernel.yama.ptrace_scope", "0", "1"),
    ("KERN-002", "fs.suid_dumpable", "2", "0"),
    ("KERN-003", "kernel.core_pattern", "|/bin/cat", "core"),
    ("KERN-004", "kernel.kptr_restrict", "0", "1"),
    ("KERN-004", "kernel.dmesg_restrict", "0", "1"),
    ("KERN-005", "kernel.unprivileged_bpf_disabled", "0", "2"),
    ("KERN-006", "kernel.perf_event_paranoid", "1", "2"),
    ("KERN-007", "kernel.randomize_va_space", "1", "2"),
    ("KERN-009", "fs.protected_hardlinks", "0", "1"),
    ("KERN-009", "fs.protected_symlinks", "0", "1"),
    ("KERN-009", "fs.protected_fifos", "0", "1"),
    ("KERN-009", "fs.protected_regular", "0", "1"),
    ("KERN-018", "kernel.unprivileged_userns_clone", "1", "0"),
    ("KERN-020", "kernel.sysrq", "438", "176"),
    ("KERN-021", "net.core.bpf_jit_harden", "0", "1"),
];
/// It goes one way alone: only a boot opens it again.
pub const KEXEC: &str = "KERN-008";
/// What the fix mends of sshd, each by its name.
pub const SSH_IDS: &[&str] = &["SSH-001", "SSH-002", "SSH-003", "SSH-004", "SSH-006", "SSH-010"];

/// Settings of sshd that are worse than Debian's, read before them.
pub const LOOSE_SSH: &str = "PermitRootLogin yes\nPermitEmptyPasswords yes\nStrictModes no\n";

/// What stands in the place of a share of the machine that a fix does not give it: a /tmp of its own.
pub const OWN_TMP: &str = "mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp";
pub const NO_OWN_TMP: &str = "umount /tmp";

/// lsm's own limit, without which the swap counts.
macro_rules! without_limit {
    ($rest:expr) => {
        concat!("echo max >/sys/fs/cgroup/system.slice/system-lsm.slice/lsm@signer.service/memory.swap.max; ", $rest)
    };
}
macro_rules! with_limit {
    ($rest:expr) => {
        concat!($rest, "; echo 0 >/sys/fs/cgroup/system.slice/system-lsm.slice/lsm@signer.service/memory.swap.max")
    };
}
/// A file that sshd reads before all others.
macro_rules! ssh {
    ($what:expr, $found:expr, $lines:expr) => {
        Planted {
            what: $what,
            found: $found,
            cause: concat!("printf '", $lines, "\\n' >/etc/ssh/sshd_config.d/00-a.conf && sshd -t"),
            cure: "rm /etc/ssh/sshd_config.d/00-a.conf",
            with: &[],
        }
    };
}

pub const PLANTED: &[Planted] = &[
    Planted {
        what: "swap on a disk, which lnd's limit keeps it out of",
        found: ("DISK-002", "fail"),
        cause: "mkswap -q /dev/vdb && swapon /dev/vdb",
        cure: "swapoff /dev/vdb && wipefs -qa /dev/vdb",
        with: &[],
    },
    Planted {
        what: "swap on a disk, and no limit",
        found: ("DISK-001", "fail"),
        cause: without_limit!("mkswap -q /dev/vdb && swapon /dev/vdb"),
        cure: with_limit!("swapoff /dev/vdb && wipefs -qa /dev/vdb"),
        with: &["DISK-002", "PROC-012"],
    },
    Planted {
        what: "swap on dm-crypt, and no limit",
        found: ("DISK-001", "pass"),
        cause: without_limit!(
            "cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file /dev/urandom /dev/vdb swap && \
            mkswap -q /dev/mapper/swap && swapon /dev/mapper/swap"
        ),
        cure: with_limit!("swapoff /dev/mapper/swap && cryptsetup close swap"),
        with: &["PROC-012"],
    },
    Planted {
        what: "swap in memory, and no limit",
        found: ("DISK-001", "warn"),
        cause: without_limit!(
            "modprobe zram && echo 64M >/sys/block/zram0/disksize && mkswap -q /dev/zram0 && swapon /dev/zram0"
        ),
        cure: with_limit!("swapoff /dev/zram0 && rmmod zram"),
        with: &["PROC-012"],
    },
    Planted {
        what: "swap in /etc/fstab alone, and no limit",
        found: ("DISK-001", "warn"),
        cause: without_limit!("cp -a /etc/fstab /root/fstab && echo '/dev/vdb none swap sw 0 0' >>/etc/fstab"),
        cure: with_limit!("mv /root/fstab /etc/fstab"),
        with: &["PROC-012"],
    },
    Planted {
        what: "lnd's folder on LUKS",
        found: ("DISK-003", "pass"),
        cause: "set -e; cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdb /etc/machine-id
            cryptsetup open --key-file /etc/machine-id /dev/vdb data && mkfs.ext4 -q /dev/mapper/data
            systemctl stop lsm@signer && mkdir /mnt/keep && cp -a /var/lib/lsm/signer/. /mnt/keep
            mount /dev/mapper/data /var/lib/lsm/signer && rmdir /var/lib/lsm/signer/lost+found
            cp -a /mnt/keep/. /var/lib/lsm/signer && chown --reference=/mnt/keep /var/lib/lsm/signer
            chmod 700 /var/lib/lsm/signer && systemctl start lsm@signer",
        cure: "set -e; systemctl stop lsm@signer; umount /var/lib/lsm/signer; rm -r /mnt/keep
            cryptsetup close data; wipefs -qa /dev/vdb; systemctl start lsm@signer",
        with: &[],
    },
    Planted {
        what: "/tmp on the host's own disk",
        found: ("DISK-004", "fail"),
        cause: NO_OWN_TMP,
        cure: OWN_TMP,
        with: &[],
    },
    Planted {
        what: "/tmp with setuid programs",
        found: ("DISK-004", "fail"),
        cause: "mount -o remount,suid /tmp",
        cure: "mount -o remount,nosuid /tmp",
        with: &[],
    },
    Planted {
        what: "/dev/shm with devices",
        found: ("DISK-004", "fail"),
        cause: "mount -o remount,dev /dev/shm",
        cure: "mount -o remount,nodev /dev/shm",
        with: &[],
    },
    Planted {
        what: "a program that died and left its core",
        found: ("DISK-006", "fail"),
        cause: "cd / && ulimit -c unlimited && { sh -c 'kill -SEGV $$'; test -s /core; }",
        cure: "rm /core",
        with: &[],
    },
    Planted {
        what: "a clock that NTP keeps",
        found: ("TIME-001", "pass"),
        cause: "mkdir -p /run/systemd/timesyncd.conf.d && \
            printf '[Time]\\nNTP=127.0.0.1\\n' >/run/systemd/timesyncd.conf.d/lab.conf && \
            systemd-run -q --unit=ntp perl /root/ntp && sleep 2 && systemctl restart systemd-timesyncd && \
            for i in $(seq 60); do timedatectl show | grep -q NTPSynchronized=yes && break; sleep 1; done",
        // Whoever sets the clock by hand takes it from the daemon, as far as the kernel is concerned.
        cure: "systemctl stop ntp; rm -r /run/systemd/timesyncd.conf.d && systemctl restart systemd-timesyncd && \
            date -s @$(date +%s)",
        with: &[],
    },
    Planted {
        what: "no time daemon at boot",
        found: ("TIME-002", "fail"),
        cause: "systemctl -q disable systemd-timesyncd",
        cure: "systemctl -q enable systemd-timesyncd",
        with: &[],
    },
    ssh!("sshd lets root in by a password", ("SSH-001", "fail"), "PermitRootLogin yes"),
    ssh!("sshd takes passwords", ("SSH-002", "fail"), "PasswordAuthentication yes"),
    ssh!("sshd asks questions", ("SSH-002", "fail"), "KbdInteractiveAuthentication yes"),
    ssh!("sshd takes one user's password", ("SSH-002", "warn"), "Match User nobody\\nPasswordAuthentication yes"),
    ssh!("sshd takes empty passwords", ("SSH-003", "fail"), "PermitEmptyPasswords yes"),
    ssh!("sshd forwards", ("SSH-004", "fail"), "DisableForwarding no"),
    ssh!("sshd makes tunnels", ("SSH-004", "fail"), "PermitTunnel yes"),
    ssh!("sshd offers an old cipher", ("SSH-005", "fail"), "Ciphers aes256-ctr,aes256-cbc"),
    ssh!("sshd allows six guesses", ("SSH-006", "fail"), "MaxAuthTries 6"),
    ssh!(
        "sshd asks a program for keys",
        ("SSH-008", "warn"),
        "AuthorizedKeysCommand /bin/true\\nAuthorizedKeysCommandUser nobody"
    ),
    ssh!("sshd trusts loose files", ("SSH-010", "fail"), "StrictModes no"),
    Planted {
        what: "a key file that all may change",
        found: ("SSH-007", "fail"),
        cause: "chmod 666 /root/.ssh/authorized_keys",
        cure: "chmod 600 /root/.ssh/authorized_keys",
        with: &[],
    },
    Planted {
        what: "a host key that all may read",
        found: ("SSH-009", "fail"),
        cause: "chmod 644 /etc/ssh/ssh_host_ed25519_key",
        cure: "chmod 600 /etc/ssh/ssh_host_ed25519_key",
        with: &[],
    },
];

/// A boot by other words, against one without them.
pub struct Booted {
    /// The words.
    pub words: &'static str,
    /// What comes of them.
    pub found: &'static [(&'static str, &'static str)],
    /// What is done there at last: only a boot undoes it.
    pub last: Planted,
}

/// Without Yama, Landlock and AppArmor, and open to what processors are known for.
pub const WEAK: Booted = Booted {
    words: "mitigations=off nokaslr apparmor=0 lsm=capability",
    found: &[
        ("KERN-001", "fail"),
        ("KERN-011", "fail"),
        ("KERN-012", "fail"),
        ("KERN-013", "fail"),
        ("KERN-015", "fail"),
    ],
    last: Planted {
        what: "a module without a signature was loaded",
        found: ("KERN-016", "fail"),
        cause: "head -c -1 /lib/modules/$(uname -r)/kernel/drivers/net/dummy.ko >/run/x.ko && insmod /run/x.ko && \
            rmmod dummy",
        cure: "",
        with: &[],
    },
};

/// With all that the words can give, by firmware that starts what is signed.
pub const STRONG: Booted = Booted {
    words: "lockdown=integrity nohibernate",
    found: &[("KERN-010", "pass"), ("KERN-014", "pass"), ("DISK-002", "pass")],
    last: Planted {
        what: "modules were closed for good",
        found: ("KERN-017", "pass"),
        // Only what is signed was loaded until then.
        cause: "head -c -1 /lib/modules/$(uname -r)/kernel/drivers/net/dummy.ko >/run/x.ko && ! insmod /run/x.ko && \
            sysctl -qw kernel.modules_disabled=1",
        cure: "",
        with: &[],
    },
};
