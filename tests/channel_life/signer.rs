//! The signer and the watch-only node that uses it, made in two ways: by hand, and by lsm on a real host.

use crate::Plan;
use crate::lab::host::Host;
use crate::lab::lnd::{Node, Seat};
use crate::lab::process;
use serde_json::Value;
use std::path::Path;

/// The gRPC port of the watch-only node.
const WATCH_ONLY_PORT: u16 = 11001;

/// What the macaroon of a signer without taproot channels allows.
const THREE: [&str; 3] =
    ["uri:/walletrpc.WalletKit/SignPsbt", "uri:/signrpc.Signer/DeriveSharedKey", "uri:/signrpc.Signer/SignMessage"];

/// What taproot channels need besides, of either version; lnd refuses to bake what it does not know.
const TAPROOT: [&str; 7] = [
    "uri:/signrpc.Signer/MuSig2CreateSession",
    "uri:/signrpc.Signer/MuSig2RegisterNonces",
    "uri:/signrpc.Signer/MuSig2Sign",
    "uri:/signrpc.Signer/MuSig2CombineSig",
    "uri:/signrpc.Signer/MuSig2Cleanup",
    "uri:/signrpc.Signer/MuSig2RegisterCombinedNonce",
    "uri:/signrpc.Signer/MuSig2GetCombinedNonce",
];

/// A running watch-only node, and what holds its keys.
pub struct Made<'a> {
    /// The watch-only node. First, so that it ends before its signer does.
    pub watch_only: Node<'a>,
    _signer: Keys<'a>,
}

enum Keys<'a> {
    Plain(#[expect(dead_code, reason = "held to keep it running")] Node<'a>),
    Installed(#[expect(dead_code, reason = "held to keep it running")] Host),
}

/// lnd itself as the signer with a macaroon of three permissions, the wallet made with lncli: what lsm does, without lsm.
pub fn by_hand<'a>(plan: &Plan<'a>) -> Option<Made<'a>> {
    let seat = Seat::At(plan.net.allowed());
    let alone = "bitcoin.node=nochainbackend\nnoseedbackup=true\n";
    let mut signer = Node::lay(plan.release, seat, &plan.folder.join("signer"), 10012, alone);
    signer.start("SERVER_ACTIVE");
    let (accounts, macaroon) = (plan.folder.join("accounts.json"), plan.folder.join("signer.macaroon"));
    std::fs::write(&accounts, signer.cli(["wallet", "accounts", "list"]).ok()).expect("the accounts are kept");
    let musig2 = match (plan.taproot, plan.release.version.starts_with("v0.20.")) {
        (false, _) => &[][..],
        (true, true) => &TAPROOT[..5],
        (true, false) => &TAPROOT,
    };
    signer.cli([&["bakemacaroon", "--save_to", &macaroon.display().to_string()], &THREE[..], musig2].concat()).ok();

    let settings = format!(
        "{}remotesigner.enable=true\nremotesigner.rpchost=127.0.0.1:10012\nremotesigner.tlscertpath={}\n\
         remotesigner.macaroonpath={}\n",
        plan.settings,
        plan.folder.join("signer/tls.cert").display(),
        macaroon.display()
    );
    let mut node = Node::lay(plan.release, seat, &plan.folder.join("alice"), WATCH_ONLY_PORT, &settings);
    node.start("NON_EXISTING");
    create_by_hand(&node, seat, &accounts);
    Some(Made { watch_only: node, _signer: Keys::Plain(signer) })
}

/// Answers what `lncli createwatchonly` asks on a terminal: a password twice, no birthday, the usual look-ahead.
fn create_by_hand(node: &Node, seat: Seat, accounts: &Path) {
    let mut command = seat.command("sh");
    let line = format!(
        "{} --lnddir={} --network=regtest --rpcserver=127.0.0.1:{} createwatchonly {}",
        node.release.lncli().display(),
        node.folder.display(),
        node.port,
        accounts.display()
    );
    let answers = "for a in password password '' ''; do sleep 1; echo \"$a\"; done";
    command.args(["-c", &format!("({answers}) | script -qec '{line}' /dev/null")]);
    process::run(command).ok();
    node.wait_active();
}

/// `lsm install` on a bare host, and `lsm watch-only init` on the allowed peer.
pub fn installed<'a>(plan: &Plan<'a>) -> Option<Made<'a>> {
    let archive = plan.release.archive()?;
    let host = Host::boot_in(plan.net, "signer", 2, None)?;
    let inside = format!("/root/{}", archive.file_name()?.to_string_lossy());
    host.copy_in(&archive, &inside, 0o644);
    let version = plan.release.version.as_str();
    let mut line = vec!["install", "--network", "regtest", "--from", &inside, "--listen", "10.77.0.2:10012"];
    line.extend(["--allow", "10.77.0.3", "--seed-out", "/root/seed", "--bundle-out", "/root/bundle", "--yes"]);
    line.extend(["--release", version]);
    if version.starts_with("v0.20.") {
        line.extend(["--accept-risk", version]);
    }
    if plan.taproot {
        line.push("--taproot-channels");
    }
    host.lsm(line).ok();
    let bundle = plan.folder.join("bundle");
    host.copy_out("/root/bundle", &bundle);
    check_permissions(&bundle, plan.taproot);
    let node = watch(plan, &bundle);
    Some(Made { watch_only: node, _signer: Keys::Installed(host) })
}

/// Makes the watch-only node from the bundle, as an operator would.
fn watch<'a>(plan: &Plan<'a>, bundle: &Path) -> Node<'a> {
    let seat = Seat::At(plan.net.allowed());
    let folder = plan.folder.join("alice");
    let mut node = Node::lay(plan.release, seat, &folder, WATCH_ONLY_PORT, plan.settings);
    let mut command = seat.command(crate::lab::LSM);
    command.args(["watch-only", "init", "--for", "lnd", "--signer-host", "10.77.0.2:10012"]);
    command.arg("--bundle").arg(bundle).arg("--lnddir").arg(&folder).arg("--conf").arg(folder.join("lnd.conf"));
    command.arg("--lnd").arg(plan.release.lnd());
    process::run(command).ok();
    node.start("SERVER_ACTIVE");
    node
}

/// The bundle's macaroon is for what was asked: with MuSig2 or without.
fn check_permissions(bundle: &Path, taproot: bool) {
    let text = std::fs::read(bundle.join("admin.macaroon")).expect("the bundle's macaroon");
    let text = String::from_utf8_lossy(&text).into_owned();
    for uri in THREE {
        assert!(text.contains(uri.trim_start_matches("uri:")), "{uri} is missing");
    }
    assert_eq!(text.contains("MuSig2"), taproot);
    let described: Value = serde_json::from_slice(&std::fs::read(bundle.join("bundle.json")).expect("bundle.json"))
        .expect("bundle.json is JSON");
    assert_eq!(described["network"], "regtest");
}
