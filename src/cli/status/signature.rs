//! When something was signed last, as far as anybody saw it: lnd itself writes nothing down.

use crate::backend::Layout;
use crate::cli::guard::read_file;
use crate::guard::entry::Verdict;
use crate::guard::log;
use crate::plan::History;
use crate::spec::Spec;
use serde::Serialize;

/// The calls that sign for a watch-only node.
const SIGNING: [&str; 3] =
    ["/walletrpc.WalletKit/SignPsbt", "/signrpc.Signer/SignMessage", "/signrpc.Signer/MuSig2Sign"];

/// The last signature that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Signature {
    /// In seconds since 1970.
    pub(super) at: u64,
    /// By whom.
    pub(super) seen_by: Witness,
}

/// Who sees signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Witness {
    /// The guard: every one.
    Guard,
    /// lsm: those that it asked for itself.
    Lsm,
}

impl Witness {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Lsm => "lsm",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Guard => "the guard's log",
            Self::Lsm => "lsm's own proof; who else had one only a guard would know",
        }
    }
}

impl Signature {
    /// The last one that is known of; nothing where that cannot be seen.
    pub(super) fn look(spec: &Spec, layout: &Layout, history: Option<&History>) -> Option<Self> {
        if !spec.guard.is_on() {
            return Some(Self { at: history?.proved_at()?, seen_by: Witness::Lsm });
        }
        let last = log::find_last(&layout.guard_log(), read_file, |entry| {
            entry.verdict != Verdict::Refused && SIGNING.contains(&entry.call.as_str())
        });
        Some(Self { at: last.ok()??.at / 1000, seen_by: Witness::Guard })
    }
}
