//! While the operator has frozen the signer: since when, and what is at stake meanwhile.

use super::clock::in_words;
use crate::host::file;
use std::path::Path;

/// What is at stake while nothing is signed: nobody else's time stands still.
pub const AT_STAKE: [&str; 5] = [
    "lnd can close no channel, and agree to no close; a peer that waits in vain closes by force",
    "it can claim no HTLC on the chain: what it is owed goes back to the payer once it times out, and what it has passed on can be lost",
    "it can take no penalty: a peer who publishes an old state keeps what that gives him, once his delay is over",
    "all these deadlines run on, counted in blocks: thaw before the shortest of them is over",
    "what it is refused it does not ask for again by itself: after the thaw restart the watch-only lnd",
];

/// What to do once something is no longer refused. A refusal is no lost connection to lnd: it goes on running, and tries the penalty
/// (its breach_arbitrator.go) or the sweep (fee_bumper.go) no more until it begins anew.
pub const AFTER: &str =
    "restart the watch-only lnd: what it was refused, a penalty or a sweep too, it asks for again only when it starts";

/// The same in a few words.
pub const IN_SHORT: &str = "no channel is closed, no HTLC claimed, no penalty taken, and their deadlines run on";

/// A signer that is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Since when, in milliseconds since 1970, where that can be told.
    pub since: Option<u64>,
}

impl Frozen {
    /// Whether `flag` says so.
    pub fn look(flag: &Path) -> Option<Self> {
        let at = || u64::try_from(file::modified(flag)?.unix_timestamp_nanos() / 1_000_000).ok();
        super::frozen(flag).then(|| Self { since: at() })
    }

    /// For how many seconds.
    pub fn seconds(&self, now: u64) -> Option<u64> {
        self.since.map(|since| now.saturating_sub(since) / 1000)
    }

    /// Since when, and for how long.
    pub fn describe(&self, now: u64) -> String {
        match (self.since, self.seconds(now)) {
            (Some(since), Some(seconds)) => format!("since {}, for {seconds} s", in_words(since / 1000 * 1000)),
            _ => "nobody knows since when".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_since_when_it_is_frozen() {
        let folder = tempfile::tempdir().unwrap();
        let flag = folder.path().join("frozen");
        assert_eq!(Frozen::look(&flag), None);
        std::fs::write(&flag, b"").unwrap();
        let frozen = Frozen::look(&flag).unwrap();
        assert!(frozen.seconds(super::super::now() + 90_500).is_some_and(|seconds| (90..120).contains(&seconds)));
        let frozen = Frozen { since: Some(1_700_000_000_999) };
        assert_eq!(frozen.describe(1_700_000_060_999), "since 2023-11-14T22:13:20Z, for 60 s");
    }
}
