//! Who may do what with a file or folder: its mode, its owner, and the attributes that give more. Through no link.

use crate::error::{Code, Error, Result};
use crate::host::beneath;
use crate::host::file::{Access, cannot_read, cannot_write, grant};
use crate::host::user::Owner;
use crate::host::xattrs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const OTHER_NAME: Code = Code::refused("E-HOST-091");

/// Attributes that let in or let do more than the mode says: acl(5), capabilities(7).
const GIVING: [&str; 2] = ["system.posix_acl_access", "security.capability"];

/// Who may do what with a file or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Permission bits, as in chmod(2).
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Attributes that give more, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Rights {
    /// Those of the plain file or folder at `path`; `None` where nothing is there.
    ///
    /// # Errors
    /// Where a link is there or on the way, the file has another name besides (it could be anybody's), or it cannot be seen.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        beneath::open_named(path)?.map(|file| Self::of(&file, path)).transpose()
    }

    fn of(file: &File, path: &Path) -> Result<Self> {
        let meta = file.metadata().map_err(|e| cannot_read(path, &e))?;
        if meta.is_file() && meta.nlink() > 1 {
            return Err(Error::new(OTHER_NAME, format!("{} is a file that has another name too", path.display()))
                .hint("it is left as it is; find out who made that, and move it away"));
        }
        let giving = xattrs::read_open(file, path)?.into_iter().filter(|(name, _)| GIVING.contains(&name.as_str()));
        let attributes = giving.map(|(name, value)| (name, hex::encode(value))).collect();
        Ok(Self { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), attributes })
    }

    /// Gives these to what is at `path`, where anything is.
    ///
    /// # Errors
    /// As [`Rights::read`], and where they cannot be given.
    pub fn give(&self, path: &Path) -> Result<()> {
        let Some(file) = beneath::open_named(path)? else { return Ok(()) };
        let now = Self::of(&file, path)?;
        let mut attributes = xattrs::read_open(&file, path)?;
        attributes.retain(|name, _| !now.attributes.contains_key(name));
        attributes
            .extend(self.attributes.iter().filter_map(|(name, hex)| Some((name.clone(), hex::decode(hex).ok()?))));
        let access = Access::owned(self.mode, Owner { uid: self.uid, gid: self.gid });
        // chown(2) clears capabilities, and an access control list brings a mode with it: the attributes in between.
        grant(&file, access).map_err(|e| cannot_write(path, &e))?;
        xattrs::write(&file, path, &attributes)?;
        grant(&file, access).and_then(|()| file.sync_all()).map_err(|e| cannot_write(path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn rights_are_given_back_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let path = root.join("a");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o646)).unwrap();
        let before = Rights::read(&path).unwrap().unwrap();
        Rights { mode: 0o600, ..before.clone() }.give(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        before.give(&path).unwrap();
        assert_eq!(Rights::read(&path).unwrap(), Some(before.clone()));
        symlink(&root, root.join("way")).unwrap();
        assert!(Rights::read(&root.join("way/a")).is_err() && before.give(&root.join("way/a")).is_err());
        assert_eq!(Rights::read(&root.join("none")).unwrap(), None);
        std::fs::hard_link(&path, root.join("b")).unwrap();
        assert_eq!(Rights::read(&path).unwrap_err().code(), OTHER_NAME);
    }
}
