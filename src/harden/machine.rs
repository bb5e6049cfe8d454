//! The machine below the settings: its processor, its firmware, and whether the kernel can close files to a program.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Host, Needs, Unknown};

/// There where the firmware is UEFI (Documentation/ABI/testing/sysfs-firmware-efi).
const UEFI: &str = "/sys/firmware/efi/fw_platform_size";
/// Four bytes of attributes, then 1 where it is on (UEFI specification, globally defined variables).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// What is mounted where, as lsm sees it.
const MOUNTS: &str = "/proc/self/mountinfo";

pub(super) const AREA: Area =
    Area { needs: Needs { texts: &[UEFI, SECURE_BOOT, MOUNTS], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "KERN-011",
        title: "The kernel has Landlock",
        why: "Landlock closes every file but lnd's own to lnd, also where its unit is changed",
        mend: "boot Linux 5.13 or newer with landlock among lsm= on its command line",
        judge: Judge::Host(landlock),
    },
    Check {
        id: "KERN-013",
        title: "The kernel covers the processor's known faults",
        why: "through such a fault one process, or another guest of the same machine, reads lnd's memory",
        mend: "install the processor's microcode (intel-microcode, amd64-microcode) and updates, boot without mitigations=off",
        judge: Judge::Host(processor),
    },
    Check {
        id: "KERN-014",
        title: "Secure Boot is on",
        why: "whoever changes what boots reads the disk's passphrase and the seed at the next start",
        mend: "switch Secure Boot on in the firmware; Debian's and Ubuntu's kernels are signed for it",
        judge: Judge::Host(secure_boot),
    },
];

fn landlock(host: &Host) -> Judged {
    Ok(Verdict::hold(host.machine.landlock.number() > 0, host.machine.landlock.to_string()))
}

fn processor(host: &Host) -> Judged {
    let Some(faults) = host.machine.faults.get()? else {
        return Ok(Verdict::NotApplicable("this kernel tells nothing of the processor's faults".to_owned()));
    };
    let named = |what: &dyn Fn(&str) -> bool| -> Vec<String> {
        faults.iter().filter(|(_, says)| what(says)).map(|(name, says)| format!("{name}: {says}")).collect()
    };
    let open = named(&|says| says.starts_with("Vulnerable") || says.starts_with("KVM: Vulnerable"));
    let half = named(&|says| says.starts_with("Unknown") || says.contains("SMT vulnerable"));
    Ok(match (open.is_empty(), half.is_empty()) {
        (false, _) => Verdict::none(open, ""),
        (true, false) => Verdict::Warn(super::few(&half)),
        (true, true) => Verdict::Pass(format!("{} known faults, none open", faults.len())),
    })
}

fn secure_boot(host: &Host) -> Judged {
    if host.text(UEFI)?.is_none() {
        return Ok(Verdict::Fail("not booted by UEFI: nothing proves what boots".to_owned()));
    }
    match host.text(SECURE_BOOT)? {
        Some(variable) => Ok(match variable.as_bytes().last() {
            Some(1) => Verdict::Pass("SecureBoot is 1".to_owned()),
            _ => Verdict::Fail("SecureBoot is 0".to_owned()),
        }),
        None if host.text(MOUNTS)?.is_some_and(|mounts| mounts.contains(" - efivarfs ")) => {
            Ok(Verdict::Fail("this firmware has no Secure Boot".to_owned()))
        }
        None => Err(Unknown::new("the firmware's variables are not mounted (efivarfs)")),
    }
}
