//! Servers of the test: what an attempt reaches, it reaches here, and says its name.

use crate::lab::net::{HOST, Peer};
use crate::stage::Stage;
use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The port of the servers on the host itself.
pub const NEAR: u16 = 7001;
/// The port of the servers on the peers.
pub const FAR: u16 = 7002;

/// Sockets on which any program of the host may speak, and one that belongs to another signer.
const SOCKETS: [(&str, u32); 3] =
    [("/run/docker.sock", 0o666), ("/srv/socket", 0o666), ("/run/lsm/other/lnd.sock", 0o600)];

/// Every server, until it is dropped.
pub struct Servers {
    heard: Arc<Mutex<HashSet<String>>>,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ears {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    streams: Vec<UnixListener>,
    datagrams: Vec<UnixDatagram>,
}

impl Servers {
    /// Starts them on the host and on both peers.
    pub fn start(stage: &Stage) -> Self {
        let mut ears = Ears::default();
        for (socket, mode) in SOCKETS {
            let path = stage.host.path(socket);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the socket's folder");
            // What an earlier one left.
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap_or_else(|e| panic!("{socket}: {e}"));
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("the socket's mode");
            ears.streams.push(listener);
        }
        stage.host.inside(|| ears.on_the_host()).expect("the host's servers");
        for peer in [stage.host.allowed(), stage.host.stranger()] {
            peer.inside(|| ears.on_a_peer(peer)).expect("a peer's servers");
        }
        ears.never_wait().expect("sockets that do not block");
        let (heard, over) = (Arc::<Mutex<HashSet<String>>>::default(), Arc::<AtomicBool>::default());
        let (names, end) = (Arc::clone(&heard), Arc::clone(&over));
        let (net, word) = (Arc::clone(stage.host.net()), stage.host.path("/var/lib/lsm/signer/port"));
        let listener = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                call_back(net.allowed(), &word);
                ears.hear(|name| _ = names.lock().expect("the names").insert(name));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { heard, over, listener: Some(listener) }
    }

    /// The names that were said since the last time.
    pub fn heard(&self) -> HashSet<String> {
        // What was said last may still be on its way.
        std::thread::sleep(Duration::from_millis(300));
        std::mem::take(&mut *self.heard.lock().expect("the names"))
    }
}

/// Calls the port of the host that the hostile program has left word of.
fn call_back(peer: &Peer, word: &Path) {
    let Some(port) = std::fs::read_to_string(word).ok().and_then(|text| text.trim_end().parse().ok()) else { return };
    let _ = std::fs::remove_file(word);
    peer.knock(HOST.0, port, Duration::from_millis(500));
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Ears {
    fn on_the_host(&mut self) -> io::Result<()> {
        for address in [SocketAddr::from(([127, 0, 0, 1], NEAR)), "[::1]:7001".parse().expect("an address")] {
            self.tcp.push(TcpListener::bind(address)?);
        }
        self.streams.push(UnixListener::bind_addr(&UnixAddr::from_abstract_name("lsm-escape")?)?);
        self.datagrams.push(UnixDatagram::bind_addr(&UnixAddr::from_abstract_name("lsm-escape-datagram")?)?);
        Ok(())
    }

    fn on_a_peer(&mut self, peer: &Peer) -> io::Result<()> {
        for address in [peer.v4.to_owned(), format!("[{}]", peer.v6)] {
            self.tcp.push(TcpListener::bind(format!("{address}:{FAR}"))?);
            self.udp.push(UdpSocket::bind(format!("{address}:{FAR}"))?);
            self.udp.push(UdpSocket::bind(format!("{address}:53"))?);
        }
        Ok(())
    }

    fn never_wait(&self) -> io::Result<()> {
        self.tcp.iter().try_for_each(|s| s.set_nonblocking(true))?;
        self.udp.iter().try_for_each(|s| s.set_nonblocking(true))?;
        self.streams.iter().try_for_each(|s| s.set_nonblocking(true))?;
        self.datagrams.iter().try_for_each(|s| s.set_nonblocking(true))
    }

    fn hear(&self, mut name: impl FnMut(String)) {
        let limit = Some(Duration::from_millis(500));
        let mut said = |bytes: &[u8]| name(String::from_utf8_lossy(bytes).trim_end().to_owned());
        let mut bytes = [0; 256];
        for (mut stream, _) in self.tcp.iter().filter_map(|s| s.accept().ok()) {
            let read = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(limit));
            let len = read.and_then(|()| stream.read(&mut bytes)).unwrap_or(0);
            said(&bytes[..len]);
        }
        for (mut stream, _) in self.streams.iter().filter_map(|s| s.accept().ok()) {
            let read = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(limit));
            let len = read.and_then(|()| stream.read(&mut bytes)).unwrap_or(0);
            said(&bytes[..len]);
        }
        for socket in &self.udp {
            while let Ok(len) = socket.recv(&mut bytes) {
                said(&bytes[..len]);
            }
        }
        for socket in &self.datagrams {
            while let Ok(len) = socket.recv(&mut bytes) {
                said(&bytes[..len]);
            }
        }
    }
}
