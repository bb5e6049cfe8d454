//! What is remembered, how much of it, and how its operator ends that.

use super::*;
use crate::guard::signed::Approved;

#[test]
fn of_sweeps_that_come_back_the_oldest_is_forgotten_and_none_refused() {
    let (mut ledger, policy) = (Ledger::default(), Policy::default());
    let inputs: Vec<(u32, u64)> = (0..1_000).map(|input| (input, 1_000)).collect();
    for (number, at) in (0..60).zip(1..) {
        assert_eq!(ask(&mut ledger, &sweep(&format!("{number}"), &inputs, 900_000), at, &policy), "pass");
    }
    let is_left = |txid: &str| ledger.transactions.contains_key(txid);
    assert!(!is_left("0") && is_left("59") && ledger.transactions.len() > 30, "{}", ledger.transactions.len());
}

#[test]
fn the_log_can_carry_all_that_counts() {
    let longest = |inputs: u32, unproved: u32| Signed {
        at: 1_700_000_000_000,
        txid: "f".repeat(64),
        first: format!("{}:{}", "f".repeat(64), u32::MAX),
        signed: (1_000..1_000 + inputs).map(|input| (input, 2_100_000_000_000_000)).collect(),
        swept: (0..inputs).map(|input| (input, 2_100_000_000_000_000)).collect(),
        coins: 2_100_000_000_000_000,
        channels: 2_100_000_000_000_000,
        unproved: (400_000..400_000 + unproved).collect(),
        together: true,
        // What comes back went into no channel.
        is_less: false,
        comes_back: true,
        approval: Some(Approved { entry: 100_000_000, at: 1_700_000_000_000 }),
    };
    for signed in [longest(0, 0), longest(1, 1), longest(500, 100)] {
        assert!(serde_json::to_vec(&signed).unwrap().len() < room::size(&signed));
    }
    assert!(Room::ALL.map(Room::size).iter().sum::<usize>() < (8 << 20) - (256 << 10));
}

/// Coins that nobody has seen, of which all comes back: they take from no limit.
fn flood(number: u32) -> Spend {
    let inputs: Vec<(u32, u64)> = (0..1_499).map(|input| (input, 1_000)).collect();
    Spend { inputs: 1_500, ..spend(&format!("flood {number}"), &inputs, 1_499_000) }
}

#[test]
fn a_flood_of_coins_that_are_not_there_keeps_no_other_out() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let passed = (0..200).take_while(|number| ask(&mut ledger, &flood(*number), 1, &policy) == "pass").count();
    assert!((50..150).contains(&passed), "{passed}");
    let little = |number| Spend { inputs: 2, ..spend(&format!("little {number}"), &[(0, 90_000)], 90_000) };
    assert!((0..200).any(|number| ask(&mut ledger, &little(number), 1, &policy) != "pass"), "there is no room at all");
    assert_eq!(ask(&mut ledger, &flood(200), DAY, &policy), "outflow-transaction", "all that it spends counts now");
    // Nothing of what passed is forgotten.
    let more = Spend { signed: [(1_499, 5_000)].into(), ..flood(0) };
    assert_eq!(ask(&mut ledger, &more, 80 * DAY, &policy), "outflow-transaction");

    // A coin by itself passes as before, and several as far as all that they spend does.
    let (now, two) = (80 * DAY, |txid: &str, input, amount| Spend {
        inputs: 2,
        signed: [(input, amount)].into(),
        ..paying(txid, 0, 39_000, &[(STRANGER, 900)])
    });
    assert_eq!(ask(&mut ledger, &paying("a", 90_000, 89_000, &[(STRANGER, 900)]), now, &policy), "pass");
    assert_eq!((ask(&mut ledger, &two("b", 0, 600), now, &policy), ledger.day(now)), ("pass", (1_600, 0)));
    assert_eq!(ask(&mut ledger, &two("c", 0, 30_000), now, &policy), "outflow-transaction");
    let approval = approval(now..now + 9, 900);
    assert_eq!(ask_with(&mut ledger, &two("c", 0, 30_000), now, &policy, std::slice::from_ref(&approval)), "pass");
    assert_eq!(ask_with(&mut ledger, &two("c", 1, 10_200), now, &policy, &[approval]), "pass");
    // So does a sweep with a coin in it.
    let mixed = |coin| Spend { inputs: 3, signed: [(2, coin)].into(), ..sweep("d", &[(0, 5_000)], 5_000 + coin) };
    assert_eq!((ask(&mut ledger, &mixed(800), now, &policy), ledger.day(now).0), ("outflow-transaction", 1_600));
    assert_eq!(ask(&mut ledger, &flood(201), 90 * DAY + 1, &policy), "pass", "they are forgotten at last");
}

#[test]
fn where_nothing_is_limited_nothing_is_refused_for_want_of_room() {
    let (mut ledger, unlimited) = (Ledger::default(), policy("unlimited = true\n"));
    assert!((0..300).all(|number| ask(&mut ledger, &flood(number), 1, &unlimited) == "pass"));
    let all: usize = ledger.young().iter().map(room::size).sum();
    assert!(all <= Room::Together.size() + Room::Day.size(), "{all}");
    // And once something is, the flood is over within a day.
    assert_eq!(ask(&mut ledger, &spend("a", &[(0, 600)], 0), DAY + 1, &policy(TIGHT)), "pass");
}

#[test]
fn a_day_that_is_full_is_told_by_its_own_name_and_what_was_approved_has_room() {
    let (mut ledger, policy) = (Ledger::default(), policy("[coins]\nper-day = 90000000\n"));
    let small = |number: u32| Signed { at: 1, txid: format!("{number:064}"), coins: 1, ..Signed::default() };
    ledger.take(&Entry { carried: (0..5_825).map(small).collect(), ..entry(1, Weighed::default()) });
    let pay = paying("a", 700, 0, &[(STRANGER, 600)]);
    assert_eq!(ask(&mut ledger, &pay, 2, &policy), "ledger-full");
    let approval = approval(1..100, 600);
    assert_eq!(ask_with(&mut ledger, &pay, 2, &policy, &[approval]), "pass");
    assert_eq!(ask(&mut ledger, &paying("b", 700, 0, &[]), DAY + 1, &policy), "pass");
}

/// After a flood, once whoever made it asks no more.
#[test]
fn what_waits_is_forgotten_by_the_operators_word_and_what_has_left_counts_on() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let flood = |number: u32| {
        let taking = flood(number);
        Spend { back: taking.back - u64::from(number % 3), ..taking }
    };
    assert!((0..200).any(|number| ask(&mut ledger, &flood(number), 1, &policy) != "pass"));
    let two = |txid: &str| Spend { inputs: 2, signed: [(0, 90_000)].into(), ..spend(txid, &[], 90_000) };
    assert_eq!(ask(&mut ledger, &two("a"), 2, &policy), "outflow-transaction");
    let left = ledger.day(2);
    assert!(left.0 > 50 && ledger.waiting(0) == 0 && ledger.waiting(1) > 90);

    ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
    let mut next = Ledger::default();
    next.take(&Entry { carried: ledger.young(), ..entry(2, Weighed::default()) });
    assert_eq!((next.day(2), next.waiting(1)), (left, 0), "what is left of it is in the next file of the log too");
    for ledger in [&mut ledger, &mut next] {
        assert_eq!((ask(ledger, &two("a"), 2, &policy), ledger.day(2)), ("pass", left));
        // What was signed since waits on.
        ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
        let other = Spend { signed: [(1, 5_000)].into(), ..two("a") };
        assert_eq!(ask(ledger, &other, 80 * DAY, &policy), "outflow-transaction");
        assert_eq!(ledger.waiting(2), 1);
    }
}

/// What takes nothing once its other inputs are forgotten makes no room for what takes as much again.
#[test]
fn what_is_asked_for_again_after_it_was_forgotten_counts_as_it_did() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let coin = |input| Spend { inputs: 2, signed: [(input, 900)].into(), ..spend("a", &[], 900) };
    assert_eq!([0, 1].map(|input| ask(&mut ledger, &coin(input), 1, &policy)), ["pass"; 2]);
    assert_eq!(ledger.day(1), (900, 0));
    ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
    assert_eq!((ask(&mut ledger, &coin(0), 2, &policy), ledger.day(2)), ("pass", (900, 0)));
    // So does a sweep, and it is not among those of which the oldest goes.
    let paid = vec![Paid { output: 0, script: STRANGER.into(), amount: 1 }];
    let part = |input| Spend { inputs: 2, paid: paid.clone(), ..sweep("b", &[(input, 600)], 300) };
    let mut ledger = Ledger::default();
    assert_eq!([0, 1].map(|input| ask(&mut ledger, &part(input), 1, &policy)), ["pass"; 2]);
    assert_eq!(ledger.day(1), (900, 0));
    ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
    assert_eq!((ask(&mut ledger, &part(0), 2, &policy), ledger.day(2)), ("pass", (900, 0)));
    assert!(!ledger.transactions["b"].comes_back);
}

/// An approval outlasts it: what it let pass would else pass once more, by other inputs.
#[test]
fn what_was_approved_is_not_forgotten() {
    let (mut ledger, policy) = (Ledger::default(), policy(TIGHT));
    let asked = paying("a", 50_300, 0, &[(STRANGER, 50_000)]);
    let approvals = [approval(1..100, 50_000)];
    let half = |input, amount| Spend { inputs: 2, signed: [(input, amount)].into(), ..asked.clone() };
    assert_eq!(ask_with(&mut ledger, &half(0, 50_300), 1, &policy, &approvals), "pass");
    assert_eq!(ledger.waiting(1), 0);
    ledger.take(&Entry { call: FORGET.into(), ..entry(1, Weighed::default()) });
    assert_eq!(ask_with(&mut ledger, &half(1, 50_300), 2, &policy, &approvals), "outflow-transaction");
}
