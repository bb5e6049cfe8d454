//! Whether a guard hears what is asked of the signer, and whether it can refuse.

use serde::{Deserialize, Serialize};

/// What the guard may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// There is none: lnd signs what it is asked.
    #[default]
    Off,
    /// It writes down what it would refuse, and refuses nothing. lnd signs without it too.
    Observe,
    /// It refuses. Without it lnd answers nobody.
    Enforce,
}

impl Guard {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    /// True where there is one.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// True where there is none: what a spec leaves out.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn is_off(&self) -> bool {
        !self.is_on()
    }
}
