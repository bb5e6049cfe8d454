//! A file under way: written beside its place, put there by rename when it is whole, gone when it is dropped before.

use crate::error::Result;
use crate::host::file::{Access, aside_name, cannot_write, grant, sync_folder_of};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether what was written must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// File and folder are fsynced.
    Yes,
    /// The kernel writes it when it likes: for what can be had again.
    No,
}

/// A file that is not yet in its place. It is born with its final access; dropped before [`Draft::keep`] it is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    aside: PathBuf,
    place: PathBuf,
    kept: bool,
}

impl Draft {
    /// Begins a file for `place`, whose folder must exist.
    ///
    /// # Errors
    /// Where it cannot be made there.
    pub fn begin(place: &Path, access: Access) -> Result<Self> {
        let aside = aside_name(place);
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&aside);
        let file = open.map_err(|e| cannot_write(place, &e))?;
        let draft = Self { file, aside, place: place.to_owned(), kept: false };
        grant(&draft.file, access).map_err(|e| cannot_write(place, &e))?;
        Ok(draft)
    }

    /// The open file, readable and writable.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The place that it is for.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// A second handle on the open file, for a program's output.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn handle(&self) -> Result<File> {
        self.file.try_clone().map_err(|e| cannot_write(&self.place, &e))
    }

    /// Puts it in its place, over what was there.
    ///
    /// # Errors
    /// Where it cannot be synced or renamed; the draft is then removed.
    pub fn keep(mut self, durable: Durable) -> Result<()> {
        if durable == Durable::Yes {
            self.file.sync_all().map_err(|e| cannot_write(&self.place, &e))?;
        }
        std::fs::rename(&self.aside, &self.place).map_err(|e| cannot_write(&self.place, &e))?;
        self.kept = true;
        if durable == Durable::Yes { sync_folder_of(&self.place) } else { Ok(()) }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing better can be done here than to try.
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_nowhere_until_it_is_kept_and_gone_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        let mut draft = Draft::begin(&place, Access::mode(0o644)).unwrap();
        draft.write_all(b"half").unwrap();
        assert!(!place.exists());
        drop(draft);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut draft = Draft::begin(&place, Access::mode(0o644)).unwrap();
        draft.write_all(b"whole").unwrap();
        draft.keep(Durable::Yes).unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
