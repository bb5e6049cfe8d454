//! The kernel: what it lets one process see of another, and what it leaves behind of one that died.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Host, Needs};

const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";

pub(super) const AREA: Area = Area { needs: Needs { texts: &[SUID_DUMPABLE], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[Check {
    id: "KERN-002",
    title: "A sealed program leaves no core dump",
    why: "lnd's memory holds the seed; a core dump writes it to disk",
    mend: "sysctl -w fs.suid_dumpable=0, and the same in /etc/sysctl.d",
    judge: Judge::Host(suid_dumpable),
}];

fn suid_dumpable(host: &Host) -> Judged {
    Ok(match host.number(SUID_DUMPABLE)? {
        Some(value) => Verdict::hold(value == 0, format!("fs.suid_dumpable={value}")),
        None => Verdict::NotApplicable("this kernel has no fs.suid_dumpable".to_owned()),
    })
}
