//! The journal: one JSON line before and one after every step, fsynced, so that the next command knows what happened.

use crate::error::{Code, Error, Result};
use crate::facts::Seen;
use crate::facts::look;
use crate::host::account::Accounts;
use crate::host::draft;
use crate::host::file;
use crate::host::kept::Kept;
use crate::host::lock::Lock;
use crate::plan::event::{About, Event, Line};
use crate::plan::history::{History, ROLLBACK};
use crate::plan::prior::{Prior, Thing};
use crate::plan::step::Step;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CANNOT_WRITE: Code = Code::lacking("E-PLAN-001");
const BUSY: Code = Code::refused("E-PLAN-002");
const BROKEN: Code = Code::refused("E-PLAN-003");

/// The schema of the lines; a reader refuses a newer one. 2: things that are no paths, and the bytes of what was there.
pub const SCHEMA: u32 = 2;
/// The largest journal that is read, in bytes: some thousand installs.
const LIMIT: u64 = 64 << 20;
/// What a plan and its undoing write at most, in bytes: reserved before the first step, for a disk that it fills.
const RESERVE: i64 = 1 << 20;

/// The journal of one instance, open to write. Who opens it holds the lock under which the machine is changed.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    history: History,
    kept: Kept,
    _lock: Lock,
}

impl Journal {
    /// Opens the journal at `path`, makes it (0600) where there is none, and takes the lock beside it: one lsm at a time
    /// changes this machine, whatever its instance, since they share a packet filter. Half-written files that a killed one
    /// left go.
    ///
    /// # Errors
    /// Where another lsm is at work, it cannot be written, or it is from a newer lsm.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = Lock::try_take(&path.with_file_name("lock"))?.ok_or_else(|| {
            Error::new(BUSY, "another lsm is at work on this machine")
                .hint("wait until it is done; nothing was changed")
        })?;
        let (file, history) = open(path)?;
        history.cut_off().iter().try_for_each(clear_left)?;
        Ok(Self { file, path: path.to_owned(), history, kept: Kept::new(kept_beside(path)), _lock: lock })
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Where the bytes are of what was replaced.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Begins a plan. What was kept for plans that cannot be undone any more goes.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn begin(&mut self, verb: &str, steps: usize, about: About) -> Result<()> {
        self.kept.prune(&self.history.kept())?;
        // Where the file system cannot, or has not so much, every line is on its own.
        let end = self.length()?;
        let _ = fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, end.cast_signed(), RESERVE);
        self.write(Event::Begin { verb: verb.to_owned(), steps, about })
    }

    /// Says what is about to be done, with what is there now; what is about to be replaced is kept.
    ///
    /// # Errors
    /// As [`Journal::write`], and where something cannot be kept.
    pub fn intend(&mut self, place: usize, step: &Step) -> Result<()> {
        let what = serde_json::to_value(step).unwrap_or_else(|_| json!({"kind": "unknown"}));
        let undoes = self.history.unfinished().is_some_and(|record| record.verb == ROLLBACK);
        let see = |thing: &Thing| match (step, thing) {
            // Its way back is the database's. A copy of the old password would outlive it.
            (Step::ChangePassword { .. }, _) => Prior::observe(thing),
            // Nor of one that an undoing takes away, which nothing brings back.
            (Step::Restore { .. }, Thing::Secret(_)) if undoes => Prior::observe(thing),
            _ => Prior::capture(thing, &self.kept),
        };
        let prior = step.touches().iter().map(see).collect::<Result<_>>()?;
        self.write(Event::Intent { step: place, what, prior })
    }

    /// Says that a step is done, with what is there now.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn finish(&mut self, place: usize, step: &Step) -> Result<()> {
        let left = step.touches().iter().map(Prior::observe).collect::<Result<_>>()?;
        self.write(Event::Done { step: place, left })
    }

    /// Ends a plan.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn end(&mut self) -> Result<()> {
        self.write(Event::End)?;
        // Gives back what was reserved behind the end.
        let end = self.length()?;
        self.file.set_len(end).map_err(|e| cannot_write(&self.path, &e))
    }

    /// Hands what is known of `things`, each with since when and what it was, to the journal of another signer, which
    /// needs them; then this one no longer answers for them.
    ///
    /// # Errors
    /// Where either journal cannot be written.
    pub fn hand_on(&mut self, heir: &Path, things: &[(u64, Prior)]) -> Result<()> {
        let (file, history) = open(heir)?;
        let mut lines = Lines { file: &file, path: heir };
        let theirs = Kept::new(kept_beside(heir));
        for (since, prior) in things {
            if !history.has_inherited(*since, prior) {
                let prior = prior.moved(&self.kept, &theirs)?;
                lines.append(&Line { v: SCHEMA, at: now(), event: Event::Inherit { since: *since, prior } })?;
            }
        }
        let priors: Vec<Prior> = things.iter().map(|(_, prior)| prior.clone()).collect();
        self.let_go(&priors)
    }

    /// No longer answers for these things.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn let_go(&mut self, things: &[Prior]) -> Result<()> {
        things.iter().try_for_each(|prior| self.write(Event::LetGo { prior: prior.clone() }))
    }

    /// Removes a journal that answers for nothing any more, with its lock where it was the last.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn retire(self) -> Result<()> {
        self.kept.prune(&BTreeSet::new())?;
        file::remove(&self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let others = std::fs::read_dir(folder).map_err(|e| cannot_write(folder, &e))?;
        if others.flatten().all(|entry| entry.file_name() == "lock") {
            file::remove_tree(folder)?;
        }
        Ok(())
    }

    /// Appends one line and waits until the disk has it.
    ///
    /// # Errors
    /// Where it cannot be written or synced; of a line that does not fit nothing stays.
    pub fn write(&mut self, event: Event) -> Result<()> {
        let line = Line { v: SCHEMA, at: now(), event };
        Lines { file: &self.file, path: &self.path }.append(&line)?;
        self.history.push(line);
        Ok(())
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| cannot_write(&self.path, &e))?.len())
    }
}

/// A journal's file, to append to.
struct Lines<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Lines<'_> {
    fn append(&mut self, line: &Line) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|e| Error::new(CANNOT_WRITE, "a step cannot be journalled").because(e))?;
        text.push(b'\n');
        let before = self.file.metadata().map_err(|e| cannot_write(self.path, &e))?.len();
        if let Err(e) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // Half a line would spoil the next one; where even this fails, the reader drops it.
            let _ = self.file.set_len(before);
            return Err(cannot_write(self.path, &e));
        }
        Ok(())
    }
}

impl History {
    /// Reads the journal at `path`; where there is none, or this user may not look, nothing happened.
    ///
    /// # Errors
    /// Where it cannot be read, is no plain file, or is from a newer lsm.
    pub fn read(path: &Path) -> Result<Self> {
        match look(path) {
            Seen::Absent | Seen::Hidden | Seen::File { sha256: None, .. } => Ok(Self::default()),
            _ => Ok(parse(&file::read_plain(path, LIMIT)?)?.0),
        }
    }
}

/// Removes the half-written files that a step on this left.
fn clear_left(of: &Prior) -> Result<()> {
    if let Prior::Account { .. } = of {
        Accounts::default().clear_left()?;
    }
    of.files().iter().try_for_each(|place| draft::clear_left(place))
}

fn open(path: &Path) -> Result<(File, History)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(path).map_err(|e| cannot_write(path, &e))?;
    file::sync_folder_of(path)?;
    let bytes = file::read(path, LIMIT)?;
    let (history, whole) = parse(&bytes)?;
    if whole < bytes.len() {
        file.set_len(whole as u64).map_err(|e| cannot_write(path, &e))?;
    }
    Ok((file, history))
}

/// The lines, and the length in bytes of the whole ones: a last line that a crash cut off did not begin.
fn parse(bytes: &[u8]) -> Result<(History, usize)> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    Ok((History::new(lines.map(parse_line).collect::<Result<_>>()?), whole))
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

/// Where the bytes are that the journal at `path` kept.
pub fn kept_beside(path: &Path) -> PathBuf {
    path.with_extension("kept")
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
    use crate::facts;
    use crate::plan::prior::{AtPath, Role};
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
        journal.begin("install", 1, About::default()).unwrap();
        journal.write(Event::SeedKept { file: Some("/s".into()) }).unwrap();
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"v\":1,\"at\":1,\"ev").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.history().unfinished().is_some() && journal.history().kept_seed());
        journal.end().unwrap();
        drop(journal);
        assert!(History::read(&path).unwrap().unfinished().is_none());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
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
        assert!(journal.history().is_own_seed(&seed) && journal.history().is_unused_seed(&seed));
        std::fs::write(&seed, "another signer's").unwrap();
        assert!(!journal.history().is_own_seed(&seed));
    }

    #[test]
    fn of_a_password_that_an_undoing_takes_away_nothing_is_kept() {
        let (folder, path) = place();
        let secret = folder.path().join("password");
        std::fs::write(&secret, "chosen").unwrap();
        let step = Step::Restore { to: Prior::Path(AtPath::absent(&secret, Role::Secret)) };
        let mut journal = Journal::open(&path).unwrap();
        for (verb, wanted) in [(ROLLBACK, 0), ("uninstall", 1)] {
            journal.begin(verb, 1, About::default()).unwrap();
            journal.intend(0, &step).unwrap();
            let kept = std::fs::read_dir(kept_beside(&path)).map_or(0, Iterator::count);
            assert_eq!(kept, wanted, "{verb}");
            journal.end().unwrap();
        }
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
        std::fs::write(&path, format!("{{\"v\":{},\"when\":1}}\n", SCHEMA + 1)).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().cause(), "the journal was written by a newer lsm");
    }

    #[test]
    fn a_journal_that_answers_for_nothing_goes_with_all_that_it_kept() {
        let (folder, _) = place();
        let path = folder.path().join("journal/j.jsonl");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let journal = Journal::open(&path).unwrap();
        journal.kept().keep_bytes(b"old").unwrap();
        journal.retire().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
