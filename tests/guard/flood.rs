//! A guard that is killed again and again under a flood of calls that it has to refuse: none of them is ever answered, whatever lnd
//! was about to do with it when the guard ended, and nobody else gets the guard's name.

use super::{GUARD, sign};
use crate::caller::{Client, Port};
use crate::heist::middleware;
use crate::lab::lnd::{RELEASES, Release};
use crate::lab::net::Net;
use crate::lab::wait_for;
use crate::stage::watch::Until;
use crate::stage::{LISTEN, Stage};
use lsm::signer::macaroon::Macaroon;
use lsm::signer::wire::signrpc::{KeyLocator, SignMessageReq, SignMessageResp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the guard may take to be asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many callers there are, and how many connections they have.
const CALLERS: usize = 48;
const CONNECTIONS: usize = 6;

#[test]
fn a_guard_that_is_killed_under_a_flood_lets_nothing_through() {
    for version in RELEASES {
        kill_under_flood(version, 20);
    }
}

#[test]
#[ignore = "long: a thousand kills"]
fn a_guard_that_is_killed_a_thousand_times_lets_nothing_through() {
    kill_under_flood(RELEASES[0], 1000);
}

#[test]
#[ignore = "long: a thousand kills"]
fn a_guard_of_the_original_version_that_is_killed_a_thousand_times_lets_nothing_through() {
    kill_under_flood(RELEASES[1], 1000);
}

/// What the callers met.
#[derive(Default)]
struct Met {
    /// What was signed: nothing may be.
    signed: AtomicU64,
    /// What the guard refused, and what was refused because lnd had no answer from it, or no guard.
    refused: AtomicU64,
    unanswered: AtomicU64,
    /// What did not reach lnd, or no answer of it came.
    cut: AtomicU64,
    /// How often somebody else was registered under the guard's name, and how often he was refused that.
    named: AtomicU64,
    not_named: AtomicU64,
    /// It is over.
    over: AtomicBool,
}

fn kill_under_flood(version: &str, kills: u32) {
    let (Some(release), Some(net)) = (Release::find(version), Net::build()) else { return };
    let Some(stage) = Stage::boot_in(&net, "flood", &release) else { return };
    stage.install(&["--guard=enforce"]).ok();
    sign(&stage).unwrap();
    let lnd = stage.lnd();
    let met = Arc::new(Met::default());
    let mut worst = Duration::ZERO;
    std::thread::scope(|threads| {
        let _until = Until(&met.over);
        threads.spawn(|| flood(&stage, &met));
        for kill in 0..kills {
            let refused = met.refused.load(Ordering::Relaxed);
            let again = || (met.refused.load(Ordering::Relaxed) > refused + 100).then_some(());
            let began = Instant::now();
            wait_for(&format!("an answer of the guard before kill {kill}"), PATIENCE, again);
            worst = worst.max(began.elapsed());
            assert_eq!(met.signed.load(Ordering::Relaxed), 0, "signed after {kill} kills");
            stage.host.run(["systemctl", "kill", "--signal=KILL", GUARD]).ok();
        }
        wait_for("a signature", PATIENCE, || sign(&stage).ok());
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!("MEASURED {version}, {kills} kills of the guard under a flood: {} signed", count(&met.signed));
    println!(
        "MEASURED {version}, refused by the guard, by lnd without it, and cut off: {}, {}, {}",
        count(&met.refused),
        count(&met.unanswered),
        count(&met.cut)
    );
    println!("MEASURED {version}, refused the guard's name: {}", count(&met.not_named));
    println!("MEASURED {version}, the guard back after a kill within: {:.1} s", worst.as_secs_f64());
    assert_eq!((count(&met.signed), count(&met.named)), (0, 0));
    assert!(count(&met.refused) > 100 * u64::from(kills) && count(&met.not_named) > 0);
    assert_eq!(stage.lnd(), lnd, "lnd ran on");
}

/// Calls from the allowed peer until it is `over`.
fn flood(stage: &Stage, met: &Arc<Met>) {
    let (bundle, admin) = (stage.bundle(), std::fs::read(stage.host.path(crate::heist::ADMIN)).expect("a macaroon"));
    let admin = Macaroon::parse(admin).expect("a macaroon");
    stage.host.allowed().inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let port = Port::new(LISTEN.parse().expect("an address"), &bundle.certificate);
            let client = |macaroon| Client::new(&port, None, macaroon, bundle.identity_pubkey());
            let clients: Vec<_> = (0..CONNECTIONS).map(|_| client(&bundle.macaroon)).collect();
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| tokio::spawn(call(clients[caller % CONNECTIONS].clone(), Arc::clone(met))))
                .collect();
            take_name(client(&admin), met).await;
            for caller in callers {
                caller.await.expect("no panic");
            }
        });
    });
}

/// Asks for what the guard refuses, over and over.
async fn call(client: Client, met: Arc<Met>) {
    let asked = SignMessageReq {
        msg: vec![7; 256],
        key_loc: Some(KeyLocator { key_family: 3, key_index: 0 }),
        ..SignMessageReq::default()
    };
    while !met.over.load(Ordering::Relaxed) {
        let said = client.call::<_, SignMessageResp>("/signrpc.Signer/SignMessage", asked.clone()).await;
        let count = match said {
            Ok(_) => &met.signed,
            Err(said) if said.contains("lsm guard") => &met.refused,
            Err(said) if said.contains("middleware") || said.contains("intercept") => &met.unanswered,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                &met.cut
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tries to be the guard, with a macaroon that lets one.
async fn take_name(client: Client, met: &Met) {
    while !met.over.load(Ordering::Relaxed) {
        let taken = middleware::register_as(&client, "lsm-guard").await;
        let count = if taken.is_ok() { &met.named } else { &met.not_named };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
