//! Extended attributes: access control lists, security labels, and what users add (xattr(7), acl(5)).

use crate::error::Result;
use crate::host::file::{cannot_read, cannot_write};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use xattr::{FileExt, XAttrs};

/// Attributes by name.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// The attributes of what is at `path`, of a link its own; none where the file system has none.
///
/// # Errors
/// Where they cannot be read.
pub fn read(path: &Path) -> Result<Attributes> {
    collect(xattr::list(path), |name| xattr::get(path, name), path)
}

/// The attributes of the open `file`, which is at `path`; none where the file system has none.
///
/// # Errors
/// Where they cannot be read.
pub fn read_open(file: &File, path: &Path) -> Result<Attributes> {
    collect(file.list_xattr(), |name| file.get_xattr(name), path)
}

fn collect(
    names: io::Result<XAttrs>,
    get: impl Fn(&OsStr) -> io::Result<Option<Vec<u8>>>,
    path: &Path,
) -> Result<Attributes> {
    let names = match names {
        Ok(names) => names,
        Err(e) if e.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return Ok(Attributes::new()),
        Err(e) => return Err(cannot_read(path, &e)),
    };
    let mut found = Attributes::new();
    for name in names {
        if let Some(value) = get(&name).map_err(|e| cannot_read(path, &e))? {
            found.insert(name.to_string_lossy().into_owned(), value);
        }
    }
    Ok(found)
}

/// True where what is at `path` could have the attribute and has it not; false also where that cannot be told.
pub fn is_without(path: &Path, name: &str) -> bool {
    matches!(xattr::get(path, name), Ok(None))
}

/// Gives the open `file`, which is or will be `path`, these attributes and no other.
///
/// # Errors
/// Where one cannot be set or removed.
pub fn write(file: &File, path: &Path, wanted: &Attributes) -> Result<()> {
    let cannot = |e: std::io::Error| cannot_write(path, &e);
    let there = match file.list_xattr() {
        Ok(names) => names,
        Err(e) if e.raw_os_error() == Some(nix::libc::EOPNOTSUPP) && wanted.is_empty() => return Ok(()),
        Err(e) => return Err(cannot(e)),
    };
    for name in there.filter(|name| !wanted.contains_key(&*name.to_string_lossy())) {
        file.remove_xattr(&name).map_err(cannot)?;
    }
    for (name, value) in wanted {
        if file.get_xattr(name).map_err(cannot)?.as_ref() != Some(value) {
            file.set_xattr(name, value).map_err(cannot)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::create(&path).unwrap();
        let before = read(&path).unwrap();
        let mut wanted = before.clone();
        wanted.insert("user.lsm".to_owned(), b"x".to_vec());
        if write(&file, &path, &wanted).is_err() {
            return; // A file system without attributes for users.
        }
        assert_eq!(read(&path).unwrap(), wanted);
        write(&file, &path, &before).unwrap();
        assert_eq!(read(&path).unwrap(), before);
    }
}
