//! Who may connect is changed under a live watch-only node: no gap for those who stay, an end for those who go, and root's own way in.

use crate::lab::lnd::RELEASES;
use crate::lab::lnd::Release;
use crate::lab::net::{Met, Net, Peer};
use crate::lab::{process::Done, wait_for};
use crate::stage::watch::Until;
use crate::stage::watch_only::WatchOnly;
use crate::stage::{LISTEN, PORT, Stage};
use lsm::plan::{Door, prove_outside};
use lsm::signer::Node;
use lsm::watch_only::prove_at_signer;
use serde_json::json;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the other peer comes and goes while the watch-only node signs.
const ROUNDS: u32 = 12;
/// An address of the other peer that is never allowed.
const NEVER: &str = "10.77.0.44";

#[test]
fn an_isolated_signers_list_changes_while_it_signs() {
    with_signer("isolated", |stage, net| {
        the_list_says_what_it_does(stage);
        those_who_stay_notice_nothing(stage, net);
        whoever_is_removed_is_cut_off(stage, net);
        root_alone_of_this_host_passes(stage, LISTEN);
        with_nobody_allowed_root_still_passes(stage, net);
        over_loopback_too(stage);
    });
}

#[test]
fn in_host_mode_the_list_changes_while_it_signs() {
    with_signer("host", |stage, net| {
        those_who_stay_notice_nothing(stage, net);
        whoever_is_removed_is_cut_off(stage, net);
        root_alone_of_this_host_passes(stage, LISTEN);
        with_nobody_allowed_root_still_passes(stage, net);
    });
}

fn with_signer(mode: &str, work: impl FnOnce(&Stage, &Net)) {
    let (Some(release), Some(net)) = (Release::find(RELEASES[0]), Net::build()) else { return };
    let Some(stage) = Stage::boot_in(&net, "allowlist", &release) else { return };
    stage.install(&[&format!("--mode={mode}")]).ok();
    net.stranger().run(["ip", "address", "add", &format!("{NEVER}/24"), "dev", "eth0"]).ok();
    work(&stage, &Arc::clone(&net));
}

fn allow(stage: &Stage, args: &[&str]) -> Done {
    stage.host.lsm(["allow"].iter().chain(args).chain(&["--yes"]))
}

fn the_list_says_what_it_does(stage: &Stage) {
    let dry = |args: &[&str]| stage.host.lsm(["allow"].iter().chain(args).chain(&["--dry-run", "--json"])).json();
    let kinds = |plan: serde_json::Value| {
        let steps = plan["steps"].as_array().expect("steps").clone();
        steps.iter().map(|step| step["kind"].as_str().expect("a kind").to_owned()).collect::<Vec<_>>()
    };
    let all = ["text", "firewall", "cut", "text", "reload-units"];
    assert_eq!(kinds(dry(&["add", "10.77.0.4"])), all);
    assert_eq!(dry(&["add", "10.77.0.3"]), json!({"steps": []}));
    assert_eq!(dry(&["remove", "10.77.0.4"]), json!({"steps": []}));
    assert_eq!(stage.host.lsm(["allow", "add", "10.77.0.4"]).code, 2, "without a terminal it needs --yes");
    let listed = || stage.host.lsm(["allow", "list", "--json"]).json()["allow"].clone();
    assert_eq!(listed(), json!(["10.77.0.3/32"]));
    let added = allow(stage, &["add", "10.77.0.128/26", "--json"]).json();
    assert_eq!((&added["changed"], listed()), (&json!(true), json!(["10.77.0.3/32", "10.77.0.128/26"])));
    let again = allow(stage, &["add", "10.77.0.130", "--json"]).json();
    assert_eq!(again["changed"], false);
    let part = allow(stage, &["remove", "10.77.0.130"]);
    assert!(part.code == 1 && part.stderr.contains("10.77.0.128/26"), "{part:?}");
    allow(stage, &["remove", "10.77.0.128/25"]).ok();
    assert_eq!(listed(), json!(["10.77.0.3/32"]));
    assert_eq!(allow(stage, &["remove", "10.77.0.130", "--json"]).json()["changed"], false);
    let mut same = stage.arguments();
    same.extend(["--dry-run".into(), "--json".into()]);
    assert_eq!(stage.host.lsm(&same).json(), json!({"steps": []}), "the spec says the same");
}

/// Connections one after the other until `over`: how many came, what else came, and the longest wait.
fn knock_until(peer: &Peer, from: Option<&str>, limit: Duration, over: &AtomicBool) -> (u32, Vec<String>, Duration) {
    let (mut open, mut failed, mut longest) = (0, Vec::new(), Duration::ZERO);
    peer.inside(|| {
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            match connect(from, limit) {
                Ok(()) => open += 1,
                Err(e) => failed.push(e.to_string()),
            }
            longest = longest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    (open, failed, longest)
}

/// A connection from one of a peer's addresses; one that took too long is an error too.
fn connect(from: Option<&str>, limit: Duration) -> std::io::Result<()> {
    let to: SocketAddr = LISTEN.parse().expect("an address");
    let socket = TcpSocket::new_v4()?;
    // Reset, not closed: what is left of it must not count against the next ones.
    socket.set_zero_linger()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(limit, socket.connect(to)).await })??;
    Ok(())
}

fn those_who_stay_notice_nothing(stage: &Stage, net: &Net) {
    let folder = tempfile::tempdir().unwrap();
    let kept = WatchOnly::set_up(stage, net.allowed(), folder.path()).keep();
    let since =
        |unit: &str| stage.host.run(["systemctl", "show", "--property=ActiveEnterTimestampMonotonic", unit]).ok();
    let running = || (kept.starts(), stage.lnd(), since("lsm-proxy@signer.socket"), since("lsm-firewall.service"));
    let before = running();
    let over = AtomicBool::new(false);
    let (stays, never) = std::thread::scope(|threads| {
        let until = Until(&over);
        let stays = threads.spawn(|| knock_until(net.allowed(), None, PATIENCE, &over));
        let never = threads.spawn(|| knock_until(net.stranger(), Some(NEVER), Duration::from_millis(100), &over));
        kept.sign_while(|asking| {
            asking.wait_signed();
            for _ in 0..ROUNDS {
                allow(stage, &["add", "10.77.0.4"]).ok();
                assert_eq!(net.stranger().knock("10.77.0.2", PORT, PATIENCE), Met::Open);
                allow(stage, &["remove", "10.77.0.4"]).ok();
                assert_eq!(net.stranger().knock("10.77.0.2", PORT, SOON), Met::Silence);
            }
            asking.wait_signed();
            let (signed, failed) = asking.so_far();
            println!("MEASURED {} changes of the allowlist: {signed} signatures meanwhile", 2 * ROUNDS);
            assert!(failed.is_empty(), "{signed} signatures, {failed:?}");
        });
        drop(until);
        (stays.join().expect("a peer"), never.join().expect("a peer"))
    });
    assert_eq!(running(), before, "nothing is started anew");
    let (open, failed, longest) = stays;
    println!("MEASURED who stays: {open} connections, the longest took {} ms", longest.as_millis());
    assert!(open > 0 && failed.is_empty(), "{open}, {failed:?}");
    assert!(never.0 == 0 && !never.1.is_empty(), "{never:?}");
}

fn whoever_is_removed_is_cut_off(stage: &Stage, net: &Net) {
    let to: SocketAddr = LISTEN.parse().expect("an address");
    allow(stage, &["add", "10.77.0.4"]).ok();
    let mut there = net.stranger().inside(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    let mut stays = net.allowed().inside(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    let held = |peer: &str| stage.host.sh(&format!("ss -Htn state established dst {peer}")).ok().lines().count();
    wait_for("the connections", PATIENCE, || (held("10.77.0.4") == 1 && held("10.77.0.3") > 0).then_some(()));
    allow(stage, &["remove", "10.77.0.4"]).ok();
    assert_eq!(held("10.77.0.4"), 0, "its place is free");
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = there.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset, "it is told");
    stays.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silent = stays.read(&mut [0]).unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock, "who stays is not");
    assert_eq!(net.stranger().knock("10.77.0.2", PORT, SOON), Met::Silence);
}

/// As root, and as others, from the signer's own host.
fn root_alone_of_this_host_passes(stage: &Stage, listen: &str) {
    let bundle = stage.bundle();
    let node = Node::new(listen.parse().unwrap(), &bundle.certificate).with_macaroon(&bundle.macaroon);
    stage.host.inside(|| prove_at_signer(&node, bundle.identity_pubkey())).unwrap();
    // As lsm itself does it there.
    let place = |path: &str| stage.host.path(path);
    let door = Door {
        socket: place("/run/lsm/signer/lnd.sock"),
        certificate: place("/etc/lsm/signer/tls.cert"),
        macaroon: place("/run/lsm/signer-admin/admin.macaroon"),
    };
    let receipt = place("/etc/lsm/signer/wallet.toml");
    stage.host.inside(|| prove_outside(&door, &receipt, listen, listen.parse().unwrap())).unwrap();
    let call = |user: &str| {
        let connect = format!("exec 3<>/dev/tcp/{}", listen.replace(':', "/"));
        stage.host.run(["setpriv", "--reuid", user, "--clear-groups", "timeout", "2", "bash", "-c", &connect]).code
    };
    assert_eq!(call("root"), 0);
    for user in ["nobody", "lsm-signer", "lsm-proxy-signer"] {
        assert_ne!(call(user), 0, "{user}");
    }
}

fn with_nobody_allowed_root_still_passes(stage: &Stage, net: &Net) {
    let said = allow(stage, &["remove", "10.77.0.3"]).ok();
    assert!(said.contains("nobody may connect"), "{said}");
    for peer in [net.allowed(), net.stranger()] {
        assert_eq!(peer.knock("10.77.0.2", PORT, SOON), Met::Silence);
    }
    root_alone_of_this_host_passes(stage, LISTEN);
    // What was changed is what a restart finds.
    stage.host.run(["systemctl", "restart", "lsm-firewall", "lsm@signer"]).ok();
    assert_eq!(net.allowed().knock("10.77.0.2", PORT, SOON), Met::Silence);
    allow(stage, &["add", "10.77.0.3"]).ok();
    assert_eq!(net.allowed().knock("10.77.0.2", PORT, PATIENCE), Met::Open);
}

fn over_loopback_too(stage: &Stage) {
    let near = "127.0.0.1:10012";
    let is_listen = |arg: &String| arg.starts_with("--listen=");
    let mut arguments: Vec<String> = stage.arguments().into_iter().filter(|arg| !is_listen(arg)).collect();
    arguments.push(format!("--listen={near}"));
    stage.install_with(&arguments, &[]).ok();
    root_alone_of_this_host_passes(stage, near);
}
