//! The folders of lsm's own: the machine's, or those of one user who installs without root.

use super::{Instance, Spec};
use std::path::{Path, PathBuf};

/// The folder of the original system in a user's home, in which a container's signer has its files.
pub const FOLDER: &str = ".lnget";
/// Below it, lsm's own for the signers of that user. No signer has such a name.
const OWN: &str = ".lsm";

/// Where specs, journals and programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder that holds all of it, where it is a user's.
    user: Option<PathBuf>,
}

impl Places {
    /// The machine's: root's alone to change.
    pub const MACHINE: Self = Self { user: None };

    /// Those of the signer `spec`.
    pub fn of(spec: &Spec) -> Self {
        let docker = spec.docker.as_ref().filter(|docker| docker.is_users());
        Self { user: docker.and_then(|docker| docker.folder.parent()).map(|folder| folder.join(OWN)) }
    }

    /// Those of the user with this home folder.
    pub fn below_home(home: &Path) -> Self {
        Self { user: Some(home.join(FOLDER).join(OWN)) }
    }

    /// True of a user's.
    pub fn are_users(&self) -> bool {
        self.user.is_some()
    }

    /// The folders that hold all of them, the outermost first, and what else is in them does not matter to lsm.
    pub fn roots(&self) -> Vec<PathBuf> {
        match &self.user {
            Some(own) => own.parent().into_iter().map(Path::to_owned).chain([own.clone(), self.state()]).collect(),
            None => vec![self.state()],
        }
    }

    /// True of a root that nobody but lsm makes: not of the folder in a user's home, where the original system has its files.
    pub fn is_own(&self, root: &Path) -> bool {
        self.user.as_ref().is_none_or(|own| root.starts_with(own))
    }

    /// The permission bits of those.
    pub fn root_mode(&self) -> u32 {
        if self.are_users() { 0o700 } else { 0o711 }
    }

    /// The folder of the specs, and of what is public of each signer.
    pub fn settings(&self) -> PathBuf {
        self.below("etc", "/etc/lsm")
    }

    /// The spec of `instance`.
    pub fn spec(&self, instance: &Instance) -> PathBuf {
        self.settings().join(format!("{instance}.toml"))
    }

    /// The folder of journals and copies.
    pub fn state(&self) -> PathBuf {
        self.below("var", "/var/lib/lsm")
    }

    /// The journal of `instance`.
    pub fn journal(&self, instance: &Instance) -> PathBuf {
        self.state().join(format!("journal/{instance}.jsonl"))
    }

    /// The folder of the copies of every signer's database.
    pub fn snapshots(&self) -> PathBuf {
        self.state().join("snapshot")
    }

    /// The folder of the programs.
    pub fn programs(&self) -> PathBuf {
        self.below("lib", "/usr/local/lib/lsm")
    }

    /// The lsm that signers start.
    pub fn lsm(&self) -> PathBuf {
        self.programs().join("lsm")
    }

    /// Where releases of lnd are unpacked, each into a folder of its version.
    pub fn releases(&self) -> PathBuf {
        self.programs().join("lnd")
    }

    fn below(&self, name: &str, machines: &str) -> PathBuf {
        self.user.as_ref().map_or_else(|| machines.into(), |own| own.join(name))
    }
}
