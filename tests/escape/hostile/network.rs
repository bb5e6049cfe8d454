//! The network, and the sockets of other programs on the host.

use crate::sys::{NOTHING, Tried, append, plain, sys};
use crate::{Attempt, FOLDER, World, root, user};

const UNIX: usize = 1;
const INET: usize = 2;
const INET6: usize = 10;
const STREAM: usize = 1;
const DATAGRAM: usize = 2;
const RAW: usize = 3;
const NONBLOCK: usize = 0o4000;
const FASTOPEN: usize = 0x2000_0000;
const PEER: &str = "peer4";

pub const ALL: &[Attempt] = &[
    user("connect to the host itself by TCP", "heard", |w| tell(w, tcp(INET, 0)?, &v4("127.0.0.1", w.number("near")))),
    user("connect to the host itself by TCP over IPv6", "heard", |w| {
        tell(w, tcp(INET6, 0)?, &v6("::1", w.number("near")))
    }),
    user("connect to the allowed peer by TCP", "heard", |w| tell(w, tcp(INET, 0)?, &v4(w.get(PEER), w.number("far")))),
    user("connect to the allowed peer by TCP over IPv6", "heard", |w| {
        tell(w, tcp(INET6, 0)?, &v6(w.get("peer6"), w.number("far")))
    }),
    user("connect to a stranger by TCP", "heard", |w| tell(w, tcp(INET, 0)?, &v4(w.get("stranger4"), w.number("far")))),
    user("connect by MPTCP", "heard", |w| tell(w, tcp(INET, 262)?, &v4(w.get(PEER), w.number("far")))),
    user("connect by TCP without connect (fast open)", "heard", |w| {
        let socket = tcp(INET, 0)?;
        send(w, socket, &v4(w.get(PEER), w.number("far")), FASTOPEN)
    }),
    user("send to the allowed peer by UDP", "heard", |w| {
        send(w, sys!(SOCKET, INET, DATAGRAM, 0)?, &v4(w.get(PEER), w.number("far")), 0)
    }),
    user("send to the allowed peer by UDP over IPv6", "heard", |w| {
        send(w, sys!(SOCKET, INET6, DATAGRAM, 0)?, &v6(w.get("peer6"), w.number("far")), 0)
    }),
    user("ask a name server", "heard", |w| send(w, sys!(SOCKET, INET, DATAGRAM, 0)?, &v4(w.get(PEER), 53), 0)),
    user("send to the allowed peer by UDP-Lite", "heard", |w| {
        send(w, sys!(SOCKET, INET, DATAGRAM, 136)?, &v4(w.get(PEER), w.number("far")), 0)
    }),
    user("listen on another TCP port", "said", |_| {
        let socket = sys!(SOCKET, INET, STREAM | NONBLOCK, 0)?;
        bind(socket, &v4("0.0.0.0", 9735))?;
        be_called(socket)
    }),
    user("listen on any free TCP port", "said", |_| be_called(sys!(SOCKET, INET, STREAM | NONBLOCK, 0)?)),
    user("listen on a UDP port", "said", |_| bind(sys!(SOCKET, INET, DATAGRAM, 0)?, &v4("0.0.0.0", 9735))),
    root("send an echo request (ICMP)", "said", |w| {
        let echo = [8_u8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        raw(sys!(SOCKET, INET, RAW, 1)?, &echo, &v4(w.get(PEER), 0))
    }),
    root("send an echo request (ping socket)", "said", |w| {
        let echo = [8_u8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        raw(sys!(SOCKET, INET, DATAGRAM, 1)?, &echo, &v4(w.get(PEER), 0))
    }),
    root("send raw IP packets", "said", |_| plain(sys!(SOCKET, INET, RAW, 255))),
    root("read all packets of the host", "said", |_| plain(sys!(SOCKET, 17, RAW, 0x0300))),
    user("ask the kernel for routes (netlink)", "said", |_| {
        let socket = sys!(SOCKET, 16, RAW, 0)?;
        // RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP.
        let ask = [28_u32, 0x0301_001a, 1, 0, 0, 0, 0];
        plain(sys!(SENDTO, socket, ask.as_ptr(), 28, 0, 0, 0))
    }),
    user("speak to the machine below (vsock)", "said", |_| plain(sys!(SOCKET, 40, STREAM, 0))),
    user("use the kernel's cryptography (AF_ALG)", "said", |_| {
        let socket = sys!(SOCKET, 38, 5, 0)?;
        let mut address = [0_u8; 88];
        address[0] = 38;
        address[2..6].copy_from_slice(b"hash");
        address[24..30].copy_from_slice(b"sha256");
        bind(socket, &address)
    }),
    user("connect to the system's bus", "said", |_| knock("/run/dbus/system_bus_socket", STREAM)),
    user("connect to the journal", "said", |_| knock("/run/systemd/journal/stdout", STREAM)),
    user("send to systemd as a service does", "said", |_| knock("/run/systemd/notify", DATAGRAM)),
    user("connect to a container engine", "heard", |w| tell(w, sys!(SOCKET, UNIX, STREAM, 0)?, &path("/run/docker.sock"))),
    user("connect to a program's socket outside /run", "heard", |w| {
        tell(w, sys!(SOCKET, UNIX, STREAM, 0)?, &path("/srv/socket"))
    }),
    root("connect to another signer", "heard", |w| {
        tell(w, sys!(SOCKET, UNIX, STREAM, 0)?, &path("/run/lsm/other/lnd.sock"))
    }),
    user("connect to an abstract socket", "heard", |w| {
        tell(w, sys!(SOCKET, UNIX, STREAM, 0)?, &abstract_name("lsm-escape"))
    }),
    user("send to an abstract socket", "heard", |w| {
        send(w, sys!(SOCKET, UNIX, DATAGRAM, 0)?, &abstract_name("lsm-escape-datagram"), 0)
    }),
    user("hand a descriptor to another process", "said", hand_over),
];

fn tcp(family: usize, protocol: usize) -> Result<usize, i32> {
    let socket = sys!(SOCKET, family, STREAM, protocol)?;
    // SOL_SOCKET, SO_SNDTIMEO: a packet that is dropped is not waited for.
    sys!(SETSOCKOPT, socket, 1, 21, [1_usize, 0].as_ptr(), 16)?;
    Ok(socket)
}

/// Connects and says the attempt's name there.
fn tell(world: &World, socket: usize, address: &[u8]) -> Tried {
    sys!(CONNECT, socket, address.as_ptr(), address.len())?;
    let name = format!("{}\n", world.name);
    plain(sys!(SENDTO, socket, name.as_ptr(), name.len(), 0x4000, 0, 0))
}

/// Says the attempt's name without a connection.
fn send(world: &World, socket: usize, address: &[u8], flags: usize) -> Tried {
    let name = format!("{}\n", world.name);
    plain(sys!(SENDTO, socket, name.as_ptr(), name.len(), flags, address.as_ptr(), address.len()))
}

/// Listens, leaves word of the port, and waits for the test's call from the allowed peer.
fn be_called(socket: usize) -> Tried {
    sys!(LISTEN, socket, 1)?;
    let (mut address, mut len) = ([0_u8; 16], 16_u32);
    sys!(GETSOCKNAME, socket, address.as_mut_ptr(), &raw mut len)?;
    append(&format!("{FOLDER}/port"), &format!("{}\n", u16::from_be_bytes([address[2], address[3]])))?;
    for _ in 0..150 {
        match sys!(ACCEPT4, socket, 0, 0, 0) {
            Ok(_) => return Ok(String::new()),
            Err(_) => crate::sys::sleep(10),
        }
    }
    Err(NOTHING)
}

fn raw(socket: usize, packet: &[u8], address: &[u8]) -> Tried {
    plain(sys!(SENDTO, socket, packet.as_ptr(), packet.len(), 0, address.as_ptr(), address.len()))
}

fn bind(socket: usize, address: &[u8]) -> Tried {
    plain(sys!(BIND, socket, address.as_ptr(), address.len()))
}

fn knock(socket: &str, kind: usize) -> Tried {
    let address = path(socket);
    plain(sys!(CONNECT, sys!(SOCKET, UNIX, kind, 0)?, address.as_ptr(), address.len()))
}

fn hand_over(_: &World) -> Tried {
    append(&format!("{FOLDER}/own"), "x")?;
    let mut pair = [0_u32; 2];
    sys!(SOCKETPAIR, UNIX, STREAM, 0, pair.as_mut_ptr())?;
    let text = [c"x".as_ptr() as usize, 1];
    // One header of SOL_SOCKET, SCM_RIGHTS with descriptor 0.
    let rights = [20_usize, 1 | 1 << 32, 0];
    let message = [0, 0, text.as_ptr() as usize, 1, rights.as_ptr() as usize, 24, 0_usize];
    match sys!(SENDMSG, pair[0], message.as_ptr(), 0)? {
        1 => Ok(String::new()),
        _ => Err(NOTHING),
    }
}

fn v4(address: &str, port: usize) -> Vec<u8> {
    let address: std::net::Ipv4Addr = address.parse().unwrap_or(std::net::Ipv4Addr::LOCALHOST);
    let mut bytes = vec![INET as u8, 0];
    bytes.extend((port as u16).to_be_bytes());
    bytes.extend(address.octets());
    bytes.extend([0; 8]);
    bytes
}

fn v6(address: &str, port: usize) -> Vec<u8> {
    let address: std::net::Ipv6Addr = address.parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST);
    let mut bytes = vec![INET6 as u8, 0];
    bytes.extend((port as u16).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(address.octets());
    bytes.extend([0; 4]);
    bytes
}

fn path(path: &str) -> Vec<u8> {
    [&[UNIX as u8, 0], path.as_bytes(), &[0]].concat()
}

fn abstract_name(name: &str) -> Vec<u8> {
    [&[UNIX as u8, 0, 0], name.as_bytes()].concat()
}
