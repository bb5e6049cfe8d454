//! The installed signer and its network: who reaches it, who does not, and what it says over restarts, crashes and reboots.

use crate::lab::net::Met;
use crate::lab::wait_for;
use crate::stage::port::call_while;
use crate::stage::watch_only::WatchOnly;
use crate::stage::{LISTEN, PORT, RESTARTED, Stage};
use lsm::signer::wallet::State;
use std::sync::Arc;
use std::time::Duration;

/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_port_is_the_allowed_peers_and_answers_only_when_it_can_sign() {
    let Some(mut stage) = Stage::boot("network") else { return };
    stage.install(&[]).ok();
    let folder = tempfile::tempdir().unwrap();
    let net = Arc::clone(stage.host.net());
    let mut peer = WatchOnly::set_up(&stage, net.allowed(), folder.path());
    peer.check();
    only_the_allowed_peer_reaches_it(&stage);
    without_the_packet_filter_it_is_still_shut(&stage);
    nftables_brings_the_table_back(&stage);

    call_while(&stage.host, || {
        a_restart_keeps_callers_waiting(&stage);
        a_killed_lnd_comes_back(&stage);
        a_stopped_signer_stays_stopped(&stage);
    });
    peer.check();

    stage.host.stop();
    stage.host.start_early();
    call_while(&stage.host, || wait_for("the signer after a boot", PATIENCE, || can_sign(&stage).then_some(())));
    assert_eq!(stage.host.stranger().knock("10.77.0.2", PORT, SOON), Met::Silence);
    peer.check();
}

#[test]
fn in_host_mode_it_is_as_shut_and_with_taproot_channels_musig2_is_permitted() {
    let Some(stage) = Stage::boot("hostmode") else { return };
    call_while(&stage.host, || {
        let done = stage.install(&["--mode=host", "--taproot-channels"]);
        assert!(done.stderr.contains("MuSig2"), "{}", done.stderr);
        done.ok();
        stage.host.run(["systemctl", "restart", "lsm@signer"]).ok();
        wait_for("an answer", PATIENCE, || can_sign(&stage).then_some(()));
    });
    let exposure = stage.exposure("lsm@signer.service");
    let status = stage.host.lsm(["status", "--json"]).json();
    assert_eq!(status["unit_filters"], true, "{status}");
    println!("MEASURED exposure in host mode: {exposure}");
    assert!(exposure <= 1.0, "{exposure}");
    let addresses = stage.host.sh("ss -Hltn | awk '{ print $4 }'").ok();
    assert_eq!(addresses.lines().collect::<Vec<_>>(), [LISTEN]);
    only_the_allowed_peer_reaches_it(&stage);
    without_the_packet_filter_it_is_still_shut(&stage);
    nftables_brings_the_table_back(&stage);
    a_killed_lnd_comes_back(&stage);

    let signer = stage.signer();
    let keys = [stage.bundle().identity_pubkey().to_owned(), GENERATOR.to_owned()].map(|key| hex::decode(key).unwrap());
    stage.host.allowed().inside(|| signer.try_musig2(6, 0, &keys)).unwrap();

    // What lnd's user sends by itself is dropped: to others, and over loopback too.
    let _far = stage.host.allowed().inside(|| std::net::TcpListener::bind("10.77.0.3:7777").unwrap());
    let _near = stage.host.inside(|| std::net::TcpListener::bind("127.0.0.1:7778").unwrap());
    for to in ["10.77.0.3/7777", "127.0.0.1/7778"] {
        let call = |user: &str| {
            let connect = format!("exec 3<>/dev/tcp/{to}");
            stage.host.run(["setpriv", "--reuid", user, "--clear-groups", "timeout", "2", "bash", "-c", &connect]).code
        };
        assert_eq!(call("nobody"), 0, "{to}");
        assert_ne!(call("lsm-signer"), 0, "{to}");
    }

    stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open);
}

/// A public key that everybody knows: the generator of secp256k1, compressed.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn can_sign(stage: &Stage) -> bool {
    let node = stage.signer();
    stage.host.allowed().inside(|| node.state()).is_ok_and(|state| state == State::Active)
}

fn only_the_allowed_peer_reaches_it(stage: &Stage) {
    assert!(can_sign(stage));
    let (stranger, allowed) = (stage.host.stranger(), stage.host.allowed());
    let before = stage.dropped();
    assert_eq!(stranger.knock("10.77.0.2", PORT, SOON), Met::Silence);
    let after = stage.dropped();
    assert!(after > before, "the counter stands at {after}");
    // Not listened on, and still silence: nothing tells an unlisted peer that there is a signer.
    assert_eq!(stranger.knock("fd77::2", PORT, SOON), Met::Silence);
    assert_eq!(allowed.knock("fd77::2", PORT, SOON), Met::Silence, "only its IPv4 address is listed");
    assert!(stage.dropped() > after);
    assert_eq!(stranger.knock("10.77.0.2", PORT + 1, SOON), Met::Refused, "what is no signer's port is left alone");
}

fn without_the_packet_filter_it_is_still_shut(stage: &Stage) {
    stage.host.run(["nft", "flush", "ruleset"]).ok();
    assert_ne!(stage.host.stranger().knock("10.77.0.2", PORT, SOON), Met::Open);
    assert!(can_sign(stage), "and open to whom it was");
    stage.host.run(["systemctl", "reload", "lsm-firewall"]).ok();
    only_the_allowed_peer_reaches_it(stage);
}

fn nftables_brings_the_table_back(stage: &Stage) {
    for verb in ["start", "restart", "reload", "stop", "start"] {
        stage.host.run(["systemctl", verb, "nftables"]).ok();
        assert!(stage.host.run(["nft", "list", "tables"]).ok().contains("table inet lsm\n"), "after {verb}");
        assert!(can_sign(stage), "after {verb}");
    }
    stage.host.run(["systemctl", "stop", "nftables"]).ok();
    only_the_allowed_peer_reaches_it(stage);
}

fn a_restart_keeps_callers_waiting(stage: &Stage) {
    let node = stage.signer();
    let mut answers = Vec::new();
    std::thread::scope(|threads| {
        let restart = threads.spawn(|| stage.host.run(["systemctl", "restart", "lsm@signer"]));
        while !restart.is_finished() {
            if !stage.is_active("lsm@signer") {
                answers.push(stage.host.allowed().inside(|| node.state()));
            }
        }
        restart.join().expect("a restart").ok();
    });
    assert!(!answers.is_empty(), "the restart was over before anybody called");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(State::Active))), "{answers:?}");
}

fn a_killed_lnd_comes_back(stage: &Stage) {
    let pid = stage.lnd();
    stage.host.run(["kill", "-9", &pid.to_string()]).ok();
    wait_for("lnd's end", PATIENCE, || (!stage.proc(pid, "status").exists()).then_some(()));
    wait_for("the signer after a kill", PATIENCE, || can_sign(stage).then_some(()));
    assert_ne!(stage.lnd(), pid);
}

fn a_stopped_signer_stays_stopped(stage: &Stage) {
    stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open);
    std::thread::sleep(RESTARTED);
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open, "a while later too");
    for unit in ["lsm@signer.service", "lsm-proxy@signer.socket", "lsm-proxy@signer.service"] {
        assert!(!stage.is_active(unit), "{unit}");
    }
    stage.host.run(["systemctl", "start", "lsm@signer"]).ok();
    wait_for("the port", PATIENCE, || can_sign(stage).then_some(()));
}
