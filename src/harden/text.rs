//! The report for a person at a terminal: the grade, what to do first, then the rest by how grave it is.

use super::about::About;
use super::check::{Severity, Verdict};
use super::finding::Finding;
use super::report::Report;

/// What to do first is a handful: who has done that asks again.
const FIRST: usize = 3;
/// No line is longer, however wide the terminal.
const WIDEST: usize = 110;
/// A narrower terminal than this breaks the lines itself.
const NARROWEST: usize = 40;

/// The report as lines, without any escape sequence: `all` of it, or without what passed; broken where `columns` are full,
/// or not at all.
pub fn render_text(report: &Report, about: &About, all: bool, columns: Option<usize>) -> Vec<String> {
    let mut page =
        Page { lines: Vec::new(), width: columns.map_or(usize::MAX, |width| width.clamp(NARROWEST, WIDEST)) };
    page.put("", &format!("Grade {:?}: {}", report.grade, report.words()));
    page.put("", &about.line());
    page.put("", &report.counts());
    page.put_dangers(report);
    page.put_first(report, about);
    let first = report.first();
    for severity in [Severity::Critical, Severity::High, Severity::Medium, Severity::Low] {
        let mut of = first.iter().filter(|finding| finding.severity == severity).peekable();
        if of.peek().is_some() {
            page.head(capital(severity));
        }
        of.for_each(|finding| page.put_finding(finding));
    }
    page.put_waived(report);
    page.put_changed(report);
    if all {
        page.put_rest("Passed", report, |verdict| matches!(verdict, Verdict::Pass(_)));
        page.put_rest("Not applicable", report, |verdict| matches!(verdict, Verdict::NotApplicable(_)));
    }
    page.lines
}

const fn capital(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    }
}

impl About {
    /// The host in one line.
    fn line(&self) -> String {
        let signers = match self.signers.len() {
            0 => "no lnd".to_owned(),
            _ => self.signers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
        };
        let who = if self.root { "" } else { ", not read as root" };
        format!("{} ({}, kernel {}) as of {}{who}: {signers}", self.name, self.system, self.kernel, self.day)
    }
}

/// Lines of at most `width` columns.
struct Page {
    lines: Vec<String>,
    width: usize,
}

impl Page {
    fn head(&mut self, title: &str) {
        self.lines.extend([String::new(), title.to_owned()]);
    }

    /// Puts `text` behind `lead`, its further lines below its first.
    fn put(&mut self, lead: &str, text: &str) {
        let (mut line, indent) = (lead.to_owned(), lead.chars().count());
        let mut fresh = true;
        for word in text.split(' ') {
            let full = line.chars().count() + word.chars().count() + usize::from(!fresh) > self.width;
            if full && !fresh {
                self.lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                fresh = true;
            }
            if !fresh {
                line.push(' ');
            }
            line.push_str(word);
            fresh = false;
        }
        self.lines.push(line);
    }

    /// What no waiver may hide: that somebody answers for keys in danger.
    fn put_dangers(&mut self, report: &Report) {
        for (finding, waived) in report.waived().iter().filter(|(finding, _)| finding.severity == Severity::Critical) {
            let text = format!("although critical: {}, by {} until {}", finding.id, waived.owner, waived.expires);
            self.put("WAIVED ", &text);
        }
    }

    fn put_first(&mut self, report: &Report, about: &About) {
        let first = report.first();
        let found: Vec<_> = first.iter().filter(|finding| finding.verdict.is_finding()).collect();
        if found.is_empty() {
            return;
        }
        self.head("Do first");
        if !about.root && found.iter().any(|finding| matches!(finding.verdict, Verdict::Error(_))) {
            self.put("  - ", "run it as root, which sees what else nobody can tell: sudo lsm harden");
        }
        let failed = found.iter().filter(|finding| matches!(finding.verdict, Verdict::Fail(_)));
        for finding in failed.take(FIRST) {
            self.put("  - ", &format!("{} ({})", finding.fix, finding.id));
        }
        if found.iter().all(|finding| matches!(finding.verdict, Verdict::Error(_))) && about.root {
            self.put("  - ", &format!("find out what could not be told: {} ({})", found[0].evidence, found[0].id));
        }
    }

    fn put_finding(&mut self, finding: &Finding) {
        self.put(&format!("  {:<6} {}  ", finding.verdict.name(), finding.id), finding.title);
        self.put("         seen  ", &finding.evidence);
        self.put("         why   ", finding.why);
        self.put("         mend  ", finding.fix);
    }

    fn put_waived(&mut self, report: &Report) {
        let waived = report.waived();
        if !waived.is_empty() {
            self.head("Waived");
        }
        for (finding, terms) in waived {
            let name = finding.verdict.name();
            self.put(
                &format!("  {name:<6} {}  ", finding.id),
                &format!("{} ({})", finding.title, finding.severity.name()),
            );
            self.put("         seen  ", &finding.evidence);
            self.put("         by    ", &format!("{}, until {}: {}", terms.owner, terms.expires, terms.reason));
        }
    }

    fn put_changed(&mut self, report: &Report) {
        let Some(changed) = &report.changed else { return };
        self.head("Changed since the baseline");
        if changed.is_empty() {
            self.put("  ", "nothing");
        }
        for change in changed {
            let was = change.was.map_or("not there", |was| was.name());
            self.put(
                &format!("  {:<6} {}  ", change.change.name(), change.id),
                &format!("{was}, now {}", change.is.name()),
            );
        }
    }

    fn put_rest(&mut self, title: &str, report: &Report, is: fn(&Verdict) -> bool) {
        let mut rest = report.findings.iter().filter(|finding| is(&finding.verdict)).peekable();
        if rest.peek().is_some() {
            self.head(title);
        }
        rest.for_each(|finding| {
            self.put(&format!("  {}  ", finding.id), &format!("{}: {}", finding.title, finding.evidence));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Waived;
    use super::*;
    use time::macros::date;

    #[test]
    fn a_critical_finding_that_is_waived_is_said_at_the_top() {
        let check = super::super::checks().find(|check| check.id == "PROC-003").expect("a critical check");
        let (owner, reason) = ("Ann".to_owned(), "soon".to_owned());
        let mut finding = Finding::new(check, Verdict::Fail("CapEff".to_owned()));
        finding.waived = Some(Waived { owner, reason, expires: date!(2026 - 12 - 31) });
        let [name, system, kernel] = ["host", "Debian 12", "6.1"].map(str::to_owned);
        let about = About { name, system, kernel, root: false, day: date!(2026 - 01 - 01), signers: Vec::new() };
        let lines = render_text(&Report::new(vec![finding]), &about, false, Some(80));
        let all = super::super::checks().count();
        let grade = format!("Grade A: nothing is wrong in what was judged; 1 of {all} checks were judged");
        let top = [
            grade.as_str(),
            "host (Debian 12, kernel 6.1) as of 2026-01-01, not read as root: no lnd",
            "0 fail, 0 error, 0 warn, 1 waived, 0 pass, 0 na",
            "WAIVED although critical: PROC-003, by Ann until 2026-12-31",
        ];
        assert_eq!(lines[..4], top);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }

    fn put(width: usize, lead: &str, text: &str) -> Vec<String> {
        let mut page = Page { lines: Vec::new(), width };
        page.put(lead, text);
        page.lines
    }

    #[test]
    fn lines_break_between_words_and_nothing_is_lost() {
        assert_eq!(put(12, "  a  ", "one two three"), ["  a  one two", "     three"]);
        assert_eq!(put(12, "  ", "averylongwordindeed x"), ["  averylongwordindeed", "  x"]);
        assert_eq!(put(usize::MAX, "", "one  two"), ["one  two"]);
        assert_eq!(put(9, "", "é é é é é é"), ["é é é é é", "é"]);
        assert_eq!(put(9, "  ", ""), ["  "]);
    }
}
