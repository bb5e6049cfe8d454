//! Half an hour of payments at load, both ways through one channel, under a guard that enforces and limits what leaves the wallet:
//! none fails, and nothing that the node asks for is refused.

use crate::channel_life::{Kind, life, passed_coins, with_signer};
use crate::lab::lnd::{Node, RELEASES};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many payments of each side are under way at a time.
const AT_ONCE: usize = 2;
/// What may leave the wallet: a channel is opened, and no more.
const POLICY: &str = "[coins]\nper-transaction = 3000000\nper-day = 60000000\n";

#[test]
#[ignore = "long: half an hour of payments"]
fn payments_at_load_are_refused_nothing_by_a_guard_that_enforces() {
    let lasting = std::env::var("LSM_TEST_PAYMENTS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(30 * 60);
    with_signer(RELEASES[0], false, Kind::Guarded, |made, bob, chain, _| {
        let bob = &*bob;
        made.signer.host.sh(&format!("printf '{POLICY}' >/etc/lsm/signer-guard.toml")).ok();
        life::receive(&made.watch_only, bob, chain);
        let identity = life::connect(&made.watch_only, bob);
        let channel = life::open(&made.watch_only, bob, chain, &identity, false);
        let began = Instant::now();
        let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            let (alice, count) = (&made.watch_only, [&there, &back]);
            for _ in 0..AT_ONCE {
                threads.spawn(move || keep_paying(alice, bob, began, lasting, count[0]));
                threads.spawn(move || keep_paying(bob, alice, began, lasting, count[1]));
            }
        });
        let paid = [there, back].map(AtomicU64::into_inner);
        println!("MEASURED payments there and back in {lasting} s under a guard: {} and {}", paid[0], paid[1]);
        assert!(paid.iter().all(|paid| *paid > 0) && made.watch_only.alive());
        life::close_together(&made.watch_only, chain, &channel);
        let coins = passed_coins(&made.signer);
        assert!(coins["last_day"].as_u64().is_some_and(|sum| sum >= 2_000_000), "{coins}");
    });
}

/// Each has to come through.
fn keep_paying(from: &Node<'_>, to: &Node<'_>, began: Instant, lasting: u64, count: &AtomicU64) {
    while began.elapsed() < Duration::from_secs(lasting) {
        life::pay(from, to);
        count.fetch_add(1, Ordering::Relaxed);
    }
}
