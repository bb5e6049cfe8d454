//! Faults that the UPD checks have to find.

use super::{Area, Planted, Recorded, set_text};

pub const AREA: Area = Area {
    planted: PLANTED,
    recorded: RECORDED,
    clean: &[
        // The smallest Debian has no unattended-upgrades, and nothing that marks reboots or counts updates.
        ("UPD-001", "fail"),
        ("UPD-002", "na"),
        ("UPD-003", "na"),
        // A container has no kernel of its own.
        ("UPD-005", "na"),
    ],
};

const PLANTED: &[Planted] = &[
    Planted {
        found: ("UPD-001", "pass"),
        // What the package unattended-upgrades and its first run leave.
        cause: "printf 'APT::Periodic::Update-Package-Lists \"1\";\\nAPT::Periodic::Unattended-Upgrade \"1\";\\n' \
            >/etc/apt/apt.conf.d/20auto-upgrades && ln -s true /usr/bin/unattended-upgrade && cd /var/lib/apt/periodic && \
            touch unattended-upgrades-stamp update-stamp",
        cure: "rm /etc/apt/apt.conf.d/20auto-upgrades /usr/bin/unattended-upgrade /var/lib/apt/periodic/*-stamp",
        with: &[],
    },
    Planted {
        found: ("UPD-001", "warn"),
        // All is set, and it has never run.
        cause: "printf 'APT::Periodic::Update-Package-Lists \"1\";\\nAPT::Periodic::Unattended-Upgrade \"1\";\\n' \
            >/etc/apt/apt.conf.d/20auto-upgrades && ln -s true /usr/bin/unattended-upgrade",
        cure: "rm /etc/apt/apt.conf.d/20auto-upgrades /usr/bin/unattended-upgrade",
        with: &[],
    },
    Planted {
        found: ("UPD-002", "fail"),
        cause: "touch /run/reboot-required && echo linux-image-amd64 >/run/reboot-required.pkgs",
        cure: "rm /run/reboot-required /run/reboot-required.pkgs",
        with: &[],
    },
    Planted {
        found: ("UPD-002", "pass"),
        cause: "mkdir -p /etc/kernel/postinst.d && touch /etc/kernel/postinst.d/unattended-upgrades",
        cure: "rm /etc/kernel/postinst.d/unattended-upgrades",
        with: &[],
    },
    // A pipe is not waited on.
    Planted {
        found: ("UPD-002", "error"),
        cause: "mkfifo /run/reboot-required",
        cure: "rm /run/reboot-required",
        with: &[],
    },
    Planted {
        found: ("UPD-003", "fail"),
        cause: "mkdir /var/lib/update-notifier && cd /var/lib/update-notifier && printf '9 updates can be applied \
            immediately.\\n2 of these updates are standard security updates.\\n' >updates-available",
        cure: "rm -r /var/lib/update-notifier",
        with: &[],
    },
    // A count of long ago says nothing of today.
    Planted {
        found: ("UPD-003", "error"),
        cause: "mkdir /var/lib/update-notifier && cd /var/lib/update-notifier && \
            echo '0 updates can be applied immediately.' >updates-available && touch -d '30 days ago' updates-available",
        cure: "rm -r /var/lib/update-notifier",
        with: &[],
    },
    Planted {
        found: ("UPD-005", "fail"),
        cause: "touch /boot/vmlinuz-99.$(uname -r)",
        cure: "rm /boot/vmlinuz-*",
        with: &[],
    },
    Planted {
        found: ("UPD-005", "pass"),
        cause: "touch /boot/vmlinuz-$(uname -r) /boot/vmlinuz-1.0.0-1-amd64",
        cure: "rm /boot/vmlinuz-*",
        with: &[],
    },
];

const OS_RELEASE: &str = "/etc/os-release";

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("UPD-004", "fail"),
        cause: |facts| set_text(facts, OS_RELEASE, "ID=debian\nVERSION_ID=\"10\"\n"),
        with: &[],
    },
    Recorded {
        found: ("UPD-004", "error"),
        cause: |facts| set_text(facts, OS_RELEASE, "ID=unheard-of\nVERSION_ID=1\n"),
        with: &[],
    },
    Recorded { found: ("UPD-004", "na"), cause: |facts| set_text(facts, OS_RELEASE, "ID=arch\n"), with: &[] },
];
