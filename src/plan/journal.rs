//! The journal: one JSON line before and one after every step, fsynced, so that the next command knows what happened.

use crate::error::{Code, Error, Result};
use crate::facts::{self, Seen, look};
use crate::host::file;
use crate::host::lock::Lock;
use crate::plan::step::Step;
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
/// The largest journal that is read, in bytes: some thousand installs.
const LIMIT: u64 = 64 << 20;

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
        /// The version of lnd whose risk the operator accepted by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted_risk: Option<String>,
    },
    /// An lnd is about to be unpacked: what it is and how lsm knows.
    Evidence {
        /// Version, processor, hash, provenance and time, as they are kept beside it.
        archive: Value,
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
    /// The seed is about to be written to a file: only a file with this hash may ever be replaced by another seed.
    SeedWriting {
        /// The file.
        file: PathBuf,
        /// The hash of what is written; 24 random words cannot be guessed from it.
        sha256: String,
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

/// What a journal says happened.
#[derive(Debug, Default)]
pub struct History(Vec<Line>);

impl History {
    /// Reads the journal at `path`; where there is none, or this user may not look, nothing happened.
    ///
    /// # Errors
    /// Where it cannot be read or is from a newer lsm.
    pub fn read(path: &Path) -> Result<Self> {
        match look(path) {
            Seen::Absent | Seen::Hidden | Seen::File { sha256: None, .. } => Ok(Self::default()),
            _ => Ok(Self::parse(&file::read(path, LIMIT)?)?.0),
        }
    }

    /// The lines, and the length in bytes of the whole ones: a last line that a crash cut off did not begin.
    fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
        Ok((Self(lines.map(parse_line).collect::<Result<_>>()?), whole))
    }

    /// True where the last plan of `verb` did not come to its end.
    pub fn is_unfinished(&self, verb: &str) -> bool {
        let begins = |line: &Line| matches!(&line.event, Event::Begin { verb: v, .. } if v == verb);
        let Some(begin) = self.0.iter().rposition(begins) else { return false };
        let mut after = self.0[begin + 1..].iter().take_while(|line| !matches!(line.event, Event::Begin { .. }));
        !after.any(|line| matches!(line.event, Event::End))
    }

    /// True where the words of a seed for this wallet were kept by the operator.
    pub fn kept_seed(&self) -> bool {
        self.seed_kept_at().is_some()
    }

    /// When the last seed was kept, in unix seconds.
    pub fn seed_kept_at(&self) -> Option<u64> {
        self.0.iter().rev().find(|line| matches!(line.event, Event::SeedKept { .. })).map(|line| line.at)
    }

    /// The hash of the last seed that was to be written to `path` for this wallet.
    pub fn seed_written_to(&self, path: &Path) -> Option<&str> {
        self.0.iter().rev().find_map(|line| match &line.event {
            Event::SeedWriting { file, sha256 } if file == path => Some(sha256.as_str()),
            _ => None,
        })
    }

    /// True where what is at `path` is, byte for byte, the last seed that was written there for this wallet.
    pub fn is_own_seed(&self, path: &Path) -> bool {
        self.seed_written_to(path).is_some_and(|written| facts::hash(path).as_deref() == Some(written))
    }
}

/// The journal of one instance, open to write. Who opens it holds the lock under which the machine is changed.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    history: History,
    _lock: Lock,
}

impl Journal {
    /// Opens the journal at `path`, makes it (0600) where there is none, and takes the lock beside it: one lsm at a time
    /// changes this machine, whatever its instance, since they share a packet filter.
    ///
    /// # Errors
    /// Where another lsm is at work, it cannot be written, or it is from a newer lsm.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = Lock::try_take(&path.with_file_name("lock"))?.ok_or_else(|| {
            Error::new(BUSY, "another lsm is at work on this machine")
                .hint("wait until it is done; nothing was changed")
        })?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path).map_err(|e| cannot_write(path, &e))?;
        file::sync_folder_of(path)?;
        let bytes = file::read(path, LIMIT)?;
        let (history, whole) = History::parse(&bytes)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(|e| cannot_write(path, &e))?;
        }
        Ok(Self { file, path: path.to_owned(), history, _lock: lock })
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Begins a plan; `accepted_risk` is the version of lnd whose risk the operator accepted.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn begin(&mut self, verb: &str, steps: usize, accepted_risk: Option<&str>) -> Result<()> {
        self.write(Event::Begin { verb: verb.to_owned(), steps, accepted_risk: accepted_risk.map(str::to_owned) })
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
    /// Where it cannot be written or synced; of a line that does not fit nothing stays.
    pub fn write(&mut self, event: Event) -> Result<()> {
        let line = Line { v: SCHEMA, at: now(), event };
        let mut text = serde_json::to_vec(&line)
            .map_err(|e| Error::new(CANNOT_WRITE, "a step cannot be journalled").because(e))?;
        text.push(b'\n');
        let before = self.file.metadata().map_err(|e| cannot_write(&self.path, &e))?.len();
        if let Err(e) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // Half a line would spoil the next one; where even this fails, the reader drops it.
            let _ = self.file.set_len(before);
            return Err(cannot_write(&self.path, &e));
        }
        self.history.0.push(line);
        Ok(())
    }
}

fn parse_line(line: &[u8]) -> Result<Line> {
    let broken = |e: serde_json::Error| Error::new(BROKEN, "a line of the journal cannot be read").because(e);
    // The schema first: a newer line may have anything else in it.
    let schema: Schema = serde_json::from_slice(line).map_err(broken)?;
    if schema.v > SCHEMA {
        return Err(Error::new(BROKEN, "the journal was written by a newer lsm").hint("use that lsm"));
    }
    serde_json::from_slice(line).map_err(broken)
}

#[derive(Deserialize)]
struct Schema {
    v: u32,
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

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        (folder, path)
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_the_plan_known_to_be_unfinished() {
        let (_folder, path) = place();
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("install", 1, None).unwrap();
        journal.write(Event::SeedKept { file: Some("/s".into()) }).unwrap();
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"v\":1,\"at\":1,\"ev").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.history().is_unfinished("install") && journal.history().kept_seed());
        journal.write(Event::End).unwrap();
        drop(journal);
        assert!(!History::read(&path).unwrap().is_unfinished("install"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn another_verbs_failure_does_not_make_an_install_unfinished() {
        let (_folder, path) = place();
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("install", 0, Some("v1")).unwrap();
        journal.write(Event::End).unwrap();
        journal.begin("bundle export", 1, None).unwrap();
        journal.write(Event::Failed { step: 0, code: "E-X-001".into() }).unwrap();
        assert!(!journal.history().is_unfinished("install"));
        assert!(journal.history().is_unfinished("bundle export"));
    }

    #[test]
    fn a_seed_is_the_journals_own_only_byte_for_byte() {
        let (folder, path) = place();
        let seed = folder.path().join("seed");
        std::fs::write(&seed, "ours").unwrap();
        let sha256 = facts::hash(&seed).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(!journal.history().is_own_seed(&seed));
        journal.write(Event::SeedWriting { file: seed.clone(), sha256 }).unwrap();
        assert!(journal.history().is_own_seed(&seed));
        std::fs::write(&seed, "another signer's").unwrap();
        assert!(!journal.history().is_own_seed(&seed));
    }

    #[test]
    fn two_cannot_change_one_machine() {
        let (folder, path) = place();
        let _held = Journal::open(&path).unwrap();
        assert_eq!(Journal::open(&folder.path().join("other.jsonl")).unwrap_err().code(), BUSY);
    }

    #[test]
    fn a_newer_schema_is_refused_whatever_else_it_says() {
        let (_folder, path) = place();
        std::fs::write(&path, "{\"v\":2,\"when\":1}\n").unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().cause(), "the journal was written by a newer lsm");
    }
}
