//! What a watch says: a line for each change, each with its priority, as the journal takes it (sd-daemon(3)).

use super::baseline::{Change, Standing};
use super::check::Severity;
use super::finding::{Finding, Grade};
use super::report::Report;

/// A line for each finding that changed; where there was nothing to compare with, one with the grade.
pub fn render_watch(report: &Report) -> Vec<String> {
    let Some(changed) = &report.changed else {
        let (priority, grade) = (of_grade(report.grade), report.grade);
        return vec![format!(
            "<{priority}>grade {grade:?}: {}; from now on only what changes is told",
            report.counts()
        )];
    };
    let line = |change: &Change| {
        let finding = report.findings.iter().find(|finding| finding.id == change.id)?;
        Some(render(change, finding))
    };
    changed.iter().filter_map(line).collect()
}

fn render(change: &Change, finding: &Finding) -> String {
    let was = change.was.map_or("not judged", Standing::name);
    let (is, severity) = (change.is.name(), finding.severity.name());
    let priority = of_change(change, finding.severity);
    format!("<{priority}>{} was {was}, is {is} ({severity}): {}", change.id, finding.evidence)
}

/// 2 is critical, 3 an error, 4 a warning, 5 a notice.
fn of_change(change: &Change, severity: Severity) -> u8 {
    match (change.is, severity) {
        _ if !change.change.counts() => 5,
        (Standing::Fail | Standing::Error, Severity::Critical) => 2,
        (Standing::Fail | Standing::Error, Severity::High) | (Standing::Warn, Severity::Critical) => 3,
        (Standing::Fail | Standing::Error, Severity::Medium) | (Standing::Warn, Severity::High) => 4,
        _ => 5,
    }
}

const fn of_grade(grade: Grade) -> u8 {
    match grade {
        Grade::F => 2,
        Grade::D => 3,
        Grade::C => 4,
        Grade::B | Grade::A => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Kind;
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn each_change_is_one_line_as_loud_as_it_is_grave() {
        let finding = |verdict: Verdict, severity| Finding {
            id: "X-001",
            evidence: verdict.evidence().to_owned(),
            verdict,
            severity,
            why: "",
            fix: "",
            waived: None,
            title: "",
        };
        let told = |was, is, change, severity| {
            let mut report = Report::new(vec![finding(Verdict::Fail("0644".into()), severity)]);
            report.changed = Some(vec![Change { id: "X-001", change, was, is }]);
            render_watch(&report).join("\n")
        };
        use Severity::{Critical, High, Low, Medium};
        use Standing::{Error, Fail, Pass, Waived, Warn};
        let cases = [
            (Some(Pass), Fail, Kind::New, Critical, "<2>X-001 was pass, is fail (critical): 0644"),
            (Some(Warn), Error, Kind::Worse, High, "<3>X-001 was warn, is error (high): 0644"),
            (None, Fail, Kind::New, Medium, "<4>X-001 was not judged, is fail (medium): 0644"),
            (Some(Fail), Fail, Kind::Other, Low, "<5>X-001 was fail, is fail (low): 0644"),
            (Some(Pass), Warn, Kind::New, Critical, "<3>X-001 was pass, is warn (critical): 0644"),
            (Some(Pass), Waived, Kind::New, Critical, "<5>X-001 was pass, is waived (critical): 0644"),
            (Some(Fail), Error, Kind::Better, Critical, "<5>X-001 was fail, is error (critical): 0644"),
            (Some(Fail), Pass, Kind::Mended, Critical, "<5>X-001 was fail, is pass (critical): 0644"),
        ];
        for (was, is, change, severity, wanted) in cases {
            assert_eq!(told(was, is, change, severity), wanted);
        }
    }

    #[test]
    fn at_first_there_is_the_grade_and_without_a_change_nothing() {
        let mut report = Report::new(Vec::new());
        let first = render_watch(&report);
        assert!(first.len() == 1 && first[0].starts_with("<5>grade A: 0 fail, "), "{first:?}");
        report.changed = Some(Vec::new());
        assert!(render_watch(&report).is_empty());
    }
}
