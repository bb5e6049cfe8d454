//! What came of one check, and who answers for it.

use super::check::{Check, Severity, Verdict};
use super::severity;
use serde::{Deserialize, Serialize, Serializer};
use time::Date;

/// What came of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// What came of it.
    #[serde(serialize_with = "name")]
    pub verdict: Verdict,
    /// How grave it is where it fails.
    pub severity: Severity,
    /// What was seen.
    pub evidence: String,
    /// Why it matters to a signer.
    pub why: &'static str,
    /// What mends it.
    pub fix: &'static str,
    /// Who answers for it, where somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
    /// What should be, in a few words.
    #[serde(skip)]
    pub title: &'static str,
}

impl Finding {
    pub(super) fn new(check: &Check, verdict: Verdict) -> Self {
        Self {
            id: check.id,
            severity: severity(check.id),
            // What was seen is others' text: none of it may steer a terminal or a viewer.
            evidence: crate::error::plain(verdict.evidence()),
            why: check.why,
            fix: check.mend,
            waived: None,
            title: check.title,
            verdict,
        }
    }

    /// True where it counts, and is at least so grave.
    pub fn reaches(&self, least: Severity) -> bool {
        self.verdict.is_finding() && self.waived.is_none() && self.severity >= least
    }

    /// True where something is or may be wrong, whoever answers for it.
    pub fn matters(&self) -> bool {
        self.verdict.is_finding() || matches!(self.verdict, Verdict::Warn(_))
    }
}

/// A host in one letter: the gravest finding decides, however much else passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// A critical check failed: keep no keys here.
    F,
    /// A high one failed, or a critical one cannot be told.
    D,
    /// A medium one failed, or a high one cannot be told.
    C,
    /// Nothing graver than a low one, or a warning.
    B,
    /// Nothing at all.
    A,
}

impl Grade {
    /// What it means, in one sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Self::F => "the keys can be taken, or used by whoever likes; keep none here until this is mended",
            Self::D => "one step of an attack on the keys is open, or nobody can tell whether they are safe",
            Self::C => "a fault that would make another one worse, or something grave that nobody can tell",
            Self::B => "fit to hold keys; something small is left",
            Self::A => "fit to hold keys, as far as this audit sees",
        }
    }
}

/// Who answers for a finding, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waived {
    /// Who.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// The last day on which it holds, in UTC.
    #[serde(serialize_with = "as_text")]
    pub expires: Date,
}

fn name<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

fn as_text<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(date)
}
