//! systemd's side: the units as they are shipped, and the drop-ins that say what this host decides.

use crate::error::Result;
use crate::signer::middleware;
use crate::spec::{Guard, Instance, Mode, Spec};
use askama::Template;
use std::net::SocketAddr;
use std::path::PathBuf;

/// lnd's unit; also the sandbox of an lnd without a port.
pub const SERVICE: &str = include_str!("../../units/lsm@.service");

/// The units that are installed byte for byte, with their file names.
pub const UNITS: [(&str, &str); 4] = [
    ("lsm-firewall.service", include_str!("../../units/lsm-firewall.service")),
    ("lsm@.service", SERVICE),
    ("lsm-proxy@.socket", include_str!("../../units/lsm-proxy@.socket")),
    ("lsm-proxy@.service", include_str!("../../units/lsm-proxy@.service")),
];

/// The guard's unit, installed where a signer has one, with its file name.
pub const GUARD_UNIT: (&str, &str) = ("lsm-guard@.service", include_str!("../../units/lsm-guard@.service"));

/// The drop-in that ends the proxy with a guard that enforces.
pub const GUARDED_DROP_IN: &str = include_str!("../../units/lsm-proxy-guarded.conf");

/// The units of a watch, with their file names.
pub const WATCH_UNITS: [(&str, &str); 2] = [
    ("lsm-watch@.service", include_str!("../../units/lsm-watch@.service")),
    ("lsm-watch@.timer", include_str!("../../units/lsm-watch@.timer")),
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
    /// The middleware that lnd is told of, and whether it answers without it.
    guard: Option<Middleware>,
    /// In host mode.
    listen: Option<SocketAddr>,
}

/// The guard, as lnd's options name it.
struct Middleware {
    name: &'static str,
    mandatory: bool,
}

#[derive(Template)]
#[template(path = "lsm-wallet-drop-in.conf", escape = "none")]
struct WalletDropIn<'a> {
    lnd: &'a Lnd,
    patience: u64,
}

#[derive(Template)]
#[template(path = "lsm-guard-drop-in.conf", escape = "none")]
struct GuardDropIn<'a> {
    launcher: &'a str,
    platform: &'a Platform,
    credentials: &'a [Credential],
    spec: &'a Spec,
}

#[derive(Template)]
#[template(path = "lsm-proxy-drop-in.conf", escape = "none")]
struct SocketDropIn {
    listen: SocketAddr,
}

#[derive(Template)]
#[template(path = "allow.conf", escape = "none")]
struct AllowDropIn {
    section: &'static str,
    addresses: String,
}

#[derive(Template)]
#[template(path = "users.conf", escape = "none")]
struct Users<'a> {
    instance: &'a Instance,
    guard: bool,
}

#[derive(Template)]
#[template(path = "folders.conf", escape = "none")]
struct Folders<'a> {
    instance: &'a Instance,
    guard: bool,
}

#[derive(Template)]
#[template(path = "watch-folders.conf", escape = "none")]
struct WatchFolders<'a> {
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
    let listen = (spec.mode == Mode::Host).then_some(spec.listen);
    let guard =
        spec.guard.is_on().then(|| Middleware { name: middleware::NAME, mandatory: spec.guard == Guard::Enforce });
    super::render(&ServiceDropIn { lnd, platform, credentials, create: false, guard, listen })
}

/// How long lnd waits for its wallet, in seconds: for somebody who writes down 24 words, and not for ever, where the install
/// that began it was killed.
pub const WALLET_PATIENCE: u64 = 15 * 60;

/// The second drop-in of `lsm@INSTANCE.service`, there while the wallet is made: lnd waits for it instead of unlocking it.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_wallet_drop_in(lnd: &Lnd) -> Result<String> {
    super::render(&WalletDropIn { lnd, patience: WALLET_PATIENCE })
}

/// The drop-in of the unit that lives while lnd is to have no port: the same sandbox, no TCP, no unlocking.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_create_drop_in(lnd: &Lnd, platform: &Platform, credentials: &[Credential]) -> Result<String> {
    super::render(&ServiceDropIn { lnd, platform, credentials, create: true, guard: None, listen: None })
}

/// The drop-in of `lsm-guard@INSTANCE.service`: what it does, and its macaroon.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_guard_drop_in(
    spec: &Spec,
    launcher: &str,
    platform: &Platform,
    credentials: &[Credential],
) -> Result<String> {
    super::render(&GuardDropIn { launcher, platform, credentials, spec })
}

/// The drop-in of `lsm-proxy@INSTANCE.socket`: the address.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_socket_drop_in(spec: &Spec) -> Result<String> {
    super::render(&SocketDropIn { listen: spec.listen })
}

/// The drop-in of the unit that holds the port: the allowlist once more, and the address at which this host calls itself.
/// In a file of its own: systemd puts a changed `IPAddressAllow=` in force in the running unit when it reads its units
/// again, the new filter before the old one goes (systemd's bpf-firewall.c, `bpf_firewall_install`).
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_allow_drop_in(spec: &Spec) -> Result<String> {
    let section = match spec.mode {
        Mode::Isolated => "Socket",
        Mode::Host => "Service",
    };
    let own = spec.own_address().ip().to_string();
    let addresses: Vec<String> = [own].into_iter().chain(spec.allow.iter().map(ToString::to_string)).collect();
    super::render(&AllowDropIn { section, addresses: addresses.join(" ") })
}

/// The sysusers.d(5) file of an instance.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_users(spec: &Spec) -> Result<String> {
    super::render(&Users { instance: &spec.instance, guard: spec.guard.is_on() })
}

/// The tmpfiles.d(5) file of an instance: its folders in /run, and lnd's and the guard's own.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_folders(spec: &Spec) -> Result<String> {
    super::render(&Folders { instance: &spec.instance, guard: spec.guard.is_on() })
}

/// The tmpfiles.d(5) file of an instance's watch.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_watch_folders(instance: &Instance) -> Result<String> {
    super::render(&WatchFolders { instance })
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
    fn the_allowlist_names_this_hosts_own_address_and_then_the_peers() {
        let mut spec = Spec::new(&Instance::default(), crate::spec::Network::Regtest, "v0");
        let last = |spec: &Spec| render_allow_drop_in(spec).unwrap().lines().skip(1).collect::<Vec<_>>().join("\n");
        spec.listen = "10.0.0.5:10012".parse().unwrap();
        assert_eq!(last(&spec), "[Socket]\nIPAddressAllow=10.0.0.5");
        spec.mode = Mode::Host;
        spec.allow = ["10.0.0.7", "fd00::/64"].map(|net| crate::spec::parse_cidr(net).unwrap()).to_vec();
        assert_eq!(last(&spec), "[Service]\nIPAddressAllow=10.0.0.5 10.0.0.7/32 fd00::/64");
        for (listen, own) in [("0.0.0.0:1", "127.0.0.1"), ("[::]:1", "::1"), ("[fd00::5]:1", "fd00::5")] {
            spec.listen = listen.parse().unwrap();
            assert!(last(&spec).contains(&format!("IPAddressAllow={own} ")), "{listen}");
        }
    }

    fn lnd() -> Lnd {
        Lnd {
            launcher: "/lsm".to_owned(),
            policy: "/policy".to_owned(),
            program: "/lnd".to_owned(),
            require_landlock: Some(4),
            conf: "/conf".to_owned(),
            socket: "/socket".to_owned(),
        }
    }

    #[test]
    fn no_lnd_without_a_port_runs_beside_the_signers_own() {
        let spec = Spec::new(&Instance::default(), crate::spec::Network::Regtest, "v0");
        let unit = "[Unit]\n";
        let create = render_create_drop_in(&lnd(), &Platform::default(), &[]).unwrap();
        let (head, _) = create.split_once("\n[Service]\n").unwrap();
        let (_, said) = head.split_once(unit).unwrap();
        for line in ["Conflicts=lsm@%i.service", "After=lsm@%i.service"] {
            assert!(said.lines().any(|one| one == line), "{create}");
        }
        // A unit that is in conflict with itself never starts.
        let own = render_service_drop_in(&spec, &lnd(), &Platform::default(), &[]).unwrap();
        assert!(!own.contains(unit) && own.contains("\n[Service]\n"), "{own}");
    }

    #[test]
    fn only_a_systemd_that_knows_a_directive_is_given_it() {
        let lnd = lnd();
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
