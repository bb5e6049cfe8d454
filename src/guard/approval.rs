//! What the operator lets pass by hand: one refused spend, by what it pays and not by all of its inputs, once and for a time.

use super::entry::Entry;
use super::refusal::Rule;
use super::signed::Approved;
use super::spend::Spend;
use crate::error::{Code, Error, Result};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const BAD: Code = Code::usage("E-GUARD-050");
const NONE: Code = Code::usage("E-GUARD-051");
const NOT_ONE: Code = Code::usage("E-GUARD-052");

/// How large the file may be.
const LIMIT: u64 = 1 << 20;

/// The rules that an approval is stronger than: the operator's own limits, and what keeps count of them.
const LIMITS: [Rule; 10] = [
    Rule::OutflowTransaction,
    Rule::OutflowHour,
    Rule::OutflowDay,
    Rule::FundingTransaction,
    Rule::FundingDay,
    Rule::FeeCeiling,
    Rule::FeeRate,
    Rule::QuietHours,
    Rule::Rate,
    Rule::LedgerFull,
];

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The entry of the log that was refused.
    pub entry: u64,
    /// When it was approved, in milliseconds since 1970.
    pub at: u64,
    /// Until when it holds.
    pub until: u64,
    /// To which scripts, in hex, how much is paid, in satoshis: exactly that.
    pub pays: BTreeMap<String, u64>,
    /// Where nobody is paid, the output that its first input spends, which a retry has as well: nothing else tells it from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// What more may leave the wallet at most, in satoshis.
    pub fee: u64,
}

impl Approval {
    /// Of what the entry `id` asked for.
    ///
    /// # Errors
    /// Where there is no such entry, or what it asked for was not refused by one of the operator's limits, or pays too many to name.
    pub fn of(entries: &[Entry], id: u64, at: u64, until: u64, fee: u64) -> Result<Self> {
        let entry = entries.iter().find(|entry| entry.id == id);
        let entry = entry.ok_or_else(|| Error::new(NONE, format!("the guard's log has no entry {id}")))?;
        let is_limit = LIMITS.iter().any(|rule| Some(rule.name()) == entry.rule.as_deref());
        let asked = entry.asked.as_ref().filter(|_| is_limit);
        let asked = asked.ok_or_else(|| {
            Error::new(NOT_ONE, format!("entry {id} is no spend that one of the operator's limits refused"))
                .hint("what another rule refuses can not be approved")
        })?;
        if asked.rest > 0 {
            return Err(Error::new(NOT_ONE, format!("entry {id} pays to more outputs than the log names")));
        }
        let pays = payments(asked);
        let first = pays.is_empty().then(|| asked.first.clone());
        Ok(Self { entry: id, at, until, pays, first, fee })
    }

    /// True where `whole` pays what was approved, and leaves no more for its fee.
    pub fn covers(&self, whole: &Spend, now: u64) -> bool {
        let most = self.pays.values().fold(self.fee, |sum, amount| sum.saturating_add(*amount));
        let is_in_time = (self.at..self.until).contains(&now);
        let is_it = self.first.as_ref().is_none_or(|first| *first == whole.first);
        is_in_time && is_it && whole.rest == 0 && payments(whole) == self.pays && whole.leaves() <= most
    }

    /// What it is called in the log.
    pub fn name(&self) -> Approved {
        Approved { entry: self.entry, at: self.at }
    }
}

/// How much goes to each script.
fn payments(spend: &Spend) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::<String, u64>::new();
    for paid in &spend.paid {
        let sum = all.entry(paid.script.clone()).or_default();
        *sum = sum.saturating_add(paid.amount);
    }
    all
}

/// Reads the approvals at `path`; none where nothing is there.
///
/// # Errors
/// Where they do not read.
pub fn read(path: &Path) -> Result<Vec<Approval>> {
    if !file::is_there(path)? {
        return Ok(vec![]);
    }
    let bad = |e| Error::new(BAD, format!("{} does not read", path.display())).because(e);
    serde_json::from_slice(&file::read_plain(path, LIMIT)?).map_err(bad)
}

/// The approvals as a file.
pub fn render(approvals: &[Approval]) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(approvals).expect("numbers and strings serialise");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::spend::Paid;
    use serde_json::json;

    fn spend(pays: &[(&str, u64)], leaves: u64) -> Spend {
        let paid = (0..).zip(pays).map(|(output, (script, amount))| Paid {
            output,
            script: (*script).into(),
            amount: *amount,
        });
        Spend {
            txid: "a".into(),
            inputs: 1,
            first: "a:0".into(),
            signed: [(0, leaves + 70)].into(),
            swept: BTreeMap::new(),
            back: 70,
            paid: paid.collect(),
            rest: 0,
            vsize: 100,
        }
    }

    fn approval() -> Approval {
        let pays = [("aa".to_owned(), 500), ("bb".to_owned(), 20)].into();
        Approval { entry: 7, at: 100, until: 200, pays, first: None, fee: 30 }
    }

    #[test]
    fn it_covers_the_same_payments_by_whatever_inputs_and_nothing_else() {
        let asked = approval();
        let covers = |spend: &Spend| asked.covers(spend, 150);
        assert!(covers(&spend(&[("aa", 500), ("bb", 20)], 550)));
        assert!(covers(&spend(&[("bb", 20), ("aa", 300), ("aa", 200)], 521)), "in whatever order");
        assert!(!covers(&spend(&[("aa", 500), ("bb", 20)], 551)), "a larger fee");
        for other in [
            &[("aa", 500)][..],
            &[("aa", 500), ("bb", 21)],
            &[("aa", 500), ("cc", 20)],
            &[("aa", 500), ("bb", 20), ("cc", 0)],
        ] {
            assert!(!covers(&spend(other, 520)), "{other:?}");
        }
        assert!(!covers(&Spend { rest: 1, ..spend(&[("aa", 500), ("bb", 20)], 521) }));
        let at = |now| asked.covers(&spend(&[("aa", 500), ("bb", 20)], 521), now);
        assert_eq!([99, 100, 199, 200].map(at), [false, true, true, false]);
    }

    /// The fee by which a closing transaction is made to confirm: all that is spent comes back but that.
    #[test]
    fn what_pays_nobody_is_told_by_what_it_spends_first() {
        let refused = json!({
            "id": 9, "at": 1, "call": "/a.B/C", "message": "", "verdict": "refused", "rule": "outflow-day",
            "asked": spend(&[], 20), "prior": "",
        });
        let approval = Approval::of(&[serde_json::from_value(refused).unwrap()], 9, 100, 200, 30).unwrap();
        assert!(approval.covers(&spend(&[], 30), 150) && !approval.covers(&spend(&[], 31), 150));
        assert!(!approval.covers(&Spend { first: "b:0".into(), ..spend(&[], 20) }, 150), "another transaction");
        assert!(!approval.covers(&spend(&[("aa", 5)], 20), 150));
    }

    #[test]
    fn they_are_read_as_they_were_written_and_nothing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("approvals.json");
        assert_eq!(read(&path).unwrap(), []);
        std::fs::write(&path, render(&[approval()])).unwrap();
        assert_eq!(read(&path).unwrap(), [approval()]);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap_err().code(), BAD);
    }
}
