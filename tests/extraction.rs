//! MuSig2 gives private keys away: an installed signer begins no session unless it was installed for taproot channels.

use crate::faults::cut::{self, Moment};
use crate::lab::trace::Fate;
use crate::stage::{Stage, endpoint};
use lsm::bundle::Bundle;
use lsm::error::Result;
use lsm::signer::{MACAROON_REFUSED, NOT_PERMITTED, Node, proof};
use nix::errno::Errno;

/// The generator point of secp256k1: some other party's valid key.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// The first of an extraction's two calls, with this bundle, from the allowed peer: a session for the identity's key
/// with a nonce that the caller knows.
fn extract(stage: &Stage, bundle: &Bundle) -> Result<()> {
    let keys = [bundle.identity_pubkey(), GENERATOR].map(|key| hex::decode(key).unwrap());
    let (family, index) = proof::IDENTITY;
    let signer = Node::new(endpoint(), &bundle.certificate).with_macaroon(&bundle.macaroon);
    stage.host.allowed().inside(|| signer.try_musig2(family, index, &keys))
}

#[test]
fn the_bundle_takes_no_key_unless_taproot_channels_were_asked_for() {
    let Some(stage) = Stage::boot("extraction") else { return };
    stage.install(&[]).ok();
    let least = stage.bundle();
    assert_eq!(extract(&stage, &least).unwrap_err().code(), NOT_PERMITTED);

    let said = stage.install(&["--taproot-channels"]);
    assert!(said.stderr.contains("private keys"), "{}", said.stderr);
    said.ok();
    let wide = stage.bundle();
    extract(&stage, &wide).unwrap();
    assert_eq!(extract(&stage, &least).unwrap_err().code(), NOT_PERMITTED, "the first bundle is as narrow as it was");

    // Undone, it is worth nothing either, and done again it is another one.
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert_eq!(extract(&stage, &wide).unwrap_err().code(), MACAROON_REFUSED);
    assert_eq!(extract(&stage, &least).unwrap_err().code(), NOT_PERMITTED);
    stage.install(&["--taproot-channels"]).ok();
    let wide = stage.bundle();
    extract(&stage, &wide).unwrap();

    // Not asked for again is not taken back; taken back, the wide macaroon is worth nothing any more.
    stage.install(&[]).ok();
    extract(&stage, &wide).unwrap();
    // Nor is it where no other bundle could be written.
    let arguments = stage.arguments().into_iter().chain(["--taproot-channels=false", "--yes"].map(str::to_owned));
    let full = cut::run(&stage.host, &arguments.collect::<Vec<_>>(), |step, moment| {
        let is_written = step.starts_with("bundle") && matches!(moment, Moment::Change(_));
        if is_written { Fate::Fail(Errno::ENOSPC) } else { Fate::Go }
    });
    assert!(full.code != 0, "{full:?}");
    extract(&stage, &wide).unwrap();
    stage.install(&["--taproot-channels=false"]).ok();
    assert_eq!(extract(&stage, &wide).unwrap_err().code(), MACAROON_REFUSED);
    assert_eq!(extract(&stage, &stage.bundle()).unwrap_err().code(), NOT_PERMITTED);
    stage.host.allowed().inside(|| stage.signer().sign_with_key(6, 0, b"a message")).unwrap();
    let back = stage.host.lsm(["rollback", "--yes", "--json"]).json();
    assert!(back["lost"].to_string().contains("stays revoked"), "{back}");
}
