//! How secrets lie on the host: never what is in them.

use super::Signer;
use serde::{Deserialize, Serialize};

/// How secrets lie on the host: never what is in them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Secrets {}

impl Secrets {
    pub(super) fn gather(_signers: &[Signer]) -> Self {
        Self {}
    }
}
