//! A copy of a folder that somebody else fills, with every file's hash; and that folder put back as it was, whole.

use crate::error::{Code, Error, Result};
use crate::host::beneath::{self, Entry, Folder};
use crate::host::file::{self, Access, cannot_read, cannot_write, grant, parent_of, sync_folder};
use crate::host::process;
use crate::host::user::Owner;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

const NO_FOLDER: Code = Code::lacking("E-HOST-110");
const NO_ROOM: Code = Code::lacking("E-HOST-111");
const DAMAGED: Code = Code::refused("E-HOST-112");
const CHANGED: Code = Code::refused("E-HOST-113");

/// The most that a folder may hold: lnd has some dozens.
const MOST: usize = 10_000;
/// What has to stay free beside the copy, in bytes.
const SPARE: u64 = 64 << 20;
/// The copy's files are below this name.
const FILES: &str = "files";
/// Written last: a copy without it was cut off.
const LIST: &str = "manifest.json";
/// The largest list, in bytes.
const LIST_LIMIT: u64 = 8 << 20;
/// While it is put back, the folder has this name beside its own.
const ASIDE: &str = ".lsm-restore";
/// And what was there this one, where both cannot change places in one go.
const GONE: &str = ".lsm-gone";

/// All that was in a folder, from the top down.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    access: Access,
    entries: Vec<Listed>,
}

/// One file or folder.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    path: PathBuf,
    access: Access,
    /// A file's hash; a folder has none.
    sha256: Option<String>,
}

/// Holds that `folder`, which is beneath `above`, can be copied to `to` as it is now: plain files and folders of one
/// owner, and room for them where `to` is or will be.
///
/// # Errors
/// Where it cannot.
pub fn check(above: &Path, folder: &Path, to: &Path) -> Result<()> {
    let mut bytes: u64 = 0;
    walk(&find(above, folder)?, &mut |_, _, entry| {
        if let Entry::File(file) = entry {
            bytes = bytes.saturating_add(file.metadata().map_err(|e| cannot_read(folder, &e))?.len());
        }
        Ok(())
    })?;
    let there = to.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = nix::sys::statvfs::statvfs(there).map_or(0, |s| s.blocks_available() * s.fragment_size());
    if free < bytes.saturating_add(SPARE) {
        let cause = format!(
            "a copy of {} takes {} MiB, and {} has {} MiB free",
            folder.display(),
            bytes.saturating_add(SPARE) >> 20,
            there.display(),
            free >> 20
        );
        return Err(Error::new(NO_ROOM, cause).hint("free some space and run it again"));
    }
    Ok(())
}

/// True where `copy` is whole.
///
/// # Errors
/// Where that cannot be seen.
pub fn is_whole(copy: &Path) -> Result<bool> {
    file::is_there(&copy.join(LIST))
}

/// Copies `folder`, which is beneath `above` and which nobody fills meanwhile, into the folder `copy`, in place of an
/// earlier copy. What is copied is on the disk when this returns.
///
/// # Errors
/// Where something in it is no plain file or folder, or it cannot be copied.
pub fn take(above: &Path, folder: &Path, copy: &Path) -> Result<()> {
    file::remove(&copy.join(LIST))?;
    let files = copy.join(FILES);
    file::remove_tree(&files)?;
    file::make_folder(&files, Access::mode(0o700))?;
    let found = find(above, folder)?;
    let mut entries = Vec::new();
    walk(&found, &mut |path, access, entry| {
        let to = files.join(path);
        let sha256 = match entry {
            Entry::Folder(_) => file::make_folder(&to, Access::mode(0o700)).map(|()| None)?,
            Entry::File(from) => Some(copy_file(from, &to, Access::mode(0o600))?),
        };
        entries.push(Listed { path: path.to_owned(), access, sha256 });
        Ok(())
    })?;
    for folder in folders(&entries).chain([Path::new("")]) {
        sync_folder(&files.join(folder))?;
    }
    let list = serde_json::to_vec(&List { access: found.access(), entries });
    let list = list.map_err(|e| beneath::refuse(folder, "has a name that lnd would not give").because(e))?;
    file::replace(&copy.join(LIST), &list, Access::mode(0o600))
}

/// Copies `folder`, which is beneath `above`, to `to`, all of it for `owner` alone. `to` is there when all of it is on the disk,
/// and by every hash what `folder` then still is; what is there already stays as it is.
///
/// # Errors
/// As [`take`]; where there is no room, and where somebody fills the folder meanwhile.
pub fn copy(above: &Path, folder: &Path, to: &Path, owner: Owner) -> Result<()> {
    if file::is_there(to)? {
        return Ok(());
    }
    process::hold_unused(above)?;
    check(above, folder, to)?;
    let around = parent_of(to);
    let aside = around.join(ASIDE);
    file::clear(&aside)?;
    make_folder(&aside)?;
    let mut folders = vec![aside.clone()];
    walk(&find(above, folder)?, &mut |path, _, entry| {
        let to = aside.join(path);
        match entry {
            Entry::File(from) => copy_file(from, &to, Access::owned(0o600, owner)).map(drop),
            Entry::Folder(_) => {
                folders.push(to.clone());
                make_folder(&to)
            }
        }
    })?;
    folders.iter().rev().try_for_each(|folder| settle(folder, Access::owned(0o700, owner)))?;
    process::hold_unused(above)?;
    if hashes(&find(above, folder)?)? != hashes(&find(around, &aside)?)? {
        return Err(Error::new(CHANGED, format!("{} is not what was copied of it", folder.display()))
            .hint("stop whatever fills it, and run it again"));
    }
    file::rename_with(&aside, to, nix::libc::RENAME_NOREPLACE).map_err(|e| cannot_write(to, &e))?;
    sync_folder(around)
}

/// Makes `folder`, which is beneath `above`, what it was when `copy` was taken. Every hash is held against what is copied
/// back before anything is exchanged; what was in the folder since is gone then.
///
/// # Errors
/// Where the copy is not whole or was damaged: nothing is changed then. Or where it cannot be written.
pub fn put_back(copy: &Path, above: &Path, folder: &Path) -> Result<()> {
    let list = read_list(copy)?;
    let around = parent_of(folder);
    let around = Folder::find(above, around)?.ok_or_else(|| gone(around))?;
    let aside = around.name().join(ASIDE);
    file::clear(&aside)?;
    // Root's, until all is in it: nobody else can enter meanwhile. It inherits the default ACL of the folder around it.
    make_folder(&aside)?;
    let new = Folder::find(&around.name(), &aside)?.ok_or_else(|| gone(folder))?;
    let top = new.name();
    for entry in &list.entries {
        let to = top.join(inner(&entry.path)?);
        match &entry.sha256 {
            None => make_folder(&to)?,
            Some(sha256) => {
                let from = copy.join(FILES).join(&entry.path);
                if copy_file(&file::open_plain(&from)?, &to, entry.access)? != *sha256 {
                    return Err(damaged(copy, &format!("{} is not what was copied", from.display())));
                }
            }
        }
    }
    // From the innermost out: an owner may enter when all below is done.
    for (path, access) in
        list.entries.iter().rev().filter(|e| e.sha256.is_none()).map(|e| (top.join(&e.path), e.access))
    {
        settle(&path, access)?;
    }
    settle(&top, list.access)?;
    exchange(&around.name(), folder)?;
    sync_folder(&around.name())?;
    file::clear(&around.name().join(GONE))?;
    file::clear(&aside)
}

/// Exchanges the folder with the new one beside it, in one go where the file system can.
fn exchange(around: &Path, folder: &Path) -> Result<()> {
    let (new, gone) = (around.join(ASIDE), around.join(GONE));
    let place = around.join(folder.file_name().unwrap_or_default());
    let exchanged = match file::rename_with(&new, &place, nix::libc::RENAME_EXCHANGE) {
        Err(e) if e.kind() == ErrorKind::NotFound => std::fs::rename(&new, &place),
        Err(e) if e.kind() == ErrorKind::InvalidInput => {
            file::clear(&gone)?;
            std::fs::rename(&place, gone).and_then(|()| std::fs::rename(&new, &place))
        }
        done => done,
    };
    exchanged.map_err(|e| cannot_write(folder, &e))
}

fn settle(path: &Path, access: Access) -> Result<()> {
    let folder = File::open(path).map_err(|e| cannot_read(path, &e))?;
    grant(&folder, access).and_then(|()| folder.sync_all()).map_err(|e| cannot_write(path, &e))
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(|e| cannot_write(path, &e))
}

/// Copies one file to a new one, synced; its hash in hex.
fn copy_file(mut from: &File, to: &Path, access: Access) -> Result<String> {
    let cannot = |e: std::io::Error| cannot_write(to, &e);
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(to);
    let mut file = open.map_err(cannot)?;
    grant(&file, access).map_err(cannot)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    // No more than it was when it was looked at.
    let mut left = from.metadata().map_err(cannot)?.len();
    loop {
        let n = from.read(&mut buffer).map_err(cannot)?;
        if n == 0 {
            break;
        }
        left = left.checked_sub(n as u64).ok_or_else(|| beneath::refuse(to, "grew while it was copied"))?;
        hash.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(cannot)?;
    }
    file.sync_all().map_err(cannot)?;
    Ok(hex::encode(hash.finalize()))
}

/// All below a folder, each file with its hash.
fn hashes(top: &Folder) -> Result<BTreeMap<PathBuf, Option<String>>> {
    let mut found = BTreeMap::new();
    walk(top, &mut |path, _, entry| {
        let sha256 = match entry {
            Entry::Folder(_) => None,
            Entry::File(file) => {
                let cannot = |e: std::io::Error| cannot_read(path, &e);
                let mut hash = Sha256::new();
                // No more than it was when it was looked at.
                let length = file.metadata().map_err(cannot)?.len();
                std::io::copy(&mut file.take(length), &mut hash).map_err(cannot)?;
                Some(hex::encode(hash.finalize()))
            }
        };
        found.insert(path.to_owned(), sha256);
        Ok(())
    })?;
    Ok(found)
}

/// Visits all below a folder, each folder before what is in it, by its path from the top.
fn walk(top: &Folder, visit: &mut dyn FnMut(&Path, Access, &Entry) -> Result<()>) -> Result<()> {
    let mut left = MOST;
    let mut inside = |folder: &Folder, at: &Path| -> Result<Vec<(PathBuf, Box<Folder>)>> {
        let names = folder.names(left)?;
        left -= names.len();
        let mut folders = Vec::new();
        for name in names {
            let path = at.join(&name);
            let entry = folder.enter(&name)?;
            let access = match &entry {
                Entry::Folder(folder) => folder.access(),
                Entry::File(file) => beneath::access_of(&file.metadata().map_err(|e| cannot_read(&path, &e))?),
            };
            visit(&path, access, &entry)?;
            if let Entry::Folder(folder) = entry {
                folders.push((path, folder));
            }
        }
        Ok(folders)
    };
    let mut waiting = inside(top, Path::new(""))?;
    while let Some((path, folder)) = waiting.pop() {
        waiting.extend(inside(&folder, &path)?);
    }
    Ok(())
}

fn folders(entries: &[Listed]) -> impl Iterator<Item = &Path> {
    entries.iter().filter(|entry| entry.sha256.is_none()).map(|entry| entry.path.as_path())
}

fn find(above: &Path, folder: &Path) -> Result<Folder> {
    Folder::find(above, folder)?.ok_or_else(|| gone(folder))
}

fn read_list(copy: &Path) -> Result<List> {
    if !is_whole(copy)? {
        return Err(damaged(copy, "it was cut off, or is gone"));
    }
    let bytes = file::read_plain(&copy.join(LIST), LIST_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|e| damaged(copy, "its list does not read").because(e))
}

/// A path from the top, which a list says: it stays below.
fn inner(path: &Path) -> Result<&Path> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some() {
        return Ok(path);
    }
    Err(damaged(path, "its list names what is not in it"))
}

fn gone(folder: &Path) -> Error {
    Error::new(NO_FOLDER, format!("there is no folder {}", folder.display()))
}

fn damaged(copy: &Path, why: &str) -> Error {
    Error::new(DAMAGED, format!("the copy {} cannot be used: {why}", copy.display()))
        .hint("the folder that it is of was left as it is; put the copy back from a backup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A signer's folder with a database in it, and where its copy goes.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("signer/data"), dir.path().join("copy"));
        fs::create_dir_all(data.join("chain/regtest")).unwrap();
        fs::create_dir(data.join("empty")).unwrap();
        fs::create_dir(&copy).unwrap();
        fs::write(data.join("chain/regtest/wallet.db"), "old").unwrap();
        fs::set_permissions(data.join("chain/regtest"), PermissionsExt::from_mode(0o700)).unwrap();
        fs::set_permissions(data.join("chain/regtest/wallet.db"), PermissionsExt::from_mode(0o600)).unwrap();
        (dir, data, copy)
    }

    fn listing(folder: &Path) -> Vec<(PathBuf, u32, u32, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut waiting = vec![folder.to_owned()];
        while let Some(path) = waiting.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            found.push((path.clone(), meta.mode(), meta.uid(), fs::read(&path).ok()));
        }
        found.sort();
        found
    }

    #[test]
    fn what_was_copied_comes_back_and_nothing_else_stays() {
        let (dir, data, copy) = place();
        let before = listing(&dir.path().join("signer"));
        check(dir.path(), &data, &copy).unwrap();
        take(dir.path(), &data, &copy).unwrap();
        fs::write(data.join("chain/regtest/wallet.db"), "migrated").unwrap();
        fs::write(data.join("new"), "x").unwrap();
        fs::remove_dir(data.join("empty")).unwrap();
        // What an earlier try left, or lnd planted.
        symlink("/", dir.path().join("signer").join(ASIDE)).unwrap();
        for _ in 0..2 {
            put_back(&copy, dir.path(), &data).unwrap();
            assert_eq!(listing(&dir.path().join("signer")), before);
        }
        // Also where it was lost altogether.
        fs::remove_dir_all(&data).unwrap();
        put_back(&copy, dir.path(), &data).unwrap();
        assert_eq!(listing(&dir.path().join("signer")), before);
    }

    #[test]
    fn a_copy_that_was_cut_off_or_damaged_is_not_put_back() {
        let (dir, data, copy) = place();
        take(dir.path(), &data, &copy).unwrap();
        let list = fs::read_to_string(copy.join(LIST)).unwrap();
        for bad in [
            list.replace("chain/regtest/wallet.db", "../wallet.db"),
            list.replace("chain/regtest/wallet.db", "/wallet.db"),
            "{".to_owned(),
        ] {
            fs::write(copy.join(LIST), bad).unwrap();
            assert_eq!(put_back(&copy, dir.path(), &data).unwrap_err().code(), DAMAGED);
        }
        fs::write(copy.join(LIST), &list).unwrap();
        fs::write(copy.join(FILES).join("chain/regtest/wallet.db"), "other").unwrap();
        assert_eq!(put_back(&copy, dir.path(), &data).unwrap_err().code(), DAMAGED);
        fs::remove_file(copy.join(LIST)).unwrap();
        assert!(!is_whole(&copy).unwrap());
        assert_eq!(put_back(&copy, dir.path(), &data).unwrap_err().code(), DAMAGED);
        assert_eq!(fs::read(data.join("chain/regtest/wallet.db")).unwrap(), b"old");
        // A later one takes its place.
        take(dir.path(), &data, &copy).unwrap();
        put_back(&copy, dir.path(), &data).unwrap();
    }

    #[test]
    fn what_lnd_would_not_put_there_is_refused() {
        let (dir, data, copy) = place();
        let planted = data.join("chain/planted");
        let plant: [&dyn Fn(); 3] = [
            &|| symlink("/etc/shadow", &planted).unwrap(),
            &|| nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            &|| symlink("..", &planted).unwrap(),
        ];
        for plant in plant {
            plant();
            for refused in [check(dir.path(), &data, &copy), take(dir.path(), &data, &copy)] {
                assert_eq!(refused.unwrap_err().code().id, "E-HOST-060");
            }
            assert!(!is_whole(&copy).unwrap());
            fs::remove_file(&planted).unwrap();
        }
        let _listener = UnixListener::bind(&planted).unwrap();
        assert_eq!(check(dir.path(), &data, &copy).unwrap_err().code().id, "E-HOST-060");
        fs::remove_file(&planted).unwrap();
        // A file that says to be larger than any disk.
        File::create(&planted).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(check(dir.path(), &data, &copy).unwrap_err().code(), NO_ROOM);
        fs::remove_file(&planted).unwrap();
        fs::rename(&data, dir.path().join("signer/elsewhere")).unwrap();
        assert_eq!(check(dir.path(), &data, &copy).unwrap_err().code(), NO_FOLDER);
        symlink("elsewhere", &data).unwrap();
        assert_eq!(check(dir.path(), &data, &copy).unwrap_err().code().id, "E-HOST-060");
    }

    #[test]
    fn a_folder_that_somebody_fills_is_not_copied() {
        let (dir, data, _) = place();
        let (above, to) = (dir.path().join("signer"), dir.path().join("copy/data"));
        let owner = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        let wallet = data.join("chain/regtest/wallet.db");
        let mut holder =
            std::process::Command::new("sleep").arg("60").stdin(File::open(&wallet).unwrap()).spawn().unwrap();
        let refused = copy(&above, &data, &to, owner);
        holder.kill().and_then(|()| holder.wait()).unwrap();
        assert!(refused.unwrap_err().cause().contains(&holder.id().to_string()) && !to.exists());
        // By this very process, which counts for no other.
        let (filled, done) = (File::options().write(true).open(&wallet).unwrap(), AtomicBool::new(false));
        let refused = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for count in (0u32..).take_while(|_| !done.load(Ordering::SeqCst)) {
                    filled.write_all_at(&count.to_le_bytes()[..3], 0).unwrap();
                }
            });
            let refused = copy(&above, &data, &to, owner);
            done.store(true, Ordering::SeqCst);
            writer.join().unwrap();
            refused
        });
        assert_eq!(refused.unwrap_err().code(), CHANGED);
        assert!(!to.exists());
        copy(&above, &data, &to, owner).unwrap();
        assert_eq!(fs::read(to.join("chain/regtest/wallet.db")).unwrap(), fs::read(&wallet).unwrap());
    }
}
