//! Exporting the bundle: the accounts, the certificate and the least macaroon, proved before they are written.

use super::Receipt;
use crate::bundle::{About, Bundle};
use crate::error::Result;
use crate::plan::register::Register;
use crate::signer::Node;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::signer_permissions;
use crate::signer::proof;
use std::collections::BTreeSet;

/// What is signed to prove that the macaroon can.
const PROOF: &[u8] = b"lsm bundle export";

/// What a bundle says besides what lnd gives.
pub(super) struct Terms<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) hosts: &'a [String],
    pub(super) taproot_channels: bool,
    pub(super) register: &'a Register,
    pub(super) next: Option<Certificate>,
}

/// Bakes the least macaroon with `admin`, has `least` sign with it, and puts the bundle together. Without taproot channels
/// earlier macaroons with MuSig2 are revoked.
pub(super) fn export(admin: &Node, least: Node, certificate: Certificate, terms: Terms<'_>) -> Result<Bundle> {
    let permissions = signer_permissions(terms.taproot_channels, &admin.known_uris()?)?;
    let macaroon = admin.bake(&permissions, terms.register.bundle_key(terms.taproot_channels))?;
    let (family, index) = proof::IDENTITY;
    let signature = least.with_macaroon(&macaroon).sign_with_key(family, index, PROOF)?;
    proof::verify_compact(PROOF, &signature, &terms.receipt.identity_pubkey)?;
    if !terms.taproot_channels {
        let live: BTreeSet<u64> = admin.root_key_ids()?.into_iter().collect();
        for key in terms.register.taproot_keys().intersection(&live) {
            admin.delete_root_key(*key)?;
        }
    }
    let about = About {
        lnd_version: Some(admin.info()?.version),
        network: Some(terms.receipt.network),
        birthday: terms.receipt.birthday,
        rpchost: terms.hosts.iter().map(|host| host.parse::<Endpoint>()).collect::<Result<_>>()?,
    };
    Bundle::new(admin.accounts()?, certificate, terms.next, macaroon, about)
}
