//! What is in a folder that somebody else fills: reached through no link, and looked at before it is opened.

use crate::error::{Code, Error, Result};
use crate::host::file::{Access, cannot_read, name_of, parent_of, read_from};
use crate::host::user::Owner;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

const NOT_AS_IT_SHOULD: Code = Code::refused("E-HOST-060");

/// Whether anything is at `path`, which is beneath `folder`. The way to `folder` itself is trusted.
///
/// # Errors
/// Where a link leads there, or it cannot be seen.
pub fn is_there(folder: &Path, path: &Path) -> Result<bool> {
    Held::find(folder, path).map(|found| found.is_some())
}

/// Reads a whole plain file of at most `limit` bytes that belongs to the owner of the folder it is in.
///
/// # Errors
/// Where it cannot be read, is larger, or is anything else: a link, a pipe, a device, another user's file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let folder = parent_of(path);
    let found = Held::find(folder, path)?.ok_or_else(|| cannot_read(path, &ErrorKind::NotFound.into()))?;
    found.hold(FileType::is_file, "plain file")?;
    let owner = std::fs::metadata(folder).map_err(|e| cannot_read(folder, &e))?.uid();
    if found.meta.uid() != owner {
        return Err(refuse(path, "belongs to somebody else than its folder"));
    }
    read_from(found.open()?, path, limit)
}

/// Opens the plain file or folder at `path`, to read; `None` where nothing is there. No part of the way there may be a link.
///
/// # Errors
/// Where one is, it is anything else, or cannot be opened.
pub fn open_named(path: &Path) -> Result<Option<File>> {
    let Some(found) = Held::find(Path::new("/"), path)? else { return Ok(None) };
    found.hold(|kind| kind.is_file() || kind.is_dir(), "plain file and no folder")?;
    found.open().map(Some)
}

/// A folder that was looked at, and cannot be exchanged for something else any more.
#[derive(Debug)]
pub struct Folder(Held);

/// What is in a [`Folder`] by one name.
#[derive(Debug)]
pub enum Entry {
    /// A plain file, open to read.
    File(File),
    /// A folder.
    Folder(Box<Folder>),
}

impl Folder {
    /// The folder at `path`, which is beneath `above`; `None` where nothing is there. The way to `above` itself is trusted.
    ///
    /// # Errors
    /// Where it is anything else, is reached through a link, or cannot be seen.
    pub fn find(above: &Path, path: &Path) -> Result<Option<Self>> {
        let Some(found) = Held::find(above, path)? else { return Ok(None) };
        found.hold(FileType::is_dir, "folder")?;
        Ok(Some(Self(found)))
    }

    /// The names in it, sorted; at most `limit` of them.
    ///
    /// # Errors
    /// Where it cannot be read, or holds more.
    pub fn names(&self, limit: usize) -> Result<Vec<OsString>> {
        let cannot = |e: std::io::Error| cannot_read(&self.0.path, &e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.0.name()).map_err(cannot)? {
            names.push(entry.map_err(cannot)?.file_name());
            if names.len() > limit {
                return Err(refuse(&self.0.path, "holds more than lnd would put there"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// What is in it by this name.
    ///
    /// # Errors
    /// Where that is neither a plain file nor a folder, belongs to another user than this folder, or is gone.
    pub fn enter(&self, name: &OsStr) -> Result<Entry> {
        let path = self.0.path.join(name);
        let above = self.0.name();
        let mut found =
            Held::find(&above, &above.join(name))?.ok_or_else(|| cannot_read(&path, &ErrorKind::NotFound.into()))?;
        found.path = path;
        if found.meta.uid() != self.0.meta.uid() {
            return Err(refuse(&found.path, "belongs to somebody else than its folder"));
        }
        if found.meta.is_dir() {
            return Ok(Entry::Folder(Box::new(Self(found))));
        }
        found.hold(FileType::is_file, "plain file")?;
        found.open().map(Entry::File)
    }

    /// Its permission bits, owner and group.
    pub fn access(&self) -> Access {
        access_of(&self.0.meta)
    }

    /// The name to reach what is in it by, for as long as this lives.
    pub fn name(&self) -> PathBuf {
        self.0.name()
    }

    /// Where it was found, to be told.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Permission bits, owner and group as they are.
pub(super) fn access_of(meta: &Metadata) -> Access {
    Access::owned(meta.mode() & 0o7777, Owner { uid: meta.uid(), gid: meta.gid() })
}

/// A unix socket that was looked at, and cannot be exchanged for something else any more.
#[derive(Debug)]
pub struct Socket(Held);

impl Socket {
    /// The socket at `path`; `None` where nothing is there.
    ///
    /// # Errors
    /// Where it is anything else, a link to a socket too, or cannot be seen.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let Some(found) = Held::find(parent_of(path), path)? else { return Ok(None) };
        found.hold(FileType::is_socket, "socket")?;
        Ok(Some(Self(found)))
    }

    /// The name to connect to, for as long as this lives.
    pub fn name(&self) -> PathBuf {
        self.0.name()
    }
}

/// True of a name without a folder before it.
fn is_single(path: &Path) -> bool {
    let mut parts = path.components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Something held but not opened (open(2), O_PATH): a pipe is not waited on, a device not set to work.
#[derive(Debug)]
struct Held {
    handle: File,
    path: PathBuf,
    meta: Metadata,
}

impl Held {
    fn find(folder: &Path, path: &Path) -> Result<Option<Self>> {
        let below = path.strip_prefix(folder).unwrap_or(path);
        let way = match open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(way) => way,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(cannot_read(folder, &e.into())),
        };
        let beneath =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(beneath);
        let opened = match openat2(&way, below, how) {
            // As systemd answers where RestrictSUIDSGID= is set (its seccomp-util.c, seccomp_restrict_suid_sgid). Of a single name
            // there is nothing to resolve: a link is held itself, and is then no socket.
            Err(Errno::ENOSYS) if is_single(below) => {
                openat(&way, below, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            }
            opened => opened,
        };
        let handle = match opened {
            Ok(handle) => File::from(handle),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(refuse(path, "is a link, or is reached through one")),
            Err(Errno::ENOTDIR | Errno::EXDEV) => return Err(refuse(path, "is not where it should be")),
            Err(e) => return Err(cannot_read(path, &e.into())),
        };
        let meta = handle.metadata().map_err(|e| cannot_read(path, &e))?;
        Ok(Some(Self { handle, path: path.to_owned(), meta }))
    }

    fn hold(&self, is: impl Fn(&FileType) -> bool, what: &str) -> Result<()> {
        if is(&self.meta.file_type()) { Ok(()) } else { Err(refuse(&self.path, &format!("is no {what}"))) }
    }

    /// Opens the very thing that was looked at. A lease on it (fcntl(2)) cannot make this wait either.
    fn open(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(self.name()).map_err(|e| cannot_read(&self.path, &e))
    }

    /// A name that leads to what is held.
    fn name(&self) -> PathBuf {
        name_of(&self.handle)
    }
}

pub(super) fn refuse(path: &Path, why: &str) -> Error {
    Error::new(NOT_AS_IT_SHOULD, format!("{} {why}", path.display()))
        .hint("nothing but lnd writes there; if no human did this, somebody may have taken over lnd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_link_is_followed_nowhere_on_the_way() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::fs::write(other.path().join("file"), "x").unwrap();
        symlink(other.path(), dir.path().join("away")).unwrap();
        symlink("a/b", dir.path().join("near")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        let there = |name: &str| is_there(dir.path(), &dir.path().join(name));
        assert!(there("a/b/file").unwrap());
        assert!(!there("a/b/none").unwrap() && !there("a/none/file").unwrap());
        assert!(!is_there(&dir.path().join("none"), &dir.path().join("none/file")).unwrap());
        for planted in ["away/file", "near/file", "near", "dangling", "a/b/file/below", "a/../../x", "/etc/hosts"] {
            assert_eq!(there(planted).unwrap_err().code(), NOT_AS_IT_SHOULD, "{planted}");
        }
    }

    #[test]
    fn only_a_plain_file_of_the_folders_owner_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, pipe, folder, socket, missing] =
            ["file", "link", "pipe", "folder", "socket", "missing"].map(|name| dir.path().join(name));
        std::fs::write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(read(&file, 1).unwrap(), b"x");
        for planted in [&link, &pipe, &folder, &socket] {
            assert_eq!(read(planted, 1).unwrap_err().code(), NOT_AS_IT_SHOULD, "{}", planted.display());
        }
        assert!(read(&missing, 1).unwrap_err().cause().contains("missing"));
        assert!(read(Path::new("/dev/null"), 1).unwrap_err().cause().contains("plain file"));
        if crate::host::user::is_root() {
            std::os::unix::fs::chown(&file, Some(61184), None).unwrap();
            assert_eq!(read(&file, 1).unwrap_err().code(), NOT_AS_IT_SHOULD);
        }
    }

    #[test]
    fn a_socket_stays_the_one_that_was_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other, link, file] = ["socket", "other", "link", "file"].map(|name| dir.path().join(name));
        let (ours, theirs) = (UnixListener::bind(&path).unwrap(), UnixListener::bind(&other).unwrap());
        let found = Socket::find(&path).unwrap().unwrap();
        std::fs::rename(&other, &path).unwrap();
        let _talk = UnixStream::connect(found.name()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        assert!(ours.accept().is_ok() && theirs.accept().is_err());
        symlink(&path, &link).unwrap();
        std::fs::write(&file, "").unwrap();
        for planted in [&link, &file] {
            assert_eq!(Socket::find(planted).unwrap_err().code(), NOT_AS_IT_SHOULD, "{}", planted.display());
        }
        assert!(Socket::find(&other).unwrap().is_none());
    }
}
