//! All addresses that are the wallet's: derived once, which takes seconds, and kept for the guards after.

use super::Branch;
use crate::error::Result;
use crate::host::file::{self, Access};
use bitcoin::key::Secp256k1;
use bitcoin::{Script, ScriptBuf};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// The largest file that is read, in bytes: 120,000 scripts have less than 4 MB.
const LIMIT: u64 = 16 << 20;
/// The hash before the scripts, in bytes.
const HASH: usize = 32;

/// The addresses of all rows, each with its index.
pub(super) struct Addresses(HashMap<ScriptBuf, u32>);

impl Addresses {
    /// Those before `end`: as an earlier guard kept them at `place`, else derived, and kept there.
    pub(super) fn of(branches: &[Branch], end: u32, place: &Path) -> (Self, Result<()>) {
        if let Some(scripts) = file::read_plain(place, LIMIT).ok().and_then(|kept| parse(&kept, branches, end)) {
            return (Self(scripts), Ok(()));
        }
        let rows = derive(branches, end);
        let kept = file::replace(place, &render(&rows, branches, end), Access::mode(0o600));
        let scripts = rows.into_iter().flatten().map(|(index, script)| (script, index));
        (Self(scripts.collect()), kept)
    }

    /// The index of an address.
    pub(super) fn find(&self, script: &Script) -> Option<u32> {
        self.0.get(script).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Of each row its addresses. Somebody waits for them: by two at once.
fn derive(branches: &[Branch], end: u32) -> Vec<Vec<(u32, ScriptBuf)>> {
    let of = |rows: &[Branch]| {
        let secp = Secp256k1::verification_only();
        rows.iter().map(|row| row.scripts(&secp, end)).collect::<Vec<_>>()
    };
    let (one, other) = branches.split_at(branches.len() / 2);
    std::thread::scope(|both| {
        let other = both.spawn(|| of(other));
        let mut rows = of(one);
        rows.extend(other.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault)));
        rows
    })
}

/// The hash, then the scripts one after the other, each after its length: the index of each is its place.
fn render(rows: &[Vec<(u32, ScriptBuf)>], branches: &[Branch], end: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for row in rows {
        let mut scripts = row.iter().peekable();
        for index in 0..end {
            // An index without a key has an empty one.
            let script = scripts.next_if(|(at, _)| *at == index).map_or(&[][..], |(_, script)| script.as_bytes());
            body.push(script.len() as u8);
            body.extend(script);
        }
    }
    [hash(&body, branches, end).as_slice(), &body].concat()
}

/// None where it is not whole, or of another wallet.
fn parse(kept: &[u8], branches: &[Branch], end: u32) -> Option<HashMap<ScriptBuf, u32>> {
    let (hashed, mut body) = kept.split_at_checked(HASH)?;
    if hashed != hash(body, branches, end) {
        return None;
    }
    let mut scripts = HashMap::with_capacity(branches.len() * end as usize);
    for _ in branches {
        for index in 0..end {
            let (length, rest) = body.split_first()?;
            let (script, rest) = rest.split_at_checked(usize::from(*length))?;
            body = rest;
            if !script.is_empty() {
                scripts.insert(ScriptBuf::from_bytes(script.to_vec()), index);
            }
        }
    }
    body.is_empty().then_some(scripts)
}

fn hash(body: &[u8], branches: &[Branch], end: u32) -> [u8; HASH] {
    let mut hash = Sha256::new();
    for row in branches {
        hash.update(row.purpose.to_be_bytes());
        hash.update(row.change.to_be_bytes());
        hash.update(row.key.encode());
    }
    hash.update(end.to_be_bytes());
    hash.update(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::judge::tests::accounts;
    use crate::guard::wallet::Wallet;

    #[test]
    fn what_was_kept_is_taken_where_it_is_whole_and_of_this_wallet() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("addresses");
        let branches = Wallet::new(accounts()).unwrap().branches;
        let (derived, kept) = Addresses::of(&branches, 3, &place);
        kept.unwrap();
        assert_eq!(derived.len(), 3 * branches.len());
        let bytes = std::fs::read(&place).unwrap();
        assert_eq!(parse(&bytes, &branches, 3), Some(derived.0));

        let (mut other, mut changed) = (branches.clone(), bytes.clone());
        other.swap(0, 1);
        *changed.last_mut().unwrap() ^= 1;
        assert!(parse(&bytes, &other, 3).is_none() && parse(&bytes, &branches, 4).is_none());
        for bad in [&changed[..], &bytes[..bytes.len() - 1], &bytes[..HASH], &[]] {
            assert!(parse(bad, &branches, 3).is_none());
            std::fs::write(&place, bad).unwrap();
            Addresses::of(&branches, 3, &place).1.unwrap();
            assert_eq!(std::fs::read(&place).unwrap(), bytes, "it is made again");
        }
    }
}
