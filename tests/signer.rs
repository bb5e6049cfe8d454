//! A real signer lnd through lsm's own client: the wire, the wallet, the accounts, macaroons, and each fault told apart.

use crate::node;
use crate::node::{Lnd, Pair, make_certificate, versions};
use lsm::error::Result;
use lsm::secret::Secret;
use lsm::signer::accounts::Accounts;
use lsm::signer::channel::{self, Endpoint};
use lsm::signer::macaroon::{self, Macaroon, Permission, SIGNER_URIS, TAPROOT_URIS};
use lsm::signer::wallet::{Seed, State};
use lsm::signer::{self, Node, proof};
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn pair() -> Pair {
    make_certificate(&["127.0.0.1", "signer.example"], (-1, 30))
}

fn with_wallet(lnd: &Path, folder: &Path, pair: &Pair) -> (Lnd, Macaroon, Seed, Secret) {
    let signer = Lnd::start_signer(lnd, folder, pair, &[]);
    let node = signer.unix();
    node.wait_for(|s| s == State::Absent, DEADLINE).unwrap();
    let seed = node.gen_seed(None).unwrap();
    let password = Secret::generate_password();
    let admin = node.init_wallet(&password, &seed, true).unwrap();
    node.wait_for(|s| s == State::Active, DEADLINE).unwrap();
    (signer, admin, seed, password)
}

fn code<T>(result: Result<T>) -> &'static str {
    result.err().map_or("none", |fault| fault.code().id)
}

/// protojson puts one or two spaces after a key, by a hash of the program that prints: bytes that no reader may count on.
fn one_space(json: &[u8]) -> String {
    String::from_utf8(json.to_vec()).unwrap().replace("\":  ", "\": ")
}

#[test]
fn a_wallet_is_made_unlocked_and_its_accounts_are_lnclis() {
    for (version, lnd) in versions("a_wallet_is_made_unlocked_and_its_accounts_are_lnclis") {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair();
        let (signer, admin, seed, password) = with_wallet(&lnd, folder.path(), &pair);
        assert!(!signer.macaroon_path().exists(), "stateless: no macaroon on disk");
        let node = signer.tcp().with_macaroon(&admin);
        let info = node.info().unwrap();
        assert_eq!((info.version.as_str(), info.network.as_str()), (version.as_str(), "regtest"));

        let accounts = node.accounts().unwrap();
        assert_eq!((accounts.count(), accounts.coin_type()), (259, 1));
        assert_eq!(accounts.identity_pubkey(), info.identity_pubkey);
        let path = folder.path().join("for-lncli.macaroon");
        std::fs::write(&path, admin.expose()).unwrap();
        let printed = signer.lncli(&[&format!("--macaroonpath={}", path.display()), "wallet", "accounts", "list"]);
        assert_eq!(String::from_utf8(accounts.to_json()).unwrap(), one_space(&printed), "{version}");
        assert_eq!(Accounts::parse(&printed).unwrap(), accounts);

        // The same words give the same keys in another wallet, and the password opens this one again.
        drop((node, signer));
        let again = Lnd::start_signer(&lnd, folder.path(), &pair, &[]);
        again.wait(State::Locked);
        assert_eq!(code(again.tcp().with_macaroon(&admin).accounts()), signer::LOCKED.id);
        assert_eq!(code(again.unix().unlock(&Secret::new(b"wrong password".to_vec()))), signer::FAILED.id);
        again.unix().unlock(&password).unwrap();
        again.wait(State::Active);
        assert_eq!(again.tcp().with_macaroon(&admin).accounts().unwrap(), accounts);

        let other = tempfile::tempdir().unwrap();
        let restored = Lnd::start_signer(&lnd, other.path(), &pair, &[]);
        restored.wait(State::Absent);
        let words = Seed::parse(&Secret::new(seed.expose().to_vec())).unwrap();
        let admin = restored.unix().init_wallet(&Secret::generate_password(), &words, false).unwrap();
        restored.wait(State::Active);
        assert_eq!(restored.tcp().with_macaroon(&admin).accounts().unwrap(), accounts);
    }
}

#[test]
fn the_least_macaroon_signs_and_musig2_needs_to_be_asked_for() {
    for (version, lnd) in versions("the_least_macaroon_signs_and_musig2_needs_to_be_asked_for") {
        let folder = tempfile::tempdir().unwrap();
        let (signer, admin, ..) = with_wallet(&lnd, folder.path(), &pair());
        let owner = signer.unix().with_macaroon(&admin);
        let known = owner.known_uris().unwrap();
        let identity = owner.info().unwrap().identity_pubkey;
        let keys = vec![hex::decode(&identity).unwrap(), hex::decode(GENERATOR).unwrap()];

        let permissions = macaroon::signer_permissions(false, &known).unwrap();
        let least = owner.bake(&permissions, 7).unwrap();
        assert_eq!((least.root_key_id(), least.permissions()), ("7", permissions.as_slice()));
        let client = signer.tcp().with_macaroon(&least);
        let signature = client.sign_with_key(6, 0, b"a message").unwrap();
        proof::verify_compact(b"a message", &signature, &identity).unwrap();
        assert_eq!(code(client.try_musig2(6, 0, &keys)), signer::NOT_PERMITTED.id, "{version}");
        assert_eq!(code(client.info()), signer::NOT_PERMITTED.id);
        assert_eq!(code(client.bake(&permissions, 8)), signer::NOT_PERMITTED.id);

        let permissions = macaroon::signer_permissions(true, &known).unwrap();
        assert_eq!(permissions.len(), if version.starts_with("v0.20") { 8 } else { 10 });
        let taproot = owner.bake(&permissions, 9).unwrap();
        signer.tcp().with_macaroon(&taproot).try_musig2(6, 0, &keys).unwrap();

        // Deleting the root key revokes this macaroon and no other.
        assert!(owner.delete_root_key(7).unwrap());
        assert!(!owner.root_key_ids().unwrap().contains(&7));
        assert_eq!(code(client.sign_with_key(6, 0, b"a message")), signer::MACAROON_REFUSED.id);
        signer.tcp().with_macaroon(&taproot).sign_with_key(6, 0, b"a message").unwrap();
        assert_eq!(code(signer.tcp().info()), signer::MACAROON_REFUSED.id, "no macaroon at all");
    }
}

/// The generator point of secp256k1: some other party's valid key.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

#[test]
fn each_fault_of_the_channel_has_its_own_code() {
    let Some((_, lnd)) = versions("each_fault_of_the_channel_has_its_own_code").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    let signer = Lnd::start_signer(&lnd, folder.path(), &pair, &[]);
    signer.wait(State::Absent);
    signer.tcp().probe().unwrap();

    let at = |host: &str, port| Endpoint::Tcp { host: host.to_owned(), port };
    let pin = &signer.certificate;
    assert_eq!(code(Node::new(at("127.0.0.1", node::free_port()), pin).probe()), channel::REFUSED.id);
    assert_eq!(code(Node::new(at("127.0.0.1", node::free_port()), pin).state()), channel::REFUSED.id);
    assert_eq!(code(Node::new(at("no-such-host.invalid", 1), pin).state()), channel::NO_ROUTE.id);
    assert_eq!(code(Node::new(at("127.0.0.2", signer.port), pin).state()), channel::REFUSED.id);
    assert_eq!(code(Node::new(at("localhost", signer.port), pin).state()), channel::NOT_ITS_NAME.id);
    let other = lsm::signer::certificate::Certificate::parse_pem(
        make_certificate(&["127.0.0.1"], (-1, 30)).certificate.as_bytes(),
    );
    assert_eq!(code(Node::new(signer.endpoint(), &other.unwrap()).state()), channel::OTHER_CERTIFICATE.id);
    assert_eq!(code(signer.unix().accounts()), signer::NO_WALLET.id);
}

/// lnd checks what lsm adds: over the network all of it, over a unix socket no address holds.
#[test]
fn caveats_narrow_a_macaroon() {
    for (version, lnd) in versions("caveats_narrow_a_macaroon") {
        let folder = tempfile::tempdir().unwrap();
        let (signer, admin, ..) = with_wallet(&lnd, folder.path(), &pair());
        let now = time::OffsetDateTime::now_utc();
        let until = macaroon::Caveat::parse_end("1m", now).unwrap().to_string();
        let from = |net: &str| macaroon::Caveat::From(net.parse().unwrap()).to_string();
        for (caveat, over_tcp, over_unix) in [
            (until, true, true),
            ("time-before 2020-01-01T00:00:00Z".to_owned(), false, false),
            (from("127.0.0.1/32"), true, false),
            (from("127.0.0.0/8"), true, false),
            (from("10.0.0.7/32"), false, false),
            (from("10.0.0.0/8"), false, false),
        ] {
            let narrow = admin.narrowed(&caveat).unwrap();
            let twice = narrow.narrowed("time-before 2100-01-01T00:00:00Z").unwrap();
            for macaroon in [narrow, twice] {
                let told = |node: Node| code(node.with_macaroon(&macaroon).info());
                let wanted = |good: bool| if good { "none" } else { signer::MACAROON_REFUSED.id };
                assert_eq!(told(signer.tcp()), wanted(over_tcp), "{version} {caveat}");
                assert_eq!(told(signer.unix()), wanted(over_unix), "{version} {caveat}");
            }
        }
    }
}

#[test]
fn every_root_key_is_replaced_under_the_same_password() {
    for (version, lnd) in versions("every_root_key_is_replaced_under_the_same_password") {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair();
        let (signer, admin, _, password) = with_wallet(&lnd, folder.path(), &pair);
        let owner = signer.unix().with_macaroon(&admin);
        let permissions = macaroon::signer_permissions(false, &owner.known_uris().unwrap()).unwrap();
        let least = owner.bake(&permissions, 7).unwrap();
        drop((owner, signer));
        let signer = Lnd::start_signer(&lnd, folder.path(), &pair, &[]);
        signer.wait(State::Locked);
        let wrong = Secret::new(b"wrong password".to_vec());
        assert_eq!(code(signer.unix().renew_root_keys(&wrong)), signer::FAILED.id, "{version}");
        let renewed = signer.unix().renew_root_keys(&password).unwrap();
        signer.wait(State::Active);
        assert_eq!(code(signer.tcp().with_macaroon(&admin).info()), signer::MACAROON_REFUSED.id, "{version}");
        let keys = signer.tcp().with_macaroon(&renewed).root_key_ids().unwrap();
        assert!(keys.contains(&0) && keys.contains(&7), "{version} {keys:?}");
        assert_eq!(
            code(signer.tcp().with_macaroon(&least).sign_with_key(6, 0, b"a message")),
            signer::MACAROON_REFUSED.id,
            "{version}"
        );
        // The password is what it was.
        drop(signer);
        let again = Lnd::start_signer(&lnd, folder.path(), &pair, &[]);
        again.wait(State::Locked);
        again.unix().unlock(&password).unwrap();
        again.wait(State::Active);
        assert!(again.tcp().with_macaroon(&renewed).root_key_ids().is_ok());
    }
}

/// What is told of a macaroon comes from a table; lnd's own list of what each call asks for is what it is held against.
#[test]
fn what_a_macaroon_is_told_to_permit_is_what_lnd_asks_for() {
    for (version, lnd) in versions("what_a_macaroon_is_told_to_permit_is_what_lnd_asks_for") {
        let folder = tempfile::tempdir().unwrap();
        let (signer, admin, ..) = with_wallet(&lnd, folder.path(), &pair());
        let owner = signer.unix().with_macaroon(&admin);
        assert_eq!(admin.fit().missing, [""; 0], "{version}");
        assert!(admin.powers()[0].contains("private keys") && admin.powers().len() == 10, "{:?}", admin.powers());
        let calls = owner.calls().unwrap();
        let mut told = 0;
        for (uri, asked) in calls.iter().filter(|(_, asked)| !asked.is_empty()) {
            let by_name = owner.bake(&[Permission::uri(uri)], 11).unwrap();
            let by_entity = owner.bake(asked, 11).unwrap();
            let more = by_entity.powers();
            assert!(by_name.powers().iter().all(|power| more.contains(power)), "{version} {uri}: {more:?}");
            told += by_name.powers().len();
            let uri = uri.as_str();
            assert!(!SIGNER_URIS.contains(&uri) || !by_entity.fit().missing.contains(&uri), "{version} {uri}");
            assert!(!TAPROOT_URIS.contains(&uri) || by_entity.fit().taproot.contains(&uri), "{version} {uri}");
        }
        // MuSig2 takes two calls.
        assert_eq!(told, 16, "{version}");
    }
}
