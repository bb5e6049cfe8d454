//! A file under way: written beside its place, put there by rename when it is whole, gone when it is dropped before.

use crate::error::Result;
use crate::host::file::{
    Access, aside_name, cannot_write, grant, make_folders, name_of, parent_of, remove, sync_folder,
};
use crate::host::user;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;
use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
///
/// Where the file system can (`O_TMPFILE`), it has no name before it is kept: then not even a killed lsm leaves anything.
#[derive(Debug)]
pub struct Draft {
    file: File,
    place: PathBuf,
    /// The name by which it gets there: its place, or what leads into a folder that is held open.
    way: PathBuf,
    aside: Option<PathBuf>,
}

impl Draft {
    /// Begins a file for `place`. Its folder need not be there yet: [`Draft::keep`] makes it.
    ///
    /// # Errors
    /// Where it cannot be made there.
    pub fn begin(place: &Path, access: Access) -> Result<Self> {
        Self::begin_by(place.to_owned(), place, access)
    }

    fn begin_by(way: PathBuf, place: &Path, access: Access) -> Result<Self> {
        let unnamed = nix::libc::O_TMPFILE;
        let open =
            OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(unnamed).open(nearest_folder(&way));
        // Not every file system has unnamed files (open(2)).
        let draft = match open {
            Ok(file) => Self { file, place: place.to_owned(), way, aside: None },
            Err(_) => Self::begin_named(way, place)?,
        };
        grant(&draft.file, access).map_err(|e| cannot_write(place, &e))?;
        Ok(draft)
    }

    fn begin_named(way: PathBuf, place: &Path) -> Result<Self> {
        let aside = aside_name(nearest_folder(&way), &way);
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&aside);
        let file = open.map_err(|e| cannot_write(place, &e))?;
        Ok(Self { file, place: place.to_owned(), way, aside: Some(aside) })
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

    /// Empties it, to be written from the start again.
    ///
    /// # Errors
    /// Where it cannot be truncated.
    pub fn restart(&self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| std::io::Seek::rewind(&mut &self.file));
        emptied.map_err(|e| cannot_write(&self.place, &e))
    }

    /// Puts it in its place, over what was there.
    ///
    /// # Errors
    /// Where it cannot be synced or renamed; the draft is then removed.
    pub fn keep(self, durable: Durable) -> Result<()> {
        Self::keep_all(vec![self], durable)
    }

    /// Puts several files in their places. None gets there before all are whole, and on the disk where that is asked for.
    ///
    /// # Errors
    /// As [`Draft::keep`].
    pub fn keep_all(mut drafts: Vec<Self>, durable: Durable) -> Result<()> {
        let sync = durable == Durable::Yes;
        for draft in &mut drafts {
            make_folders(parent_of(&draft.way))?;
            let written = if sync { draft.file.sync_all() } else { Ok(()) };
            written.and_then(|()| draft.name()).map_err(|e| cannot_write(&draft.place, &e))?;
        }
        for draft in &mut drafts {
            if let Some(aside) = &draft.aside {
                std::fs::rename(aside, &draft.way).map_err(|e| cannot_write(&draft.place, &e))?;
                draft.aside = None;
            }
        }
        let folders: BTreeSet<_> = drafts.iter().filter(|_| sync).map(|draft| parent_of(&draft.way)).collect();
        folders.into_iter().try_for_each(sync_folder)
    }

    /// Gives it a name beside its place, where it has none yet: linkat(2) puts nothing over what is there.
    fn name(&mut self) -> std::io::Result<()> {
        if self.aside.is_none() {
            let aside = aside_name(parent_of(&self.way), &self.way);
            linkat(AT_FDCWD, &name_of(&self.file), AT_FDCWD, &aside, AtFlags::AT_SYMLINK_FOLLOW)?;
            self.aside = Some(aside);
        }
        Ok(())
    }
}

/// Puts several files into a folder, over what was there: none before all are whole and on the disk. They get into the one
/// that is `held`, whatever has its `path` by now.
///
/// # Errors
/// Where one cannot be written; then each of them is as it was before.
pub fn replace_all<'a>(
    held: &File,
    path: &Path,
    files: impl IntoIterator<Item = (&'static str, &'a [u8])>,
    access: Access,
) -> Result<()> {
    let way = name_of(held);
    let write = |(name, bytes): (&str, &[u8])| {
        let mut draft = Draft::begin_by(way.join(name), &path.join(name), access)?;
        draft.write_all(bytes).map_err(|e| cannot_write(&draft.place, &e))?;
        Ok(draft)
    };
    Draft::keep_all(files.into_iter().map(write).collect::<Result<_>>()?, Durable::Yes)
}

/// Removes what an lsm that was killed left of drafts for `place`, and where that is a folder of those in it: files and
/// links of this user under such names as `aside_name` gives.
///
/// # Errors
/// Where one cannot be removed.
pub fn clear_left(place: &Path) -> Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    clear_in(parent_of(place), |of| of == name)?;
    let is_folder = std::fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir());
    if is_folder { clear_in(place, |_| true) } else { Ok(()) }
}

fn clear_in(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Result<()> {
    // Where nobody else can make a file, whatever is there came from here, whosever it was to become.
    let is_ours = |meta: Metadata| meta.uid() == user::own_uid() && meta.mode() & 0o022 == 0;
    let folder_is_ours = std::fs::metadata(folder).is_ok_and(is_ours);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_left = name.to_str().and_then(of_aside).is_some_and(&is_meant);
        let is_own = |meta: Metadata| !meta.is_dir() && (folder_is_ours || meta.uid() == user::own_uid());
        if is_left && entry.metadata().is_ok_and(is_own) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The name of the file that a draft of this name is for: `.NAME.` and sixteen hexadecimal digits.
fn of_aside(name: &str) -> Option<&str> {
    let (of, random) = name.strip_prefix('.')?.rsplit_once('.')?;
    let is_random = random.len() == 16 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_random.then_some(of)
}

/// The folder of `place`, or where it is not there yet the nearest one above: it is on the same file system.
fn nearest_folder(place: &Path) -> &Path {
    let above = parent_of(place).ancestors().map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
    above.into_iter().find(|f| f.exists()).unwrap_or(Path::new("."))
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
        if let Some(aside) = &self.aside {
            // Nothing better can be done here than to try.
            let _ = std::fs::remove_file(aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn where_a_draft_needs_a_name_it_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        let begin = || Draft::begin_named(place.clone(), &place).unwrap();
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let draft = begin();
        assert_eq!(count(), 1);
        drop(draft);
        assert_eq!(count(), 0);
        begin().keep(Durable::Yes).unwrap();
        assert_eq!((count(), place.exists()), (1, true));
    }

    #[test]
    fn several_get_their_names_together_in_a_folder_that_is_made_then() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let begin = |name: &str| Draft::begin(&folder.join(name), Access::mode(0o755)).unwrap();
        drop(begin("x"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut drafts = vec![begin("x"), begin("y")];
        drafts[1].write_all(b"y").unwrap();
        Draft::keep_all(drafts, Durable::Yes).unwrap();
        assert_eq!(std::fs::read(folder.join("y")).unwrap(), b"y");
        assert_eq!(std::fs::metadata(folder.join("x")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn what_is_written_gets_into_the_folder_that_is_held_whatever_has_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, moved, other] = ["folder", "moved", "other"].map(|name| dir.path().join(name));
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("a"), "theirs").unwrap();
        let held = std::fs::File::open(&folder).unwrap();
        std::fs::rename(&folder, &moved).unwrap();
        std::os::unix::fs::symlink(&other, &folder).unwrap();
        let files = [("a", b"x".as_slice()), ("b", b"y".as_slice())];
        replace_all(&held, &folder, files, Access::mode(0o600)).unwrap();
        assert_eq!(["a", "b"].map(|name| std::fs::read(moved.join(name)).unwrap()), [b"x", b"y"]);
        assert_eq!(std::fs::read(other.join("a")).unwrap(), b"theirs");
        assert_eq!([&moved, &other].map(|of| std::fs::read_dir(of).unwrap().count()), [2, 1]);
    }

    #[test]
    fn what_a_killed_draft_left_is_found_by_its_name_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a.conf");
        let mut draft = Draft::begin_named(place.clone(), &place).unwrap();
        let link = aside_name(dir.path(), &place);
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let others = [".b.conf.0123456789abcdef", ".a.conf.0123456789abcdeg", ".a.conf", "a.conf"];
        others.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        clear_left(&place).unwrap();
        assert!(draft.aside.take().is_some_and(|aside| !aside.exists()) && !link.is_symlink());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
        clear_left(dir.path()).unwrap();
        assert!(!dir.path().join(others[0]).exists() && dir.path().join(others[1]).exists());
    }

    #[test]
    fn a_draft_that_is_begun_again_has_nothing_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut draft = Draft::begin(&dir.path().join("a"), Access::mode(0o644)).unwrap();
        draft.write_all(b"longer").unwrap();
        draft.restart().unwrap();
        draft.write_all(b"b").unwrap();
        draft.keep(Durable::No).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"b");
    }
}
