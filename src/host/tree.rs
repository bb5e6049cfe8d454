//! A folder filled from an archive: names that stay inside it, files that are new, no more bytes than allowed.

use crate::error::{Code, Error, Result};
use crate::host::file::{Access, cannot_write, grant};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

const BAD_NAME: Code = Code::unverified("E-HOST-050");
const TOO_MUCH: Code = Code::unverified("E-HOST-051");
const UNREADABLE: Code = Code::unverified("E-HOST-052");

/// A folder being filled. Its folders are 0755, nothing is fsynced, no link is ever made or followed below it.
pub struct Tree {
    root: PathBuf,
    made: HashSet<PathBuf>,
    bytes_left: u64,
    files_left: u64,
}

impl Tree {
    /// Begins the folder `root`, which must not exist yet, for at most so many bytes and files.
    ///
    /// # Errors
    /// Where the folder is there already or cannot be made.
    pub fn begin(root: &Path, bytes: u64, files: u64) -> Result<Self> {
        make_open_folder(root).map_err(|e| cannot_write(root, &e))?;
        Ok(Self { root: root.to_owned(), made: HashSet::new(), bytes_left: bytes, files_left: files })
    }

    /// Writes one new file under the relative path `name` with `mode`, and returns the SHA-256 of its bytes.
    ///
    /// # Errors
    /// Where the name leaves the folder or repeats, a bound is passed, `from` fails, or writing does.
    pub fn put(&mut self, name: &str, mode: u32, from: &mut dyn Read) -> Result<[u8; 32]> {
        let path = self.root.join(inner(name)?);
        self.files_left = self.files_left.checked_sub(1).ok_or_else(|| too_much(&self.root))?;
        self.make_parents(&path).map_err(|e| cannot_write(&path, &e))?;
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = open.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::new(BAD_NAME, format!("the archive holds {name:?} twice")),
            _ => cannot_write(&path, &e),
        })?;
        grant(&file, Access::mode(mode)).map_err(|e| cannot_write(&path, &e))?;
        self.copy(name, from, &mut file)
    }

    fn copy(&mut self, name: &str, from: &mut dyn Read, to: &mut File) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from
                .read(&mut buffer)
                .map_err(|e| Error::new(UNREADABLE, format!("the archive is damaged at {name:?}: {e}")))?;
            if n == 0 {
                return Ok(hash.finalize().into());
            }
            self.bytes_left = self.bytes_left.checked_sub(n as u64).ok_or_else(|| too_much(&self.root))?;
            hash.update(&buffer[..n]);
            to.write_all(&buffer[..n]).map_err(|e| cannot_write(&self.root, &e))?;
        }
    }

    fn make_parents(&mut self, path: &Path) -> std::io::Result<()> {
        let mut missing = Vec::new();
        let mut folder = path.parent();
        while let Some(f) = folder.filter(|f| *f != self.root && !self.made.contains(*f)) {
            missing.push(f.to_owned());
            folder = f.parent();
        }
        for folder in missing.into_iter().rev() {
            make_open_folder(&folder)?;
            self.made.insert(folder);
        }
        Ok(())
    }
}

/// `name` as a path that cannot leave the folder that it is joined to.
fn inner(name: &str) -> Result<&Path> {
    let path = Path::new(name);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    // Components skip "." and doubled slashes; only the very same text may come back.
    let same = path.components().collect::<PathBuf>().as_os_str() == name;
    if name.is_empty() || !plain || !same || name.contains(['\0', '\\']) {
        return Err(Error::new(BAD_NAME, format!("the archive holds a name that leaves its folder: {name:?}")));
    }
    Ok(path)
}

fn make_open_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    // Another user may have to read here, whatever the umask is.
    grant(&File::open(path)?, Access::mode(0o755))
}

fn too_much(root: &Path) -> Error {
    Error::new(TOO_MUCH, format!("the archive for {} holds more than it may", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &tempfile::TempDir) -> Tree {
        Tree::begin(&dir.path().join("t"), 10, 3).unwrap()
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = tree(&dir);
        for bad in ["", "../a", "a/../../b", "/etc/passwd", "./a", "a//b", "a/", "a\\b", "a\0b", ".."] {
            let error = tree.put(bad, 0o644, &mut b"x".as_slice()).unwrap_err();
            assert_eq!(error.code(), BAD_NAME, "{bad:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn bounds_and_repeats_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = tree(&dir);
        tree.put("a/b", 0o644, &mut b"12345".as_slice()).unwrap();
        assert_eq!(tree.put("a/b", 0o644, &mut b"1".as_slice()).unwrap_err().code(), BAD_NAME);
        assert_eq!(tree.put("c", 0o644, &mut b"123456".as_slice()).unwrap_err().code(), TOO_MUCH);
        assert_eq!(tree.put("d", 0o644, &mut b"".as_slice()).unwrap_err().code(), TOO_MUCH);
    }
}
