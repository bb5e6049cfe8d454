//! Why something is refused.

use std::fmt;

/// Why something is refused. The names are part of what the operator reads, and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A call that the guard does not know.
    UnknownCall,
    /// A message that does not read.
    Unreadable,
    /// A message that is larger than any that a node sends.
    TooLarge,
    /// A message that another middleware may replace once it was passed.
    Replaceable,
    /// The root key on which the guard's own macaroon hangs: without it the guard could not register again.
    GuardsKey,
    /// The operator has frozen the signer.
    Frozen,
    /// The guard cannot write down what it passes.
    NoLog,
    /// The guard failed while it judged.
    GuardFault,
    /// A Schnorr signature over a message: its digest could be a transaction's.
    MessageSchnorr,
    /// A message by a key that signs none.
    MessageKey,
    /// A message by a funding key that is no announcement of this node's channel.
    MessageAnnouncement,
    /// A shared secret of a key that has none to give.
    SharedKeyFamily,
    /// A shared secret by a public key that is not the first of its family: lnd would look for it among 100,000.
    SharedKeyRaw,
    /// A shared secret of a revocation root with another key than a funding key of this wallet's.
    SharedKeyPoint,
    /// MuSig2 on a signer without taproot channels.
    Musig2Off,
    /// MuSig2 with another key than a channel's funding key.
    Musig2Key,
    /// MuSig2 with a key that is moved otherwise than to a taproot output's.
    Musig2Tweak,
    /// A MuSig2 session that began without this guard.
    Musig2Session,
    /// A PSBT that two readers could read differently.
    PsbtEncoding,
    /// A key that is not the one at its path, or more than one.
    PsbtDerivation,
    /// A key that is to be moved, and is one of the wallet's coins, or moved twice.
    PsbtTweak,
    /// A signature under which the transaction can change.
    PsbtSighash,
    /// A script that is not the one of the wallet's key.
    PsbtScript,
    /// More would leave the wallet by one transaction than the operator allows.
    OutflowTransaction,
    /// More would leave it within an hour.
    OutflowHour,
    /// More would leave it within a day.
    OutflowDay,
    /// More would go into channels by one transaction than the operator allows.
    FundingTransaction,
    /// More would go into channels within a day.
    FundingDay,
    /// The wallet would pay a larger fee by one transaction.
    FeeCeiling,
    /// It would pay more for each virtual byte.
    FeeRate,
    /// Coins would leave at a time at which the operator lets none leave.
    QuietHours,
    /// A class of calls is asked for more often.
    Rate,
    /// There is no room to remember what would leave.
    LedgerFull,
    /// The operator's policy does not read.
    NoPolicy,
}

impl Rule {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownCall => "unknown-call",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too-large",
            Self::Replaceable => "replaceable",
            Self::GuardsKey => "guards-key",
            Self::Frozen => "frozen",
            Self::NoLog => "no-log",
            Self::GuardFault => "guard-fault",
            Self::MessageSchnorr => "message-schnorr",
            Self::MessageKey => "message-key",
            Self::MessageAnnouncement => "message-announcement",
            Self::SharedKeyFamily => "shared-key-family",
            Self::SharedKeyRaw => "shared-key-raw",
            Self::SharedKeyPoint => "shared-key-point",
            Self::Musig2Off => "musig2-off",
            Self::Musig2Key => "musig2-key",
            Self::Musig2Tweak => "musig2-tweak",
            Self::Musig2Session => "musig2-session",
            Self::PsbtEncoding => "psbt-encoding",
            Self::PsbtDerivation => "psbt-derivation",
            Self::PsbtTweak => "psbt-tweak",
            Self::PsbtSighash => "psbt-sighash",
            Self::PsbtScript => "psbt-script",
            Self::OutflowTransaction => "outflow-transaction",
            Self::OutflowHour => "outflow-hour",
            Self::OutflowDay => "outflow-day",
            Self::FundingTransaction => "funding-transaction",
            Self::FundingDay => "funding-day",
            Self::FeeCeiling => "fee-ceiling",
            Self::FeeRate => "fee-rate",
            Self::QuietHours => "quiet-hours",
            Self::Rate => "rate",
            Self::LedgerFull => "ledger-full",
            Self::NoPolicy => "no-policy",
        }
    }
}

/// A refusal: by which rule, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// One line; quotes nothing but numbers, names of calls and families.
    pub why: String,
}

impl Refusal {
    /// By `rule`, because of `why`.
    pub fn new(rule: Rule, why: impl Into<String>) -> Self {
        Self { rule, why: why.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.rule.name())
    }
}
