//! The macaroon of a bundle: the one that the last bundle had where that still is what is wanted, else a new one. Both sign, unless
//! the signer is frozen.

use super::outside;
use crate::bundle::Bundle;
use crate::error::Result;
use crate::signer::Node;
use crate::signer::macaroon::{Macaroon, Permission};
use crate::signer::proof;

/// What is signed to prove that the macaroon can.
const PROOF: &[u8] = b"lsm bundle export";

/// What the macaroon is to be.
pub(super) struct Wanted<'a> {
    pub(super) permissions: &'a [Permission],
    pub(super) root_key: u64,
    /// Whose signature proves it.
    pub(super) identity_pubkey: &'a str,
}

/// Gives such a macaroon, so that an export where nothing changed gives the same bytes. `open` gives the node without one.
///
/// # Errors
/// Where `admin` may not bake, or what was baked does not sign.
pub(super) fn obtain(
    admin: &Node,
    open: impl Fn() -> Result<Node>,
    earlier: Option<Bundle>,
    wanted: &Wanted<'_>,
) -> Result<Macaroon> {
    let prove = |macaroon: Macaroon| {
        let (family, index) = proof::IDENTITY;
        let signed = open()?.with_macaroon(&macaroon).sign_with_key(family, index, PROOF);
        let proved = signed.and_then(|signature| proof::verify_compact(PROOF, &signature, wanted.identity_pubkey));
        outside::unless_frozen(proved).map(|()| macaroon)
    };
    let is_wanted = |had: &Macaroon| {
        let same_key = had.root_key_id() == wanted.root_key.to_string();
        same_key && had.permissions() == wanted.permissions && had.caveats().is_empty()
    };
    let had = earlier.map(|earlier| earlier.macaroon).filter(is_wanted);
    match had.and_then(|had| prove(had).ok()) {
        Some(had) => Ok(had),
        None => prove(admin.bake(wanted.permissions, wanted.root_key)?),
    }
}
