//! The Go checksum database as a witness: proof that it recorded a module's hash, whoever passes its answers on.
//!
//! The database signs the head of an append-only Merkle tree (RFC 6962) of all records. What is asked here: the record,
//! the signed head, and the tiles of hashes (256 a tile) between the two. Formats: golang.org/x/mod/sumdb, packages note
//! and tlog. Not noticed is a database that signs one tree for us and another one for the rest of the world.

use crate::error::{Code, Error, Exit, Result};
use crate::release::download::Fetcher;
use crate::release::source::gomodule::{Module, Proxies};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

const OUT_OF_REACH: Code = Code::lacking("E-SUMDB-001");
const NO_RECORD: Code = Code::lacking("E-SUMDB-002");
const UNPROVED: Code = Code::unverified("E-SUMDB-003");
const OTHER_HASH: Code = Code::unverified("E-SUMDB-004");

/// The database, which is also the name in its signatures.
const NAME: &str = "sum.golang.org";

/// Its key: one byte for the algorithm (1, Ed25519), then 32 (`go help module-auth`; cmd/go/internal/modfetch/key.go).
const KEY: &str = "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// Hashes in a full tile: it is 8 levels high.
const FULL: u64 = 256;

/// A tile has 8 KiB; a record with its head is smaller.
const ANSWER_LIMIT: u64 = 16 << 10;

type Hash = [u8; 32];

/// Gives what the database has at a path below its address; nothing where it has nothing.
type Get<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

/// A module hash that the database has recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::release) struct Recorded {
    /// The record's number.
    pub(in crate::release) record: u64,
    /// The number of records in the signed tree that it was proved to be in.
    pub(in crate::release) tree: u64,
}

/// Holds `module` against its record in the database, which is asked through the first of `proxies` that passes it on,
/// else directly.
///
/// # Errors
/// Where the database cannot be reached or has no record (exit 3), or the record has another hash or is not proved to be
/// the database's own (exit 4): the module is named.
pub(in crate::release) fn hold(module: Module<'_>, proxies: &Proxies, fetcher: &Fetcher) -> Result<Recorded> {
    let mut so_far = None;
    for proxy in proxies.urls() {
        let base = format!("{proxy}/sumdb/{NAME}");
        let get = |path: &str| fetcher.fetch_small(std::slice::from_ref(&base), path, ANSWER_LIMIT);
        match get("supported").and_then(|yes| yes.map(|_| prove(module, &get)).transpose()) {
            Ok(Some(recorded)) => return Ok(recorded),
            Ok(None) => {}
            Err(e) if e.code().exit == Exit::Lacking => so_far = Some(e),
            Err(e) => return Err(e),
        }
    }
    let base = format!("https://{NAME}");
    let get = |path: &str| fetcher.fetch_small(std::slice::from_ref(&base), path, ANSWER_LIMIT);
    prove(module, &get).map_err(|e| {
        if e.code().exit != Exit::Lacking || e.code() == NO_RECORD {
            return e;
        }
        let (name, why) = (module.name(), so_far.as_ref().unwrap_or(&e).cause());
        Error::new(OUT_OF_REACH, format!("the Go checksum database cannot be asked for {name}: {why}"))
            .hint(format!("let GOPROXY name a proxy that passes {NAME} on"))
            .because(e)
    })
}

fn prove(module: Module<'_>, get: Get<'_>) -> Result<Recorded> {
    let (name, unproved) = (module.name(), |why: &str| unproved(&module, why));
    let answer = get(&format!("lookup/{}@{}", escape(module.path), escape(module.version)))?
        .ok_or_else(|| Error::new(NO_RECORD, format!("the Go checksum database has no record of {name}")))?;
    let answer = std::str::from_utf8(&answer).map_err(|_| unproved("its answer is no text"))?;
    let (number, data, note) = split_answer(answer).ok_or_else(|| unproved("its answer is no record"))?;
    let (size, root) = open_note(note).map_err(&unproved)?;
    let tree = Tree { module: &module, get, size, root };
    tree.include(number, leaf(data))?;
    // Only from here on is the record the database's word.
    let start = format!("{} {} ", module.path, module.version);
    let mut hashes = data.lines().filter_map(|l| l.strip_prefix(&start)).peekable();
    match hashes.peek().copied() {
        None => Err(unproved("the record is another module's")),
        Some(_) if hashes.any(|h| h == module.hash) => Ok(Recorded { record: number, tree: size }),
        Some(other) => {
            Err(Error::new(OTHER_HASH, format!("the Go checksum database knows {name} by another hash: {other}"))
                .hint(format!("expected {}: whoever named that hash named another source", module.hash)))
        }
    }
}

fn unproved(module: &Module<'_>, why: &str) -> Error {
    let cause = format!("{} is not proved to be in the Go checksum database: {why}", module.name());
    Error::new(UNPROVED, cause).hint("the proxy or the way to it changed the answer; ask through another GOPROXY")
}

/// Capitals are written as `!` and the small letter (golang.org/x/mod/module, EscapePath).
fn escape(text: &str) -> String {
    let spell = |c: char| if c.is_ascii_uppercase() { format!("!{}", c.to_ascii_lowercase()) } else { c.to_string() };
    text.chars().map(spell).collect()
}

/// An answer to a lookup: the record's number on a line, its text, an empty line, the signed head.
fn split_answer(answer: &str) -> Option<(u64, &str, &str)> {
    let (number, rest) = answer.split_once('\n')?;
    let end = rest.find("\n\n")?;
    Some((number.parse().ok()?, &rest[..=end], &rest[end + 2..]))
}

/// A note is a text, an empty line, and lines `— NAME BASE64` of four bytes for the key and the signature of the text.
/// The text of this one says how many records the tree has, and its root.
fn open_note(note: &str) -> Result<(u64, Hash), &'static str> {
    let end = note.rfind("\n\n").ok_or("its tree is not signed")?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    let key = STANDARD.decode(KEY).expect("a test reads it");
    let id = &Sha256::digest([NAME.as_bytes(), b"\n", &key].concat())[..4];
    let ours = signatures.lines().filter_map(|l| l.strip_prefix("— ")?.strip_prefix(NAME)?.strip_prefix(' '));
    let mut ours = ours.filter_map(|s| STANDARD.decode(s).ok()).filter(|s| s.starts_with(id));
    let signature = ours.next().ok_or("its tree is not signed by it")?;
    let public = UnparsedPublicKey::new(&ED25519, &key[1..]);
    public.verify(text.as_bytes(), &signature[id.len()..]).map_err(|_| "the signature of its tree is bad")?;
    let mut lines = text.lines();
    let (kind, size, root) = (lines.next(), lines.next(), lines.next());
    let root = root.and_then(|l| STANDARD.decode(l).ok()).and_then(|b| b.try_into().ok());
    match (kind, size.and_then(|l| l.parse().ok()), root) {
        (Some("go.sum database tree"), Some(size), Some(root)) => Ok((size, root)),
        _ => Err("what it signed is no tree"),
    }
}

struct Tree<'a> {
    module: &'a Module<'a>,
    get: Get<'a>,
    size: u64,
    root: Hash,
}

impl Tree<'_> {
    /// Proves that record `number` has the hash `leaf` in this tree.
    ///
    /// A node at tile level L stands for 256^L records. From the record up, each full tile must hold the hash found so
    /// far, and its root is what to look for one level higher, until that lies in the tree's right edge: the tiles that
    /// are not full, at most one a level. They make up the whole tree, so their root must be the signed one. A number
    /// beyond the tree is never found in it.
    fn include(&self, number: u64, leaf: Hash) -> Result<()> {
        let (mut at, mut sought, mut edge) = (number, Some(leaf), None);
        for level in (0..u64::BITS / 8).take_while(|l| self.size >> (8 * l) > 0) {
            let (last, width) = (self.size >> (8 * level) >> 8, self.size >> (8 * level) & 255);
            if let Some(hash) = sought
                && at >> 8 < last
            {
                let tile = self.tile(level, at >> 8, FULL)?;
                sought = Some(self.root_with(&tile, at, hash)?);
            }
            if width > 0 {
                let mut tile = self.tile(level, last, width)?;
                if let Some(hash) = sought
                    && at >> 8 == last
                {
                    self.root_with(&tile, at, hash)?;
                    sought = None;
                }
                tile.extend(edge);
                edge = Some(root(&tile));
            }
            at >>= 8;
        }
        if sought.is_none() && edge == Some(self.root) {
            return Ok(());
        }
        Err(unproved(self.module, "its tiles do not make up the signed tree"))
    }

    /// The root of a tile that must hold `hash` in the place of node `at`.
    fn root_with(&self, tile: &[Hash], at: u64, hash: Hash) -> Result<Hash> {
        if tile.get((at % FULL) as usize) == Some(&hash) {
            return Ok(root(tile));
        }
        Err(unproved(self.module, "the record is not what its tree holds"))
    }

    /// The first `width` hashes of a tile.
    fn tile(&self, level: u32, index: u64, width: u64) -> Result<Vec<Hash>> {
        let full = format!("tile/8/{level}/{}", spell(index));
        let part = if width < FULL { (self.get)(&format!("{full}.p/{width}"))? } else { None };
        // Where a tile was filled since, the part may be gone; the full tile begins with the same hashes.
        let bytes = match part {
            Some(bytes) => bytes,
            None => (self.get)(&full)?.ok_or_else(|| {
                Error::new(OUT_OF_REACH, format!("the Go checksum database lacks {full}, which its tree needs"))
            })?,
        };
        let hashes: Vec<Hash> = bytes.as_chunks().0.iter().take(width as usize).copied().collect();
        if hashes.len() as u64 == width {
            return Ok(hashes);
        }
        Err(unproved(self.module, &format!("{full} is cut short")))
    }
}

/// A tile's number in its path: groups of three digits, each but the last after an `x`.
fn spell(mut number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        path = format!("x{:03}/{path}", number % 1000);
    }
    path
}

/// A record's hash.
fn leaf(data: &str) -> Hash {
    Sha256::digest([&[0], data.as_bytes()].concat()).into()
}

/// The root over some nodes, one at least: the left half is the largest power of two that leaves something to the right.
fn root(nodes: &[Hash]) -> Hash {
    if let [one] = nodes {
        return *one;
    }
    let (left, right) = nodes.split_at(nodes.len().next_power_of_two() / 2);
    Sha256::digest([&[1][..], &root(left), &root(right)].concat()).into()
}

#[cfg(test)]
mod tests;
