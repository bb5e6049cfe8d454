//! The table of checks by planted fault.

use super::Verdicts;
use lsm::harden;
use std::collections::BTreeMap;
use std::path::Path;

const DOCUMENT: &str = "docs/harden-faults.md";
/// Above the generated part of it.
const MARK: &str = "<!-- written by tests/harden.rs -->\n";

/// Where a fault was planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// On the host.
    Host,
    /// In its facts.
    Facts,
}

/// What was counted of one check.
#[derive(Debug, Clone, Default)]
struct Row {
    on_host: u32,
    in_facts: u32,
    found: u32,
    alarms: u32,
}

/// Of each check: how many faults were planted, how many of them it found, and how often it found what was not there.
pub struct Table(BTreeMap<&'static str, Row>);

impl Table {
    /// Every check, and nothing counted yet.
    pub fn new() -> Self {
        Self(harden::checks().map(|check| (check.id, Row::default())).collect())
    }

    /// Holds that `now` differs from `clean` in what was to be found, and in nothing else, and counts it.
    pub fn count(
        &mut self,
        ground: Ground,
        (now, clean): (&Verdicts, &Verdicts),
        (id, verdict): (&'static str, &'static str),
        with: &[&str],
    ) -> Result<(), String> {
        let other: Vec<&str> =
            now.iter().filter(|(id, verdict)| clean.get(*id) != Some(verdict)).map(|(id, _)| id.as_str()).collect();
        let is_found = now.get(id).is_some_and(|now| now == verdict);
        let row = self.row(id);
        // What takes a clean host's finding away shows a fault too: the one that the host has.
        if is_finding(verdict) || clean.get(id).is_some_and(|verdict| is_finding(verdict)) {
            match ground {
                Ground::Host => row.on_host += 1,
                Ground::Facts => row.in_facts += 1,
            }
            row.found += u32::from(is_found);
        }
        if !is_found {
            return Err(format!("{id} is {:?}, not {verdict}; found: {other:?}", now.get(id)));
        }
        let mut wanted: Vec<&str> = with.iter().copied().chain([id]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        other.iter().filter(|id| !wanted.contains(id)).for_each(|id| self.alarm(id));
        if other == wanted { Ok(()) } else { Err(format!("{id}: found {other:?}, not {wanted:?}")) }
    }

    /// Counts that the check found what is not there.
    pub fn alarm(&mut self, id: &str) {
        self.row(id).alarms += 1;
    }

    /// The checks of which no fault was planted.
    pub fn bare(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, row)| row.on_host + row.in_facts == 0).map(|(id, _)| *id).collect()
    }

    /// Holds the document to show this, or writes it.
    ///
    /// # Panics
    /// Where it shows something else.
    #[track_caller]
    pub fn hold_document(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let text = std::fs::read_to_string(&path).expect("the document");
        let (prose, kept) = text.split_once(MARK).expect("the document has a place for the table");
        let table = self.render();
        println!("{table}");
        if std::env::var_os("LSM_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{prose}{MARK}{table}")).expect("the document is written");
            return;
        }
        assert!(kept == table, "{DOCUMENT} is not of these faults (LSM_WRITE_DOCS=1 writes it)");
    }

    fn render(&self) -> String {
        let mut text = "\n| check | what should be | on the host | in the facts | found | false alarms |\n\
            | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        let mut sum = Row::default();
        for check in harden::checks() {
            let Row { on_host, in_facts, found, alarms } = self.0[check.id];
            text += &format!(
                "| {} | {} | {on_host} | {in_facts} | {found} of {} | {alarms} |\n",
                check.id,
                check.title,
                on_host + in_facts
            );
            sum.on_host += on_host;
            sum.in_facts += in_facts;
            sum.found += found;
            sum.alarms += alarms;
        }
        let (checks, planted) = (self.0.len(), sum.on_host + sum.in_facts);
        text + &format!(
            "| **{checks} checks** | | **{}** | **{}** | **{} of {planted}** | **{}** |\n",
            sum.on_host, sum.in_facts, sum.found, sum.alarms
        )
    }

    fn row(&mut self, id: &str) -> &mut Row {
        self.0.get_mut(id).expect("a check that there is")
    }
}

/// True of what a planted fault is found as.
fn is_finding(verdict: &str) -> bool {
    ["fail", "warn", "error"].contains(&verdict)
}
