//! The programs that hold the keys: whose they are, and whether they are what was verified.

use super::Signer;
use serde::{Deserialize, Serialize};

/// The programs that hold the keys: whose they are, and whether they are what was verified.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Binaries {}

impl Binaries {
    pub(super) fn gather(_signers: &[Signer]) -> Self {
        Self {}
    }
}
