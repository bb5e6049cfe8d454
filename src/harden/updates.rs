//! The system's own updates: what is old is known to its attackers.

mod life;

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{APT_LISTS, APT_PROGRAM, APT_RAN, Answer, DNF_RAN, Host, NOTIFIED, Needs, Unknown};
use crate::plan::{Access, Step};
use std::path::Path;

/// How apt's timers are set (apt.conf(5), and the script /usr/lib/apt/apt.systemd.daily). With an architecture named it does
/// not start dpkg to ask for one.
const APT: &[&str] = &["apt-config", "-o", "APT::Architectures::=any", "dump", "APT::Periodic"];
const APT_LINE: &str = "apt-config -o APT::Architectures::=any dump APT::Periodic";
const TIMERS: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];
/// dnf-automatic(8)'s settings.
const DNF: &str = "/etc/dnf/automatic.conf";
/// What Debian's and Ubuntu's packages leave where they want a reboot, and the packages that do.
const REBOOT: &str = "/run/reboot-required";
const REBOOT_FOR: &str = "/run/reboot-required.pkgs";
/// Who leaves it: without any of them it is never there.
const REBOOT_MARKERS: [&str; 2] =
    ["/etc/kernel/postinst.d/unattended-upgrades", "/usr/share/update-notifier/notify-reboot-required"];
/// The release of the kernel that runs (uname(2)).
const RUNNING: &str = "/proc/sys/kernel/osrelease";

/// Seconds. What comes by itself comes every day.
const DAY: i64 = 86_400;
const RECENT: i64 = 7 * DAY;

pub(super) const AREA: Area = Area {
    needs: Needs {
        texts: &[DNF, REBOOT, REBOOT_FOR, REBOOT_MARKERS[0], REBOOT_MARKERS[1], NOTIFIED, RUNNING, life::OS_RELEASE],
        programs: &[APT],
    },
    checks: CHECKS,
};

const CHECKS: &[Check] = &[
    Check {
        id: "UPD-001",
        title: "Security updates come by themselves, and did lately",
        why: "a fault in sshd or the kernel is used within days of being known",
        mend: "apt-get install unattended-upgrades && dpkg-reconfigure unattended-upgrades (systemctl unmask apt's timers first where they are masked); or dnf-automatic with apply_updates",
        judge: Judge::Host(automatic),
    },
    Check {
        id: "UPD-002",
        title: "No update waits for a reboot",
        why: "until then the old kernel and the old libraries run on, with the faults that were mended on disk",
        mend: "tell the watch-only side, then reboot",
        judge: Judge::Host(reboot),
    },
    Check {
        id: "UPD-003",
        title: "No security update waits to be installed",
        why: "what it mends is public from the day that it is there",
        mend: "apt-get update && apt-get upgrade",
        judge: Judge::Host(pending),
    },
    Check {
        id: "UPD-004",
        title: "The system still gets security updates",
        why: "after its end nobody mends what is found in it",
        mend: "upgrade to the next release of the system, or move the signer to a host that has it",
        judge: Judge::Host(life::judge),
    },
    Check {
        id: "UPD-005",
        title: "The newest kernel that is installed runs",
        why: "an update of the kernel mends nothing before a reboot",
        mend: "tell the watch-only side, then reboot",
        judge: Judge::Host(kernel),
    },
];

/// When one of the files whose time is asked for was last changed; nothing where there is none.
fn changed(host: &Host, path: &str) -> Result<Option<i64>, Unknown> {
    host.updates.stamps.get(path).unwrap_or(&Answer::Absent).get().map(|time| time.copied())
}

fn automatic(host: &Host) -> Judged {
    if let Some(dump) = host.printed(APT_LINE)? {
        return of_apt(host, dump);
    }
    match host.text(DNF)? {
        Some(conf) => of_dnf(host, conf),
        None => Err(Unknown::new("there is neither apt nor dnf-automatic here, and lsm knows no other")),
    }
}

fn of_apt(host: &Host, dump: &str) -> Judged {
    let mut wrong = Vec::new();
    if changed(host, APT_PROGRAM)?.is_none() {
        wrong.push("unattended-upgrades is not installed".to_owned());
    }
    for name in ["Update-Package-Lists", "Unattended-Upgrade"] {
        if !is_set(dump, name) {
            wrong.push(format!("APT::Periodic::{name} is off"));
        }
    }
    if setting(dump, "Enable") == Some("0") {
        wrong.push("APT::Periodic::Enable is off".to_owned());
    }
    for timer in TIMERS {
        if !is_wanted(host, timer)? {
            wrong.push(format!("{timer} is not enabled"));
        }
    }
    if !wrong.is_empty() {
        return Ok(Verdict::none(wrong, ""));
    }
    // The newer of both.
    let lists = changed(host, APT_LISTS[0])?.max(changed(host, APT_LISTS[1])?);
    lately(host.taken, &[("unattended-upgrades", changed(host, APT_RAN)?), ("apt's lists", lists)])
}

fn of_dnf(host: &Host, conf: &str) -> Judged {
    let timers = ["dnf-automatic.timer", "dnf-automatic-install.timer"];
    // The second installs, whatever the file says (dnf-automatic(8)).
    let applies = conf.lines().filter_map(|line| line.split_once('=')).any(|(name, value)| {
        name.trim() == "apply_updates"
            && matches!(value.trim().to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on")
    });
    for (timer, stamp, installs) in [(timers[1], DNF_RAN[1], true), (timers[0], DNF_RAN[0], applies)] {
        if installs && is_wanted(host, timer)? {
            return lately(host.taken, &[(timer, changed(host, stamp)?)]);
        }
    }
    Ok(Verdict::Fail(format!("no timer installs updates: neither {} nor {} with apply_updates", timers[1], timers[0])))
}

/// What comes of it where everything is set: each has to have been within a week.
fn lately(taken: i64, done: &[(&str, Option<i64>)]) -> Judged {
    let mut never = Vec::new();
    let mut old = Vec::new();
    for (what, when) in done {
        match when.map(|when| taken.saturating_sub(when)) {
            None => never.push(format!("{what}: not yet")),
            Some(ago) if ago < -DAY => return Err(Unknown::new(format!("{what}: that was in the future"))),
            Some(ago) if ago > RECENT => old.push(format!("{what}: {} days ago", ago / DAY)),
            Some(_) => {}
        }
    }
    Ok(match (old.is_empty(), never.is_empty()) {
        (false, _) => Verdict::none(old, ""),
        (true, false) => Verdict::Warn(few(&never)),
        (true, true) => Verdict::Pass("on, and within a week".to_owned()),
    })
}

fn is_wanted(host: &Host, unit: &str) -> Result<bool, Unknown> {
    Ok(host.updates.wanted.get()?.is_some_and(|wanted| wanted.contains(unit)))
}

/// What has apt install by itself what is there for it, in the settings `file`; nothing where the program that does is not.
pub(super) fn enabling_steps(host: &Host, file: &Path) -> Vec<Step> {
    // A timer that the operator has masked cannot be enabled.
    let is_masked = TIMERS.iter().any(|timer| host.updates.masked.contains(*timer));
    if is_masked || !matches!(changed(host, APT_PROGRAM), Ok(Some(_))) {
        return Vec::new();
    }
    let text = "// Written by lsm harden --fix.\nAPT::Periodic::Enable \"1\";\n\
        APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n";
    let timers = TIMERS.into_iter().filter(|timer| matches!(is_wanted(host, timer), Ok(false)));
    let enabled = timers.map(|timer| Step::Service {
        unit: timer.to_owned(),
        link: Path::new("/etc/systemd/system/timers.target.wants").join(timer),
        after: vec![],
        anew: true,
        with: vec![],
        program: None,
    });
    let settings = Step::Text { path: file.to_owned(), access: Access::mode(0o644), text: text.to_owned() };
    [settings].into_iter().chain(enabled).collect()
}

/// A value below APT::Periodic, as apt-config prints it: `APT::Periodic::Name "value";`. The last one holds.
fn setting<'a>(dump: &'a str, name: &str) -> Option<&'a str> {
    let of_line = |line: &'a str| {
        let value = line.strip_prefix("APT::Periodic::")?.strip_prefix(name)?.strip_prefix(" \"")?;
        value.strip_suffix("\";")
    };
    dump.lines().filter_map(of_line).next_back()
}

/// A number of days, or seconds and more with a unit, or `always`; 0 and nothing are off.
fn is_set(dump: &str, name: &str) -> bool {
    setting(dump, name)
        .is_some_and(|value| value == "always" || value.starts_with(|first| ('1'..='9').contains(&first)))
}

fn reboot(host: &Host) -> Judged {
    if host.text(REBOOT)?.is_some() {
        let mut packages: Vec<&str> = host.text(REBOOT_FOR)?.unwrap_or_default().lines().collect();
        packages.sort_unstable();
        packages.dedup();
        let by = if packages.is_empty() { String::new() } else { format!(": {}", few(&packages)) };
        return Ok(Verdict::Fail(format!("{REBOOT}{by}")));
    }
    for marker in REBOOT_MARKERS {
        if host.text(marker)?.is_some() {
            return Ok(Verdict::Pass(format!("no {REBOOT}")));
        }
    }
    Ok(Verdict::NotApplicable(format!("nothing here would leave {REBOOT}; UPD-005 compares kernels")))
}

/// What update-notifier counted is all that is cheap: to compare the lists with what is installed is apt's work.
fn pending(host: &Host) -> Judged {
    let (Some(text), Some(when)) = (host.text(NOTIFIED)?, changed(host, NOTIFIED)?) else {
        let why = "this system keeps no count of pending updates; UPD-001 tells whether they come by themselves";
        return Ok(Verdict::NotApplicable(why.to_owned()));
    };
    let age = host.taken.saturating_sub(when);
    if age > RECENT {
        return Err(Unknown::new(format!("{NOTIFIED} is {} days old", age / DAY)));
    }
    let count = counted(text).ok_or_else(|| Unknown::new(format!("{NOTIFIED} says nothing that lsm understands")))?;
    Ok(Verdict::hold(count == 0, format!("{count} security updates wait")))
}

/// How many security updates there are: `N of these updates are standard security updates.`, which is left out where there are
/// none. Those that need an account (ESM) are `additional`.
fn counted(text: &str) -> Option<u64> {
    let number = |line: &str| line.split_whitespace().next()?.parse().ok();
    let is_of_security = |line: &&str| line.contains("security update") && !line.contains("additional");
    let all = text.lines().find(|line| line.contains("can be applied immediately") || line.contains("can be updated"));
    match text.lines().filter(is_of_security).find_map(number) {
        Some(count) => Some(count),
        None => all.and_then(number).map(|_: u64| 0),
    }
}

fn kernel(host: &Host) -> Judged {
    let Some(installed) = host.updates.kernels.get()? else {
        return Ok(Verdict::NotApplicable(
            "no kernel is installed here: the one that runs is another machine's".to_owned(),
        ));
    };
    let running = host.text(RUNNING)?.ok_or_else(|| Unknown::new(format!("there is no {RUNNING}")))?.trim();
    let newer: Vec<&String> = installed.iter().filter(|version| numbers(version) > numbers(running)).collect();
    let newest = newer.into_iter().max_by_key(|version| numbers(version));
    Ok(match newest {
        Some(newest) => Verdict::Fail(format!("{running} runs, {newest} is installed")),
        None => Verdict::Pass(running.to_owned()),
    })
}

/// The numbers that a kernel's release begins with: 6.1.0-28-cloud-amd64 is 6, 1, 0, 28.
fn numbers(release: &str) -> Vec<u64> {
    release.split(['.', '-', '_', '+']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::tests::recorded;

    #[test]
    fn apts_settings_are_read_as_apt_config_prints_them() {
        let dump = "APT::Periodic \"\";\nAPT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n\
            APT::Periodic::Unattended-Upgrade \"0\";\nAPT::Periodic::Download \"always\";\n";
        for (name, on) in
            [("Update-Package-Lists", true), ("Unattended-Upgrade", false), ("Download", true), ("Un", false)]
        {
            assert_eq!(is_set(dump, name), on, "{name}");
        }
        assert_eq!(setting(dump, "Enable"), None);
    }

    #[test]
    fn what_was_done_long_ago_does_not_count() {
        const NOW: i64 = 100 * DAY;
        for (when, verdict) in [(Some(NOW - 6 * DAY), "pass"), (Some(NOW - 8 * DAY), "fail"), (None, "warn")] {
            assert_eq!(lately(NOW, &[("a", Some(NOW)), ("b", when)]).unwrap().name(), verdict, "{when:?}");
        }
        assert_eq!(lately(NOW, &[("a", None), ("b", Some(0))]).unwrap().name(), "fail");
        assert!(lately(NOW, &[("a", Some(NOW + 2 * DAY))]).is_err());
    }

    #[test]
    fn apts_lists_are_as_new_as_the_newer_stamp() {
        const NOW: i64 = 100 * DAY;
        let mut host = recorded();
        host.taken = NOW;
        let dump = "APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n";
        host.programs.insert(APT_LINE.to_owned(), Answer::Is(dump.to_owned()));
        host.updates.wanted = Answer::Is(TIMERS.map(str::to_owned).into());
        for path in [APT_PROGRAM, APT_RAN] {
            host.updates.stamps.insert(path.to_owned(), Answer::Is(NOW));
        }
        let stamp = |days: Option<i64>| days.map_or(Answer::Absent, |days| Answer::Is(NOW - days * DAY));
        // Debian has no update-notifier.
        for (apts, ubuntus, verdict) in [
            (Some(1), None, "pass"),
            (None, Some(1), "pass"),
            (Some(1), Some(30), "pass"),
            (Some(30), Some(1), "pass"),
            (Some(30), Some(30), "fail"),
            (Some(30), None, "fail"),
            (None, None, "warn"),
        ] {
            for (path, days) in APT_LISTS.into_iter().zip([apts, ubuntus]) {
                host.updates.stamps.insert(path.to_owned(), stamp(days));
            }
            assert_eq!(automatic(&host).unwrap().name(), verdict, "{apts:?} {ubuntus:?}");
        }
    }

    #[test]
    fn security_updates_are_counted_and_nothing_is_guessed() {
        for (text, count) in [
            ("\n12 updates can be applied immediately.\n5 of these updates are standard security updates.\n", Some(5)),
            ("1 update can be applied immediately.\n1 of these updates is a standard security update.\n", Some(1)),
            (
                "0 updates can be applied immediately.\n3 additional security updates can be applied with ESM.\n",
                Some(0),
            ),
            ("12 packages can be updated.\n4 updates are security updates.\n", Some(4)),
            ("", None),
            ("\u{0}garbage", None),
        ] {
            assert_eq!(counted(text), count, "{text}");
        }
    }

    #[test]
    fn kernels_are_compared_by_their_numbers() {
        for (older, newer) in [
            ("6.1.0-9-amd64", "6.1.0-28-amd64"),
            ("5.15.0-91-generic", "5.15.0-101-generic"),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.20.1.el9_4.x86_64"),
            ("0-rescue-0a1b2c", "5.14.0-1.el9.x86_64"),
            ("6.12.38+deb13-amd64", "6.12.107+deb13-amd64"),
            ("6.12.38+deb13+1-cloud-amd64", "6.12.41+deb13-amd64"),
        ] {
            assert!(numbers(older) < numbers(newer), "{older} {newer}");
        }
        assert_eq!(numbers("6.1.0-28-cloud-amd64"), numbers("6.1.0-28-amd64"));
    }
}
