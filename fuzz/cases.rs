//! What the fuzz targets do with their bytes, and what `tests/fuzz_corpus.rs` does with the kept corpus. Nothing may panic.

use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::psbt::Psbt;
use bitcoin::secp256k1::Secp256k1;
use lsm::archive;
use lsm::guard;
use lsm::guard::judge::{Terms, judge};
use lsm::guard::request::Request;
use lsm::guard::session::Sessions;
use lsm::guard::wallet::Wallet;
use lsm::release::policy::minisign::Key;
use lsm::release::policy::signed::Signed;
use lsm::release::policy::{self, Policy};
use lsm::release::quorum::{self, manifest::Manifest, openpgp};
use lsm::release::trust::Trust;
use lsm::signer::accounts::Accounts;
use std::cell::RefCell;
use std::sync::LazyLock;
use time::OffsetDateTime;

const VERSION: &str = "v0.21.3-beta";

/// January 2027, in seconds since 1970: after every shipped key was made and every release pinned.
const NOW: i64 = 1_800_000_000;

/// A manifest: what is read from it is what stands in it.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data, VERSION) {
        let name = format!("lnd-linux-amd64-{VERSION}.tar.gz");
        if let Some(hash) = manifest.sha256_of(&name) {
            let text = std::str::from_utf8(data).expect("a manifest that is read is text");
            assert!(text.contains(&format!("{hash}  {name}")));
        }
    }
}

/// A signature file, over the start of itself, by lnd's own signers: none of them signed that.
pub fn signatures(data: &[u8]) {
    static SIGNERS: LazyLock<Vec<lsm::release::quorum::certificate::Certificate>> =
        LazyLock::new(|| quorum::certificates(&Trust::shipped(), VERSION).expect("the shipped keys are read"));
    let message = &data[..data.len().min(16)];
    let judged = openpgp::judge(data, message, &SIGNERS, NOW, NOW).unwrap_or_default();
    assert!(!judged.iter().any(|j| matches!(j.class, openpgp::Class::Good { .. })));
}

/// An archive, of at most 1 MiB unpacked.
pub fn archive(data: &[u8]) {
    let mut had = 0;
    let unpacked = archive::unpack(data, &["lnd", "lncli"], 1 << 20, &mut |place, part| {
        assert!(place < 2);
        had += part.len();
        Ok(())
    });
    assert!(had <= 1 << 20);
    drop(unpacked);
}

/// The calls that the guard reads; the first byte chooses one.
const CALLS: [&str; 5] = [
    "/walletrpc.WalletKit/SignPsbt",
    "/signrpc.Signer/SignMessage",
    "/signrpc.Signer/DeriveSharedKey",
    "/signrpc.Signer/MuSig2CreateSession",
    "/lnrpc.Lightning/BakeMacaroon",
];

/// The wallet that the corpus' PSBTs are of, as lnd lists its accounts.
fn wallet() -> Wallet {
    let secp = Secp256k1::new();
    let root = Xpriv::new_master(bitcoin::NetworkKind::Main, &[7; 32]).expect("a seed");
    let families = (0..10).map(|family| [1017, 1, family]);
    let accounts = [[49, 0, 0], [84, 0, 0], [86, 0, 0]].into_iter().chain(families).map(|path| {
        let steps = path.map(|step| ChildNumber::from_hardened_idx(step).expect("a step"));
        let account = Xpub::from_priv(&secp, &root.derive_priv(&secp, &steps).expect("it derives"));
        let [purpose, coin, account_] = path;
        format!(
            "{{\"name\": \"default\", \"address_type\": \"WITNESS_PUBKEY_HASH\", \"extended_public_key\": \"{account}\", \
             \"derivation_path\": \"m/{purpose}'/{coin}'/{account_}'\"}}"
        )
    });
    let accounts = format!("{{\"accounts\": [{}]}}", accounts.collect::<Vec<_>>().join(","));
    Wallet::new(Accounts::parse(accounts.as_bytes()).expect("accounts")).expect("a wallet")
}

/// What lnd asks the guard of: whatever it passes of a transaction is written as it would be written again, and it says the same of
/// it once more.
pub fn guard(data: &[u8]) {
    thread_local! {
        static TERMS: RefCell<Terms> = RefCell::new(Terms { taproot_channels: true, wallet: Some(wallet()), sessions: Sessions::default() });
    }
    let Some((first, message)) = data.split_first() else { return };
    let asked = match CALLS.get(usize::from(*first) % (CALLS.len() + 1)) {
        Some(call) => Request::read(call, message),
        // Without its envelope, whose length hardly any change would leave right.
        None => Ok(Request::Psbt(message.to_vec())),
    };
    let Ok(asked) = asked else { return };
    TERMS.with_borrow_mut(|terms| {
        let passes = judge(&asked, terms).is_ok();
        assert_eq!(judge(&asked, terms).is_ok(), passes);
        if let (Request::Psbt(bytes), true) = (&asked, passes) {
            // But for witnesses that nobody reads.
            if let Ok(psbt) = Psbt::deserialize(bytes) {
                assert_eq!(psbt.serialize(), *bytes);
            }
        }
    });
}

/// An operator's policy for the guard.
pub fn policy(data: &[u8]) {
    drop(guard::policy::Policy::parse(&String::from_utf8_lossy(data)));
}

/// A releases.toml.
pub fn releases(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(policy) = policy::parse(&text) {
        drop(policy.newest().map(|release| release.version.clone()));
    }
}

/// An update that is signed well: whatever it says, no judgement becomes milder and no pin another one.
pub fn update(data: &[u8]) {
    static KEY: LazyLock<minisign::KeyPair> =
        LazyLock::new(|| minisign::KeyPair::generate_unencrypted_keypair().expect("a key is made"));
    static TRUST: LazyLock<Trust> = LazyLock::new(|| {
        let mut trust = Trust::shipped();
        trust.update_keys.push(KEY.pk.to_base64());
        trust
    });
    static SHIPPED: LazyLock<Policy> = LazyLock::new(Policy::shipped);
    let id = Key::parse(&KEY.pk.to_base64()).expect("a key that was just made");
    // The key of this run stands where the corpus has KEYID.
    let text = String::from_utf8_lossy(data).replace("KEYID", id.id());
    let signature = minisign::sign(None, &KEY.sk, text.as_bytes(), None, None).expect("any text can be signed");
    let signed = Signed { text: text.into_bytes(), signature: signature.into_string().into_bytes() };
    let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
    let Ok(judged) = policy::judge::judge(&signed, &SHIPPED, &TRUST, now) else { return };
    for before in SHIPPED.releases() {
        let after = judged.policy.releases().iter().find(|r| r.version == before.version).expect("it stays known");
        assert!(after.status >= before.status);
        for (arch, pin) in &before.archive {
            assert_eq!(after.archive[arch].sha256, pin.sha256);
        }
    }
}
