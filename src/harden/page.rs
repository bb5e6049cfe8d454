//! The report as one page for an auditor: no script, nothing loaded from anywhere, every text escaped.

use super::about::About;
use super::check::{Severity, Verdict};
use super::finding::{Finding, Waived};
use super::report::Report;
use crate::error::{Code, Error, Result};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const BROKEN: Code = Code::refused("E-HARDEN-004");

/// The page's only style.
const STYLE: &str = include_str!("../../templates/harden.css");

#[derive(Template)]
#[template(path = "harden.html")]
struct Page<'a> {
    style: &'static str,
    /// The hash that the page's own policy lets its style through by (CSP3, 2.3.1); no other is shown.
    style_hash: String,
    version: &'static str,
    about: &'a About,
    report: &'a Report,
    first: Vec<&'a Finding>,
    waived: Vec<(&'a Finding, &'a Waived)>,
}

/// The report as HTML.
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_page(report: &Report, about: &About) -> Result<String> {
    let page = Page {
        style: STYLE,
        style_hash: STANDARD.encode(Sha256::digest(STYLE)),
        version: env!("CARGO_PKG_VERSION"),
        about,
        report,
        first: report.first(),
        waived: report.waived(),
    };
    page.render().map_err(|e| Error::new(BROKEN, "the page cannot be rendered").because(e))
}

impl Page<'_> {
    /// The waived findings that no waiver may hide.
    fn dangers(&self) -> impl Iterator<Item = &(&Finding, &Waived)> {
        self.waived.iter().filter(|(finding, _)| finding.severity == Severity::Critical)
    }
}

impl Verdict {
    /// What it is called on paper.
    const fn words(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Warn(_) => "warning",
            Self::Fail(_) => "fail",
            Self::NotApplicable(_) => "not applicable",
            Self::Error(_) => "cannot be told",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn whatever_was_seen_is_text_on_the_page() {
        let evil = "<script>alert(1)</script>\" onload='x' &amp;";
        let check = super::super::checks().find(|check| check.id == "PROC-003").expect("a critical check");
        let mut finding = Finding::new(check, Verdict::Fail(evil.to_owned()));
        finding.waived =
            Some(Waived { owner: evil.to_owned(), reason: evil.to_owned(), expires: date!(2026 - 12 - 31) });
        let signers = vec![(evil.to_owned(), evil.to_owned())];
        let [name, system, kernel] = [(); 3].map(|()| evil.to_owned());
        let about = About { name, system, kernel, root: true, day: date!(2026 - 01 - 01), signers };
        let shown = Finding { waived: None, ..finding.clone() };
        let page = render_page(&Report::new(vec![finding, shown]), &about).unwrap();
        assert!(!page.contains("<script") && !page.contains("' &amp;"), "{page}");
        assert!(page.matches("&#60;script&#62;").count() >= 8, "{page}");
        let top = page.split("<h2>").next().unwrap();
        assert!(top.contains("A critical finding is waived"), "{top}");
    }
}
