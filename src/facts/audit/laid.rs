//! How a file or a folder lies: whose it is, and who could change it.

use super::{Answer, Unknown};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Group and others may write. Where there is an access control list, the group's bits are its mask (acl(5)), so that what
/// it lets others do shows here too.
const OTHERS_WRITE: u32 = 0o022;
/// In a folder with it, one may remove and rename one's own alone (inode(7)).
const STICKY: u32 = 0o1000;

/// A file or folder, as it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Laid {
    /// Where it is.
    pub path: PathBuf,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// The permission bits, as in chmod(2).
    pub mode: u32,
    /// It is a folder.
    pub folder: bool,
}

impl Laid {
    /// What is at `path`, through links.
    pub(super) fn find(path: &Path) -> Answer<Self> {
        fs::metadata(path).map_or_else(|e| Answer::failed(path, &e), |meta| Answer::Is(Self::new(path, &meta)))
    }

    /// What is at `path` and each folder on the way there, through links, of that what more users than root can change.
    pub(super) fn way(path: &Path) -> Answer<Vec<Self>> {
        match fs::canonicalize(path) {
            Ok(real) => Answer::told(Self::parts(path, &real)),
            Err(e) => Answer::failed(path, &e),
        }
    }

    fn parts(path: &Path, real: &Path) -> Result<Option<Vec<Self>>, Unknown> {
        // Who can write a link's folder can make it lead elsewhere.
        let of_link = path.ancestors().skip(1).filter(|part| part.is_absolute() && !real.starts_with(part));
        let mut way = Vec::new();
        for part in real.ancestors().chain(of_link) {
            way.extend(Self::find(part).take()?.filter(|laid| laid.is_changed_by_others_than(0)));
        }
        Ok(Some(way))
    }

    fn new(path: &Path, meta: &fs::Metadata) -> Self {
        let mode = meta.mode() & 0o7777;
        Self { path: path.to_owned(), uid: meta.uid(), gid: meta.gid(), mode, folder: meta.is_dir() }
    }

    /// True where somebody beside root and the user `uid` can change it.
    pub fn is_changed_by_others_than(&self, uid: u32) -> bool {
        let theirs = self.uid != 0 && self.uid != uid;
        let kept = self.folder && self.mode & STICKY != 0;
        theirs || (self.mode & OTHERS_WRITE != 0 && !kept)
    }
}

impl fmt::Display for Laid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is of {}:{}, mode {:04o}", self.path.display(), self.uid, self.gid, self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn who_can_change_a_file_is_told_by_its_owner_and_bits() {
        for (uid, mode, folder, wanted) in [
            (0, 0o755, false, false),
            (5, 0o600, false, false),
            (6, 0o600, false, true),
            (0, 0o664, false, true),
            (0, 0o602, false, true),
            (0, 0o1777, true, false),
            (0, 0o777, true, true),
            (6, 0o1777, true, true),
        ] {
            let laid = Laid { path: "/a".into(), uid, gid: 0, mode, folder };
            assert_eq!(laid.is_changed_by_others_than(5), wanted, "{laid}");
        }
    }

    #[test]
    fn the_way_has_the_folders_of_a_link_and_of_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        for folder in ["open", "real"] {
            fs::create_dir(at(folder)).unwrap();
            fs::set_permissions(at(folder), fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::write(at("real/file"), "").unwrap();
        symlink(at("real/file"), at("open/link")).unwrap();
        symlink(at("open/loop"), at("open/loop")).unwrap();
        let Answer::Is(way) = Laid::way(&at("open/link")) else { panic!("it can be seen") };
        let named = |name: &str| way.iter().any(|laid| laid.path == at(name));
        assert!(named("open") && named("real"), "{way:?}");
        assert_eq!(Laid::way(&at("none")), Answer::Absent);
        assert!(matches!(Laid::way(&at("open/loop")), Answer::Unknown(_)));
    }
}
