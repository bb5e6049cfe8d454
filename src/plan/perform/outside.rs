//! A signature through the public port, asked for by root on the signer's own host.

use super::service;
use super::wallet::read_receipt;
use crate::error::Result;
use crate::plan::door::{open_as_admin, read_certificate};
use crate::plan::step::{Door, Port};
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::signer_permissions;
use crate::signer::proof;
use crate::signer::{self, Node};
use crate::ui;
use std::net::SocketAddr;
use std::path::Path;

/// The root key of what is baked to try a signature: it goes again at once, so that nothing hangs on it.
const TRIED: u64 = 10_012;

/// As [`sign`], where [`unless_frozen`].
pub(super) fn sign_unless_frozen(door: &Door, port: &Port) -> Result<()> {
    unless_frozen(sign(door, port))
}

/// What came of a proof by a signature. A signer that is frozen is looked after too, and first of all after a break-in: lnd has held
/// the macaroon to be good before it asked the guard (its rpcperms/interceptor.go), and no more is proved then.
pub(super) fn unless_frozen(proved: Result<()>) -> Result<()> {
    match proved {
        Err(e) if e.code() == signer::FROZEN => {
            ui::note("the signer is frozen: that it signs is not proved");
            Ok(())
        }
        proved => proved,
    }
}

/// As [`prove_outside`], once the port's unit runs.
pub(super) fn sign(door: &Door, port: &Port) -> Result<()> {
    // lnd's unit wants it, and systemd may not be done with it: this waits.
    port.unit.as_deref().map_or(Ok(()), |unit| service::systemctl("start", unit))?;
    prove_outside(door, &port.receipt, &port.host, port.address)
}

/// Has the signer sign through its port with a new least macaroon, as a watch-only node would, and checks the signature
/// against the wallet's receipt. `host` is how the watch-only side names the port (`HOST:PORT`), `address` where the port
/// is dialled from here; the packet filter and the unit let only root through. The macaroon is kept nowhere.
///
/// # Errors
/// The first layer that fails: lnd's own socket, the port, the certificate, the macaroon, the signature.
pub fn prove_outside(door: &Door, receipt: &Path, host: &str, address: SocketAddr) -> Result<()> {
    let identity = read_receipt(receipt)?.identity_pubkey;
    let admin = open_as_admin(door)?;
    let macaroon = admin.bake(&signer_permissions(false, &admin.known_uris()?)?, TRIED)?;
    let endpoint: Endpoint = host.parse()?;
    let node = Node::at(endpoint, address, &read_certificate(&door.certificate)?).with_macaroon(&macaroon);
    let message = proof::new_message();
    let (family, index) = proof::IDENTITY;
    let signature = node.sign_with_key(family, index, message.as_bytes());
    admin.delete_root_key(TRIED)?;
    proof::verify_compact(message.as_bytes(), &signature?, &identity)
}
