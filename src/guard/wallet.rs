//! The wallet's own public keys and scripts: what a request says of them is a hint, and only what is derived here is believed.

mod addresses;
mod fundings;

use crate::error::{Code, Error, Result};
use crate::signer::accounts::{Accounts, OwnKey};
use crate::ui;
use addresses::Addresses;
use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpub};
use bitcoin::key::{CompressedPublicKey, Secp256k1, XOnlyPublicKey};
use bitcoin::secp256k1::{PublicKey, VerifyOnly};
use bitcoin::{NetworkKind, Script, ScriptBuf};
use fundings::Fundings;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

const BAD: Code = Code::refused("E-GUARD-030");

/// How many addresses of each row are the wallet's: nobody looks at all that there could be.
const END: u32 = 20_000;
/// From where on it is told that the end is near.
const NEAR: u32 = END - 2_000;

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
    /// All addresses up to [`END`], once they are gathered.
    addresses: Arc<OnceLock<Addresses>>,
    /// The highest number of an address that was named.
    highest: u32,
}

/// One of an account's two rows of addresses.
#[derive(Clone)]
struct Branch {
    purpose: u32,
    account: u32,
    change: u32,
    key: Xpub,
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
                branches.push(Branch { purpose: key.purpose, account: key.account, change, key: row });
            }
        }
        let fundings = accounts.own_keys().find(|key| (key.purpose, key.account) == (LND, FUNDING));
        let fundings = fundings.and_then(|key| row(&secp, &key, 0)).map(Fundings::new).ok_or_else(unreadable)?;
        Ok(Self { secp, accounts, branches, fundings, addresses: Arc::default(), highest: 0 })
    }

    /// Begins to gather the addresses, beside what else is done; `place` keeps them for later guards. Until they are there none is the
    /// wallet's. Says by `tell` that they are.
    pub fn gather(&self, place: &Path, tell: impl FnOnce() + Send + 'static) {
        drop(self.gather_to(END, place, tell));
    }

    /// The same, up to `end`.
    pub fn gather_to(&self, end: u32, place: &Path, tell: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        let (branches, addresses, place) = (self.branches.clone(), Arc::clone(&self.addresses), place.to_owned());
        std::thread::spawn(move || {
            let (gathered, kept) = Addresses::of(&branches, end, &place);
            if let Err(e) = kept {
                ui::note(&format!("the wallet's addresses are not written down: {e}"));
            }
            // Nobody else sets it, and it is set once.
            let _ = addresses.set(gathered);
            tell();
        })
    }

    /// The highest number of an address that was named, and how far they are the wallet's, where these are near to each other.
    pub fn near_end(&self) -> Option<(u32, u32)> {
        (self.highest >= NEAR).then_some((self.highest, END))
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
    pub fn owns(&mut self, script: &Script) -> bool {
        let index = self.addresses.get().and_then(|addresses| addresses.find(script));
        self.highest = index.unwrap_or(0).max(self.highest);
        index.is_some()
    }

    /// What the key at m/PURPOSE'/0'/ACCOUNT'/CHANGE/INDEX spends, where that key is `public`.
    pub fn coin(&mut self, purpose: u32, account: u32, change: u32, index: u32, public: &PublicKey) -> Option<Coin> {
        let is_row = |row: &&Branch| (row.purpose, row.account, row.change) == (purpose, account, change);
        let derived = derive(&self.secp, &self.branches.iter().find(is_row)?.key, index)?;
        if derived != *public {
            return None;
        }
        self.highest = index.max(self.highest);
        Some(coin(&self.secp, purpose, change, derived))
    }
}

impl Branch {
    /// Its addresses before `end`, each with its index.
    fn scripts(&self, secp: &Secp256k1<VerifyOnly>, end: u32) -> Vec<(u32, ScriptBuf)> {
        let script = |index| Some(coin(secp, self.purpose, self.change, derive(secp, &self.key, index)?).script);
        (0..end).filter_map(|index| Some((index, script(index)?))).collect()
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
    fn that_the_addresses_are_about_to_end_is_told_before() {
        let mut wallet = Wallet::new(accounts()).unwrap();
        for (index, told) in [(NEAR - 1, None), (NEAR, Some(NEAR)), (3, Some(NEAR)), (END + 1, Some(END + 1))] {
            let public = derive(&wallet.secp, &wallet.branches[0].key, index).unwrap();
            assert!(wallet.coin(NESTED, 0, 0, index, &public).is_some());
            assert_eq!(wallet.near_end(), told.map(|told| (told, END)));
        }
    }

    #[test]
    fn it_is_told_once_all_addresses_are_known() {
        let mut wallet = Wallet::new(accounts()).unwrap();
        let ((tell, hear), addresses) = (std::sync::mpsc::channel(), Arc::clone(&wallet.addresses));
        let dir = tempfile::tempdir().unwrap();
        let tell = move || tell.send(addresses.get().map(Addresses::len)).unwrap();
        wallet.gather_to(3, &dir.path().join("addresses"), tell).join().unwrap();
        assert_eq!(hear.recv(), Ok(Some(3 * wallet.branches.len())));
        let script = |index: usize| wallet.branches[1].scripts(&wallet.secp, 4)[index].1.clone();
        let (last, beyond) = (script(2), script(3));
        assert_eq!((wallet.owns(&last), wallet.owns(&beyond), wallet.highest), (true, false, 2));
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
