//! What somebody steals who has the watch-only host, or more: each attempt succeeds without a guard, is written down by one that
//! observes, and is refused, by the named rule, by one that enforces.

mod attempts;
mod coins;
pub mod middleware;

use crate::caller::{Client, Kind, Port};
use crate::stage::{LISTEN, Stage};
use attempts::{Attempt, Thief, attempts};
use lsm::signer::macaroon::Macaroon;
use lsm::signer::proof;
use serde_json::Value;
use std::fs;
use std::sync::Arc;

/// Not the bundle's macaroon, which permits three calls, but one that permits every call.
pub const ADMIN: &str = "/run/lsm/signer-admin/admin.macaroon";

#[test]
fn every_attempt_succeeds_without_a_guard_and_fails_with_one() {
    let Some(stage) = Stage::boot("heist") else { return };
    stage.install(&[]).ok();
    let told = |mode| stage.install(&[&format!("--guard={mode}")]).ok();
    let mut all = attempts();
    assert!(all.len() >= 30, "{}", all.len());

    for attempt in &all {
        try_it(&stage, attempt).unwrap_or_else(|said| panic!("without a guard: {}: {said}", attempt.what));
    }

    // Without a guard lnd has no middleware at all.
    all.push(middleware::attempt());
    let policy = format!("cat >/etc/lsm/signer-guard.toml <<END\n{}END", coins::POLICY);
    stage.host.sh(&policy).ok();
    told("observe");
    for attempt in &all {
        try_it(&stage, attempt).unwrap_or_else(|said| panic!("observed: {}: {said}", attempt.what));
    }
    let written = log(&stage);
    let rules: Vec<&str> = written.iter().filter_map(|entry| entry["rule"].as_str()).collect();
    assert_eq!(rules, all.iter().map(|attempt| attempt.rule).collect::<Vec<_>>());
    assert!(written.iter().filter(|entry| entry["rule"].is_string()).all(|entry| entry["verdict"] == "would-refuse"));

    told("enforce");
    for attempt in &all {
        let said = try_it(&stage, attempt).expect_err(&attempt.what);
        assert!(
            said.contains("lsm guard: ") && said.contains(&format!("({})", attempt.rule)),
            "{}: {said}",
            attempt.what
        );
    }
    what_a_watch_only_node_asks_is_signed(&stage);
}

/// Makes one attempt, from the allowed peer.
fn try_it(stage: &Stage, attempt: &Attempt) -> Result<(), String> {
    with_thief(stage, |thief| (attempt.make)(thief))
}

/// Has `work` done by who has the admin macaroon and the bundle, from the allowed peer.
fn with_thief<T: Send, F: Future<Output = T>>(stage: &Stage, work: impl FnOnce(Thief) -> F + Send) -> T {
    let (bundle, admin) = (stage.bundle(), fs::read(stage.host.path(ADMIN)).expect("lnd wrote its macaroon"));
    let admin = Macaroon::parse(admin).expect("a macaroon");
    stage.host.allowed().inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let port = Port::new(LISTEN.parse().expect("an address"), &bundle.certificate);
            let client = Client::new(&port, None, &admin, bundle.identity_pubkey());
            work(Thief { client, bundle: Arc::new(bundle), admin: Arc::new(admin), port }).await
        })
    })
}

fn log(stage: &Stage) -> Vec<Value> {
    let said = stage.host.lsm(["guard", "log", "-n1000", "--json"]).json();
    said["entries"].as_array().expect("entries").clone()
}

/// The same calls, as the bundle's holder makes them in good faith.
fn what_a_watch_only_node_asks_is_signed(stage: &Stage) {
    let identity = stage.bundle().identity_pubkey().to_owned();
    let (signer, message) = (stage.signer(), b"a message".as_slice());
    let signature = stage.host.allowed().inside(|| signer.sign_with_key(6, 0, message)).expect("a signature");
    proof::verify_compact(message, &signature, &identity).expect("by the node");
    for kind in [Kind::Message, Kind::Psbt] {
        let signed = with_thief(stage, async move |thief| thief.client.sign(kind).await);
        assert_eq!(signed, Ok(()), "{}", kind.name());
    }
    with_thief(stage, async |thief| attempts::honest(&thief.client, &thief.bundle).await).expect("honest calls");
}
