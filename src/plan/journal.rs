//! The journal: one JSON line before and one after every step, fsynced, so that the next command knows what happened.

use crate::error::{Code, Error, Result};
use crate::facts::{Seen, look};
use crate::host::file;
use crate::plan::step::Step;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CANNOT_WRITE: Code = Code::lacking("E-PLAN-001");
const BUSY: Code = Code::refused("E-PLAN-002");
const BROKEN: Code = Code::refused("E-PLAN-003");

/// The schema of the lines; a reader refuses a newer one.
const SCHEMA: u32 = 1;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The schema.
    pub v: u32,
    /// When, in seconds since 1970.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A plan begins.
    Begin {
        /// The verb that made it.
        verb: String,
        /// How many steps it has.
        steps: usize,
    },
    /// A step is about to be done.
    Intent {
        /// Its place in the plan, from 0.
        step: usize,
        /// The step itself; texts stand as hashes, secrets as references.
        what: Value,
        /// What was at its paths before.
        prior: Vec<Prior>,
    },
    /// The seed was written down (or shown and confirmed): from here on the wallet may be made with it.
    SeedKept {
        /// The file that holds it, if one does.
        file: Option<PathBuf>,
    },
    /// A step is done.
    Done {
        /// Its place.
        step: usize,
    },
    /// A step failed.
    Failed {
        /// Its place.
        step: usize,
        /// The error's code.
        code: String,
    },
    /// Every step is done.
    End,
}

/// What was at a path before a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prior {
    /// The path.
    pub path: PathBuf,
    /// `absent`, `file`, `folder` or `other`.
    pub was: String,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Prior {
    fn of(path: PathBuf) -> Self {
        let (was, mode, uid, gid, sha256) = match look(&path) {
            Seen::Absent | Seen::Hidden => ("absent", None, None, None, None),
            Seen::File { mode, uid, gid, sha256 } => ("file", Some(mode), Some(uid), Some(gid), sha256),
            Seen::Folder { mode, uid, gid } => ("folder", Some(mode), Some(uid), Some(gid), None),
            Seen::Other => ("other", None, None, None, None),
        };
        Self { path, was: was.to_owned(), mode, uid, gid, sha256 }
    }
}

/// The journal of one instance, held by this process alone.
#[derive(Debug)]
pub struct Journal {
    file: Flock<File>,
    path: PathBuf,
    lines: Vec<Line>,
}

impl Journal {
    /// Opens the journal at `path`, makes it (0600) where there is none, and locks it.
    ///
    /// A last line that was cut off by a crash is dropped: what it would have said did not begin.
    ///
    /// # Errors
    /// Where another lsm holds it, it cannot be written, or it is from a newer lsm.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path).map_err(|e| cannot_write(path, &e))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
            nix::errno::Errno::EWOULDBLOCK => Error::new(BUSY, "another lsm is at work on this signer")
                .hint("wait until it is done; nothing was changed"),
            e => cannot_write(path, &e.into()),
        })?;
        file::sync_folder_of(path)?;
        let text = file::read_text(path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(|e| cannot_write(path, &e))?;
        }
        let lines = parse(&text[..whole])?;
        Ok(Self { file, path: path.to_owned(), lines })
    }

    /// True where the last plan neither ended nor failed cleanly: it was cut off.
    pub fn is_unfinished(&self) -> bool {
        self.lines.last().is_some_and(|line| !matches!(line.event, Event::End))
    }

    /// Where the words of a seed that was made for this wallet were written down, if that came so far:
    /// the outer `None` says that none was.
    pub fn kept_seed(&self) -> Option<Option<&Path>> {
        self.lines.iter().rev().find_map(|line| match &line.event {
            Event::SeedKept { file } => Some(file.as_deref()),
            _ => None,
        })
    }

    /// When the last seed was kept, in unix seconds.
    pub fn seed_kept_at(&self) -> Option<u64> {
        self.lines.iter().rev().find(|line| matches!(line.event, Event::SeedKept { .. })).map(|line| line.at)
    }

    /// True where a step of this journal began when nothing was at `path`: what is there now came with it.
    pub fn made(&self, path: &Path) -> bool {
        self.lines.iter().any(|line| match &line.event {
            Event::Intent { prior, .. } => prior.iter().any(|p| p.path == path && p.was == "absent"),
            _ => false,
        })
    }

    /// Begins a plan.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn begin(&mut self, verb: &str, steps: usize) -> Result<()> {
        self.write(Event::Begin { verb: verb.to_owned(), steps })
    }

    /// Says what is about to be done, with what is at its paths now.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn intend(&mut self, place: usize, step: &Step) -> Result<()> {
        let what = serde_json::to_value(step).unwrap_or_else(|_| json!({"kind": "unknown"}));
        self.write(Event::Intent { step: place, what, prior: step.paths().into_iter().map(Prior::of).collect() })
    }

    /// Appends one line and waits until the disk has it.
    ///
    /// # Errors
    /// Where it cannot be written or synced.
    pub fn write(&mut self, event: Event) -> Result<()> {
        let line = Line { v: SCHEMA, at: now(), event };
        let mut text = serde_json::to_vec(&line)
            .map_err(|e| Error::new(CANNOT_WRITE, "a step cannot be journalled").because(e))?;
        text.push(b'\n');
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(|e| cannot_write(&self.path, &e))?;
        self.lines.push(line);
        Ok(())
    }
}

/// True where the journal at `path` says that its last plan was cut off. Read-only; false where it cannot be read.
pub fn is_unfinished(path: &Path) -> bool {
    let text = file::read_text(path).unwrap_or_default();
    let last = text.lines().rev().find_map(|line| serde_json::from_str::<Line>(line).ok());
    last.is_some_and(|line| !matches!(line.event, Event::End))
}

fn parse(text: &str) -> Result<Vec<Line>> {
    let parse_line = |line: &str| {
        let parsed: Line = serde_json::from_str(line)
            .map_err(|e| Error::new(BROKEN, "a line of the journal cannot be read").because(e))?;
        if parsed.v > SCHEMA {
            return Err(Error::new(BROKEN, "the journal was written by a newer lsm").hint("use that lsm"));
        }
        Ok(parsed)
    };
    text.lines().map(parse_line).collect()
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

fn cannot_write(path: &Path, e: &std::io::Error) -> Error {
    Error::new(CANNOT_WRITE, format!("cannot write the journal {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_torn_last_line_is_dropped_and_the_plan_known_to_be_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("install", 1).unwrap();
        journal.write(Event::SeedKept { file: Some("/s".into()) }).unwrap();
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"v\":1,\"at\":1,\"ev").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.is_unfinished());
        assert_eq!(journal.kept_seed(), Some(Some(Path::new("/s"))));
        journal.write(Event::End).unwrap();
        drop(journal);
        assert!(!is_unfinished(&path));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_cannot_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        let _held = Journal::open(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().code(), BUSY);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        std::fs::write(&path, "{\"v\":2,\"at\":1,\"event\":\"end\"}\n").unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().code(), BROKEN);
    }
}
