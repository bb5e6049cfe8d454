//! A signed update, as it is given and as it is kept.

use crate::error::{Code, Error, Result};
use crate::host::file;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const NO_SIGNATURE: Code = Code::usage("E-UPDATE-002");

/// A policy is a few kilobytes.
const TEXT_LIMIT: u64 = 1 << 20;
/// minisign's own comments are at most 8 KiB.
const SIGNATURE_LIMIT: u64 = 16 << 10;

/// The bytes of an update and of its signature, as somebody gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The TOML text.
    pub text: Vec<u8>,
    /// The minisign signature over it.
    pub signature: Vec<u8>,
}

/// An update that was accepted, now or before.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// Its place in the order of updates.
    pub counter: u64,
    /// The id of the key that signed it.
    pub key: String,
    /// When its pins end, as it says so itself.
    pub expires: String,
    /// The trusted comment of its signature: text of whoever signed.
    pub comment: String,
    /// True where its pins have ended; its judgements stay.
    pub expired: bool,
    /// True where this lsm was shipped with a newer policy: its judgements alone are used.
    pub superseded: bool,
    #[serde(skip)]
    pub(super) digest: [u8; 32],
}

impl Signed {
    /// Reads `file` and the signature beside it, `file.minisig`.
    ///
    /// # Errors
    /// Where one cannot be read, or is larger than such a file can be.
    pub fn read(file: &Path) -> Result<Self> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        let beside = PathBuf::from(beside);
        let text = file::read_named(file, TEXT_LIMIT)?;
        if !beside.exists() {
            return Err(Error::new(NO_SIGNATURE, format!("there is no signature {}", beside.display()))
                .hint("an update is two files: FILE and FILE.minisig"));
        }
        Ok(Self { text, signature: file::read_named(&beside, SIGNATURE_LIMIT)? })
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let parts = [Sha256::digest(&self.text), Sha256::digest(&self.signature)];
        Sha256::digest(parts.concat()).into()
    }
}

impl Accepted {
    /// Whether it is `signed`, byte for byte.
    pub(in crate::release) fn is(&self, signed: &Signed) -> bool {
        self.digest == signed.digest()
    }
}
