//! Exporting the bundle: the accounts, the certificate and the least macaroon, proved before they are written.

use super::least;
use super::wallet::Receipt;
use crate::bundle::{About, Bundle};
use crate::error::Result;
use crate::plan::register::Register;
use crate::signer::Node;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::signer_permissions;
use std::collections::BTreeSet;

/// What a bundle says besides what lnd gives.
pub(super) struct Terms<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) hosts: &'a [String],
    pub(super) taproot_channels: bool,
    pub(super) root_key: u64,
    pub(super) next: Option<Certificate>,
}

/// Takes the least macaroon of the `earlier` bundle, or bakes one with `admin`, and puts the bundle together. `open` gives the
/// node without a macaroon.
pub(super) fn export(
    admin: &Node,
    open: impl Fn() -> Result<Node>,
    certificate: Certificate,
    terms: Terms<'_>,
    earlier: Option<Bundle>,
) -> Result<Bundle> {
    let permissions = signer_permissions(terms.taproot_channels, &admin.known_uris()?)?;
    let identity_pubkey = &terms.receipt.identity_pubkey;
    let wanted = least::Wanted { permissions: &permissions, root_key: terms.root_key, identity_pubkey };
    let macaroon = least::obtain(admin, open, earlier, &wanted)?;
    let about = About {
        lnd_version: Some(admin.info()?.version),
        network: Some(terms.receipt.network),
        birthday: terms.receipt.birthday,
        recovery_window: terms.receipt.recovery_window,
        rpchost: terms.hosts.iter().map(|host| host.parse::<Endpoint>()).collect::<Result<_>>()?,
    };
    Bundle::new(admin.accounts()?, certificate, terms.next, macaroon, about)
}

/// Revokes the macaroons with MuSig2 of earlier bundles: once another bundle is in their place, and not before.
pub(super) fn revoke_taproot(admin: &Node, register: &Register) -> Result<()> {
    let live: BTreeSet<u64> = admin.root_key_ids()?.into_iter().collect();
    let keys = register.taproot_keys();
    keys.intersection(&live).try_for_each(|key| admin.delete_root_key(*key).map(drop))
}
