//! What a check is, and what can come of one.

use crate::facts::audit::{Host, Signer, Unknown};
use serde::{Deserialize, Serialize};

/// How much a finding matters, the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// One layer of several is missing.
    Low,
    /// Another fault gets worse by it.
    Medium,
    /// One step of an attack on the keys is open.
    High,
    /// The keys can be taken, or used by whoever likes.
    Critical,
}

impl Severity {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What came of a check, with what was seen, or why nothing was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Pass(String),
    /// It is as it should be for now, or something else makes up for it.
    Warn(String),
    /// It is not as it should be.
    Fail(String),
    /// There is nothing here that the check is about.
    NotApplicable(String),
    /// It cannot be told. That counts as a finding: what nobody saw has not passed.
    Error(String),
}

impl Verdict {
    /// [`Verdict::Pass`] where `good`, else [`Verdict::Fail`], with the same evidence.
    pub fn hold(good: bool, evidence: impl Into<String>) -> Self {
        if good { Self::Pass(evidence.into()) } else { Self::Fail(evidence.into()) }
    }

    /// Passes where there is nothing in `found`, and fails with what there is: at most five of it, and how many more.
    pub fn none<T: ToString>(found: impl IntoIterator<Item = T>, good: impl Into<String>) -> Self {
        let all: Vec<String> = found.into_iter().map(|one| one.to_string()).collect();
        if all.is_empty() { Self::Pass(good.into()) } else { Self::Fail(few(&all)) }
    }

    /// Its name, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Warn(_) => "warn",
            Self::Fail(_) => "fail",
            Self::NotApplicable(_) => "na",
            Self::Error(_) => "error",
        }
    }

    /// What was seen, or why nothing was.
    pub fn evidence(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Warn(text) | Self::Fail(text) | Self::NotApplicable(text) | Self::Error(text) => {
                text
            }
        }
    }

    /// True of what a pipeline has to stop for, where it is grave enough.
    pub const fn is_finding(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Error(_))
    }

    /// The worst last.
    const fn rank(&self) -> u8 {
        match self {
            Self::NotApplicable(_) => 0,
            Self::Pass(_) => 1,
            Self::Warn(_) => 2,
            Self::Error(_) => 3,
            Self::Fail(_) => 4,
        }
    }

    fn said_of(self, whom: &str) -> Self {
        let of = |text: String| format!("{whom}: {text}");
        match self {
            Self::Pass(text) => Self::Pass(of(text)),
            Self::Warn(text) => Self::Warn(of(text)),
            Self::Fail(text) => Self::Fail(of(text)),
            Self::NotApplicable(text) => Self::NotApplicable(of(text)),
            Self::Error(text) => Self::Error(of(text)),
        }
    }
}

/// The first five, and how many more there are.
pub fn few<T: AsRef<str>>(all: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown = all.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}

/// What a check's function gives: the outer error means that it cannot be told (it becomes [`Verdict::Error`]), the verdict
/// says what was.
pub type Judged = Result<Verdict, Unknown>;

/// What a check looks at.
#[derive(Debug, Clone, Copy)]
pub enum Judge {
    /// The host.
    Host(fn(&Host) -> Judged),
    /// Every signer on it, one by one; the worst counts.
    Signer(fn(&Host, &Signer) -> Judged),
}

/// One question that the audit asks.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// `AREA-NNN`: never given to another check.
    pub id: &'static str,
    /// What should be, in a few words.
    pub title: &'static str,
    /// Why that matters to a signer.
    pub why: &'static str,
    /// What mends it: a command where there is one.
    pub mend: &'static str,
    /// How it is told.
    pub judge: Judge,
}

impl Check {
    /// What comes of it on `host`.
    pub fn judge(&self, host: &Host) -> Verdict {
        let settle = |judged: Judged| judged.unwrap_or_else(|unknown| Verdict::Error(unknown.to_string()));
        match self.judge {
            Judge::Host(judge) => settle(judge(host)),
            Judge::Signer(judge) => {
                let several = host.signers.len() > 1;
                let judged = host.signers.iter().map(|signer| {
                    let verdict = settle(judge(host, signer));
                    if several { verdict.said_of(&signer.name) } else { verdict }
                });
                // The first of the worst: the order of signers is always the same.
                let worst = judged.reduce(|worst, next| if next.rank() > worst.rank() { next } else { worst });
                worst.unwrap_or_else(|| Verdict::NotApplicable("no lnd is on this host".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_many_is_said_short() {
        assert_eq!(Verdict::none(["a", "b"], "none"), Verdict::Fail("a, b".into()));
        assert_eq!(Verdict::none([""; 0], "none"), Verdict::Pass("none".into()));
        assert_eq!(Verdict::none(0..10_000, ""), Verdict::Fail("0, 1, 2, 3, 4 and 9995 more".into()));
    }
}
