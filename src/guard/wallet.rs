//! The wallet's own public keys and scripts: what a request says of them is a hint, and only what is derived here is believed.

mod far;
mod fundings;

use crate::error::{Code, Error, Result};
use crate::signer::accounts::{Accounts, OwnKey};
use crate::ui;
use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpub};
use bitcoin::key::{CompressedPublicKey, Secp256k1, XOnlyPublicKey};
use bitcoin::secp256k1::{PublicKey, VerifyOnly};
use bitcoin::{NetworkKind, Script, ScriptBuf};
use far::Far;
use fundings::Fundings;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

const BAD: Code = Code::refused("E-GUARD-030");

/// How many addresses beyond the last one that was seen are held for the wallet's own.
const AHEAD: u32 = 1000;
/// How far the table reaches at most: who has the account's public key can name any index.
const END: u32 = 20_000;
/// From where on it is told that the end is near.
const NEAR: u32 = END - 2 * AHEAD;
/// How many addresses are derived for one request at most: some tenths of a second, in which nothing else is answered.
const ROOM: u32 = 6_000;

/// The purposes of the wallet's coins (BIP 49, 84, 86; lnd has no account for 44).
const NESTED: u32 = 49;
const WITNESS: u32 = 84;
const TAPROOT: u32 = 86;
/// That of lnd's own keys (keychain.BIP0043Purpose).
pub const LND: u32 = 1017;
/// Of these the family of fundings (keychain/derivation.go).
pub const FUNDING: u32 = 0;

/// The wallet as far as a watch-only node could know it.
pub struct Wallet {
    secp: Secp256k1<VerifyOnly>,
    accounts: Accounts,
    branches: Vec<Branch>,
    /// Channels' funding keys.
    fundings: Fundings,
    scripts: HashSet<ScriptBuf>,
    /// All addresses up to [`END`], once they are derived.
    far: Arc<OnceLock<Far>>,
    /// How many addresses may still be derived for this request.
    room: u32,
}

/// How far the table of own addresses reaches, by the account, `PURPOSE/ACCOUNT`: what a guard remembers over its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach(BTreeMap<String, u32>);

impl Reach {
    /// How many addresses it has beyond `other`.
    pub fn beyond(&self, other: &Self) -> u32 {
        let of = |(account, end): (&String, &u32)| end.saturating_sub(other.0.get(account).copied().unwrap_or(AHEAD));
        self.0.iter().map(of).fold(0, u32::saturating_add)
    }
}

/// One of an account's two rows of addresses.
#[derive(Clone)]
struct Branch {
    purpose: u32,
    account: u32,
    change: u32,
    key: Xpub,
    /// The first index that does not count as the wallet's yet.
    next: u32,
}

/// What an input spends, by the key at a path of the wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// The script of the output that is spent.
    pub script: ScriptBuf,
    /// The witness program that a signature is over; a taproot output has none.
    pub program: Option<ScriptBuf>,
}

impl Wallet {
    /// The wallet with these accounts.
    ///
    /// # Errors
    /// Where a key does not derive.
    pub fn new(accounts: Accounts) -> Result<Self> {
        let secp = Secp256k1::verification_only();
        let mut branches = Vec::new();
        for key in accounts.own_keys().filter(|key| [NESTED, WITNESS, TAPROOT].contains(&key.purpose)) {
            for change in [0, 1] {
                let row = row(&secp, &key, change).ok_or_else(unreadable)?;
                branches.push(Branch { purpose: key.purpose, account: key.account, change, key: row, next: 0 });
            }
        }
        let fundings = accounts.own_keys().find(|key| (key.purpose, key.account) == (LND, FUNDING));
        let fundings = fundings.and_then(|key| row(&secp, &key, 0)).map(Fundings::new).ok_or_else(unreadable)?;
        let (scripts, far) = (HashSet::new(), Arc::default());
        let mut wallet = Self { secp, accounts, branches, fundings, scripts, far, room: 0 };
        for row in 0..wallet.branches.len() {
            wallet.extend(row, AHEAD);
        }
        Ok(wallet)
    }

    /// How far the table reaches.
    pub fn reach(&self) -> Reach {
        let mut reach = Reach::default();
        for row in &self.branches {
            let end = reach.0.entry(row.name()).or_default();
            *end = row.next.max(*end);
        }
        reach
    }

    /// How far the table reaches, and how far it ever does, where these are near to each other.
    pub fn near_end(&self) -> Option<(u32, u32)> {
        self.branches.iter().map(|row| row.next).max().filter(|next| *next >= NEAR).map(|next| (next, END))
    }

    /// Has the table reach as far as `reach`, which an earlier guard remembered: once all addresses are derived, since whoever may
    /// ask can have it reach so far that a guard which derived them first would not be asked for long.
    pub fn stretch(&mut self, reach: &Reach) {
        for row in &mut self.branches {
            let end = reach.0.get(&row.name()).copied().unwrap_or_default();
            row.next = end.min(END).max(row.next);
        }
    }

    /// Another request begins.
    pub fn begin_request(&mut self) {
        self.room = ROOM;
    }

    /// The public key of lnd's own key `index` of `family`.
    pub fn key(&self, family: u32, index: u32) -> Option<[u8; 33]> {
        self.accounts.key(family, index)
    }

    /// True where `public` is a key for a channel's funding whose index is within a thousand of `near`.
    pub fn is_funding_key(&mut self, public: &[u8], near: u32) -> bool {
        PublicKey::from_slice(public).is_ok_and(|public| self.fundings.has(&self.secp, &public, near))
    }

    /// Some more funding keys may be derived for who asks: said now and then.
    pub fn make_room(&mut self) {
        self.fundings.make_room();
    }

    /// True where `script` is the wallet's.
    pub fn owns(&self, script: &Script) -> bool {
        self.scripts.contains(script) || self.find(script).is_some_and(|(row, index)| index < self.branches[row].next)
    }

    /// Begins to gather all addresses up to [`END`], beside what else is done; `place` keeps them for later guards. A node that has
    /// handed out more than a thousand since it was made has its sweeps go beyond the table that spends widen. Says by `tell` that they
    /// are there.
    pub fn look_far(&self, place: &Path, tell: impl FnOnce() + Send + 'static) {
        drop(self.look_far_to(END, place, tell));
    }

    /// The same, up to `end`.
    pub fn look_far_to(&self, end: u32, place: &Path, tell: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        let (branches, far, place) = (self.branches.clone(), Arc::clone(&self.far), place.to_owned());
        std::thread::spawn(move || {
            let (gathered, kept) = Far::of(&branches, end, &place);
            if let Err(e) = kept {
                ui::note(&format!("the wallet's addresses are not written down: {e}"));
            }
            // Nobody else sets it, and it is set once.
            let _ = far.set(gathered);
            tell();
        })
    }

    /// True where `script` is the wallet's, and as far as there are addresses for sweeps.
    pub fn owns_far(&self, script: &Script) -> bool {
        self.owns(script) || self.find(script).is_some()
    }

    fn find(&self, script: &Script) -> Option<(usize, u32)> {
        self.far.get()?.find(script)
    }

    /// What the key at m/PURPOSE'/0'/ACCOUNT'/CHANGE/INDEX spends, where that key is `public`. From then on what comes after it is
    /// held for the wallet's too, as far as a request has room for that.
    pub fn coin(&mut self, purpose: u32, account: u32, change: u32, index: u32, public: &PublicKey) -> Option<Coin> {
        let is_row = |row: &Branch| (row.purpose, row.account, row.change) == (purpose, account, change);
        let row = self.branches.iter().position(is_row)?;
        let derived = derive(&self.secp, &self.branches[row].key, index)?;
        if derived != *public {
            return None;
        }
        let coin = coin(&self.secp, purpose, change, derived);
        // Both rows: change comes with what is spent.
        for other in 0..self.branches.len() {
            if (self.branches[other].purpose, self.branches[other].account) == (purpose, account) {
                let next = self.branches[other].next;
                let end = index.saturating_add(AHEAD).min(END).min(next.saturating_add(self.room));
                self.extend(other, end);
                self.room -= end.saturating_sub(next);
            }
        }
        Some(coin)
    }

    /// Has the table reach to `end`.
    fn extend(&mut self, row: usize, end: u32) {
        let from = self.branches[row].next;
        if self.far.get().is_none_or(|far| far.end < end) {
            let derived = self.branches[row].scripts(&self.secp, from, end);
            self.scripts.extend(derived.into_iter().map(|(_, script)| script));
        }
        self.branches[row].next = end.max(from);
    }
}

impl Branch {
    fn name(&self) -> String {
        format!("{}/{}", self.purpose, self.account)
    }

    /// Those of the addresses from one index to before another, each with its index.
    fn scripts(&self, secp: &Secp256k1<VerifyOnly>, from: u32, end: u32) -> Vec<(u32, ScriptBuf)> {
        let script = |index| Some(coin(secp, self.purpose, self.change, derive(secp, &self.key, index)?).script);
        (from..end).filter_map(|index| Some((index, script(index)?))).collect()
    }
}

fn unreadable() -> Error {
    Error::new(BAD, "the wallet's keys do not derive")
}

fn xpub(key: &OwnKey) -> Option<Xpub> {
    Some(Xpub {
        // Of no matter: only keys are derived from it.
        network: NetworkKind::Main,
        depth: 3,
        parent_fingerprint: Fingerprint::default(),
        child_number: ChildNumber::from_hardened_idx(key.account).ok()?,
        public_key: PublicKey::from_slice(&key.public).ok()?,
        chain_code: ChainCode::from(key.chain_code),
    })
}

/// One of an account's rows of keys.
fn row(secp: &Secp256k1<VerifyOnly>, account: &OwnKey, change: u32) -> Option<Xpub> {
    xpub(account)?.ckd_pub(secp, ChildNumber::from_normal_idx(change).ok()?).ok()
}

fn derive(secp: &Secp256k1<VerifyOnly>, key: &Xpub, index: u32) -> Option<PublicKey> {
    Some(key.ckd_pub(secp, ChildNumber::from_normal_idx(index).ok()?).ok()?.public_key)
}

/// lnd's change under purpose 49 is no nested one (waddrmgr.KeyScopeBIP0049Plus).
fn coin(secp: &Secp256k1<VerifyOnly>, purpose: u32, change: u32, key: PublicKey) -> Coin {
    let witness = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    match (purpose, change) {
        (TAPROOT, _) => Coin { script: ScriptBuf::new_p2tr(secp, XOnlyPublicKey::from(key), None), program: None },
        (NESTED, 0) => Coin { script: ScriptBuf::new_p2sh(&witness.script_hash()), program: Some(witness) },
        _ => Coin { script: witness.clone(), program: Some(witness) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::judge::tests::accounts;

    #[test]
    fn that_the_table_is_about_to_end_is_told_before() {
        let mut wallet = Wallet::new(accounts()).unwrap();
        for (reach, told) in [(NEAR - 1, None), (NEAR, Some(NEAR)), (END + 1, Some(END))] {
            wallet.stretch(&Reach([("84/0".to_owned(), reach)].into()));
            assert_eq!(wallet.near_end(), told.map(|told| (told, END)));
        }
    }

    #[test]
    fn it_is_told_once_all_addresses_are_known() {
        let wallet = Wallet::new(accounts()).unwrap();
        let ((tell, hear), far) = (std::sync::mpsc::channel(), Arc::clone(&wallet.far));
        let dir = tempfile::tempdir().unwrap();
        let tell = move || tell.send(far.get().map(Far::len)).unwrap();
        wallet.look_far_to(3, &dir.path().join("addresses"), tell).join().unwrap();
        assert_eq!(hear.recv(), Ok(Some(3 * wallet.branches.len())));
    }

    #[test]
    fn a_funding_key_is_known_as_far_as_it_is_from_where_it_should_be() {
        let mut wallet = Wallet::new(accounts()).unwrap();
        let mut is_known = |index, near| {
            let key = wallet.key(FUNDING, index).unwrap();
            wallet.is_funding_key(&key, near)
        };
        assert!([(0, 0), (0, 1), (5, 4), (1_004, 4), (4, 1_004), (7, 7)].into_iter().all(|(a, b)| is_known(a, b)));
        assert!(!is_known(1_005, 4) && !is_known(4, 1_005));
        let other = wallet.key(1, 4).unwrap();
        assert!(!wallet.is_funding_key(&other, 4) && !wallet.is_funding_key(&[2; 33], u32::MAX));
        assert!(!wallet.is_funding_key(&[], 4));
    }
}
