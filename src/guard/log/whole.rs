//! The log as its operator reads it: all of its files, and what was seen of it before.

use super::{Chain, Entry, KEPT, LIMIT, NOTHING, cut, full};
use crate::error::{Code, Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

const NOT_SEEN: Code = Code::unverified("E-GUARD-005");

/// All of it, each line held to the one before it.
#[derive(Debug)]
pub struct Whole {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// How many bytes come after the last one and are none.
    pub rest: usize,
    /// The sha256 of the last line.
    end: String,
}

/// An entry that somebody saw, and the sha256 of its line, which holds all lines before it: `ID:HASH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    id: u64,
    hash: String,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.hash)
    }
}

impl FromStr for Seen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hash = |hash: &str| hash.len() == NOTHING.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let read = || {
            let (id, hash) = text.split_once(':').filter(|(_, hash)| is_hash(hash))?;
            Some(Self { id: id.parse().ok()?, hash: hash.to_ascii_lowercase() })
        };
        read().ok_or("it is ID:HASH, as lsm guard log verify has told it")
    }
}

impl Whole {
    /// Its last entry, to be held to what the log is later.
    pub fn last(&self) -> Option<Seen> {
        Some(Seen { id: self.entries.last()?.id, hash: self.end.clone() })
    }

    /// Holds it to what was seen of it before.
    ///
    /// # Errors
    /// Where that entry is another one now, or is not in it.
    pub fn hold(&self, seen: &Seen) -> Result<()> {
        let lines = self.entries.iter().map(|entry| &entry.prior).skip(1).chain([&self.end]);
        let line = self.entries.iter().zip(lines).find(|(entry, _)| entry.id == seen.id);
        match line {
            Some((_, hash)) if *hash == seen.hash => Ok(()),
            Some(_) => Err(Error::new(NOT_SEEN, format!("entry {} is not the one that was seen before", seen.id))
                .hint("somebody wrote the log anew, up to that entry or beyond")),
            None => Err(Error::new(NOT_SEEN, format!("the log has no entry {}", seen.id))
                .hint("somebody cut the log off, or that entry was in a file that was put away since")),
        }
    }
}

/// Reads the whole log at `path`, the files that were put aside first, with `read`, and holds every line to the one before it.
///
/// # Errors
/// Where a file cannot be read, or a line was changed, taken out, put in or moved. Who writes all lines anew from one on, or cuts them
/// off, leaves no trace in it: that takes what was seen before, see [`Whole::hold`].
pub fn verify(path: &Path, read: impl Fn(&Path, u64) -> Result<Option<Vec<u8>>>) -> Result<Whole> {
    let mut chain = Chain::default();
    let mut entries = Vec::new();
    for number in (1..=KEPT).rev() {
        if let Some(text) = read(&full(path, number), LIMIT)? {
            entries.extend(chain.follow(&text)?);
        }
    }
    let newest = read(path, LIMIT)?.unwrap_or_default();
    let (lines, rest) = cut(&newest);
    entries.extend(chain.follow(lines)?);
    Ok(Whole { entries, rest: rest.len(), end: chain.prior })
}

/// The last entry of the log at `path` that `is` wanted, of its two newest files; nothing is held to anything for that.
///
/// # Errors
/// Where a file cannot be read.
pub fn find_last(
    path: &Path,
    read: impl Fn(&Path, u64) -> Result<Option<Vec<u8>>>,
    is: impl Fn(&Entry) -> bool,
) -> Result<Option<Entry>> {
    for number in [0, 1] {
        let text = read(&full(path, number), LIMIT)?.unwrap_or_default();
        let mut entries = text.rsplit(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        if let Some(found) = entries.find(&is) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
