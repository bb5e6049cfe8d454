//! Transactions that spend the same output: one of them takes place, and no more than that counts.

use super::*;

/// A fee of so much, for what spends this output first.
fn bump(txid: &str, first: &str, fee: u64) -> Spend {
    Spend { first: first.into(), ..spend(txid, &[(1, 90_000)], 90_000 - fee) }
}

#[test]
fn a_fee_that_is_raised_again_and_again_counts_as_its_last() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    for (number, at) in (1..=200).zip((0..).step_by(600_000)) {
        let asked = bump(&number.to_string(), "anchor:0", 5 * number);
        assert_eq!((ask(&mut ledger, &asked, at, &policy), ledger.day(at)), ("pass", (5 * number, 0)), "{number}");
    }
    let now = 200 * 600_000;
    assert_eq!(ask(&mut ledger, &bump("more", "anchor:0", 1_001), now, &policy), "outflow-transaction");
    // What excludes none of them counts besides, and the last of them with it.
    assert_eq!(ask(&mut ledger, &bump("b", "anchor:1", 1_000), now, &policy), "pass");
    assert_eq!(ask(&mut ledger, &bump("c", "anchor:2", 1), now, &policy), "outflow-hour");
    assert_eq!(ask(&mut ledger, &bump("less", "anchor:0", 3), now, &policy), "pass", "it is no more");
    assert_eq!(ledger.day(now), (2_000, 0));
    // The same of the next guard, and each counts as long as it was signed.
    let mut next = Ledger::default();
    next.take(&Entry { carried: ledger.young(), ..entry(now, Weighed::default()) });
    assert_eq!(next.day(now), (2_000, 0));
    assert_eq!(next.day(now + DAY - 600_000), (1_000 + 3, 0), "of the rivals the little one was signed last");
}

#[test]
fn small_ones_hide_no_large_one() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    for (txid, fee) in [("a", 1), ("b", 900), ("c", 1)] {
        assert_eq!(ask(&mut ledger, &bump(txid, "x:0", fee), 1, &policy), "pass", "{txid}");
    }
    for (txid, first, wanted) in [("d", "y:0", "pass"), ("e", "z:0", "outflow-hour")] {
        assert_eq!(ask(&mut ledger, &bump(txid, first, 1_000), 1, &policy), wanted, "{txid}");
    }
    assert_eq!(ledger.day(1), (1_900, 0));
}

#[test]
fn of_fundings_that_exclude_each_other_the_largest_counts() {
    let policy = policy(&format!("{TIGHT}[channels]\nper-day = 100000\n"));
    let mut ledger = Ledger::default();
    let mut open = |txid: &str, first: &str, amount: u64| {
        let asked = Spend { first: first.into(), ..paying(txid, 90_000, 90_000 - amount, &[(WITNESS_SCRIPT, amount)]) };
        let said = ask(&mut ledger, &asked, 1, &policy);
        let proved = Some((txid.to_owned(), 0));
        ledger.take(&entry(1, Weighed { proves: proved, ..Weighed::default() }));
        (said, ledger.day(1).1)
    };
    assert_eq!(open("a", "x:0", 60_000), ("pass", 60_000));
    assert_eq!(open("b", "x:0", 70_000), ("pass", 70_000));
    assert_eq!(open("c", "y:0", 40_000), ("funding-day", 70_000));
    assert_eq!(open("d", "y:0", 30_000), ("pass", 100_000));
}
