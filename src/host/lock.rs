//! One at a time: a lock file that the kernel frees when its holder ends, however it ends.

use crate::error::Result;
use crate::host::file::cannot_write;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A held lock; dropped, it is free again. The file stays.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, waiting where somebody holds it; `waiting` is called once before the wait.
    ///
    /// # Errors
    /// Where the file cannot be made or locked.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(lock) = Self::try_take(path)? {
            return Ok(lock);
        }
        waiting();
        let file = open(path)?;
        file.lock().map_err(|e| cannot_write(path, &e))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock at `path`; `None` where somebody holds it.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            // Whoever held it may have removed it: then the lock is on nothing that others could take.
            Ok(()) if is_gone(&file) => Self::try_take(path),
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(cannot_write(path, &e)),
        }
    }
}

fn is_gone(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() == 0)
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path).map_err(|e| cannot_write(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::take(&path, || panic!("nobody holds it")).unwrap();
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let second = s.spawn(|| Lock::take(&path, || said.send(()).unwrap()).unwrap());
            heard.recv().unwrap();
            assert!(!second.is_finished());
            drop(held);
            second.join().unwrap();
        });
    }
}
