//! How much is remembered: all of it has to fit into the first line of a file of the log.

use crate::guard::DAY;
use crate::guard::signed::Signed;

/// How long a transaction of several inputs is remembered, in milliseconds: what comes back by it is set against them together, so
/// that none must be asked for after the others were forgotten. As long what was approved: where a clock was ahead for a while that must
/// not pass twice.
const LONG: u64 = 90 * DAY;

/// What is remembered of one transaction is no longer than this, in bytes, and so much more for each input and each output that is
/// not proved.
const ONE: usize = 360;
const INPUT: usize = 24;
const UNPROVED: usize = 7;

/// What is remembered has room by what it is, so that nothing of one kind keeps another one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// What is swept to the wallet alone. None may be refused, so the oldest is forgotten: what comes back by it is then set against the
    /// next of its inputs once more.
    Sweeps,
    /// What has several inputs.
    Together,
    /// What counts for a day.
    Day,
    /// What the operator has approved.
    Approved,
}

impl Room {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::Sweeps, Self::Together, Self::Day, Self::Approved];

    /// That of one transaction.
    pub(super) fn of(signed: &Signed) -> Self {
        match signed {
            _ if signed.approval.is_some() => Self::Approved,
            _ if signed.comes_back => Self::Sweeps,
            _ if signed.together => Self::Together,
            _ => Self::Day,
        }
    }

    /// How large it is, in bytes of the log.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::Sweeps => 5 << 18,
            Self::Together => 7 << 19,
            Self::Day => 2 << 20,
            Self::Approved => 1 << 19,
        }
    }
}

/// How many bytes of the log it takes at most to remember it.
pub(super) fn size(signed: &Signed) -> usize {
    ONE + INPUT * (signed.signed.len() + signed.swept.len()) + UNPROVED * signed.unproved.len()
}

/// True as long as it has to be remembered.
pub(super) fn is_kept(signed: &Signed, now: u64) -> bool {
    let is_long = signed.waits() || signed.approval.is_some();
    // One input by itself of which all comes back is no other when it is asked for anew.
    let is_told = is_long || signed.comes_back || signed.coins > 0 || signed.channels > 0;
    is_told && is_young(signed, now, if is_long { LONG } else { DAY })
}

pub(super) fn is_young(signed: &Signed, now: u64, time: u64) -> bool {
    now.saturating_sub(signed.at) < time
}
