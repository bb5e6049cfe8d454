//! systemd's side: the units as they are shipped, and the drop-ins that say what this host decides.

use crate::error::Result;
use crate::spec::{Instance, Mode, Spec};
use askama::Template;
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// The lsm that starts it.
    pub launcher: String,
    /// What lsm lets it reach.
    pub policy: String,
    /// The program.
    pub program: String,
    /// The oldest Landlock interface on which it may start.
    pub require_landlock: Option<u32>,
    /// Its settings.
    pub conf: String,
    /// Its unix socket.
    pub socket: String,
}

/// What the machine adds to a unit.
#[derive(Debug, Clone, Default)]
pub struct Platform {
    /// systemd's major version.
    pub systemd: Option<u32>,
    /// The ELF interpreter and the libraries that lsm needs to run; none where it is static.
    pub libraries: Vec<PathBuf>,
}

impl Platform {
    /// True where systemd knows `ProtectControlGroups=strict` (systemd 257's NEWS); an older one would warn of it at every
    /// start.
    fn hides_control_groups(&self) -> bool {
        self.systemd.is_some_and(|version| version >= 257)
    }
}

#[derive(Template)]
#[template(path = "lsm-drop-in.conf", escape = "none")]
struct ServiceDropIn<'a> {
    lnd: &'a Lnd,
    platform: &'a Platform,
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
pub fn render_service_drop_in(
    spec: &Spec,
    lnd: &Lnd,
    platform: &Platform,
    credentials: &[Credential],
) -> Result<String> {
    let host = (spec.mode == Mode::Host).then(|| HostMode { listen: spec.listen, allow: addresses(spec) });
    super::render(&ServiceDropIn { lnd, platform, credentials, create: false, host })
}

/// The drop-in of the unit that lives while the wallet is made: the same sandbox, no TCP, no unlocking.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_create_drop_in(lnd: &Lnd, platform: &Platform, credentials: &[Credential]) -> Result<String> {
    super::render(&ServiceDropIn { lnd, platform, credentials, create: true, host: None })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::calls::Calls;
    use std::collections::BTreeSet;

    #[test]
    fn the_unit_allows_the_calls_of_the_policy_and_no_other() {
        let lines = SERVICE.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
        let named: BTreeSet<&str> = lines.flat_map(str::split_whitespace).collect();
        let calls = Calls::load().unwrap();
        let wanted = calls.of_unit();
        let shown = wanted.iter().copied().collect::<Vec<_>>().join(" ");
        assert_eq!(named, wanted, "units/lsm@.service is to say, in lines of this width:\nSystemCallFilter={shown}");
    }

    #[test]
    fn only_a_systemd_that_knows_a_directive_is_given_it() {
        let lnd = Lnd {
            launcher: "/lsm".to_owned(),
            policy: "/policy".to_owned(),
            program: "/lnd".to_owned(),
            require_landlock: Some(4),
            conf: "/conf".to_owned(),
            socket: "/socket".to_owned(),
        };
        let text = |systemd| {
            let platform = Platform { systemd, libraries: vec!["/lib/a".into(), "/lib/b".into()] };
            render_create_drop_in(&lnd, &platform, &[]).unwrap()
        };
        for (systemd, given) in [(None, false), (Some(252), false), (Some(256), false), (Some(257), true)] {
            assert_eq!(text(systemd).contains("ProtectControlGroups=strict"), given, "{systemd:?}");
        }
        for line in [
            "ExecPaths=/lnd /lsm /lib/a /lib/b",
            "ExecStart=/lsm launch --require-landlock 4 --policy /policy -- /lnd --configfile=/conf",
        ] {
            assert!(text(None).lines().any(|said| said == line), "{}", text(None));
        }
    }
}
