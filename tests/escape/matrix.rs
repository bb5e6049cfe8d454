//! The matrix of docs/sandbox.md: every attempt by every layer.

use super::column::{Attempt, Layers, Outcome};
use lsm::sandbox::landlock::Interface;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where the matrices begin in the document: of a unit's lnd, and of a container's.
const MARKS: [&str; 2] =
    ["<!-- written by tests/escape.rs -->\n", "<!-- written by tests/escape.rs, of a container -->\n"];
/// The layers that are shown in them, and their names.
pub const OF_A_UNIT: &[(Layers, &str)] =
    &[(Layers::Unit, "unit"), (Layers::Launcher, "launcher"), (Layers::Both, "both")];
pub const OF_A_CONTAINER: &[(Layers, &str)] =
    &[(Layers::Container, "container"), (Layers::Contained, "with the launcher")];

/// What came of the attempts, by layer.
pub struct Matrix {
    attempts: Vec<Attempt>,
    columns: BTreeMap<Layers, BTreeMap<String, Outcome>>,
}

impl Matrix {
    /// The matrix of these attempts, by `columns`.
    pub fn new(attempts: Vec<Attempt>, columns: BTreeMap<Layers, BTreeMap<String, Outcome>>) -> Self {
        Self { attempts, columns }
    }

    /// The attempts that were possible without a sandbox.
    pub fn counted(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| self.is_possible(attempt))
    }

    /// The counted attempts that got through `layers`.
    pub fn open(&self, layers: Layers) -> Vec<&str> {
        let open = |a: &&Attempt| self.outcome(layers, a) == Some(Outcome::Open);
        self.counted().filter(open).map(|a| a.name.as_str()).collect()
    }

    fn is_possible(&self, attempt: &Attempt) -> bool {
        let free = if attempt.who == "root" { Layers::NoneAsRoot } else { Layers::NoneAsUser };
        self.outcome(free, attempt) == Some(Outcome::Open)
    }

    fn outcome(&self, layers: Layers, attempt: &Attempt) -> Option<Outcome> {
        self.columns.get(&layers)?.get(&attempt.name).copied()
    }

    /// The tables, a group each, with a column for each of these layers.
    pub fn tables(&self, shown: &[(Layers, &str)]) -> String {
        let counted: Vec<&Attempt> = self.counted().collect();
        let denied = |(layers, name): &(Layers, &str)| format!("{} ({name})", counted.len() - self.open(*layers).len());
        let denied: Vec<String> = shown.iter().map(denied).collect();
        let mut text = format!("{} attempts count. Denied: {}.\n", counted.len(), denied.join(", "));
        let names: Vec<&str> = shown.iter().map(|(_, name)| *name).collect();
        let mut group = "";
        for attempt in counted {
            if attempt.group != group {
                group = &attempt.group;
                text.push_str(&format!("\n| {group} | possible to | {} |\n", names.join(" | ")));
                text.push_str(&format!("| --- | --- |{}\n", " --- |".repeat(names.len())));
            }
            let cell = |(layers, _): &(Layers, &str)| self.outcome(*layers, attempt).map_or("", word);
            let cells = shown.iter().map(cell).collect::<Vec<_>>().join(" | ");
            let who = if attempt.who == "root" { "root" } else { "lnd's user" };
            text.push_str(&format!("| {} | {who} | {cells} |\n", attempt.name));
        }
        text
    }

    /// The attempts that were not possible, a line each.
    pub fn not_possible(&self) -> String {
        self.attempts.iter().filter(|a| !self.is_possible(a)).map(|a| format!("- {}\n", a.name)).collect()
    }
}

/// Holds `seen`, the tables of the layers `shown`, to the document: nothing is open that it does not call open. A newer
/// systemd may leave less open, and a kernel with less of Landlock is not the document's. Where `LSM_WRITE_DOCS` is set,
/// writes it there.
#[track_caller]
pub fn keep(shown: &[(Layers, &str)], seen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/sandbox.md");
    let document = std::fs::read_to_string(&path).expect("docs/sandbox.md");
    let missing = "the document has a place for each matrix";
    let (prose, units) = document.split_once(MARKS[0]).expect(missing);
    let (unit, container) = units.split_once(MARKS[1]).expect(missing);
    let is_unit = shown == OF_A_UNIT;
    let kept = if is_unit { unit } else { container };
    if std::env::var_os("LSM_WRITE_DOCS").is_some() {
        let (unit, container) = if is_unit { (seen, container) } else { (unit, seen) };
        let text = format!("{prose}{}{unit}{}{container}", MARKS[0], MARKS[1]);
        std::fs::write(&path, text).expect("the document is written");
        return;
    }
    if !Interface::of_kernel().missing().is_empty() {
        return;
    }
    let (kept, seen) = (open_cells(kept), open_cells(seen));
    let new: Vec<_> = seen.difference(&kept).collect();
    assert!(new.is_empty(), "docs/sandbox.md does not call these open (LSM_WRITE_DOCS=1 writes it): {new:?}");
}

/// The section, attempt and column of every cell that says open.
fn open_cells(text: &str) -> BTreeSet<(&str, &str, usize)> {
    let (mut open, mut section) = (BTreeSet::new(), "");
    for line in text.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let cells: Vec<&str> = line.split(" | ").collect();
        let is_open = |cell: &&str| cell.trim_end_matches(" |") == word(Outcome::Open);
        let columns = cells.iter().enumerate().filter(|(_, cell)| is_open(cell));
        open.extend(columns.map(|(column, _)| (section, cells[0], column)));
    }
    open
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Open => "**open**",
        Outcome::Refused => "refused",
        Outcome::Ended => "ended",
    }
}
