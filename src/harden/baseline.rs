//! An earlier report, and what changed since.

use super::check::{Severity, Verdict};
use super::finding::{Finding, Grade};
use crate::error::{Code, Error, Result};
use crate::host::file;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const NO_REPORT: Code = Code::usage("E-HARDEN-003");

/// A report is some hundred short texts.
const SIZE: u64 = 8 << 20;

/// How a finding stands: its verdict, unless somebody answers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// There was nothing to judge.
    Na,
    /// As it should be.
    Pass,
    /// Somebody answers for it.
    Waived,
    /// As it should be for now.
    Warn,
    /// It could not be told.
    Error,
    /// Not as it should be.
    Fail,
}

impl Standing {
    pub(super) const fn of(finding: &Finding) -> Self {
        match finding.verdict {
            _ if finding.waived.is_some() => Self::Waived,
            Verdict::NotApplicable(_) => Self::Na,
            Verdict::Pass(_) => Self::Pass,
            Verdict::Warn(_) => Self::Warn,
            Verdict::Error(_) => Self::Error,
            Verdict::Fail(_) => Self::Fail,
        }
    }

    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Na => "na",
            Self::Pass => "pass",
            Self::Waived => "waived",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fail => "fail",
        }
    }

    /// The worst last; nothing is wrong with 0.
    const fn rank(self) -> u8 {
        match self {
            Self::Na | Self::Pass => 0,
            Self::Waived | Self::Warn => 1,
            Self::Error => 2,
            Self::Fail => 3,
        }
    }
}

/// In what way a finding changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing was wrong with it, or nobody looked.
    New,
    /// Something was wrong with it; now more is.
    Worse,
    /// The same verdict for something else that was seen, or nothing wrong with it before and after.
    Other,
    /// Less is wrong with it.
    Better,
    /// Nothing is wrong with it any more.
    Mended,
}

impl Kind {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Worse => "worse",
            Self::Other => "other",
            Self::Better => "better",
            Self::Mended => "mended",
        }
    }

    /// True of what an earlier report does not excuse. A second open port is as new as a first one.
    pub const fn counts(self) -> bool {
        matches!(self, Self::New | Self::Worse | Self::Other)
    }
}

/// What changed of one finding since an earlier report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The check's id.
    pub id: &'static str,
    /// In what way.
    pub change: Kind,
    /// How it stood; nothing where the earlier report does not have it.
    pub was: Option<Standing>,
    /// How it stands.
    pub is: Standing,
}

/// How everything stood in an earlier report.
#[derive(Debug)]
pub struct Baseline(BTreeMap<String, (Standing, String)>);

/// The part of a report that is compared.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "grade")]
    _grade: Grade,
    findings: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    verdict: Standing,
    #[serde(rename = "severity")]
    _severity: Severity,
    evidence: String,
    waived: Option<IgnoredAny>,
}

impl Baseline {
    /// Reads what `lsm harden --json` printed earlier.
    ///
    /// # Errors
    /// Where it cannot be read or is no such report.
    pub fn read(path: &Path) -> Result<Self> {
        let no = |why: String| {
            Error::new(NO_REPORT, format!("{} is no report of an audit: {why}", path.display()))
                .hint("make one with: lsm harden --json >FILE")
        };
        parse(&file::read_named(path, SIZE)?).map_err(no)
    }

    /// What is otherwise in `findings`. What was not looked at now is not told.
    pub(super) fn compare(&self, findings: &[Finding]) -> Vec<Change> {
        let change = |finding: &Finding| {
            let is = Standing::of(finding);
            let was = self.0.get(finding.id);
            let change = match was {
                Some((was, seen)) => kind(*was, is, *seen != finding.evidence)?,
                None if is.rank() > 0 => Kind::New,
                None => return None,
            };
            Some(Change { id: finding.id, change, was: was.map(|(was, _)| *was), is })
        };
        findings.iter().filter_map(change).collect()
    }
}

fn parse(bytes: &[u8]) -> Result<Baseline, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let mut known = BTreeMap::new();
    for entry in document.findings {
        let standing = if entry.waived.is_some() { Standing::Waived } else { entry.verdict };
        if known.insert(entry.id.clone(), (standing, entry.evidence)).is_some() {
            return Err(format!("{:?} stands twice", entry.id));
        }
    }
    Ok(Baseline(known))
}

/// In what way a finding changed; nothing where it did not.
fn kind(was: Standing, is: Standing, seen_other: bool) -> Option<Kind> {
    let (before, after) = (was.rank(), is.rank());
    Some(match before.cmp(&after) {
        std::cmp::Ordering::Less if before == 0 => Kind::New,
        std::cmp::Ordering::Less => Kind::Worse,
        std::cmp::Ordering::Greater if after == 0 => Kind::Mended,
        std::cmp::Ordering::Greater => Kind::Better,
        std::cmp::Ordering::Equal if was != is || (seen_other && after >= Standing::Error.rank()) => Kind::Other,
        std::cmp::Ordering::Equal => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_what_it_means() {
        use Standing::{Error, Fail, Na, Pass, Waived, Warn};
        let cases = [
            (Pass, Fail, false, Some(Kind::New)),
            (Na, Warn, false, Some(Kind::New)),
            (Pass, Waived, false, Some(Kind::New)),
            (Warn, Fail, false, Some(Kind::Worse)),
            (Error, Fail, false, Some(Kind::Worse)),
            (Waived, Fail, false, Some(Kind::Worse)),
            (Fail, Fail, true, Some(Kind::Other)),
            (Error, Error, true, Some(Kind::Other)),
            (Pass, Na, false, Some(Kind::Other)),
            (Waived, Warn, false, Some(Kind::Other)),
            (Fail, Warn, false, Some(Kind::Better)),
            (Fail, Waived, false, Some(Kind::Better)),
            (Fail, Pass, false, Some(Kind::Mended)),
            (Waived, Na, false, Some(Kind::Mended)),
            (Fail, Fail, false, None),
            (Pass, Pass, true, None),
            (Warn, Warn, true, None),
        ];
        for (was, is, seen_other, wanted) in cases {
            assert_eq!(kind(was, is, seen_other), wanted, "{was:?} to {is:?}");
        }
        assert!(!Kind::Better.counts() && !Kind::Mended.counts());
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let entry = r#"{"id":"X-001","verdict":"fail","severity":"low","evidence":"e","why":"w","fix":"f"}"#;
        let report = |entries: &str| format!(r#"{{"grade":"B","findings":[{entries}]}}"#);
        assert_eq!(parse(report(entry).as_bytes()).unwrap().0["X-001"], (Standing::Fail, "e".to_owned()));
        let waived = entry.replace("\"why\"", "\"waived\":{},\"why\"");
        assert_eq!(parse(report(&waived).as_bytes()).unwrap().0["X-001"].0, Standing::Waived);
        let twice = report(&format!("{entry},{entry}"));
        let other = report(&entry.replace("fail", "broken"));
        for bad in ["", "{}", "[]", "\0", r#"{"schema":1}"#, r#"{"grade":"Z","findings":[]}"#, &twice, &other] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
