//! The sandbox as the kernel enforces it on a running lnd, and who is connected to it.

use super::audit::address;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// A connection that stands (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";

/// What the kernel enforces on a process (proc_pid_status(5)). Landlock it does not tell of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fence {
    /// Its number.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: u32,
    /// It has no capability, and no way to one.
    pub no_capabilities: bool,
    /// It cannot gain a right by starting a program.
    pub no_new_privileges: bool,
    /// How many filters its system calls pass.
    pub seccomp_filters: u32,
    /// It sees another network than lsm; unknown to other users than root.
    pub own_network: Option<bool>,
}

impl Fence {
    /// What holds for process `pid`; nothing where it does not run.
    pub fn look(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let own_network = network(&pid.to_string()).zip(network("self")).map(|(its, ours)| its != ours);
        Some(Self { own_network, ..Self::parse(pid, &text)? })
    }

    fn parse(pid: u32, status: &str) -> Option<Self> {
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let none = |set: &str| field(set).and_then(|bits| u64::from_str_radix(bits, 16).ok()) == Some(0);
        Some(Self {
            pid,
            uid: field("Uid")?.split_whitespace().next()?.parse().ok()?,
            no_capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].into_iter().all(none),
            no_new_privileges: field("NoNewPrivs") == Some("1"),
            seccomp_filters: field("Seccomp_filters").and_then(|n| n.parse().ok()).unwrap_or(0),
            own_network: None,
        })
    }
}

/// Who is connected to `to`, as often as that, in the network of process `pid`, or of lsm. Nothing where that cannot be seen.
pub fn connected(to: SocketAddr, pid: Option<u32>) -> Option<BTreeMap<IpAddr, u32>> {
    let of = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc").join(&of).join("net").join(name));
    // A kernel without IPv6 has only the first.
    let text = read("tcp").ok()? + &read("tcp6").unwrap_or_default();
    let mut peers = BTreeMap::new();
    for peer in text.lines().filter_map(|line| peer(line, to)) {
        *peers.entry(peer).or_insert(0) += 1;
    }
    Some(peers)
}

/// `sl: LOCAL:PORT REMOTE:PORT STATE ...`
fn peer(line: &str, to: SocketAddr) -> Option<IpAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?);
    let is_ours = local.port() == to.port() && (to.ip().is_unspecified() || local.ip() == to.ip());
    (state == ESTABLISHED && is_ours).then_some(remote.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_are_counted_by_whom_they_are_from() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(connected(at, None).unwrap(), BTreeMap::new());
        let streams: Vec<_> = (0..2).map(|_| (TcpStream::connect(at).unwrap(), listener.accept().unwrap())).collect();
        let twice = BTreeMap::from([(at.ip(), 2)]);
        assert_eq!(connected(at, None).unwrap(), twice);
        let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), at.port());
        assert_eq!(connected(everywhere, Some(std::process::id())).unwrap(), twice);
        assert_eq!(connected(SocketAddr::new("127.0.0.2".parse().unwrap(), at.port()), None).unwrap(), BTreeMap::new());
        drop(streams);
    }

    #[test]
    fn a_fence_is_what_the_kernel_says() {
        let caps = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
            CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n";
        let status =
            format!("Name:\tlnd\nUid:\t998\t998\t998\t998\n{caps}NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t13\n");
        let fence = Fence::parse(7, &status).unwrap();
        assert!(fence.no_capabilities && fence.no_new_privileges && fence.own_network.is_none());
        assert_eq!((fence.pid, fence.uid, fence.seccomp_filters), (7, 998, 13));
        let open =
            status.replace("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff").replace("Privs:\t1", "Privs:\t0");
        let open = Fence::parse(7, &open).unwrap();
        assert!(!open.no_capabilities && !open.no_new_privileges);
        assert_eq!(Fence::look(std::process::id()).unwrap().own_network, Some(false));
        assert_eq!(Fence::look(u32::MAX), None);
    }
}
