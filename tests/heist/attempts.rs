//! The attempts, each a call that lnd answers by itself, and what a watch-only node asks in good faith.

use super::{coins, forms, limits};
use crate::caller::{Client, Port};
use lsm::bundle::Bundle;
use lsm::signer::macaroon::Macaroon;
use lsm::signer::wire::lnrpc::{
    BakeMacaroonRequest, BakeMacaroonResponse, MacaroonPermission, SignMessageRequest, SignMessageResponse,
};
use lsm::signer::wire::signrpc::{
    KeyDescriptor, KeyLocator, MuSig2SessionRequest, MuSig2SessionResponse, MuSig2Version, SharedKeyRequest,
    SignMessageReq, SignMessageResp,
};
use sha2::{Digest, Sha256};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub const SIGN_MESSAGE: &str = "/signrpc.Signer/SignMessage";
pub const SHARED_KEY: &str = "/signrpc.Signer/DeriveSharedKey";

/// The generator of secp256k1, compressed: somebody else's key.
pub const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// What comes of one.
pub type Outcome = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// Who makes it: with the admin macaroon, and with all that the bundle says.
#[derive(Clone)]
pub struct Thief {
    pub client: Client,
    pub bundle: Arc<Bundle>,
    pub admin: Arc<Macaroon>,
    pub port: Port,
}

/// One attempt.
pub struct Attempt {
    /// What it is for.
    pub what: String,
    /// The rule that refuses it.
    pub rule: &'static str,
    /// The operator's policy meanwhile.
    pub policy: String,
    /// Makes it; succeeds where lnd gives what was asked for.
    pub make: Box<dyn Fn(Thief) -> Outcome + Send + Sync>,
}

/// An attempt that is one call with the answer `A`.
fn call<Q, A>(what: impl Into<String>, rule: &'static str, path: &'static str, question: Q) -> Attempt
where
    Q: prost::Message + Clone + 'static,
    A: prost::Message + Default + 'static,
{
    let make = Box::new(move |thief: Thief| -> Outcome {
        let question = question.clone();
        Box::pin(async move { thief.client.call::<Q, A>(path, question).await.map(drop) })
    });
    Attempt { what: what.into(), rule, policy: coins::POLICY.into(), make }
}

/// All of them.
pub fn attempts() -> Vec<Attempt> {
    [oracles(), secrets(), sessions(), others(), coins::attempts(), forms::attempts(), limits::attempts()]
        .into_iter()
        .flatten()
        .collect()
}

pub fn locator(family: i32, index: i32) -> Option<KeyLocator> {
    Some(KeyLocator { key_family: family, key_index: index })
}

/// SignMessage as an oracle: what is hashed twice there is what a transaction's signature is over.
fn oracles() -> Vec<Attempt> {
    let preimage = || [&[2, 0, 0, 0][..], &[7; 224]].concat();
    let ask = |family| SignMessageReq {
        msg: preimage(),
        key_loc: locator(family, 0),
        double_hash: true,
        ..SignMessageReq::default()
    };
    let sign = |what: String, rule, asked| call::<_, SignMessageResp>(what, rule, SIGN_MESSAGE, asked);
    let mut all = vec![
        sign("a transaction's preimage, by a funding key".into(), "message-announcement", ask(0)),
        sign("the same, hashed once".into(), "message-key", SignMessageReq { double_hash: false, ..ask(0) }),
        sign(
            "a compact signature by a funding key".into(),
            "message-key",
            SignMessageReq { compact_sig: true, ..ask(0) },
        ),
        sign("another node's announcement, by a funding key".into(), "message-announcement", {
            SignMessageReq { msg: announcement([GENERATOR; 4]), ..ask(0) }
        }),
        sign("no key named, which is the first funding key".into(), "message-key", {
            SignMessageReq { double_hash: false, key_loc: Some(KeyLocator::default()), ..ask(0) }
        }),
    ];
    // HTLC, payment, delay, revocation, tower and backup keys (lnd's keychain/derivation.go).
    for family in [1, 2, 3, 4, 5, 7, 8, 9] {
        all.push(sign(format!("a preimage by a key of family {family}"), "message-key", ask(family)));
    }
    for family in [0, 3, 6] {
        let asked = SignMessageReq { schnorr_sig: true, double_hash: false, ..ask(family) };
        all.push(sign(format!("a Schnorr signature by a key of family {family}"), "message-schnorr", asked));
    }
    all
}

/// DeriveSharedKey: what a channel's own keys share with somebody else's.
fn secrets() -> Vec<Attempt> {
    let ephemeral_pubkey = || hex::decode(GENERATOR).expect("hex");
    let share = |what: String, rule, asked: SharedKeyRequest| call::<_, Bytes>(what, rule, SHARED_KEY, asked);
    let of = |family| SharedKeyRequest {
        ephemeral_pubkey: ephemeral_pubkey(),
        key_desc: Some(KeyDescriptor { key_loc: locator(family, 0), raw_key_bytes: vec![] }),
        ..SharedKeyRequest::default()
    };
    let families = [0, 1, 2, 3, 4, 7, 8, 9];
    let mut all: Vec<Attempt> = families
        .into_iter()
        .map(|family| share(format!("a secret of family {family}"), "shared-key-family", of(family)))
        .collect();
    #[expect(deprecated, reason = "lnd heeds the older field too")]
    let older = SharedKeyRequest { key_desc: None, key_loc: locator(3, 0), ..of(3) };
    all.push(share("the same by the older field".into(), "shared-key-family", older));
    all.push(share("a revocation root's, with somebody else's key".into(), "shared-key-point", of(5)));
    all.push(Attempt {
        what: "a key that lnd has to look for among 100,000".into(),
        rule: "shared-key-raw",
        policy: coins::POLICY.into(),
        make: Box::new(|thief| {
            Box::pin(async move {
                let raw_key_bytes = thief.bundle.accounts.key(6, 1).expect("a key").to_vec();
                let key_desc = Some(KeyDescriptor { raw_key_bytes, key_loc: locator(6, 0) });
                let asked = SharedKeyRequest {
                    ephemeral_pubkey: hex::decode(GENERATOR).expect("hex"),
                    key_desc,
                    ..SharedKeyRequest::default()
                };
                thief.client.call::<_, Bytes>(SHARED_KEY, asked).await.map(drop)
            })
        }),
    });
    all
}

/// MuSig2 with a nonce of the thief's choice: the beginning of how a private key is computed.
fn sessions() -> Vec<Attempt> {
    let begin = |family: u32| Attempt {
        what: format!("a MuSig2 session with a key of family {family}"),
        rule: "musig2-off",
        policy: coins::POLICY.into(),
        make: Box::new(move |thief| {
            Box::pin(async move {
                let own = thief.bundle.accounts.key(family, 0).expect("a key").to_vec();
                let asked = MuSig2SessionRequest {
                    key_loc: locator(family.cast_signed(), 0),
                    pregenerated_local_nonce: [&[1; 32][..], &[2; 32], &own].concat(),
                    all_signer_pubkeys: vec![own, hex::decode(GENERATOR).expect("hex")],
                    version: MuSig2Version::Musig2VersionV100rc2.into(),
                    ..MuSig2SessionRequest::default()
                };
                let path = "/signrpc.Signer/MuSig2CreateSession";
                thief.client.call::<_, MuSig2SessionResponse>(path, asked).await.map(drop)
            })
        }),
    };
    (0..10).map(begin).collect()
}

/// Calls that no watch-only node makes.
fn others() -> Vec<Attempt> {
    let permissions = vec![MacaroonPermission { entity: "info".to_owned(), action: "read".to_owned() }];
    vec![
        call::<_, SignMessageResponse>(
            "a message by lnd's other call",
            "unknown-call",
            "/lnrpc.Lightning/SignMessage",
            SignMessageRequest { msg: b"a message".to_vec(), single_hash: false },
        ),
        call::<_, Bytes>(
            "an address to have coins sent to",
            "unknown-call",
            "/walletrpc.WalletKit/NextAddr",
            Bytes::default(),
        ),
        call::<_, Bytes>(
            "the next key of a family",
            "unknown-call",
            "/walletrpc.WalletKit/DeriveNextKey",
            Bytes::default(),
        ),
        call::<_, BakeMacaroonResponse>(
            "a macaroon on the root key of the guard's own",
            "guards-key",
            "/lnrpc.Lightning/BakeMacaroon",
            BakeMacaroonRequest { permissions, root_key_id: 1 << 32 },
        ),
        call::<_, Bytes>(
            "a level of the log that shows requests",
            "unknown-call",
            "/lnrpc.Lightning/DebugLevel",
            Level { show: true },
        ),
    ]
}

/// What a watch-only node asks: its channel's announcement, the secrets of its handshakes and of its revocation root, a payment.
///
/// # Errors
/// What was refused.
pub async fn honest(client: &Client, bundle: &Bundle) -> Result<(), String> {
    let key = |family, index| hex::encode(bundle.accounts.key(family, index).expect("a key"));
    let (node, funding) = (key(6, 0), key(0, 4));
    for keys in [[node.as_str(), GENERATOR, &funding, GENERATOR], [GENERATOR, &node, GENERATOR, &funding]] {
        let msg = announcement(keys);
        let asked = SignMessageReq { msg, key_loc: locator(0, 4), double_hash: true, ..SignMessageReq::default() };
        client.call::<_, SignMessageResp>(SIGN_MESSAGE, asked).await?;
    }
    for (family, index) in [(6, 0), (5, 0), (5, 3)] {
        let raw_key_bytes = if index == 0 { hex::decode(key(family, 0)).expect("hex") } else { vec![] };
        let key_desc = Some(KeyDescriptor { raw_key_bytes, key_loc: locator(family.cast_signed(), index) });
        // With whom it shakes hands, or what its channel is opened by.
        let ephemeral_pubkey = hex::decode(if family == 6 { GENERATOR } else { &funding }).expect("hex");
        let asked = SharedKeyRequest { ephemeral_pubkey, key_desc, ..SharedKeyRequest::default() };
        client.call::<_, Bytes>(SHARED_KEY, asked).await?;
    }
    coins::honest(client, bundle).await
}

/// The signed part of a channel_announcement (BOLT 7) with these nodes' and funding keys.
fn announcement(keys: [&str; 4]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| hex::decode(key).expect("hex")).collect();
    [&[0, 0][..], &Sha256::digest(b"a chain"), &[0; 8], &keys].concat()
}

/// Of many messages the one field that matters here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Bytes {
    #[prost(bytes, tag = "1")]
    pub first: Vec<u8>,
}

/// lnrpc.DebugLevelRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct Level {
    #[prost(bool, tag = "1")]
    show: bool,
}
