//! A PSBT (BIP 174) that a signer can sign: one P2WSH input of the node's own key.

use lsm::signer::proof::IDENTITY;
use sha2::{Digest, Sha256};

/// The hardened bit of a derivation step.
const HARD: u32 = 1 << 31;

/// A PSBT with one input that `key` (compressed, the node's identity on a test network) can sign alone, as a watch-only
/// node sends it: the coin, its script and the key's path.
pub fn one_input(key: &[u8]) -> Vec<u8> {
    // <key> OP_CHECKSIG
    let witness_script = [&[33], key, &[0xac]].concat();
    let script = [&[0, 32], &Sha256::digest(&witness_script)[..]].concat();
    let steps = [1017 | HARD, 1 | HARD, IDENTITY.0.cast_unsigned() | HARD, 0, IDENTITY.1.cast_unsigned()];
    let path: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    [
        &b"psbt\xff"[..],
        &field(&[0], &transaction(&script)),
        &[0],
        // The coin (a transaction output), the sighash type, the script, the key with a fingerprint that lnd does not read.
        &field(&[1], &output(100_000, &script)),
        &field(&[3], &1u32.to_le_bytes()),
        &field(&[5], &witness_script),
        &field(&[&[6], key].concat(), &[&[0; 4][..], &path].concat()),
        &[0],
        // The one output has no fields.
        &[0],
    ]
    .concat()
}

/// An unsigned transaction: one input from a coin that nobody knows, one output to `script`, of nothing: to a guard that is a sweep that
/// pays nobody, and no limit holds it up.
fn transaction(script: &[u8]) -> Vec<u8> {
    let input = [&[9; 32][..], &0u32.to_le_bytes(), &[0], &u32::MAX.to_le_bytes()].concat();
    [&2u32.to_le_bytes()[..], &[1], &input, &[1], &output(0, script), &0u32.to_le_bytes()].concat()
}

fn output(satoshis: u64, script: &[u8]) -> Vec<u8> {
    [&satoshis.to_le_bytes()[..], &[length(script)], script].concat()
}

fn field(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[length(key)], key, &[length(value)], value].concat()
}

/// A length in one byte (below 253, where the long forms begin).
fn length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).ok().filter(|n| *n < 253).expect("everything here is short")
}
