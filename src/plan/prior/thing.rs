//! What a step may change, and what a wallet and its database are.

use crate::engine::Object;
use crate::error::Result;
use crate::facts;
use crate::host::beneath;
use crate::host::file;
use crate::plan::parts::Door;
use crate::plan::register;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Something that a step may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A file, folder or link.
    Path(PathBuf),
    /// The same with a secret in it that could be guessed: the journal has no hash of it.
    Secret(PathBuf),
    /// A folder that is lsm's with all that is in it: where it was absent it goes as a whole.
    Tree(PathBuf),
    /// A file or folder that is handed to the operator: it is never taken back.
    Given(PathBuf),
    /// A unit: it runs or not. What enables it is a path.
    Unit(String),
    /// A user with its group.
    Account(String),
    /// lsm's table in the packet filter, which this file loads.
    Filter(PathBuf),
    /// Who may do what with a file or folder, whatever is in it.
    Rights(PathBuf),
    /// A setting of the running kernel, a file below /proc/sys.
    Setting(PathBuf),
    /// A unit that has read its settings, whether it runs or not.
    Reader(String),
    /// What a container engine holds.
    Object(Object),
    /// A wallet, and what is worth nothing without it.
    Wallet(Wallet),
    /// lnd's database, of which there is a copy to go back to.
    Database(Database),
    /// A key of lnd's that macaroons hang on.
    RootKey(RootKey),
}

/// A key of lnd's that macaroons hang on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RootKey {
    /// How its lnd is reached.
    pub door: Door,
    /// Its number.
    pub id: u64,
}

/// A wallet and all that must stay as long as it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wallet {
    /// lnd's own folder.
    pub data: PathBuf,
    /// Its wallet database: once this is there, a wallet was made.
    pub database: PathBuf,
    /// Its password's place.
    pub password: PathBuf,
    /// Its receipt.
    pub receipt: PathBuf,
    /// The user who owns it.
    pub account: Option<String>,
    /// The engine's volume that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Object>,
    /// It is the copy of one that stays where it was, and is worth something once its receipt says that it opens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl Wallet {
    /// True where a wallet was made, or lnd was about to.
    ///
    /// # Errors
    /// Where that cannot be seen.
    pub fn is_made(&self) -> Result<bool> {
        if self.adopted { file::is_there(&self.receipt) } else { beneath::is_there(&self.data, &self.database) }
    }

    /// The register of its macaroons, whose root keys are in its database.
    pub fn register(&self) -> PathBuf {
        self.receipt.with_file_name(register::FILE)
    }

    /// True of what stays with it.
    pub fn holds(&self, thing: &Thing) -> bool {
        match thing {
            Thing::Path(path) | Thing::Secret(path) | Thing::Tree(path) => {
                [&self.data, &self.password, &self.receipt].iter().any(|kept| kept.starts_with(path))
            }
            Thing::Account(name) => self.account.as_ref() == Some(name),
            Thing::Object(object) => self.volume.as_ref() == Some(object),
            _ => false,
        }
    }
}

/// lnd's database before another lnd may have changed it for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Database {
    /// The folder that holds all of it.
    pub data: PathBuf,
    /// The folder of its copy.
    pub copy: PathBuf,
    /// The unit that fills it, or the name of the container.
    pub unit: String,
    /// The container that fills it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Object>,
    /// The file that says which lnd the unit starts.
    pub swap: PathBuf,
    /// That file's hash where it says the other one, or [`Database::mark`]: only then the database may be another than the
    /// copy.
    pub swapped: String,
    /// Where the password is kept that opens it, where that is what changes: the file above is then the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PathBuf>,
}

impl Database {
    /// True where the other lnd may have had the database.
    pub fn is_given_over(&self) -> bool {
        let is = if self.password.is_some() { Self::mark(&self.swap) } else { facts::hash(&self.swap) };
        is.as_ref() == Some(&self.swapped)
    }

    /// What tells the file of one password from that of the other: when it was written, which it keeps when they change places.
    /// Not its hash: a password that somebody chose could be guessed from that. Nor its number: there are file systems that give
    /// it another one after the next boot.
    pub fn mark(path: &Path) -> Option<String> {
        let meta = std::fs::symlink_metadata(path).ok()?;
        Some(format!("written {}.{:09}", meta.mtime(), meta.mtime_nsec()))
    }

    /// The place of the password and that of the other one: they change places with each other.
    pub(in crate::plan) fn passwords(&self) -> Option<[&Path; 2]> {
        self.password.as_deref().map(|place| [place, self.swap.as_path()])
    }

    /// What fills it.
    pub fn filled_by(&self) -> Thing {
        self.container.as_ref().map_or_else(|| Thing::Unit(self.unit.clone()), |object| Thing::Object(object.clone()))
    }

    /// The folder above lnd's own, which is root's.
    pub fn home(&self) -> &Path {
        self.data.parent().and_then(Path::parent).unwrap_or(Path::new("/"))
    }
}
