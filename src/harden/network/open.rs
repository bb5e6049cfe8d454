//! What else is open on the host.

use super::ruleset::Ruleset;
use super::walk::{Packet, Passage, walk};
use super::{INWARD, NOBODYS, RULESET, STRANGERS, has_legacy, knock, let_in, live};
use crate::facts::audit::{Answer, Holder, Host, Protocol, Signer, Socket, Unknown};
use crate::harden::{Judged, Verdict, few, ssh};
use std::cell::LazyCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Programs that may listen for other hosts on one of these ports; none: on any.
const EXPECTED: [(&str, &[u16]); 6] = [
    ("sshd", &[]),
    // The usual one that it holds for sshd; of others sshd tells.
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
        let is_known = is_expected(holder, socket.address.port()) || is_of_ssh(host, socket, holder);
        if is_own || (is_roots(socket) && is_known) {
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
    let is_lnd = matches!(&signer.process, Answer::Is(process) if process.program() == Ok(path.as_path()));
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

/// True of a socket that systemd holds for sshd: sshd has it already, or its settings have its port, of which Ubuntu makes
/// ssh.socket (sshd-socket-generator).
fn is_of_ssh(host: &Host, socket: &Socket, holder: &Holder) -> bool {
    let is = |path: &Path, name: &str| is_system(path) && path.file_name() == Some(name.as_ref());
    let is_systemds = matches!(holder, Holder::Program(path) if is(path, "systemd"));
    let is_told = || socket.protocol == Protocol::Tcp && ssh::ports(host).contains(&socket.address.port());
    is_systemds && (socket.handed_to.iter().any(|path| is(path, "sshd")) || is_told())
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
    match host.network.sharers.get() {
        Ok(names) => {
            wrong.extend(names.into_iter().flatten().map(|name| format!("the container {name} has its socket")))
        }
        Err(why) if wrong.is_empty() => {
            return Err(Unknown::new(format!("who has its socket cannot be told: {why}")));
        }
        Err(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::{Kind, Place};
    use crate::harden::tests::{anns, of_ann, recorded};
    use std::collections::BTreeSet;

    /// A host with no lnd and these sockets.
    fn host(sockets: Vec<Socket>) -> Host {
        let mut host = recorded();
        host.programs.clear();
        host.signers.clear();
        host.network.sockets = Answer::Is(sockets);
        host.network.docker = Answer::Absent;
        host.network.sharers = Answer::Absent;
        host
    }

    #[test]
    fn a_socket_that_systemd_holds_for_sshd_is_sshds() {
        let waits = |port: u16, uid: u32, handed_to: &[&str]| Socket {
            protocol: Protocol::Tcp,
            address: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            uid,
            holder: Some(Holder::Program("/usr/lib/systemd/systemd".into())),
            handed_to: handed_to.iter().map(Into::into).collect(),
        };
        let told = "port 2222\nlistenaddress [::]:2222\nlistenaddress 10.0.0.5:2022\n";
        let cases: [(u16, u32, &[&str], &str, &str); 8] = [
            (22, 0, &[], "", "pass"),
            (2222, 0, &[], told, "pass"),
            (2022, 0, &[], told, "pass"),
            (2223, 0, &[], told, "fail"),
            (2222, 0, &["/usr/sbin/sshd"], "", "pass"),
            (2222, 0, &["/usr/sbin/cupsd"], "", "fail"),
            (2222, 0, &["/home/x/sshd"], "", "fail"),
            (2222, 1000, &["/usr/sbin/sshd"], told, "fail"),
        ];
        for (port, uid, handed_to, told, wanted) in cases {
            let mut host = host(vec![waits(port, uid, handed_to)]);
            host.programs.insert("sshd -T".to_owned(), Answer::Is(told.to_owned()));
            assert_eq!(listeners(&host).unwrap().name(), wanted, "{port} of {uid}, {handed_to:?}, {told}");
        }
    }

    #[test]
    fn what_an_lnd_has_is_its_own_also_where_its_program_is_another_by_now() {
        let (_, signer) = anns();
        let mut host = host(vec![of_ann("0.0.0.0:10009")]);
        assert_eq!(listeners(&host).unwrap().name(), "fail");
        host.signers.push(signer);
        assert_eq!(listeners(&host).unwrap().name(), "pass");
    }

    #[test]
    fn a_container_with_dockers_socket_is_found_wherever_lnd_runs() {
        let mut host = host(vec![]);
        assert_eq!(docker(&host).unwrap().name(), "na");
        let place = |mode| Place {
            path: "/run/docker.sock".to_owned(),
            kind: Kind::Other,
            mode,
            uid: 0,
            acl: false,
            capabilities: false,
        };
        host.network.docker = Answer::Is(place(0o660));
        host.network.sharers = Answer::Is(BTreeSet::new());
        assert_eq!(docker(&host).unwrap().name(), "pass");
        host.network.sharers = Answer::Is(BTreeSet::from(["portainer".to_owned()]));
        assert_eq!(docker(&host), Ok(Verdict::Fail("the container portainer has its socket".to_owned())));
        host.network.sharers = Answer::Unknown("it is silent".to_owned());
        assert!(docker(&host).is_err(), "nobody could be asked");
        host.network.docker = Answer::Is(place(0o666));
        assert_eq!(docker(&host).unwrap().name(), "fail", "whoever has it besides");
    }
}
