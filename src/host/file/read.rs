//! Files that are read: within a limit, and only what is known to be a file.

use super::{CANNOT_READ, cannot_read};
use crate::error::{Code, Error, Result};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

const TOO_LARGE: Code = Code::usage("E-HOST-004");
pub(super) const NOT_PLAIN: Code = Code::usage("E-HOST-006");

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// Where it cannot be read or is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_from(File::open(path).map_err(|e| cannot_read(path, &e))?, path, limit)
}

/// Reads a whole plain file of at most `limit` bytes that somebody else may have made: through no link, and never waiting
/// on a pipe.
///
/// # Errors
/// As [`read`], and where it is anything but a plain file.
pub fn read_plain(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_from(open_plain(path)?, path, limit)
}

/// Reads a whole plain file of at most `limit` bytes that the user named: also through a link, never waiting on a pipe.
///
/// # Errors
/// As [`read`], and where it is anything but a plain file.
pub fn read_named(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_from(open(path)?, path, limit)
}

/// Reads what the user named as [`read_named`]; where that is a descriptor which this process was handed open (`/dev/fd/N`, as a
/// shell's `<(...)` is), of a pipe too, to its end.
///
/// # Errors
/// As [`read_named`].
pub fn read_handed(path: &Path, limit: u64) -> Result<Vec<u8>> {
    if !["/dev/fd", "/proc/self/fd"].into_iter().any(|folder| path.parent() == Some(Path::new(folder))) {
        return read_named(path, limit);
    }
    let cannot = |e: std::io::Error| cannot_read(path, &e);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    if let Some(handed) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
        // SAFETY: it was open a moment ago, nobody here closes it, and it is borrowed for this call alone.
        let handed = unsafe { BorrowedFd::borrow_raw(handed) };
        // What lsm starts has no need of it.
        fcntl(handed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| cannot(e.into()))?;
    }
    if !file.metadata().map_err(cannot)?.file_type().is_fifo() {
        return read_from(plain(file, path)?, path, limit);
    }
    // Opening it waits for nobody; reading it, for whoever writes.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(|e| cannot(e.into()))?;
    read_whole(file, path, limit, limit)
}

/// Standard input, at most `limit` bytes of it; wiped when dropped, for it may be a secret.
///
/// # Errors
/// Where it cannot be read.
pub fn read_input(limit: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Past the buffer of standard input, which nobody wipes.
    read_wiped(File::from(std::io::stdin().as_fd().try_clone_to_owned()?), limit)
}

/// With room for all of it: a buffer that grows leaves copies of a secret behind.
fn read_wiped(file: File, limit: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(limit).unwrap_or(0) + 1));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(in crate::host) fn read_from(file: File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = file.metadata().map_or(0, |m| m.len()).min(limit);
    read_whole(file, path, limit, size)
}

/// With room for `size` bytes, which is all of it: a buffer that grows leaves copies of a secret behind.
fn read_whole(file: File, path: &Path, limit: u64, size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| cannot_read(path, &e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(TOO_LARGE, format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads a text file of at most 1 MiB, as [`read_named`].
///
/// # Errors
/// Where it cannot be read, is larger, is no plain file, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read_named(path, 1 << 20)?)
        .map_err(|_| Error::new(CANNOT_READ, format!("{} is not UTF-8 text", path.display())))
}

/// Opens a plain file that the user named: also through a link, but never a device, and never waiting on a pipe.
///
/// # Errors
/// Where it is something else, or cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    open_with(path, libc::O_NONBLOCK)
}

/// Holds a plain file without opening it (open(2), `O_PATH`): to be run by whoever may not read it.
///
/// # Errors
/// Where it is something else, or is not there.
pub fn hold(path: &Path) -> Result<File> {
    // Not by std, which takes the flag for an access mode where the C library is musl.
    let held = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    plain(held.map(File::from).map_err(|e| cannot_read(path, &e.into()))?, path)
}

/// Opens a plain file that somebody else may have made: never through a link, never a device or a pipe.
///
/// # Errors
/// Where it is something else, or cannot be opened.
pub fn open_plain(path: &Path) -> Result<File> {
    open_with(path, libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

fn open_with(path: &Path, flags: i32) -> Result<File> {
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open.map_err(|e| match e.raw_os_error() {
        // A link that may not be followed (open(2), O_NOFOLLOW), and a socket.
        Some(libc::ELOOP | libc::ENXIO) => not_plain(path),
        _ => cannot_read(path, &e),
    })?;
    plain(file, path)
}

fn plain(file: File, path: &Path) -> Result<File> {
    if file.metadata().map_err(|e| cannot_read(path, &e))?.is_file() { Ok(file) } else { Err(not_plain(path)) }
}

fn not_plain(path: &Path) -> Error {
    Error::new(NOT_PLAIN, format!("{} is no plain file", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::is_there;
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn read_refuses_more_than_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        std::fs::write(&path, [0; 11]).unwrap();
        assert_eq!(read(&path, 10).unwrap_err().code(), TOO_LARGE);
        assert_eq!(read(&path, 11).unwrap().len(), 11);
    }

    #[test]
    fn what_is_no_plain_file_is_told_apart_from_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let [link, dangling, pipe, missing] = ["link", "dangling", "pipe", "missing"].map(|name| dir.path().join(name));
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [&link, &dangling, &pipe, &dir.path().to_owned()] {
            assert_eq!(open_plain(path).unwrap_err().code(), NOT_PLAIN, "{}", path.display());
            assert!(is_there(path).unwrap(), "{}", path.display());
        }
        open(&link).unwrap();
        assert_eq!(open_plain(&missing).unwrap_err().code(), CANNOT_READ);
        assert!(!is_there(&missing).unwrap());
        assert_eq!(is_there(&dir.path().join("file/below")).unwrap_err().code(), CANNOT_READ);
    }

    #[test]
    fn what_may_be_a_secret_is_read_into_one_place() {
        let (from, to) = nix::unistd::pipe().unwrap();
        let writer = std::thread::spawn(move || File::from(to).write_all(&[7; 1000]).unwrap());
        let read = read_wiped(File::from(from), 1000).unwrap();
        writer.join().unwrap();
        assert_eq!((read.as_slice(), read.capacity()), ([7; 1000].as_slice(), 1001));
    }

    #[test]
    fn a_pipe_that_was_handed_on_is_read_and_one_that_is_named_is_not() {
        let (from, to) = nix::unistd::pipe().unwrap();
        let (named, mut to) = (format!("/dev/fd/{}", from.as_raw_fd()), File::from(to));
        let writer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            to.write_all(b"abandon ability").unwrap();
        });
        assert_eq!(read_handed(Path::new(&named), 64).unwrap(), b"abandon ability");
        writer.join().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert_eq!(read_handed(&fifo, 64).unwrap_err().code(), NOT_PLAIN);
        let (device, file) = (File::open("/dev/zero").unwrap(), File::open("/proc/self/stat").unwrap());
        let of = |file: &File| read_handed(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), 1 << 16);
        assert_eq!(of(&device).unwrap_err().code(), NOT_PLAIN);
        assert!(!of(&file).unwrap().is_empty());
    }
}
