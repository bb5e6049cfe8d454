//! Asking the signer's lnd, by its door.

use crate::error::Result;
use crate::host::{beneath, file};
use crate::plan::parts::Door;
use crate::signer::Node;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use std::path::Path;

/// lnd at its unix socket, with the pinned certificate and no macaroon.
pub fn open(door: &Door) -> Result<Node> {
    Ok(Node::new(Endpoint::Unix(door.socket.clone()), &read_certificate(&door.certificate)?))
}

/// The same with the macaroon that lnd wrote when it was unlocked.
pub fn open_as_admin(door: &Door) -> Result<Node> {
    Ok(open(door)?.with_macaroon(&read_admin(door)?))
}

/// The macaroon that lnd wrote when it was unlocked.
pub(super) fn read_admin(door: &Door) -> Result<Macaroon> {
    Macaroon::parse(beneath::read(&door.macaroon, 1 << 16)?)
}

/// A certificate that lnd shows, or will.
pub(super) fn read_certificate(path: &Path) -> Result<Certificate> {
    Certificate::parse_pem(&file::read(path, 1 << 16)?)
}
