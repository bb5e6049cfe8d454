//! The report as SARIF 2.1.0, which code scanning services read (OASIS, Static Analysis Results Interchange Format).

use super::baseline::Kind;
use super::check::{Severity, Verdict};
use super::finding::Finding;
use super::report::Report;
use serde_json::{Value, json};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The report as a SARIF log with one run, on one line.
pub fn render_sarif(report: &Report) -> String {
    let rules: Vec<Value> = report.findings.iter().map(rule).collect();
    let result = |(place, finding)| result(place, finding, report);
    let results: Vec<Value> = report.findings.iter().enumerate().map(result).collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "lsm", "version": version, "semanticVersion": version, "rules": rules } },
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
            "properties": { "grade": report.grade },
        }],
    })
    .to_string()
}

fn rule(finding: &Finding) -> Value {
    json!({
        "id": finding.id,
        "shortDescription": { "text": finding.title },
        "fullDescription": { "text": finding.why },
        "help": { "text": finding.fix },
        "defaultConfiguration": { "level": level_of(finding.severity) },
        // What GitHub orders findings by: the bounds of CVSS's words.
        "properties": { "tags": ["security"], "security-severity": match finding.severity {
            Severity::Critical => "9.5",
            Severity::High => "8.0",
            Severity::Medium => "5.0",
            Severity::Low => "2.0",
        } },
    })
}

fn result(place: usize, finding: &Finding, report: &Report) -> Value {
    let (kind, level) = kind_and_level(&finding.verdict, finding.severity);
    let mut result = json!({
        "ruleId": finding.id,
        "ruleIndex": place,
        "kind": kind,
        "level": level,
        "message": { "text": format!("{}. Seen: {}. Why: {}. To mend: {}", finding.title, finding.evidence, finding.why,
            finding.fix) },
        // One result a rule, whatever is seen: the same fault stays the same alert.
        "partialFingerprints": { "lsmCheck/v1": finding.id },
        // Present on every result, or on none (3.27.23).
        "suppressions": suppressions(finding),
        "properties": { "verdict": finding.verdict.name(), "severity": finding.severity.name(), "evidence": finding.evidence },
    });
    if let Some(changed) = &report.changed {
        let change = changed.iter().find(|change| change.id == finding.id);
        result["baselineState"] = json!(match change.map(|change| change.change) {
            None => "unchanged",
            Some(Kind::New) => "new",
            Some(_) => "updated",
        });
    }
    result
}

/// A waiver stands outside of what was looked at, and somebody has accepted it (3.35).
fn suppressions(finding: &Finding) -> Vec<Value> {
    let told = finding.waived.iter().map(|waived| {
        let justification = format!("{} ({}, until {})", waived.reason, waived.owner, waived.expires);
        json!({ "kind": "external", "status": "accepted", "justification": justification })
    });
    told.collect()
}

const fn level_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

/// What did not fail has no level (3.27.10). A warning fails one level below its severity.
const fn kind_and_level(verdict: &Verdict, severity: Severity) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass(_) => ("pass", "none"),
        Verdict::NotApplicable(_) => ("notApplicable", "none"),
        Verdict::Error(_) => ("open", "none"),
        Verdict::Fail(_) => ("fail", level_of(severity)),
        Verdict::Warn(_) => match severity {
            Severity::Critical | Severity::High => ("fail", "warning"),
            Severity::Medium | Severity::Low => ("fail", "note"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_and_severity_make_kind_and_level() {
        use Severity::{Critical, High, Low, Medium};
        let fail = |severity| kind_and_level(&Verdict::Fail(String::new()), severity);
        let warn = |severity| kind_and_level(&Verdict::Warn(String::new()), severity);
        assert_eq!([Critical, High, Medium, Low].map(|s| fail(s).1), ["error", "error", "warning", "note"]);
        assert_eq!([Critical, High, Medium, Low].map(|s| warn(s).1), ["warning", "warning", "note", "note"]);
        assert_eq!((fail(Low).0, warn(Low).0), ("fail", "fail"));
        let quiet = [
            (Verdict::Pass(String::new()), "pass"),
            (Verdict::NotApplicable(String::new()), "notApplicable"),
            (Verdict::Error(String::new()), "open"),
        ];
        for (verdict, kind) in quiet {
            assert_eq!(kind_and_level(&verdict, Critical), (kind, "none"));
        }
    }
}
