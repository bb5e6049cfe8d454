//! A whole channel life on a real chain, every signature of one side coming from the signer.

mod credentials;
pub mod life;
pub mod signer;

use crate::lab::btcd::{self, Chain};
use crate::lab::disk::Disk;
use crate::lab::lnd::{Node, RELEASES, Release};
use crate::lab::net::Net;

/// Lives it with `version` of lnd on all sides.
fn live(version: &str, taproot: bool, docker: bool) {
    with_signer(version, taproot, docker, |made, bob, chain, _| {
        life::live(&made.watch_only, bob, chain, taproot);
        assert!(made.watch_only.alive(), "the watch-only node ended: {}", made.watch_only.log_end());
    });
}

/// Makes a chain, Bob who has the money, and a watch-only node whose keys an installed signer has; then does the work.
fn with_signer(
    version: &str,
    taproot: bool,
    docker: bool,
    work: impl FnOnce(&mut signer::Made<'_>, &Node<'_>, &Chain<'_>, &Plan<'_>),
) {
    with_signer_on(Disk::Layer, version, taproot, docker, work);
}

/// The same, the signer's host on a disk of this kind where it has no container.
pub fn with_signer_on(
    disk: Disk,
    version: &str,
    taproot: bool,
    docker: bool,
    work: impl FnOnce(&mut signer::Made<'_>, &Node<'_>, &Chain<'_>, &Plan<'_>),
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
    let plan = Plan { disk, release: &release, net: &net, folder: path, settings: &settings, taproot, docker };
    let Some(mut made) = signer::install(&plan) else { return };
    made.watch_only.wait_synced();
    work(&mut made, &bob, &chain, &plan);
}

/// What the watch-only node and its signer are made for.
pub struct Plan<'a> {
    /// The disk of the signer's host.
    pub disk: Disk,
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
    /// The signer is in a container.
    pub docker: bool,
}

#[test]
fn a_channel_lives_through_an_installed_signer() {
    live(RELEASES[0], false, false);
}

#[test]
fn a_channel_lives_through_a_signer_in_a_container() {
    live(RELEASES[0], false, true);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_taproot_channel_lives_through_an_installed_signer() {
    live(RELEASES[0], true, false);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_channel_lives_through_an_installed_signer_of_the_original_version() {
    live(RELEASES[1], false, false);
}

#[test]
#[ignore = "long: the rest of the matrix"]
fn a_taproot_channel_lives_through_an_installed_signer_of_the_original_version() {
    live(RELEASES[1], true, false);
}

#[test]
#[ignore = "long: other credentials under a channel"]
fn a_channel_lives_through_other_credentials_of_its_signer() {
    with_signer(RELEASES[0], false, false, credentials::change_all);
}

#[test]
#[ignore = "long: other credentials under a channel"]
fn a_channel_lives_through_other_credentials_of_its_signer_in_a_container() {
    with_signer(RELEASES[0], false, true, credentials::change_all);
}

#[test]
#[ignore = "long: the signer's role, call by call"]
fn without_any_one_call_of_its_role_a_part_of_the_channels_life_fails() {
    with_signer(RELEASES[0], false, false, credentials::leave_out_each);
}

#[test]
#[ignore = "long: the signer's role, call by call"]
fn without_any_one_call_of_musig2_a_part_of_what_taproot_needs_fails() {
    with_signer(RELEASES[0], true, false, credentials::leave_out_each);
}
