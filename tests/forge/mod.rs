//! A forge of OpenPGP keys and signatures: by gpg at any time on the clock, and by rPGP where gpg refuses to.

pub mod corpus;

use lsm::host::program::{Output, Program};
use lsm::secret::Secret;
use pgp::armor::BlockType;
use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    KeyFlags, PacketTrait, RevocationCode, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Password, SigningKey, Tag, Timestamp};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A home of gpg's own; its agent ends with it.
pub struct Forge {
    home: TempDir,
}

/// Why a key is revoked, by the number that gpg asks for.
#[derive(Clone, Copy)]
pub enum Why {
    None = 0,
    Compromised = 1,
    Superseded = 2,
    Retired = 3,
}

impl Drop for Forge {
    fn drop(&mut self) {
        let _ = Program::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "gpg-agent"]).output();
    }
}

/// Whether gpg, its agent and gpgv are here.
pub fn is_possible() -> bool {
    ["gpg", "gpg-agent", "gpgv", "gpgconf"].iter().all(|p| Command::new(p).arg("--version").output().is_ok())
}

/// Seconds since 1970 of `20250601T000000`, as `date` reads it.
pub fn seconds(at: &str) -> i64 {
    let day = format!("{}-{}-{}", &at[..4], &at[4..6], &at[6..8]);
    let output = Program::new("date").args(["-u", "-d", &day, "+%s"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn timestamp(at: &str) -> Timestamp {
    Timestamp::from_secs(seconds(at).try_into().unwrap())
}

impl Forge {
    pub fn new() -> Self {
        let private = std::fs::Permissions::from_mode(0o700);
        Self { home: tempfile::Builder::new().prefix("lsm-gpg-").permissions(private).tempdir().unwrap() }
    }

    fn run(&self, at: &str, args: &[&str], input: &[u8]) -> Output {
        let mut program = Program::new("gpg").env("GNUPGHOME", self.home.path()).env("HOME", self.home.path());
        program = program.args(["--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        program = program.args(["--faked-system-time", &format!("{at}!"), "--status-fd", "2"]);
        // gpg would not make half of the corpus otherwise.
        program = program.args(["--ignore-time-conflict", "--ignore-valid-from", "--allow-weak-digest-algos"]);
        let output = program.args(args).input(Secret::new(input.to_vec())).output().unwrap();
        assert!(output.status.success(), "gpg {args:?}: {}", output.stderr);
        output
    }

    fn created(output: &Output) -> String {
        let line =
            output.stderr.lines().find(|l| l.contains("KEY_CREATED")).unwrap_or_else(|| panic!("{}", output.stderr));
        line.split(' ').nth(3).unwrap().to_owned()
    }

    /// A new primary key, with its fingerprint as the user ID.
    pub fn key(&self, at: &str, algorithm: &str, usage: &str, expires: &str, options: &[&str]) -> String {
        let id = format!("signer {:?} <signer@example.org>", std::time::Instant::now());
        let mut args = options.to_vec();
        args.extend(["--batch", "--quick-generate-key", &id, algorithm, usage, expires]);
        Self::created(&self.run(at, &args, b""))
    }

    /// A new subkey of the key `primary`.
    pub fn subkey(&self, at: &str, primary: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        Self::created(&self.run(at, &["--batch", "--quick-add-key", primary, algorithm, usage, expires], b""))
    }

    /// Sets the expiry of `primary`, or of its subkey `sub`, to `expires` from `at` on.
    pub fn expire(&self, at: &str, primary: &str, expires: &str, sub: &[&str]) {
        self.run(at, &[&["--batch", "--quick-set-expire", primary, expires], sub].concat(), b"");
    }

    /// A detached signature by exactly this key.
    pub fn sign(&self, at: &str, key: &str, message: &[u8], options: &[&str]) -> Vec<u8> {
        let key = format!("{key}!");
        self.run(at, &[options, &["--batch", "--local-user", &key, "--detach-sign", "--output", "-"]].concat(), message)
            .stdout
    }

    pub fn revoke(&self, at: &str, key: &str, why: Why) {
        let answers = format!("y\n{}\n\ny\n", why as u8);
        let certificate = self.run(at, &["--command-fd", "0", "--gen-revoke", key], answers.as_bytes()).stdout;
        self.run(at, &["--batch", "--import"], &certificate);
    }

    /// Revokes the first subkey of `primary`.
    pub fn revoke_subkey(&self, at: &str, primary: &str, why: Why) {
        let answers = format!("key 1\nrevkey\ny\n{}\n\ny\nsave\n", why as u8);
        self.run(at, &["--command-fd", "0", "--edit-key", primary], answers.as_bytes());
    }

    /// The public key, binary.
    pub fn export(&self, key: &str) -> Vec<u8> {
        self.run("20260101T000000", &["--batch", "--export", key], b"").stdout
    }

    /// The secret key, which no passphrase guards, for rPGP.
    pub fn secret(&self, key: &str) -> SignedSecretKey {
        let bytes = self.run("20260101T000000", &["--batch", "--export-secret-keys", key], b"").stdout;
        SignedSecretKey::from_bytes(bytes.as_slice()).unwrap()
    }
}

/// Armors binary public keys, as one block.
pub fn armor(keys: &[u8]) -> Vec<u8> {
    let keys: Vec<_> = SignedPublicKey::from_bytes_many(keys).unwrap().map(Result::unwrap).collect();
    let mut text = Vec::new();
    pgp::armor::write(&keys.as_slice(), BlockType::PublicKey, &mut text, None, true).unwrap();
    text
}

/// Armors a binary signature.
pub fn armor_signature(signature: &[u8]) -> Vec<u8> {
    let signature = pgp::composed::DetachedSignature::from_bytes(signature).unwrap();
    signature.to_armored_bytes(ArmorOptions::default()).unwrap()
}

fn packet(signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.to_writer_with_header(&mut bytes).unwrap();
    bytes
}

/// A configuration with a time, and whatever else is to be signed along.
fn config(typ: SignatureType, key: &impl KeyDetails, at: &str, more: Vec<Subpacket>) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.algorithm(), HashAlgorithm::Sha256);
    let time = Subpacket::regular(SubpacketData::SignatureCreationTime(timestamp(at))).unwrap();
    let issuer = Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap();
    config.hashed_subpackets = [vec![time, issuer], more].concat();
    // gpgv looks for nothing else.
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id())).unwrap()];
    config
}

/// A signature as gpg makes it, by a key with which gpg would not.
pub fn sign_anyway(key: &impl SigningKey, at: &str, message: &[u8], more: Vec<Subpacket>) -> Vec<u8> {
    packet(&config(SignatureType::Binary, key, at, more).sign(key, &Password::empty(), message).unwrap())
}

/// A signature whose unsigned part names `issuer` as its maker, or nobody.
pub fn sign_as(key: &impl SigningKey, issuer: Option<&dyn KeyDetails>, at: &str, message: &[u8]) -> Vec<u8> {
    let mut config = config(SignatureType::Binary, key, at, Vec::new());
    config.hashed_subpackets.truncate(1);
    let id = issuer.map(|i| Subpacket::regular(SubpacketData::IssuerKeyId(i.legacy_key_id())).unwrap());
    config.unhashed_subpackets = id.into_iter().collect();
    packet(&config.sign(key, &Password::empty(), message).unwrap())
}

/// A signature over the key itself, as a file.
pub fn sign_key(key: &SignedSecretKey, at: &str) -> Vec<u8> {
    let config = config(SignatureType::Key, &key.primary_key, at, Vec::new());
    packet(&config.sign_key(&key.primary_key, &Password::empty(), key.primary_key.public_key()).unwrap())
}

/// A signature of version 3, as PGP made them before 1998.
pub fn sign_v3(key: &impl SigningKey, at: &str, message: &[u8]) -> Vec<u8> {
    let made = timestamp(at);
    let config =
        SignatureConfig::v3(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha256, made, key.legacy_key_id());
    let trailer = [&[0][..], &made.as_secs().to_be_bytes()].concat();
    let digest = Sha256::new().chain_update(message).chain_update(trailer).finalize();
    let bytes = key.sign(&Password::empty(), HashAlgorithm::Sha256, &digest).unwrap();
    packet(&Signature::from_config(config, [digest[0], digest[1]], bytes).unwrap())
}

/// A part that nobody knows, marked as critical.
fn critical_subpacket() -> Subpacket {
    Subpacket::critical(SubpacketData::Experimental(100, b"x".to_vec().into())).unwrap()
}

/// Binds the first subkey of `of` to the primary key of `to`, as one that signs; `back` where it signs back too.
pub fn bind(to: &SignedSecretKey, of: &SignedSecretKey, at: &str, back: bool) -> Vec<u8> {
    let (primary, sub) = (&to.primary_key, &of.secret_subkeys[0].key);
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let mut more = vec![Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap()];
    if back {
        let config = config(SignatureType::KeyBinding, sub, at, Vec::new());
        let signed =
            config.sign_primary_key_binding(sub, sub.public_key(), &Password::empty(), primary.public_key()).unwrap();
        more.push(Subpacket::regular(SubpacketData::EmbeddedSignature(Box::new(signed))).unwrap());
    }
    let binding = config(SignatureType::SubkeyBinding, primary, at, more)
        .sign_subkey_binding(primary, primary.public_key(), &Password::empty(), sub.public_key())
        .unwrap();
    let mut key = SignedPublicKey::from(to.clone());
    key.public_subkeys = SignedPublicKey::from(of.clone()).public_subkeys;
    key.public_subkeys[0].signatures = vec![binding];
    key.to_bytes().unwrap()
}

/// The key with the subkey of another one, bound to that other one alone.
pub fn steal(to: &SignedSecretKey, of: &SignedSecretKey) -> Vec<u8> {
    let mut key = SignedPublicKey::from(to.clone());
    key.public_subkeys = SignedPublicKey::from(of.clone()).public_subkeys;
    key.to_bytes().unwrap()
}

/// The key with a revocation for this reason, or none at all.
pub fn revoke_for(key: &SignedSecretKey, at: &str, reason: Option<RevocationCode>) -> Vec<u8> {
    let more = reason.map(|r| Subpacket::regular(SubpacketData::RevocationReason(r, b""[..].into())).unwrap());
    let signed = config(SignatureType::KeyRevocation, &key.primary_key, at, more.into_iter().collect())
        .sign_key(&key.primary_key, &Password::empty(), key.primary_key.public_key())
        .unwrap();
    let mut key = SignedPublicKey::from(key.clone());
    key.details.revocation_signatures = vec![signed];
    key.to_bytes().unwrap()
}

/// The key without any user ID.
pub fn bare(key: &[u8]) -> Vec<u8> {
    let mut key = SignedPublicKey::from_bytes(key).unwrap();
    key.details.users.clear();
    key.to_bytes().unwrap()
}

/// The key with its one user ID revoked.
pub fn revoke_user(key: &SignedSecretKey, at: &str) -> Vec<u8> {
    let mut public = SignedPublicKey::from(key.clone());
    let user = &mut public.details.users[0];
    let signed = config(SignatureType::CertRevocation, &key.primary_key, at, Vec::new())
        .sign_certification(&key.primary_key, &key.primary_key.public_key(), &Password::empty(), Tag::UserId, &user.id)
        .unwrap();
    user.signatures.push(signed);
    public.to_bytes().unwrap()
}

/// The key with this self-signature over itself, and none over a user ID.
pub fn direct(key: &SignedSecretKey, at: &str, more: Vec<Subpacket>, users: bool) -> Vec<u8> {
    let signed = config(SignatureType::Key, &key.primary_key, at, more)
        .sign_key(&key.primary_key, &Password::empty(), key.primary_key.public_key())
        .unwrap();
    let mut key = SignedPublicKey::from(key.clone());
    key.details.direct_signatures = vec![signed];
    if !users {
        key.details.users.clear();
    }
    key.to_bytes().unwrap()
}

/// What gpgv says of a signature file: one class a signature.
pub fn gpgv(folder: &Path, key: &[u8], signature: &[u8], message: &[u8]) -> Vec<String> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (key, signature) = (write("key.gpg", key), write("signature", signature));
    let message = write("message", message);
    let output = Program::new("gpgv")
        .env("GNUPGHOME", folder)
        .args(["--status-fd", "1", "--keyring"])
        .args([&key, &signature, &message])
        .output()
        .unwrap();
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let class = |part: &str| {
        let classes = ["GOODSIG", "EXPKEYSIG", "REVKEYSIG", "EXPSIG", "BADSIG", "NO_PUBKEY", "ERRSIG"];
        classes.iter().find(|class| part.contains(&format!("[GNUPG:] {class} "))).map_or("NOTHING", |c| c).to_owned()
    };
    let parts = status.split("[GNUPG:] NEWSIG").skip(1).map(class).collect::<Vec<_>>();
    if parts.is_empty() { vec!["NOTHING".to_owned()] } else { parts }
}
