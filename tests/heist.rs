//! What somebody steals who has the watch-only host, or more: each attempt succeeds without a guard, is written down by one that
//! observes, and is refused, by the named rule, by one that enforces.

mod approval;
mod attempts;
mod coins;
mod forms;
mod limits;
pub mod middleware;
mod restart;

use crate::caller::{Client, Kind, Port};
use crate::lab::wait_for;
use crate::stage::{LISTEN, Stage};
use attempts::{Attempt, Thief, attempts};
use lsm::signer::macaroon::Macaroon;
use lsm::signer::proof;
use serde_json::Value;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// Not the bundle's macaroon, which permits three calls, but one that permits every call.
pub const ADMIN: &str = "/run/lsm/signer-admin/admin.macaroon";

/// The guard's log.
const LOG: &str = "/var/lib/lsm/guard/signer/log/entries.jsonl";

#[test]
fn every_attempt_succeeds_without_a_guard_and_fails_with_one() {
    let Some(stage) = Stage::boot("heist") else { return };
    stage.install(&[]).ok();
    let told = |mode| stage.install(&[&format!("--guard={mode}")]).ok();
    let mut all = attempts();
    assert!(all.len() >= 75, "{}", all.len());

    for attempt in &all {
        try_it(&stage, attempt).unwrap_or_else(|said| panic!("without a guard: {}: {said}", attempt.what));
    }
    approval::all_is_signed(&stage);
    restart::all_is_signed(&stage);

    // Without a guard lnd has no middleware at all.
    all.push(middleware::attempt());
    told("observe");
    for attempt in &all {
        rule_by(&stage, &attempt.policy);
        try_it(&stage, attempt).unwrap_or_else(|said| panic!("observed: {}: {said}", attempt.what));
    }
    let written = log(&stage);
    let mut rules: Vec<&str> = written.iter().filter_map(|entry| entry["rule"].as_str()).collect();
    let mut wanted: Vec<&str> = all.iter().map(|attempt| attempt.rule).collect();
    // What is asked too often is asked more than once too often.
    rules.dedup();
    wanted.dedup();
    assert_eq!(rules, wanted);
    assert!(written.iter().filter(|entry| entry["rule"].is_string()).all(|entry| entry["verdict"] == "would-refuse"));

    // What was passed is counted: the next guard begins without that.
    stage.host.sh(&format!("systemctl stop lsm-guard@signer.service && rm {LOG}")).ok();
    told("enforce");
    for attempt in &all {
        rule_by(&stage, &attempt.policy);
        let said = try_it(&stage, attempt).expect_err(&attempt.what);
        assert!(
            said.contains("lsm guard: ") && said.contains(&format!("({})", attempt.rule)),
            "{}: {said}",
            attempt.what
        );
    }
    // A funding that was never proved would stand in the honest node's way for a day.
    stage
        .host
        .sh(&format!("systemctl stop lsm-guard@signer.service && rm {LOG} && systemctl start lsm-guard@signer.service"))
        .ok();
    restart::it_gives_no_budget_back(&stage);
    restart::it_forgets_by_the_operators_word_alone(&stage);
    rule_by(&stage, limits::HONEST);
    what_a_watch_only_node_asks_is_signed(&stage);
    approval::it_lets_one_pass_and_no_other(&stage);
}

/// Puts another policy in the place of the one that is there. It holds from the next call on.
fn rule_by(stage: &Stage, policy: &str) {
    let (path, aside) = ("/etc/lsm/signer-guard.toml", "/etc/lsm/.signer-guard.toml");
    stage.host.sh(&format!("cat >{aside} <<'END'\n{policy}END\nmv {aside} {path}")).ok();
    if policy.contains("xpub") {
        // The first call after that waits until its addresses are derived, and lnd no longer than two seconds.
        wait_for("the policy's addresses", Duration::from_secs(60), || {
            with_thief(stage, async |thief| thief.client.sign(Kind::Message).await).ok()
        });
    }
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
    with_thief(stage, async |thief| {
        let channels = limits::two_channels(&thief.bundle);
        let sweeps = limits::sweeps_home(&thief.bundle);
        for psbt in channels.into_iter().chain(sweeps).chain([limits::to_cold(&thief.bundle)]) {
            coins::sign(&thief.client, &psbt).await?;
        }
        Ok::<_, String>(())
    })
    .expect("channels, sweeps and the cold wallet");
}
