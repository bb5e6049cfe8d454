//! Sockets that wait for whoever comes, and who holds them (proc_pid_net(5), proc_pid_fd(5)).

use crate::facts::audit::{Answer, Unknown, read};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Of all processes together no more descriptors are looked at: somebody may have opened millions.
const DESCRIPTORS: usize = 200_000;
/// The states that wait for somebody (include/net/tcp_states.h): of TCP, LISTEN; of UDP, not connected (TCP_CLOSE).
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// The first process, which opens sockets for services that start later (systemd.socket(5)).
const SYSTEMD: &str = "/proc/1";

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Single packets.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A process, by its program's file.
    Program(PathBuf),
    /// No process has it: the kernel's own, as a tunnel's is.
    Kernel,
    /// That cannot be seen, because of this.
    Unseen(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => write!(f, "{}", path.display()),
            Self::Kernel => f.write_str("the kernel"),
            Self::Unseen(why) => write!(f, "somebody: {why}"),
        }
    }
}

/// A socket that waits for packets from somebody it has not called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Socket {
    /// What carries the packets.
    pub protocol: Protocol,
    /// Where it waits.
    pub address: SocketAddr,
    /// The number of the user who made it.
    #[serde(default)]
    pub uid: u32,
    /// Whose it is. One that only this host reaches is not asked for.
    pub holder: Option<Holder>,
    /// Where systemd holds it, the programs that it has handed it to.
    #[serde(default)]
    pub handed_to: BTreeSet<PathBuf>,
}

impl Socket {
    /// False where only this host itself reaches it.
    pub const fn is_open(&self) -> bool {
        !self.address.ip().is_loopback()
    }
}

/// A line of one of the kernel's tables: where a socket waits, who made it, and its number.
type Line = (Protocol, SocketAddr, u32, u64);

/// The sockets that wait, and who reads packets as they come in.
pub(super) fn gather() -> (Answer<Vec<Socket>>, Answer<Vec<Holder>>) {
    let waiting = Answer::told(waiting());
    let packet = read(Path::new("/proc/net/packet")).map(|text| sniffing(&text));
    let open =
        waiting.get().ok().flatten().into_iter().flatten().filter(|(_, address, ..)| !address.ip().is_loopback());
    let numbers: BTreeSet<u64> =
        open.map(|line| line.3).chain(packet.get().ok().flatten().into_iter().flatten().copied()).collect();
    let holders = Holders::find(numbers);
    let sockets = waiting.map(|lines| {
        let socket = |(protocol, address, uid, number): Line| {
            let is_open = !address.ip().is_loopback();
            let handed_to = holders.handed.get(&number).cloned().unwrap_or_default();
            Socket { protocol, address, uid, holder: is_open.then(|| holders.of(number)), handed_to }
        };
        lines.into_iter().map(socket).collect::<BTreeSet<_>>().into_iter().collect()
    });
    let sniffers =
        packet.map(|numbers| numbers.into_iter().map(|n| holders.of(n)).collect::<BTreeSet<_>>().into_iter().collect());
    (sockets, sniffers)
}

fn waiting() -> Result<Option<Vec<Line>>, Unknown> {
    let mut lines = Vec::new();
    for (name, protocol) in
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)]
    {
        // A kernel without IPv6 has two of them.
        if let Some(text) = read(Path::new("/proc/net").join(name).as_path()).take()? {
            lines.extend(text.lines().filter_map(|line| parse(protocol, line)));
        }
    }
    Ok(Some(lines))
}

/// `sl: LOCAL:PORT REMOTE:PORT STATE queues timer retransmits uid timeout INODE ...`
fn parse(protocol: Protocol, line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    let waits = match protocol {
        Protocol::Tcp => LISTENS,
        Protocol::Udp => UNCONNECTED,
    };
    if state != waits {
        return None;
    }
    Some((protocol, address(local)?, words.nth(3)?.parse().ok()?, words.nth(1)?.parse().ok()?))
}

/// An address as words of the machine's own byte order, in hexadecimal.
pub(in crate::facts) fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    if !ip.is_ascii() {
        return None;
    }
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    // An address of IPv4 in IPv6's clothes takes packets of IPv4.
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// The numbers in the last column; the first line is a heading.
fn sniffing(text: &str) -> Vec<u64> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect()
}

/// Which process has which socket.
#[derive(Default)]
struct Holders {
    programs: BTreeMap<u64, Holder>,
    /// Of each socket of systemd's, who else has it.
    handed: BTreeMap<u64, BTreeSet<PathBuf>>,
    /// Why not every process could be looked at.
    unseen: Option<String>,
}

impl Holders {
    /// Looks for these sockets among the descriptors of all processes.
    fn find(wanted: BTreeSet<u64>) -> Self {
        let mut holders = Self::default();
        let mut left = DESCRIPTORS;
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
            let is_number = entry.file_name().to_str()?.parse::<u32>().is_ok();
            is_number.then(|| entry.path())
        });
        for process in pids {
            if holders.programs.len() == wanted.len() && holders.handed.is_empty() {
                break;
            }
            let descriptors = match fs::read_dir(process.join("fd")) {
                Ok(descriptors) => descriptors,
                // It ended meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(_) => {
                    holders.unseen.get_or_insert_with(|| "only root can see whose it is".to_owned());
                    continue;
                }
            };
            for descriptor in descriptors.flatten() {
                if left == 0 {
                    holders.unseen = Some("too much is open on this host to see whose it is".to_owned());
                    return holders;
                }
                left -= 1;
                let number = fs::read_link(descriptor.path()).ok().and_then(|to| socket(&to));
                if let Some(number) = number.filter(|number| wanted.contains(number)) {
                    holders.note(number, &process);
                }
            }
        }
        holders
    }

    /// Of several that share a socket, as systemd and what it started do, it is the one's that began first.
    fn note(&mut self, number: u64, process: &Path) {
        if process == Path::new(SYSTEMD) {
            self.handed.entry(number).or_default();
        } else if let Some(others) = self.handed.get_mut(&number)
            && let Holder::Program(path) = program(process)
        {
            others.insert(path);
        }
        self.programs.entry(number).or_insert_with(|| program(process));
    }

    fn of(&self, number: u64) -> Holder {
        let unseen = || self.unseen.clone().map_or(Holder::Kernel, Holder::Unseen);
        self.programs.get(&number).cloned().unwrap_or_else(unseen)
    }
}

/// `socket:[NUMBER]`
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn program(process: &Path) -> Holder {
    match fs::read_link(process.join("exe")) {
        // After an update the old one may still run.
        Ok(path) => Holder::Program(match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
            Some(path) => path.into(),
            None => path,
        }),
        Err(_) => Holder::Unseen("its program cannot be seen".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_kernels_tables_are_read_as_they_are_written() {
        let v4 = "   0: 0100007F:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1150 1 0";
        assert_eq!(parse(Protocol::Tcp, v4), Some((Protocol::Tcp, "127.0.0.1:2024".parse().unwrap(), 0, 1150)));
        let v6 = "   1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 \
            00000000:00000000 00:00000000 00000000   101        0 77 2 0";
        assert_eq!(parse(Protocol::Udp, v6), Some((Protocol::Udp, "[::1]:53".parse().unwrap(), 101, 77)));
        let connected = v4.replace(" 0A ", " 01 ");
        for other in [connected.as_str(), "  sl  local_address rem_address   st", "", "é: é:é é 0A"] {
            assert_eq!(parse(Protocol::Tcp, other), None, "{other}");
        }
        assert_eq!(sniffing("sk RefCnt Type Proto Iface R Rmem User Inode\nffff 3 3 0003 2 1 0 0 4711\n"), [4711]);
    }

    #[test]
    fn what_waits_here_is_found_with_its_holder() {
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sockets, _) = gather();
        let sockets = sockets.take().unwrap().unwrap();
        let find = |protocol, address| sockets.iter().find(|s| s.protocol == protocol && s.address == address).unwrap();
        let own = Holder::Program(std::env::current_exe().unwrap().canonicalize().unwrap());
        assert_eq!(find(Protocol::Tcp, tcp.local_addr().unwrap()).holder, Some(own));
        assert_eq!(find(Protocol::Udp, udp.local_addr().unwrap()).holder, None, "this host's alone");
    }

    #[test]
    fn what_systemd_holds_is_told_with_whom_it_was_handed_to() {
        let own = std::env::current_exe().unwrap().canonicalize().unwrap();
        let (systemd, other) = (Path::new(SYSTEMD), Path::new("/proc/self"));
        let mut holders = Holders::default();
        for (number, process) in [(1, systemd), (1, other), (2, other), (2, other), (3, systemd)] {
            holders.note(number, process);
        }
        assert_ne!(holders.of(1), Holder::Program(own.clone()), "it is systemd's, who began first");
        assert_eq!(holders.of(2), Holder::Program(own.clone()));
        assert_eq!(holders.handed, BTreeMap::from([(1, BTreeSet::from([own])), (3, BTreeSet::new())]));
    }
}
