//! Faults that the SSH checks have to find.
//!
//! The lab's hosts have no sshd: what a real one printed is put in its place, and every other check has something to judge
//! then. That those pass is held beside the checks.

use super::{Area, Planted, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: CLEAN };

/// No sshd.
const CLEAN: &[(&str, &str)] = &[
    ("SSH-001", "na"),
    ("SSH-002", "na"),
    ("SSH-003", "na"),
    ("SSH-004", "na"),
    ("SSH-005", "na"),
    ("SSH-006", "na"),
    ("SSH-007", "na"),
    ("SSH-008", "na"),
    ("SSH-009", "na"),
    ("SSH-010", "na"),
];

/// What Debian 12's sshd prints under settings that leave nothing to say.
const TOLD: &str = include_str!("sshd.txt");
const ALL: &[&str] =
    &["SSH-001", "SSH-002", "SSH-003", "SSH-004", "SSH-005", "SSH-006", "SSH-007", "SSH-008", "SSH-009", "SSH-010"];

/// Puts an sshd there that prints `good` as `bad`.
fn print(facts: &mut Value, good: &str, bad: &str) {
    assert!(TOLD.contains(good), "{good} is printed");
    facts["programs"]["sshd -T"] = json!({ "is": TOLD.replace(good, bad) });
}

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("SSH-001", "fail"),
        cause: |facts| print(facts, "permitrootlogin no", "permitrootlogin yes"),
        with: ALL,
    },
    Recorded {
        found: ("SSH-002", "fail"),
        cause: |facts| print(facts, "passwordauthentication no", "passwordauthentication yes"),
        with: ALL,
    },
    Recorded {
        found: ("SSH-003", "fail"),
        cause: |facts| print(facts, "permitemptypasswords no", "permitemptypasswords yes"),
        with: ALL,
    },
    Recorded {
        found: ("SSH-004", "fail"),
        cause: |facts| print(facts, "permittunnel no", "permittunnel yes"),
        with: ALL,
    },
    Recorded { found: ("SSH-005", "fail"), cause: |facts| print(facts, "macs ", "macs hmac-md5,"), with: ALL },
    Recorded { found: ("SSH-006", "fail"), cause: |facts| print(facts, "maxauthtries 4", "maxauthtries 6"), with: ALL },
    Recorded {
        found: ("SSH-008", "warn"),
        cause: |facts| print(facts, "authorizedkeyscommand none", "authorizedkeyscommand /usr/local/bin/keys"),
        with: ALL,
    },
    Recorded {
        found: ("SSH-010", "fail"),
        cause: |facts| print(facts, "strictmodes yes", "strictmodes no"),
        with: ALL,
    },
    Recorded {
        found: ("SSH-002", "warn"),
        cause: |facts| {
            print(facts, "permitrootlogin no", "permitrootlogin no");
            let one = json!({ "condition": "User b", "name": "passwordauthentication", "value": "yes" });
            facts["ssh"]["conditional"] = json!({ "is": [one] });
        },
        with: ALL,
    },
    Recorded {
        // An sshd without its keys tells nothing.
        found: ("SSH-001", "error"),
        cause: |facts| facts["programs"]["sshd -T"] = json!({ "unknown": "no hostkeys available" }),
        with: ALL,
    },
];

/// An sshd that prints what a real one did.
const PLANTED: &[Planted] = &[
    Planted {
        found: ("SSH-007", "fail"),
        cause: concat!(
            "mkdir -p -m 700 /root/.ssh && install -m 666 /dev/null /root/.ssh/authorized_keys && ",
            "install -m 755 /dev/null /usr/sbin/sshd && cat >/usr/sbin/sshd <<'END'\n#!/bin/sh\ncat <<'E'\n",
            include_str!("sshd.txt"),
            "E\nEND\n"
        ),
        cure: "rm -r /root/.ssh /usr/sbin/sshd",
        with: ALL,
    },
    Planted {
        found: ("SSH-009", "fail"),
        cause: concat!(
            "mkdir /etc/ssh && install -m 644 /dev/null /etc/ssh/ssh_host_ed25519_key && ",
            "install -m 755 /dev/null /usr/sbin/sshd && cat >/usr/sbin/sshd <<'END'\n#!/bin/sh\ncat <<'E'\n",
            include_str!("sshd.txt"),
            "E\nEND\n"
        ),
        cure: "rm -r /etc/ssh /usr/sbin/sshd",
        with: ALL,
    },
];
