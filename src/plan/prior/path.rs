//! What is at a path.

use super::CANNOT_SEE;
use crate::error::{Error, Result};
use crate::facts::{Seen, look};
use crate::host::kept::Kept;
use crate::host::xattrs::{self, Attributes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtPath {
    /// The path.
    pub path: PathBuf,
    /// What it is.
    pub was: Was,
    /// How undo treats it.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// A file's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// Extended attributes, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Under which name a file's bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// The kinds of what is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Was {
    /// Nothing.
    Absent,
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket or something else that cannot be kept.
    Other,
}

/// How undo treats a path, as [`Thing`] has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Put back.
    #[default]
    Plain,
    /// Put back; never hashed.
    Secret,
    /// Taken away whole.
    Tree,
    /// Left to the operator.
    Given,
}

impl Role {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

impl AtPath {
    pub(in crate::plan) fn absent(path: &Path, role: Role) -> Self {
        Self {
            path: path.to_owned(),
            was: Was::Absent,
            role,
            mode: None,
            uid: None,
            gid: None,
            sha256: None,
            target: None,
            attributes: BTreeMap::new(),
            kept: None,
        }
    }

    pub(super) fn of(path: &Path, role: Role, kept: Option<&Kept>) -> Result<Self> {
        let mut at = Self::absent(path, role);
        match look(path) {
            Seen::Absent => return Ok(at),
            Seen::Hidden => return Err(Error::new(CANNOT_SEE, format!("cannot see {}", path.display()))),
            Seen::File { mode, uid, gid, sha256 } => {
                (at.was, at.mode, at.uid, at.gid) = (Was::File, Some(mode), Some(uid), Some(gid));
                at.sha256 = sha256.filter(|_| role != Role::Secret);
                at.kept = kept.map(|kept| kept.keep_file(path)).transpose()?;
            }
            Seen::Folder { mode, uid, gid } => {
                (at.was, at.mode, at.uid, at.gid) = (Was::Folder, Some(mode), Some(uid), Some(gid));
            }
            Seen::Other => {
                at.target = std::fs::read_link(path).ok();
                at.was = if at.target.is_some() { Was::Link } else { Was::Other };
                return Ok(at);
            }
        }
        at.attributes = xattrs::read(path)?.into_iter().map(|(name, value)| (name, hex::encode(value))).collect();
        Ok(at)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        // A secret has no hash, and an older journal none of these: what is not known is no difference.
        let same_hash = self.sha256.is_none() || other.sha256.is_none() || self.sha256 == other.sha256;
        (&self.path, self.was, self.mode, self.uid, self.gid, &self.target, &self.attributes)
            == (&other.path, other.was, other.mode, other.uid, other.gid, &other.target, &other.attributes)
            && same_hash
    }

    /// The attributes as they are to be set.
    pub(in crate::plan) fn attributes(&self) -> Attributes {
        let decoded = |(name, value): (&String, &String)| Some((name.clone(), hex::decode(value).ok()?));
        self.attributes.iter().filter_map(decoded).collect()
    }
}
