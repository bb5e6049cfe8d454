//! The way into a container and out of it, which passes the host's own hooks by: through its bridge.

use super::walk::{Packet, Passage, Way, walk};
use super::{Ruleset, STRANGERS, has_legacy, live};
use crate::facts::audit::{Answer, Host, Protocol, Signer, Unknown};
use crate::harden::{Judged, Verdict, few};
use crate::spec::docker::PORT;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What a packet passes that is forwarded into a bridge; what may be judged after that is not waited for.
const INTO: [&str; 2] = ["prerouting", "forward"];
/// What one passes that comes out of a bridge: for this host, or for another.
const OUT: [[&str; 2]; 2] = [["prerouting", "input"], ["prerouting", "forward"]];

/// A bridge with the container's addresses there; none where it may be any.
pub type Bridge = (String, Vec<IpAddr>);

/// The bridges behind which the signer is. That of a container of lsm's is known whatever its engine says.
pub fn bridges(signer: &Signer) -> Result<Vec<Bridge>, Unknown> {
    let own = match &signer.spec {
        Answer::Is(spec) => spec.docker.as_ref().map(|docker| docker.network(&spec.instance)),
        _ => None,
    };
    let container = match (signer.container.get(), &own) {
        (Ok(container), _) => container,
        // Whatever else it is in, that is asked for elsewhere.
        (Err(_), Some(_)) => None,
        (Err(why), None) => return Err(why),
    };
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, addresses) in container.into_iter().flat_map(|container| container.bridges()) {
        found.insert(name.to_owned(), addresses.to_vec());
    }
    found.extend(own.map(|own| (own, Vec::new())));
    Ok(found.into_iter().collect())
}

/// Its ports inside, where they are published.
fn ports(signer: &Signer) -> BTreeSet<u16> {
    let container = signer.container.get().ok().flatten();
    let published = container.into_iter().flat_map(|container| container.ports.keys());
    let numbers = published.filter_map(|port| port.strip_suffix("/tcp")?.parse().ok());
    numbers.chain(signer.docker().map(|_| PORT)).collect()
}

/// Which of `senders` may get in through a bridge: the address, and by what.
pub fn forwarded(
    ruleset: &Ruleset,
    signer: &Signer,
    senders: &[IpAddr],
) -> Result<Option<(IpAddr, SocketAddr, Passage)>, Unknown> {
    let mut perhaps = None;
    for (bridge, addresses) in bridges(signer)? {
        for (port, from) in ports(signer).into_iter().flat_map(|port| senders.iter().map(move |from| (port, *from))) {
            let mut targets: Vec<Option<IpAddr>> =
                addresses.iter().filter(|to| to.is_ipv4() == from.is_ipv4()).copied().map(Some).collect();
            targets.extend(addresses.is_empty().then_some(None));
            for to in targets {
                let (protocol, way) = (Some(Protocol::Tcp), Way::Into(bridge.clone()));
                let packet = Packet {
                    protocol,
                    from: Some(from),
                    to,
                    port: Some(port),
                    is_v6: from.is_ipv6(),
                    sender: None,
                    way,
                };
                let any = if from.is_ipv6() { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
                let door = SocketAddr::new(to.unwrap_or(any), port);
                match walk(ruleset, &packet, &INTO)? {
                    Passage::Never => {}
                    always @ Passage::Always(_) => return Ok(Some((from, door, always))),
                    maybe @ Passage::Perhaps(_) => perhaps = perhaps.or(Some((from, door, maybe))),
                }
            }
        }
    }
    Ok(perhaps)
}

pub(super) fn not_round_the_filter(host: &Host, signer: &Signer) -> Judged {
    let why = |why: Unknown| Unknown::new(format!("cannot tell: {why}"));
    let container = match (signer.container.get(), signer.docker()) {
        (Ok(container), _) => container,
        (Err(_), Some(_)) => None,
        (Err(unknown), None) => return Err(why(unknown)),
    };
    if container.is_none() && signer.docker().is_none() {
        return match signer.process.get()?.filter(|process| process.is_contained()) {
            Some(_) => Err(Unknown::new("cannot tell: its container's engine is none that lsm can ask")),
            None => Ok(Verdict::NotApplicable("lnd is in no container".to_owned())),
        };
    }
    if container.is_some_and(|container| container.spaces.get("network").is_some_and(|of| of == "host")) {
        return Ok(Verdict::NotApplicable("it has the host's network: NET-001".to_owned()));
    }
    let allowed = signer.spec.get()?.map_or(&[][..], |spec| spec.allow.as_slice());
    let strangers: Vec<IpAddr> =
        STRANGERS.into_iter().filter(|ip| !allowed.iter().any(|net| net.contains(ip))).collect();
    let bridges = bridges(signer)?;
    let names: Vec<String> = bridges.into_iter().map(|(name, _)| name).collect();
    let ports = ports(signer);
    if names.is_empty() || ports.is_empty() {
        return Ok(Verdict::Pass("none of its ports is published".to_owned()));
    }
    match forwarded(&live(host)?, signer, &strangers)? {
        None => Ok(Verdict::Pass(format!(
            "what is forwarded into {} is judged there: {} strangers that were tried get nowhere",
            few(&names),
            strangers.len()
        ))),
        Some(_) if has_legacy(host)? => {
            Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"))
        }
        // Docker's own rules let in what is published: that nothing surely drops it is enough.
        Some((from, door, Passage::Perhaps(by) | Passage::Always(by))) => {
            Ok(Verdict::Fail(format!("{from} is forwarded to port {} past the input hook: {by}", door.port())))
        }
        Some((_, _, Passage::Never)) => Ok(Verdict::Pass(few(&names))),
    }
}

/// What the container may begin: the bridge out of which, the protocol and whether it is of IPv6; nothing where nothing gets
/// anywhere.
pub fn begins(ruleset: &Ruleset, bridges: &[Bridge]) -> Result<Option<(String, Option<Protocol>, bool)>, Unknown> {
    for (bridge, _) in bridges {
        for is_v6 in [false, true] {
            for protocol in [Some(Protocol::Tcp), Some(Protocol::Udp), None] {
                let way = Way::OutOf(bridge.clone());
                let packet = Packet { protocol, from: None, to: None, port: None, is_v6, sender: None, way };
                for hooks in &OUT {
                    if walk(ruleset, &packet, hooks)? != Passage::Never {
                        return Ok(Some((bridge.clone(), protocol, is_v6)));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// Where the rules of a chain send packets that iptables made: nft's JSON does not tell, its text does (`dnat to
/// 172.18.0.2:10012`). Nothing where it does not tell of as many as there are.
pub fn sent_to(text: &str, (family, table): (&str, &str), chain: &str, count: usize) -> Option<Vec<SocketAddr>> {
    let (mut in_table, mut in_chain) = (false, false);
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("table ") {
            in_table = line == format!("table {family} {table} {{");
        } else if line.starts_with('\t') && !line.starts_with("\t\t") {
            in_chain = in_table && line.trim() == format!("chain {chain} {{");
        } else if in_chain && let Some((_, to)) = line.split_once(" dnat to ") {
            found.extend(to.split_whitespace().next().and_then(|to| to.parse::<SocketAddr>().ok()));
        }
    }
    (found.len() == count).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_dockers_rules_send_packets_is_read_from_their_text() {
        let text = "table ip nat {\n\tchain DOCKER {\n\t\tiifname \"docker0\" counter return\n\t\ttcp dport 80 counter \
            dnat to 172.18.0.2:10012\n\t}\n\n\tchain OTHER {\n\t\tdnat to 10.0.0.1:1\n\t}\n}\ntable ip6 nat {\n\tchain \
            DOCKER {\n\t\ttcp dport 1 dnat to [fd00::2]:10012\n\t}\n}\n";
        let to = |family, chain, count| {
            sent_to(text, (family, "nat"), chain, count)
                .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(to("ip", "DOCKER", 1).as_deref(), Some("172.18.0.2:10012"));
        assert_eq!(to("ip6", "DOCKER", 1).as_deref(), Some("[fd00::2]:10012"));
        assert_eq!((to("ip", "DOCKER", 2), to("ip", "none", 1)), (None, None));
    }
}
