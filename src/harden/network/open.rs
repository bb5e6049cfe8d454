//! What else is open on the host, and whether its packet filter stays.

use super::ruleset::{Chain, Ruleset};
use super::walk::{Packet, Passage, walk};
use super::{INWARD, NOBODYS, RULESET, STRANGERS, has_legacy, knock, let_in, live};
use crate::facts::audit::{Answer, Holder, Host, Protocol, Signer, Socket, Unknown};
use crate::harden::{Judged, Verdict, few};
use std::cell::LazyCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Programs that may listen for other hosts on one of these ports; none: on any.
const EXPECTED: [(&str, &[u16]); 6] = [
    ("sshd", &[]),
    // Sockets that systemd holds for sshd.
    ("systemd", &[22]),
    // Clients that ask for an address (RFC 2131, RFC 8415).
    ("dhclient", &[68, 546]),
    ("dhcpcd", &[68, 546]),
    ("systemd-networkd", &[68, 546]),
    ("NetworkManager", &[68, 546]),
];

/// Ports below are root's to give (ip(7)), unless `net.ipv4.ip_unprivileged_port_start` says otherwise.
const PRIVILEGED: u16 = 1024;

pub(super) fn listeners(host: &Host) -> Judged {
    let sockets = host.network.sockets.need("table of sockets")?;
    let ruleset = LazyCell::new(|| host.printed(RULESET)?.map(|_| live(host)).transpose());
    let (mut open, mut quiet, mut unseen) = (Vec::new(), Vec::new(), None);
    for socket in sockets.iter().filter(|socket| socket.is_open()) {
        let Some(holder) = &socket.holder else { continue };
        let is_own = host.signers.iter().any(|signer| is_of(signer, socket, holder));
        if is_own || (is_roots(socket) && is_expected(holder, socket.address.port())) {
            continue;
        }
        let said = format!("{} {} of {holder}", socket.protocol, socket.address);
        match holder {
            Holder::Unseen(_) => unseen = Some(Unknown::new(said)),
            // WireGuard's, which answers nobody without its key; other tunnels are alike.
            Holder::Kernel if socket.protocol == Protocol::Udp => quiet.push(said),
            _ if is_closed(LazyCell::force(&ruleset).as_ref().map_err(Clone::clone)?.as_ref(), socket)? => {
                quiet.push(format!("{said}, closed by the packet filter"))
            }
            _ => open.push(said),
        }
    }
    match (open.is_empty(), unseen) {
        (false, _) => Ok(Verdict::none(open, "")),
        (true, Some(unseen)) => Err(unseen),
        (true, None) if quiet.is_empty() => Ok(Verdict::Pass("of TCP and UDP the signer and SSH alone".to_owned())),
        (true, None) => Ok(Verdict::Warn(few(&quiet))),
    }
}

/// True of what a signer listens on: where lsm was told, by lsm's own programs or its lnd; of an lnd that lsm did not set
/// up, whatever it has, which LND-001 to LND-003 judge.
fn is_of(signer: &Signer, socket: &Socket, holder: &Holder) -> bool {
    let Holder::Program(path) = holder else { return false };
    let is_lnd = matches!(&signer.process, Answer::Is(process) if process.exe == Answer::Is(path.clone()));
    match &signer.spec {
        Answer::Is(spec) => {
            let is_door = socket.protocol == Protocol::Tcp && socket.address.port() == spec.listen.port();
            let is_lsm =
                is_system(path) && ["systemd", "lsm"].iter().any(|name| path.file_name() == Some(name.as_ref()));
            // What Docker starts for each port that it publishes.
            let is_docker = spec.docker.is_some()
                && is_system(path)
                && path.file_name() == Some("docker-proxy".as_ref())
                && socket.address == spec.listen;
            is_door && (is_lnd || (socket.uid == 0 && (is_lsm || is_docker)))
        }
        _ => is_lnd,
    }
}

fn is_system(path: &Path) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/lib", "/usr/local/lib/lsm", "/sbin", "/bin", "/lib"];
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Anybody may start such a program on a port above the first thousand, with settings of their own.
fn is_roots(socket: &Socket) -> bool {
    socket.uid == 0 || socket.address.port() < PRIVILEGED
}

fn is_expected(holder: &Holder, port: u16) -> bool {
    let Holder::Program(path) = holder else { return false };
    let name = path.file_name().unwrap_or_default();
    let is_known = |(program, ports): &(&str, &[u16])| name == *program && (ports.is_empty() || ports.contains(&port));
    is_system(path) && EXPECTED.iter().any(is_known)
}

/// True where the packet filter lets no stranger to a socket.
fn is_closed(ruleset: Option<&Ruleset>, socket: &Socket) -> Result<bool, Unknown> {
    // Without nft nothing is known to close it.
    let Some(ruleset) = ruleset else { return Ok(false) };
    for from in STRANGERS {
        let Some(packet) = knock(socket.address, from) else { continue };
        if walk(ruleset, &Packet { protocol: Some(socket.protocol), ..packet }, &INWARD)? != Passage::Never {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn persists(host: &Host) -> Judged {
    let network = &host.network;
    if let Some(is) = network.as_on_disk.get()? {
        return Ok(Verdict::hold(
            *is,
            if *is { "lsm's table is as on disk" } else { "lsm's table is not what /etc/lsm/firewall.nft makes" },
        ));
    }
    if host.printed(RULESET)?.is_none() && !has_legacy(host)? {
        return Ok(Verdict::NotApplicable("there is no packet filter".to_owned()));
    }
    let is_filter = |chain: &Chain| {
        chain.base.as_ref().is_some_and(|base| base.kind == "filter" && INWARD.contains(&base.hook.as_str()))
    };
    if !live(host)?.chains.values().any(is_filter) && !has_legacy(host)? {
        return Ok(Verdict::NotApplicable("there is no packet filter".to_owned()));
    }
    let keepers = network.keepers.get()?.map_or(&[][..], Vec::as_slice);
    Ok(match keepers {
        [] => Verdict::Fail("rules are in force, and no service loads any at boot".to_owned()),
        some => Verdict::Pass(format!("loaded by {}", few(some))),
    })
}

pub(super) fn docker(host: &Host) -> Judged {
    const API: [u16; 2] = [2375, 2376];
    let sockets = host.network.sockets.need("table of sockets")?;
    let open = sockets.iter().filter(|socket| socket.protocol == Protocol::Tcp && API.contains(&socket.address.port()));
    let mut wrong: Vec<String> = open.map(|socket| format!("{} listens", socket.address)).collect();
    let socket = host.network.docker.get()?;
    if let Some(socket) = socket {
        let is_open = socket.uid != 0 || socket.mode & 0o007 != 0 || socket.acl;
        wrong.extend(is_open.then(|| {
            format!(
                "{} is {:04o} of {}{}",
                socket.path,
                socket.mode,
                socket.uid,
                if socket.acl { ", with an access control list" } else { "" }
            )
        }));
    }
    let mut unasked = None;
    for signer in &host.signers {
        match signer.container.get().and_then(|container| container.map(|c| c.others.get()).transpose()) {
            Ok(others) => {
                let has_socket = others.flatten().into_iter().flatten().filter(|other| other.socket);
                wrong.extend(has_socket.map(|other| format!("the container {} has its socket", other.name)));
            }
            Err(why) => unasked = Some(Unknown::new(format!("who has its socket cannot be told: {why}"))),
        }
    }
    if let Some(unasked) = unasked.filter(|_| wrong.is_empty()) {
        return Err(unasked);
    }
    if socket.is_none() && wrong.is_empty() {
        return Ok(Verdict::NotApplicable("there is no Docker".to_owned()));
    }
    Ok(Verdict::none(wrong, "its socket is root's and its group's"))
}

pub(super) fn drops_the_rest(host: &Host) -> Judged {
    let door = |ip: IpAddr| SocketAddr::new(ip, NOBODYS);
    let doors = [door(Ipv4Addr::UNSPECIFIED.into()), door(Ipv6Addr::UNSPECIFIED.into())];
    if host.printed(RULESET)?.is_none() && !has_legacy(host)? {
        return Ok(Verdict::Warn("there is no packet filter".to_owned()));
    }
    Ok(match let_in(&live(host)?, &doors, &STRANGERS)? {
        None => Verdict::Pass("dropped for both families".to_owned()),
        Some(_) if has_legacy(host)? => {
            return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
        }
        Some((from, _, _)) => Verdict::Warn(format!("no rule drops what {from} sends to a port that nobody opened")),
    })
}

pub(super) fn sniffers(host: &Host) -> Judged {
    let Some(found) = host.network.sniffers.get()? else {
        return Ok(Verdict::NotApplicable("this kernel has no packet sockets".to_owned()));
    };
    if let Some(Holder::Unseen(why)) = found.iter().find(|holder| matches!(holder, Holder::Unseen(_))) {
        return Err(Unknown::new(why.clone()));
    }
    // They ask for the host's address before it has one.
    let strange = found.iter().filter(|holder| !is_expected(holder, 68));
    Ok(Verdict::none(strange, "none does"))
}
