//! The account list of `lncli wallet accounts list`: written in lncli's bytes, read with every key checked.

use crate::error::{Code, Error, Result};
use crate::signer::wire::{lnrpc, walletrpc};
use bip32::{ChildNumber, XPub};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

const BAD: Code = Code::usage("E-ACCT-001");
const CHANGED: Code = Code::unverified("E-ACCT-002");

/// The purpose of lnd's own keys (lnd's keychain.BIP0043Purpose).
const LND_PURPOSE: u32 = 1017;
/// The key family of a node's identity (lnd's keychain.KeyFamilyNodeKey).
const NODE_FAMILY: u32 = 6;
/// lnd derives 256 families at the first start; a watch-only wallet needs at least those that lnd uses, 0 to 9.
const LEAST_FAMILIES: u32 = 10;

/// The accounts of one wallet, checked: every path and public key reads, the node's own account is there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    list: Vec<Account>,
    coin_type: u32,
    identity: String,
}

/// The extended public key of an account whose private keys the wallet has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKey {
    /// m/PURPOSE'.
    pub purpose: u32,
    /// m/PURPOSE'/COIN'/ACCOUNT'.
    pub account: u32,
    /// The public key.
    pub public: [u8; 33],
    /// The chain code.
    pub chain_code: [u8; 32],
}

// Field names and order are lncli's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    name: String,
    address_type: String,
    extended_public_key: String,
    #[serde(default)]
    master_key_fingerprint: String,
    derivation_path: String,
    #[serde(default)]
    external_key_count: u32,
    #[serde(default)]
    internal_key_count: u32,
    #[serde(default)]
    watch_only: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    accounts: Vec<Account>,
}

impl Accounts {
    /// Reads the JSON of `lncli wallet accounts list`.
    ///
    /// # Errors
    /// Where it is anything else, a path or key does not read, or an account that lnd needs is not there.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let file: File = serde_json::from_slice(json)
            .map_err(|e| bad(format!("accounts.json is not what `lncli wallet accounts list` prints: {e}")))?;
        Self::check(file.accounts)
    }

    /// Takes over lnd's answer.
    pub(crate) fn from_wire(answer: walletrpc::ListAccountsResponse) -> Result<Self> {
        let list = answer.accounts.into_iter().map(|a| Account {
            address_type: a.address_type().as_str_name().to_owned(),
            name: a.name,
            extended_public_key: a.extended_public_key,
            master_key_fingerprint: hex::encode(a.master_key_fingerprint),
            derivation_path: a.derivation_path,
            external_key_count: a.external_key_count,
            internal_key_count: a.internal_key_count,
            watch_only: a.watch_only,
        });
        Self::check(list.collect())
    }

    /// The JSON as lncli prints it: four spaces, every key present, a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut json, style);
        File { accounts: self.list.clone() }.serialize(&mut writer).expect("strings and numbers serialise");
        json.push(b'\n');
        json
    }

    /// How many accounts there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The coin type of lnd's own keys: 0 on mainnet, 1 elsewhere.
    pub fn coin_type(&self) -> u32 {
        self.coin_type
    }

    /// The node's public key (m/1017'/COIN'/6'/0/0), 33 bytes in hex, derived from its account's.
    pub fn identity_pubkey(&self) -> &str {
        &self.identity
    }

    /// The keys of all accounts that the wallet has itself.
    pub fn own_keys(&self) -> impl Iterator<Item = OwnKey> + '_ {
        self.list.iter().filter(|a| !a.watch_only).filter_map(|a| {
            let (purpose, _, account) = read_path(&a.derivation_path)?;
            let key = read_key(&a.extended_public_key)?;
            Some(OwnKey { purpose, account, public: key.to_bytes(), chain_code: key.attrs().chain_code })
        })
    }

    /// The public key of lnd's own key `index` in `family` (m/1017'/COIN'/FAMILY'/0/INDEX), 33 bytes.
    pub fn key(&self, family: u32, index: u32) -> Option<[u8; 33]> {
        derive(&self.list, (LND_PURPOSE, self.coin_type, family), index)
    }

    /// What was not there yet when `before` was read, each as its path and extended public key: a watch-only wallet that
    /// was made from `before` lacks it.
    ///
    /// # Errors
    /// Where an account of then is gone or has another key: these are not the same wallet's.
    pub fn added_since(&self, before: &Self) -> Result<Vec<String>> {
        let place = |a: &Account| (a.derivation_path.clone(), a.watch_only.then(|| a.name.clone()));
        let now: HashMap<_, _> = self.list.iter().map(|a| (place(a), &a.extended_public_key)).collect();
        for account in &before.list {
            if now.get(&place(account)) != Some(&&account.extended_public_key) {
                let path = &account.derivation_path;
                return Err(Error::new(CHANGED, format!("the account {path} is not what it was: another wallet's")));
            }
        }
        let known: HashSet<_> = before.list.iter().map(place).collect();
        let added = self.list.iter().filter(|a| !known.contains(&place(a)));
        Ok(added.map(|a| format!("{} {}", a.derivation_path, a.extended_public_key)).collect())
    }

    /// What a watch-only wallet is made from: every account with private keys on the signer.
    pub(crate) fn to_watch_only(&self) -> Vec<lnrpc::WatchOnlyAccount> {
        let own = self.list.iter().filter(|a| !a.watch_only);
        own.filter_map(|a| {
            let (purpose, coin_type, account) = read_path(&a.derivation_path)?;
            Some(lnrpc::WatchOnlyAccount { purpose, coin_type, account, xpub: a.extended_public_key.clone() })
        })
        .collect()
    }

    fn check(list: Vec<Account>) -> Result<Self> {
        let mut paths = HashSet::new();
        for account in list.iter().filter(|a| !a.watch_only) {
            let path = &account.derivation_path;
            let read = read_path(path).ok_or_else(|| bad(format!("{path:?} is no account's path")))?;
            read_key(&account.extended_public_key)
                .ok_or_else(|| bad(format!("the public key of {path} does not read")))?;
            if !paths.insert(read) {
                return Err(bad(format!("{path} is there twice")));
            }
        }
        let coin_types: HashSet<u32> = paths.iter().filter(|p| p.0 == LND_PURPOSE).map(|p| p.1).collect();
        let [coin_type] = coin_types.into_iter().collect::<Vec<_>>()[..] else {
            return Err(bad("there are not lnd's keys of exactly one network"));
        };
        let families = (0..LEAST_FAMILIES).map(|family| (LND_PURPOSE, coin_type, family));
        if let Some((p, c, a)) = [(49, 0, 0), (84, 0, 0)].into_iter().chain(families).find(|p| !paths.contains(p)) {
            return Err(bad(format!("m/{p}'/{c}'/{a}' is absent, which lnd needs")));
        }
        let identity = derive(&list, (LND_PURPOSE, coin_type, NODE_FAMILY), 0);
        let identity = identity.ok_or_else(|| bad("the node's key does not derive"))?;
        Ok(Self { list, coin_type, identity: hex::encode(identity) })
    }
}

fn bad(why: impl Into<String>) -> Error {
    Error::new(BAD, why)
}

/// `m/PURPOSE'/COIN'/ACCOUNT'`, all hardened.
fn read_path(path: &str) -> Option<(u32, u32, u32)> {
    let mut parts = path.strip_prefix("m/")?.split('/').map(|part| {
        let digits = part.strip_suffix('\'')?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|n| plain && *n < ChildNumber::HARDENED_FLAG)
    });
    let read = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(read)
}

fn read_key(text: &str) -> Option<XPub> {
    XPub::from_str(text).ok().filter(|key| key.attrs().depth == 3)
}

/// The public key PATH/0/INDEX.
fn derive(list: &[Account], path: (u32, u32, u32), index: u32) -> Option<[u8; 33]> {
    let account = list.iter().find(|a| !a.watch_only && read_path(&a.derivation_path) == Some(path))?;
    let child = |index| ChildNumber::new(index, false).ok();
    let key = read_key(&account.extended_public_key)?.derive_child(child(0)?).ok()?.derive_child(child(index)?).ok()?;
    Some(key.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hardened_three_part_paths_are_accounts() {
        assert_eq!(read_path("m/1017'/1'/255'"), Some((1017, 1, 255)));
        for bad in ["", "m", "m/49'", "m/49'/0'/0", "m/49'/0'/0'/0'", "49'/0'/0'", "m/+9'/0'/0'", "m/2147483648'/0'/0'"]
        {
            assert_eq!(read_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_new_is_told_and_what_is_other_or_gone_refused() {
        let account = |path: &str, key: &str| Account {
            name: "default".into(),
            address_type: "WITNESS_PUBKEY_HASH".into(),
            extended_public_key: key.into(),
            master_key_fingerprint: String::new(),
            derivation_path: path.into(),
            external_key_count: 0,
            internal_key_count: 0,
            watch_only: false,
        };
        let accounts = |list: &[(&str, &str)]| Accounts {
            list: list.iter().map(|(path, key)| account(path, key)).collect(),
            coin_type: 1,
            identity: String::new(),
        };
        let before = accounts(&[("m/84'/0'/0'", "a"), ("m/86'/0'/0'", "b")]);
        let mut used = before.clone();
        used.list[0].external_key_count = 7;
        assert_eq!(used.added_since(&before).unwrap(), [] as [String; 0]);
        let more = accounts(&[("m/86'/0'/0'", "b"), ("m/1'/0'/0'", "c"), ("m/84'/0'/0'", "a")]);
        assert_eq!(more.added_since(&before).unwrap(), ["m/1'/0'/0' c"]);
        for other in [accounts(&[("m/84'/0'/0'", "a")]), accounts(&[("m/84'/0'/0'", "a"), ("m/86'/0'/0'", "x")])] {
            assert_eq!(other.added_since(&before).unwrap_err().code(), CHANGED);
        }
    }

    #[test]
    fn what_is_no_account_list_is_refused() {
        for bad in ["", "{}", "[]", r#"{"accounts":[]}"#, r#"{"accounts":[{"name":"default"}]}"#] {
            assert_eq!(Accounts::parse(bad.as_bytes()).unwrap_err().code(), BAD, "{bad}");
        }
    }
}
