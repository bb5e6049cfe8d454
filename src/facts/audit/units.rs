//! What systemd has of the signers, now and after a reboot.

use super::Signer;
use serde::{Deserialize, Serialize};

/// What systemd has of the signers, now and after a reboot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Units {}

impl Units {
    pub(super) fn gather(_signers: &[Signer]) -> Self {
        Self {}
    }
}
