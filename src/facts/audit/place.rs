//! How something lies on the host: whose it is, and who else may read or change it.

use super::Answer;
use crate::error::plain;
use crate::host::xattrs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An access control list beside the mode (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// Rights that a program has whoever starts it (capabilities(7)).
const CAPABILITIES: &str = "security.capability";
/// Only the owner of what is in such a folder may rename or remove it (inode(7)).
const STICKY: u32 = 0o1000;

/// How many parts `/proc/PID/root` has, with the first slash.
const PROCESS_ROOT: usize = 4;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// How something lies on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is, as it can be shown.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// The permission bits, as in chmod(2).
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// An access control list names more users or groups.
    pub acl: bool,
    /// It has rights of its own (file capabilities).
    pub capabilities: bool,
}

impl Place {
    /// Looks at what is at `path`, through no link at its end.
    pub fn look(path: &Path) -> Answer<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Self::of(path, &meta),
            Err(e) => Answer::failed(path, &e),
        }
    }

    /// The same through links: what they lead to.
    pub(super) fn follow(path: &Path) -> Answer<Self> {
        match std::fs::canonicalize(path) {
            Ok(real) => Self::look(&real),
            Err(e) => Answer::failed(path, &e),
        }
    }

    /// What is at `path` and each folder on the way there, through links, of that what more users than root can change. Who
    /// can write to a link's folder can make it lead elsewhere.
    pub(super) fn open_way(path: &Path) -> Answer<Vec<Self>> {
        let real = match std::fs::canonicalize(path) {
            Ok(real) => real,
            Err(e) => return Answer::failed(path, &e),
        };
        let of_link = path.ancestors().skip(1).filter(|part| part.is_absolute() && !real.starts_with(part));
        let mut way = Vec::new();
        for part in real.ancestors().chain(of_link) {
            match Self::follow(part) {
                Answer::Is(place) => way.extend(place.is_open_to_others(0).then_some(place)),
                Answer::Absent => {}
                Answer::Unknown(why) => return Answer::Unknown(why),
            }
        }
        Answer::Is(way)
    }

    fn of(path: &Path, meta: &Metadata) -> Answer<Self> {
        let kind = match meta.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_dir() => Kind::Folder,
            t if t.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        let attributes = match xattrs::read(path) {
            Ok(attributes) => attributes,
            Err(e) => return Answer::Unknown(e.cause().to_owned()),
        };
        Answer::Is(Self {
            path: shown(path),
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            acl: attributes.contains_key(ACL),
            capabilities: attributes.contains_key(CAPABILITIES),
        })
    }

    /// Every folder on the way to `path`, the root first; links on it are followed.
    pub fn way_to(path: &Path) -> Answer<Vec<Self>> {
        // The way into a container (proc_pid_root(5)) is more than its name: followed as a link it would lead here.
        let real = if path.starts_with("/proc") { Ok(path.to_owned()) } else { std::fs::canonicalize(path) };
        let real = match real {
            Ok(real) => real,
            Err(e) => return Answer::failed(path, &e),
        };
        let mut way = Vec::new();
        // What is above a container's root is the kernel's, whose folders in /proc have the process's user.
        let is_inside = |folder: &&Path| !folder.starts_with("/proc") || folder.components().count() > PROCESS_ROOT;
        for folder in real.ancestors().skip(1).filter(is_inside) {
            match Self::look(folder) {
                Answer::Is(place) => way.push(place),
                Answer::Absent => return Answer::Absent,
                Answer::Unknown(why) => return Answer::Unknown(why),
            }
        }
        way.reverse();
        Answer::Is(way)
    }

    /// True where its mode or an access control list gives anything to anybody but its owner.
    pub fn is_shared(&self) -> bool {
        self.acl || self.mode & 0o077 != 0
    }

    /// True where anybody but root and `owner` may change it, or exchange what is in it. The mask of an access control
    /// list is in the group's bits (acl(5)).
    pub fn is_open_to_others(&self, owner: u32) -> bool {
        // A link has no mode; what counts is the folder that it is in.
        let open = self.kind != Kind::Link && self.mode & 0o022 != 0;
        let guarded = self.kind == Kind::Folder && self.mode & STICKY != 0;
        ![0, owner].contains(&self.uid) || (open && !guarded)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acl = if self.acl { " with an access control list" } else { "" };
        write!(f, "{} is {:04o}{acl} of uid {}", self.path, self.mode, self.uid)
    }
}

/// A path as it can be shown: one line of text, whatever its name is made of.
pub(super) fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(kind: Kind, mode: u32, uid: u32) -> Place {
        Place { path: String::new(), kind, mode, uid, acl: false, capabilities: false }
    }

    #[test]
    fn who_may_change_a_place_is_told_from_mode_and_owner() {
        for (kind, mode, uid, open) in [
            (Kind::Folder, 0o755, 0, false),
            (Kind::Folder, 0o700, 7, false),
            (Kind::Folder, 0o700, 8, true),
            (Kind::Folder, 0o775, 0, true),
            (Kind::Folder, 0o757, 7, true),
            (Kind::Folder, 0o1777, 0, false),
            (Kind::File, 0o1666, 0, true),
            (Kind::Link, 0o777, 0, false),
        ] {
            assert_eq!(place(kind, mode, uid).is_open_to_others(7), open, "{kind:?} {mode:o} {uid}");
        }
    }

    #[test]
    fn a_way_begins_at_the_root_and_ends_above_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("a"), dir.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o750)).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let Answer::Is(way) = Place::way_to(&link.join("file")) else { panic!("it is there") };
        let (first, last) = (way.first().unwrap(), way.last().unwrap());
        assert_eq!((first.path.as_str(), last.path.ends_with("/a"), last.mode), ("/", true, 0o750));
        assert_eq!(Place::way_to(&folder.join("none")), Answer::Absent);
        assert_eq!(Place::look(&folder.join("none")), Answer::Absent);
    }

    #[test]
    fn an_open_way_has_the_folders_of_a_link_and_of_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        for folder in ["open", "real"] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::set_permissions(at(folder), PermissionsExt::from_mode(0o777)).unwrap();
        }
        std::fs::write(at("real/file"), "").unwrap();
        std::os::unix::fs::symlink(at("real/file"), at("open/link")).unwrap();
        std::os::unix::fs::symlink(at("open/loop"), at("open/loop")).unwrap();
        let Answer::Is(way) = Place::open_way(&at("open/link")) else { panic!("it can be seen") };
        let named = |name: &str| way.iter().any(|place| Path::new(&place.path) == at(name));
        assert!(named("open") && named("real"), "{way:?}");
        assert_eq!(Place::open_way(&at("none")), Answer::Absent);
        assert!(matches!(Place::open_way(&at("open/loop")), Answer::Unknown(_)));
    }
}
