//! What a PSBT would have lnd sign, read as lnd reads it (lnd's lnwallet/btcwallet/psbt.go, SignPsbt), and what it takes from the
//! wallet's own coins.

mod witness;

use super::Judged;
use crate::guard::refusal::{Refusal, Rule};
use crate::guard::spend::{Paid, Spend};
use crate::guard::wallet::{FUNDING, LND, Wallet};
use bitcoin::bip32::ChildNumber;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_PUSHNUM_2};
use bitcoin::psbt::{Input, Psbt};
use bitcoin::script::Instruction;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, Script, Transaction};
use std::collections::BTreeMap;

/// lnd's own fields in an input, by which the key is moved before it signs (PsbtKeyTypeInputSignatureTweakSingle, ...Double).
const TWEAKS: [u8; 2] = [0x51, 0xd0];

/// The signature types under which nothing of the transaction can change: none named, which is all or taproot's default, and all.
const WHOLE: [u32; 2] = [0, 1];

/// More inputs than this has no transaction that others pass on (bitcoin's policy.h, MAX_STANDARD_TX_WEIGHT).
const INPUTS: usize = 1500;

/// How many fields of one map, of an input, an output or the whole, may be such as lnd's reader knows nothing of, and how many of one
/// kind that it knows: it compares each with all of its kind before it (btcutil's psbt, partial_input.go), so that one map of some
/// hundred thousand would hold up lnd for minutes. lnd itself writes two, and no script of several keys has more.
const UNKNOWN: usize = 16;
const KNOWN: usize = 100;

/// The first byte of a key's type that is written in more bytes than one (BIP 174's compact size). No field has such a type, and
/// lnd 0.21 keeps of one its last byte, which can be that of a field.
const LONG_TYPE: u8 = 0xfd;

/// lnd's families of keys that sign for what two share, a channel's funding and its HTLCs (keychain/derivation.go). What the others open
/// is this wallet's alone: what a penalty takes (1), what the other side's commitment pays here (3), what this side's own has delayed
/// (4), and whatever another program keeps by keys of a family of its own. A key's tweak, which the caller names, leads to no other
/// family's key.
const SHARED: [u32; 2] = [FUNDING, 2];

/// How many payments of one transaction are told apart, and how long the script of each may be: no address has a longer one.
const PAYMENTS: usize = 100;
const SCRIPT: usize = 42;

/// What a witness of one of the wallet's keys weighs, and the two bytes that say that there are witnesses.
const WITNESS: u64 = 108;
const MARKER: u64 = 2;

/// What an input spends.
enum Spent {
    /// A coin of the wallet's, in satoshis.
    Coin(u64),
    /// What of a channel, or of another program's, is the wallet's alone.
    Alone(u64),
    /// What else of a channel's; and the funding that it proves.
    Channel(bool),
}

/// A key's path: three hardened steps and two that are not.
struct Path {
    purpose: u32,
    coin_type: u32,
    account: u32,
    change: u32,
    index: u32,
}

/// What `bytes` takes from what is the wallet's alone, and which fundings it proves.
///
/// # Errors
/// Where it does not read as lnd reads it, or asks for what the wallet never signs.
pub(super) fn read(bytes: &[u8], wallet: &mut Wallet) -> Result<Judged, Refusal> {
    let none = || Refusal::new(Rule::PsbtEncoding, "it is no PSBT");
    let bytes = witness::empty(bytes).ok_or_else(none)?;
    let psbt = Psbt::deserialize(&bytes).map_err(|_| none())?;
    // What two readers could read differently has two ways to be written.
    if psbt.serialize() != bytes {
        return Err(Refusal::new(Rule::PsbtEncoding, "it is not written as it would be written again"));
    }
    hold_fields(&psbt)?;
    let (mut signed, mut swept, mut fundings) = (BTreeMap::new(), BTreeMap::new(), vec![]);
    let transaction = &psbt.unsigned_tx;
    for ((number, input), spent) in (0..).zip(&psbt.inputs).zip(&transaction.input).filter(|((_, i), _)| is_signed(i)) {
        match judge_input(number, input, wallet)? {
            Spent::Coin(amount) => drop(signed.insert(number, amount)),
            Spent::Alone(amount) => drop(swept.insert(number, amount)),
            Spent::Channel(true) => fundings.push((spent.previous_output.txid.to_string(), spent.previous_output.vout)),
            Spent::Channel(false) => {}
        }
    }
    let is_taken = !signed.is_empty() || !swept.is_empty();
    let spend = is_taken.then(|| weigh_outputs(Spend::of(transaction, signed, swept), transaction, wallet));
    Ok(Judged { class: None, spend, fundings })
}

/// Says of a spend where its outputs go.
fn weigh_outputs(mut spend: Spend, transaction: &Transaction, wallet: &mut Wallet) -> Spend {
    for (number, output) in (0..).zip(&transaction.output) {
        let (script, amount) = (&output.script_pubkey, output.value.to_sat());
        let total = if wallet.owns(script) {
            &mut spend.back
        } else if spend.paid.len() < PAYMENTS && script.len() <= SCRIPT {
            spend.paid.push(Paid { output: number, script: script.to_hex_string(), amount });
            continue;
        } else {
            &mut spend.rest
        };
        *total = total.saturating_add(amount);
    }
    let witnesses = WITNESS * transaction.input.len() as u64 + MARKER;
    spend.vsize = transaction.weight().to_wu().saturating_add(witnesses).div_ceil(4);
    spend
}

/// Holds what another reader could read otherwise, whether or not lnd signs the input: it takes the amounts and scripts of all
/// inputs into a taproot signature, from the previous transaction where there is one (btcwallet's PsbtPrevOutputFetcher).
fn hold_fields(psbt: &Psbt) -> Result<(), Refusal> {
    let encoding = |why: &str| Err(Refusal::new(Rule::PsbtEncoding, why));
    if psbt.inputs.len() > INPUTS {
        return encoding("it has too many inputs");
    }
    if count_fields(psbt).any(|(unknown, known)| unknown > UNKNOWN || known > KNOWN) {
        return encoding("it has too many fields of one kind");
    }
    let maps = psbt.inputs.iter().map(|input| &input.unknown).chain(psbt.outputs.iter().map(|output| &output.unknown));
    if maps.chain([&psbt.unknown]).flat_map(BTreeMap::keys).any(|key| key.type_value >= LONG_TYPE) {
        return encoding("it has a field whose type is long");
    }
    for (number, (input, spent)) in psbt.inputs.iter().zip(&psbt.unsigned_tx.input).enumerate() {
        let Some(before) = &input.non_witness_utxo else { continue };
        let outpoint = spent.previous_output;
        let output = usize::try_from(outpoint.vout).ok().and_then(|vout| before.output.get(vout));
        let is_its = before.compute_txid() == outpoint.txid;
        let agree = output.is_some_and(|output| input.witness_utxo.as_ref().is_none_or(|witness| witness == output));
        if !is_its || !agree {
            let why = format!("input {number} spends another output than that of its previous transaction");
            return Err(Refusal::new(Rule::PsbtScript, why));
        }
    }
    Ok(())
}

/// Of each map how many fields lnd's reader knows nothing of, and how many there are of the kind that it knows of which there are most.
fn count_fields(psbt: &Psbt) -> impl Iterator<Item = (usize, usize)> {
    let whole = (psbt.unknown.len() + psbt.proprietary.len(), psbt.xpub.len());
    let inputs = psbt.inputs.iter().map(|input| {
        let hashes = input.ripemd160_preimages.len() + input.sha256_preimages.len();
        let hashes = hashes + input.hash160_preimages.len() + input.hash256_preimages.len();
        let keys = input.partial_sigs.len().max(input.bip32_derivation.len()).max(input.tap_key_origins.len());
        let known = keys.max(input.tap_script_sigs.len()).max(input.tap_scripts.len());
        (input.unknown.len() + input.proprietary.len() + hashes, known)
    });
    let outputs = psbt.outputs.iter().map(|output| {
        let known = output.bip32_derivation.len().max(output.tap_key_origins.len());
        (output.unknown.len() + output.proprietary.len(), known)
    });
    inputs.chain(outputs).chain([whole])
}

/// True of an input that lnd tries to sign; it passes over the others.
fn is_signed(input: &Input) -> bool {
    input.witness_utxo.is_some() && input.final_script_witness.is_none() && !input.bip32_derivation.is_empty()
}

/// What the input spends.
fn judge_input(number: u32, input: &Input, wallet: &mut Wallet) -> Result<Spent, Refusal> {
    let refuse = |rule, why: &str| Refusal::new(rule, format!("input {number} {why}"));
    if input.witness_utxo.as_ref().is_some_and(|spent| spent.value > Amount::MAX_MONEY) {
        return Err(refuse(Rule::PsbtScript, "spends more than there is"));
    }
    let mut derivations = input.bip32_derivation.iter();
    let (Some((public, (_, path))), None) = (derivations.next(), derivations.next()) else {
        return Err(refuse(Rule::PsbtDerivation, "names more keys than one"));
    };
    let path = read_path(path.as_ref()).ok_or_else(|| refuse(Rule::PsbtDerivation, "has no key's path"))?;
    let tweaks = input.unknown.keys().filter(|key| key.key.is_empty() && TWEAKS.contains(&key.type_value)).count();
    if path.purpose == LND {
        let key = wallet.key(path.account, path.index).filter(|_| path.change == 0);
        if key != Some(public.serialize()) {
            return Err(refuse(Rule::PsbtDerivation, "names a key that is not at its path"));
        }
        if tweaks > 1 {
            return Err(refuse(Rule::PsbtTweak, "moves its key twice"));
        }
        return judge_channel(input, public, path.account, tweaks).map_err(|(rule, why)| refuse(rule, why));
    }
    if tweaks > 0 {
        return Err(refuse(Rule::PsbtTweak, "moves a key of the wallet's coins"));
    }
    judge_coin(input, public, &path, wallet).map(Spent::Coin).map_err(|(rule, why)| refuse(rule, why))
}

fn judge_channel(input: &Input, public: &PublicKey, family: u32, tweaks: usize) -> Result<Spent, (Rule, &'static str)> {
    if !SHARED.contains(&family) {
        return match (is_over_all(input), &input.witness_utxo) {
            (true, Some(spent)) => Ok(Spent::Alone(spent.value.to_sat())),
            _ => Err((Rule::PsbtSighash, "leaves parts of the transaction open")),
        };
    }
    let is_funding =
        || input.witness_utxo.as_ref().is_some_and(|spent| is_funding(input, &spent.script_pubkey, public));
    Ok(Spent::Channel(family == FUNDING && tweaks == 0 && is_funding()))
}

/// True where the input spends an output that two keys open together, this one and another (BOLT 3, funding transaction output).
fn is_funding(input: &Input, spent: &Script, public: &PublicKey) -> bool {
    let Some(script) = input.witness_script.as_ref().filter(|script| *spent == script.to_p2wsh()) else { return false };
    let steps: Vec<Instruction<'_>> = script.instructions().map_while(Result::ok).collect();
    let [
        Instruction::Op(OP_PUSHNUM_2),
        Instruction::PushBytes(one),
        Instruction::PushBytes(other),
        Instruction::Op(OP_PUSHNUM_2),
        Instruction::Op(OP_CHECKMULTISIG),
    ] = steps[..]
    else {
        return false;
    };
    one != other && [one, other].iter().any(|key| key.as_bytes() == public.serialize())
}

/// True of a signature under which nothing of the transaction can change.
fn is_over_all(input: &Input) -> bool {
    WHOLE.contains(&input.sighash_type.map_or(0, bitcoin::psbt::PsbtSighashType::to_u32))
}

fn judge_coin(
    input: &Input,
    public: &PublicKey,
    path: &Path,
    wallet: &mut Wallet,
) -> Result<u64, (Rule, &'static str)> {
    let own = (path.coin_type == 0).then(|| wallet.coin(path.purpose, path.account, path.change, path.index, public));
    let coin = own.flatten().ok_or((Rule::PsbtDerivation, "names a key that is not at its path"))?;
    let spent = input.witness_utxo.as_ref().filter(|output| output.script_pubkey == coin.script);
    let spent = spent.ok_or((Rule::PsbtScript, "spends no output of its key"))?;
    // lnd names the witness program in both fields (its rpcwallet.go, ComputeInputScript) and signs over the first of these that is
    // there (psbt.go, prepareScriptsV0). Another script, and the signature is good for another output.
    let named = [&input.redeem_script, &input.witness_script];
    let signed = named.into_iter().flatten().next().unwrap_or(&spent.script_pubkey);
    let is_own = named.into_iter().flatten().all(|script| Some(script) == coin.program.as_ref());
    if !is_own || coin.program.as_ref().is_some_and(|program| program != signed) || input.tap_merkle_root.is_some() {
        return Err((Rule::PsbtScript, "has a script that is not its key's"));
    }
    let leaves = input.tap_key_origins.values().any(|(leaves, _)| !leaves.is_empty());
    if leaves || !input.tap_scripts.is_empty() {
        return Err((Rule::PsbtScript, "is to be signed by a taproot script"));
    }
    if !is_over_all(input) {
        return Err((Rule::PsbtSighash, "leaves parts of the transaction open"));
    }
    match spent.value.to_sat() {
        0 => Err((Rule::PsbtScript, "spends an output of nothing")),
        amount => Ok(amount),
    }
}

fn read_path(path: &[ChildNumber]) -> Option<Path> {
    let hard = |step: &ChildNumber| if let ChildNumber::Hardened { index } = step { Some(*index) } else { None };
    let soft = |step: &ChildNumber| if let ChildNumber::Normal { index } = step { Some(*index) } else { None };
    let [purpose, coin_type, account, change, index] = path else { return None };
    Some(Path {
        purpose: hard(purpose)?,
        coin_type: hard(coin_type)?,
        account: hard(account)?,
        change: soft(change)?,
        index: soft(index)?,
    })
}

#[cfg(test)]
mod tests;
