//! PSBTs that spend the wallet's coins: one of ours by its path, and what a thief makes of it. No chain is asked: a signer signs for
//! coins that nobody has seen.

use super::attempts::{Attempt, Bytes, Outcome, Thief};
use crate::caller::Client;
use bitcoin::absolute::LockTime;
use bitcoin::bip32::{ChainCode, ChildNumber, DerivationPath, Fingerprint, Xpub};
use bitcoin::hashes::Hash;
use bitcoin::key::Secp256k1;
use bitcoin::psbt::{Input, Psbt, PsbtSighashType, raw};
use bitcoin::secp256k1::PublicKey;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, NetworkKind, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    XOnlyPublicKey,
};
use lsm::bundle::Bundle;

/// What the operator allows, in satoshis.
pub const POLICY: &str = "[coins]\nper-transaction = 50000\nper-day = 60000\n";

/// A coin of the wallet's, in satoshis.
pub const COIN: u64 = 1_000_000;

/// The public key at m/PURPOSE'/0'/0'/CHANGE/INDEX.
pub fn key(bundle: &Bundle, purpose: u32, change: u32, index: u32) -> PublicKey {
    let own = bundle.accounts.own_keys().find(|key| (key.purpose, key.account) == (purpose, 0)).expect("an account");
    let account = Xpub {
        network: NetworkKind::Test,
        depth: 3,
        parent_fingerprint: Fingerprint::default(),
        child_number: ChildNumber::from_hardened_idx(0).expect("a step"),
        public_key: PublicKey::from_slice(&own.public).expect("a key"),
        chain_code: ChainCode::from(own.chain_code),
    };
    let steps = [change, index].map(|step| ChildNumber::from_normal_idx(step).expect("a step"));
    account.derive_pub(&Secp256k1::verification_only(), &steps).expect("it derives").public_key
}

fn script(purpose: u32, change: u32, key: PublicKey) -> ScriptBuf {
    let witness = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    match (purpose, change) {
        (86, _) => ScriptBuf::new_p2tr(&Secp256k1::verification_only(), XOnlyPublicKey::from(key), None),
        (49, 0) => ScriptBuf::new_p2sh(&witness.script_hash()),
        _ => witness,
    }
}

/// A transaction of one coin, told apart by `number`: so much to a stranger, so much back, the rest is its fee.
pub fn send(bundle: &Bundle, purpose: u32, number: u8, stranger: u64, back: u64) -> Psbt {
    pay(bundle, purpose, number, (thief(), stranger), back)
}

/// A stranger's script.
pub fn thief() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([7; 20]))
}

fn output(script_pubkey: ScriptBuf, amount: u64) -> TxOut {
    TxOut { value: Amount::from_sat(amount), script_pubkey }
}

/// The same, to this script.
pub fn pay(bundle: &Bundle, purpose: u32, number: u8, to: (ScriptBuf, u64), back: u64) -> Psbt {
    let key_ = key(bundle, purpose, 0, 3);
    let change = script(84, 1, key(bundle, 84, 1, 5));
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([number; 32]), vout: purpose },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![output(to.0, to.1), output(change, back)],
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction).expect("a PSBT");
    let path: DerivationPath = format!("m/{purpose}'/0'/0'/0/3").parse().expect("a path");
    let input = &mut psbt.inputs[0];
    input.witness_utxo = Some(output(script(purpose, 0, key_), COIN));
    input.bip32_derivation.insert(key_, (Fingerprint::default(), path.clone()));
    input.sighash_type = (purpose != 86).then(|| PsbtSighashType::from_u32(1));
    input.redeem_script = (purpose == 49).then(|| script(84, 0, key_));
    if purpose == 86 {
        input.tap_key_origins.insert(XOnlyPublicKey::from(key_), (vec![], (Fingerprint::default(), path)));
    }
    psbt
}

/// One of two coins by itself, of a transaction from which as much comes back as one of them holds.
pub fn half(bundle: &Bundle, number: u8, place: usize) -> Psbt {
    let mut psbt = send(bundle, 84, number, 0, COIN);
    let mut other = psbt.unsigned_tx.input[0].clone();
    other.previous_output.vout += 1;
    psbt.unsigned_tx.input.push(other);
    // lnd wants to be told what each spends.
    let spends = psbt.inputs[0].witness_utxo.clone();
    psbt.inputs.insert(1 - place, Input { witness_utxo: spends, ..Input::default() });
    psbt
}

/// Has it signed.
///
/// # Errors
/// What the signer said, or that nothing was signed.
pub async fn sign(client: &Client, psbt: &Psbt) -> Result<(), String> {
    sign_bytes(client, psbt.serialize()).await
}

/// The same of one that is written otherwise.
///
/// # Errors
/// Likewise.
pub async fn sign_bytes(client: &Client, psbt: Vec<u8>) -> Result<(), String> {
    let signed: Signed = client.call("/walletrpc.WalletKit/SignPsbt", Bytes { first: psbt }).await?;
    if signed.inputs.is_empty() { Err("nothing was signed".to_owned()) } else { Ok(()) }
}

pub fn attempt(what: &str, rule: &'static str, make: fn(&Bundle) -> Vec<Psbt>) -> Attempt {
    let make = Box::new(move |thief: Thief| -> Outcome {
        let all = make(&thief.bundle);
        Box::pin(async move {
            for psbt in &all {
                sign(&thief.client, psbt).await?;
            }
            Ok(())
        })
    });
    Attempt { what: what.to_owned(), rule, policy: POLICY.into(), make }
}

/// The attempts on them.
pub fn attempts() -> Vec<Attempt> {
    fn with(bundle: &Bundle, change: impl FnOnce(&mut Psbt)) -> Vec<Psbt> {
        let mut psbt = send(bundle, 84, 9, 10_000, COIN - 10_000);
        change(&mut psbt);
        vec![psbt]
    }
    vec![
        attempt("a nested coin for a stranger", "outflow-transaction", |b| vec![send(b, 49, 1, COIN, 0)]),
        attempt("a witness coin for a stranger", "outflow-transaction", |b| {
            vec![send(b, 84, 1, COIN - 60_000, 59_000)]
        }),
        attempt("a taproot coin for a stranger", "outflow-transaction", |b| {
            vec![send(b, 86, 1, 51_000, COIN - 51_000)]
        }),
        attempt("a coin as a fee", "outflow-transaction", |b| vec![send(b, 84, 2, 1_000, 500_000)]),
        attempt("many small ones", "outflow-day", |b| {
            (20..22).map(|number| send(b, 84, number, 40_000, COIN - 40_000)).collect()
        }),
        attempt("outputs that can change", "psbt-sighash", |b| {
            with(b, |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(2)))
        }),
        attempt("one output that cannot", "psbt-sighash", |b| {
            with(b, |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(3)))
        }),
        attempt("inputs that can be joined", "psbt-sighash", |b| {
            with(b, |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(0x81)))
        }),
        attempt("a key that is moved", "psbt-tweak", |b| {
            with(b, |psbt| {
                psbt.inputs[0].unknown.insert(raw::Key { type_value: 0x51, key: vec![] }, vec![1; 32]);
            })
        }),
        attempt("another output of the same key", "psbt-script", |b| {
            with(b, |psbt| {
                let other = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![0x51]).wscript_hash());
                psbt.inputs[0].witness_utxo.as_mut().expect("a coin").script_pubkey = other;
                psbt.inputs[0].witness_script = Some(ScriptBuf::from_bytes(vec![0x51]));
            })
        }),
        attempt("a taproot coin that is worth more in its previous transaction", "psbt-script", |b| {
            let mut psbt = send(b, 86, 9, COIN - 1_000, 0);
            let coin = psbt.inputs[0].witness_utxo.as_mut().expect("a coin");
            let previous = Transaction {
                version: Version::TWO,
                lock_time: LockTime::ZERO,
                input: psbt.unsigned_tx.input.clone(),
                output: vec![coin.clone()],
            };
            coin.value = Amount::from_sat(1);
            psbt.unsigned_tx.input[0].previous_output = OutPoint { txid: previous.compute_txid(), vout: 0 };
            psbt.inputs[0].non_witness_utxo = Some(previous);
            vec![psbt]
        }),
        attempt("a script that is not the coin's", "psbt-script", |b| {
            with(b, |psbt| psbt.inputs[0].witness_script = Some(ScriptBuf::from_bytes(vec![0x51])))
        }),
    ]
}

/// A payment that the operator allows.
///
/// # Errors
/// Where it was refused.
pub async fn honest(client: &Client, bundle: &Bundle) -> Result<(), String> {
    sign(client, &send(bundle, 86, 30, 5_000, COIN - 6_000)).await
}

/// walletrpc.SignPsbtResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct Signed {
    #[prost(bytes, tag = "1")]
    psbt: Vec<u8>,
    #[prost(uint32, repeated, tag = "2")]
    inputs: Vec<u32>,
}
