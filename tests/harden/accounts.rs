//! Faults that the USER checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::json;

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: CLEAN };

const CLEAN: &[(&str, &str)] = &[
    // The lab's hosts have no sudo.
    ("USER-007", "na"),
    ("USER-010", "na"),
    ("USER-011", "na"),
    // lnd's folder is its user's home.
    ("USER-013", "na"),
    // Debian lets everybody read what a user makes.
    ("USER-015", "warn"),
];

const PLANTED: &[Planted] = &[
    Planted {
        found: ("USER-001", "fail"),
        cause: "cp -a /etc/passwd /root/p && sed -i '/^lsm-signer:/s,[^:]*$,/bin/bash,' /etc/passwd",
        cure: "mv /root/p /etc/passwd",
        with: &[],
    },
    Planted {
        found: ("USER-001", "fail"),
        cause: "cp -a /etc/shadow /root/s && sed -i 's,^lsm-signer:[^:]*,lsm-signer:$y$j9T$salt$hash,' /etc/shadow",
        cure: "mv /root/s /etc/shadow",
        with: &[],
    },
    Planted {
        found: ("USER-001", "fail"),
        cause: "h=$(getent passwd lsm-signer | cut -d: -f6) && install -d -o lsm-signer -m 700 $h/.ssh && \
            install -o lsm-signer -m 600 /dev/null $h/.ssh/authorized_keys",
        cure: "rm -r $(getent passwd lsm-signer | cut -d: -f6)/.ssh",
        with: &[],
    },
    Planted {
        found: ("USER-002", "fail"),
        cause: "cp -a /etc/passwd /root/p && echo toor:x:0:0::/root:/bin/sh >>/etc/passwd",
        cure: "mv /root/p /etc/passwd",
        with: &[],
    },
    Planted {
        found: ("USER-003", "fail"),
        cause: "cp -a /etc/group /root/g && sed -i 's/^adm:.*/&lsm-signer/' /etc/group",
        cure: "mv /root/g /etc/group",
        with: &[],
    },
    Planted {
        found: ("USER-004", "fail"),
        cause: "cp -a /etc/shadow /root/s && sed -i 's/^games:[^:]*/games:/' /etc/shadow",
        cure: "mv /root/s /etc/shadow",
        with: &[],
    },
    Planted {
        found: ("USER-007", "fail"),
        cause: "mkdir -p -m 755 /etc/sudoers.d && install -m 440 /dev/null /etc/sudoers && \
            echo '@includedir /etc/sudoers.d' >/etc/sudoers && echo 'ann ALL=(ALL) \\\n NOPASSWD: ALL' >/etc/sudoers.d/ann",
        cure: "rm -r /etc/sudoers /etc/sudoers.d",
        // There are rules now, and these pass.
        with: &["USER-010", "USER-011"],
    },
    Planted {
        found: ("USER-008", "fail"),
        cause: "cp -a /etc/passwd /root/p && echo twin:x:$(id -u lsm-signer):65534::/:/usr/sbin/nologin >>/etc/passwd",
        cure: "mv /root/p /etc/passwd",
        with: &[],
    },
    Planted {
        found: ("USER-009", "fail"),
        cause: "cp -a /etc/group /root/g && sed -i 's/^lsm-signer:.*/&games/' /etc/group",
        cure: "mv /root/g /etc/group",
        with: &[],
    },
    Planted {
        found: ("USER-010", "fail"),
        cause: "mkdir -p -m 777 /etc/sudoers.d && chmod 777 /etc/sudoers.d && echo '#includedir /etc/sudoers.d' >/etc/sudoers",
        cure: "rm -r /etc/sudoers /etc/sudoers.d",
        with: &["USER-007", "USER-011"],
    },
    Planted {
        found: ("USER-011", "fail"),
        cause: "echo 'ann ALL=(lsm-signer) /bin/sh' >/etc/sudoers",
        cure: "rm /etc/sudoers",
        with: &["USER-007", "USER-010"],
    },
    Planted {
        // A pipe in the place of the rules is not waited for.
        found: ("USER-007", "error"),
        cause: "mkfifo /etc/sudoers",
        cure: "rm /etc/sudoers",
        with: &["USER-010", "USER-011"],
    },
    Planted {
        found: ("USER-012", "fail"),
        cause: "cp -a /etc/group /root/g && sed -i 's/^disk:.*/&games/' /etc/group",
        cure: "mv /root/g /etc/group",
        with: &[],
    },
    Planted {
        found: ("USER-013", "fail"),
        cause: "cp -a /etc/passwd /root/p && mkdir /home/x && chmod 777 /home/x && \
            sed -i 's,^\\(lsm-signer:.*\\):[^:]*:\\([^:]*\\)$,\\1:/home/x:\\2,' /etc/passwd",
        cure: "mv /root/p /etc/passwd && rmdir /home/x",
        with: &[],
    },
    Planted {
        found: ("USER-014", "fail"),
        cause: "cp -a /etc/shadow /root/s && sed -i 's,^games:[^:]*,games:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0,' /etc/shadow",
        cure: "mv /root/s /etc/shadow",
        with: &[],
    },
    Planted {
        found: ("USER-015", "fail"),
        cause: "cp -a /etc/login.defs /root/l && sed -i 's/^UMASK.*/UMASK 000/' /etc/login.defs",
        cure: "mv /root/l /etc/login.defs",
        with: &[],
    },
    Planted {
        found: ("USER-016", "fail"),
        cause: "mkdir -p /etc/polkit-1/rules.d && echo 'polkit.addRule(function(action, subject) { \
            if (action.id == \"org.freedesktop.systemd1.manage-units\") return polkit.Result.YES; });' \
            >/etc/polkit-1/rules.d/50-a.rules",
        cure: "rm -r /etc/polkit-1",
        with: &[],
    },
    Planted { found: ("USER-017", "fail"), cause: "chmod 0644 /etc/shadow", cure: "chmod 0640 /etc/shadow", with: &[] },
];

const RECORDED: &[Recorded] = &[Recorded {
    // Whoever is not root cannot see passwords, and says so.
    found: ("USER-004", "error"),
    cause: |facts| facts["accounts"]["passwords"] = json!({ "unknown": "run it as root" }),
    with: &["USER-001", "USER-014"],
}];
