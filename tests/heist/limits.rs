//! What the operator's limits bound: many small sends, fees, fundings that are none, destinations that lie, calls without end.

use super::attempts::{Attempt, Bytes, GENERATOR, Outcome, SHARED_KEY, SIGN_MESSAGE, Thief, locator};
use super::coins::{COIN, attempt, pay, send, thief};
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpub};
use bitcoin::key::Secp256k1;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::psbt::{Psbt, PsbtSighashType, raw};
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, CompressedPublicKey, OutPoint, ScriptBuf, TxOut};
use lsm::bundle::Bundle;
use lsm::signer::wire::signrpc::{KeyDescriptor, SharedKeyRequest, SignMessageReq, SignMessageResp};

/// A cold wallet's account (that of BIP 84's example), which may be paid freely.
const COLD: &str =
    "xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V";

/// What the honest node lives by.
pub const HONEST: &str = "[coins]\nper-transaction = 50000\nper-hour = 2000000\nper-day = 4000000\n\
    [channels]\nper-transaction = 1000000\nper-day = 9000000\n[fees]\nper-transaction = 20000\nper-vbyte = 100\n\
    [rates.message]\nper-hour = 1000\n[[free]]\n\
    xpub = \"xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V\"\n";

fn under(policy: &str, attempt: Attempt) -> Attempt {
    Attempt { policy: policy.to_owned(), ..attempt }
}

/// The attempts on them.
pub fn attempts() -> Vec<Attempt> {
    [sends(), destinations(), sweeps(), rates(), fundings()].into_iter().flatten().collect()
}

fn sends() -> Vec<Attempt> {
    // One of forty thousand was passed before, the first of the many small ones of a day.
    let hour = "[coins]\nper-transaction = 50000\nper-hour = 130000\nper-day = 9000000\n";
    vec![
        under(
            hour,
            attempt("many small ones within an hour", "outflow-hour", |b| {
                (40..43).map(|number| send(b, 84, number, 40_000, COIN - 40_000)).collect()
            }),
        ),
        under(
            "[fees]\nper-transaction = 20000\n",
            attempt("a fee that is a theft", "fee-ceiling", |b| vec![send(b, 84, 50, 1_000, COIN - 30_000)]),
        ),
        under(
            "[fees]\nper-vbyte = 100\n",
            attempt("the same for each byte", "fee-rate", |b| vec![send(b, 86, 51, 1_000, COIN - 30_000)]),
        ),
        under(
            "[coins]\nquiet-hours = [\"00:00-12:00\", \"12:00-00:00\"]\n[fees]\nper-transaction = 900\n",
            attempt("while the operator sleeps", "quiet-hours", |b| vec![send(b, 49, 52, 1_000, COIN - 1_500)]),
        ),
    ]
}

/// The account's key at ROW/INDEX.
fn cold(row: u32, index: u32) -> PublicKey {
    let account: Xpub = COLD.parse().expect("a key");
    let steps = [row, index].map(|step| ChildNumber::from_normal_idx(step).expect("a step"));
    account.derive_pub(&Secp256k1::verification_only(), &steps).expect("it derives").public_key
}

fn destinations() -> Vec<Attempt> {
    let free = format!("[coins]\nper-transaction = 50000\n[[free]]\nxpub = \"{COLD}\"\n");
    vec![under(
        &free,
        attempt("a stranger's output that claims the cold wallet's key", "outflow-transaction", |b| {
            let mut psbt = send(b, 84, 60, COIN - 1_000, 0);
            let path: DerivationPath = "m/84'/0'/0'/0/0".parse().expect("a path");
            psbt.outputs[0].bip32_derivation.insert(cold(0, 0), (Fingerprint::default(), path));
            vec![psbt]
        }),
    )]
}

/// A payment to the cold wallet, of any amount.
pub fn to_cold(bundle: &Bundle) -> Psbt {
    let script = ScriptBuf::new_p2wpkh(&CompressedPublicKey(cold(1, 17)).wpubkey_hash());
    pay(bundle, 84, 61, (script, COIN - 1_000), 0)
}

/// The first input spends an output of this family's first key instead.
fn from_channel(bundle: &Bundle, family: u32, mut psbt: Psbt) -> Psbt {
    let key = PublicKey::from_slice(&bundle.accounts.key(family, 0).expect("a key")).expect("a key");
    let path: DerivationPath = format!("m/1017'/1'/{family}'/0/0").parse().expect("a path");
    let input = &mut psbt.inputs[0];
    input.bip32_derivation = [(key, (Fingerprint::default(), path))].into();
    let script_pubkey = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    input.witness_utxo = Some(TxOut { value: Amount::from_sat(COIN), script_pubkey });
    (input.redeem_script, input.witness_script) = (None, None);
    psbt
}

fn sweeps() -> Vec<Attempt> {
    vec![
        attempt("a penalty for a stranger", "outflow-transaction", |b| {
            vec![from_channel(b, 1, send(b, 84, 70, COIN - 1_000, 0))]
        }),
        attempt("what the other side's commitment pays, for a stranger", "outflow-transaction", |b| {
            vec![from_channel(b, 3, send(b, 84, 71, COIN - 1_000, 0))]
        }),
        attempt("what this side's commitment pays, for a stranger", "outflow-transaction", |b| {
            vec![from_channel(b, 4, send(b, 84, 72, COIN - 60_000, 50_000))]
        }),
        attempt("a coin as the fee of a sweep", "outflow-transaction", |b| {
            let coin = send(b, 84, 73, 0, 900_000);
            let mut psbt = from_channel(b, 4, coin.clone());
            let mut spent = coin.unsigned_tx.input[0].clone();
            spent.previous_output.vout += 1;
            psbt.unsigned_tx.input.push(spent);
            psbt.inputs.extend(coin.inputs);
            vec![psbt]
        }),
        attempt("what another program keeps, for a stranger", "outflow-transaction", |b| {
            vec![from_channel(b, 99, send(b, 84, 78, COIN - 1_000, 0))]
        }),
        attempt("a sweep whose outputs can change", "psbt-sighash", |b| {
            let mut psbt = from_channel(b, 4, send(b, 84, 74, 0, COIN - 1_000));
            psbt.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(2));
            vec![psbt]
        }),
    ]
}

/// Sweeps as a node makes them: of what was delayed, of what the other side paid, and a penalty, whose fee may be most of it.
pub fn sweeps_home(bundle: &Bundle) -> Vec<Psbt> {
    let home = |family, number, fee| from_channel(bundle, family, send(bundle, 84, number, 0, COIN - fee));
    let mut all = vec![home(4, 75, 100_000), home(3, 76, 100_000), home(1, 77, 600_000)];
    // A commitment's key, and a revoked one's: lnd's own fields for how a key is moved.
    for (psbt, tweak) in all.iter_mut().zip([Some(0x51), None, Some(0xd0)]) {
        if let Some(type_value) = tweak {
            psbt.inputs[0].unknown.insert(raw::Key { type_value, key: vec![] }, vec![1; 32]);
        }
    }
    all
}

/// Calls that a node makes, and not that often.
fn rates() -> Vec<Attempt> {
    let often = |what: &str, policy: &str, make: fn(Thief) -> Outcome| Attempt {
        what: what.to_owned(),
        rule: "rate",
        policy: policy.to_owned(),
        make: Box::new(make),
    };
    vec![
        often("messages without end", "[rates.message]\nper-hour = 20\n", |thief| {
            Box::pin(async move {
                for _ in 0..40 {
                    let asked =
                        SignMessageReq { msg: b"again".to_vec(), key_loc: locator(6, 0), ..SignMessageReq::default() };
                    thief.client.call::<_, SignMessageResp>(SIGN_MESSAGE, asked).await?;
                }
                Ok(())
            })
        }),
        often("roots of revocation keys without end", "[rates.revocation-root]\nper-minute = 10\n", |thief| {
            Box::pin(async move {
                for index in 0..20 {
                    let key_desc = Some(KeyDescriptor { raw_key_bytes: vec![], key_loc: locator(5, index) });
                    let ephemeral_pubkey = thief.bundle.accounts.key(0, 7).expect("a key").to_vec();
                    let asked = SharedKeyRequest { ephemeral_pubkey, key_desc, ..SharedKeyRequest::default() };
                    thief.client.call::<_, Bytes>(SHARED_KEY, asked).await?;
                }
                Ok(())
            })
        }),
    ]
}

/// What a channel's funding is paid to: this wallet's first funding key and somebody else's.
fn funding(bundle: &Bundle) -> ScriptBuf {
    let own = bundle.accounts.key(0, 0).expect("a key").to_vec();
    let theirs = hex::decode(GENERATOR).expect("hex");
    let script = [own, theirs].iter().fold(Builder::new().push_int(2), |script, key| {
        script.push_key(&bitcoin::PublicKey::from_slice(key).expect("a key"))
    });
    script.push_int(2).push_opcode(OP_CHECKMULTISIG).into_script()
}

/// A channel of 900,000 satoshis, and then the signature of its first commitment.
fn open(bundle: &Bundle, number: u8) -> Vec<Psbt> {
    let opened = pay(bundle, 84, number, (funding(bundle).to_p2wsh(), 900_000), COIN - 901_000);
    let mut commitment = from_channel(bundle, 0, send(bundle, 84, number, 10_000, 0));
    commitment.unsigned_tx.input[0].previous_output = OutPoint { txid: opened.unsigned_tx.compute_txid(), vout: 0 };
    let input = &mut commitment.inputs[0];
    let script_pubkey = funding(bundle).to_p2wsh();
    input.witness_utxo = Some(TxOut { value: Amount::from_sat(900_000), script_pubkey });
    input.witness_script = Some(funding(bundle));
    vec![opened, commitment]
}

/// Two channels, as a node opens them.
pub fn two_channels(bundle: &Bundle) -> Vec<Psbt> {
    [open(bundle, 90), open(bundle, 91)].concat()
}

fn fundings() -> Vec<Attempt> {
    let policy = |most: u64, day: u64| {
        format!("[coins]\nper-transaction = 50000\n[channels]\nper-transaction = {most}\nper-day = {day}\n")
    };
    vec![
        under(
            &policy(800_000, 9_000_000),
            attempt("a channel that is too large", "funding-transaction", |b| vec![open(b, 80)[0].clone()]),
        ),
        under(
            &policy(1_000_000, 1_000_000),
            attempt("channels without end", "funding-day", |b| [open(b, 81), open(b, 82)].concat()),
        ),
        under(
            &policy(1_000_000, 9_000_000),
            attempt("a stranger's script as a funding, and another", "outflow-transaction", |b| {
                let to = || (ScriptBuf::from_bytes(vec![0x51]).to_p2wsh(), 900_000);
                vec![pay(b, 84, 83, to(), COIN - 901_000), pay(b, 84, 84, to(), COIN - 901_000)]
            }),
        ),
        under(
            &policy(1_000_000, 9_000_000),
            attempt("a key as a funding", "outflow-transaction", |b| {
                vec![pay(b, 84, 85, (thief(), 900_000), COIN - 901_000)]
            }),
        ),
    ]
}
