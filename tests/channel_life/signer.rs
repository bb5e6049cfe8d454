//! The signer that `lsm install` makes on a bare host, and the watch-only node that `lsm watch-only init` makes of its bundle.

use super::{Kind, Plan};
use crate::lab::disk::Disk;
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

impl<'a> Made<'a> {
    /// Has the node take the host's bundle of now, as its operator does: imported, then lnd started anew.
    #[track_caller]
    pub fn take_bundle(&mut self, plan: &Plan<'_>) {
        self.import_bundle(plan);
        self.watch_only.stop();
        self.watch_only.start_synced();
    }

    /// Loses the watch-only machine, and makes another one of the bundle that it was made of.
    #[track_caller]
    pub fn lose_watch_only(&mut self, plan: &Plan<'a>) {
        self.watch_only.stop();
        self.watch_only = watch(plan, &plan.folder.join("bundle"), "alice-again");
        self.watch_only.wait_synced();
    }

    /// Imports the host's bundle of now; the node reads it at its next start.
    #[track_caller]
    pub fn import_bundle(&self, plan: &Plan<'_>) {
        let bundle = plan.folder.join("new-bundle");
        let _ = std::fs::remove_dir_all(&bundle);
        self.signer.host.copy_out(BUNDLE, &bundle);
        let mut command = plan.net.allowed().command(LSM);
        command.args(["bundle", "import", "--bundle"]).arg(&bundle).arg("--lnddir").arg(&self.watch_only.folder);
        process::run(command).ok();
    }
}

/// Installs a signer on a host of the plan's network, and makes the allowed peer its watch-only node.
pub fn install<'a>(plan: &Plan<'a>) -> Option<Made<'a>> {
    let boot = |disk| Stage::boot_on(plan.net, "signer", plan.release, disk);
    let (stage, more) = match plan.kind {
        Kind::Plain => (boot(Disk::Layer), None),
        Kind::OnDisk(disk) => (boot(disk), None),
        Kind::Docker => (Stage::boot_of_in(Debian::Docker, plan.net, "signer", plan.release), Some("--backend=docker")),
        Kind::Guarded => (boot(Disk::Layer), Some("--guard=enforce")),
    };
    let stage = stage?;
    let taproot = plan.taproot.then_some("--taproot-channels");
    let more: Vec<&str> = taproot.into_iter().chain(more).collect();
    stage.install(&more).ok();
    if matches!(plan.kind, Kind::Guarded) {
        stage.host.sh(&format!("cat >/etc/lsm/signer-guard.toml <<'END'\n{}END", policy(plan.taproot))).ok();
    }
    let bundle = plan.folder.join("bundle");
    stage.host.copy_out(BUNDLE, &bundle);
    check_permissions(&bundle, plan);
    Some(Made { watch_only: watch(plan, &bundle, "alice"), signer: stage })
}

/// What the life needs and no more. What a taproot channel is funded with is not told from what leaves.
fn policy(taproot: bool) -> String {
    let most = if taproot { 2_100_000 } else { 1_100_000 };
    format!(
        "[coins]\nper-transaction = {most}\nper-hour = 7000000\nper-day = 8000000\n\
         [channels]\nper-transaction = 2100000\nper-day = 4500000\n\
         [fees]\nper-transaction = 50000\nper-vbyte = 200\n\
         [rates.message]\nper-minute = 60\n[rates.revocation-root]\nper-minute = 20\n[rates.coins]\nper-minute = 60\n\
         [rates.shared-key]\nper-minute = 1000\n[rates.musig2]\nper-minute = 2000\n"
    )
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
fn watch<'a>(plan: &Plan<'a>, bundle: &Path, name: &str) -> Node<'a> {
    let peer = plan.net.allowed();
    let folder = plan.folder.join(name);
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
