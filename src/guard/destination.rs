//! Who may be paid freely: scripts. Of what a request says of its outputs nothing is read.

use crate::error::{Code, Error, Result};
use bitcoin::address::NetworkUnchecked;
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::key::{CompressedPublicKey, Secp256k1, XOnlyPublicKey};
use bitcoin::secp256k1::{All, PublicKey};
use bitcoin::{Address, Network, PubkeyHash, Script, ScriptBuf};
use serde::Deserialize;
use std::collections::HashSet;
use std::str::FromStr;

const BAD: Code = Code::usage("E-GUARD-041");

/// How many addresses of each row of a key are known where nothing says how many, and at most.
const AHEAD: u32 = 1000;
const FARTHEST: u32 = 10_000;
/// How many derived scripts there are at most. They are derived while a call waits, and lnd waits two seconds for a verdict.
const MOST: usize = 20_000;

/// One `[[free]]` of the policy, as it is written: one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    /// An address.
    #[serde(default)]
    pub address: Option<String>,
    /// `wpkh(KEY)`, `tr(KEY)`, `sh(wpkh(KEY))` or `pkh(KEY)`, with one key that ends in `/*`.
    #[serde(default)]
    pub descriptor: Option<String>,
    /// An account's public key: its rows 0 and 1, in each of the four kinds.
    #[serde(default)]
    pub xpub: Option<String>,
    /// How many addresses of each row count.
    #[serde(default)]
    pub look_ahead: Option<u32>,
}

/// All that may be paid freely.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    scripts: HashSet<ScriptBuf>,
    /// Each as it was named.
    words: Vec<String>,
    addresses: Vec<Address<NetworkUnchecked>>,
}

/// What an address is made of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hash,
    Witness,
    Nested,
    Taproot,
}

const KINDS: [Kind; 4] = [Kind::Hash, Kind::Witness, Kind::Nested, Kind::Taproot];

impl Destinations {
    /// Those that `named` names.
    ///
    /// # Errors
    /// Where one does not read.
    pub fn new(named: &[Named]) -> Result<Self> {
        let mut all = Self::default();
        let secp = Secp256k1::new();
        for (number, one) in (1..).zip(named) {
            // What was written there may be a private key by mistake: it is not repeated.
            let bad = |why: &str| Error::new(BAD, format!("number {number} of the policy's [[free]] {why}"));
            let ahead = one.look_ahead.unwrap_or(AHEAD);
            if !(1..=FARTHEST).contains(&ahead) {
                return Err(bad(&format!("looks ahead by other than 1 to {FARTHEST}")));
            }
            match (&one.address, &one.descriptor, &one.xpub) {
                (Some(address), None, None) if one.look_ahead.is_none() => {
                    all.add_address(address).map_err(&bad)?;
                }
                (None, Some(descriptor), None) => {
                    let (kind, rows) = read_descriptor(descriptor, &secp).map_err(&bad)?;
                    all.add_rows(&rows, &[kind], ahead, &secp);
                    all.words.push(format!("the first {ahead} of {descriptor}"));
                }
                (None, None, Some(xpub)) => {
                    let key = Xpub::from_str(xpub).map_err(|_| bad("is no extended public key"))?;
                    let rows: Vec<Xpub> = [0, 1].into_iter().filter_map(|row| child(&key, row, &secp)).collect();
                    all.add_rows(&rows, &KINDS, ahead, &secp);
                    all.words.push(format!("the first {ahead} addresses and change addresses of {xpub}"));
                }
                _ => {
                    return Err(bad("names other than one address, descriptor or xpub (an address has no look-ahead)"));
                }
            }
            if all.scripts.len() > MOST {
                return Err(bad(&format!("is beyond the {MOST} addresses that there may be")));
            }
        }
        Ok(all)
    }

    /// True where `script` may be paid freely.
    pub fn holds(&self, script: &Script) -> bool {
        self.scripts.contains(script)
    }

    /// Each in words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The first address that is not of `network`.
    pub fn foreign_to(&self, network: Network) -> Option<String> {
        let foreign = self.addresses.iter().find(|address| !address.is_valid_for_network(network));
        foreign.map(|address| address.clone().assume_checked().to_string())
    }

    fn add_address(&mut self, text: &str) -> Result<(), &'static str> {
        let address = Address::from_str(text).map_err(|_| "is no address")?;
        let checked = address.clone().assume_checked();
        self.words.push(checked.to_string());
        self.scripts.insert(checked.script_pubkey());
        self.addresses.push(address);
        Ok(())
    }

    fn add_rows(&mut self, rows: &[Xpub], kinds: &[Kind], ahead: u32, secp: &Secp256k1<All>) {
        for row in rows {
            for key in (0..ahead).filter_map(|index| child(row, index, secp)) {
                self.scripts.extend(kinds.iter().map(|kind| kind.script(key.public_key, secp)));
            }
        }
    }
}

impl Kind {
    fn script(self, key: PublicKey, secp: &Secp256k1<All>) -> ScriptBuf {
        let key_ = CompressedPublicKey(key);
        let witness = || ScriptBuf::new_p2wpkh(&key_.wpubkey_hash());
        match self {
            Self::Hash => ScriptBuf::new_p2pkh(&PubkeyHash::from(key_)),
            Self::Witness => witness(),
            Self::Nested => ScriptBuf::new_p2sh(&witness().script_hash()),
            Self::Taproot => ScriptBuf::new_p2tr(secp, XOnlyPublicKey::from(key), None),
        }
    }
}

fn child(key: &Xpub, index: u32, secp: &Secp256k1<All>) -> Option<Xpub> {
    key.ckd_pub(secp, ChildNumber::from_normal_idx(index).ok()?).ok()
}

/// What kind of addresses a descriptor (BIP 380 to 386) is of, and the rows of keys.
fn read_descriptor(text: &str, secp: &Secp256k1<All>) -> Result<(Kind, Vec<Xpub>), &'static str> {
    let body = match text.split_once('#') {
        Some((body, sum)) if checksum(body).as_deref() == Some(sum) => body,
        Some(_) => return Err("has another checksum"),
        None => text,
    };
    let inner = |open: &str, close: &str| body.strip_prefix(open)?.strip_suffix(close);
    let (kind, key) = [
        (Kind::Nested, inner("sh(wpkh(", "))")),
        (Kind::Witness, inner("wpkh(", ")")),
        (Kind::Taproot, inner("tr(", ")")),
        (Kind::Hash, inner("pkh(", ")")),
    ]
    .into_iter()
    .find_map(|(kind, key)| Some((kind, key?)))
    .ok_or("is no descriptor of the forms wpkh(KEY), tr(KEY), sh(wpkh(KEY)) and pkh(KEY)")?;
    Ok((kind, read_key(key, secp)?))
}

/// The rows of keys that `[ORIGIN]XPUB/STEPS/*` names; one step may be `<A;B>`, which makes two.
fn read_key(text: &str, secp: &Secp256k1<All>) -> Result<Vec<Xpub>, &'static str> {
    const NO_KEY: &str = "has no extended public key with unhardened steps that end in /*";
    let key = text.strip_prefix('[').map_or(Some(text), |rest| rest.split_once(']').map(|(_, key)| key));
    let mut steps = key.ok_or(NO_KEY)?.strip_suffix("/*").ok_or(NO_KEY)?.split('/');
    let mut rows = vec![steps.next().and_then(|key| Xpub::from_str(key).ok()).ok_or(NO_KEY)?];
    for step in steps {
        let both = step.strip_prefix('<').and_then(|step| step.strip_suffix('>')).and_then(|step| step.split_once(';'));
        let wanted = both.map_or(vec![step], |(one, other)| vec![one, other]);
        if rows.len() * wanted.len() > 2 {
            return Err("has more rows than two");
        }
        let numbers: Option<Vec<u32>> = wanted.into_iter().map(read_number).collect();
        let next = numbers.ok_or(NO_KEY)?.into_iter().flat_map(|index| rows.iter().map(move |row| (row, index)));
        rows = next.map(|(row, index)| child(row, index, secp)).collect::<Option<_>>().ok_or(NO_KEY)?;
    }
    Ok(rows)
}

fn read_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The characters of a descriptor and of its checksum (BIP 380).
const CHARACTERS: &str =
    "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
const SUM: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];

/// A descriptor's checksum; nothing where it has a character that none has.
fn checksum(body: &str) -> Option<String> {
    let places: Vec<u64> = body.chars().map(|c| CHARACTERS.find(c).map(|place| place as u64)).collect::<Option<_>>()?;
    let groups = places.chunks(3).map(|three| three.iter().fold(0, |group, place| group * 3 + (place >> 5)));
    // Each character's lower bits, and after three of them their upper ones.
    let mut symbols = Vec::new();
    for (three, group) in places.chunks(3).zip(groups) {
        symbols.extend(three.iter().map(|place| place & 31));
        symbols.push(group);
    }
    symbols.extend([0; 8]);
    let sum = symbols.into_iter().fold(1_u64, |sum, symbol| {
        let top = sum >> 35;
        let next = ((sum & 0x7_ffff_ffff) << 5) ^ symbol;
        (0..5).filter(|bit| top >> bit & 1 == 1).fold(next, |next, bit| next ^ GENERATOR[bit])
    }) ^ 1;
    Some((0..8).map(|place| char::from(SUM[usize::try_from(sum >> (5 * (7 - place)) & 31).unwrap_or(0)])).collect())
}

#[cfg(test)]
mod tests;
