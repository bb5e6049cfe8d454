//! PSBTs as a watch-only lnd writes them, and as a thief would.

mod property;

use super::super::tests::accounts;
use super::{Input, KNOWN, PAYMENTS, UNKNOWN};
use crate::guard::judge::{Request, Terms, judge};
use crate::guard::refusal::Rule;
use crate::guard::wallet::Wallet;
use bitcoin::absolute::LockTime;
use bitcoin::bip32::{DerivationPath, Fingerprint};
use bitcoin::hashes::Hash;
use bitcoin::key::Secp256k1;
use bitcoin::psbt::{Psbt, PsbtSighashType, raw};
use bitcoin::secp256k1::PublicKey;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, TapNodeHash, Transaction, TxIn, TxOut, Txid, Witness,
    XOnlyPublicKey,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Of the wallet's coins.
const PURPOSES: [u32; 3] = [49, 84, 86];

/// The public key at a path of the wallet that [`super::super::tests::accounts`] is of. Derived once: it takes its time.
fn key(purpose: u32, account: u32, change: u32, index: u32) -> PublicKey {
    type Known = BTreeMap<[u32; 4], PublicKey>;
    static KNOWN: Mutex<Known> = Mutex::new(Known::new());
    let hard = [purpose, if purpose == 1017 { 1 } else { 0 }, account];
    let derive = || PublicKey::from_slice(&super::super::tests::public_key(hard, [change, index])).unwrap();
    *KNOWN.lock().unwrap().entry([purpose, account, change, index]).or_insert_with(derive)
}

fn script(purpose: u32, change: u32, key: PublicKey) -> ScriptBuf {
    let witness = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    match (purpose, change) {
        (86, _) => ScriptBuf::new_p2tr(&Secp256k1::verification_only(), XOnlyPublicKey::from(key), None),
        (49, 0) => ScriptBuf::new_p2sh(&witness.script_hash()),
        _ => witness,
    }
}

/// One coin of the wallet that is spent, by its key at this path.
struct Coin {
    purpose: u32,
    change: u32,
    index: u32,
    amount: u64,
}

fn stranger() -> ScriptBuf {
    script(84, 0, key(1017, 9, 0, 77))
}

/// A PSBT that spends `coin` (and one that is not ours to sign) to these outputs.
fn psbt(coin: &Coin, outputs: &[(ScriptBuf, u64)]) -> Psbt {
    let input = |vout| TxIn {
        previous_output: OutPoint { txid: Txid::all_zeros(), vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output =
        |(script, amount): &(ScriptBuf, u64)| TxOut { value: Amount::from_sat(*amount), script_pubkey: script.clone() };
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input(0), input(1)],
        output: outputs.iter().map(output).collect(),
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    let key = key(coin.purpose, 0, coin.change, coin.index);
    let own = script(coin.purpose, coin.change, key);
    let path: DerivationPath = format!("m/{}'/0'/0'/{}/{}", coin.purpose, coin.change, coin.index).parse().unwrap();
    let signed = &mut psbt.inputs[0];
    signed.witness_utxo = Some(TxOut { value: Amount::from_sat(coin.amount), script_pubkey: own });
    signed.bip32_derivation.insert(key, (Fingerprint::default(), path.clone()));
    signed.sighash_type = Some(PsbtSighashType::from_u32(u32::from(coin.purpose != 86)));
    if coin.purpose != 86 {
        // As lnd does (its rpcwallet.go, ComputeInputScript).
        let program = script(84, 0, key);
        (signed.redeem_script, signed.witness_script) = (Some(program.clone()), Some(program));
    }
    if coin.purpose == 86 {
        signed.tap_key_origins.insert(XOnlyPublicKey::from(key), (vec![], (Fingerprint::default(), path)));
        signed.sighash_type = None;
    }
    psbt.inputs[1].witness_utxo = Some(TxOut { value: Amount::from_sat(5000), script_pubkey: stranger() });
    psbt
}

/// A transaction that pays so much to the first coin's script.
fn previous(psbt: &Psbt, amount: u64) -> Transaction {
    let script_pubkey = psbt.inputs[0].witness_utxo.as_ref().unwrap().script_pubkey.clone();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![],
        output: vec![TxOut { value: Amount::from_sat(amount), script_pubkey }],
    }
}

/// The input with this number spends what such a transaction pays, and has it beside what it says of the coin.
fn spend_previous(psbt: &mut Psbt, number: usize, amount: u64) {
    let previous = previous(psbt, amount);
    psbt.unsigned_tx.input[number].previous_output = OutPoint { txid: previous.compute_txid(), vout: 0 };
    psbt.inputs[number].non_witness_utxo = Some(previous);
}

fn terms() -> Terms {
    super::super::tests::terms(false)
}

/// What leaves, or the rule that refuses.
fn ask(psbt: &Psbt, terms: &mut Terms) -> Result<u64, &'static str> {
    let judged = judge(&Request::Psbt(psbt.serialize()), terms).map_err(|refusal| refusal.rule.name())?;
    Ok(judged.spend.map_or(0, |spend| spend.leaves()))
}

fn coins() -> Vec<Coin> {
    let of = |purpose: &u32| [0, 1].map(|change| Coin { purpose: *purpose, change, index: 7, amount: 100_000 });
    PURPOSES.iter().flat_map(of).collect()
}

#[test]
fn what_does_not_come_back_leaves_its_fee_included() {
    let mut terms = terms();
    for coin in coins() {
        let change = script(86, 1, key(86, 0, 1, 900));
        let spend = psbt(&coin, &[(stranger(), 30_000), (change, 60_000)]);
        assert_eq!(ask(&spend, &mut terms), Ok(40_000), "{}/{}", coin.purpose, coin.change);
        assert_eq!(
            ask(&psbt(&coin, &[(stranger(), 99_000)]), &mut terms),
            Ok(100_000),
            "{}/{}",
            coin.purpose,
            coin.change
        );
    }
}

#[test]
fn a_previous_transaction_that_agrees_changes_nothing() {
    let mut terms = terms();
    for coin in coins() {
        let mut spend = psbt(&coin, &[(stranger(), 99_000)]);
        spend_previous(&mut spend, 0, 100_000);
        assert_eq!(ask(&spend, &mut terms), Ok(100_000), "{}/{}", coin.purpose, coin.change);
    }
}

#[test]
fn what_comes_back_beyond_the_last_address_leaves() {
    let mut terms = terms();
    let spend = |index| {
        let change = script(84, 1, key(84, 0, 1, index));
        psbt(&Coin { purpose: 84, change: 0, index: 7, amount: 100_000 }, &[(change, 99_000)])
    };
    assert_eq!((ask(&spend(999), &mut terms), ask(&spend(1_000), &mut terms)), (Ok(1_000), Ok(100_000)));
    // Before they are gathered none is known.
    terms.wallet = Some(Wallet::new(accounts()).unwrap());
    assert_eq!(ask(&spend(999), &mut terms), Ok(100_000));
}

/// A witness of two items, as it is in a PSBT.
fn witness(signature: usize) -> Vec<u8> {
    let key = [&[33][..], &[2; 33]].concat();
    [&[2, u8::try_from(signature).unwrap()][..], &vec![0x30; signature], &key].concat()
}

/// As lnd's own packetFromTx leaves a witness that is shorter or longer than the one that was written over it.
#[test]
fn a_witness_that_a_later_one_was_written_over_is_passed_over_as_lnd_does() {
    let mut terms = terms();
    let asked = |witness: &[u8]| {
        let mut asked = psbt(&Coin { purpose: 84, change: 0, index: 7, amount: 100_000 }, &[(stranger(), 99_000)]);
        // One that is already signed, before the one that is to be.
        asked.unsigned_tx.input.insert(0, asked.unsigned_tx.input[1].clone());
        asked.inputs.insert(0, asked.inputs[1].clone());
        asked.inputs[0].unknown.insert(raw::Key { type_value: 8, key: vec![] }, witness.to_vec());
        asked
    };
    let (short, long) = (witness(71), witness(72));
    for bytes in [&short[..], &long, &long[..short.len()], &[&short[..], &[2]].concat(), &[0xff], &[0]] {
        assert_eq!(ask(&asked(bytes), &mut terms), Ok(100_000), "{}", bytes.len());
    }
    // That one lnd would sign.
    assert_eq!(ask(&asked(&[]), &mut terms), Err("psbt-encoding"));
    // Of an output it is no witness, and one input has one alone.
    let mut other = asked(&short);
    other.outputs[0].unknown.insert(raw::Key { type_value: 8, key: vec![] }, vec![]);
    assert_eq!(ask(&other, &mut terms), Ok(100_000));
    other.inputs[0].final_script_witness = Some(Witness::new());
    assert_eq!(ask(&other, &mut terms), Err("psbt-encoding"));
}

#[test]
fn what_the_wallet_never_signs_is_refused() {
    type Change = fn(&mut Psbt);
    let changes: [(&str, &'static str, Change); 20] = [
        ("another key at the path", "psbt-derivation", |psbt| {
            let (_, source) = psbt.inputs[0].bip32_derivation.pop_first().unwrap();
            psbt.inputs[0].bip32_derivation.insert(key(84, 0, 0, 8), source);
        }),
        ("two keys", "psbt-derivation", |psbt| {
            let source = psbt.inputs[0].bip32_derivation.first_key_value().unwrap().1.clone();
            psbt.inputs[0].bip32_derivation.insert(key(84, 0, 0, 8), source);
        }),
        ("a short path", "psbt-derivation", |psbt| {
            psbt.inputs[0].bip32_derivation.first_entry().unwrap().get_mut().1 = "m/84'/0'/0'/0".parse().unwrap();
        }),
        ("another coin type", "psbt-derivation", |psbt| {
            psbt.inputs[0].bip32_derivation.first_entry().unwrap().get_mut().1 = "m/84'/1'/0'/0/7".parse().unwrap();
        }),
        ("a tweak", "psbt-tweak", |psbt| {
            psbt.inputs[0].unknown.insert(raw::Key { type_value: 0x51, key: vec![] }, vec![1; 32]);
        }),
        ("the other tweak", "psbt-tweak", |psbt| {
            psbt.inputs[0].unknown.insert(raw::Key { type_value: 0xd0, key: vec![] }, vec![1; 32]);
        }),
        ("no output", "psbt-sighash", |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(2))),
        ("one output", "psbt-sighash", |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(3))),
        ("other inputs", "psbt-sighash", |psbt| psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(0x81))),
        ("another output", "psbt-script", |psbt| {
            psbt.inputs[0].witness_utxo.as_mut().unwrap().script_pubkey = stranger();
        }),
        ("nothing", "psbt-script", |psbt| psbt.inputs[0].witness_utxo.as_mut().unwrap().value = Amount::ZERO),
        ("another previous transaction", "psbt-script", |psbt| {
            psbt.inputs[0].non_witness_utxo = Some(previous(psbt, 100_000));
        }),
        ("a previous transaction that holds more", "psbt-script", |psbt| spend_previous(psbt, 0, 1_000_000)),
        ("the same beside it", "psbt-script", |psbt| spend_previous(psbt, 1, 1_000_000)),
        ("a previous transaction without that output", "psbt-script", |psbt| {
            spend_previous(psbt, 0, 100_000);
            psbt.unsigned_tx.input[0].previous_output.vout = 1;
        }),
        ("a long type", "psbt-encoding", |psbt| {
            psbt.inputs[1].unknown.insert(raw::Key { type_value: 0xfd, key: vec![0x51, 1] }, vec![1; 32]);
        }),
        ("more inputs than can be passed on", "psbt-encoding", |psbt| {
            for _ in 0..1500 {
                psbt.unsigned_tx.input.push(psbt.unsigned_tx.input[1].clone());
                psbt.inputs.push(psbt.inputs[1].clone());
            }
        }),
        ("a witness script", "psbt-script", |psbt| psbt.inputs[0].witness_script = Some(stranger())),
        ("a redeem script", "psbt-script", |psbt| psbt.inputs[0].redeem_script = Some(stranger())),
        ("a merkle root", "psbt-script", |psbt| psbt.inputs[0].tap_merkle_root = Some(TapNodeHash::all_zeros())),
    ];
    let mut terms = terms();
    for (what, rule, change) in changes {
        let mut asked = psbt(&Coin { purpose: 84, change: 0, index: 7, amount: 100_000 }, &[(stranger(), 99_000)]);
        assert_eq!(ask(&asked, &mut terms), Ok(100_000));
        change(&mut asked);
        assert_eq!(ask(&asked, &mut terms), Err(rule), "{what}");
    }
}

/// lnd compares each of them with all before it.
#[test]
fn no_map_has_more_fields_of_a_kind_than_lnd_reads_at_once() {
    type Add = fn(&mut Psbt, u8);
    fn field(number: u8) -> [(raw::Key, Vec<u8>); 1] {
        [(raw::Key { type_value: 0x60, key: vec![number] }, vec![])]
    }
    fn source() -> (Fingerprint, DerivationPath) {
        (Fingerprint::default(), DerivationPath::default())
    }
    let adds: [(&str, usize, Add); 8] = [
        ("the whole's", UNKNOWN, |psbt, number| psbt.unknown.extend(field(number))),
        ("an input's", UNKNOWN, |psbt, number| psbt.inputs[1].unknown.extend(field(number))),
        ("an output's", UNKNOWN, |psbt, number| psbt.outputs[0].unknown.extend(field(number))),
        ("somebody's own", UNKNOWN, |psbt, number| {
            let key = raw::ProprietaryKey { prefix: vec![1], subtype: 0, key: vec![number] };
            psbt.inputs[1].proprietary.insert(key, vec![]);
        }),
        ("hashes", UNKNOWN, |psbt, number| {
            let preimage = vec![number];
            psbt.inputs[1].sha256_preimages.insert(bitcoin::hashes::sha256::Hash::hash(&preimage), preimage);
        }),
        ("an input's taproot keys", KNOWN, |psbt, number| {
            psbt.inputs[1].tap_key_origins.insert(key(84, 0, 0, number.into()).into(), (vec![], source()));
        }),
        ("an output's keys", KNOWN, |psbt, number| {
            psbt.outputs[0].bip32_derivation.insert(key(84, 0, 0, number.into()), source());
        }),
        ("an output's taproot keys", KNOWN, |psbt, number| {
            psbt.outputs[0].tap_key_origins.insert(key(84, 0, 0, number.into()).into(), (vec![], source()));
        }),
    ];
    let mut terms = terms();
    for (what, most, add) in adds {
        let mut asked = psbt(&Coin { purpose: 84, change: 0, index: 7, amount: 100_000 }, &[(stranger(), 99_000)]);
        (0..).take(most).for_each(|number| add(&mut asked, number));
        assert_eq!(ask(&asked, &mut terms), Ok(100_000), "{what}");
        add(&mut asked, u8::MAX);
        assert_eq!(ask(&asked, &mut terms), Err("psbt-encoding"), "{what}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let good = psbt(&coins()[0], &[(stranger(), 99_000)]).serialize();
    let mut terms = terms();
    let mut ask = |bytes: Vec<u8>| judge(&Request::Psbt(bytes), &mut terms).map(|_| ()).map_err(|refusal| refusal.rule);
    assert_eq!(ask(good.clone()), Ok(()));
    assert_eq!(ask([good.clone(), vec![0]].concat()), Err(Rule::PsbtEncoding));
    for end in [0, 4, good.len() / 2, good.len() - 1] {
        assert_eq!(ask(good[..end].to_vec()), Err(Rule::PsbtEncoding), "{end}");
    }
}

/// A PSBT of which the first input is a channel's, by the key at this place in its family.
fn channel(family: u32, index: u32, named: u32, outputs: &[(ScriptBuf, u64)]) -> Psbt {
    let mut asked = psbt(&Coin { purpose: 84, change: 0, index: 7, amount: 100_000 }, outputs);
    let path = format!("m/1017'/1'/{family}'/0/{named}").parse().unwrap();
    let signed = &mut asked.inputs[0];
    signed.bip32_derivation = [(key(1017, family, 0, index), (Fingerprint::default(), path))].into();
    (signed.redeem_script, signed.witness_script) = (None, None);
    asked
}

#[test]
fn a_channels_key_is_the_one_at_its_path_and_moved_once_at_most() {
    let mut terms = terms();
    let mut ask_ = |family: u32, tweaks: &[u8], named: u32| {
        let mut asked = channel(family, 3, named, &[(stranger(), 99_000)]);
        for tweak in tweaks {
            asked.inputs[0].unknown.insert(raw::Key { type_value: *tweak, key: vec![] }, vec![1; 32]);
        }
        ask(&asked, &mut terms)
    };
    assert_eq!(ask_(0, &[], 3), Ok(0));
    assert_eq!(ask_(2, &[0x51], 3), Ok(0));
    assert_eq!(ask_(2, &[0x51, 0xd0], 3), Err("psbt-tweak"));
    assert_eq!(ask_(2, &[], 4), Err("psbt-derivation"));
}

#[test]
fn what_of_a_channel_is_the_wallets_alone_counts_as_its_coins_do() {
    let mut terms = terms();
    let own = script(86, 0, key(86, 0, 0, 40));
    for (family, is_counted) in (0..10).map(|family| (family, ![0, 2].contains(&family))) {
        let mut asked = channel(family, 3, 3, &[(stranger(), 30_000), (own.clone(), 60_000)]);
        asked.inputs[0].unknown.insert(raw::Key { type_value: 0x51, key: vec![] }, vec![1; 32]);
        assert_eq!(ask(&asked, &mut terms), Ok(if is_counted { 40_000 } else { 0 }), "{family}");
        // As the other side's commitment is signed: one output alone, and other inputs.
        asked.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(0x83));
        let wanted = if is_counted { Err("psbt-sighash") } else { Ok(0) };
        assert_eq!(ask(&asked, &mut terms), wanted, "{family}");
    }
}

/// What so many of these keys open, written as if there were two.
fn multisig(count: i64, keys: &[PublicKey]) -> ScriptBuf {
    let script = bitcoin::script::Builder::new().push_int(count);
    let script = keys.iter().fold(script, |script, key| script.push_key(&bitcoin::PublicKey::new(*key)));
    script.push_int(2).push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script()
}

#[test]
fn a_funding_is_proved_by_the_signature_that_spends_it_with_this_wallets_key() {
    let mut terms = terms();
    let (own, theirs) = (key(1017, 0, 0, 3), key(84, 0, 0, 1));
    let mut proves = |family: u32, script: ScriptBuf, tweaked: bool, spent: Option<ScriptBuf>| {
        let mut asked = channel(family, 3, 3, &[(stranger(), 99_000)]);
        let input = &mut asked.inputs[0];
        input.witness_utxo.as_mut().unwrap().script_pubkey = spent.unwrap_or_else(|| script.to_p2wsh());
        input.witness_script = Some(script);
        if tweaked {
            input.unknown.insert(raw::Key { type_value: 0x51, key: vec![] }, vec![1; 32]);
        }
        judge(&Request::Psbt(asked.serialize()), &mut terms).unwrap().fundings.len()
    };
    let good = multisig(2, &[own, theirs]);
    assert_eq!(proves(0, good.clone(), false, None), 1);
    assert_eq!(proves(0, multisig(2, &[theirs, own]), false, None), 1);
    for (what, count) in [
        ("another output", proves(0, good.clone(), false, Some(stranger()))),
        ("a tweaked key", proves(0, good.clone(), true, None)),
        ("another family", proves(2, good, false, None)),
        ("one key of two", proves(0, multisig(1, &[own, theirs]), false, None)),
        ("twice the same", proves(0, multisig(2, &[own, own]), false, None)),
        ("others' keys", proves(0, multisig(2, &[theirs, key(84, 0, 0, 2)]), false, None)),
        ("a third", proves(0, multisig(2, &[own, theirs, key(84, 0, 0, 2)]), false, None)),
    ] {
        assert_eq!(count, 0, "{what}");
    }
}

#[test]
fn outputs_are_told_apart_up_to_a_number_and_the_rest_is_one_sum() {
    let mut terms = terms();
    let outputs: Vec<_> = (0..PAYMENTS as u64 + 20).map(|amount| (stranger(), amount)).collect();
    let long = (ScriptBuf::from_bytes(vec![0x6a; 43]), 5);
    let asked = psbt(&coins()[0], &[vec![long], outputs].concat());
    let spend = judge(&Request::Psbt(asked.serialize()), &mut terms).unwrap().spend.unwrap();
    assert_eq!((spend.paid.len(), spend.paid[0].output), (PAYMENTS, 1));
    assert_eq!(spend.rest, 5 + (100..120).sum::<u64>());
    assert_eq!(spend.elsewhere(), 5 + (0..120).sum::<u64>());
}
