//! The signer that `lsm install` makes on a bare host, and the watch-only node that `lsm watch-only init` makes of its bundle.

use super::Plan;
use crate::lab::host::Debian;
use crate::lab::lnd::Node;
use crate::lab::wait_for;
use crate::lab::{LSM, process};
use crate::stage::{BUNDLE, LISTEN, Stage};
use lsm::bundle::Bundle;
use std::path::Path;
use std::time::Duration;

/// The gRPC port of the watch-only node.
const WATCH_ONLY_PORT: u16 = 11001;

/// What the macaroon of a signer without taproot channels permits.
const THREE: [&str; 3] =
    ["uri:/walletrpc.WalletKit/SignPsbt", "uri:/signrpc.Signer/DeriveSharedKey", "uri:/signrpc.Signer/SignMessage"];

/// What taproot channels need besides; v0.20 knows the first five.
const TAPROOT: [&str; 7] = [
    "uri:/signrpc.Signer/MuSig2CreateSession",
    "uri:/signrpc.Signer/MuSig2RegisterNonces",
    "uri:/signrpc.Signer/MuSig2Sign",
    "uri:/signrpc.Signer/MuSig2CombineSig",
    "uri:/signrpc.Signer/MuSig2Cleanup",
    "uri:/signrpc.Signer/MuSig2RegisterCombinedNonce",
    "uri:/signrpc.Signer/MuSig2GetCombinedNonce",
];

/// A running watch-only node, and the host that holds its keys.
pub struct Made<'a> {
    /// The watch-only node. First, so that it ends before its signer does.
    pub watch_only: Node<'a>,
    /// The host.
    pub signer: Stage,
}

impl Made<'_> {
    /// Has the node take the host's bundle of now, as its operator does: imported, then lnd started anew.
    #[track_caller]
    pub fn take_bundle(&mut self, plan: &Plan<'_>) {
        let bundle = plan.folder.join("new-bundle");
        let _ = std::fs::remove_dir_all(&bundle);
        self.signer.host.copy_out(BUNDLE, &bundle);
        let mut command = plan.net.allowed().command(LSM);
        command.args(["bundle", "import", "--bundle"]).arg(&bundle).arg("--lnddir").arg(&self.watch_only.folder);
        process::run(command).ok();
        self.watch_only.stop();
        self.watch_only.start_synced();
    }
}

/// Installs a signer on a host of the plan's network, and makes the allowed peer its watch-only node.
pub fn install<'a>(plan: &Plan<'a>) -> Option<Made<'a>> {
    let debian = if plan.docker { Debian::Docker } else { Debian::Usual };
    let stage = Stage::boot_of_in(debian, plan.net, "signer", plan.release)?;
    let more = [("--taproot-channels", plan.taproot), ("--backend=docker", plan.docker)];
    let more: Vec<&str> = more.into_iter().filter(|(_, is)| *is).map(|(arg, _)| arg).collect();
    stage.install(&more).ok();
    let bundle = plan.folder.join("bundle");
    stage.host.copy_out(BUNDLE, &bundle);
    check_permissions(&bundle, plan);
    Some(Made { watch_only: watch(plan, &bundle), signer: stage })
}

/// The bundle's macaroon permits exactly what was asked for.
fn check_permissions(bundle: &Path, plan: &Plan<'_>) {
    let musig2 = match (plan.taproot, plan.release.version.starts_with("v0.20.")) {
        (false, _) => &[][..],
        (true, true) => &TAPROOT[..5],
        (true, false) => &TAPROOT,
    };
    let mut wanted = [&THREE[..], musig2].concat();
    wanted.sort_unstable();
    let bundle = Bundle::read(&bundle.to_string_lossy()).expect("the bundle can be read");
    let mut found: Vec<_> = bundle.macaroon.permissions().iter().map(ToString::to_string).collect();
    found.sort_unstable();
    assert_eq!(found, wanted);
}

/// Makes the watch-only node from the bundle, and starts it again as an operator's unit would.
fn watch<'a>(plan: &Plan<'a>, bundle: &Path) -> Node<'a> {
    let peer = plan.net.allowed();
    let folder = plan.folder.join("alice");
    let mut node = Node::lay(plan.release, peer, &folder, WATCH_ONLY_PORT, plan.settings);
    let mut command = peer.command(LSM);
    command.args(["watch-only", "init", "--json", "--signer-host", LISTEN]);
    command.arg("--bundle").arg(bundle).arg("--lnddir").arg(&folder).arg("--lnd").arg(plan.release.lnd());
    let ready = process::run(command).json();
    assert_eq!((&ready["created"], &ready["network"]), (&true.into(), &"regtest".into()));
    // It left its lnd running. Started again, it has to open its wallet by itself.
    node.cli(["stop"]).ok();
    let stat = format!("/proc/{}/stat", ready["pid"]);
    wait_for("the end of the first lnd", Duration::from_secs(30), || {
        // Where nobody waits for orphans, an ended one stays as a zombie.
        let gone = std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        gone.then_some(())
    });
    node.start("SERVER_ACTIVE");
    node
}
