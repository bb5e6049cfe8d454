//! The corpus: keys in every state that a signer's key can be in, and a signature with each.

use super::{
    Forge, Why, armor_signature, bind, critical_subpacket, direct, revoke_for, revoke_user, sign_anyway, sign_as,
    sign_key, sign_v3, steal,
};
use pgp::composed::{Deserializable, SignedPublicKey, SignedSecretKey};
use pgp::packet::{KeyFlags, RevocationCode, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::Duration;

pub const BORN: &str = "20250101T000000";
/// After `BORN`; the expiries of keys that expire lie after it, and revocations too.
pub const MADE: &str = "20250601T000000";
const EXPIRY: &str = "2025-09-01";
const LATER: &str = "20251001T000000";
/// The day on which the release was pinned.
pub const PINNED: &str = "2026-01-31";

/// A key, and a signature file.
pub struct Case {
    pub name: &'static str,
    /// The fingerprint of the primary key.
    pub fingerprint: String,
    /// The public key, binary.
    pub key: Vec<u8>,
    pub signature: Vec<u8>,
}

/// What is signed.
pub fn message() -> Vec<u8> {
    format!("{}  vendor.tar.gz\n", "a".repeat(64)).into_bytes()
}

struct Maker<'a> {
    forge: &'a Forge,
    message: Vec<u8>,
    cases: Vec<Case>,
}

/// Every case.
pub fn make(forge: &Forge) -> Vec<Case> {
    let mut maker = Maker { forge, message: message(), cases: Vec::new() };
    maker.good();
    maker.expired();
    maker.revoked();
    maker.revoked_subkeys();
    maker.forms();
    maker.times();
    maker.wrong();
    maker.bindings();
    maker.weak();
    maker.cases
}

fn flags(set: impl FnOnce(&mut KeyFlags)) -> Subpacket {
    let mut flags = KeyFlags::default();
    set(&mut flags);
    Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap()
}

impl Maker<'_> {
    fn key(&self) -> String {
        self.forge.key(BORN, "ed25519", "sign", "never", &[])
    }

    fn with_subkey(&self, expires: &str) -> (String, String) {
        let key = self.key();
        let sub = self.forge.subkey(BORN, &key, "ed25519", "sign", expires);
        (key, sub)
    }

    fn sign(&self, key: &str) -> Vec<u8> {
        self.forge.sign(MADE, key, &self.message, &[])
    }

    /// Takes the key as it is now.
    fn case(&mut self, name: &'static str, key: &str, signature: Vec<u8>) {
        let exported = self.forge.export(key);
        self.case_of(name, key, exported, signature);
    }

    fn case_of(&mut self, name: &'static str, fingerprint: &str, key: Vec<u8>, signature: Vec<u8>) {
        self.cases.push(Case { name, fingerprint: fingerprint.to_owned(), key, signature });
    }

    fn good(&mut self) {
        for (name, algorithm) in [("RSA 4096", "rsa4096"), ("Ed25519", "ed25519"), ("NIST P-256", "nistp256")] {
            let key = self.forge.key(BORN, algorithm, "sign", "never", &[]);
            self.case(name, &key, self.sign(&key));
        }
        let (key, sub) = self.with_subkey("never");
        self.case("signing subkey", &key, self.sign(&sub));
        let key = self.forge.key(BORN, "rsa2048", "sign", "never", &["--cert-digest-algo", "SHA1"]);
        self.case("self-signature by SHA-1", &key, self.sign(&key));
        let key = self.key();
        let signature = self.forge.sign(MADE, &key, &self.message, &["--sig-notation", "a@example.org=1"]);
        self.case("notation", &key, signature);
        let key = self.key();
        let bytes = direct(&self.forge.secret(&key), BORN, vec![flags(|f| f.set_sign(true))], false);
        self.case_of("no user ID, but a direct self-signature", &key, bytes, self.sign(&key));
    }

    fn expired(&mut self) {
        let key = self.forge.key(BORN, "ed25519", "sign", EXPIRY, &[]);
        self.case("key expired since", &key, self.sign(&key));
        let (key, sub) = self.with_subkey(EXPIRY);
        self.case("subkey expired since", &key, self.sign(&sub));
        let key = self.forge.key(BORN, "ed25519", "sign", EXPIRY, &[]);
        let sub = self.forge.subkey(BORN, &key, "ed25519", "sign", "never");
        self.case("subkey of a key that expired since", &key, self.sign(&sub));
        // gpg signs with no key that has expired: the expiry comes after the signature, but dates from before.
        let key = self.key();
        let signature = self.forge.sign(LATER, &key, &self.message, &[]);
        self.forge.expire(MADE, &key, EXPIRY, &[]);
        self.case("after the key's expiry", &key, signature);
        let (key, sub) = self.with_subkey("never");
        let signature = self.forge.sign(LATER, &sub, &self.message, &[]);
        self.forge.expire(MADE, &key, EXPIRY, &[&sub]);
        self.case("after the subkey's expiry", &key, signature);
        let key = self.forge.key(BORN, "ed25519", "sign", "2025-03-01", &[]);
        self.forge.expire(LATER, &key, "never", &[]);
        self.case("expiry extended since", &key, self.sign(&key));
        // The user ID's says something else, and is as new.
        let key = self.forge.key(BORN, "ed25519", "sign", "2099-01-01", &[]);
        let secret = self.forge.secret(&key);
        let two_days = Subpacket::regular(SubpacketData::KeyExpirationTime(Duration::from_secs(2 * 86400))).unwrap();
        self.case_of(
            "expiry in a direct self-signature",
            &key,
            direct(&secret, BORN, vec![two_days], true),
            self.sign(&key),
        );
    }

    fn revoked(&mut self) {
        for (name, why) in [
            ("revoked: compromised", Why::Compromised),
            ("revoked: for no reason", Why::None),
            ("revoked: superseded since", Why::Superseded),
            ("revoked: retired since", Why::Retired),
        ] {
            let key = self.key();
            let signature = self.sign(&key);
            self.forge.revoke(LATER, &key, why);
            self.case(name, &key, signature);
        }
        for (name, why) in [("superseded before", Why::Superseded), ("retired before", Why::Retired)] {
            let key = self.key();
            let signature = self.forge.sign(LATER, &key, &self.message, &[]);
            self.forge.revoke(MADE, &key, why);
            self.case(name, &key, signature);
        }
        let key = self.key();
        let secret = self.forge.secret(&key);
        let signature = self.sign(&key);
        self.case_of("revoked: no reason is there", &key, revoke_for(&secret, LATER, None), signature.clone());
        let bytes = revoke_for(&secret, LATER, Some(RevocationCode::Private100));
        self.case_of("revoked: for an unknown reason", &key, bytes, signature.clone());
        let bytes = revoke_for(&secret, MADE, Some(RevocationCode::KeyRetired));
        self.case_of("retired in the same second", &key, bytes, signature);
        let key = self.key();
        let signature = self.sign(&key);
        let bytes = revoke_user(&self.forge.secret(&key), LATER);
        self.case_of("the only user ID revoked", &key, bytes, signature);
    }

    fn revoked_subkeys(&mut self) {
        for (name, why) in [
            ("subkey revoked: compromised", Why::Compromised),
            ("subkey revoked: for no reason", Why::None),
            ("subkey superseded since", Why::Superseded),
        ] {
            let (key, sub) = self.with_subkey("never");
            let signature = self.sign(&sub);
            self.forge.revoke_subkey(LATER, &key, why);
            self.case(name, &key, signature);
        }
        let (key, sub) = self.with_subkey("never");
        let signature = self.forge.sign(LATER, &sub, &self.message, &[]);
        self.forge.revoke_subkey(MADE, &key, Why::Retired);
        self.case("subkey retired before", &key, signature);
        let (key, sub) = self.with_subkey("never");
        let signature = self.sign(&sub);
        self.forge.revoke(LATER, &key, Why::Compromised);
        self.case("subkey of a compromised key", &key, signature);
        let (key, _) = self.with_subkey("never");
        let signature = self.sign(&key);
        self.forge.revoke_subkey(LATER, &key, Why::Compromised);
        self.case("key with a compromised subkey", &key, signature);
    }

    fn forms(&mut self) {
        let (one, other) = (self.key(), self.key());
        let both = [self.sign(&one), self.sign(&other)].concat();
        let keys = [self.forge.export(&one), self.forge.export(&other)].concat();
        self.case_of("two signatures, one by somebody else", &one, self.forge.export(&one), both.clone());
        self.case_of("two signatures, keys together", &one, keys, both);
        let key = self.key();
        let signature = self.sign(&key);
        self.case("armored", &key, armor_signature(&signature));
        let signature = self.forge.sign(MADE, &key, &self.message, &["--textmode"]);
        self.case("over a text", &key, signature);
        let signature = self.forge.sign(MADE, &key, b"other\n", &["--textmode"]);
        self.case("over another text", &key, signature);
        let secret = self.forge.secret(&key);
        self.case("over a key", &key, sign_key(&secret, MADE));
        self.case("version 3", &key, sign_v3(&secret.primary_key, MADE, &self.message));
        let signature = self.forge.sign(MADE, &key, &self.message, &["--sig-notation", "!a@example.org=1"]);
        self.case("critical notation", &key, signature);
        let critical = vec![critical_subpacket()];
        self.case("critical and unknown", &key, sign_anyway(&secret.primary_key, MADE, &self.message, critical));
    }

    fn times(&mut self) {
        for (name, at) in [
            ("after the pin's day", "20260201T000000"),
            ("on the pin's day", "20260131T000000"),
            ("in the future", "20990101T000000"),
            ("before the key", "20240101T000000"),
        ] {
            let key = self.key();
            let signature = self.forge.sign(at, &key, &self.message, &[]);
            self.case(name, &key, signature);
        }
        let key = self.key();
        let sub = self.forge.subkey(LATER, &key, "ed25519", "sign", "never");
        self.case("before the subkey", &key, self.sign(&sub));
        let signature = self.forge.sign(MADE, &key, &self.message, &["--default-sig-expire", "10d"]);
        self.case("expired itself", &key, signature);
        let signature = self.forge.sign(MADE, &key, &self.message, &["--default-sig-expire", "70y"]);
        self.case("expires itself some day", &key, signature);
    }

    fn wrong(&mut self) {
        let key = self.key();
        self.case("over another manifest", &key, self.forge.sign(MADE, &key, b"other\n", &[]));
        let stranger = self.key();
        self.case("by a stranger", &key, self.sign(&stranger));
        let (ours, strangers) = (self.forge.secret(&key), self.forge.secret(&stranger));
        let issuer = Some(&ours.primary_key as &dyn pgp::types::KeyDetails);
        self.case(
            "by a stranger who names a signer",
            &key,
            sign_as(&strangers.primary_key, issuer, MADE, &self.message),
        );
        self.case("names nobody", &key, sign_as(&ours.primary_key, None, MADE, &self.message));
        self.case("by a stranger, names nobody", &key, sign_as(&strangers.primary_key, None, MADE, &self.message));
        let mut changed = self.sign(&key);
        *changed.last_mut().unwrap() ^= 1;
        self.case("its last bit changed", &key, changed);
        let key = self.forge.key(BORN, "rsa2048", "sign", "never", &[]);
        let sha1 = self.forge.sign(MADE, &key, b"other\n", &["--digest-algo", "SHA1"]);
        self.case("over another manifest, by SHA-1", &key, sha1);
    }

    fn bindings(&mut self) {
        let (key, sub) = self.with_subkey("never");
        let (secret, signature) = (self.forge.secret(&key), self.sign(&sub));
        self.case_of("subkey bound again by rPGP", &key, bind(&secret, &secret, BORN, true), signature.clone());
        self.case_of("subkey that never signed back", &key, bind(&secret, &secret, BORN, false), signature.clone());
        let other = self.key();
        let bytes = steal(&self.forge.secret(&other), &secret);
        self.case_of("somebody else's subkey", &other, bytes, signature);
        let mut bad = self.forge.sign(MADE, &sub, b"other\n", &[]);
        let bytes = steal(&self.forge.secret(&other), &secret);
        self.case_of("somebody else's subkey, over another manifest", &other, bytes, std::mem::take(&mut bad));
        let key = self.forge.key(BORN, "ed25519", "cert", "never", &[]);
        let signed = |secret: &SignedSecretKey| sign_anyway(&secret.primary_key, MADE, &message(), Vec::new());
        let secret = self.forge.secret(&key);
        self.case("key that only certifies", &key, signed(&secret));
        let key = self.key();
        self.forge.subkey(BORN, &key, "rsa2048", "encrypt", "never");
        let secret = self.forge.secret(&key);
        self.case(
            "encryption subkey",
            &key,
            sign_anyway(&secret.secret_subkeys[0].key, MADE, &self.message, Vec::new()),
        );
        let key = self.key();
        let bytes = direct(&self.forge.secret(&key), BORN, Vec::new(), false);
        self.case_of("key without flags", &key, bytes, self.sign(&key));
        let key = self.key();
        let critical = vec![flags(|f| f.set_sign(true)), critical_subpacket()];
        let bytes = direct(&self.forge.secret(&key), BORN, critical, false);
        self.case_of("self-signature critical and unknown", &key, bytes, self.sign(&key));
        let key = self.key();
        let mut bare = SignedPublicKey::from_bytes(self.forge.export(&key).as_slice()).unwrap();
        bare.details.users.clear();
        self.case_of("no self-signature", &key, bare.to_bytes().unwrap(), self.sign(&key));
    }

    fn weak(&mut self) {
        for (name, hash) in [("MD5", "MD5"), ("SHA-1", "SHA1"), ("RIPEMD-160", "RIPEMD160"), ("SHA-224", "SHA224")] {
            let key = self.forge.key(BORN, "rsa2048", "sign", "never", &[]);
            let signature = self.forge.sign(MADE, &key, &self.message, &["--digest-algo", hash]);
            self.case(name, &key, signature);
        }
        for (name, algorithm) in [("RSA 1024", "rsa1024"), ("DSA 2048", "dsa2048")] {
            let key = self.forge.key(BORN, algorithm, "sign", "never", &[]);
            self.case(name, &key, self.sign(&key));
        }
        let key = self.forge.key(BORN, "rsa2048", "sign", "never", &["--cert-digest-algo", "MD5"]);
        self.case("self-signature by MD5", &key, self.sign(&key));
    }
}
