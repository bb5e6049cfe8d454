//! Faults that the DISK checks have to find.

use super::{Area, Planted, Recorded, set_text};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: &[] };

const PLANTED: &[Planted] = &[
    Planted {
        found: ("DISK-004", "fail"),
        cause: "mount -o remount,suid,dev /dev/shm",
        cure: "mount -o remount,nosuid,nodev /dev/shm",
        with: &[],
    },
    Planted {
        found: ("DISK-005", "fail"),
        // Full, and lnd's, which is moved there with all that is its own.
        cause: "systemctl stop lsm@signer && mkdir /mnt/keep && cp -a /var/lib/lsm/signer/. /mnt/keep && \
            mount -t tmpfs -o size=80m,mode=700 none /var/lib/lsm/signer && \
            cp -a /mnt/keep/. /var/lib/lsm/signer && chown --reference=/mnt/keep /var/lib/lsm/signer && \
            fallocate -l $(($(stat -fc '%a*%S' /var/lib/lsm/signer)-4000000)) /var/lib/lsm/signer/full && \
            systemctl start lsm@signer",
        cure: "systemctl stop lsm@signer; umount /var/lib/lsm/signer; rm -r /mnt/keep; systemctl start lsm@signer",
        // A file system in memory is on no disk.
        with: &["DISK-003"],
    },
    Planted {
        found: ("DISK-006", "fail"),
        cause: "mkdir -p /var/lib/systemd/coredump && \
            touch /var/lib/systemd/coredump/core.lnd.991.0a1b2c3d.77.1700000000000000.zst",
        cure: "rm -r /var/lib/systemd/coredump",
        with: &[],
    },
    Planted { found: ("DISK-006", "fail"), cause: "touch /core", cure: "rm /core", with: &[] },
    Planted {
        found: ("DISK-006", "fail"),
        cause: "mkdir -p /var/crash/202611230000 && touch /var/crash/202611230000/dump.202611230000",
        cure: "rm -r /var/crash",
        with: &[],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("DISK-001", "fail"),
        cause: |facts| {
            limit_swap(facts, json!("absent"));
            swap(facts, json!({ "is": device("sda2", None, &[]) }));
        },
        with: &[],
    },
    // Not to be seen is no pass.
    Recorded {
        found: ("DISK-001", "error"),
        cause: |facts| {
            limit_swap(facts, json!("absent"));
            swap(facts, json!({ "unknown": "nobody may look" }));
        },
        with: &[],
    },
    Recorded {
        found: ("DISK-001", "warn"),
        cause: |facts| {
            limit_swap(facts, json!("absent"));
            let mut zram = device("zram0", None, &[]);
            zram["in_memory"] = json!(true);
            swap(facts, json!({ "is": zram }));
        },
        with: &[],
    },
    Recorded {
        found: ("DISK-001", "warn"),
        cause: |facts| {
            limit_swap(facts, json!("absent"));
            set_text(facts, "/etc/fstab", "/swapfile none swap sw 0 0\n");
        },
        with: &[],
    },
    Recorded {
        found: ("DISK-002", "fail"),
        cause: |facts| {
            set_text(facts, "/sys/power/state", "freeze mem disk\n");
            // What keeps lnd out of swap does not keep it out of the image.
            limit_swap(facts, json!({ "is": "0" }));
            swap(facts, json!({ "is": device("sda2", None, &[]) }));
        },
        with: &[],
    },
    Recorded {
        found: ("DISK-002", "warn"),
        cause: |facts| set_text(facts, "/sys/power/state", "freeze mem disk\n"),
        with: &[],
    },
    Recorded {
        found: ("DISK-003", "fail"),
        // Checked for changes, and readable.
        cause: |facts| on(facts, device("dm-0", Some("CRYPT-VERITY"), &[device("sda1", None, &[])])),
        with: &[],
    },
    Recorded {
        found: ("DISK-003", "fail"),
        // One half of a volume is in the clear.
        cause: |facts| {
            let luks = device("dm-0", Some("CRYPT-LUKS2"), &[device("sda1", None, &[])]);
            on(facts, device("dm-1", Some("LVM-x"), &[luks, device("sdb1", None, &[])]));
        },
        with: &[],
    },
    Recorded {
        found: ("DISK-003", "fail"),
        // lnd's folder is on an encrypted disk, and the wallet is not in it.
        cause: |facts| {
            let mut data = folder(facts).clone();
            data["on"] = json!({ "is": device("sdc1", None, &[]) });
            facts["disks"]["data"]["lsm@signer.service"] = json!({ "is": data });
        },
        with: &[],
    },
    Recorded { found: ("DISK-005", "fail"), cause: |facts| folder(facts)["inodes"] = json!({ "is": 3 }), with: &[] },
];

/// A block device, as in facts.
pub fn device(name: &str, made_by: Option<&str>, below: &[Value]) -> Value {
    json!({ "name": name, "made_by": made_by, "in_memory": false, "below": below })
}

fn swap(facts: &mut Value, on: Value) {
    facts["disks"]["swaps"] = json!({ "is": [{ "name": "/dev/x", "on": on }] });
}

/// Where nothing counts swap the limit is absent, whatever lnd's unit asks for.
fn limit_swap(facts: &mut Value, limit: Value) {
    facts["signers"][0]["process"]["is"]["bounds"]["memory.swap.max"] = limit;
}

fn folder(facts: &mut Value) -> &mut Value {
    &mut facts["disks"]["folders"]["lsm@signer.service"]["is"]
}

/// Puts the signer's folder on a device.
pub fn on(facts: &mut Value, device: Value) {
    folder(facts)["on"] = json!({ "is": device });
}
