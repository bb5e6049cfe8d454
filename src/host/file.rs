//! Files that are born whole: final mode and owner before the first byte, replaced by rename, fsynced with their folder.

mod read;

pub(super) use read::read_from;
pub use read::{hold, open, open_plain, read, read_handed, read_input, read_named, read_plain, read_text};

use crate::error::{Code, Error, Result};
use crate::host::user::Owner;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const CANNOT_READ: Code = Code::lacking("E-HOST-001");
const CANNOT_WRITE: Code = Code::lacking("E-HOST-002");
const EXISTS: Code = Code::refused("E-HOST-003");
const NOT_A_FOLDER: Code = Code::refused("E-HOST-005");
const NOT_A_SOCKET: Code = Code::refused("E-HOST-007");
const OTHER_NAME: Code = Code::refused("E-HOST-008");

/// Mode and owner of a file or folder; without an owner it belongs to whoever runs lsm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Access {
    /// The permission bits, as in chmod(2).
    pub mode: u32,
    /// The owner, where it is not the process's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl Access {
    /// Bits alone; the owner is the process's user.
    pub const fn mode(mode: u32) -> Self {
        Self { mode, owner: None }
    }

    /// Bits and owner.
    pub const fn owned(mode: u32, owner: Owner) -> Self {
        Self { mode, owner: Some(owner) }
    }
}

/// Whether anything is at `path`, be it a link that leads nowhere.
///
/// # Errors
/// Where that cannot be seen: whoever cannot look must not take it for absent.
pub fn is_there(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(cannot_read(path, &e)),
    }
}

/// Puts `bytes` at `path`, replacing what was there: written aside with its final access, fsynced, renamed, folder fsynced.
///
/// # Errors
/// Where any of these fails; what was at `path` is then untouched.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let aside = write_aside(path, bytes, access)?;
    settle(path, std::fs::rename(&aside, path), &aside)
}

/// Puts `bytes` at `path` only where nothing is there yet.
///
/// # Errors
/// Where something is there (it is left alone), or writing fails.
pub fn create(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let aside = write_aside(path, bytes, access)?;
    settle(path, rename_to_new(&aside, path), &aside)
}

/// Makes the folder `path` with `access`; its parents must exist. A folder that is there keeps its content and gets the access.
///
/// # Errors
/// Where it cannot be made, or something other than a folder (a link to one too) is there.
pub fn make_folder(path: &Path, access: Access) -> Result<()> {
    grant(&enter_folder(path)?, access).map_err(|e| cannot_write(path, &e))?;
    sync_folder_of(path)
}

/// Opens the folder `path`, made private where there is none; its parents must exist.
///
/// # Errors
/// As [`make_folder`].
pub(crate) fn enter_folder(path: &Path) -> Result<File> {
    // Made private and widened after: there is no moment at which a stranger could enter.
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(cannot_write(path, &e)),
    }
    open_folder(path)
}

/// A name that leads to what is open, whatever has its path by now (proc_pid_fd(5)); for as long as it is open.
pub(crate) fn name_of(open: &File) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_raw_fd()).into()
}

/// Gives the folder or plain file at `path` this access, through no link.
///
/// # Errors
/// Where it is anything else, a file with another name besides (it could be anybody's), or the access cannot be given.
pub fn tighten(path: &Path, access: Access) -> Result<()> {
    let meta = std::fs::symlink_metadata(path).map_err(|e| cannot_read(path, &e))?;
    let there = if meta.is_dir() { open_folder(path)? } else { open_plain(path)? };
    let meta = there.metadata().map_err(|e| cannot_read(path, &e))?;
    if meta.is_file() && meta.nlink() > 1 {
        return Err(Error::new(OTHER_NAME, format!("{} is a file that has another name too", path.display()))
            .hint("it is left as it is; find out who made that, and move it away"));
    }
    grant(&there, access).and_then(|()| there.sync_all()).map_err(|e| cannot_write(path, &e))
}

/// Opens a folder, through no link.
///
/// # Errors
/// Where it is none.
pub fn open_folder(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| Error::new(NOT_A_FOLDER, format!("{} is not a folder: {e}", path.display())))
}

/// Makes the folder `path` and its parents where they are missing: 0755, less the umask.
///
/// # Errors
/// Where one cannot be made.
pub fn make_folders(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|e| cannot_write(path, &e))
}

/// Opens `path` to append to, as a log for a program; a new one is born with `mode`.
///
/// # Errors
/// Where it cannot be opened, or is a link.
pub fn append(path: &Path, mode: u32) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| cannot_write(path, &e))
}

/// The access of what is at `path`, to give a new version of it the same; `None` where nothing is there.
///
/// # Errors
/// Where it cannot be looked at.
pub fn access_of(path: &Path) -> Result<Option<Access>> {
    match std::fs::metadata(path) {
        Ok(m) => Ok(Some(Access::owned(m.mode() & 0o7777, Owner { uid: m.uid(), gid: m.gid() }))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(cannot_read(path, &e)),
    }
}

/// When what is at `path` was written last; nothing where that cannot be seen.
pub fn modified(path: &Path) -> Option<OffsetDateTime> {
    std::fs::symlink_metadata(path).ok()?.modified().ok().map(OffsetDateTime::from)
}

/// Removes one file; true where there was one.
///
/// # Errors
/// Where it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    // Not std's unlink(2), which the filter of a signer's unit does not know.
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(Errno::ENOENT) => Ok(false),
        Err(e) => Err(cannot_write(path, &e.into())),
    }
}

/// Removes the unix socket that a process left at `path`; true where there was one.
///
/// # Errors
/// Where something else is there (it is left alone), or it cannot be removed.
pub fn remove_socket(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        // Not by the C library's older call, which no filter of lsm's lets through.
        Ok(found) if found.file_type().is_socket() => unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir)
            .map(|()| true)
            .map_err(|e| cannot_write(path, &e.into())),
        Ok(_) => Err(Error::new(NOT_A_SOCKET, format!("{} is no socket", path.display()))
            .hint("it is left as it is; move it away")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(cannot_read(path, &e)),
    }
}

/// Has two files change places in one go, and syncs their folder.
///
/// # Errors
/// Where one is not there, or the file system cannot.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    rename_with(one, other, libc::RENAME_EXCHANGE).map_err(|e| cannot_write(one, &e))?;
    sync_folder_of(one)
}

/// Gives a file another name, over what has that; the folder is for the caller to sync.
///
/// # Errors
/// Where it cannot.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|e| cannot_write(to, &e))
}

/// Removes a folder that is empty; true where it is gone by that. One with something in it stays.
///
/// # Errors
/// Where it is empty and cannot be removed.
pub fn remove_folder(path: &Path) -> Result<bool> {
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(e) => Err(cannot_write(path, &e.into())),
    }
}

/// Puts a symbolic link to `target` at `path`, replacing what was there.
///
/// # Errors
/// Where it cannot be made; what was at `path` is then untouched.
pub fn replace_link(path: &Path, target: &Path) -> Result<()> {
    let aside = aside_name(parent_of(path), path);
    std::os::unix::fs::symlink(target, &aside).map_err(|e| cannot_write(path, &e))?;
    settle(path, std::fs::rename(&aside, path), &aside)
}

/// Removes a folder and all that is in it (links are not followed); true where there was one.
///
/// # Errors
/// Where it is there and cannot be removed.
pub fn remove_tree(path: &Path) -> Result<bool> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(cannot_write(path, &e)),
    }
}

/// Removes whatever has this name, a folder with all that is in it; nothing is followed.
///
/// # Errors
/// Where it is there and cannot be removed.
pub fn clear(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_tree(path).map(drop),
        _ => remove(path).map(drop),
    }
}

/// Fsyncs the folder that holds `path`, so that a rename or removal in it survives a power cut.
///
/// # Errors
/// Where the folder cannot be opened or synced.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    sync_folder(parent_of(path))
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|d| d.sync_all()).map_err(|e| cannot_write(folder, &e))
}

/// Sets owner and mode on an open file; the owner first, since chown(2) clears the set-id bits.
pub(crate) fn grant(file: &File, access: Access) -> std::io::Result<()> {
    let now = file.metadata()?;
    if let Some(o) = access.owner
        && (now.uid(), now.gid()) != (o.uid, o.gid)
    {
        fchown(file, Some(o.uid), Some(o.gid))?;
    }
    if file.metadata()?.mode() & 0o7777 != access.mode {
        file.set_permissions(Permissions::from_mode(access.mode))?;
    }
    Ok(())
}

fn write_aside(path: &Path, bytes: &[u8], access: Access) -> Result<PathBuf> {
    let aside = aside_name(parent_of(path), path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        grant(&file, access)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    written.map_err(|e| {
        // Nothing half-written stays; the first error is the one worth telling.
        let _ = std::fs::remove_file(&aside);
        cannot_write(path, &e)
    })?;
    Ok(aside)
}

fn rename_to_new(from: &Path, to: &Path) -> std::io::Result<()> {
    rename_with(from, to, libc::RENAME_NOREPLACE)
}

/// renameat2(2); nix has it for one C library alone.
pub(super) fn rename_with(from: &Path, to: &Path, flags: u32) -> std::io::Result<()> {
    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    // SAFETY: both are strings with an end that live until the call returns; nothing is written to them.
    let answer = unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn settle(path: &Path, renamed: std::io::Result<()>, aside: &Path) -> Result<()> {
    if let Err(e) = renamed {
        let _ = std::fs::remove_file(aside);
        if e.kind() == ErrorKind::AlreadyExists {
            return Err(Error::new(EXISTS, format!("{} is there already", path.display()))
                .hint("it is left as it is; name another file or move it away"));
        }
        return Err(cannot_write(path, &e));
    }
    sync_folder_of(path)
}

/// A name in `folder` that nothing has, for a file that will be `path`.
pub(super) fn aside_name(folder: &Path, path: &Path) -> PathBuf {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).expect("the kernel's random generator answers");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!(".{name}.{}", hex::encode(random)))
}

pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

pub(crate) fn cannot_read(path: &Path, e: &std::io::Error) -> Error {
    Error::new(CANNOT_READ, format!("cannot read {}: {e}", path.display()))
}

pub(crate) fn cannot_write(path: &Path, e: &std::io::Error) -> Error {
    let error = Error::new(CANNOT_WRITE, format!("cannot write {}: {e}", path.display()));
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            error.hint("the disk is full; free some space and run it again")
        }
        ErrorKind::PermissionDenied => error.hint("run it as root, with sudo"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn replace_gives_the_mode_whatever_the_umask_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for mode in [0o600, 0o644, 0o400] {
            replace(&path, b"x", Access::mode(mode)).unwrap();
            assert_eq!(mode_of(&path), mode);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn create_never_overwrites_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        create(&path, b"first", Access::mode(0o600)).unwrap();
        let again = create(&path, b"second", Access::mode(0o600)).unwrap_err();
        assert_eq!(again.code(), EXISTS);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn access_is_given_to_the_very_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, folder] = ["file", "link", "folder"].map(|name| dir.path().join(name));
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for (path, mode) in [(&file, 0o600), (&folder, 0o700)] {
            tighten(path, Access::mode(mode)).unwrap();
            assert_eq!(mode_of(path), mode);
        }
        assert_eq!(tighten(&link, Access::mode(0o666)).unwrap_err().code(), read::NOT_PLAIN);
        std::fs::hard_link(&file, dir.path().join("other")).unwrap();
        assert_eq!(tighten(&file, Access::mode(0o666)).unwrap_err().code(), OTHER_NAME);
        assert_eq!(mode_of(&file), 0o600);
    }

    #[test]
    fn make_folder_refuses_a_link_to_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        let refused = make_folder(&dir.path().join("link"), Access::mode(0o700)).unwrap_err();
        assert_eq!(refused.code(), NOT_A_FOLDER);
    }
}
