//! What is counted, and as what; and that no sequence of requests takes more than the limits say.

mod remembered;
mod rivals;

use super::*;
use crate::guard::policy::Policy;
use std::ops::Range;

const TIGHT: &str = "[coins]\nper-transaction = 1000\nper-hour = 2000\nper-day = 2500\n";
/// Scripts of a stranger, of somebody who may be paid freely, and such as a channel's funding has.
const STRANGER: &str = "00140707070707070707070707070707070707070707";
const FREE: &str = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
const WITNESS_SCRIPT: &str = "00200909090909090909090909090909090909090909090909090909090909090909";

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

/// One of FREE's address, which is that of the generator of secp256k1.
fn with_free(text: &str) -> Policy {
    policy(&format!("{text}[[free]]\naddress = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"\n"))
}

fn spend(txid: &str, signed: &[(u32, u64)], back: u64) -> Spend {
    let signed: BTreeMap<u32, u64> = signed.iter().copied().collect();
    Spend {
        txid: txid.to_owned(),
        inputs: signed.len(),
        first: format!("{txid}:0"),
        signed,
        swept: BTreeMap::new(),
        back,
        paid: vec![],
        rest: 0,
        vsize: 100,
    }
}

fn paying(txid: &str, amount: u64, back: u64, paid: &[(&str, u64)]) -> Spend {
    let paid =
        (0..).zip(paid).map(|(output, (script, amount))| Paid { output, script: (*script).into(), amount: *amount });
    Spend { paid: paid.collect(), ..spend(txid, &[(0, amount)], back) }
}

/// A sweep of these channels' outputs.
fn sweep(txid: &str, swept: &[(u32, u64)], back: u64) -> Spend {
    Spend {
        inputs: swept.len(),
        swept: swept.iter().copied().collect(),
        signed: BTreeMap::new(),
        ..spend(txid, &[], back)
    }
}

/// What is said of it, and kept where it is passed.
fn ask_with(ledger: &mut Ledger, spend: &Spend, now: u64, policy: &Policy, approvals: &[Approval]) -> &'static str {
    let judged = Judged { spend: Some(spend.clone()), ..Judged::default() };
    let approvals = || approvals.to_vec();
    match ledger.weigh(&judged, now, &Limits { policy: Ok(policy), rates: policy.rates, approvals: &approvals }) {
        Ok(weighed) => {
            ledger.take(&entry(now, weighed));
            "pass"
        }
        Err(refusal) => refusal.rule.name(),
    }
}

fn ask(ledger: &mut Ledger, spend: &Spend, now: u64, policy: &Policy) -> &'static str {
    ask_with(ledger, spend, now, policy, &[])
}

/// The log's entry of a call that was passed.
fn entry(at: u64, weighed: Weighed) -> Entry {
    Entry {
        id: 1,
        at,
        call: "/a.B/C".into(),
        message: String::new(),
        verdict: Verdict::Passed,
        rule: None,
        why: None,
        class: weighed.class,
        asked: None,
        counted: weighed.signed,
        proves: weighed.proves,
        policy: None,
        carried: vec![],
        prior: String::new(),
    }
}

/// One of so much to a stranger.
fn approval(holds: Range<u64>, amount: u64) -> Approval {
    let pays = [(STRANGER.into(), amount)].into();
    Approval { entry: 9, at: holds.start, until: holds.end, pays, first: None, fee: 300 }
}

#[test]
fn a_transaction_counts_once_with_all_of_its_inputs() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    assert_eq!(ask(&mut ledger, &spend("a", &[(0, 600)], 0), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &spend("a", &[(0, 600)], 0), 2, &policy), "pass", "asked again");
    assert_eq!(ledger.day(3), (600, 0));
    assert_eq!(ask(&mut ledger, &spend("a", &[(1, 500)], 0), 3, &policy), "outflow-transaction", "one input at a time");
    assert_eq!(ask(&mut ledger, &spend("a", &[(1, 400)], 0), 3, &policy), "pass");
    assert_eq!((ledger.day(3), ledger.day(3 + DAY)), ((1_000, 0), (0, 0)));
}

#[test]
fn many_small_ones_are_an_hours_and_a_days_and_what_takes_nothing_always_passes() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    for (txid, wanted) in [("a", "pass"), ("b", "pass"), ("c", "outflow-hour")] {
        assert_eq!(ask(&mut ledger, &spend(txid, &[(0, 1_000)], 0), 1, &policy), wanted, "{txid}");
    }
    assert_eq!(ask(&mut ledger, &spend("c", &[(0, 1_000)], 0), HOUR, &policy), "outflow-hour");
    assert_eq!(ask(&mut ledger, &spend("c", &[(0, 1_000)], 0), HOUR + 1, &policy), "outflow-day");
    assert_eq!(ask(&mut ledger, &spend("d", &[(0, 90_000)], 90_000), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &spend("c", &[(0, 1_000)], 0), DAY + 1, &policy), "pass");
    // A clock that goes back makes nothing older, and gives nothing back.
    assert_eq!(ask(&mut ledger, &spend("e", &[(0, 1_000)], 0), 0, &policy), "pass");
    assert_eq!(ask(&mut ledger, &spend("f", &[(0, 1_000)], 0), 0, &policy), "outflow-hour");
}

/// What comes back by a transaction is set against all of its inputs: they add up, however long apart they are asked for.
#[test]
fn inputs_that_are_asked_for_on_other_days_add_up() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let piece = |input| Spend { inputs: 2, signed: [(input, 500_000)].into(), ..spend("a", &[], 500_000) };
    assert_eq!(ask(&mut ledger, &piece(0), 1, &policy), "pass", "all of it comes back");
    for day in 1..80 {
        assert_eq!(ask(&mut ledger, &spend(&format!("{day}"), &[(0, 70)], 70), day * DAY, &policy), "pass");
    }
    assert_eq!(ask(&mut ledger, &piece(1), 80 * DAY, &policy), "outflow-transaction");
    // Neither is one forgotten that has a coin of the wallet's, for sweeps that nobody asked for.
    let mixed = |coin| Spend { inputs: 3, signed: [(coin, 500)].into(), ..sweep("b", &[(0, 4)], 502) };
    assert_eq!(ask(&mut ledger, &mixed(1), 80 * DAY, &policy), "pass");
    let inputs: Vec<(u32, u64)> = (0..1_000).map(|input| (input, 1_000)).collect();
    for number in 0..60 {
        let flood = sweep(&format!("flood {number}"), &inputs, 900_000);
        assert_eq!(ask(&mut ledger, &flood, 80 * DAY, &policy), "pass");
    }
    let refused = ask(&mut ledger, &Spend { signed: [(2, 5_000)].into(), ..mixed(1) }, 80 * DAY, &policy);
    assert_eq!(refused, "outflow-transaction");
}

#[test]
fn who_may_be_paid_freely_takes_nothing_but_the_fee() {
    let (mut ledger, policy) = (Ledger::default(), with_free(TIGHT));
    assert_eq!(ask(&mut ledger, &paying("a", 90_000, 0, &[(FREE, 89_500)]), 1, &policy), "pass");
    assert_eq!(ledger.day(1), (500, 0));
    let both = paying("b", 90_000, 0, &[(FREE, 80_000), (STRANGER, 9_900)]);
    assert_eq!(ask(&mut ledger, &both, 1, &policy), "outflow-transaction");
    // One input at a time it is no other.
    let half = |input| Spend { inputs: 2, signed: [(input, 45_000)].into(), ..both.clone() };
    assert_eq!(ask(&mut ledger, &half(0), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &half(1), 1, &policy), "outflow-transaction");
    let rest = Spend { rest: 89_500, ..spend("c", &[(0, 90_000)], 0) };
    assert_eq!(ask(&mut ledger, &rest, 1, &policy), "outflow-transaction", "what is not told apart is nobody's");
}

#[test]
fn a_fee_has_a_ceiling_of_its_own_and_one_for_each_byte() {
    let mut ledger = Ledger::default();
    let policy = with_free("[fees]\nper-transaction = 300\nper-vbyte = 2\n");
    let mut ask = |txid: &str, fee: u64, to: &str, vsize| {
        let asked = Spend { vsize, ..paying(txid, 50_000 + fee, 0, &[(to, 50_000)]) };
        ask(&mut ledger, &asked, 1, &policy)
    };
    assert_eq!(ask("a", 300, STRANGER, 150), "pass");
    assert_eq!(ask("b", 301, STRANGER, 1000), "fee-ceiling");
    assert_eq!(ask("c", 301, FREE, 1000), "fee-ceiling");
    assert_eq!((ask("d", 200, FREE, 100), ask("e", 201, FREE, 100)), ("pass", "fee-rate"));
}

/// 05:30 and 22:30 of some day.
const MORNING: u64 = 330 * 60_000;
const NIGHT: u64 = 1350 * 60_000;

#[test]
fn in_quiet_hours_no_more_leaves_than_a_fee() {
    let policy = with_free("[coins]\nquiet-hours = [\"22:00-05:00\"]\n[fees]\nper-transaction = 300\n");
    let mut ledger = Ledger::default();
    let pay = |txid: &str, to| paying(txid, 50_300, 0, &[(to, 50_000)]);
    assert_eq!(ask(&mut ledger, &pay("a", STRANGER), MORNING, &policy), "pass");
    assert_eq!(ask(&mut ledger, &pay("b", STRANGER), NIGHT, &policy), "quiet-hours");
    assert_eq!(ask(&mut ledger, &pay("c", FREE), NIGHT, &policy), "pass");
    assert_eq!(ask(&mut ledger, &spend("d", &[(0, 301)], 0), NIGHT, &policy), "fee-ceiling");
    assert_eq!(ask(&mut ledger, &sweep("e", &[(0, 500)], 400), NIGHT, &policy), "pass");
    // Whatever time it was by a clock that was ahead.
    assert_eq!(ask(&mut ledger, &pay("f", FREE), DAY + MORNING, &policy), "pass");
    assert_eq!(ask(&mut ledger, &pay("g", STRANGER), NIGHT, &policy), "quiet-hours");
    assert_eq!(ask(&mut ledger, &pay("h", FREE), DAY + NIGHT, &policy), "pass");
    assert_eq!(ask(&mut ledger, &pay("i", STRANGER), MORNING, &policy), "pass");
}

#[test]
fn what_comes_back_from_channels_always_passes_and_what_does_not_is_counted() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    for (txid, wanted) in [("a", "pass"), ("b", "pass"), ("c", "outflow-hour")] {
        assert_eq!(ask(&mut ledger, &spend(txid, &[(0, 1_000)], 0), 1, &policy), wanted);
    }
    // Nothing is left for today, and still:
    assert_eq!(ask(&mut ledger, &sweep("d", &[(0, 70_000)], 35_000), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &sweep("d", &[(1, 70_000)], 35_000), 1, &policy), "pass", "a penalty's fee may be any");
    let mut stolen = sweep("f", &[(0, 70_000)], 60_000);
    stolen.paid = vec![Paid { output: 0, script: STRANGER.into(), amount: 9_000 }];
    assert_eq!(ask(&mut ledger, &stolen, 1, &policy), "outflow-transaction");
    // A wallet's coin that pays for the sweep may not be more than what comes back.
    let with_coin = Spend { signed: [(1, 30_000)].into(), ..sweep("g", &[(0, 70_000)], 65_000) };
    assert_eq!(ask(&mut ledger, &with_coin, 1, &policy), "pass");
    for (txid, back, wanted) in [("k", 65_000, "pass"), ("l", 64_999, "outflow-transaction")] {
        let half = Spend { signed: [(1, 30_000)].into(), ..sweep(txid, &[(0, 70_000)], back) };
        assert_eq!(ask(&mut ledger, &half, 1, &policy), wanted, "{back}");
    }
    let no_policy = Limits { policy: Err("it does not read"), rates: Rates::default(), approvals: &Vec::new };
    let weigh = |spend| Judged { spend: Some(spend), ..Judged::default() };
    assert!(ledger.weigh(&weigh(sweep("h", &[(0, 70_000)], 69_000)), 1, &no_policy).is_ok());
    let refused = ledger.weigh(&weigh(spend("i", &[(0, 10)], 10)), 1, &no_policy).unwrap_err();
    assert_eq!(refused.rule, Rule::NoPolicy);
}

#[test]
fn a_funding_has_a_budget_apart_and_one_that_is_not_proved_keeps_the_next_from_it() {
    let policy = policy(&format!("{TIGHT}[channels]\nper-transaction = 60000\nper-day = 100000\n"));
    let mut ledger = Ledger::default();
    let open = |txid: &str, amount: u64| paying(txid, 200_000, 199_800 - amount, &[(WITNESS_SCRIPT, amount)]);
    assert_eq!(ask(&mut ledger, &open("a", 60_001), 1, &policy), "funding-transaction");
    assert_eq!(ask(&mut ledger, &open("a", 50_000), 1, &policy), "pass");
    assert_eq!(ledger.day(1), (200, 50_000));
    assert_eq!(ask(&mut ledger, &open("b", 50_000), 1, &policy), "outflow-transaction", "the first is not proved");
    assert_eq!(ask(&mut ledger, &open("a", 50_000), 1, &policy), "pass", "the same again");
    let prove = |ledger: &mut Ledger, txid: &str| {
        let judged = Judged { fundings: vec![(txid.to_owned(), 0)], ..Judged::default() };
        let limits = Limits { policy: Ok(&policy), rates: Rates::default(), approvals: &Vec::new };
        let weighed = ledger.weigh(&judged, 2, &limits).unwrap();
        ledger.take(&entry(2, weighed.clone()));
        weighed.proves.is_some()
    };
    assert!(prove(&mut ledger, "b"), "before it is paid");
    assert!(prove(&mut ledger, "a") && !prove(&mut ledger, "a"), "once is enough");
    assert_eq!(ask(&mut ledger, &open("b", 50_001), 3, &policy), "funding-day");
    assert_eq!(ask(&mut ledger, &open("b", 49_000), 3, &policy), "pass");
    assert_eq!(ask(&mut ledger, &open("c", 500), 3, &policy), "pass", "b was proved before");
    assert_eq!(ledger.day(3), (600, 99_500));
    // What was proved stays so in the next file of the log.
    let mut next = Ledger::default();
    next.take(&Entry { carried: ledger.young(), ..entry(4, Weighed::default()) });
    assert!(next.is_doubted("d", 4) && next.is_proved("a", 0) && !next.is_proved("c", 0));
    // Without a budget of its own it is no other than what leaves.
    assert_eq!(ask(&mut Ledger::default(), &open("a", 50_000), 1, &super::tests::policy(TIGHT)), "outflow-transaction");
}

/// It pays a script's hash more than the coins that are its fee hold.
#[test]
fn the_fee_by_which_a_htlc_is_claimed_needs_no_room_for_channels_and_casts_no_doubt() {
    let policy = policy(&format!("{TIGHT}[channels]\nper-transaction = 60000\nper-day = 60000\n"));
    let mut ledger = Ledger::default();
    let claim = |txid: &str, fee: u64| paying(txid, 10_000, 10_000 - fee, &[(WITNESS_SCRIPT, 30_000)]);
    let open = |txid: &str, amount: u64| paying(txid, 100_000, 100_000 - amount, &[(WITNESS_SCRIPT, amount)]);
    assert_eq!(ask(&mut ledger, &claim("a", 900), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &open("b", 59_100), 1, &policy), "pass", "no doubt");
    assert_eq!(ledger.day(1), (0, 60_000));
    ledger.take(&entry(1, Weighed { proves: Some(("b".to_owned(), 0)), ..Weighed::default() }));
    assert_eq!(ask(&mut ledger, &claim("c", 800), 1, &policy), "pass", "the coins have room");
    assert_eq!(ledger.day(1), (800, 60_000));
    assert_eq!(ask(&mut ledger, &claim("d", 1_001), 1, &policy), "funding-day");
    assert_eq!(ask(&mut ledger, &open("e", 900), 1, &policy), "funding-day", "no fee");
    // Asked for in two parts it is no claim once both are there.
    let mut ledger = Ledger::default();
    let part =
        |input| Spend { inputs: 2, signed: [(input, 30_000)].into(), ..paying("f", 0, 0, &[(WITNESS_SCRIPT, 59_000)]) };
    assert_eq!(ask(&mut ledger, &part(0), 1, &policy), "pass");
    assert!(!ledger.is_doubted("g", 1));
    assert_eq!(ask(&mut ledger, &part(1), 1, &policy), "pass");
    assert!(ledger.is_doubted("g", 1));
    // Nor where a part is asked for again once its inputs are forgotten.
    ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
    assert_eq!(ask(&mut ledger, &part(0), 1, &policy), "pass");
    assert!(ledger.is_doubted("g", 1));
}

#[test]
fn an_approval_lets_one_transaction_pass_and_no_other() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let pay = |txid: &str, amount: u64| paying(txid, amount + 300, 0, &[(STRANGER, amount)]);
    let approval = approval(1..100, 50_000);
    let mut ask = |spend: &Spend, now| ask_with(&mut ledger, spend, now, &policy, std::slice::from_ref(&approval));
    assert_eq!(ask(&pay("a", 50_001), 2), "outflow-transaction", "another amount");
    assert_eq!(ask(&pay("a", 50_000), 100), "outflow-transaction", "too late");
    assert_eq!(ask(&pay("a", 700), 2), "pass", "what the limits pass does not use it");
    assert_eq!(ask(&Spend { signed: [(0, 40_000)].into(), ..pay("b", 50_000) }, 2), "pass");
    assert_eq!(ask(&Spend { signed: [(1, 10_300)].into(), ..pay("b", 50_000) }, 3), "pass", "its other input");
    assert_eq!(ask(&Spend { signed: [(2, 1)].into(), ..pay("b", 50_000) }, 3), "outflow-transaction", "a larger fee");
    assert_eq!(ask(&pay("c", 50_000), 4), "outflow-transaction", "it is used");
    assert_eq!(ask(&pay("d", 600), 5), "pass", "what was approved does not count");
    // Nor is it free again where the limits have room for its own transaction meanwhile.
    let wide = super::tests::policy("[coins]\nper-transaction = 90000\n");
    assert_eq!(
        super::tests::ask(&mut ledger, &Spend { signed: [(0, 40_000)].into(), ..pay("b", 50_000) }, 5, &wide),
        "pass"
    );
    let mut next = Ledger::default();
    next.take(&Entry { carried: ledger.young(), ..entry(6, Weighed::default()) });
    assert_eq!(
        ask_with(&mut next, &pay("c", 50_000), 7, &policy, &[approval]),
        "outflow-transaction",
        "after a restart too"
    );
}

/// What comes back is set against what the inputs were said to hold, and that may be true of another one each time.
#[test]
fn an_input_whose_amount_was_a_lie_adds_up_on_another_day() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let said = |first, second| spend("a", &[(0, first), (1, second)], 500_000);
    assert_eq!(ask(&mut ledger, &said(499_999, 1), 1, &policy), "pass");
    assert_eq!(ask(&mut ledger, &said(1, 499_999), 2 * DAY, &policy), "outflow-transaction");
}

#[test]
fn a_clock_that_was_ahead_counts_on_until_the_operator_says_that_it_is_right() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    for txid in ["a", "b"] {
        assert_eq!(ask(&mut ledger, &spend(txid, &[(0, 1_000)], 0), 9 * DAY, &policy), "pass");
    }
    let (now, more) = (2 * DAY, spend("c", &[(0, 1_000)], 0));
    assert_eq!(ask(&mut ledger, &more, now + DAY, &policy), "outflow-hour");
    assert_eq!((ledger.ahead_of(9 * DAY - HOUR), ledger.ahead_of(now)), (None, Some(9 * DAY)));
    // What is approved holds by the clock of now.
    let approved = paying("d", 3_000, 0, &[(STRANGER, 2_900)]);
    assert_eq!(ask_with(&mut ledger, &approved, now, &policy, &[approval(now..now + 9, 2_900)]), "pass");
    ledger.take(&Entry { call: CLOCK.into(), ..entry(now, Weighed::default()) });
    assert_eq!((ledger.ahead_of(0), ledger.day(now)), (Some(now), (2_000, 0)), "nothing is forgotten");
    let rules = [now, now + HOUR, now + DAY].map(|now| ask(&mut ledger, &more, now, &policy));
    assert_eq!(rules, ["outflow-hour", "outflow-day", "pass"]);
}

#[test]
fn a_clock_that_was_ahead_leaves_no_rate_unheld() {
    let (mut ledger, policy) = (Ledger::default(), policy("[rates.message]\nper-minute = 1\n"));
    assert_eq!(ask(&mut ledger, &spend("a", &[(0, 1_000)], 0), 2 * DAY, &policy), "pass");
    let judged = Judged { class: Some(Class::Message), ..Judged::default() };
    let limits = Limits { policy: Ok(&policy), rates: policy.rates, approvals: &Vec::new };
    let passed = ledger.weigh(&judged, DAY, &limits).unwrap();
    ledger.take(&entry(DAY, passed));
    assert_eq!(ledger.weigh(&judged, DAY, &limits).unwrap_err().rule, Rule::Rate);
}
