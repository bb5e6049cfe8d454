//! What host was judged, in a few words: a report without that is nobody's.

use crate::facts::audit::{Answer, Host, Needs};
use time::{Date, OffsetDateTime};

const SYSTEM: &str = "/etc/os-release";
const NAME: &str = "/proc/sys/kernel/hostname";
const KERNEL: &str = "/proc/sys/kernel/osrelease";

pub(super) const NEEDS: Needs = Needs { texts: &[SYSTEM, NAME, KERNEL], programs: &[] };

/// The host that was judged.
#[derive(Debug, Clone)]
pub struct About {
    /// How it calls itself.
    pub name: String,
    /// Its system, as os-release(5) names it.
    pub system: String,
    /// Its kernel's release.
    pub kernel: String,
    /// It was read by root.
    pub root: bool,
    /// The day on which it was read, in UTC.
    pub day: Date,
    /// Each lnd on it: what it is called, and what is known of it.
    pub signers: Vec<(String, String)>,
}

impl About {
    /// What `host` tells of itself.
    pub fn new(host: &Host) -> Self {
        let line = |path| host.text(path).ok().flatten().map_or("unknown", str::trim);
        let shown = |text: &str| crate::error::plain(text);
        let system = host.text(SYSTEM).ok().flatten().and_then(pretty_name).unwrap_or("an unknown system");
        let signers = host.signers.iter().map(|signer| {
            let release = match &signer.spec {
                Answer::Is(spec) => format!("lnd {} on {}, installed by lsm", spec.release, spec.network),
                Answer::Absent => "not installed by lsm".to_owned(),
                Answer::Unknown(why) => why.clone(),
            };
            let user = signer.user.as_deref().unwrap_or("an unnamed user");
            let folder = signer.folder.as_ref().map(|folder| format!(", in {}", folder.display())).unwrap_or_default();
            (shown(&signer.name), shown(&format!("{release}; as {user}{folder}")))
        });
        Self {
            name: shown(line(NAME)),
            system: shown(system),
            kernel: shown(line(KERNEL)),
            root: host.root,
            day: day(host.taken),
            signers: signers.collect(),
        }
    }
}

/// The day in UTC of a time in seconds since 1970. A time that no calendar has is later than every day: what expires
/// has expired.
pub(super) fn day(seconds: i64) -> Date {
    OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MAX, OffsetDateTime::date)
}

fn pretty_name(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|value| value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_host_is_named_by_what_it_says_of_itself() {
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), Some("Debian 12"));
        assert_eq!(pretty_name("NAME=x\n"), None);
        assert_eq!(day(1_767_225_599), date!(2025 - 12 - 31));
        assert_eq!((day(i64::MAX), day(i64::MIN)), (Date::MAX, Date::MAX));
    }
}
