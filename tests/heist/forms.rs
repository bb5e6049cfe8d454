//! What a thief does with the form of a request: PSBTs that are written so that another reader reads something else, and payments that
//! come in parts or at once.

use super::attempts::{Attempt, Outcome, Thief};
use super::coins::{COIN, POLICY, attempt, key, send, sign, sign_bytes};
use crate::caller::Client;
use bitcoin::bip32::{DerivationPath, Fingerprint};
use bitcoin::key::Secp256k1;
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::psbt::{Psbt, raw};
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{ScriptBuf, TapLeafHash, Transaction, XOnlyPublicKey};
use lsm::bundle::Bundle;

/// The field of a PSBT's input that says the signature's type, as it is written for all inputs and outputs.
const SIGHASH_ALL: [u8; 7] = [1, 3, 4, 1, 0, 0, 0];

/// The attempts on them.
pub fn attempts() -> Vec<Attempt> {
    vec![
        attempt("a second key, a channel's, beside the coin's", "psbt-derivation", |b| vec![two_keys(b)]),
        fields_in_another_order(),
        attempt("more inputs than others pass on", "psbt-encoding", |b| vec![crowd(b)]),
        attempt("a PSBT of many megabytes", "too-large", |b| {
            let mut psbt = send(b, 84, 122, 1_000, COIN - 2_000);
            // Go's reader takes no value of more than four million bytes.
            for number in 0..2 {
                psbt.unknown.insert(raw::Key { type_value: 0xf0, key: vec![number] }, vec![7; 3_000_000]);
            }
            vec![psbt]
        }),
        attempt("a taproot coin by one of its scripts", "psbt-script", |b| vec![by_script(b)]),
        attempt("one input at a time, of which each comes back", "outflow-transaction", |b| halves(b).to_vec()),
        conflict(),
        race(),
    ]
}

fn two_keys(bundle: &Bundle) -> Psbt {
    let mut psbt = send(bundle, 84, 120, COIN - 1_000, 0);
    let channels = PublicKey::from_slice(&bundle.accounts.key(0, 0).expect("a key")).expect("a key");
    let path: DerivationPath = "m/1017'/1'/0'/0/0".parse().expect("a path");
    psbt.inputs[0].bip32_derivation.insert(channels, (Fingerprint::default(), path));
    psbt
}

/// Written by another order than that of the fields' types, which every reader takes, and none writes again.
fn fields_in_another_order() -> Attempt {
    let make = Box::new(move |thief: Thief| -> Outcome {
        let mut bytes = send(&thief.bundle, 84, 121, 1_000, COIN - 2_000).serialize();
        let field = bytes.windows(SIGHASH_ALL.len()).position(|window| window == SIGHASH_ALL).expect("the field");
        bytes.drain(field..field + SIGHASH_ALL.len());
        // After it come the ends of the input's map and of two outputs' empty ones.
        bytes.splice(bytes.len() - 3..bytes.len() - 3, SIGHASH_ALL);
        Box::pin(async move { sign_bytes(&thief.client, bytes).await })
    });
    Attempt { what: "fields in another order".into(), rule: "psbt-encoding", policy: POLICY.into(), make }
}

/// A PSBT of this transaction, in which the input at `place` is to be signed as that of `one`, and all others are said to spend the same.
fn one_of_many(one: &Psbt, transaction: &Transaction, place: usize) -> Psbt {
    let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).expect("a PSBT");
    for input in &mut psbt.inputs {
        input.witness_utxo.clone_from(&one.inputs[0].witness_utxo);
    }
    psbt.inputs[place] = one.inputs[0].clone();
    psbt
}

/// One input to be signed, and 1500 besides.
fn crowd(bundle: &Bundle) -> Psbt {
    let one = send(bundle, 84, 123, 1_000, COIN - 2_000);
    let mut transaction = one.unsigned_tx.clone();
    let others = (0..1_500).map(|vout| {
        let mut other = transaction.input[0].clone();
        other.previous_output.vout = 1_000 + vout;
        other
    });
    transaction.input.extend(others.collect::<Vec<_>>());
    one_of_many(&one, &transaction, 0)
}

/// An output that the wallet's key opens by a script: the key itself does not.
fn by_script(bundle: &Bundle) -> Psbt {
    let mut psbt = send(bundle, 86, 124, COIN - 1_000, 0);
    let (secp, own) = (Secp256k1::verification_only(), XOnlyPublicKey::from(key(bundle, 86, 0, 3)));
    let script = Builder::new().push_x_only_key(&own).push_opcode(OP_CHECKSIG).into_script();
    let tree = TaprootBuilder::new().add_leaf(0, script.clone()).expect("a leaf").finalize(&secp, own).expect("a tree");
    let leaf = (script.clone(), LeafVersion::TapScript);
    let input = &mut psbt.inputs[0];
    input.witness_utxo.as_mut().expect("a coin").script_pubkey = ScriptBuf::new_p2tr_tweaked(tree.output_key());
    input.tap_scripts.insert(tree.control_block(&leaf).expect("the way to the leaf"), leaf);
    let leaves = &mut input.tap_key_origins.get_mut(&own).expect("the key").0;
    leaves.push(TapLeafHash::from_script(&script, LeafVersion::TapScript));
    psbt
}

/// One transaction of two coins, of which one goes to a stranger: each request shows one of them, and the other one's worth comes back.
fn halves(bundle: &Bundle) -> [Psbt; 2] {
    let one = send(bundle, 84, 125, COIN - 1_000, COIN);
    let mut transaction = one.unsigned_tx.clone();
    let mut other = transaction.input[0].clone();
    other.previous_output.vout += 1;
    transaction.input.push(other);
    [0, 1].map(|place| one_of_many(&one, &transaction, place))
}

/// A policy by which a day has room for so much.
fn per_day(amount: u64) -> String {
    format!("[coins]\nper-transaction = 50000\nper-day = {amount}\n")
}

/// Two payments by one coin, of which one can come true, and the thief chooses which: the larger counts, and another besides.
fn conflict() -> Attempt {
    let all = attempt("one coin twice, and another", "outflow-day", |b| {
        let mut other = send(b, 84, 127, 1_000, COIN - 1_000);
        let first = send(b, 84, 126, 40_000, COIN - 40_000);
        other.unsigned_tx.input[0].previous_output = first.unsigned_tx.input[0].previous_output;
        vec![first, other, send(b, 84, 127, 30_000, COIN - 30_000)]
    });
    // The first of the many small ones of a day is counted already.
    Attempt { policy: per_day(100_000), ..all }
}

/// Two payments at the same time, on two connections, of which the day has room for one.
fn race() -> Attempt {
    let make = Box::new(|thief: Thief| -> Outcome {
        Box::pin(async move {
            let ask = async |number| {
                let psbt = send(&thief.bundle, 84, number, 40_000, COIN - 40_000);
                let client = Client::new(&thief.port, None, &thief.admin, thief.bundle.identity_pubkey());
                sign(&client, &psbt).await
            };
            match futures_util::future::join(ask(128), ask(129)).await {
                (Ok(()), Ok(())) => Ok(()),
                (Ok(()), Err(said)) | (Err(said), Ok(())) => Err(said),
                (Err(one), Err(other)) => Err(format!("neither was signed: {} and {}", one.len(), other.len())),
            }
        })
    });
    Attempt { what: "two at once".into(), rule: "outflow-day", policy: per_day(130_000), make }
}
