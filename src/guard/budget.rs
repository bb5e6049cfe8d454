//! How much of the wallet's own coins leaves it: each transaction once, as the sum of what its signed inputs spend less what comes
//! back to the wallet. A signature holds for the amount that it was made for and for all outputs (BIP 143, BIP 341), so that
//! nothing has to be believed of what a request says of other inputs, and no fee can hide.

use super::judge::{Refusal, Rule};
use super::log::Entry;
use crate::error::{Code, Error, Result};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const BAD: Code = Code::usage("E-GUARD-040");

/// How many of the wallet's coins may be signed for within a day: what counts has to fit into the log.
const COINS: usize = 50_000;

/// How long what left counts, in milliseconds: a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// What one request takes from the wallet's coins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spend {
    /// The transaction.
    pub txid: String,
    /// The wallet's inputs that are signed, each with its amount in satoshis.
    pub signed: BTreeMap<u32, u64>,
    /// What comes back to the wallet, in satoshis.
    pub back: u64,
}

impl Spend {
    /// What leaves the wallet, in satoshis.
    pub fn leaves(&self) -> u64 {
        self.signed.values().fold(0_u64, |sum, amount| sum.saturating_add(*amount)).saturating_sub(self.back)
    }
}

/// A transaction of which something was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// When that was last, in milliseconds since 1970.
    pub at: u64,
    /// All that was signed of it.
    pub spend: Spend,
}

/// The operator's limits. What is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// What may leave the wallet by one transaction, its fee included, in satoshis.
    pub per_transaction: Option<u64>,
    /// What may leave it in any 24 hours, in satoshis.
    pub per_day: Option<u64>,
}

/// The operator's policy, as a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(default)]
    coins: Limits,
}

impl Limits {
    /// Reads the operator's policy; without a file nothing is limited.
    ///
    /// # Errors
    /// Where it is there and does not read: then nothing of the wallet's coins may leave.
    pub fn read(path: &Path) -> Result<Self> {
        if !file::is_there(path)? {
            return Ok(Self::default());
        }
        Self::parse(&file::read_text(path)?).map_err(|why| Error::new(BAD, format!("{} {why}", path.display())))
    }

    /// Reads it as text.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Policy = toml::from_str(text).map_err(|e| format!("is no policy: {}", e.message()))?;
        Ok(policy.coins)
    }
}

/// What left the wallet in the last day.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ledger {
    transactions: BTreeMap<String, Signed>,
    /// The latest time that was seen: a clock that is set back makes no day longer ago.
    now: u64,
}

impl Ledger {
    /// What the ledger would say of the transaction after `spend`.
    ///
    /// # Errors
    /// Where that is beyond a limit.
    pub fn weigh(&self, spend: &Spend, now: u64, limits: &Limits) -> Result<Signed, Refusal> {
        let now = now.max(self.now);
        let mut whole = spend.clone();
        if let Some(before) = self.transactions.get(&spend.txid) {
            // The same transaction has the same outputs; what is the wallet's own can only become more.
            for (input, amount) in &before.spend.signed {
                let known = whole.signed.entry(*input).or_insert(*amount);
                *known = (*known).max(*amount);
            }
        }
        let leaves = whole.leaves();
        if limits.per_transaction.is_some_and(|limit| leaves > limit) {
            let why = format!("{leaves} sat would leave the wallet by this transaction");
            return Err(Refusal::new(Rule::OutflowTransaction, why));
        }
        let others =
            || self.transactions.values().filter(|other| other.spend.txid != spend.txid && is_young(other, now));
        if others().map(|other| other.spend.signed.len()).sum::<usize>() + whole.signed.len() > COINS {
            return Err(Refusal::new(
                Rule::OutflowDay,
                format!("more than {COINS} coins would be signed for in a day"),
            ));
        }
        let day = others().fold(leaves, |sum, other| sum.saturating_add(other.spend.leaves()));
        // What takes nothing passes however much has left before.
        if leaves > 0 && limits.per_day.is_some_and(|limit| day > limit) {
            let why = format!("{leaves} sat would leave the wallet, {day} within a day");
            return Err(Refusal::new(Rule::OutflowDay, why));
        }
        Ok(Signed { at: now, spend: whole })
    }

    /// Takes over what the log's `entries` say.
    pub fn read(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let of_entry = entry.spend.map(|spend| Signed { at: entry.at, spend });
            entry.carried.into_iter().chain(of_entry).for_each(|signed| self.keep(signed));
        }
    }

    /// Keeps what was signed.
    pub fn keep(&mut self, signed: Signed) {
        self.now = self.now.max(signed.at);
        let now = self.now;
        self.transactions.retain(|_, other| is_young(other, now));
        self.transactions.insert(signed.spend.txid.clone(), signed);
    }

    /// All that still counts, for the first line of another file of the log.
    pub fn young(&self) -> Vec<Signed> {
        self.transactions.values().filter(|signed| is_young(signed, self.now)).cloned().collect()
    }

    /// What has left the wallet in the day before `now`, in satoshis.
    pub fn day(&self, now: u64) -> u64 {
        let now = now.max(self.now);
        let young = self.transactions.values().filter(|signed| is_young(signed, now));
        young.fold(0_u64, |sum, signed| sum.saturating_add(signed.spend.leaves()))
    }
}

fn is_young(signed: &Signed, now: u64) -> bool {
    now.saturating_sub(signed.at) < DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_transaction: Some(1_000), per_day: Some(2_500) };

    fn spend(txid: &str, signed: &[(u32, u64)], back: u64) -> Spend {
        Spend { txid: txid.to_owned(), signed: signed.iter().copied().collect(), back }
    }

    /// What is said of it, and kept where it is passed.
    fn ask(ledger: &mut Ledger, spend: &Spend, now: u64) -> &'static str {
        match ledger.weigh(spend, now, &LIMITS) {
            Ok(signed) => {
                ledger.keep(signed);
                "pass"
            }
            Err(refusal) => refusal.rule.name(),
        }
    }

    #[test]
    fn a_transaction_counts_once_with_all_of_its_inputs() {
        let mut ledger = Ledger::default();
        assert_eq!(ask(&mut ledger, &spend("a", &[(0, 600)], 0), 1), "pass");
        assert_eq!(ask(&mut ledger, &spend("a", &[(0, 600)], 0), 2), "pass", "asked again");
        assert_eq!(ledger.day(3), 600);
        assert_eq!(ask(&mut ledger, &spend("a", &[(1, 500)], 0), 3), "outflow-transaction", "one input at a time");
        assert_eq!(ask(&mut ledger, &spend("a", &[(1, 400)], 0), 3), "pass");
        assert_eq!((ledger.day(3), ledger.day(3 + DAY)), (1_000, 0));
    }

    #[test]
    fn many_small_ones_are_a_days_and_what_takes_nothing_always_passes() {
        let mut ledger = Ledger::default();
        for (txid, wanted) in [("a", "pass"), ("b", "pass"), ("c", "outflow-day")] {
            assert_eq!(ask(&mut ledger, &spend(txid, &[(0, 1_000)], 0), 1), wanted, "{txid}");
        }
        assert_eq!(ask(&mut ledger, &spend("d", &[(0, 90_000)], 90_000), 1), "pass");
        assert_eq!(ask(&mut ledger, &spend("c", &[(0, 1_000)], 0), DAY), "outflow-day");
        assert_eq!(ask(&mut ledger, &spend("c", &[(0, 1_000)], 0), DAY + 1), "pass");
        // A clock that goes back makes nothing older, and gives nothing back.
        assert_eq!(ask(&mut ledger, &spend("e", &[(0, 1_000)], 0), 0), "pass");
        assert_eq!(ask(&mut ledger, &spend("f", &[(0, 1_000)], 0), 0), "outflow-day");
    }

    #[test]
    fn no_sequence_of_requests_takes_more_than_a_days_limit() {
        // Knuth's generator (MMIX): the same sequence each time.
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..50 {
            let (mut ledger, mut passed) = (Ledger::default(), BTreeMap::<String, Spend>::new());
            for _ in 0..400 {
                let inputs = (0..=next(2)).map(|_| (u32::try_from(next(3)).unwrap(), next(1_500))).collect();
                let txid = format!("{}", next(12));
                // What comes back is the transaction's own: one number for each.
                let back = txid.parse::<u64>().unwrap() * 70;
                let asked = Spend { txid: txid.clone(), signed: inputs, back };
                if ask(&mut ledger, &asked, next(DAY / 2)) == "pass" {
                    let all = passed.entry(txid).or_insert_with(|| Spend { signed: BTreeMap::new(), ..asked.clone() });
                    for (input, amount) in asked.signed {
                        let known = all.signed.entry(input).or_insert(amount);
                        *known = (*known).max(amount);
                    }
                }
            }
            let taken: u64 = passed.values().map(Spend::leaves).sum();
            assert!(taken <= LIMITS.per_day.unwrap(), "{taken}");
            assert!(passed.values().all(|spend| spend.leaves() <= LIMITS.per_transaction.unwrap()));
        }
    }

    #[test]
    fn a_policy_that_does_not_read_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signer-guard.toml");
        assert_eq!(Limits::read(&path).unwrap(), Limits::default());
        std::fs::write(&path, "[coins]\nper-transaction = 1000\nper-day = 2500\n").unwrap();
        assert_eq!(Limits::read(&path).unwrap(), LIMITS);
        for bad in [
            "[coins]\nper-hour = 1\n",
            "[coin]\n",
            "[coins]\nper-day = -1\n",
            "per-day = 1\n",
            "[coins]\nper-day = 1.5\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Limits::read(&path).unwrap_err().code(), BAD, "{bad}");
        }
    }
}
