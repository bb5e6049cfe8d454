//! Users, groups, and what makes one of them more than itself.

use super::Signer;
use serde::{Deserialize, Serialize};

/// Users, groups, and what makes one of them more than itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Accounts {}

impl Accounts {
    pub(super) fn gather(_signers: &[Signer]) -> Self {
        Self {}
    }
}
