//! What the steps of a plan speak of: access, doors, ports, and who runs lnd.

use crate::engine::Object;
use crate::host::credential::Keep;
use serde::{Deserialize, Serialize, Serializer};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Permission bits, and the owner by name: the user may not exist yet when the plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Permission bits, as in chmod(2).
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// The user whose file it is, with the group of the same name; without one it is of the user who runs lsm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Access {
    /// Bits alone.
    pub const fn mode(mode: u32) -> Self {
        Self { mode, owner: None, group: None }
    }

    /// Bits and an owner.
    pub fn owned(mode: u32, owner: impl Into<String>) -> Self {
        Self { mode, owner: Some(owner.into()), group: None }
    }
}

/// How lsm itself reaches the signer's lnd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Door {
    /// lnd's unix socket.
    pub socket: PathBuf,
    /// The certificate that lnd shows.
    pub certificate: PathBuf,
    /// The macaroon that lnd writes at every unlock.
    pub macaroon: PathBuf,
}

/// The signer's public port, as a step that proves a signature through it reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The wallet's receipt, which names the key that has to have signed.
    pub receipt: PathBuf,
    /// The unit that holds the port, where it is one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The port, as the watch-only side names it.
    pub host: String,
    /// Where this host dials it.
    pub address: SocketAddr,
}

/// The guard, as a step that gives it another macaroon reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guarded {
    /// Its unit.
    pub unit: String,
    /// Where its macaroon is kept.
    pub keep: Keep,
}

/// Where the seed's words go before the wallet is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedSink {
    /// Shown once on the terminal, three words asked back.
    Terminal,
    /// Written to a file that is not there yet.
    File(PathBuf),
    /// The same, encrypted to an age recipient.
    Age {
        /// The file.
        file: PathBuf,
        /// The recipient, `age1...`.
        recipient: String,
    },
    /// Where its owner has it: the wallet comes from words that are given.
    Restored {
        /// When the seed was made, in unix seconds, where its owner knows.
        birthday: Option<u64>,
        /// How many addresses in a row without a coin a watch-only node looks at before it gives up.
        recovery_window: Option<u32>,
    },
    /// Nowhere: a wallet that nobody will ever put money into.
    Nowhere,
    /// Where its owner has it: the wallet is older than lsm.
    Adopted,
}

impl SeedSink {
    /// The file that it is written to, if it is.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(file) | Self::Age { file, .. } => Some(file),
            Self::Terminal | Self::Restored { .. } | Self::Nowhere | Self::Adopted => None,
        }
    }
}

/// What runs lnd while its wallet is made, or is locked: the unix socket alone, nothing to unlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// A unit that exists in /run for that long, or the signer's own with a drop-in there.
    Unit {
        /// Its name.
        unit: String,
        /// Its files, gone afterwards.
        #[serde(skip)]
        files: Vec<(PathBuf, String)>,
        /// The signer's own: its lnd stays, and goes on as the signer.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        stays: bool,
    },
    /// A process of this user.
    Process(Process),
    /// A container that is there for that long.
    Container {
        /// The container.
        object: Object,
        /// What it is made of, in the API's JSON.
        #[serde(skip)]
        body: String,
    },
}

/// One lnd as a process of the user who runs lsm, started by `lsm launch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its launch policy.
    pub policy: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where its process number is kept.
    pub pid_file: PathBuf,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{mode:04o}"))
}
