//! What was asked and what the guard said: one JSON object a line, each holding the hash of the line before it. It is written
//! before its verdict is given, and on the disk before what was passed leaves lnd.

mod disk;
mod whole;

pub use disk::Kept;
pub use whole::{Seen, Whole, find_last, verify};

use super::budget::{Ledger, Weighed};
use super::entry::{Entry, Verdict};
use super::hash;
use super::policy::Told;
use super::refusal::Refusal;
use super::spend::Spend;
use crate::error::{Code, Error, Result};
use crate::host::file;
use disk::Disk;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The log is not what the guard wrote.
pub const BROKEN: Code = Code::unverified("E-GUARD-001");
const CANNOT_WRITE: Code = Code::lacking("E-GUARD-002");

/// How long a file of it grows, in bytes: some twenty thousand entries.
const LIMIT: u64 = 8 << 20;
/// Before that it is put aside, so that it never grows beyond: an entry is smaller, but for one that carries a day of great
/// many transactions, and that is the first of a file.
const MARGIN: u64 = 256 << 10;
/// How many full files are kept besides the one that is written.
const KEPT: u32 = 8;

/// What the first line names as the line before it.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is to be written down.
pub struct Heard<'a> {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The call.
    pub call: &'a str,
    /// Its message.
    pub message: &'a [u8],
    /// What the guard says.
    pub verdict: Verdict,
    /// Why, where it refuses or would.
    pub refusal: Option<&'a Refusal>,
    /// What it asks for.
    pub asked: Option<Spend>,
    /// What it was weighed as, where it is passed.
    pub weighed: Weighed,
    /// What the policy is, where that is told.
    pub policy: Option<Told>,
}

impl<'a> Heard<'a> {
    /// Of which there is nothing else to say.
    pub fn new(at: u64, call: &'a str, verdict: Verdict) -> Self {
        let (message, weighed) = (&[][..], Weighed::default());
        Self { at, call, message, verdict, refusal: None, asked: None, weighed, policy: None }
    }
}

/// The log, open to be added to.
pub struct Log {
    path: PathBuf,
    file: File,
    chain: Chain,
    length: u64,
    ledger: Ledger,
    disk: Disk,
    /// The file as it was left.
    stamp: Stamp,
}

impl Log {
    /// Opens the log at `path`, or begins one (0600). A last line that a crash cut off is dropped: its verdict was never given.
    ///
    /// # Errors
    /// Where it cannot be read or written, or is not what was written.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |e: std::io::Error| Error::new(CANNOT_WRITE, format!("cannot write {}: {e}", path.display()));
        let file = file::append(path, 0o600)?;
        let text = file::read_plain(path, LIMIT)?;
        let (lines, rest) = cut(&text);
        if !rest.is_empty() {
            file.set_len(lines.len() as u64).and_then(|()| file.sync_all()).map_err(cannot)?;
        }
        file::sync_folder_of(path)?;
        let (mut chain, mut ledger) = (Chain::default(), Ledger::default());
        // The file may have been begun, and nothing written to it yet.
        let full = full(path, 1);
        if file::is_there(&full)? {
            ledger.read(&chain.follow(&file::read_plain(&full, LIMIT)?)?);
        }
        ledger.read(&chain.follow(lines)?);
        // What is read may be another guard's, which ended before it was on the disk.
        let disk = file.sync_data().and_then(|()| Disk::new(file.try_clone()?, chain.last)).map_err(cannot)?;
        let stamp = Stamp::of(&file).map_err(cannot)?;
        Ok(Self { path: path.to_owned(), file, chain, length: lines.len() as u64, ledger, disk, stamp })
    }

    /// True where the file is as this log left it. One that somebody else touched has to be opened again, to be read.
    pub fn is_as_left(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| Stamp::new(&now) == self.stamp)
    }

    /// Whether the entry `id` is on the disk.
    pub fn has(&self, id: u64) -> Kept {
        self.disk.has(id)
    }

    /// The last entry that is on the disk.
    pub fn synced(&self) -> u64 {
        self.disk.synced()
    }

    /// What left the wallet, as far as it was written down.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes one entry down, and returns its number. It is on the disk when [`Log::has`] says so, after a crash of this process too.
    ///
    /// # Errors
    /// Where it cannot be written: then nothing may be signed, and the log has to be opened again.
    pub fn write(&mut self, heard: &Heard<'_>) -> Result<u64> {
        let place = self.path.clone();
        let cannot = |why: String| Error::new(CANNOT_WRITE, format!("cannot write {}: {why}", place.display()));
        let turns = self.length >= LIMIT - MARGIN;
        if turns {
            self.turn()?;
        }
        let entry = Entry {
            id: self.chain.last + 1,
            at: heard.at,
            call: heard.call.to_owned(),
            message: hash(heard.message),
            verdict: heard.verdict,
            rule: heard.refusal.map(|refusal| refusal.rule.name().to_owned()),
            why: heard.refusal.map(|refusal| refusal.why.clone()),
            class: heard.weighed.class,
            asked: heard.asked.clone(),
            counted: heard.weighed.signed.clone(),
            proves: heard.weighed.proves.clone(),
            policy: heard.policy.clone().or_else(|| turns.then(|| self.ledger.told().clone())),
            // A file that is full is put aside first, and may be gone before its day is over.
            carried: if turns { self.ledger.young() } else { vec![] },
            prior: self.chain.prior.clone(),
        };
        let mut line = serde_json::to_vec(&entry).map_err(|e| cannot(e.to_string()))?;
        let prior = hash(&line);
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| cannot(e.to_string()))?;
        self.stamp = Stamp::of(&self.file).map_err(|e| cannot(e.to_string()))?;
        self.disk.written(entry.id);
        self.chain = Chain { last: entry.id, prior };
        self.length += line.len() as u64;
        self.ledger.take(&entry);
        Ok(entry.id)
    }

    /// Puts the full file aside and begins another; of the full ones the oldest goes.
    fn turn(&mut self) -> Result<()> {
        let cannot = |e: std::io::Error| Error::new(CANNOT_WRITE, format!("cannot have the log on the disk: {e}"));
        self.file.sync_data().map_err(cannot)?;
        for number in (0..KEPT).rev() {
            let from = full(&self.path, number);
            if file::is_there(&from)? {
                file::rename(&from, &full(&self.path, number + 1))?;
            }
        }
        (self.file, self.length) = (file::append(&self.path, 0o600)?, 0);
        // Whoever waits for the full one is told by its own.
        self.disk = Disk::new(self.file.try_clone().map_err(cannot)?, self.chain.last).map_err(cannot)?;
        file::sync_folder_of(&self.path)
    }
}

/// A file as somebody left it: whatever is done to its content, or to what it is called, changes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> std::io::Result<Self> {
        Ok(Self::new(&file.metadata()?))
    }

    fn new(seen: &std::fs::Metadata) -> Self {
        Self { file: (seen.dev(), seen.ino()), length: seen.len(), changed: (seen.ctime(), seen.ctime_nsec()) }
    }
}

/// The file that was put aside `number` files ago; none of them is the one that is written.
fn full(path: &Path, number: u32) -> PathBuf {
    if number == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{number}", path.display())) }
}

/// Where a chain of lines has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    last: u64,
    prior: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self { last: 0, prior: NOTHING.to_owned() }
    }
}

impl Chain {
    /// Follows it through `text`, which is whole lines, and gives its entries. The first of all may be one whose predecessors were put away.
    ///
    /// # Errors
    /// Where a line was changed, taken out, put in or moved.
    fn follow(&mut self, text: &[u8]) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let (lines, rest) = cut(text);
        for line in lines.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]) {
            let entry: Entry = serde_json::from_slice(line).map_err(|e| self.broken("does not read").because(e))?;
            let is_first = self.last == 0 && entry.id > 1;
            if !is_first && (entry.id != self.last + 1 || entry.prior != self.prior) {
                return Err(self.broken("does not follow from it"));
            }
            *self = Self { last: entry.id, prior: hash(line) };
            entries.push(entry);
        }
        if rest.is_empty() { Ok(entries) } else { Err(self.broken("has no end")) }
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(BROKEN, format!("what comes after entry {} of the guard's log {why}", self.last))
            .hint("somebody changed the log")
    }
}

/// Whole lines, and what comes after the last of them: of the file that is written that is a line that was cut off, and whose verdict
/// was never given, or one whose end somebody changed.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1))
}

#[cfg(test)]
mod tests;
