//! Which macaroons lsm baked for a signer, each on which root key: what they are for and no secret.

use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::signer::macaroon::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use time::OffsetDateTime;

const BAD: Code = Code::refused("E-MAC-013");

/// The root key of the first bundle's macaroon: one of its own, so that it can be revoked alone (root key 0 cannot be).
const FIRST: u64 = 1;
/// The root key of the first one with MuSig2: another one, so that going back to the least one can revoke it.
const FIRST_TAPROOT: u64 = 2;

/// The root key of the guard's macaroon: beyond all that are counted up from the first.
pub const GUARD: u64 = 1 << 32;

/// The register's name, beside the wallet's receipt.
pub const FILE: &str = "macaroons.toml";

/// What the bundle's macaroons are called.
const BUNDLE: &str = "bundle";

/// All that were baked, the oldest first. A root key that was used once is not used again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Each macaroon.
    #[serde(default, rename = "macaroon")]
    pub entries: Vec<Entry>,
}

/// One macaroon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The root key that it hangs on, and nothing else does.
    pub root_key: u64,
    /// What the operator calls it.
    pub name: String,
    /// Who holds it.
    pub held: Held,
    /// When it was baked, in seconds since 1970.
    pub made: u64,
    /// Its caveats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<String>,
    /// What it permits.
    pub role: Role,
}

impl Entry {
    /// A bundle's macaroon.
    pub fn of_bundle(taproot_channels: bool, root_key: u64, held: Held, made: u64) -> Self {
        let role = Role::signer(taproot_channels);
        Self { root_key, name: BUNDLE.to_owned(), held, made, caveats: vec![], role }
    }
}

/// A time as entries have it, in seconds since 1970.
pub fn seconds(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp()).unwrap_or_default()
}

/// Who holds a macaroon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Whoever the operator gave it to.
    Operator,
    /// The watch-only side: it is in the bundle.
    Bundle,
    /// The watch-only side, until that has the new bundle.
    Retiring,
    /// Nobody any more, as the operator says.
    Retired,
}

impl Held {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Operator => "the operator's",
            Self::Bundle => "the bundle's",
            Self::Retiring => "an earlier bundle's, until: lsm macaroon rotate --finish",
            Self::Retired => "an earlier bundle's",
        }
    }
}

impl Register {
    /// Reads it; where there is none, nothing but the first bundle was baked.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        if !file::is_there(path)? {
            return Ok(Self::default());
        }
        toml::from_str(&file::read_text(path)?)
            .map_err(|e| Error::new(BAD, format!("{} is no register of macaroons", path.display())).because(e))
    }

    /// It as a file.
    ///
    /// # Errors
    /// Where it cannot be written as TOML.
    pub fn render(&self) -> Result<String> {
        let body = toml::to_string(self)
            .map_err(|e| Error::new(BAD, "the register of macaroons cannot be written").because(e))?;
        Ok(format!("# The macaroons that lsm baked for this signer, without their secrets: lsm macaroon list.\n{body}"))
    }

    /// The one on this root key.
    pub fn find(&self, root_key: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.root_key == root_key)
    }

    /// The root key of the bundle's macaroon, with MuSig2 or without: the first one, of which nothing is kept, until that was
    /// rotated. `None` where an earlier bundle had it and no other has come in its place: another one has to.
    pub fn bundle_key(&self, taproot_channels: bool) -> Option<u64> {
        let role = Role::signer(taproot_channels);
        let held = self.entries.iter().rev().find(|entry| entry.held == Held::Bundle && entry.role == role);
        let first = if taproot_channels { FIRST_TAPROOT } else { FIRST };
        held.map(|entry| entry.root_key).or_else(|| self.find(first).is_none().then_some(first))
    }

    /// The root keys of the macaroons with MuSig2 that the watch-only side has or had.
    pub fn taproot_keys(&self) -> BTreeSet<u64> {
        let is_theirs = |entry: &&Entry| entry.role == Role::SignerTaproot && entry.held != Held::Operator;
        self.entries.iter().filter(is_theirs).map(|entry| entry.root_key).chain([FIRST_TAPROOT]).collect()
    }

    /// Those of earlier bundles that are still to be revoked.
    pub fn retiring(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.held == Held::Retiring).collect()
    }

    /// A root key that neither this register nor lnd, which has these, ever had.
    pub fn free_key(&self, live: &[u64]) -> u64 {
        let last = self.entries.iter().map(|entry| entry.root_key).fold(FIRST_TAPROOT, u64::max);
        // Of so many keys one is free.
        (last + 1..).find(|key| !live.contains(key)).unwrap_or(last + 1)
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// With another root key for the bundle's macaroon from `now` on. The one of before retires, and so does that of the other
    /// role, which an earlier bundle had, where its root key is `live`.
    #[must_use]
    pub fn rotated(mut self, taproot_channels: bool, root_key: u64, now: u64, live: &[u64]) -> Self {
        for taproot in [taproot_channels, !taproot_channels] {
            let Some(old) = self.bundle_key(taproot) else { continue };
            match self.entries.iter_mut().find(|entry| entry.root_key == old) {
                Some(known) => known.held = Held::Retiring,
                None if taproot == taproot_channels || live.contains(&old) => {
                    self.entries.push(Entry::of_bundle(taproot, old, Held::Retiring, 0));
                }
                None => {}
            }
        }
        self.with(Entry::of_bundle(taproot_channels, root_key, Held::Bundle, now))
    }

    /// With nothing that retires: the other side has the new bundle.
    #[must_use]
    pub fn finished(mut self) -> Self {
        for entry in self.entries.iter_mut().filter(|entry| entry.held == Held::Retiring) {
            entry.held = Held::Retired;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(entries: &[&Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.root_key).collect()
    }

    #[test]
    fn a_rotation_gives_the_bundle_another_key_and_keeps_the_old_one_until_it_is_finished() {
        let register = Register::default();
        assert_eq!((register.bundle_key(false), register.bundle_key(true)), (Some(1), Some(2)));
        let begun = register.rotated(false, 3, 77, &[]);
        assert_eq!((begun.bundle_key(false), begun.bundle_key(true)), (Some(3), Some(2)));
        assert_eq!(keys(&begun.retiring()), [1]);
        let read: Register = toml::from_str(&begun.render().unwrap()).unwrap();
        assert_eq!(read, begun);
        let again = begun.finished().rotated(false, 4, 78, &[0, 2]);
        assert_eq!((again.bundle_key(false), keys(&again.retiring())), (Some(4), vec![3, 2]));
        assert_eq!(again.find(1).unwrap().held, Held::Retired);
    }

    #[test]
    fn a_role_that_changes_in_a_rotation_takes_no_key_that_retires() {
        let begun = Register::default().rotated(true, 3, 77, &[1, 2]);
        assert_eq!(keys(&begun.retiring()), [2, 1]);
        assert_eq!((begun.bundle_key(true), begun.bundle_key(false)), (Some(3), None));
        assert_eq!(begun.clone().finished().bundle_key(false), None, "nor one that was revoked");
        let changed = begun.with(Entry::of_bundle(false, 4, Held::Bundle, 78)).finished();
        assert_eq!((changed.bundle_key(true), changed.bundle_key(false)), (Some(3), Some(4)));
        // With none of its own, nothing but the other role's retires.
        let back = Register::default().rotated(true, 3, 77, &[1]).finished().rotated(false, 4, 78, &[]);
        assert_eq!((keys(&back.retiring()), back.bundle_key(false)), (vec![3], Some(4)));
    }

    #[test]
    fn a_key_is_used_once() {
        let register = Register::default().rotated(true, 5, 0, &[]);
        assert_eq!(register.taproot_keys(), [2, 5].into());
        assert_eq!((register.free_key(&[0, 5]), register.free_key(&[6, 7, u64::MAX])), (6, 8));
        assert_eq!(Register::default().free_key(&[]), 3);
    }

    #[test]
    fn a_register_from_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("macaroons.toml");
        assert_eq!(Register::read(&path).unwrap(), Register::default());
        let mut calls = Register::default();
        calls.entries.push(Entry {
            root_key: 3,
            name: "x".into(),
            held: Held::Operator,
            made: 1,
            caveats: vec!["ipaddr 10.0.0.7".into()],
            role: Role::Calls(["/a.B/C".to_owned()].into()),
        });
        std::fs::write(&path, calls.render().unwrap()).unwrap();
        assert_eq!(Register::read(&path).unwrap(), calls);
        std::fs::write(&path, "[[macaroon]]\nroot_key = -1\n").unwrap();
        assert_eq!(Register::read(&path).unwrap_err().code(), BAD);
    }
}
