//! How often something of a class is signed: in any minute and in any hour.

use super::refusal::{Refusal, Rule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A minute and an hour, in seconds.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// What is counted together. What only channels' keys sign is in no class: commitments, closes and penalties do not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// SignMessage.
    Message,
    /// DeriveSharedKey with the node's identity: handshakes and onions.
    SharedKey,
    /// DeriveSharedKey with the root of revocation keys: channel openings.
    RevocationRoot,
    /// MuSig2CreateSession.
    Musig2,
    /// SignPsbt for coins of the wallet, once for each call.
    Coins,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Message, Self::SharedKey, Self::RevocationRoot, Self::Musig2, Self::Coins];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::SharedKey => "shared-key",
            Self::RevocationRoot => "revocation-root",
            Self::Musig2 => "musig2",
            Self::Coins => "coins",
        }
    }
}

/// How often something of a class may be signed. What is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// In any minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u64>,
    /// In any hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u64>,
}

/// The rates of all classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Rates {
    message: Rate,
    shared_key: Rate,
    revocation_root: Rate,
    musig2: Rate,
    coins: Rate,
}

impl Rates {
    /// That of one class.
    pub fn of(&self, class: Class) -> Rate {
        match class {
            Class::Message => self.message,
            Class::SharedKey => self.shared_key,
            Class::RevocationRoot => self.revocation_root,
            Class::Musig2 => self.musig2,
            Class::Coins => self.coins,
        }
    }
}

/// What was signed within the last hour: how much in each second of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts(BTreeMap<Class, VecDeque<(u64, u64)>>);

impl Counts {
    /// Holds one more of `class` at `now`, in milliseconds, to its rate. A second that is only partly within the time counts whole.
    ///
    /// # Errors
    /// Where it would be one too many.
    pub fn hold(&self, class: Class, now: u64, rate: Rate) -> Result<(), Refusal> {
        for (limit, seconds, name) in [(rate.per_minute, MINUTE, "minute"), (rate.per_hour, HOUR, "hour")] {
            if limit.is_some_and(|limit| self.within(class, now / 1000, seconds) >= limit) {
                let why = format!("no more calls of the class {} are answered within this {name}", class.name());
                return Err(Refusal::new(Rule::Rate, why));
            }
        }
        Ok(())
    }

    /// Counts one of `class` at `at`, in milliseconds.
    pub fn note(&mut self, class: Class, at: u64) {
        let row = self.0.entry(class).or_default();
        // A clock that was set back makes nothing older.
        let second = (at / 1000).max(row.back().map_or(0, |(last, _)| *last));
        match row.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => row.push_back((second, 1)),
        }
        while row.front().is_some_and(|(first, _)| second.saturating_sub(*first) > HOUR) {
            row.pop_front();
        }
    }

    /// The latest second in which anything was signed, in milliseconds.
    pub fn latest(&self) -> u64 {
        self.0.values().filter_map(|row| row.back()).map(|(second, _)| second * 1000).max().unwrap_or(0)
    }

    /// What was signed at a later time than `now`, in milliseconds, was signed now.
    pub fn set_clock(&mut self, now: u64) {
        let now = now / 1000;
        for row in self.0.values_mut() {
            let later: u64 =
                row.drain(row.partition_point(|(second, _)| *second < now)..).map(|(_, count)| count).sum();
            if later > 0 {
                row.push_back((now, later));
            }
        }
    }

    fn within(&self, class: Class, now: u64, seconds: u64) -> u64 {
        let row = self.0.get(&class).into_iter().flatten().rev();
        row.take_while(|(second, _)| now.saturating_sub(*second) <= seconds).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_minute: Some(3), per_hour: Some(5) };

    fn ask(counts: &mut Counts, at: u64) -> bool {
        let is_in =
            counts.hold(Class::Message, at, RATE).map_err(|refusal| assert_eq!(refusal.rule, Rule::Rate)).is_ok();
        if is_in {
            counts.note(Class::Message, at);
        }
        is_in
    }

    #[test]
    fn a_minute_and_an_hour_have_room_for_so_many_and_for_more_once_they_are_over() {
        let mut counts = Counts::default();
        let asked = [0, 10, 900, 1_000, 59_000, 61_000, 62_500, 100_000, 3_602_000].map(|at| ask(&mut counts, at));
        assert_eq!(asked, [true, true, true, false, false, true, true, false, true]);
        assert_eq!(counts.hold(Class::Musig2, 3_602_000, RATE), Ok(()), "each class by itself");
        assert_eq!(counts.hold(Class::Message, 3_602_000, Rate::default()), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_back() {
        let mut counts = Counts::default();
        assert!([500_000, 400_000, 1_000].into_iter().all(|at| ask(&mut counts, at)));
        assert!(!ask(&mut counts, 1_000) && !ask(&mut counts, 500_000));
    }

    #[test]
    fn a_clock_that_was_ahead_can_be_set_and_nothing_is_forgotten_for_it() {
        let mut counts = Counts::default();
        assert!([1_000, 9_000_000, 9_000_000].into_iter().all(|at| ask(&mut counts, at)));
        assert!(ask(&mut counts, 7_000) && !ask(&mut counts, 8_000), "they count with what was signed then");
        assert_eq!(counts.latest(), 9_000_000);
        counts.set_clock(10_000);
        assert_eq!((counts.latest(), ask(&mut counts, 10_000), ask(&mut counts, 71_000)), (10_000, false, true));
    }

    #[test]
    fn what_is_kept_does_not_grow_beyond_an_hour() {
        let mut counts = Counts::default();
        (0..20_000).for_each(|second| counts.note(Class::Coins, second * 1000));
        assert!(counts.0[&Class::Coins].len() <= 3_602);
    }
}
