//! A guard that is ended and begins anew: what was counted counts on. And what its operator has it forget.

use super::coins::{self, COIN, half, send, sign};
use super::{rule_by, with_thief};
use crate::lab::wait_for;
use crate::stage::Stage;
use std::time::Duration;

const GUARD: &str = "lsm-guard@signer.service";

/// A payment of 40,000 satoshis, of which a day has room for one.
fn pay(stage: &Stage, number: u8) -> Result<(), String> {
    pay_so_much(stage, number, 40_000)
}

fn pay_so_much(stage: &Stage, number: u8, amount: u64) -> Result<(), String> {
    with_thief(stage, async |thief| sign(&thief.client, &send(&thief.bundle, 84, number, amount, COIN - amount)).await)
}

/// Without a guard.
pub fn all_is_signed(stage: &Stage) {
    for number in 110..113 {
        pay(stage, number).expect("a signature");
    }
}

/// With one that enforces, stopped in good order or killed.
pub fn it_gives_no_budget_back(stage: &Stage) {
    rule_by(stage, coins::POLICY);
    pay(stage, 110).expect("the first");
    for (number, ending) in [(111, "restart"), (112, "kill --signal=KILL")] {
        stage.host.sh(&format!("systemctl {ending} {GUARD}")).ok();
        let said = wait_for("the next guard's answer", Duration::from_secs(60), || {
            pay(stage, number).map_or_else(|said| said.contains("lsm guard: ").then_some(Err(said)), |()| Some(Ok(())))
        });
        let said = said.expect_err(ending);
        assert!(said.contains("(outflow-day)"), "{ending}: {said}");
    }
    // Of two that spend the same coin one takes place: the larger counts, to the next guards too.
    pay_so_much(stage, 110, 45_000).expect("the first coin once more");
    pay_so_much(stage, 113, 15_000).expect("what is left of the day");
    assert!(pay_so_much(stage, 114, 1_000).expect_err("more than that").contains("(outflow-day)"));
}

/// What comes back is set against two coins together, however far apart they are asked for; until the operator says that nobody
/// asks any more.
pub fn it_forgets_by_the_operators_word_alone(stage: &Stage) {
    let ask = |place| with_thief(stage, async |thief| sign(&thief.client, &half(&thief.bundle, 120, place)).await);
    ask(0).expect("all of it comes back");
    stage.host.sh(&format!("systemctl restart {GUARD}")).ok();
    let said = wait_for("the next guard's answer", Duration::from_secs(60), || {
        ask(1).err().filter(|said| said.contains("lsm guard: "))
    });
    assert!(said.contains("(outflow-transaction)"), "{said}");
    assert_eq!(stage.host.lsm(["guard", "forget", "--yes", "--json"]).json()["changed"], true);
    wait_for("the guard to hear of it", Duration::from_secs(60), || ask(1).ok());
    assert!(super::log(stage).iter().any(|entry| entry["call"] == "forget"));
}
