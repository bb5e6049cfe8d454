//! Waivers: findings that somebody answers for, with a reason, until a day.

use super::about::day;
use super::check::{Severity, Verdict, few};
use super::finding::{Finding, Waived};
use crate::error::{Code, Error, Result};
use crate::host::file;
use std::collections::BTreeMap;
use std::path::Path;
use time::{Date, Month};
use toml::{Table, Value};

const NO_WAIVER: Code = Code::usage("E-HARDEN-002");

/// A waiver is a few lines, and a host has some tens of checks.
const SIZE: u64 = 1 << 20;
/// What every entry has, and nothing else.
const FIELDS: [&str; 4] = ["id", "owner", "reason", "expires"];
/// The finding that a waiver has expired. It is not among the checks: nothing on a host can be read for it.
pub const EXPIRED: &str = "WAIV-001";

/// The waivers of a host, by the ids of the checks that they are about.
#[derive(Debug, Clone, Default)]
pub struct Waivers(BTreeMap<String, Waived>);

impl Waivers {
    /// Reads a file of them: TOML with an array `waiver` of `id`, `owner`, `reason` and `expires`.
    ///
    /// # Errors
    /// Where it cannot be read, or an entry names no check, lacks a field, has another one or stands twice.
    pub fn read(path: &Path) -> Result<Self> {
        let no = |why: String| {
            Error::new(NO_WAIVER, format!("{} is no file of waivers: {why}", path.display()))
                .hint("each is: [[waiver]] with id, owner, reason and expires = YYYY-MM-DD")
        };
        let text = String::from_utf8(file::read_named(path, SIZE)?).map_err(|_| no("it is no text".to_owned()))?;
        parse(&text).map_err(no)
    }

    /// Marks what they waive, and says which of them have expired when the host was read, at `taken` (seconds since 1970).
    pub(super) fn apply(&self, findings: &mut Vec<Finding>, taken: i64) {
        let today = day(taken);
        let (expired, valid): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, terms)| terms.expires < today);
        for (id, terms) in valid {
            let waived = findings.iter_mut().filter(|finding| finding.id == id && finding.matters());
            waived.for_each(|finding| finding.waived = Some(terms.clone()));
        }
        let expired: Vec<String> =
            expired.into_iter().map(|(id, terms)| format!("{id} ({}, until {})", terms.owner, terms.expires)).collect();
        if !expired.is_empty() {
            findings.push(expiry(few(&expired)));
        }
    }
}

fn expiry(evidence: String) -> Finding {
    let check = super::Check {
        id: EXPIRED,
        title: "No waiver has expired",
        why: "a risk was accepted until a day that is over; nobody answers for it any more",
        mend: "mend the finding, or have its owner renew the waiver; then change the file of waivers",
        judge: super::Judge::Host(|_| Ok(Verdict::NotApplicable(String::new()))),
    };
    Finding { severity: Severity::Low, ..Finding::new(&check, Verdict::Fail(evidence)) }
}

fn parse(text: &str) -> Result<Waivers, String> {
    let table: Table = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    if let Some(other) = table.keys().find(|key| *key != "waiver") {
        return Err(format!("there is no {other:?}"));
    }
    let entries = match table.get("waiver") {
        None => &[][..],
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("waiver is no array; write [[waiver]]".to_owned()),
    };
    let mut waivers = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        // By its id where it has one, else by its place.
        let name = entry.get("id").and_then(Value::as_str).map(|id| format!(" ({id:?})")).unwrap_or_default();
        let (id, terms) = parse_entry(entry).map_err(|why| format!("waiver {}{name}: {why}", place + 1))?;
        if waivers.insert(id, terms).is_some() {
            return Err(format!("waiver {}{name}: it stands twice", place + 1));
        }
    }
    Ok(Waivers(waivers))
}

fn parse_entry(entry: &Value) -> Result<(String, Waived), String> {
    let table = entry.as_table().ok_or("it is no table")?;
    if let Some(other) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(format!("there is no {other:?}"));
    }
    let text = |field: &str| {
        let text = table.get(field).ok_or_else(|| format!("it has no {field}"))?.as_str();
        let text = text.map(|text| crate::error::plain(text.trim()));
        text.filter(|text| !text.is_empty()).ok_or_else(|| format!("its {field} says nothing"))
    };
    let id = text("id")?;
    if !super::checks().any(|check| check.id == id) {
        return Err("there is no such check".to_owned());
    }
    let expires = parse_day(table.get("expires").ok_or("it has no expires")?)
        .ok_or("its expires is no date, as in expires = 2030-12-31, without quotes")?;
    Ok((id, Waived { owner: text("owner")?, reason: text("reason")?, expires }))
}

/// A TOML date without a time.
fn parse_day(value: &Value) -> Option<Date> {
    let toml::value::Datetime { date: Some(date), time: None, offset: None } = *value.as_datetime()? else {
        return None;
    };
    Date::from_calendar_date(i32::from(date.year), Month::try_from(date.month).ok()?, date.day).ok()
}

#[cfg(test)]
mod tests {
    use super::super::report::Report;
    use super::*;
    use time::macros::datetime;

    const GOOD: &str = "[[waiver]]\nid = \"KERN-002\"\nowner = \"Ann\"\nreason = \"until the kernel is new\"\n\
        expires = 2026-03-31\n";

    #[test]
    fn a_waiver_says_what_who_why_and_until_when() {
        assert_eq!(parse(GOOD).unwrap().0["KERN-002"].expires.to_string(), "2026-03-31");
        assert!(parse("").unwrap().0.is_empty());
        let twice = format!("{GOOD}{GOOD}");
        let without = |line: &str| GOOD.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\n")).collect();
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        let bad: [(String, &str); 14] = [
            (without("id"), "waiver 1: it has no id"),
            (without("owner"), "waiver 1 (\"KERN-002\"): it has no owner"),
            (without("reason"), "waiver 1 (\"KERN-002\"): it has no reason"),
            (without("expires"), "waiver 1 (\"KERN-002\"): it has no expires"),
            (with("Ann", " "), "waiver 1 (\"KERN-002\"): its owner says nothing"),
            (with("\"Ann\"", "1"), "waiver 1 (\"KERN-002\"): its owner says nothing"),
            (with("KERN-002", "KERN-999"), "waiver 1 (\"KERN-999\"): there is no such check"),
            (with("KERN-002", EXPIRED), "waiver 1 (\"WAIV-001\"): there is no such check"),
            (with("2026-03-31", "\"2026-03-31\""), "expires is no date"),
            (with("2026-03-31", "2026-03-31T00:00:00Z"), "expires is no date"),
            (with("owner", "ownr"), "waiver 1 (\"KERN-002\"): there is no \"ownr\""),
            (with("[[waiver]]", "[[waivers]]"), "there is no \"waivers\""),
            (with("[[waiver]]", "[waiver]"), "waiver is no array"),
            (twice, "waiver 2 (\"KERN-002\"): it stands twice"),
        ];
        for (text, why) in bad {
            let told = parse(&text).expect_err(why);
            assert!(told.contains(why), "{told:?} does not say {why:?}");
        }
        assert!(parse(&with("2026-03-31", "2026-02-30")).is_err(), "TOML itself knows the calendar");
    }

    #[test]
    fn a_waiver_holds_through_its_last_day_and_then_is_a_finding() {
        let report = |verdict: Verdict, taken: time::OffsetDateTime| {
            let mut finding = expiry(String::new());
            (finding.id, finding.severity, finding.verdict) = ("KERN-002", Severity::Critical, verdict);
            Report::new(vec![finding]).waive(&parse(GOOD).unwrap(), taken.unix_timestamp())
        };
        let (last, after) = (datetime!(2026-03-31 23:59:59 UTC), datetime!(2026-04-01 0:00 UTC));
        let fail = || Verdict::Fail("x".into());
        let waived = report(fail(), last);
        assert_eq!(waived.findings[0].waived.as_ref().map(|w| w.owner.as_str()), Some("Ann"));
        assert_eq!((waived.grade, waived.findings.len()), (super::super::Grade::A, 1));
        assert!(!waived.findings[0].reaches(Severity::Low));
        let expired = report(fail(), after);
        assert_eq!((expired.grade, expired.findings[0].waived.as_ref()), (super::super::Grade::F, None));
        assert_eq!(
            (expired.findings[1].id, &*expired.findings[1].evidence),
            (EXPIRED, "KERN-002 (Ann, until 2026-03-31)")
        );
        assert!(expired.findings[1].reaches(Severity::Low));
        assert_eq!(report(Verdict::Pass("x".into()), last).findings[0].waived, None, "what passes needs none");
    }
}
