//! What stays beside an unpacked lnd: where it came from, who vouched for it, and when.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::release::pins::Arch;
use crate::release::verified::{Archive, Provenance, Verified};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NOT_KEPT: Code = Code::lacking("E-RELEASE-090");
const UNREADABLE: Code = Code::refused("E-RELEASE-091");

/// The file's name in the folder of an unpacked release.
const NAME: &str = "provenance.json";
/// Some kilobytes, most of it signers.
const LIMIT: u64 = 256 << 10;

/// How an unpacked lnd is known to be the real one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The version.
    pub version: String,
    /// The processor.
    pub arch: Arch,
    /// The archive's SHA-256, in hexadecimal.
    pub sha256: String,
    /// What spoke for it.
    pub provenance: Vec<Provenance>,
    /// When it was verified and unpacked, as RFC 3339 has it.
    pub at: String,
}

impl Installed {
    /// What is said of `archive`, which is unpacked now.
    pub fn now(archive: &Verified<Archive>) -> Self {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self {
            version: archive.release().version.clone(),
            arch: archive.arch(),
            sha256: archive.sha256().to_owned(),
            provenance: archive.provenance().to_vec(),
            at: now.format(&Rfc3339).unwrap_or_default(),
        }
    }

    /// Where it stays, in the folder of an unpacked release.
    pub fn place(folder: &Path) -> PathBuf {
        folder.join(NAME)
    }

    /// The files of a release that is unpacked in `folder`.
    pub fn files(folder: &Path) -> [PathBuf; 3] {
        [folder.join("lnd"), folder.join("lncli"), Self::place(folder)]
    }

    /// Writes it into the folder that the release was unpacked to.
    ///
    /// # Errors
    /// Where that fails.
    pub fn keep(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::new(NOT_KEPT, "an archive's provenance cannot be written").because(e))?;
        file::replace(&Self::place(folder), format!("{text}\n").as_bytes(), Access::mode(0o644))
    }

    /// Reads it from the folder of an unpacked release; nothing where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = Self::place(folder);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = file::read_plain(&path, LIMIT)?;
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|e| {
            Error::new(UNREADABLE, format!("{} cannot be read", path.display()))
                .hint("move it away, and let lsm install unpack the release again")
                .because(e)
        })
    }
}
