//! The clock, by which certificates and macaroons are judged.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Host, Needs};

/// What keeps a clock right, by its unit. Debian's names and Red Hat's.
const DAEMONS: [&str; 8] = [
    "systemd-timesyncd.service",
    "chrony.service",
    "chronyd.service",
    "ntpsec.service",
    "ntp.service",
    "ntpd.service",
    "openntpd.service",
    "phc2sys.service",
];

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "TIME-001",
        title: "The clock is synchronised",
        why: "with a wrong clock certificates are refused or outlive their end, and no log tells what happened when",
        mend: "timedatectl set-ntp true, and let NTP or the hypervisor's clock through to it",
        judge: Judge::Host(synchronised),
    },
    Check {
        id: "TIME-002",
        title: "One daemon keeps the clock, after a boot too",
        why: "a clock that nothing keeps runs away by seconds a day; two that keep it pull at it",
        mend: "apt-get install systemd-timesyncd && systemctl enable --now systemd-timesyncd, and nothing beside it",
        judge: Judge::Host(kept),
    },
];

fn synchronised(host: &Host) -> Judged {
    let is = *host.machine.clock.need("clock")?;
    Ok(Verdict::hold(is, format!("the kernel's clock is {}synchronised", if is { "" } else { "not " })))
}

fn kept(host: &Host) -> Judged {
    let wanted = host.updates.wanted.get()?;
    let mut found: Vec<&str> =
        DAEMONS.into_iter().filter(|unit| wanted.is_some_and(|wanted| wanted.contains(*unit))).collect();
    // It only hands on what another keeps (phc2sys(8)), or a hardware clock's time.
    if found.len() > 1 {
        found.retain(|unit| *unit != "phc2sys.service");
    }
    Ok(match found[..] {
        [] => Verdict::Fail("no time daemon is enabled".to_owned()),
        [one] => Verdict::Pass(format!("{one} is enabled")),
        _ => Verdict::Warn(format!("enabled: {}", found.join(", "))),
    })
}
