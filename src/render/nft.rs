//! The packet filter: one table for all signers of this host.

use crate::error::Result;
use crate::spec::docker::PORT;
use crate::spec::{Mode, Spec};
use askama::Template;

/// Connections that one source may hold at a time.
pub const CONNECTIONS_EACH: u32 = 16;
/// Connections in all; the proxy holds to the same.
pub const CONNECTIONS_ALL: u32 = 64;

#[derive(Template)]
#[template(path = "firewall.nft", escape = "none")]
struct Firewall {
    signers: Vec<Signer>,
    /// Any of them is in a container, whose port is this.
    containers: bool,
    inside: u16,
}

struct Signer {
    instance: String,
    port: u16,
    allow4: Vec<String>,
    allow6: Vec<String>,
    users: Vec<String>,
    gate: bool,
    /// The bridge of its container.
    bridge: Option<String>,
    each: u32,
    all: u32,
}

impl Signer {
    fn new(spec: &Spec) -> Self {
        let of = |v4: bool| {
            let (mut nets, v6): (Vec<_>, Vec<_>) = spec.allow.iter().partition(|net| net.addr().is_ipv4());
            if !v4 {
                nets = v6;
            }
            nets
        };
        let (allow4, allow6) = (aggregate(&of(true)), aggregate(&of(false)));
        let mut users = Vec::new();
        // A container's user is none of this host, and calls from behind its bridge.
        if spec.docker.is_none() {
            users.push(format!("\"lsm-{}\"", spec.instance));
        }
        if spec.docker.is_none() && spec.mode == Mode::Isolated {
            users.push(format!("\"lsm-proxy-{}\"", spec.instance));
        }
        Self {
            instance: spec.instance.to_string(),
            port: spec.listen.port(),
            allow4,
            allow6,
            users,
            gate: spec.docker.is_none() && spec.mode == Mode::Host,
            bridge: spec.docker.as_ref().map(|docker| docker.network(&spec.instance)),
            each: CONNECTIONS_EACH,
            all: CONNECTIONS_ALL,
        }
    }
}

/// An interval set refuses overlapping elements: fold them together.
fn aggregate(nets: &[&ipnet::IpNet]) -> Vec<String> {
    let nets: Vec<_> = nets.iter().map(|net| **net).collect();
    ipnet::IpNet::aggregate(&nets).iter().map(ToString::to_string).collect()
}

/// The text of `/etc/lsm/firewall.nft` for these signers.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_nft(specs: &[&Spec]) -> Result<String> {
    let signers: Vec<Signer> = specs.iter().map(|spec| Signer::new(spec)).collect();
    let containers = signers.iter().any(|signer| signer.bridge.is_some());
    super::render(&Firewall { signers, containers, inside: PORT })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Network, parse_cidr};

    fn spec(mode: Mode, allow: &[&str]) -> Spec {
        let allow = allow.iter().map(|a| parse_cidr(a).unwrap()).collect();
        Spec { mode, allow, ..Spec::new(&"signer".parse().unwrap(), Network::Regtest, "v0.21.3-beta") }
    }

    #[test]
    fn overlapping_entries_are_folded_by_family() {
        let text = render_nft(&[&spec(Mode::Isolated, &["10.0.0.0/24", "10.0.0.7", "fd00::1"])]).unwrap();
        assert!(text.contains("elements = { 10.0.0.0/24 }"), "{text}");
        assert!(text.contains("elements = { fd00::1/128 }"), "{text}");
    }

    #[test]
    fn nobody_allowed_is_an_empty_set_and_no_gate_without_host_mode() {
        let text = render_nft(&[&spec(Mode::Isolated, &[])]).unwrap();
        assert!(!text.contains("elements") && !text.contains("signer_open"), "{text}");
        assert_eq!(render_nft(&[&spec(Mode::Host, &[])]).unwrap().matches("tcp dport != @signer_open").count(), 2);
    }

    #[test]
    fn of_this_host_itself_root_alone_passes_unjudged() {
        let text = render_nft(&[&spec(Mode::Isolated, &[])]).unwrap();
        let chain = |name: &str| {
            let (_, after) = text.split_once(&format!("chain {name} {{\n")).unwrap();
            let rules = after.split_once("\n\t}").unwrap().0.lines().map(str::trim);
            rules.filter(|rule| !rule.starts_with('#')).collect::<Vec<_>>()
        };
        let own = ["meta skuid 0 return", "meta skuid != 0 goto signer_judge"];
        assert_eq!(chain("signer_own"), [own[0], own[1], "ct state != { established, related } goto signer_judge"]);
        let at_the_door = "iifname != \"lo\" fib daddr type local tcp dport 10012 jump signer_judge";
        assert_eq!(chain("prerouting").last(), Some(&at_the_door));
        assert_eq!(chain("output").last(), Some(&"fib daddr type local tcp dport 10012 jump signer_own"));
    }
}
