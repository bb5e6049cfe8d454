//! A transaction of which something was signed, as it is remembered, and how much leaves by many of them.

use super::spend::{Spend, is_zero, sum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(is: &bool) -> bool {
    !is
}

/// By which approval something was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// Its entry.
    pub entry: u64,
    /// When that was approved.
    pub at: u64,
}

/// A transaction of which something was signed, and what that was counted as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// When that was last, in milliseconds since 1970.
    pub at: u64,
    /// The transaction.
    pub txid: String,
    /// The output that its first input spends.
    pub first: String,
    /// All of the wallet's coins that were signed for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signed: BTreeMap<u32, u64>,
    /// All that was swept from channels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub swept: BTreeMap<u32, u64>,
    /// What of it left the wallet, in satoshis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub coins: u64,
    /// What of it went into channels, in satoshis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channels: u64,
    /// The outputs that are channels' only as far as somebody says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproved: Vec<u32>,
    /// What of it went into channels pays none of their outputs alone: it is the fee by which a HTLC is claimed, or not yet asked for whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_less: bool,
    /// It has several inputs, and what comes back is set against them together. That all were signed for does not end that: what is
    /// said of an input's amount may be a lie the first time, and the truth the next.
    #[serde(default, skip_serializing_if = "is_false")]
    pub together: bool,
    /// All of it is swept to the wallet itself, and no coin of the wallet's is in it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub comes_back: bool,
    /// By which approval it was signed, where the limits would not have let it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approved>,
}

impl Signed {
    /// A spend, counted as nothing.
    pub(super) fn of(whole: &Spend, at: u64) -> Self {
        let (txid, first) = (whole.txid.clone(), whole.first.clone());
        let (signed, swept) = (whole.signed.clone(), whole.swept.clone());
        Self { at, txid, first, signed, swept, together: whole.inputs > 1, ..Self::default() }
    }

    /// The same, counted as all that it spends: nothing is set against that, so that nothing is lost with what is forgotten in a day.
    pub(super) fn gross(self) -> Self {
        let all = sum(self.signed.values().chain(self.swept.values()));
        let counted = self.into_coins();
        Self { together: false, coins: all.max(counted.coins), ..counted }
    }

    /// The same, with nothing of it in channels.
    pub(super) fn into_coins(self) -> Self {
        let coins = self.coins.saturating_add(self.channels);
        Self { coins, channels: 0, unproved: vec![], is_less: false, ..self }
    }

    /// True where what else is asked for of it is set against what comes back together with these inputs.
    pub(super) fn waits(&self) -> bool {
        self.together && self.approval.is_none() && self.has_inputs()
    }

    /// True where it is known which of its inputs were signed.
    pub(super) fn has_inputs(&self) -> bool {
        !self.signed.is_empty() || !self.swept.is_empty()
    }
}

/// What leaves at most by all of these. Each spends all of its inputs or none, since a signature is over all of them: of those whose first
/// input spends the same output one can take place, and the one that `takes` most counts. Whichever of them were signed at another
/// time were counted then, and take no more place beside these. Two that exclude each other by another input both count, which is
/// more than can leave.
pub(super) fn most<'a>(all: impl Iterator<Item = &'a Signed>, takes: fn(&Signed) -> u64) -> u64 {
    let mut each = BTreeMap::<&str, u64>::new();
    for signed in all {
        let most = each.entry(&signed.first).or_default();
        *most = takes(signed).max(*most);
    }
    sum(each.values())
}
