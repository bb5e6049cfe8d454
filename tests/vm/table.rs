//! The table of what was broken for real, and whether it was found.

use super::Verdicts;
use std::path::Path;

const DOCUMENT: &str = "docs/harden-vm.md";
/// Above the generated part of it.
const MARK: &str = "<!-- written by tests/vm.rs -->\n";

/// What was planted, and what came of it.
#[derive(Default)]
pub struct Table {
    rows: Vec<String>,
    found: usize,
    wrong: Vec<String>,
}

impl Table {
    /// Counts one thing that was done: of `now` only `found` and `with` may be among the changes.
    pub fn count(
        &mut self,
        what: &str,
        (id, verdict): (&str, &str),
        with: &[&str],
        changes: &[(String, String)],
        now: &Verdicts,
    ) {
        let is_found = now.get(id).is_some_and(|now| now == verdict);
        let other: Vec<&str> = changes.iter().map(|(id, _)| id.as_str()).filter(|other| *other != id).collect();
        self.row(what, id, verdict, with, is_found);
        if !is_found || other != with {
            self.wrong.push(format!("{what}: {id} is {:?}, not {verdict}; changed: {changes:?}", now.get(id)));
        }
    }

    /// Counts what the words of a boot changed.
    pub fn count_boot(&mut self, what: &str, found: &[(&str, &str)], changes: &[(String, String)]) {
        let mut left: Vec<(&str, &str)> = changes.iter().map(|(id, verdict)| (id.as_str(), verdict.as_str())).collect();
        for (id, verdict) in found {
            self.row(what, id, verdict, &[], left.contains(&(id, verdict)));
        }
        left.retain(|one| !found.contains(one));
        if !left.is_empty() || found.iter().any(|(id, _)| !changes.iter().any(|(is, _)| is == id)) {
            self.wrong.push(format!("{what}: {changes:?}, not {found:?}"));
        }
    }

    /// Holds that nothing is left of what was undone.
    pub fn hold_cured(&mut self, what: &str, changes: &[(String, String)]) {
        if !changes.is_empty() {
            self.wrong.push(format!("{what}, undone: {changes:?}"));
        }
    }

    /// How many were found of how many.
    pub fn sum(&self) -> String {
        format!("{} of {} found", self.found, self.rows.len())
    }

    /// Holds that all was found, and the document to show this, or writes it.
    ///
    /// # Panics
    /// Where something was not found or was found wrongly, or the document shows something else.
    #[track_caller]
    pub fn hold_document(&self) {
        let sum = self.sum();
        let table = format!(
            "\n| what was done | check | found | with it |\n| --- | --- | --- | --- |\n{}| **{sum}** | | | |\n",
            self.rows.concat()
        );
        println!("{table}");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let text = std::fs::read_to_string(&path).expect("the document");
        let (prose, kept) = text.split_once(MARK).expect("the document has a place for the table");
        if std::env::var_os("LSM_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{prose}{MARK}{table}")).expect("the document is written");
            return;
        }
        assert!(kept == table, "{DOCUMENT} is not of these faults (LSM_WRITE_DOCS=1 writes it)");
    }

    fn row(&mut self, what: &str, id: &str, verdict: &str, with: &[&str], is_found: bool) {
        self.found += usize::from(is_found);
        let found = if is_found { verdict } else { "**no**" };
        // A bar would end the cell.
        let what = what.replace('|', "\\|");
        self.rows.push(format!("| {what} | {id} | {found} | {} |\n", with.join(" ")));
    }
}
