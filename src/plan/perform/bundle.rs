//! Exporting the bundle: the accounts, the certificate and the least macaroon, proved before they are written.

use super::Receipt;
use crate::bundle::{About, Bundle};
use crate::error::Result;
use crate::signer::Node;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::signer_permissions;
use crate::signer::proof;

/// The root key of the signer role's macaroon: one of its own, so that it can be revoked alone (root key 0 cannot be).
pub(super) const SIGNER_ROOT_KEY: u64 = 1;
/// The root key of that macaroon with MuSig2: another one, so that going back to the least one can revoke it.
const TAPROOT_ROOT_KEY: u64 = 2;

/// What is signed to prove that the macaroon can.
const PROOF: &[u8] = b"lsm bundle export";

/// What a bundle says besides what lnd gives.
pub(super) struct Terms<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) hosts: &'a [String],
    pub(super) taproot_channels: bool,
}

/// Bakes the least macaroon with `admin`, signs with it, and puts the bundle together. Without taproot channels an
/// earlier macaroon with MuSig2 is revoked.
pub(super) fn export(admin: &Node, least: Node, certificate: Certificate, terms: &Terms<'_>) -> Result<Bundle> {
    let permissions = signer_permissions(terms.taproot_channels, &admin.known_uris()?)?;
    let root_key = if terms.taproot_channels { TAPROOT_ROOT_KEY } else { SIGNER_ROOT_KEY };
    let macaroon = admin.bake(&permissions, root_key)?;
    let (family, index) = proof::IDENTITY;
    let signature = least.with_macaroon(&macaroon).sign_with_key(family, index, PROOF)?;
    proof::verify_compact(PROOF, &signature, &terms.receipt.identity_pubkey)?;
    if !terms.taproot_channels && admin.root_key_ids()?.contains(&TAPROOT_ROOT_KEY) {
        admin.delete_root_key(TAPROOT_ROOT_KEY)?;
    }
    let about = About {
        lnd_version: Some(admin.info()?.version),
        network: Some(terms.receipt.network),
        birthday: terms.receipt.birthday,
        recovery_window: terms.receipt.recovery_window,
        rpchost: terms.hosts.iter().map(|host| host.parse::<Endpoint>()).collect::<Result<_>>()?,
    };
    Bundle::new(admin.accounts()?, certificate, macaroon, about)
}
