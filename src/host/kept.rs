//! Bytes kept aside: what a file held before lsm replaced it, each under a random name that only root can look up.

use crate::error::{Code, Error, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access, cannot_read, cannot_write};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

const LOST: Code = Code::refused("E-HOST-080");

/// From how many bytes on a file is large.
const LARGE: u64 = 1 << 20;

/// A folder (0700) of such files (0600, but for large ones).
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// What is kept in `folder`, which is made when there is something to keep.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps the plain file at `path`; it is on the disk when this returns. A large one is not copied where a second
    /// name for it will do: what takes its place does so by rename, and a full disk must not keep anything from going.
    ///
    /// # Errors
    /// Where it cannot be read or kept.
    pub fn keep_file(&self, path: &Path) -> Result<String> {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() >= LARGE) {
            file::make_folder(&self.folder, Access::mode(0o700))?;
            let name = random_name();
            if std::fs::hard_link(path, self.folder.join(&name)).is_ok() {
                file::sync_folder_of(&self.folder.join(&name))?;
                return Ok(name);
            }
        }
        let mut from = file::open_plain(path)?;
        self.keep(|draft| std::io::copy(&mut from, draft).map(drop).map_err(|e| cannot_read(path, &e)))
    }

    /// Keeps these bytes.
    ///
    /// # Errors
    /// Where they cannot be kept.
    pub fn keep_bytes(&self, bytes: &[u8]) -> Result<String> {
        self.keep(|draft| draft.write_all(bytes).map_err(|e| cannot_write(&self.folder, &e)))
    }

    fn keep(&self, fill: impl FnOnce(&mut Draft) -> Result<()>) -> Result<String> {
        file::make_folder(&self.folder, Access::mode(0o700))?;
        let name = random_name();
        let mut draft = Draft::begin(&self.folder.join(&name), Access::mode(0o600))?;
        fill(&mut draft)?;
        draft.keep(Durable::Yes)?;
        Ok(name)
    }

    /// Writes what is kept as `name` into `draft`; it has to have this hash, where one is known.
    ///
    /// # Errors
    /// Where it is not there any more, is not what it was, or cannot be copied.
    pub fn copy_to(&self, name: &str, sha256: Option<&str>, draft: &mut Draft) -> Result<()> {
        let path = self.path(name)?;
        let (mut from, mut hash) = (file::open_plain(&path)?, Sha256::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from.read(&mut buffer).map_err(|e| cannot_read(&path, &e))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            draft.write_all(&buffer[..n]).map_err(|e| cannot_write(&path, &e))?;
        }
        buffer.zeroize();
        if sha256.is_some_and(|wanted| wanted != hex::encode(hash.finalize())) {
            return Err(Error::new(LOST, format!("{} is not what was kept there", path.display())));
        }
        Ok(())
    }

    /// The bytes kept as `name`, at most `limit` of them.
    ///
    /// # Errors
    /// As [`Kept::copy_to`], and where they are more.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        file::read_plain(&self.path(name)?, limit)
    }

    /// Removes all but these, and the folder where nothing stays.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn prune(&self, wanted: &BTreeSet<String>) -> Result<()> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(cannot_read(&self.folder, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| cannot_read(&self.folder, &e))?;
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                file::remove(&entry.path())?;
            }
        }
        if wanted.is_empty() {
            file::remove_tree(&self.folder)?;
        }
        Ok(())
    }

    /// The file of `name`, which a journal says: one name, no way out of the folder.
    fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if name.bytes().all(|b| b.is_ascii_hexdigit()) && path.is_file() {
            return Ok(path);
        }
        Err(Error::new(LOST, format!("what was kept as {name:?} is gone from {}", self.folder.display())))
    }
}

fn random_name() -> String {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).expect("the kernel's random generator answers");
    hex::encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_kept_comes_back_and_only_what_is_wanted_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path().join("k"));
        std::fs::write(dir.path().join("a"), "bytes").unwrap();
        let (one, two) = (kept.keep_file(&dir.path().join("a")).unwrap(), kept.keep_bytes(b"others").unwrap());
        assert_eq!(kept.read(&one, 10).unwrap(), b"bytes");
        let modes = [dir.path().join("k"), dir.path().join("k").join(&one)];
        assert_eq!(modes.map(|path| std::fs::metadata(path).unwrap().mode() & 0o777), [0o700, 0o600]);
        kept.prune(&BTreeSet::from([two.clone()])).unwrap();
        assert_eq!((kept.read(&one, 10).unwrap_err().code(), kept.read(&two, 10).unwrap()), (LOST, b"others".to_vec()));
        assert_eq!(kept.read("../a", 10).unwrap_err().code(), LOST);
        kept.prune(&BTreeSet::new()).unwrap();
        assert!(!dir.path().join("k").exists());
    }
}
