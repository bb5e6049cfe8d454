//! lnd's settings for a signer, every option with its reason.

use crate::error::Result;
use crate::spec::{Instance, Network};
use askama::Template;

/// Where a signer's parts are, as lnd sees them. Paths may use `$CREDENTIALS_DIRECTORY`, which lnd expands.
#[derive(Debug, Template)]
#[template(path = "signer-lnd.conf", escape = "none")]
pub struct LndConf<'a> {
    /// Which signer.
    pub instance: &'a Instance,
    /// The bitcoin network.
    pub network: Network,
    /// lnd's own folder; its home too, or else lnd makes `~/.lnd`.
    pub folder: &'a str,
    /// The unix socket.
    pub socket: &'a str,
    /// Certificate and key, where they are not `tls.cert` and `tls.key` in lnd's own folder.
    pub tls: Option<Tls<'a>>,
    /// The folder for the macaroons that lnd writes.
    pub macaroons: &'a str,
    /// The database is SQLite's, as it was before lsm.
    pub sqlite: bool,
}

/// A certificate that is not in lnd's folder.
#[derive(Debug)]
pub struct Tls<'a> {
    /// The certificate.
    pub certificate: &'a str,
    /// Its key.
    pub key: &'a str,
}

/// The text of `signer-lnd.conf`.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_lnd_conf(conf: &LndConf<'_>) -> Result<String> {
    super::render(conf)
}
