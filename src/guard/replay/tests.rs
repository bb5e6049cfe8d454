//! A day of a guard, replayed.

use super::*;
use crate::guard::log::{self, Heard, Log};
use crate::guard::rates::Class;
use crate::guard::refusal::Rule;
use crate::guard::spend::{Paid, Spend};
use crate::host::file;
use std::path::Path;

const CALL: &str = "/walletrpc.WalletKit/SignPsbt";

fn spend(txid: &str, amount: u64) -> Judged {
    let paid = vec![Paid { output: 0, script: "0014".to_owned() + &"07".repeat(20), amount: amount - 100 }];
    let (txid, first, signed, swept) = (txid.into(), format!("{txid}:0"), [(0, amount)].into(), [].into());
    Judged {
        spend: Some(Spend { txid, inputs: 1, first, signed, swept, back: 0, paid, rest: 0, vsize: 150 }),
        ..Judged::default()
    }
}

/// What a guard without any limit writes of these requests, and of one while it is frozen.
fn record(path: &Path, asked: &[(u64, Judged)]) -> Vec<Entry> {
    let mut log = Log::open(path).unwrap();
    let policy = Policy::default();
    for (at, judged) in asked {
        let limits = Limits { policy: Ok(&policy), rates: policy.rates, approvals: &Vec::new };
        let weighed = log.ledger().weigh(judged, *at, &limits).unwrap();
        let (verdict, asked) = (Verdict::Passed, judged.spend.clone());
        log.write(&Heard { asked, weighed, ..Heard::new(*at, CALL, verdict) }).unwrap();
    }
    let frozen = Refusal::new(Rule::Frozen, "frozen");
    log.write(&Heard { refusal: Some(&frozen), ..Heard::new(9_000, CALL, Verdict::Refused) }).unwrap();
    let read = |path: &Path, limit| file::is_there(path)?.then(|| file::read_plain(path, limit)).transpose();
    log::verify(path, read).unwrap().entries
}

#[test]
fn another_policy_says_of_each_entry_what_it_would_have_said() {
    let folder = tempfile::tempdir().unwrap();
    let message = || Judged { class: Some(Class::Message), ..Judged::default() };
    let asked = [
        (1_000, spend("a", 600)),
        (2_000, message()),
        (3_000, spend("b", 5_000)),
        (4_000, message()),
        (5_000, spend("a", 600)),
        (6_000, spend("c", 600)),
    ];
    let entries = record(&folder.path().join("log"), &asked);
    let tried = |text: &str, since| {
        let tried = replay(&entries, since, &Policy::parse(text).unwrap());
        let refused = tried.refused.iter().map(|(entry, refusal)| (entry.id, refusal.rule.name())).collect::<Vec<_>>();
        (tried.judged, tried.others, refused)
    };
    assert_eq!(tried("", 0), (6, 1, vec![]));
    assert_eq!(tried("[coins]\nper-transaction = 1000\n", 0), (6, 1, vec![(3, "outflow-transaction")]));
    // What it would refuse does not count on.
    let day = "[coins]\nper-transaction = 1000\nper-day = 1000\n[rates.message]\nper-minute = 1\n";
    assert_eq!(tried(day, 0), (6, 1, vec![(3, "outflow-transaction"), (4, "rate"), (6, "outflow-day")]));
    // What came before counts as it was counted.
    assert_eq!(tried("[coins]\nper-day = 6199\n", 5_500), (1, 1, vec![(6, "outflow-day")]));
    assert_eq!(tried("[coins]\nper-day = 6200\n", 5_500), (1, 1, vec![]));
}

#[test]
fn what_was_refused_and_would_pass_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = record(&folder.path().join("log"), &[(1_000, spend("a", 600))]);
    let rule = Some("outflow-day".to_owned());
    entries[0] = Entry { verdict: Verdict::Refused, class: None, counted: None, rule, ..entries[0].clone() };
    assert_eq!(replay(&entries, 0, &Policy::default()).passed_now, 1);
}

/// What a file carries on is what the policy of then has let pass: it counts where the file before is gone, and nowhere else.
#[test]
fn what_would_be_refused_does_not_count_on_in_the_next_file_either() {
    let folder = tempfile::tempdir().unwrap();
    let asked =
        [(1_000, spend("a", 600)), (2_000, spend("b", 5_000)), (3_000, spend("c", 300)), (4_000, spend("d", 100))];
    let mut entries = record(&folder.path().join("log"), &asked);
    entries[2].carried = entries[..2].iter().filter_map(|entry| entry.counted.clone()).collect();
    let policy = Policy::parse("[coins]\nper-transaction = 1000\nper-day = 1000\n").unwrap();
    let refused =
        |entries: &[Entry]| replay(entries, 0, &policy).refused.iter().map(|(entry, _)| entry.id).collect::<Vec<_>>();
    assert_eq!(refused(&entries), [2]);
    assert_eq!(refused(&entries[2..]), [3, 4]);
}
