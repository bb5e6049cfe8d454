//! The folder in which lsm keeps what can be had again, and how it is told from one of somebody else's.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access, cannot_read};
use crate::host::{user, way};
use crate::release::pins::{Arch, Release};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const NO_CACHE: Code = Code::lacking("E-RELEASE-040");
const NOT_OURS: Code = Code::usage("E-RELEASE-041");
const OPEN_TO_OTHERS: Code = Code::refused("E-RELEASE-042");

/// The file that says that a folder is a cache (<https://bford.info/cachedir/>).
const MARK: &str = "CACHEDIR.TAG";
/// What it says in one of lsm's, and ever has to: by this it is known again.
const MARKED: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # A cache of lsm's: what is in it can be had again, and goes with lsm.\n";

/// The folders that lsm makes in its cache.
pub const FOLDERS: [&str; 4] = ["archive", "zip", "go", "work"];
/// The files that lsm makes in its cache.
pub const FILES: [&str; 2] = [MARK, "build.lock"];

/// The folder in which lsm keeps what can be had again: for root `/var/cache/lsm`, else `$XDG_CACHE_HOME/lsm` or
/// `~/.cache/lsm`. `LSM_CACHE` names another.
///
/// # Errors
/// Where the user has no home folder.
pub fn default_cache() -> Result<PathBuf> {
    user::named_folder("LSM_CACHE").or_else(usual_place).ok_or_else(|| {
        Error::new(NO_CACHE, "there is no folder to keep downloads in")
            .hint("set HOME or LSM_CACHE to a folder of yours")
    })
}

fn usual_place() -> Option<PathBuf> {
    if user::is_root() {
        return Some("/var/cache/lsm".into());
    }
    user::base_folder("XDG_CACHE_HOME", ".cache").map(|caches| caches.join("lsm"))
}

/// The folder in `cache` for the archive of `release` for `arch`, with what speaks for it.
pub fn place_of(cache: &Path, release: &Release, arch: Arch) -> PathBuf {
    cache.join("archive").join(release.archive_name(arch))
}

/// Holds that nothing in `cache` is somebody else's: folders in it are removed by name. It has lsm's mark, or is where earlier
/// versions made theirs without one, or has nothing in it.
///
/// # Errors
/// Where it is another folder, or somebody else can change what is in it.
pub(super) fn hold(cache: &Path) -> Result<()> {
    hold_own(cache)?;
    if is_marked(cache) || usual_place().is_some_and(|usual| usual == cache) || is_empty(cache)? {
        return Ok(());
    }
    Err(Error::new(NOT_OURS, format!("{} is no cache of lsm's, and something is in it", cache.display()))
        .hint("name another folder with LSM_CACHE: one that is empty, or not there yet"))
}

/// Makes `cache` where it is not there, and marks it as lsm's. One that is there keeps its mode.
///
/// # Errors
/// As [`hold`], and where it cannot be made or marked.
pub fn claim(cache: &Path) -> Result<()> {
    hold(cache)?;
    if !file::is_there(cache)? {
        file::make_folders(cache)?;
        if user::is_root() {
            // Whatever the umask: the unprivileged builder has to enter it.
            file::make_folder(cache, Access::mode(0o755))?;
        }
        // Somebody may have been faster.
        hold_own(cache)?;
    }
    if is_marked(cache) {
        return Ok(());
    }
    file::replace(&cache.join(MARK), MARKED.as_bytes(), Access::mode(0o644))
}

/// Holds that nobody else can change what is in `cache`, or put another folder in its place: what is unpacked there is started, and
/// root gives folders in it away.
fn hold_own(cache: &Path) -> Result<()> {
    let Some(foreign) = way::open_to_others(cache) else { return Ok(()) };
    let (cache, foreign) = (cache.display(), foreign.display());
    Err(Error::new(
        OPEN_TO_OTHERS,
        format!("other users can change {foreign}, and with it what lsm runs out of {cache}"),
    )
    .hint(format!(
        "look at it, then: chmod go-w {foreign}; or name a folder with LSM_CACHE that is yours, or root's, alone"
    )))
}

fn is_marked(cache: &Path) -> bool {
    file::read_plain(&cache.join(MARK), 1 << 10).is_ok_and(|mark| mark == MARKED.as_bytes())
}

fn is_empty(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(cannot_read(folder, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::source::workshop::Workshop;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn nobody_elses_folder_is_emptied_or_opened() {
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go/bin");
        fs::create_dir_all(&go).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        // Another program's cache is not lsm's.
        for mark in [None, Some(MARKED.lines().next().unwrap())] {
            mark.into_iter().for_each(|mark| fs::write(dir.path().join(MARK), mark).unwrap());
            assert_eq!(Workshop::open(dir.path()).err().unwrap().code(), NOT_OURS);
            assert!(go.is_dir() && dir.path().join("work").is_dir() && mode_of(dir.path()) == 0o700);
        }
    }

    #[test]
    fn a_cache_is_known_again_and_holds_what_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        // Root's builder has to enter it.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o751)).unwrap();
        let cache = dir.path().join("cache");
        for _ in 0..2 {
            drop(Workshop::open(&cache).unwrap());
            assert!(fs::read_dir(&cache).unwrap().count() >= 4);
        }
        for entry in fs::read_dir(&cache).unwrap().map(Result::unwrap) {
            let names: &[&str] = if entry.path().is_dir() { &FOLDERS } else { &FILES };
            assert!(entry.file_name().to_str().is_some_and(|name| names.contains(&name)), "{entry:?}");
        }
        assert!(Workshop::open(dir.path()).is_err(), "the cache is in it");
        let empty = tempfile::tempdir().unwrap();
        fs::set_permissions(empty.path(), Permissions::from_mode(0o711)).unwrap();
        claim(empty.path()).unwrap();
        assert!(is_marked(empty.path()) && mode_of(empty.path()) == 0o711);
    }

    #[test]
    fn a_cache_that_others_can_change_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (above, link) = (dir.path().join("above"), dir.path().join("link"));
        let cache = above.join("cache");
        fs::create_dir_all(&cache).unwrap();
        symlink(&cache, &link).unwrap();
        let allow = |folder: &Path, mode| fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        let claimed = |cache: &Path| claim(cache).map_err(|e| e.code());
        for way in [&cache, &link] {
            for (folder, mode) in [(&above, 0o777), (&cache, 0o777), (&cache, 0o1777)] {
                allow(folder, mode);
                assert_eq!(claimed(way), Err(OPEN_TO_OTHERS), "{} {mode:o}", folder.display());
                allow(folder, 0o755);
            }
        }
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "nothing was made in it");
        allow(&above, 0o1777);
        assert_eq!((claimed(&link), claimed(&above.join("new"))), (Ok(()), Ok(())));
        if user::is_root() {
            allow(&above, 0o755);
            chown(&above, Some(1), Some(1)).unwrap();
            assert_eq!((claimed(&link), claimed(&above.join("other"))), (Err(OPEN_TO_OTHERS), Err(OPEN_TO_OTHERS)));
        }
    }
}
