//! The network: who reaches the signer, whom it reaches, and what else is open.

mod boot;
mod bridge;
mod door;
mod open;
mod ruleset;
mod stack;
mod walk;

use super::{Area, Check, Judge};
use crate::facts::audit::{Host, Needs, Protocol, Unknown};
use ruleset::Ruleset;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use walk::{Packet, Passage, Way, walk};

const RULESET: &str = "nft -j list ruleset";
/// Here as text, which alone tells of a table that sleeps.
const TABLES: &str = "nft -s -t list ruleset";
/// Tables of the older iptables, which nft does not see (iptables-legacy(8)).
const LEGACY: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
const FORWARD: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
const SYNCOOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";

pub(super) const AREA: Area = Area {
    needs: Needs {
        texts: &[
            LEGACY[0],
            LEGACY[1],
            FORWARD[0],
            FORWARD[1],
            SYNCOOKIES,
            boot::UFW,
            boot::NFTABLES[0],
            boot::NFTABLES[1],
        ],
        programs: &[&["nft", "-j", "list", "ruleset"], &["nft", "-s", "-t", "list", "ruleset"]],
    },
    checks: CHECKS,
};

const CHECKS: &[Check] = &[
    Check {
        id: "NET-001",
        title: "The packet filter closes lnd's port to strangers",
        why: "whoever reaches the port can try macaroons, and lnd's faults, for as long as he likes",
        mend: "lsm install, which loads its filter again; elsewhere drop what comes to the port but from the watch-only node",
        judge: Judge::Signer(door::closed_to_strangers),
    },
    Check {
        id: "NET-002",
        title: "Nobody but the allowlist gets to lnd's port, and nothing is sent on to it",
        why: "an address too many, or a rule that sends another port's packets there, goes round the filter",
        mend: "lsm install puts lsm's table right; nft -a list ruleset has the rule, nft delete rule takes it away",
        judge: Judge::Signer(door::only_the_allowed),
    },
    Check {
        id: "NET-003",
        title: "Nothing else listens for other hosts",
        why: "each further service is a way onto the host that holds the keys",
        mend: "systemctl disable --now the service, or let it listen on 127.0.0.1 alone",
        judge: Judge::Host(open::listeners),
    },
    Check {
        id: "NET-004",
        title: "The packet filter in the kernel is the one that the next boot loads",
        why: "a filter that somebody typed is gone after a reboot, and what somebody changed is not what was reviewed",
        mend: "lsm install; elsewhere write the rules to /etc/nftables.conf and systemctl enable nftables",
        judge: Judge::Host(boot::persists),
    },
    Check {
        id: "NET-005",
        title: "lnd reaches no other host",
        why: "a signer only answers: an lnd that is taken over must not be able to send the keys away",
        mend: "lsm install; elsewhere PrivateNetwork= behind a proxy, or drop in nft's output hook what lnd's user (meta skuid) begins",
        judge: Judge::Signer(door::no_way_out),
    },
    Check {
        id: "NET-006",
        title: "No port of lnd's container is published round the packet filter",
        why: "Docker forwards what it publishes, and what is forwarded never meets the rules for what comes in",
        mend: "lsm install --backend docker, whose filter judges there too; elsewhere drop it in the chain DOCKER-USER",
        judge: Judge::Signer(bridge::not_round_the_filter),
    },
    Check {
        id: "NET-007",
        title: "Docker is no way to root",
        why: "whoever may talk to Docker is root on this host, without a password",
        mend: "take -H tcp:// out of dockerd's arguments and daemon.json; chown root:docker and chmod 0660 its socket; docker rm what has it mounted",
        judge: Judge::Host(open::docker),
    },
    Check {
        id: "NET-008",
        title: "What nobody asked for is dropped",
        why: "a service that is started by mistake is reachable at once",
        mend: "a base chain in nft's input hook with policy drop; let SSH in first",
        judge: Judge::Host(open::drops_the_rest),
    },
    Check {
        id: "NET-009",
        title: "The host forwards nothing",
        why: "a host that forwards joins networks that are to stay apart, and passes packets round its own input rules",
        mend: "net.ipv4.ip_forward=0 and net.ipv6.conf.all.forwarding=0 in /etc/sysctl.d, then sysctl --system",
        judge: Judge::Host(stack::forwards),
    },
    Check {
        id: "NET-010",
        title: "Nobody on the network changes the host's routes",
        why: "a neighbour who redirects its routes sits between the signer and its node",
        mend: "accept_redirects=0 and accept_source_route=0 under net.ipv4.conf.all and .default, and net.ipv6 alike, in /etc/sysctl.d",
        judge: Judge::Host(stack::redirects),
    },
    Check {
        id: "NET-011",
        title: "Nothing reads packets below the packet filter",
        why: "a packet socket sees every packet of the host, and none of the filter's rules",
        mend: "stop the program",
        judge: Judge::Host(open::sniffers),
    },
    Check {
        id: "NET-012",
        title: "Senders are believed only where they would be answered",
        why: "the allowlist goes by a packet's source: one that comes in at the wrong interface is forged",
        mend: "net.ipv4.conf.all.rp_filter=2 (or 1) in /etc/sysctl.d, then sysctl --system",
        judge: Judge::Host(stack::reverse_path),
    },
    Check {
        id: "NET-013",
        title: "A flood of half-open connections closes no port",
        why: "without SYN cookies anybody who can send packets keeps the node from its signer",
        mend: "net.ipv4.tcp_syncookies=1 in /etc/sysctl.d, then sysctl --system",
        judge: Judge::Host(stack::syncookies),
    },
];

/// Where nobody of the operator's is: a resolver that everybody knows, since lists of nets that are nobody's may be dropped;
/// addresses for documentation (RFC 5737, RFC 3849); and of each private net the last.
const STRANGERS: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)),
    IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254)),
    IpAddr::V4(Ipv4Addr::new(172, 31, 255, 254)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 255, 254)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77)),
    IpAddr::V6(Ipv6Addr::new(0xfdff, 0xffff, 0xffff, 0, 0, 0, 0, 0x77)),
];
/// Nobody's (RFC 6335: never assigned).
const NOBODYS: u16 = 1;
const INWARD: [&str; 2] = ["prerouting", "input"];

/// The live packet filter; an empty one where nft is not there and the kernel has no older tables.
fn live(host: &Host) -> Result<Ruleset, Unknown> {
    match (host.printed(RULESET)?, host.printed(TABLES)?) {
        (Some(json), Some(text)) => Ruleset::parse(json, text),
        _ => Err(Unknown::new("nft is not installed: what the packet filter does cannot be seen")),
    }
}

/// True where rules of the older iptables are in force beside.
fn has_legacy(host: &Host) -> Result<bool, Unknown> {
    Ok(LEGACY
        .iter()
        .map(|path| host.text(path))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .any(|text| !text.trim().is_empty()))
}

/// The first packet of `from` to a door; nothing where no such packet comes there.
fn knock(door: SocketAddr, from: IpAddr) -> Option<Packet> {
    let fits = match door.ip() {
        IpAddr::V4(_) => from.is_ipv4(),
        // A socket on every address of IPv6 takes IPv4 too (ipv6(7), IPV6_V6ONLY).
        IpAddr::V6(ip) => from.is_ipv6() || ip.is_unspecified(),
    };
    let to = Some(door.ip()).filter(|ip| !ip.is_unspecified());
    let packet = Packet {
        protocol: Some(Protocol::Tcp),
        from: Some(from),
        to,
        port: Some(door.port()),
        is_v6: from.is_ipv6(),
        sender: None,
        way: Way::Here,
    };
    fits.then_some(packet)
}

/// Which of `senders` may get in at one of `doors`: the address, the door, and by what.
fn let_in(
    ruleset: &Ruleset,
    doors: &[SocketAddr],
    senders: &[IpAddr],
) -> Result<Option<(IpAddr, SocketAddr, Passage)>, Unknown> {
    let mut perhaps = None;
    for door in doors {
        for from in senders {
            let Some(packet) = knock(*door, *from) else { continue };
            match walk(ruleset, &packet, &INWARD)? {
                Passage::Never => {}
                always @ Passage::Always(_) => return Ok(Some((*from, *door, always))),
                maybe @ Passage::Perhaps(_) => perhaps = perhaps.or(Some((*from, *door, maybe))),
            }
        }
    }
    Ok(perhaps)
}
