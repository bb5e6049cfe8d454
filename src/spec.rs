//! What the operator wants: parsed, checked values, and nothing about the machine.

mod allowlist;
pub mod docker;
mod guard;
pub mod places;

pub use docker::Docker;
pub use guard::Guard;
pub use places::Places;

use crate::error::{Code, Error, Result};
use ipnet::{IpNet, Ipv4Net};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

const BAD_NETWORK: Code = Code::usage("E-SPEC-001");
const BAD_INSTANCE: Code = Code::usage("E-SPEC-002");
const BAD_CIDR: Code = Code::usage("E-SPEC-003");
const BAD_PORT: Code = Code::usage("E-SPEC-005");
const BAD_NAME: Code = Code::usage("E-SPEC-004");
const NO_GUARD: Code = Code::usage("E-SPEC-009");

/// What in /var/lib/lsm and /etc/lsm is not an instance's.
const RESERVED: [&str; 6] = ["bundle", "guard", "journal", "snapshot", "waivers", "watch"];

/// The port that a signer answers on, as the original system chose it.
pub const DEFAULT_PORT: u16 = 10012;

/// A bitcoin network that lnd knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Real money.
    Mainnet,
    /// The third test network.
    Testnet,
    /// The fourth test network.
    Testnet4,
    /// The signed test network.
    Signet,
    /// A private chain.
    Regtest,
    /// btcd's simulation network.
    Simnet,
}

impl Network {
    /// Every network, in the order in which help names them.
    pub const ALL: [Self; 6] =
        [Self::Mainnet, Self::Testnet, Self::Testnet4, Self::Signet, Self::Regtest, Self::Simnet];

    /// The name that lnd's options use (`bitcoin.<name>=true`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
            Self::Simnet => "simnet",
        }
    }

    /// The coin type in the paths of lnd's own keys: 0 on mainnet, 1 elsewhere, simnet too (lnd's
    /// chainreg/chainparams.go; btcd's own parameters say 115 there).
    pub const fn coin_type(self) -> u32 {
        match self {
            Self::Mainnet => 0,
            _ => 1,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|n| n.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::new(BAD_NETWORK, format!("{text:?} is no bitcoin network")).hint(format!("one of: {known}"))
        })
    }
}

/// The name of one signer on a host: `[a-z][a-z0-9]{0,15}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(String);

impl Instance {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self("signer".to_owned())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Instance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut letters = text.bytes();
        let starts_well = letters.next().is_some_and(|b| b.is_ascii_lowercase());
        if RESERVED.contains(&text) {
            return Err(
                Error::new(BAD_INSTANCE, format!("{text:?} is a name of lsm's own")).hint("choose another name")
            );
        }
        if starts_well && text.len() <= 16 && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(BAD_INSTANCE, format!("{text:?} is no instance name"))
            .hint("a small letter, then up to 15 small letters or digits"))
    }
}

impl TryFrom<String> for Instance {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> Self {
        instance.0
    }
}

/// An allowlist entry: an address or a network, its host bits cleared.
///
/// # Errors
/// Where the text is neither, or allows the whole internet.
pub fn parse_cidr(text: &str) -> Result<IpNet> {
    let bad = |why: &str| {
        Error::new(BAD_CIDR, format!("{text:?} {why}")).hint("for example 10.0.0.7, 10.0.0.0/24 or fd00::/64")
    };
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| bad("is no address and no CIDR"))?,
    };
    let net = unmapped(net);
    if net.prefix_len() == 0 {
        return Err(bad("would allow everybody"));
    }
    Ok(net.trunc())
}

/// `::ffff:a.b.c.d` is IPv4 on the wire (RFC 4291, section 2.5.5.2), and no IPv6 rule would ever match it.
fn unmapped(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok())
            .map_or(net, IpNet::from),
        net => net,
    }
}

/// A name or address that the signer's certificate is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum San {
    /// A DNS name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for San {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // RFC 1123: labels of letters, digits and inner hyphens, 63 bytes each, 253 in all.
        let label_is_good = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        // It is dialled too: TLS takes no name that ends in a number, as a part of an address does (WHATWG URL, section 3.5).
        let is_dialled = || ServerName::try_from(text).is_ok();
        if text.len() <= 253 && text.split('.').all(label_is_good) && is_dialled() {
            return Ok(Self::Name(text.to_ascii_lowercase()));
        }
        Err(Error::new(BAD_NAME, format!("{text:?} is no host name and no address")))
    }
}

impl TryFrom<String> for San {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<San> for String {
    fn from(san: San) -> Self {
        san.to_string()
    }
}

/// How lnd meets the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// lnd in an empty network namespace, behind a socket unit and a proxy.
    #[default]
    Isolated,
    /// lnd listens on TCP itself.
    Host,
}

/// The signer that the operator wants; kept as `/etc/lsm/INSTANCE.toml`. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which signer on this host.
    pub instance: Instance,
    /// The bitcoin network.
    pub network: Network,
    /// The lnd version, as lnd's tag names it (`v0.21.3-beta`).
    pub release: String,
    /// Where it answers.
    pub listen: SocketAddr,
    /// How lnd meets the network.
    #[serde(default)]
    pub mode: Mode,
    /// Who may connect; empty: nobody.
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// Names and addresses in the certificate besides the listening address.
    #[serde(default)]
    pub san: Vec<San>,
    /// Its secrets are sealed to this machine; decided once, by what the machine had when it was installed.
    #[serde(default = "sealed")]
    pub sealed: bool,
    /// The bundle's macaroon may use MuSig2, which gives private keys away (SECURITY.md).
    #[serde(default)]
    pub taproot_channels: bool,
    /// Who hears what is asked of the signer.
    #[serde(default, skip_serializing_if = "Guard::is_off")]
    pub guard: Guard,
    /// The oldest version of the kernel's Landlock interface under which lnd may start; without it, any or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_landlock: Option<u32>,
    /// lnd's database is SQLite's, as it was before lsm; else bolt's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sqlite: bool,
    /// It runs in a container, and these are its places; without it systemd runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Docker>,
}

const fn sealed() -> bool {
    true
}

impl Spec {
    /// Where a signer answers unless it is told otherwise: loopback alone.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

    /// A signer with every default.
    pub fn new(instance: &Instance, network: Network, release: &str) -> Self {
        Self {
            instance: instance.clone(),
            network,
            release: release.to_owned(),
            listen: Self::DEFAULT_LISTEN,
            mode: Mode::default(),
            allow: Vec::new(),
            san: Vec::new(),
            sealed: true,
            sqlite: false,
            taproot_channels: false,
            guard: Guard::Off,
            require_landlock: None,
            docker: None,
        }
    }

    /// The same with its allowlist folded together, once it is known to make sense as a whole.
    ///
    /// # Errors
    /// Where the entries together allow everybody, or it would listen on no port.
    pub fn checked(mut self) -> Result<Self> {
        self.allow = IpNet::aggregate(&self.allow);
        if self.allow.iter().any(|net| net.prefix_len() == 0) {
            return Err(Error::new(BAD_CIDR, "the allowlist as a whole allows everybody")
                .hint("name the machines that are to connect"));
        }
        if self.guard.is_on() && self.docker.is_some() {
            return Err(Error::new(NO_GUARD, "a signer in a container has no guard yet")
                .hint("the native backend has one: lsm install --backend native --guard observe"));
        }
        if self.guard == Guard::Enforce && self.mode == Mode::Host {
            return Err(Error::new(NO_GUARD, "in host mode lnd would answer the port before the guard is there")
                .hint("a guard that enforces needs --mode isolated"));
        }
        if self.listen.port() == 0 {
            return Err(Error::new(BAD_PORT, format!("{} has no port", self.listen)).hint("for example 10.0.0.5:10012"));
        }
        Ok(self)
    }

    /// Where the host itself reaches the port: at the listening address, or over loopback where that is every address.
    /// Connections from the host have the same address as their source.
    pub fn own_address(&self) -> SocketAddr {
        let address = match self.listen.ip() {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        SocketAddr::new(address, self.listen.port())
    }

    /// Everything that the certificate has to be valid for, without repeats, in a steady order:
    /// the listening address unless it is the wildcard, then what the operator named.
    pub fn certificate_names(&self) -> Vec<San> {
        let mut names = Vec::new();
        if !self.listen.ip().is_unspecified() {
            names.push(San::Address(self.listen.ip()));
        }
        for san in &self.san {
            if !names.contains(san) {
                names.push(san.clone());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_of_lnd_and_no_other() {
        for network in Network::ALL {
            assert_eq!(network.name().parse::<Network>().unwrap(), network);
        }
        assert_eq!("bitcoin".parse::<Network>().unwrap_err().code(), BAD_NETWORK);
    }

    #[test]
    fn instances_fit_unit_and_user_names() {
        for good in ["signer", "a", "a123456789012345"] {
            assert!(good.parse::<Instance>().is_ok(), "{good}");
        }
        for bad in
            ["journal", "guard", "bundle", "waivers", "", "A", "1a", "a-b", "a/b", "a b", "a12345678901234567", "ä"]
        {
            assert_eq!(bad.parse::<Instance>().unwrap_err().code(), BAD_INSTANCE, "{bad}");
        }
    }

    #[test]
    fn cidrs_are_cleared_of_host_bits_and_never_everybody() {
        assert_eq!(parse_cidr("10.0.0.7").unwrap().to_string(), "10.0.0.7/32");
        assert_eq!(parse_cidr("10.0.0.7/24").unwrap().to_string(), "10.0.0.0/24");
        assert_eq!(parse_cidr("fd00::1/64").unwrap().to_string(), "fd00::/64");
        for bad in ["", "10.0.0", "10.0.0.0/33", "0.0.0.0/0", "::/0", "example.org", "10.0.0.1;", "10.0.0.1 accept"] {
            assert_eq!(parse_cidr(bad).unwrap_err().code(), BAD_CIDR, "{bad}");
        }
    }

    #[test]
    fn nobody_is_allowed_in_by_halves_or_by_another_name() {
        let mut spec = Spec::new(&Instance::default(), Network::Regtest, "v0");
        spec.allow = ["0.0.0.0/1", "128.0.0.0/1"].map(|half| parse_cidr(half).unwrap()).to_vec();
        assert_eq!(spec.clone().checked().unwrap_err().code(), BAD_CIDR);
        spec.allow.clear();
        spec.listen.set_port(0);
        assert_eq!(spec.checked().unwrap_err().code(), BAD_PORT);
        assert_eq!(parse_cidr("::ffff:10.0.0.7").unwrap().to_string(), "10.0.0.7/32");
        assert_eq!(parse_cidr("::ffff:0:0/96").unwrap_err().code(), BAD_CIDR);
    }

    #[test]
    fn sans_are_names_or_addresses() {
        assert_eq!("Signer.Example".parse::<San>().unwrap(), San::Name("signer.example".into()));
        assert!(matches!("::1".parse::<San>().unwrap(), San::Address(_)));
        for bad in ["", "a b", "-a", "a..b", "a\nb", "*.example.org"] {
            assert_eq!(bad.parse::<San>().unwrap_err().code(), BAD_NAME, "{bad}");
        }
    }

    #[test]
    fn a_name_that_ends_in_a_number_is_no_san() {
        for bad in ["10.0.0", "10.0.0.256", "signer.1", "7", "0x7f", "signer.0xA"] {
            assert_eq!(bad.parse::<San>().unwrap_err().code(), BAD_NAME, "{bad}");
        }
        for good in ["10.0.0.lan", "1.signer", "signer1", "0xsigner", "signer-1"] {
            assert_eq!(good.parse::<San>().unwrap(), San::Name(good.into()));
        }
    }
}
