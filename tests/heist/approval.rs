//! What the operator has approved: one payment, and what a thief makes of it.

use super::coins::{COIN, send, sign};
use super::with_thief;
use crate::stage::Stage;
use bitcoin::psbt::Psbt;
use lsm::bundle::Bundle;

/// A payment of 100,000 satoshis from a coin of this number, with a fee of a thousand.
fn payment(bundle: &Bundle, number: u8) -> Psbt {
    send(bundle, 84, number, 100_000, COIN - 101_000)
}

/// What is no retry of it.
fn others(bundle: &Bundle) -> Vec<(&'static str, Psbt)> {
    vec![
        ("another amount", send(bundle, 84, 101, 100_001, COIN - 101_001)),
        ("a larger fee", send(bundle, 84, 102, 100_000, COIN - 103_000)),
    ]
}

fn ask(stage: &Stage, make: impl FnOnce(&Bundle) -> Psbt + Send) -> Result<(), String> {
    with_thief(stage, async |thief| sign(&thief.client, &make(&thief.bundle)).await)
}

/// Without a guard.
pub fn all_is_signed(stage: &Stage) {
    for number in [100, 103, 104] {
        ask(stage, |bundle| payment(bundle, number)).expect("a signature");
    }
    for place in 0..2 {
        ask(stage, |bundle| others(bundle).swap_remove(place).1).expect("a signature");
    }
}

/// With one that enforces: refused, approved by its number, and then passed once, by whatever inputs, in its time.
pub fn it_lets_one_pass_and_no_other(stage: &Stage) {
    let said = ask(stage, |bundle| payment(bundle, 100)).expect_err("a refusal");
    assert!(said.contains("(outflow-transaction)"), "{said}");
    let id = said.split("entry ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the entry's number");
    let approve = || stage.host.lsm(["guard", "approve", id, "--max-fee=2000", "--yes", "--json"]).json();
    let file = "/var/lib/lsm/guard/signer/approvals.json";
    let refused = |number, what: &str| {
        let said = ask(stage, |bundle| payment(bundle, number)).expect_err(what);
        assert!(said.contains("(outflow-transaction)"), "{what}: {said}");
    };

    let approved = approve();
    assert_eq!((&approved["pays"][0]["amount"], approved["pays"].as_array().map(Vec::len)), (&100_000.into(), Some(1)));
    assert_eq!(stage.host.run(["stat", "-c", "%a %U:%G", file]).ok().trim(), "640 root:lsm-guard-signer");
    stage.host.sh(&format!(r#"sed -i 's/"until": [0-9]*/"until": 1000/' {file}"#)).ok();
    refused(103, "its time is over");
    approve();
    for place in 0..2 {
        let what = ask(stage, |bundle| others(bundle).swap_remove(place).1).expect_err("a refusal");
        assert!(what.contains("(outflow-transaction)"), "{place}: {what}");
    }
    ask(stage, |bundle| payment(bundle, 103)).expect("a retry from another coin");
    ask(stage, |bundle| payment(bundle, 103)).expect("the same transaction again");
    refused(104, "once more from another coin");
    stage.host.run(["systemctl", "restart", "lsm-guard@signer.service"]).ok();
    refused(104, "after a restart of the guard");
    let log = stage.host.lsm(["guard", "log", "--json"]).json();
    let used =
        log["entries"].as_array().expect("entries").iter().filter(|entry| entry["counted"]["approval"].is_object());
    let used: Vec<String> = used.map(|entry| entry["counted"]["approval"]["entry"].to_string()).collect();
    assert_eq!(used, [id, id]);
}
