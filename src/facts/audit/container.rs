//! The container that an lnd is in, as its engine tells: never what is in its environment, arguments or labels.

mod read;

use super::{Answer, ask};
use crate::engine::{Counts, Engine};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The usual engine's socket, and the other name that it has.
pub(super) const USUAL: &str = "/run/docker.sock";
const OTHERWISE: &str = "/var/run/docker.sock";

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: String,
    /// The engine's socket, where it is itself.
    pub engine: PathBuf,
    /// What the engine can hold it to.
    pub counts: Counts,
    /// Its image.
    pub image: Image,
    /// The user and group that it runs as: numbers, or names that its image knows; empty for root.
    pub user: String,
    /// More groups.
    pub groups: Vec<String>,
    /// What it may do.
    pub rights: Rights,
    /// Its root is read-only.
    pub read_only: bool,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Whose namespaces it has, by their kinds: `network`, `pid`, `ipc`, `uts`, `userns`, `cgroupns`.
    pub spaces: BTreeMap<String, String>,
    /// Its networks by their names.
    pub networks: BTreeMap<String, Answer<Bridge>>,
    /// Its ports that are published: `10012/tcp`, and where.
    pub ports: BTreeMap<String, Vec<SocketAddr>>,
    /// What it can take of the host.
    pub limits: Limits,
    /// When it is started again.
    pub restart: String,
    /// How its log is kept.
    pub log: Log,
    /// Whether it can do its work.
    pub health: Health,
    /// Names of arguments, variables and labels that hold a secret.
    pub told: Vec<String>,
    /// What other containers of the same engine have of it.
    pub others: Answer<Vec<Other>>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// The number of the one that runs.
    pub number: String,
    /// The number of the one that has the name by now.
    pub named: Answer<String>,
    /// The numbers that lsm's own image of the verified lnd can have; absent where lsm did not make this container. Not from
    /// here: lsm makes its images elsewhere.
    pub made: Answer<Vec<String>>,
}

/// What a container may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Everything.
    pub privileged: bool,
    /// Capabilities beside the usual ones.
    pub added: Vec<String>,
    /// Capabilities that are taken away, or `ALL`.
    pub dropped: Vec<String>,
    /// No program in it gains rights.
    pub no_new: bool,
    /// Its filter of system calls.
    pub seccomp: Profile,
    /// Devices of the host.
    pub devices: Vec<String>,
}

/// A filter of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The one of this lsm.
    Own,
    /// The engine's.
    Default,
    /// Somebody's.
    Other,
    /// None.
    Unconfined,
}

/// Something that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `bind`, `volume` or something else.
    pub kind: String,
    /// Where it is on the host.
    pub from: PathBuf,
    /// Where it is in the container.
    pub to: PathBuf,
    /// The container may write to it.
    pub writable: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its interface on the host; absent where it is none of the engine's bridges.
    pub interface: Option<String>,
    /// The container's addresses in it; none while it does not run.
    pub addresses: Vec<IpAddr>,
    /// Other containers in it, by name.
    pub others: Vec<String>,
}

/// What a container can take of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory; nothing where there is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together.
    pub with_swap: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Bytes of a core dump.
    pub core: Option<i64>,
}

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// By what.
    pub driver: String,
    /// The most of one file, where there is a limit.
    pub size: Option<String>,
    /// How many files, where that is said.
    pub files: Option<String>,
}

/// Whether a container can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// lsm asks its lnd whether it can sign.
    pub asked: bool,
    /// What came of it: `healthy`, `unhealthy`, `starting`, or that it does not run.
    pub state: String,
}

/// Another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// What it has of the signer's, or of the engine's, in words.
    pub has: Vec<String>,
}

impl Mount {
    /// True of the socket of `engine`, of the usual one's, and of each folder above them.
    pub fn has_socket(&self, engine: &Path) -> bool {
        let sockets = [engine, Path::new(USUAL), Path::new(OTHERWISE)];
        // What is in memory alone comes from nowhere.
        !self.from.as_os_str().is_empty() && sockets.iter().any(|socket| socket.starts_with(&self.from))
    }
}

impl Container {
    /// Where the host has what is at `path` inside; nothing where it is in the container's own files.
    pub fn outside(&self, path: &Path) -> Option<PathBuf> {
        let covers = self.mounts.iter().filter(|mount| path.starts_with(&mount.to));
        let mount = covers.max_by_key(|mount| mount.to.as_os_str().len())?;
        let rest = path.strip_prefix(&mount.to).ok()?;
        Some(if rest.as_os_str().is_empty() { mount.from.clone() } else { mount.from.join(rest) })
    }

    /// Its bridges, each with its addresses there.
    pub fn bridges(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.networks.values().filter_map(|network| match network {
            Answer::Is(bridge) => Some((bridge.interface.as_deref()?, bridge.addresses.as_slice())),
            _ => None,
        })
    }
}

/// The engines that one audit asks.
pub(super) struct Engines {
    /// Why one of them cannot be asked, by its socket: each try may take seconds.
    silent: Mutex<BTreeMap<PathBuf, String>>,
    is_asleep: fn(&Path) -> bool,
}

impl Engines {
    pub(super) fn new() -> Self {
        Self { silent: Mutex::default(), is_asleep }
    }

    /// The container `name` of the engine behind `socket`, by name or number.
    pub(super) fn look(&self, socket: &Path, name: &str) -> Answer<Container> {
        self.ask(socket, |engine| read::look(engine, socket, name))
    }

    /// The containers of these engines that have an engine's socket, by name; absent where there is no engine.
    pub(super) fn sharers(&self, sockets: &BTreeSet<&Path>) -> Answer<BTreeSet<String>> {
        let mut found: Option<BTreeSet<String>> = None;
        let mut unasked = None;
        for socket in sockets {
            let is_there = Answer::of_file(socket, || Ok(()));
            match is_there.and_then(|()| self.ask(socket, |engine| read::sharers(engine, socket).map(Some))) {
                Answer::Is(names) => found.get_or_insert_with(BTreeSet::new).extend(names),
                Answer::Absent => {}
                Answer::Unknown(why) => unasked = Some(why),
            }
        }
        // What was found is found, whoever else could not be asked.
        if let Some(why) = unasked.filter(|_| found.as_ref().is_none_or(BTreeSet::is_empty)) {
            return Answer::Unknown(why);
        }
        found.map_or(Answer::Absent, Answer::Is)
    }

    fn ask<T>(&self, socket: &Path, ask: impl FnOnce(&Engine) -> Result<Option<T>>) -> Answer<T> {
        match self.open(socket).map(|engine| ask(&engine)) {
            Ok(Ok(Some(found))) => Answer::Is(found),
            Ok(Ok(None)) => Answer::Absent,
            Ok(Err(e)) => Answer::Unknown(e.cause().to_owned()),
            Err(why) => Answer::Unknown(why),
        }
    }

    /// The only way to an engine; or why there is none.
    fn open(&self, socket: &Path) -> Result<Engine, String> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = silent.get(socket) {
            return Err(why.clone());
        }
        let opened = if (self.is_asleep)(socket) {
            Err("docker.service does not run, and asking would start it".to_owned())
        } else {
            read::open(socket).map_err(|e| e.cause().to_owned())
        };
        opened.inspect_err(|why| drop(silent.insert(socket.to_owned(), why.clone())))
    }
}

/// True where systemd holds the usual engine's socket for an engine that does not run (systemd.socket(5)): an audit starts
/// neither it nor its containers.
fn is_asleep(socket: &Path) -> bool {
    let is_usual = [USUAL, OTHERWISE].iter().any(|usual| socket == Path::new(usual));
    let ask = || ask(&["systemctl", "show", "--property=ActiveState", "docker.socket", "docker.service"]);
    is_usual && socket.exists() && matches!(ask(), Answer::Is(said) if says_asleep(&said))
}

/// What systemctl says of the socket, then of the service.
fn says_asleep(said: &str) -> bool {
    let mut states = said.split_whitespace();
    states.next() == Some("ActiveState=active")
        && matches!(states.next(), Some("ActiveState=inactive" | "ActiveState=failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_mount_has_the_socket_from_above_too() {
        for (from, is) in [
            ("/var/run/docker.sock", true),
            ("/run", true),
            ("/", true),
            ("/run/mine.sock", true),
            ("/run/other", false),
            ("", false),
        ] {
            let mount = Mount { kind: "bind".to_owned(), from: from.into(), to: "/x".into(), writable: false };
            assert_eq!(mount.has_socket(Path::new("/run/mine.sock")), is, "{from}");
        }
    }

    #[test]
    fn an_engine_that_only_its_socket_would_start_is_asleep() {
        for (socket, service, is) in [
            ("active", "active", false),
            ("active", "inactive", true),
            ("active", "failed", true),
            ("active", "activating", false),
            // dockerd has a socket of its own.
            ("inactive", "active", false),
            ("inactive", "inactive", false),
        ] {
            let said = format!("ActiveState={socket}\n\nActiveState={service}\n");
            assert_eq!(says_asleep(&said), is, "{said}");
        }
        assert!(!says_asleep(""), "no systemd");
    }

    #[test]
    fn an_engine_that_is_not_there_shares_nothing_and_one_that_is_silent_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (none, silent) = (dir.path().join("none.sock"), dir.path().join("silent.sock"));
        // Nobody takes calls there any more.
        drop(UnixListener::bind(&silent).unwrap());
        let sharers = |sockets: &[&PathBuf]| Engines::new().sharers(&sockets.iter().map(|one| one.as_path()).collect());
        assert_eq!(sharers(&[&none]), Answer::Absent);
        assert!(matches!(sharers(&[&none, &silent]), Answer::Unknown(_)));
    }

    #[test]
    fn nobody_connects_to_an_engine_that_is_asleep_and_only_once_to_one_that_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        // It hangs up on whoever calls.
        std::thread::spawn(move || {
            for call in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                drop(call);
            }
        });
        let look = |engines: &Engines| {
            assert!(matches!(engines.look(&socket, "x"), Answer::Unknown(_)));
            calls.load(Ordering::SeqCst)
        };
        assert_eq!(look(&Engines { is_asleep: |_| true, ..Engines::new() }), 0);
        let engines = Engines::new();
        let tried = look(&engines);
        assert!(tried > 0);
        assert_eq!(look(&engines), tried);
        assert!(matches!(engines.sharers(&BTreeSet::from([socket.as_path()])), Answer::Unknown(_)));
        assert_eq!(calls.load(Ordering::SeqCst), tried);
    }
}
