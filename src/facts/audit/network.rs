//! Sockets and the live packet filter.

use super::Signer;
use serde::{Deserialize, Serialize};

/// Sockets and the live packet filter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Network {}

impl Network {
    pub(super) fn gather(_signers: &[Signer]) -> Self {
        Self {}
    }
}
