//! Settings of the running kernel, files below /proc/sys (proc_sys(5)).

use crate::error::{Code, Error, Result};
use crate::host::file;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

const CANNOT_SET: Code = Code::refused("E-HOST-090");

/// A pattern is the longest of them, with 128 bytes (core(5)).
const LIMIT: u64 = 4096;

/// What the setting is now, without the line's end; `None` where this kernel has no such one.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        _ => Ok(Some(String::from_utf8_lossy(&file::read_plain(path, LIMIT)?).trim().to_owned())),
    }
}

/// Sets it, until the next boot.
///
/// # Errors
/// Where the kernel does not take the value (some go one way alone), or lets nobody set it from here.
pub fn write(path: &Path, value: &str) -> Result<()> {
    // A kernel reads a setting from one write(2).
    let set = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    set.map_err(|e| Error::new(CANNOT_SET, format!("cannot set {} to {value}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_without_its_line_end_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scope");
        assert_eq!(read(&path).unwrap(), None);
        assert!(write(&path, "1").is_err() && !path.exists());
        std::fs::write(&path, "0\n").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("0"));
        write(&path, "1").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().chars().next(), Some('1'));
    }
}
