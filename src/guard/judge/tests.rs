//! The rules, each at its edge.

use super::*;
use crate::signer::accounts::Accounts;
use crate::signer::wire::signrpc::{KeyDescriptor, TweakDesc};
use bip32::{ChildNumber, XPrv};
use serde_json::json;
use std::path::Path;

/// The private key at a path of the wallet that the tests are about.
fn private_key(hard: [u32; 3], soft: &[u32]) -> XPrv {
    let steps = hard.into_iter().map(|step| (step, true)).chain(soft.iter().map(|step| (*step, false)));
    steps.fold(XPrv::new([7; 32]).unwrap(), |key, (step, hardened)| {
        key.derive_child(ChildNumber::new(step, hardened).unwrap()).unwrap()
    })
}

/// The public key there.
pub(super) fn public_key(hard: [u32; 3], soft: [u32; 2]) -> [u8; 33] {
    private_key(hard, &soft).public_key().to_bytes()
}

/// Its accounts on a test network, as lnd lists them.
pub(in crate::guard) fn accounts() -> Accounts {
    let families = (0..10).map(|family| [1017, 1, family]);
    let list: Vec<_> = [[49, 0, 0], [84, 0, 0], [86, 0, 0]]
        .into_iter()
        .chain(families)
        .map(|path| {
            let [purpose, coin, account] = path;
            json!({
                "name": "default", "address_type": "WITNESS_PUBKEY_HASH",
                "extended_public_key": private_key(path, &[]).public_key().to_string(bip32::Prefix::XPUB),
                "derivation_path": format!("m/{purpose}'/{coin}'/{account}'"),
            })
        })
        .collect();
    Accounts::parse(json!({"accounts": list}).to_string().as_bytes()).unwrap()
}

pub(super) fn terms(taproot_channels: bool) -> Terms {
    let wallet = Wallet::new(accounts()).unwrap();
    wallet.gather_to(1000, Path::new("/nonexistent/addresses"), || {}).join().unwrap();
    Terms { taproot_channels, wallet: Some(wallet), sessions: Sessions::default() }
}

fn rule(asked: Request, terms: &mut Terms) -> &'static str {
    judge(&asked, terms).map_or_else(|refusal| refusal.rule.name(), |_| "pass")
}

fn message(family: i32, index: i32, msg: &[u8]) -> SignMessageReq {
    let key_loc = Some(KeyLocator { key_family: family, key_index: index });
    SignMessageReq { msg: msg.to_vec(), key_loc, double_hash: true, ..SignMessageReq::default() }
}

/// What two nodes sign of a channel's announcement, with features of two bytes.
fn announcement(nodes: [[u8; 33]; 2], fundings: [[u8; 33]; 2]) -> Vec<u8> {
    let keys: Vec<u8> = nodes.iter().chain(&fundings).flatten().copied().collect();
    [&[0, 2, 0xff, 0xff][..], &[6; 32], &[1; 8], &keys].concat()
}

#[test]
fn the_node_signs_messages_and_no_other_key_does() {
    let mut terms = terms(true);
    for (family, wanted) in (0..10).map(|family| (family, if family == NODE { "pass" } else { "message-key" })) {
        let compact = SignMessageReq { compact_sig: true, ..message(family, 0, b"hello") };
        assert_eq!(rule(Request::Message(compact), &mut terms), wanted, "{family}");
    }
    let single = SignMessageReq { double_hash: false, ..message(FUNDING, 0, b"hello") };
    assert_eq!(rule(Request::Message(single), &mut terms), "message-key");
    let schnorr = SignMessageReq { schnorr_sig: true, ..message(NODE, 0, b"hello") };
    assert_eq!(rule(Request::Message(schnorr), &mut terms), "message-schnorr");
    assert_eq!(rule(Request::Message(SignMessageReq::default()), &mut terms), "message-key", "no key is family 0");
}

#[test]
fn a_funding_key_signs_the_announcement_of_its_own_channel_alone() {
    let (mut terms, theirs, keys) = (terms(false), [2; 33], accounts());
    let (node, funding) = (keys.key(6, 0).unwrap(), keys.key(0, 3).unwrap());
    let mut ask =
        |index: i32, message_: Vec<u8>| rule(Request::Message(message(FUNDING, index, &message_)), &mut terms);
    let first = announcement([node, theirs], [funding, theirs]);
    assert_eq!(ask(3, first.clone()), "pass");
    assert_eq!(ask(3, announcement([theirs, node], [theirs, funding])), "pass");
    assert_eq!(ask(3, [first.clone(), vec![9; 40]].concat()), "pass", "what a later protocol adds");
    for (what, index, other) in [
        ("another key", 2, first.clone()),
        ("a negative index", -1, first.clone()),
        ("another node's channel", 3, announcement([theirs, theirs], [funding, theirs])),
        ("the other side's key", 3, announcement([node, theirs], [theirs, funding])),
        ("cut short", 3, first[..first.len() - 1 - 33].to_vec()),
        ("a digest", 3, vec![5; 32]),
        ("features beyond the end", 3, [&[0xff, 0xff], &first[2..]].concat()),
        ("nothing", 3, vec![]),
    ] {
        assert_eq!(ask(index, other), "message-announcement", "{what}");
    }
    let mut blind = Terms { taproot_channels: false, wallet: None, sessions: Sessions::default() };
    assert_eq!(rule(Request::Message(message(FUNDING, 3, &first)), &mut blind), "message-announcement");
}

#[test]
fn shared_secrets_are_the_nodes_and_the_revocation_roots() {
    let (mut terms, keys) = (terms(true), accounts());
    let mut ask = |family, index, raw: Vec<u8>| {
        let key_loc = Some(KeyLocator { key_family: family, key_index: index });
        let key_desc = Some(KeyDescriptor { raw_key_bytes: raw, key_loc });
        let ephemeral_pubkey = keys.key(0, 3).unwrap().to_vec();
        rule(
            Request::SharedKey(SharedKeyRequest { key_desc, ephemeral_pubkey, ..SharedKeyRequest::default() }),
            &mut terms,
        )
    };
    for family in 0..10 {
        let wanted = if [5, 6].contains(&family) { "pass" } else { "shared-key-family" };
        assert_eq!(ask(family, 3, vec![]), wanted, "{family}");
    }
    assert_eq!(ask(6, 0, keys.key(6, 0).unwrap().to_vec()), "pass");
    assert_eq!(ask(5, 0, keys.key(5, 0).unwrap().to_vec()), "pass");
    assert_eq!(ask(6, 0, keys.key(6, 1).unwrap().to_vec()), "shared-key-raw");
    assert_eq!(ask(6, 0, keys.key(5, 0).unwrap().to_vec()), "shared-key-raw");
    assert_eq!(
        rule(Request::SharedKey(SharedKeyRequest::default()), &mut terms),
        "pass",
        "lnd takes the node's key then"
    );
    #[expect(deprecated, reason = "the older field counts as well")]
    let older = |family| SharedKeyRequest {
        key_loc: Some(KeyLocator { key_family: family, key_index: 0 }),
        ..SharedKeyRequest::default()
    };
    assert_eq!(rule(Request::SharedKey(older(0)), &mut terms), "shared-key-family");
    assert_eq!(rule(Request::SharedKey(older(6)), &mut terms), "pass");
}

/// lnd seeds a channel's revocation keys with what the root shares with its own funding key.
#[test]
fn a_revocation_root_comes_of_this_wallets_funding_keys_alone() {
    let (mut terms, keys) = (terms(false), accounts());
    let mut ask = |index, ephemeral_pubkey: &[u8]| {
        let key_loc = Some(KeyLocator { key_family: REVOCATION_ROOT, key_index: index });
        let key_desc = Some(KeyDescriptor { raw_key_bytes: vec![], key_loc });
        let ephemeral_pubkey = ephemeral_pubkey.to_vec();
        rule(
            Request::SharedKey(SharedKeyRequest { key_desc, ephemeral_pubkey, ..SharedKeyRequest::default() }),
            &mut terms,
        )
    };
    let funding = keys.key(0, 12).unwrap();
    assert_eq!((ask(13, &funding), ask(700, &funding)), ("pass", "pass"));
    for (index, other) in
        [(13, &keys.key(1, 12).unwrap()[..]), (13, &[2; 33]), (13, &[]), (2_000, &funding), (-1, &funding)]
    {
        assert_eq!(ask(index, other), "shared-key-point", "{index}");
    }
}

#[test]
fn musig2_is_for_taproot_channels_and_their_funding_keys() {
    let session = |family| {
        Request::Session(MuSig2SessionRequest {
            key_loc: Some(KeyLocator { key_family: family, key_index: 0 }),
            ..MuSig2SessionRequest::default()
        })
    };
    for family in 0..10 {
        assert_eq!(rule(session(family), &mut terms(false)), "musig2-off");
        assert_eq!(rule(session(family), &mut terms(true)), if family == 0 { "pass" } else { "musig2-key" });
    }
    let mut on = terms(true);
    on.sessions.note(vec![7; 32]);
    let in_session = |id| Request::InSession(vec![id; 32]);
    assert_eq!(
        [rule(in_session(7), &mut terms(false)), rule(in_session(7), &mut on), rule(in_session(8), &mut on)],
        ["musig2-off", "pass", "musig2-session"]
    );
    let moved = MuSig2SessionRequest { tweaks: vec![TweakDesc::default()], ..MuSig2SessionRequest::default() };
    assert_eq!(rule(Request::Session(moved), &mut terms(true)), "musig2-tweak");
}

#[test]
fn nobody_bakes_on_the_guards_root_key_or_deletes_it() {
    for (key, wanted) in [(GUARD, "guards-key"), (GUARD + 1, "pass"), (0, "pass")] {
        assert_eq!(rule(Request::RootKey(key), &mut terms(false)), wanted);
    }
}
