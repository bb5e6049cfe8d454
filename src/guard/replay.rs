//! Another policy, tried on what was asked before: the log holds what a limit is held to.

use super::approval::Approval;
use super::budget::{Ledger, Limits};
use super::entry::{Entry, Verdict};
use super::judge::Judged;
use super::policy::Policy;
use super::refusal::Refusal;

/// What came of it.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How many entries the policy was tried on.
    pub judged: usize,
    /// How many it says nothing of: what is no matter of limits.
    pub others: usize,
    /// The entries that it would refuse, and why.
    pub refused: Vec<(Entry, Refusal)>,
    /// How many it would pass that were refused by a limit, or would have been.
    pub passed_now: usize,
}

/// Asks all of `entries` again, in their order and at their times, from `since` on: what came before counts as it was counted.
/// What was refused and would be passed now counts from then on.
pub fn replay(entries: &[Entry], since: u64, policy: &Policy) -> Replayed {
    let mut ledger = Ledger::default();
    let mut replayed = Replayed::default();
    let no_approvals = Vec::<Approval>::new;
    let limits = Limits { policy: Ok(policy), rates: policy.rates, approvals: &no_approvals };
    // What later files carry on is among what is asked for here.
    ledger.carry(entries.first().map_or(&[], |first| &first.carried));
    for entry in entries {
        let entry = &Entry { carried: vec![], ..entry.clone() };
        if entry.at < since {
            ledger.take(entry);
            continue;
        }
        if entry.asked.is_none() && entry.class.is_none() {
            replayed.others += 1;
            ledger.take(&Entry { counted: None, ..entry.clone() });
            continue;
        }
        replayed.judged += 1;
        // The class of a spend is said when it is weighed.
        let class = entry.class.filter(|_| entry.asked.is_none());
        let judged = Judged { class, spend: entry.asked.clone(), fundings: vec![] };
        match ledger.weigh(&judged, entry.at, &limits) {
            Ok(weighed) => {
                replayed.passed_now += usize::from(entry.verdict != Verdict::Passed);
                let (class, counted) = (weighed.class, weighed.signed);
                ledger.take(&Entry { verdict: Verdict::Passed, class, counted, ..entry.clone() });
            }
            Err(refusal) => replayed.refused.push((entry.clone(), refusal)),
        }
    }
    replayed
}

#[cfg(test)]
mod tests;
