//! A verified archive: its bytes are those that were hashed, so nothing can change between the check and the use.

use crate::archive;
use crate::error::{Code, Error, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access};
use crate::release::pins::{self, Arch, Release};
use flate2::read::GzDecoder;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

const NOT_THE_PINNED: Code = Code::unverified("E-RELEASE-030");
const CUT_SHORT: Code = Code::unverified("E-RELEASE-031");
const UNKNOWN: Code = Code::unverified("E-RELEASE-032");
const NO_ARCHIVE: Code = Code::usage("E-RELEASE-033");
const WRONG_PROGRAM: Code = Code::unverified("E-RELEASE-034");

/// Official archives are 30 to 50 MiB.
const ARCHIVE_LIMIT: u64 = 128 << 20;
/// lnd and lncli together are about 100 MiB.
const PROGRAMS_LIMIT: u64 = 512 << 20;
/// What an archive holds.
const PROGRAMS: [&str; 2] = ["lnd", "lncli"];

/// Something that was held against a pin. Only this room can make one.
#[derive(Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// How an archive came to be what it is; several may hold at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Provenance {
    /// Its SHA-256 is the pinned one.
    Pin {
        /// In hexadecimal.
        sha256: String,
    },
    /// It was built here, from the modules with these hashes.
    SourceBuild {
        /// Of lnd's module zip.
        lnd_module: String,
        /// Of the Go toolchain's module zip.
        toolchain: String,
        /// The Go version.
        go: String,
    },
    /// It was downloaded.
    Download {
        /// From here.
        url: String,
    },
}

/// An official archive, held in memory.
#[derive(Serialize)]
pub struct Archive {
    version: &'static str,
    arch: Arch,
    sha256: String,
    path: PathBuf,
    provenance: Vec<Provenance>,
    #[serde(skip)]
    release: &'static Release,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.version, self.arch, self.sha256)
    }
}

impl Archive {
    /// The release that it is.
    pub fn release(&self) -> &'static Release {
        self.release
    }

    /// The processor that it is for.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Its SHA-256, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it came to be what it is.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }
}

/// Reads an archive, or the one archive in a folder, and holds it against the pins.
///
/// # Errors
/// Where there is none, it cannot be read, or it is not an official archive that lsm knows: cut short, changed, other.
pub fn verify(path: &Path) -> Result<Verified<Archive>> {
    let path = if path.is_dir() { only_archive_in(path)? } else { path.to_owned() };
    let bytes = file::read(&path, ARCHIVE_LIMIT)?;
    judge(path, bytes)
}

fn judge(path: PathBuf, bytes: Vec<u8>) -> Result<Verified<Archive>> {
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let Some((release, arch)) = pins::in_force()?.find_archive(&sha256) else {
        return Err(explain(&path, &bytes, &sha256));
    };
    release.live_pin(arch)?;
    let provenance = vec![Provenance::Pin { sha256: sha256.clone() }];
    Ok(Verified(Archive { version: &release.version, arch, sha256, path, provenance, release, bytes }))
}

impl Verified<Archive> {
    /// Verifies `path` and demands that it is the archive of `release` for `arch`.
    pub(super) fn expect(path: &Path, release: &Release, arch: Arch) -> Result<Self> {
        let archive = verify(path)?;
        if archive.sha256 == release.pin(arch)?.sha256 {
            return Ok(archive);
        }
        let (path, is) = (path.display(), &archive.0);
        Err(Error::new(NOT_THE_PINNED, format!("{path} is lnd {} for {}, not what was asked for", is.version, is.arch)))
    }

    /// Puts a file that came or was built into its place, if it is the archive of `release` for `arch`; else it is gone.
    ///
    /// # Errors
    /// Where it is not, or cannot be put there.
    pub(super) fn hold(draft: Draft, release: &Release, arch: Arch) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut file = draft.file().take(ARCHIVE_LIMIT);
        let read = std::io::Seek::rewind(&mut draft.file()).and_then(|()| file.read_to_end(&mut bytes));
        read.map_err(|e| Error::new(NOT_THE_PINNED, format!("cannot read {} back: {e}", draft.place().display())))?;
        let (found, pinned) = (hex::encode(Sha256::digest(&bytes)), &release.live_pin(arch)?.sha256);
        if found != *pinned {
            let cause = format!("{} came out as {found}, not as the official archive", release.archive_name(arch));
            return Err(Error::new(NOT_THE_PINNED, cause).hint(format!("pinned is {pinned}; nothing was kept")));
        }
        let path = draft.place().to_owned();
        draft.keep(Durable::No)?;
        judge(path, bytes)
    }

    /// Adds how it came to be.
    pub(super) fn because_of(mut self, provenance: Provenance) -> Self {
        self.0.provenance.push(provenance);
        self
    }

    /// Puts `lnd` and `lncli` into `folder`, which must exist: 0755, owned by whoever runs lsm, each put in its place
    /// by rename when it is whole.
    ///
    /// # Errors
    /// Where writing fails, or a program is not the pinned one; nothing half-written stays.
    pub fn unpack(&self, folder: &Path, durable: Durable) -> Result<()> {
        let mut drafts = Vec::new();
        let top = self.release.archive_name(self.arch);
        archive::unpack(&self.bytes, &top, &PROGRAMS, PROGRAMS_LIMIT, |name, from| {
            let mut draft = Draft::begin(&folder.join(name), Access::mode(0o755))?;
            let sha256 = copy(from, &mut draft)?;
            let pin = self.release.pin(self.arch)?;
            let pinned = if name == "lnd" { &pin.lnd } else { &pin.lncli };
            if pinned.as_ref().is_some_and(|p| *p != sha256) {
                return Err(Error::new(
                    WRONG_PROGRAM,
                    format!("{name} in the archive is not the pinned one: {sha256}"),
                ));
            }
            drafts.push(draft);
            Ok(())
        })?;
        // Only when both are whole does either get its name.
        drafts.into_iter().try_for_each(|draft| draft.keep(durable))
    }
}

fn copy(from: &mut dyn Read, draft: &mut Draft) -> Result<String> {
    let cannot = |e: std::io::Error| Error::new(WRONG_PROGRAM, format!("cannot unpack the archive: {e}"));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut buffer).map_err(cannot)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
        draft.write_all(&buffer[..n]).map_err(cannot)?;
    }
}

/// Says what is wrong with an archive whose hash nobody pinned.
fn explain(path: &Path, bytes: &[u8], sha256: &str) -> Error {
    let shown = path.display();
    let again = "get it again, or build it with: lsm release build";
    let mut decoded = GzDecoder::new(bytes).take(PROGRAMS_LIMIT);
    match std::io::copy(&mut decoded, &mut std::io::sink()) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            Error::new(CUT_SHORT, format!("{shown} is cut short: it ends after {} bytes", bytes.len())).hint(again)
        }
        Err(e) => {
            Error::new(UNKNOWN, format!("{shown} was changed or is no lnd archive: {e} (sha256 {sha256})")).hint(again)
        }
        Ok(_) => Error::new(UNKNOWN, format!("{shown} is no archive that lsm has a pin for (sha256 {sha256})"))
            .hint("lsm release list names the versions that it knows"),
    }
}

fn only_archive_in(folder: &Path) -> Result<PathBuf> {
    let no = |why: String| Error::new(NO_ARCHIVE, why).hint("name the archive itself");
    let entries = std::fs::read_dir(folder).map_err(|e| no(format!("cannot read {}: {e}", folder.display())))?;
    let is_archive = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("lnd-linux-") && name.ends_with(".tar.gz")
    };
    let mut found: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(is_archive).collect();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(no(format!("{} holds no lnd-linux-*.tar.gz", folder.display()))),
        (Some(_), more) => Err(no(format!("{} holds {} archives", folder.display(), more + 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    #[test]
    fn what_is_wrong_with_an_archive_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lnd-linux-amd64-v1.tar.gz");
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&[7; 100_000]).unwrap();
        let whole = gz.finish().unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (bytes, code, word) in [
            (&whole[..], UNKNOWN, "no archive that lsm has a pin for"),
            (&whole[..whole.len() / 2], CUT_SHORT, "cut short"),
            (&flipped[..], UNKNOWN, "was changed"),
            (b"", CUT_SHORT, "cut short"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            // By name and by the folder that holds it.
            for asked in [path.as_path(), dir.path()] {
                let error = verify(asked).unwrap_err();
                assert_eq!(error.code(), code, "{error}");
                assert!(error.cause().contains(word), "{error}");
            }
        }
    }

    #[test]
    fn a_folder_without_one_archive_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(verify(dir.path()).unwrap_err().code(), NO_ARCHIVE);
        for name in ["lnd-linux-amd64-v1.tar.gz", "lnd-linux-arm64-v1.tar.gz"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        assert_eq!(verify(dir.path()).unwrap_err().code(), NO_ARCHIVE);
    }
}
