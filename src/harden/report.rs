//! What came of an audit: findings, and the grade that they make.

use super::check::{Check, Severity, Verdict};
use super::severity;
use serde::{Serialize, Serializer};

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
    /// What should be, in a few words.
    #[serde(skip)]
    pub title: &'static str,
}

impl Finding {
    pub(super) fn new(check: &Check, verdict: Verdict) -> Self {
        Self {
            id: check.id,
            severity: severity(check.id),
            evidence: verdict.evidence().to_owned(),
            why: check.why,
            fix: check.mend,
            title: check.title,
            verdict,
        }
    }

    /// True where it counts, and is at least so grave.
    pub fn reaches(&self, least: Severity) -> bool {
        self.verdict.is_finding() && self.severity >= least
    }
}

/// A host in one letter: the gravest finding decides, however much else passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// What came of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The host in one letter.
    pub grade: Grade,
    /// What came of each check, in the order of the catalogue.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let grade = findings.iter().map(grade).min().unwrap_or(Grade::A);
        Self { grade, findings }
    }

    /// What to look at, first things first: the gravest, what failed before what cannot be told and what only warns.
    pub fn first(&self) -> Vec<&Finding> {
        let order = |finding: &&Finding| {
            let kind = match finding.verdict {
                Verdict::Fail(_) => 0,
                Verdict::Error(_) => 1,
                _ => 2,
            };
            (kind == 2, std::cmp::Reverse(finding.severity), kind)
        };
        let matters = |finding: &&Finding| finding.verdict.is_finding() || matches!(finding.verdict, Verdict::Warn(_));
        let mut first: Vec<&Finding> = self.findings.iter().filter(matters).collect();
        first.sort_by_key(order);
        first
    }
}

/// The best that a host with this finding can be.
fn grade(finding: &Finding) -> Grade {
    match (&finding.verdict, finding.severity) {
        (Verdict::Fail(_), Severity::Critical) => Grade::F,
        (Verdict::Fail(_), Severity::High) | (Verdict::Error(_), Severity::Critical) => Grade::D,
        (Verdict::Fail(_), Severity::Medium) | (Verdict::Error(_), Severity::High) => Grade::C,
        (Verdict::Fail(_) | Verdict::Error(_) | Verdict::Warn(_), _) => Grade::B,
        (Verdict::Pass(_) | Verdict::NotApplicable(_), _) => Grade::A,
    }
}

fn name<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, severity: Severity) -> Finding {
        let evidence = verdict.evidence().to_owned();
        Finding { id: "X-001", verdict, severity, evidence, why: "", fix: "", title: "" }
    }

    #[test]
    fn one_critical_failure_decides_whatever_else_passes() {
        let fail = || Verdict::Fail(String::new());
        let pass = || Verdict::Pass(String::new());
        let report = |findings: Vec<Finding>| Report::new(findings);
        let mut all: Vec<Finding> = (0..100).map(|_| finding(pass(), Severity::Critical)).collect();
        assert_eq!(report(all.clone()).grade, Grade::A);
        all.push(finding(fail(), Severity::Low));
        assert_eq!(report(all.clone()).grade, Grade::B);
        all.push(finding(Verdict::Error(String::new()), Severity::Critical));
        assert_eq!(report(all.clone()).grade, Grade::D);
        all.push(finding(fail(), Severity::Critical));
        let report = report(all);
        assert_eq!(report.grade, Grade::F);
        let first: Vec<_> = report.first().iter().map(|f| (f.verdict.name(), f.severity)).collect();
        let wanted = [("fail", Severity::Critical), ("error", Severity::Critical), ("fail", Severity::Low)];
        assert_eq!(first, wanted);
    }
}
