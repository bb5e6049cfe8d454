//! The container that an lnd is in, as its engine tells: never what is in its environment, arguments or labels.

mod read;

use super::Answer;
use crate::engine::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

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
    /// It has the engine's socket.
    pub socket: bool,
}

impl Container {
    /// Asks the engine behind `socket` for the container `name`, by name or number.
    pub(super) fn look(socket: &Path, name: &str) -> Answer<Self> {
        match read::look(socket, name) {
            Ok(Some(container)) => Answer::Is(container),
            Ok(None) => Answer::Absent,
            Err(e) => Answer::Unknown(e.cause().to_owned()),
        }
    }

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
