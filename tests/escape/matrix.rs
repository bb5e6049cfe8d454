//! The matrix of docs/sandbox.md: every attempt by every layer.

use crate::column::{Attempt, Layers, Outcome};
use lsm::sandbox::landlock::Interface;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where the matrix begins in the document.
const MARK: &str = "<!-- written by tests/escape.rs -->\n";

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

    /// The tables, a group each.
    pub fn tables(&self) -> String {
        let shown = [Layers::Unit, Layers::Launcher, Layers::Both];
        let counted: Vec<&Attempt> = self.counted().collect();
        let denied = shown.map(|layers| counted.len() - self.open(layers).len());
        let mut text = format!(
            "{} attempts count. Denied: {} by the unit alone, {} by the launcher alone, {} by both together.\n",
            counted.len(),
            denied[0],
            denied[1],
            denied[2]
        );
        let mut group = "";
        for attempt in counted {
            if attempt.group != group {
                group = &attempt.group;
                let head = format!("\n| {group} | possible to | unit | launcher | both |\n");
                text.push_str(&(head + "| --- | --- | --- | --- | --- |\n"));
            }
            let cells = shown.map(|layers| self.outcome(layers, attempt).map_or("", word)).join(" | ");
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

/// Holds `seen` to the document: nothing is open that it does not call open. A newer systemd may leave less open, and a
/// kernel with less of Landlock is not the document's. Where `LSM_WRITE_DOCS` is set, writes it there.
#[track_caller]
pub fn keep(seen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/sandbox.md");
    let document = std::fs::read_to_string(&path).expect("docs/sandbox.md");
    let (prose, kept) = document.split_once(MARK).expect("the document has a place for the matrix");
    if std::env::var_os("LSM_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{prose}{MARK}{seen}")).expect("the document is written");
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
