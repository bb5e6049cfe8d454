//! Where a bundle comes from: a folder, an archive's file, or its base64 as it was pasted.

use super::{ENCRYPTED, LARGEST_MEMBER, MEMBERS, Members, archive};
use crate::age::{self, Identity};
use crate::error::{Code, Error, Result};
use crate::host::file;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

const NOT_THERE: Code = Code::usage("E-BUNDLE-020");
const NO_BUNDLE: Code = Code::usage("E-BUNDLE-021");
const NO_KEY: Code = Code::usage("E-BUNDLE-022");

/// The largest archive that is read, base64 included.
const LARGEST_ARCHIVE: u64 = 16 << 20;
/// The first bytes of gzip, and the same in base64.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const GZIP_BASE64: &[u8] = b"H4sI";
/// The set-user-ID and set-group-ID bits of a mode.
const SET_ID: u32 = 0o6000;

pub(super) fn read(source: &str, key: Option<&Path>) -> Result<Members> {
    if source == "-" {
        return read_archive(&read_input()?, "standard input", key);
    }
    let path = Path::new(source);
    // A pasted bundle is longer than any file name may be: the system then says so, and it is no path.
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => read_folder(path, key),
        Ok(_) => read_archive(&Zeroizing::new(file::read_named(path, LARGEST_ARCHIVE)?), source, key),
        Err(_) if squeeze(source.as_bytes()).starts_with(GZIP_BASE64) || age::is_encrypted(source.as_bytes()) => {
            read_archive(source.as_bytes(), "the text", key)
        }
        Err(e) if source.len() > 4096 || source.contains('\n') => {
            Err(Error::new(NO_BUNDLE, "the text is no bundle in base64: such a one begins with H4sI").because(e))
        }
        Err(e) => Err(Error::new(NOT_THERE, format!("there is no bundle at {source:?}: {e}"))
            .hint("name its folder, its archive, or paste the whole base64 text")),
    }
}

/// Standard input: the way in for a pasted bundle, since other users can read a command line.
fn read_input() -> Result<Zeroizing<Vec<u8>>> {
    file::read_input(LARGEST_ARCHIVE).map_err(|e| Error::new(NOT_THERE, format!("cannot read standard input: {e}")))
}

fn read_folder(folder: &Path, key: Option<&Path>) -> Result<Members> {
    let encrypted = folder.join(ENCRYPTED);
    // One beside the members themselves says nothing more than they do.
    if !file::is_there(&folder.join(MEMBERS[0]))? && file::is_there(&encrypted)? {
        return read_archive(&file::read_plain(&encrypted, LARGEST_ARCHIVE)?, &encrypted.display().to_string(), key);
    }
    let mut members = Members::default();
    for name in MEMBERS {
        let path = folder.join(name);
        let found = match std::fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::new(NOT_THERE, format!("cannot look at {}: {e}", path.display()))),
        };
        if !found.is_file() {
            return Err(Error::new(NO_BUNDLE, format!("{} is no plain file", path.display())));
        }
        if found.permissions().mode() & SET_ID != 0 {
            return Err(Error::new(NO_BUNDLE, format!("{} is set-user-ID or set-group-ID", path.display()))
                .hint("no bundle's file is: find out who made it so"));
        }
        let content = Zeroizing::new(file::read_plain(&path, LARGEST_MEMBER)?);
        *members.place(name).expect("a member's own name") = Some(content);
    }
    Ok(members)
}

fn read_archive(bytes: &[u8], shown: &str, key: Option<&Path>) -> Result<Members> {
    if age::is_encrypted(bytes) {
        let key = key.ok_or_else(|| {
            Error::new(NO_KEY, format!("{shown} is encrypted")).hint("name the file of its age key: --identity FILE")
        })?;
        let opened = age::decrypt(bytes, &Identity::read(key)?)?;
        return read_archive(opened.expose(), "what was encrypted", None);
    }
    if bytes.starts_with(&GZIP) {
        return archive::unpack(bytes);
    }
    let text = squeeze(bytes);
    if text.is_empty() {
        return Err(Error::new(NO_BUNDLE, format!("{shown} is empty")));
    }
    let decoded = STANDARD.decode(&*text).map_err(|e| {
        Error::new(NO_BUNDLE, format!("{shown} is no bundle: neither gzip nor base64 ({e})"))
            .hint("was it cut short while it was copied?")
    })?;
    let decoded = Zeroizing::new(decoded);
    if !decoded.starts_with(&GZIP) {
        return Err(Error::new(NO_BUNDLE, format!("{shown} is base64, but of no archive")));
    }
    archive::unpack(&decoded)
}

/// Without white space: wrapped lines, CRLF and the spaces of a paste all read alike. With room for all of it: a buffer that
/// grows leaves copies of a secret behind.
fn squeeze(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut squeezed = Zeroizing::new(Vec::<u8>::with_capacity(bytes.len()));
    squeezed.extend(bytes.iter().filter(|b| !b.is_ascii_whitespace()));
    squeezed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_is_squeezed_in_one_place() {
        let pasted = "H4sI\r\n  AAAA\n".repeat(1000);
        let squeezed = squeeze(pasted.as_bytes());
        assert_eq!((squeezed.len(), squeezed.capacity()), (8000, pasted.len()));
        assert!(squeezed.starts_with(b"H4sIAAAAH4sI"));
    }
}
