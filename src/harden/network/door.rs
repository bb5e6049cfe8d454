//! The way in to lnd's port, and the way out from lnd, held against the packet filter.

use super::bridge::{Bridge, begins, bridges, forwarded, sent_to};
use super::ruleset::{Ruleset, Statement, Table};
use super::walk::{Packet, Passage, Way, walk};
use super::{STRANGERS, TABLES, has_legacy, let_in, live};
use crate::facts::audit::{Answer, Container, Host, Protocol, Settings, Signer, Unknown};
use crate::harden::settings::{self, CALLS};
use crate::harden::{Judged, Verdict, few};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The hooks that a packet passes which leaves the host.
const OUTWARD: [&str; 2] = ["output", "postrouting"];

/// Interfaces that the kernel puts into every network while a tunnel's module is loaded, down and without an address.
const FALLBACKS: [&str; 7] = ["sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0"];

/// Where the signer is reached from other hosts: where lsm was told, and where its lnd listens.
fn doors(host: &Host, signer: &Signer) -> Result<Vec<SocketAddr>, Unknown> {
    let spec = signer.spec.get()?;
    let mut doors: Vec<SocketAddr> =
        spec.map(|spec| spec.listen).into_iter().filter(|address| !address.ip().is_loopback()).collect();
    let Some(process) = signer.process.get()? else { return Ok(doors) };
    if *process.own_network.need("network of lnd's")? {
        let why = "lnd has a network of its own, and who is let into that is not seen from here";
        // A container's engine knows where it is published.
        let container = if spec.is_none() { signer.container.get()? } else { None };
        if let Some(container) = container {
            let published = container.ports.values().flatten().copied();
            doors.extend(published.filter(|address| !address.ip().is_loopback()));
        }
        return if spec.is_some() || container.is_some() { Ok(doors) } else { Err(Unknown::new(why)) };
    }
    doors.extend(settings::held(host, process)?);
    // A port for peers is judged by LND-001, where no calls are taken on it.
    let (peers, calls) = (settings::peer_ports(&told(signer)), ports(signer));
    doors.retain(|door| !peers.contains(&door.port()) || calls.contains(&door.port()));
    doors.sort_unstable();
    doors.dedup();
    Ok(doors)
}

/// The ports on which the signer takes calls, from wherever they may come.
fn ports(signer: &Signer) -> Vec<u16> {
    if let Answer::Is(spec) = &signer.spec {
        return vec![spec.listen.port()];
    }
    let ports = settings::ports(&told(signer), "rpclisten", CALLS);
    if ports.is_empty() { vec![CALLS] } else { ports }
}

/// What lnd was told; nothing where nobody knows that.
fn told(signer: &Signer) -> Settings {
    signer.settings.get().ok().flatten().cloned().unwrap_or_default()
}

fn allowed(signer: &Signer) -> Result<Option<&[IpNet]>, Unknown> {
    Ok(signer.spec.get()?.map(|spec| spec.allow.as_slice()))
}

fn is_allowed(allowed: &[IpNet], ip: IpAddr) -> bool {
    allowed.iter().any(|net| net.contains(&ip))
}

pub(super) fn closed_to_strangers(host: &Host, signer: &Signer) -> Judged {
    let (doors, is_behind) = (doors(host, signer)?, !bridges(signer)?.is_empty());
    if doors.is_empty() && !is_behind {
        return Ok(Verdict::Pass("it listens for this host alone".to_owned()));
    }
    let allowed = allowed(signer)?;
    let strangers: Vec<IpAddr> =
        STRANGERS.into_iter().filter(|ip| !allowed.is_some_and(|nets| is_allowed(nets, *ip))).collect();
    let ruleset = live(host)?;
    let found = let_in(&ruleset, &doors, &strangers)?;
    let Some((from, door, passage)) = found.map_or_else(|| forwarded(&ruleset, signer, &strangers), |f| Ok(Some(f)))?
    else {
        let what = if is_behind { "the container behind its bridge" } else { "" };
        let places = [few_of(&doors), what.to_owned()];
        let places: Vec<&str> = places.iter().map(String::as_str).filter(|place| !place.is_empty()).collect();
        return Ok(Verdict::Pass(format!(
            "{} is closed to {} strangers that were tried",
            places.join(", and "),
            strangers.len()
        )));
    };
    if has_legacy(host)? {
        return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
    }
    Ok(match passage {
        // Of lsm's own table everything is known: what may pass it was put there by somebody.
        Passage::Perhaps(by) if allowed.is_none() => {
            Verdict::Warn(format!("{from} may get to {door}, depending on more than its address: {by}"))
        }
        Passage::Perhaps(by) | Passage::Always(by) => Verdict::Fail(format!("{from} gets to {door}: {by}")),
        Passage::Never => Verdict::Pass(few_of(&doors)),
    })
}

fn few_of(doors: &[SocketAddr]) -> String {
    few(&doors.iter().map(ToString::to_string).collect::<Vec<_>>())
}

pub(super) fn only_the_allowed(host: &Host, signer: &Signer) -> Judged {
    let (doors, ruleset) = (doors(host, signer)?, live(host)?);
    let sent = sent_on(host, signer, &ruleset, &ports(signer));
    if let Some(fail @ Verdict::Fail(_)) = sent {
        return Ok(fail);
    }
    let verdict = match allowed(signer)? {
        _ if doors.is_empty() && bridges(signer)?.is_empty() => {
            Verdict::Pass("it listens for this host alone".to_owned())
        }
        None => {
            Verdict::Pass("nothing is sent on to it; who is to get in only lsm's own allowlist would tell".to_owned())
        }
        Some(allowed) => beyond(&ruleset, signer, &doors, allowed)?,
    };
    if has_legacy(host)? && !matches!(verdict, Verdict::Fail(_)) {
        return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
    }
    Ok(match (verdict, sent) {
        (Verdict::Pass(_), Some(sent)) => sent,
        (verdict, _) => verdict,
    })
}

/// Whether anybody gets in who is not on the allowlist, of all addresses at which the filter or the list begins to be
/// otherwise.
fn beyond(ruleset: &Ruleset, signer: &Signer, doors: &[SocketAddr], allowed: &[IpNet]) -> Judged {
    /// Of addresses times rules and elements: some tenths of a second.
    const MOST: usize = 4_000_000;
    let strangers: Vec<IpAddr> = STRANGERS.into_iter().filter(|ip| !is_allowed(allowed, *ip)).collect();
    let found = |senders: &[IpAddr]| {
        let found = let_in(ruleset, doors, senders)?;
        found.map_or_else(|| forwarded(ruleset, signer, senders), |found| Ok(Some(found)))
    };
    // Who gets in whatever his address is, is a stranger.
    if found(&strangers)?.is_some() {
        return Ok(Verdict::NotApplicable("strangers get in: NET-001".to_owned()));
    }
    let mut edges: BTreeSet<IpAddr> = ruleset.addresses();
    edges.extend(allowed.iter().flat_map(|net| super::ruleset::edges(net.network(), net.broadcast())));
    edges.retain(|ip| !ip.is_loopback() && !ip.is_unspecified() && !is_allowed(allowed, *ip));
    if edges.len().saturating_mul(ruleset.size()) > MOST {
        return Err(Unknown::new(format!("the packet filter names {} addresses, too many to try", edges.len())));
    }
    let edges: Vec<IpAddr> = edges.into_iter().collect();
    Ok(match found(&edges)? {
        Some((from, door, Passage::Perhaps(by) | Passage::Always(by))) => {
            Verdict::Fail(format!("{from} is not on the allowlist and gets to {door}: {by}"))
        }
        _ => Verdict::Pass(format!("of {} further addresses that were tried none", edges.len())),
    })
}

/// A rule that sends packets to one of these ports, after the filter let them pass as something else. What is sent to a
/// container's own address is forwarded, and meets the filter there.
fn sent_on(host: &Host, signer: &Signer, ruleset: &Ruleset, ports: &[u16]) -> Option<Verdict> {
    let container = signer.container.get().ok().flatten();
    let inside: Vec<IpAddr> =
        container.into_iter().flat_map(|c| c.bridges()).flat_map(|(_, addresses)| addresses).copied().collect();
    // Where its own addresses are not known, none can be told from another's.
    let is_told = |c: &&Container| c.networks.values().all(|network| matches!(network, Answer::Is(_)));
    let mut unknown = None;
    for ((table, name), chain) in &ruleset.chains {
        let all: Vec<_> = chain.rules.iter().flatten().filter_map(redirect).collect();
        let untold = all.iter().filter(|(range, _)| range.is_none()).count();
        let mut told: Vec<_> = all.into_iter().filter_map(|(range, to)| Some((range?, to))).collect();
        if untold > 0 {
            match container.filter(is_told).and_then(|_| told_by_text(host, table, name, untold)) {
                Some(more) => told.extend(more),
                None => {
                    unknown.get_or_insert_with(|| {
                        let chain = format!("{} {} {name}", table.0, table.1);
                        format!("a rule of {chain} sends packets to ports that nft does not tell")
                    });
                }
            }
        }
        for ((first, last), to) in told {
            let is_inside = to.is_some_and(|to| inside.contains(&to));
            if let Some(port) = ports.iter().find(|port| (first..=last).contains(port) && !is_inside) {
                let evidence = format!("a rule of {} {} {name} sends packets to port {port}", table.0, table.1);
                return Some(Verdict::Fail(evidence));
            }
        }
    }
    unknown.map(Verdict::Warn)
}

/// To which ports and to which address.
type Redirected = (Ports, Option<IpAddr>);
/// The first and the last of them.
type Ports = (u16, u16);

fn redirect(statement: &Statement) -> Option<(Option<Ports>, Option<IpAddr>)> {
    match statement {
        Statement::Redirect(range, to) => Some((*range, *to)),
        _ => None,
    }
}

fn told_by_text(host: &Host, table: &Table, chain: &str, count: usize) -> Option<Vec<Redirected>> {
    let text = host.printed(TABLES).ok().flatten()?;
    let all = sent_to(text, (&table.0, &table.1), chain, count)?;
    Some(all.into_iter().map(|to| ((to.port(), to.port()), Some(to.ip()))).collect())
}

pub(super) fn no_way_out(host: &Host, signer: &Signer) -> Judged {
    let Some(process) = signer.process.get()? else {
        return Ok(Verdict::NotApplicable("lnd does not run".to_owned()));
    };
    if *process.own_network.need("network of lnd's")? {
        let table = process.texts.get("net/dev").map_or(Ok(None), Answer::get)?;
        let table = table.ok_or_else(|| Unknown::new("what is in lnd's own network cannot be seen"))?;
        let outer: Vec<&str> = table
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()))
            .filter(|name| *name != "lo" && !FALLBACKS.contains(name))
            .collect();
        let bridges = bridges(signer)?;
        return Ok(match outer[..] {
            [] => Verdict::Pass("it has a network of its own with nothing in it".to_owned()),
            // One interface of its own is the other end of each bridge.
            _ if bridges.len() == outer.len() => behind(host, &bridges)?,
            _ => {
                Verdict::Warn(format!("it has a network of its own with {}: who filters that is not seen", few(&outer)))
            }
        });
    }
    let uid = process.uid.ok_or_else(|| Unknown::new("lnd's user cannot be seen"))?;
    let ruleset = live(host)?;
    // The name that the number has, which need not be the one that the signer's user was given.
    let users = host.accounts.users.get()?.map_or(&[][..], Vec::as_slice);
    let name = users.iter().find(|user| user.uid == uid).map(|user| user.name.clone());
    // Anywhere, by whatever carries packets: what is dropped of some alone is no end.
    for is_v6 in [false, true] {
        for protocol in [Some(Protocol::Tcp), Some(Protocol::Udp), None] {
            let sender = Some((uid, name.clone()));
            let packet = Packet { protocol, from: None, to: None, port: None, is_v6, sender, way: Way::Here };
            if walk(&ruleset, &packet, &OUTWARD)? != Passage::Never {
                return Ok(reaches(host, signer, protocol, is_v6));
            }
        }
    }
    Ok(Verdict::Pass("the packet filter drops what lnd's user begins".to_owned()))
}

/// What comes out of a container is no user's here, and goes by its bridge.
fn behind(host: &Host, bridges: &[Bridge]) -> Judged {
    Ok(match begins(&live(host)?, bridges)? {
        None => Verdict::Pass("the packet filter drops what begins behind its bridge".to_owned()),
        Some(_) if has_legacy(host)? => {
            return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
        }
        Some((bridge, protocol, is_v6)) => {
            let (what, family) =
                (protocol.map_or("other packets".to_owned(), |p| p.to_string()), if is_v6 { 6 } else { 4 });
            Verdict::Fail(format!("it may send {what} over IPv{family} out of {bridge}: no rule drops all of it"))
        }
    })
}

/// It passes the packet filter; systemd may have one of its own on the unit, in which what is allowed goes before what is
/// denied (systemd.resource-control(5), IPAddressAllow=).
fn reaches(host: &Host, signer: &Signer, protocol: Option<Protocol>, is_v6: bool) -> Verdict {
    let units = host.units.shown.get().ok().flatten();
    let words = |property: &str| -> Vec<&str> {
        units.and_then(|units| units.get(&signer.name)).map_or_else(Vec::new, |unit| unit.words(property).collect())
    };
    let denied = words("IPAddressDeny");
    let is_denied = ["::/0", "0.0.0.0/0"].iter().all(|net| denied.contains(net));
    if is_denied && !words("IPAddressAllow").iter().any(|net| net.ends_with("/0")) {
        return Verdict::Warn("by systemd's IPAddressDeny= alone".to_owned());
    }
    let (what, family) = (protocol.map_or("other packets".to_owned(), |p| p.to_string()), if is_v6 { 6 } else { 4 });
    Verdict::Fail(format!("it may send {what} over IPv{family}: no rule drops all that its user begins"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::tests::{anns, of_ann};
    use serde_json::json;

    #[test]
    fn the_doors_of_an_lnd_are_where_its_program_waits_but_for_peers() {
        let (mut host, mut signer) = anns();
        let addresses = ["0.0.0.0:10009", "127.0.0.1:10010", "[::]:8080", "0.0.0.0:9735", "0.0.0.0:9736"];
        host.network.sockets = Answer::Is(addresses.map(of_ann).into());
        for (told, wanted) in [
            (json!({}), [addresses[4], addresses[0], addresses[2]].as_slice()),
            (json!({ "listen": [":9736"] }), &[addresses[0], addresses[2]]),
            // Calls are taken there.
            (json!({ "rpclisten": ["tcp://0.0.0.0:9735"] }), &[addresses[3], addresses[4], addresses[0], addresses[2]]),
        ] {
            signer.settings = Answer::Is(serde_json::from_value(told).unwrap());
            let doors: Vec<String> = doors(&host, &signer).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(doors, wanted, "{:?}", signer.settings);
        }
    }

    #[test]
    fn the_ports_of_calls_are_read_as_lnd_reads_them() {
        let (_, mut signer) = anns();
        for (told, wanted) in [
            (json!([]), [CALLS].as_slice()),
            (json!(["unix:///run/lnd.sock"]), &[CALLS]),
            (json!(["10010", "tcp4:0.0.0.0", "[::1]:10011"]), &[10010, CALLS, 10011]),
            (json!(["fd00::1"]), &[CALLS]),
        ] {
            signer.settings = Answer::Is(serde_json::from_value(json!({ "rpclisten": told })).unwrap());
            assert_eq!(ports(&signer), wanted, "{:?}", signer.settings);
        }
    }
}
