//! A network of the test's own: a bridge in a namespace, an allowed peer and a stranger each in another.

use super::process::{self, Done};
use super::site::{Site, tool};
use nix::sched::{CloneFlags, setns};
use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The addresses of the first host.
pub const HOST: (&str, &str) = ("10.77.0.2", "fd77::2");
/// The addresses of the peer that tests allow.
pub const ALLOWED: (&str, &str) = ("10.77.0.3", "fd77::3");
/// The addresses of the peer that tests never allow.
pub const STRANGER: (&str, &str) = ("10.77.0.4", "fd77::4");

/// The network. Hosts and peers hold a share of it; with the last of them it goes away.
pub struct Net {
    pub(super) site: Arc<Site>,
    allowed: Peer,
    stranger: Peer,
}

/// One machine on the network that is a namespace and no more.
pub struct Peer {
    site: Arc<Site>,
    space: String,
    /// Its IPv4 address.
    pub v4: &'static str,
    /// Its IPv6 address.
    pub v6: &'static str,
}

/// What a connection attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// Somebody accepted.
    Open,
    /// The machine answered that nobody listens.
    Refused,
    /// No answer within the limit.
    Silence,
}

impl Net {
    /// Builds the network; `None`, said as a skip, where this machine cannot.
    #[track_caller]
    pub fn build() -> Option<Arc<Self>> {
        if let Some(reason) = lacking() {
            super::skip(&reason);
            return None;
        }
        let site = Arc::new(Site::make());
        let bridge = format!("{}-net", site.name);
        ip(&["netns", "add", &bridge]);
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        let allowed = Peer::join(&site, &bridge, "allowed", ALLOWED);
        let stranger = Peer::join(&site, &bridge, "stranger", STRANGER);
        Some(Arc::new(Self { site, allowed, stranger }))
    }

    /// The peer that tests put on the allowlist.
    pub fn allowed(&self) -> &Peer {
        &self.allowed
    }

    /// The peer that tests leave off the allowlist.
    pub fn stranger(&self) -> &Peer {
        &self.stranger
    }

    /// The namespace that the bridge is in.
    pub(super) fn bridge(&self) -> PathBuf {
        Path::new("/run/netns").join(format!("{}-net", self.site.name))
    }
}

impl Peer {
    fn join(site: &Arc<Site>, bridge: &str, role: &str, (v4, v6): (&'static str, &'static str)) -> Self {
        let space = format!("{}-{role}", site.name);
        ip(&["netns", "add", &space]);
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &space];
        ip(&[&["-n", bridge, "link", "add", role], &peer[..]].concat());
        ip(&["-n", bridge, "link", "set", role, "master", "br0", "up"]);
        ip(&["-n", &space, "address", "add", &format!("{v4}/24"), "dev", "eth0"]);
        ip(&["-n", &space, "address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
        Self { site: Arc::clone(site), space, v4, v6 }
    }

    /// A command that will run here: arguments and environment can still be added.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.site.command("peers", "nsenter");
        command.arg(format!("--net=/run/netns/{}", self.space)).arg("--").arg(program);
        command
    }

    /// Runs a program here to its end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = A>) -> Done {
        let mut line = line.into_iter();
        let mut command = self.command(line.next().expect("a program"));
        command.args(line);
        process::run(command)
    }

    /// Runs `work` on a thread whose sockets are this peer's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&Path::new("/run/netns").join(&self.space), work)
    }

    /// What a connection to `address` meets within `limit`.
    pub fn knock(&self, address: &str, port: u16, limit: Duration) -> Met {
        let address = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port);
        self.inside(|| match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => Met::Open,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Met::Refused,
            Err(_) => Met::Silence,
        })
    }
}

/// Runs `work` on a thread of its own in the network namespace `space`.
///
/// # Panics
/// Where `work` does, or the namespace is gone.
pub fn inside<T: Send>(space: &Path, work: impl FnOnce() -> T + Send) -> T {
    let space = File::open(space).expect("the namespace is there");
    std::thread::scope(|threads| {
        let thread = threads.spawn(move || {
            setns(&space, CloneFlags::CLONE_NEWNET).expect("a root process may enter it");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Why this machine cannot have a lab network, where it cannot.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("hosts and network namespaces need root".to_owned());
    }
    let missing = ["ip", "nsenter", "unshare"].into_iter().find(|p| lsm::host::program::find(p).is_none());
    if let Some(program) = missing {
        return Some(format!("this machine has no {program}"));
    }
    let tried = tool("unshare", &["--net".into(), "--mount".into(), "true".into()]);
    (tried.code != 0).then(|| format!("no namespaces here: {}", tried.stderr.trim()))
}

#[track_caller]
fn ip(args: &[&str]) {
    tool("ip", &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).ok();
}
