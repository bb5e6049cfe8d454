//! What a PSBT would have lnd sign, read as lnd reads it (lnd's lnwallet/btcwallet/psbt.go, SignPsbt), and what it takes from the
//! wallet's own coins.

use super::{Refusal, Rule};
use crate::guard::budget::Spend;
use crate::guard::wallet::{LND, Wallet};
use bitcoin::bip32::ChildNumber;
use bitcoin::psbt::{Input, Psbt};
use bitcoin::secp256k1::PublicKey;
use std::collections::BTreeMap;

/// lnd's own fields in an input, by which the key is moved before it signs (PsbtKeyTypeInputSignatureTweakSingle, ...Double).
const TWEAKS: [u8; 2] = [0x51, 0xd0];

/// The signature types under which nothing of the transaction can change: none named, which is all or taproot's default, and all.
const WHOLE: [u32; 2] = [0, 1];

/// More inputs than this has no transaction that others pass on (bitcoin's policy.h, MAX_STANDARD_TX_WEIGHT).
const INPUTS: usize = 1500;

/// The first byte of a key's type that is written in more bytes than one (BIP 174's compact size). No field has such a type, and
/// lnd 0.21 keeps of one its last byte, which can be that of a field.
const LONG_TYPE: u8 = 0xfd;

/// A key's path: three hardened steps and two that are not.
struct Path {
    purpose: u32,
    coin_type: u32,
    account: u32,
    change: u32,
    index: u32,
}

/// What `bytes` takes from the wallet; nothing where only channels' keys sign.
///
/// # Errors
/// Where it does not read as lnd reads it, or asks for what the wallet never signs.
pub(super) fn read(bytes: &[u8], wallet: &mut Wallet) -> Result<Option<Spend>, Refusal> {
    let psbt = Psbt::deserialize(bytes).map_err(|_| Refusal::new(Rule::PsbtEncoding, "it is no PSBT"))?;
    // What two readers could read differently has two ways to be written.
    if psbt.serialize() != bytes {
        return Err(Refusal::new(Rule::PsbtEncoding, "it is not written as it would be written again"));
    }
    hold_fields(&psbt)?;
    wallet.begin_request();
    let mut signed = BTreeMap::new();
    for (number, input) in (0..).zip(&psbt.inputs).filter(|(_, input)| is_signed(input)) {
        if let Some(amount) = judge_input(number, input, wallet)? {
            signed.insert(number, amount);
        }
    }
    if signed.is_empty() {
        return Ok(None);
    }
    let transaction = &psbt.unsigned_tx;
    let own = transaction.output.iter().filter(|output| wallet.owns(&output.script_pubkey));
    let back = own.fold(0_u64, |sum, output| sum.saturating_add(output.value.to_sat()));
    Ok(Some(Spend { txid: transaction.compute_txid().to_string(), signed, back }))
}

/// Holds what another reader could read otherwise, whether or not lnd signs the input: it takes the amounts and scripts of all
/// inputs into a taproot signature, from the previous transaction where there is one (btcwallet's PsbtPrevOutputFetcher).
fn hold_fields(psbt: &Psbt) -> Result<(), Refusal> {
    let encoding = |why: &str| Err(Refusal::new(Rule::PsbtEncoding, why));
    if psbt.inputs.len() > INPUTS {
        return encoding("it has too many inputs");
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

/// True of an input that lnd tries to sign; it passes over the others.
fn is_signed(input: &Input) -> bool {
    input.witness_utxo.is_some() && input.final_script_witness.is_none() && !input.bip32_derivation.is_empty()
}

/// What the input spends of the wallet's coins, in satoshis; nothing where it is a channel's.
fn judge_input(number: u32, input: &Input, wallet: &mut Wallet) -> Result<Option<u64>, Refusal> {
    let refuse = |rule, why: &str| Refusal::new(rule, format!("input {number} {why}"));
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
        return Ok(None);
    }
    if tweaks > 0 {
        return Err(refuse(Rule::PsbtTweak, "moves a key of the wallet's coins"));
    }
    judge_coin(input, public, &path, wallet).map(Some).map_err(|(rule, why)| refuse(rule, why))
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
    let kind = input.sighash_type.map_or(0, bitcoin::psbt::PsbtSighashType::to_u32);
    if !WHOLE.contains(&kind) {
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
