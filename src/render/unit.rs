//! systemd's side: the units as they are shipped, and the drop-ins that say what this host decides.

use crate::error::Result;
use crate::spec::{Instance, Mode, Spec};
use askama::Template;
use std::net::SocketAddr;

/// lnd's unit; also the sandbox in which the wallet is made.
pub const SERVICE: &str = include_str!("../../units/lsm@.service");

/// The units that are installed byte for byte, with their file names.
pub const UNITS: [(&str, &str); 4] = [
    ("lsm-firewall.service", include_str!("../../units/lsm-firewall.service")),
    ("lsm@.service", SERVICE),
    ("lsm-proxy@.socket", include_str!("../../units/lsm-proxy@.socket")),
    ("lsm-proxy@.service", include_str!("../../units/lsm-proxy@.service")),
];

/// The drop-in that reloads lsm's table whenever Debian's nftables.service has flushed it.
pub const NFTABLES_DROP_IN: &str = include_str!("../../units/nftables-lsm.conf");

/// How a credential reaches the unit (systemd.exec(5), LoadCredential= and LoadCredentialEncrypted=).
#[derive(Debug, Clone)]
pub struct Credential {
    /// The name in `$CREDENTIALS_DIRECTORY`.
    pub name: String,
    /// The file that holds it.
    pub path: String,
    /// Sealed by systemd-creds.
    pub sealed: bool,
}

/// The lnd that a unit runs.
#[derive(Debug, Clone)]
pub struct Lnd {
    /// The program.
    pub program: String,
    /// Its settings.
    pub conf: String,
    /// Its unix socket.
    pub socket: String,
}

#[derive(Template)]
#[template(path = "lsm-drop-in.conf", escape = "none")]
struct ServiceDropIn<'a> {
    lnd: &'a Lnd,
    credentials: &'a [Credential],
    create: bool,
    host: Option<HostMode>,
}

struct HostMode {
    listen: SocketAddr,
    allow: String,
}

#[derive(Template)]
#[template(path = "lsm-proxy-drop-in.conf", escape = "none")]
struct SocketDropIn {
    listen: String,
    allow: String,
}

#[derive(Template)]
#[template(path = "users.conf", escape = "none")]
struct Users<'a> {
    instance: &'a Instance,
}

#[derive(Template)]
#[template(path = "folders.conf", escape = "none")]
struct Folders<'a> {
    instance: &'a Instance,
}

/// The drop-in of `lsm@INSTANCE.service`: the lnd to run, its credentials, and in host mode the network.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_service_drop_in(spec: &Spec, lnd: &Lnd, credentials: &[Credential]) -> Result<String> {
    let host = (spec.mode == Mode::Host).then(|| HostMode { listen: spec.listen, allow: addresses(spec) });
    super::render(&ServiceDropIn { lnd, credentials, create: false, host })
}

/// The drop-in of the unit that lives while the wallet is made: the same sandbox, no TCP, no unlocking.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_create_drop_in(lnd: &Lnd, credentials: &[Credential]) -> Result<String> {
    super::render(&ServiceDropIn { lnd, credentials, create: true, host: None })
}

/// The drop-in of `lsm-proxy@INSTANCE.socket`: the address, and the allowlist once more.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_socket_drop_in(spec: &Spec) -> Result<String> {
    super::render(&SocketDropIn { listen: spec.listen.to_string(), allow: addresses(spec) })
}

/// The sysusers.d(5) file of an instance.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_users(instance: &Instance) -> Result<String> {
    super::render(&Users { instance })
}

/// The tmpfiles.d(5) file of an instance: its folders in /run.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_folders(instance: &Instance) -> Result<String> {
    super::render(&Folders { instance })
}

fn addresses(spec: &Spec) -> String {
    spec.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
