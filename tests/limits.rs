//! What the signer's limits are worth: peers that may connect do their worst, and the live watch-only node signs on.

pub mod abuse;
mod scene;

use crate::lab::lnd::RELEASES;
use crate::lab::net::Met;
use crate::lab::wait_for;
use crate::stage::PORT;
use abuse::{CALLS, Idle, call_huge, call_slowly, count_open, flood, hold, reset_rapidly};
use scene::{OTHERS, PATIENCE, Scene, WATCH_ONLY, with_scene};
use std::time::Duration;

/// The limits on connections (templates/firewall.nft, units/lsm-proxy@.service).
const EACH: usize = 16;
const ALL: usize = 64;
/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_secs(1);
/// Long after a lost packet was sent again.
const RETRANSMITTED: Duration = Duration::from_secs(5);
/// How long an abuse goes on, and how often what is done rapidly is done at least, however slow this machine is.
const LASTING: Duration = Duration::from_secs(3);
const RAPIDLY: usize = 3000;

#[test]
fn an_isolated_signer_counts_connections_and_outlives_floods_and_huge_requests() {
    with_scene("isolated", RELEASES[0], |scene| {
        connections_are_counted(scene);
        scene.unharmed("the proxy's limit", || the_proxy_counts_too(scene));
        outlive(scene);
    });
}

#[test]
fn connections_to_a_signer_in_host_mode_are_counted() {
    with_scene("host", RELEASES[0], connections_are_counted);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_signer_in_host_mode_outlives_floods_and_huge_requests() {
    with_scene("host", RELEASES[0], outlive);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn an_isolated_signer_of_the_original_version_outlives_floods_and_huge_requests() {
    with_scene("isolated", RELEASES[1], outlive);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_signer_of_the_original_version_in_host_mode_outlives_floods_and_huge_requests() {
    with_scene("host", RELEASES[1], outlive);
}

fn connections_are_counted(scene: &Scene<'_>) {
    scene.limits_are_set();
    for idle in [Idle::Tcp, Idle::Tls] {
        scene.unharmed("five hundred idle connections", || sixteen_from_one_source(scene, idle));
        scene.unharmed("idle connections from many sources", || sixty_four_in_all(scene, idle));
    }
}

fn sixteen_from_one_source(scene: &Scene<'_>, idle: Idle) {
    let open = |from: &str| {
        let held = hold(scene.peer, &scene.port, from, 500, idle);
        assert_eq!(count_open(&held), held.len(), "{idle:?}");
        held
    };
    assert_eq!(open(OTHERS[0]).len(), EACH, "{idle:?}");
    // What an address has: the watch-only node's own connection is one of them, and another address has its own.
    let own = open(WATCH_ONLY);
    assert_eq!(own.len(), EACH - 1, "{idle:?}");
    assert_eq!(scene.peer.knock("10.77.0.2", PORT, SOON), Met::Silence);
    assert_eq!(open(OTHERS[0]).len(), EACH, "{idle:?}");
}

fn sixty_four_in_all(scene: &Scene<'_>, idle: Idle) {
    let held: Vec<_> = OTHERS.iter().flat_map(|from| hold(scene.peer, &scene.port, from, 20, idle)).collect();
    assert_eq!((held.len(), count_open(&held)), (ALL - 1, ALL - 1), "with the watch-only node's it is all, {idle:?}");
    assert_eq!(scene.peer.knock("10.77.0.2", PORT, SOON), Met::Silence);
    drop(held);
    wait_for("a place", PATIENCE, || (scene.peer.knock("10.77.0.2", PORT, SOON) == Met::Open).then_some(()));
}

/// Without the packet filter's count, as where another program has taken its rules away.
fn the_proxy_counts_too(scene: &Scene<'_>) {
    scene.stage.host.run(["nft", "flush", "chain", "inet", "lsm", "signer_judge"]).ok();
    let held = hold(scene.peer, &scene.port, OTHERS[0], 500, Idle::Tcp);
    assert!(held.len() > 2 * ALL, "{}: the packet filter counts no more", held.len());
    let open = wait_for("the end of those too many", PATIENCE, || Some(count_open(&held)).filter(|open| *open < ALL));
    assert_eq!(open, ALL - 1, "with the watch-only node's it is all");
    drop(held);
    scene.stage.host.run(["systemctl", "reload", "lsm-firewall"]).ok();
}

fn outlive(scene: &Scene<'_>) {
    scene.unharmed("a flood", || {
        let served = std::thread::scope(|threads| {
            let flooding = threads.spawn(|| flood(scene.peer, &scene.port, OTHERS[0], LASTING, RAPIDLY));
            let mut served = Vec::new();
            while !flooding.is_finished() {
                served.push(scene.peer.knock("10.77.0.2", PORT, RETRANSMITTED));
            }
            flooding.join().expect("a flood");
            served
        });
        assert!(served.iter().all(|met| *met == Met::Open), "another address is served: {served:?}");
    });
    scene.unharmed("a flood from its own address", || {
        flood(scene.peer, &scene.port, WATCH_ONLY, LASTING, RAPIDLY);
    });
    let stranger = scene.stage.host.stranger();
    scene.unharmed("a stranger's flood", || flood(stranger, &scene.port, stranger.v4, LASTING, RAPIDLY));
    scene.unharmed("rapid resets", || {
        reset_rapidly(scene.peer, &scene.port, OTHERS[0], LASTING, RAPIDLY);
    });
    let macaroon = scene.stage.bundle().macaroon.to_hex();
    for call in CALLS {
        for macaroon in [None, Some(macaroon.as_str())] {
            scene.unharmed("a huge request", || {
                let said = call_huge(scene.peer, &scene.port, OTHERS[0], call, macaroon, 1);
                // lnd has read it whole: the refusal is about its content, or about the macaroon that is absent.
                let refusal = if macaroon.is_some() { REFUSALS } else { &["expected 1 macaroon"] };
                assert!(refusal.iter().any(|words| said[0].contains(words)), "{said:?}");
            });
        }
    }
    scene.unharmed("two huge requests at a time", || {
        for _ in 0..4 {
            let said = call_huge(scene.peer, &scene.port, OTHERS[0], CALLS[0], None, 2);
            assert!(said.iter().all(|said| said.contains("expected 1 macaroon")), "{said:?}");
        }
    });
    scene.alive("slow requests without an end", || call_slowly(scene.peer, &scene.port, OTHERS[0], EACH, LASTING));
    scene.alive("huge requests at once", || {
        call_huge(scene.peer, &scene.port, OTHERS[0], CALLS[0], Some(&macaroon), EACH);
    });
}

/// What lnd says to messages that are zeros.
const REFUSALS: &[&str] = &["a key locator MUST be passed in", "Invalid Psbt"];
