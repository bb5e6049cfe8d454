//! Until when a system gets security updates, from a table that lsm brings along.

use super::{DAY, Judged, Verdict};
use crate::facts::audit::{Host, Unknown};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use time::Date;
use time::macros::format_description;

/// What the system is (os-release(5)).
pub(super) const OS_RELEASE: &str = "/etc/os-release";
/// So many seconds before its end it is time to move.
const SOON: i64 = 90 * DAY;

/// The last day of each version, by system.
static ENDS: LazyLock<BTreeMap<String, BTreeMap<String, String>>> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../policies/systems.toml")).expect("the shipped table is tested")
});

pub(super) fn judge(host: &Host) -> Judged {
    let text = host.text(OS_RELEASE)?.ok_or_else(|| Unknown::new(format!("there is no {OS_RELEASE}")))?;
    let system = field(text, "ID").unwrap_or("linux");
    let Some(version) = field(text, "VERSION_ID") else {
        return Ok(Verdict::NotApplicable(format!("{system} without a numbered release has no end")));
    };
    let day = last_day(system, version)
        .ok_or_else(|| Unknown::new(format!("until when {system} {version} gets updates, this lsm does not know")))?;
    Ok(at(host.taken, day, &format!("{system} {version}: until {day}")))
}

/// The last day counts in full.
fn at(now: i64, day: Date, evidence: &str) -> Verdict {
    let left = (day.midnight().assume_utc().unix_timestamp() + DAY).saturating_sub(now);
    match left {
        ..=0 => Verdict::Fail(evidence.to_owned()),
        1..=SOON => Verdict::Warn(evidence.to_owned()),
        _ => Verdict::Pass(evidence.to_owned()),
    }
}

/// Of 9.4 the end of 9 counts where 9.4 has none of its own.
fn last_day(system: &str, version: &str) -> Option<Date> {
    let versions = ENDS.get(system)?;
    let major = version.split('.').next()?;
    let day = versions.get(version).or_else(|| versions.get(major))?;
    Date::parse(day, format_description!("[year]-[month]-[day]")).ok()
}

/// A value of os-release, without its quotes.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn every_day_of_the_table_is_one() {
        for (system, versions) in ENDS.iter() {
            for version in versions.keys() {
                assert!(last_day(system, version).is_some(), "{system} {version}");
            }
        }
    }

    #[test]
    fn a_system_is_found_by_its_name_and_version() {
        let text = "NAME=\"x\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE='y'\n";
        assert_eq!(
            (field(text, "ID"), field(text, "VERSION_ID"), field(text, "LOGO")),
            (Some("debian"), Some("12"), None)
        );
        assert_eq!(last_day("rocky", "9.4"), last_day("rocky", "9"));
        assert_eq!(last_day("ubuntu", "24.04"), Some(date!(2029 - 05 - 31)));
        assert_eq!((last_day("debian", "99"), last_day("nixos", "24.05")), (None, None));
    }

    #[test]
    fn the_last_day_counts_in_full() {
        let day = date!(2026 - 08 - 31);
        let midnight = date!(2026 - 09 - 01).midnight().assume_utc().unix_timestamp();
        for (now, verdict) in [
            (midnight, "fail"),
            (midnight - 1, "warn"),
            (midnight - SOON - 1, "pass"),
            (i64::MAX, "fail"),
            (i64::MIN, "pass"),
        ] {
            assert_eq!(at(now, day, "").name(), verdict, "{now}");
        }
    }
}
