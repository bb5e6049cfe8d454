//! A guard that ends again and again under a flood of calls that it has to refuse, killed, or dropped by lnd itself: none of them is
//! ever answered, whatever lnd was about to do with it then, and of a guard that is killed nobody else gets the name.

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
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

/// How long the guard may take to be asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many callers there are, and how many connections they have.
const CALLERS: usize = 48;
const CONNECTIONS: usize = 6;

#[test]
fn a_guard_that_ends_under_a_flood_lets_nothing_through() {
    for version in RELEASES {
        end_under_flood(version, 20);
    }
}

#[test]
#[ignore = "long: a thousand ends"]
fn a_guard_that_ends_a_thousand_times_lets_nothing_through() {
    end_under_flood(RELEASES[0], 1000);
}

#[test]
#[ignore = "long: a thousand ends"]
fn a_guard_of_the_original_version_that_ends_a_thousand_times_lets_nothing_through() {
    end_under_flood(RELEASES[1], 1000);
}

/// The ways in which a guard ends.
#[derive(Clone, Copy)]
enum End {
    /// It is killed.
    Killed,
    /// lnd drops it, because of a call with a header that lnd cannot send on: it is not UTF-8. Whoever reaches the port may make
    /// it, without a macaroon.
    Dropped,
}

impl End {
    /// Has the guard end.
    fn cause(self, stage: &Stage) {
        if matches!(self, Self::Killed) {
            stage.host.run(["systemctl", "kill", "--signal=KILL", GUARD]).ok();
            return;
        }
        let mut headers = MetadataMap::new();
        headers.insert_bin("x-bin", BinaryMetadataValue::from_bytes(&[0xff]));
        let bundle = stage.bundle();
        let said = stage.host.allowed().inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let port = Port::new(LISTEN.parse().expect("an address"), &bundle.certificate);
                let client = Client::new(&port, None, &bundle.macaroon, bundle.identity_pubkey());
                client.call_with::<_, ()>("/lnrpc.State/GetState", (), headers).await
            })
        });
        assert!(said.is_err(), "no answer leaves without a guard");
    }
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

fn end_under_flood(version: &str, ends: u32) {
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
        for (number, end) in (0..ends).zip([End::Killed, End::Dropped].into_iter().cycle()) {
            let refused = met.refused.load(Ordering::Relaxed);
            let again = || (met.refused.load(Ordering::Relaxed) > refused + 100).then_some(());
            let began = Instant::now();
            wait_for(&format!("an answer of the guard before end {number}"), PATIENCE, again);
            worst = worst.max(began.elapsed());
            assert_eq!(met.signed.load(Ordering::Relaxed), 0, "signed after {number} ends");
            end.cause(&stage);
        }
        wait_for("a signature", PATIENCE, || sign(&stage).ok());
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!("MEASURED {version}, {ends} ends of the guard under a flood: {} signed", count(&met.signed));
    println!(
        "MEASURED {version}, refused by the guard, by lnd without it, and cut off: {}, {}, {}",
        count(&met.refused),
        count(&met.unanswered),
        count(&met.cut)
    );
    println!("MEASURED {version}, refused the guard's name: {}", count(&met.not_named));
    println!("MEASURED {version}, the guard back within: {:.1} s", worst.as_secs_f64());
    assert_eq!((count(&met.signed), count(&met.named)), (0, 0));
    assert!(count(&met.refused) > 100 * u64::from(ends) && count(&met.not_named) > 0);
    let restarts = stage.host.run(["systemctl", "show", "--property=NRestarts", "--value", GUARD]).ok();
    assert!(restarts.trim().parse::<u32>().is_ok_and(|restarts| restarts >= ends), "{restarts} of {ends} ends");
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

/// Tries to be the guard, with a macaroon that lets one. Where he is told that he is one, it is by an answer of lnd's.
async fn take_name(client: Client, met: &Met) {
    while !met.over.load(Ordering::Relaxed) {
        let taken = middleware::register_as(&client, "lsm-guard").await;
        let count = if taken.is_ok() { &met.named } else { &met.not_named };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
