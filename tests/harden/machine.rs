//! Faults of the machine below the settings that the KERN checks have to find.

use super::disk::{device, on};
use super::{Area, Recorded, set_text};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: &[], recorded: RECORDED, clean: &[] };

const UEFI: &str = "/sys/firmware/efi/fw_platform_size";
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

const RECORDED: &[Recorded] = &[
    Recorded { found: ("KERN-011", "fail"), cause: |facts| facts["machine"]["landlock"] = json!(0), with: &[] },
    Recorded {
        found: ("KERN-013", "fail"),
        cause: |facts| {
            facts["machine"]["faults"]["is"]["mds"] = json!("Vulnerable: Clear CPU buffers attempted, no microcode")
        },
        with: &[],
    },
    Recorded {
        found: ("KERN-013", "warn"),
        cause: |facts| facts["machine"]["faults"] = json!({ "is": { "mds": "Mitigation: x; SMT vulnerable" } }),
        with: &[],
    },
    Recorded { found: ("KERN-013", "na"), cause: |facts| facts["machine"]["faults"] = json!("absent"), with: &[] },
    Recorded { found: ("KERN-014", "fail"), cause: |facts| set_text(facts, SECURE_BOOT, "\u{6}\0\0\0\0"), with: &[] },
    Recorded { found: ("KERN-014", "fail"), cause: |facts| facts["texts"][UEFI] = json!("absent"), with: &[] },
    // UEFI, and its variables are not mounted.
    Recorded { found: ("KERN-014", "error"), cause: |facts| facts["texts"][SECURE_BOOT] = json!("absent"), with: &[] },
];

/// True of the checks that look at the outer machine's processor, firmware, disks and clock.
pub fn is_of_it(id: &str) -> bool {
    ["KERN-011", "KERN-013", "KERN-014", "DISK-001", "DISK-002", "DISK-003", "TIME-001"].contains(&id)
}

/// Gives facts of a signer's host a machine as it should be.
pub fn make_sound(facts: &mut Value) {
    facts["machine"] = json!({
        "landlock": 7,
        "faults": { "is": { "l1tf": "Mitigation: PTE Inversion", "mds": "Not affected" } },
        "clock": { "is": true },
    });
    set_text(facts, UEFI, "64\n");
    set_text(facts, SECURE_BOOT, "\u{6}\0\0\0\u{1}");
    set_text(facts, "/sys/power/state", "freeze mem\n");
    facts["disks"]["swaps"] = json!({ "is": [] });
    let disk = device("sda1", None, &[]);
    on(facts, device("dm-1", Some("LVM-x"), &[device("dm-0", Some("CRYPT-LUKS2"), &[disk])]));
}
