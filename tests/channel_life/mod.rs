//! A whole channel life on a real chain, every signature of one side coming from the signer.

mod credentials;
pub mod life;
pub mod signer;

use crate::lab::btcd::{self, Chain};
use crate::lab::disk::Disk;
use crate::lab::lnd::{Node, RELEASES, Release};
use crate::lab::net::Net;
use crate::stage::Stage;
use serde_json::Value;

/// What kind of signer it is.
#[derive(Clone, Copy)]
pub enum Kind {
    Plain,
    /// On a disk of its own, which can be full.
    OnDisk(Disk),
    /// In a container.
    Docker,
    /// With a guard that enforces.
    Guarded,
}

/// Lives it with `version` of lnd on all sides.
fn live(version: &str, taproot: bool, kind: Kind) {
    with_signer(version, taproot, kind, |made, bob, chain, plan| {
        life::live(&made.watch_only, bob, chain, taproot);
        assert!(made.watch_only.alive(), "the watch-only node ended: {}", made.watch_only.log_end());
        if matches!(kind, Kind::Plain) {
            life::comes_back(made, bob, chain, plan);
        }
        if matches!(kind, Kind::Guarded) {
            life_was_passed_and_counted(&made.signer, taproot);
        }
    });
}

/// All that the node asked for in its life was passed, and what it sent was counted.
fn life_was_passed_and_counted(signer: &Stage, taproot: bool) {
    let coins = passed_coins(signer);
    let is_within =
        |name: &str, least: u64, most: u64| coins[name].as_u64().is_some_and(|sum| (least..most).contains(&sum));
    // Two sends of a million, two of three hundred thousand, and fees; two channels of two millions.
    let (left, into_channels) = if taproot { (6_600_000, 0) } else { (2_600_000, 4_000_000) };
    assert!(is_within("last_day", left, left + 100_000), "{coins}");
    assert!(is_within("into_channels", into_channels, into_channels + 1), "{coins}");
}

/// What left the wallet's coins as the guard counts it, which has refused nothing.
pub fn passed_coins(signer: &Stage) -> Value {
    let found = signer.host.lsm(["guard", "log", "--json", "-n", "100000"]).json();
    let entries = found["entries"].as_array().expect("entries");
    let refused: Vec<_> = entries.iter().filter(|entry| entry["verdict"] != "passed").collect();
    assert!(refused.is_empty() && entries.len() > 50, "{} of {}: {refused:?}", refused.len(), entries.len());
    signer.host.lsm(["guard", "status", "--json"]).json()["coins"].clone()
}

/// Makes a chain, Bob who has the money, and a watch-only node whose keys an installed signer has; then does the work.
pub fn with_signer(
    version: &str,
    taproot: bool,
    kind: Kind,
    work: impl for<'a> FnOnce(&mut signer::Made<'a>, &mut Node<'_>, &Chain<'_>, &Plan<'a>),
) {
    let (Some(release), Some(programs)) = (Release::find(version), btcd::programs()) else { return };
    let Some(net) = Net::build() else { return };
    let folder = tempfile::tempdir().expect("a folder for the nodes");
    let (path, peer) = (folder.path(), net.allowed());

    // The counterparty first, without a chain: the chain pays for its blocks to an address of his.
    let alone = "noseedbackup=true\nbitcoin.node=nochainbackend\n";
    let mut bob = Node::lay(&release, peer, &path.join("bob"), 11011, alone);
    bob.start("SERVER_ACTIVE");
    let miner = bob.json(["newaddress", "p2wkh"])["address"].as_str().expect("an address").to_owned();
    bob.stop();
    let chain = Chain::start(&programs, peer, &path.join("chain"), &miner);
    // Segwit and taproot are active after about 450 blocks.
    chain.mine(450);

    let settings = format!("{}{}", chain.settings(), if taproot { life::TAPROOT } else { "" });
    let mut bob = Node::lay(&release, peer, &path.join("bob"), 11011, &format!("noseedbackup=true\n{settings}"));
    bob.start_synced();
    let plan = Plan { release: &release, net: &net, folder: path, settings: &settings, taproot, kind };
    let Some(mut made) = signer::install(&plan) else { return };
    made.watch_only.wait_synced();
    work(&mut made, &mut bob, &chain, &plan);
}

/// What the watch-only node and its signer are made for.
pub struct Plan<'a> {
    /// What all of them run.
    pub release: &'a Release,
    /// The network between them.
    pub net: &'a std::sync::Arc<Net>,
    /// Where the nodes' folders are.
    pub folder: &'a std::path::Path,
    /// What the watch-only node's settings say of the chain and of channels.
    pub settings: &'a str,
    /// Channels are taproot channels.
    pub taproot: bool,
    /// The signer.
    pub kind: Kind,
}

#[test]
fn a_channel_lives_through_an_installed_signer() {
    live(RELEASES[0], false, Kind::Plain);
}

#[test]
fn a_channel_lives_through_a_signer_in_a_container() {
    live(RELEASES[0], false, Kind::Docker);
}

#[test]
#[ignore = "long: a guard that enforces"]
fn a_channel_lives_under_a_guard_that_enforces() {
    live(RELEASES[0], false, Kind::Guarded);
}

#[test]
#[ignore = "long: a guard that enforces"]
fn a_taproot_channel_of_the_original_version_lives_under_a_guard_that_enforces() {
    live(RELEASES[1], true, Kind::Guarded);
}

#[test]
#[ignore = "long: a guard that enforces"]
fn a_channel_of_the_original_version_lives_under_a_guard_that_enforces() {
    live(RELEASES[1], false, Kind::Guarded);
}

#[test]
#[ignore = "long: a guard that enforces"]
fn a_taproot_channel_lives_under_a_guard_that_enforces() {
    live(RELEASES[0], true, Kind::Guarded);
}

#[test]
#[ignore = "long: a guard that enforces"]
fn a_breach_is_punished_under_a_guard_that_enforces() {
    with_signer(RELEASES[0], false, Kind::Guarded, |made, bob, chain, _| {
        life::receive(&made.watch_only, bob, chain);
        let identity = life::connect(&made.watch_only, bob);
        let channel = life::open(&made.watch_only, bob, chain, &identity, false);
        life::punish(&mut made.watch_only, bob, chain, &channel);
        passed_coins(&made.signer);
    });
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_taproot_channel_lives_through_an_installed_signer() {
    live(RELEASES[0], true, Kind::Plain);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_channel_lives_through_an_installed_signer_of_the_original_version() {
    live(RELEASES[1], false, Kind::Plain);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_taproot_channel_lives_through_an_installed_signer_of_the_original_version() {
    live(RELEASES[1], true, Kind::Plain);
}

#[test]
#[ignore = "long: other credentials under a channel"]
fn a_channel_lives_through_other_credentials_of_its_signer() {
    with_signer(RELEASES[0], false, Kind::Plain, |made, bob, chain, plan| {
        credentials::change_all(made, bob, chain, plan)
    });
}

#[test]
#[ignore = "long: other credentials under a channel"]
fn a_channel_lives_through_other_credentials_of_its_signer_in_a_container() {
    with_signer(RELEASES[0], false, Kind::Docker, |made, bob, chain, plan| {
        credentials::change_all(made, bob, chain, plan)
    });
}

#[test]
#[ignore = "long: the signer's role, call by call"]
fn without_any_one_call_of_its_role_a_part_of_the_channels_life_fails() {
    with_signer(RELEASES[0], false, Kind::Plain, |made, bob, chain, plan| {
        credentials::leave_out_each(made, bob, chain, plan)
    });
}

#[test]
#[ignore = "long: the signer's role, call by call"]
fn without_any_one_call_of_musig2_a_part_of_what_taproot_needs_fails() {
    with_signer(RELEASES[0], true, Kind::Plain, |made, bob, chain, plan| {
        credentials::leave_out_each(made, bob, chain, plan)
    });
}
