//! What came of an audit: findings, and the grade that they make.

use super::baseline::{Baseline, Change, Standing};
use super::check::{Severity, Verdict};
use super::finding::{Finding, Grade, Waived};
use super::waiver::{EXPIRED, Waivers};
use serde::Serialize;

/// What came of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The host in one letter.
    pub grade: Grade,
    /// How many checks were judged.
    pub judged: usize,
    /// How many there are: where that is more, the grade is not one of the host.
    pub checks: usize,
    /// What came of each check, in the order of the catalogue.
    pub findings: Vec<Finding>,
    /// What changed since an earlier report, where there is one to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<Change>>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let grade = findings.iter().map(grade).min().unwrap_or(Grade::A);
        // That a waiver has expired is no check of the host.
        let judged = findings.iter().filter(|finding| finding.id != EXPIRED).count();
        Self { grade, judged, checks: super::checks().count(), findings, changed: None }
    }

    /// What the grade means, in one sentence; where not all was judged, it is none of whether keys are safe here.
    pub fn words(&self) -> String {
        let Self { grade, judged, checks, .. } = self;
        if judged >= checks {
            return grade.words().to_owned();
        }
        let words = match grade {
            Grade::A => "nothing is wrong in what was judged",
            Grade::B => "something small is left in what was judged",
            Grade::C | Grade::D | Grade::F => grade.words(),
        };
        format!("{words}; {judged} of {checks} checks were judged")
    }

    /// Leaves out of the grade, and of what [`Finding::reaches`], what somebody answered for when the host was read, at
    /// `taken` (seconds since 1970).
    #[must_use]
    pub fn waive(mut self, waivers: &Waivers, taken: i64) -> Self {
        waivers.apply(&mut self.findings, taken);
        Self::new(self.findings)
    }

    /// Adds what changed since an earlier report.
    #[must_use]
    pub fn compare(self, baseline: &Baseline) -> Self {
        Self { changed: Some(baseline.compare(&self.findings)), ..self }
    }

    /// True where anything counts and is at least so grave; compared with an earlier report, anything new or worse.
    pub fn reaches(&self, least: Severity) -> bool {
        let is_known = |finding: &Finding| match &self.changed {
            Some(changed) => !changed.iter().any(|change| change.id == finding.id && change.change.counts()),
            None => false,
        };
        self.findings.iter().any(|finding| finding.reaches(least) && !is_known(finding))
    }

    /// What somebody answers for, the gravest first.
    pub fn waived(&self) -> Vec<(&Finding, &Waived)> {
        let waived = self.findings.iter().filter_map(|finding| Some((finding, finding.waived.as_ref()?)));
        let mut waived: Vec<_> = waived.collect();
        waived.sort_by_key(|(finding, _)| std::cmp::Reverse(finding.severity));
        waived
    }

    /// How many findings there are of each verdict, and of those that are waived.
    pub fn counts(&self) -> String {
        let count = |name: &str| {
            let is = |finding: &&Finding| Standing::of(finding).name() == name;
            self.findings.iter().filter(is).count()
        };
        let names = ["fail", "error", "warn", "waived", "pass", "na"];
        let told = names.into_iter().filter(|name| *name != "waived" || count(name) > 0);
        told.map(|name| format!("{} {name}", count(name))).collect::<Vec<_>>().join(", ")
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
        let counts = |finding: &&Finding| finding.matters() && finding.waived.is_none();
        let mut first: Vec<&Finding> = self.findings.iter().filter(counts).collect();
        first.sort_by_key(order);
        first
    }
}

/// The best that a host with this finding can be.
fn grade(finding: &Finding) -> Grade {
    if finding.waived.is_some() {
        return Grade::A;
    }
    match (&finding.verdict, finding.severity) {
        (Verdict::Fail(_), Severity::Critical) => Grade::F,
        (Verdict::Fail(_), Severity::High) | (Verdict::Error(_), Severity::Critical) => Grade::D,
        (Verdict::Fail(_), Severity::Medium) | (Verdict::Error(_), Severity::High) => Grade::C,
        (Verdict::Fail(_) | Verdict::Error(_) | Verdict::Warn(_), _) => Grade::B,
        (Verdict::Pass(_) | Verdict::NotApplicable(_), _) => Grade::A,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, severity: Severity) -> Finding {
        let evidence = verdict.evidence().to_owned();
        Finding { id: "X-001", verdict, severity, evidence, why: "", fix: "", waived: None, title: "" }
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
