//! A signer's OpenPGP key: which of its keys may sign, from when, until when, and what was taken back.
//!
//! rPGP checks the cryptography of what a key says about itself; what follows from it is decided here, as GnuPG decides:
//! - The newest self-signature rules, over the key's whole life: who extends an expiry makes what was signed in between
//!   good again. Most of lnd's signers publish their keys with the newest self-signature alone, so that one "as of then"
//!   is not even there. What a signature over the key itself says goes before what one over a user ID says; of the user
//!   IDs that are not revoked the newest that says anything counts.
//! - A subkey is the signer's only through a binding signature of the primary key, and a signing one only if it has
//!   signed back (RFC 9580, 0x19): otherwise anybody could bind somebody else's subkey to a key of his own.
//! - The flag "may sign" must be there: without flags a key may do nothing here (GnuPG takes such a key for all it can).
//! - A revocation is never taken back. Superseded and retired void what came later, every other reason, or none,
//!   everything (RFC 9580, 5.2.3.31). A revocation by somebody else's key (a designated revoker) is not looked at.
//! - SHA-1 will do in what a key says of itself, as with GnuPG; one of lnd's signers has nothing else. Whoever could use
//!   that needs to write into the file of keys, and the pinned fingerprint is a SHA-1 too. What has the marks of the
//!   known collision attacks does not verify with rPGP's SHA-1. MD5 and RIPEMD-160 will not do.

use crate::error::{Code, Error, Result};
use crate::release::quorum::armor;
use crate::release::quorum::reason::Reason;
use crate::release::trust::Signer;
use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, RevocationCode, Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Fingerprint, KeyDetails, KeyId, PublicParams, SignedUser, Tag};

const NO_KEY: Code = Code::usage("E-PGP-001");

/// RSA keys with fewer bits are not believed.
const LEAST_RSA_BITS: u16 = 2048;

/// A signer with his keys, each judged by what the primary key says of it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The signer's name.
    pub name: String,
    /// The fingerprint of the primary key: 40 hexadecimal digits in capitals.
    pub fingerprint: String,
    /// True where the operator added the signer.
    pub added: bool,
    /// The primary key first.
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
enum Packet {
    Primary(PublicKey),
    Sub(PublicSubkey),
}

/// One key of a signer. Times are in seconds since 1970.
#[derive(Debug, Clone)]
pub(in crate::release) struct Key {
    packet: Packet,
    created: i64,
    revoked: Option<Revocation>,
    /// What the primary key says of it, or why it is not the signer's.
    bound: std::result::Result<Bound, Reason>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    expires: Option<i64>,
    signs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Revocation {
    /// Of everything, ever.
    Hard,
    /// Of what was made at this time or later.
    Soft(i64),
}

impl Certificate {
    /// Finds the key with the pinned fingerprint in the armored file of `signer`; other keys there are ignored.
    ///
    /// # Errors
    /// Where the file cannot be read as one block of OpenPGP keys, or the pinned one is not in it, or twice.
    pub fn parse(signer: &Signer) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(NO_KEY, format!("the key file of the signer {} {what}", signer.name))
                .hint(format!("export it again: gpg --armor --export {} > {}.asc", signer.fingerprint, signer.name))
        };
        let bytes = armor::read(&signer.certificate, armor::KEYS).ok_or_else(|| bad("is no armored OpenPGP key"))?;
        let keys = SignedPublicKey::from_bytes_many(bytes.as_slice()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let keys = keys.map_err(|e| bad("cannot be read").because(e))?;
        let is_pinned = |k: &&SignedPublicKey| hex::encode_upper(k.fingerprint().as_bytes()) == signer.fingerprint;
        let mut pinned = keys.iter().filter(is_pinned);
        let (Some(key), None) = (pinned.next(), pinned.next()) else {
            return Err(bad(&format!("does not hold the key {} once", signer.fingerprint)));
        };
        let mut keys = vec![primary(key)];
        keys.extend(key.public_subkeys.iter().map(|sub| subkey(&key.primary_key, sub)));
        Ok(Self { name: signer.name.clone(), fingerprint: signer.fingerprint.clone(), added: signer.added, keys })
    }

    /// Its keys, the primary one first.
    pub(in crate::release) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that may sign, by their fingerprints (in capitals), each with the time at which it expires, in seconds
    /// since 1970; also those that have, or that were revoked.
    pub fn signing_keys(&self) -> Vec<(String, Option<i64>)> {
        let signing = self.keys.iter().filter(|k| k.is_strong() && k.bound.is_ok_and(|b| b.signs));
        let end = |k: &Key| [self.keys[0].bound, k.bound].into_iter().flatten().filter_map(|b| b.expires).min();
        signing.map(|k| (hex::encode_upper(k.details().fingerprint().as_bytes()), end(k))).collect()
    }

    /// Whether its `key` could sign at the time `made`: since when it has been expired, as of `now`, or why it could not.
    pub(in crate::release) fn hold_use(
        &self,
        key: &Key,
        made: i64,
        now: i64,
    ) -> std::result::Result<Option<i64>, Reason> {
        let mut expired: Option<i64> = None;
        for key in [&self.keys[0], key] {
            let bound = key.bound?;
            if key.revoked == Some(Revocation::Hard) {
                return Err(Reason::Revoked);
            }
            if matches!(key.revoked, Some(Revocation::Soft(at)) if made >= at) {
                return Err(Reason::AfterRevocation);
            }
            if made < key.created {
                return Err(Reason::BeforeKey);
            }
            if let Some(end) = bound.expires {
                if made >= end {
                    return Err(Reason::AfterExpiry);
                }
                if end <= now {
                    expired = Some(expired.map_or(end, |other| other.min(end)));
                }
            }
        }
        if key.bound?.signs { Ok(expired) } else { Err(Reason::NotForSigning) }
    }
}

impl Key {
    fn details(&self) -> &dyn KeyDetails {
        match &self.packet {
            Packet::Primary(key) => key,
            Packet::Sub(key) => key,
        }
    }

    /// Whether it made `signature` over `message`: the cryptography alone.
    pub(in crate::release) fn made(&self, signature: &Signature, message: &[u8]) -> bool {
        match &self.packet {
            Packet::Primary(key) => signature.verify(key, message),
            Packet::Sub(key) => signature.verify(key, message),
        }
        .is_ok()
    }

    /// Whether an issuer's hint means it.
    pub(in crate::release) fn is_meant(&self, ids: &[&KeyId], fingerprints: &[&Fingerprint]) -> bool {
        let (id, fingerprint) = (self.details().legacy_key_id(), self.details().fingerprint());
        ids.iter().any(|i| **i == id) || fingerprints.iter().any(|f| **f == fingerprint)
    }

    /// Whether it is the signer's at all.
    pub(in crate::release) fn is_bound(&self) -> bool {
        self.bound.is_ok()
    }

    /// RSA with 2048 bits and more, and elliptic curves. DSA is not: its keys are short, or its users careless.
    pub(in crate::release) fn is_strong(&self) -> bool {
        match self.details().public_params() {
            // An RSA key is written as its modulus, with the number of its bits before it.
            PublicParams::RSA(rsa) => match rsa.to_bytes().as_deref() {
                Ok([high, low, ..]) => u16::from_be_bytes([*high, *low]) >= LEAST_RSA_BITS,
                _ => false,
            },
            PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) | PublicParams::Ed448(_) => true,
            PublicParams::ECDSA(_) => true,
            _ => false,
        }
    }
}

fn primary(key: &SignedPublicKey) -> Key {
    let packet = &key.primary_key;
    let created = i64::from(packet.created_at().as_secs());
    let is_direct = |s: &&Signature| s.typ() == Some(SignatureType::Key) && s.verify_key(packet).is_ok();
    let direct = newest(key.details.direct_signatures.iter().filter(is_direct), created);
    let mut said: Vec<_> = key.details.users.iter().filter_map(|user| certification(packet, user, created)).collect();
    // The newest first; of several with one time the first, as in the file.
    said.sort_by_key(|s| std::cmp::Reverse(time(s)));
    let said: Vec<_> = direct.into_iter().chain(said).collect();
    let bound = Bound {
        expires: said.iter().find_map(|s| expiry(s, created)),
        signs: said.iter().find_map(|s| may_sign(s)).unwrap_or(false),
    };
    let revocations = key.details.revocation_signatures.iter().filter(|s| s.verify_key(packet).is_ok());
    Key {
        packet: Packet::Primary(packet.clone()),
        created,
        revoked: revocations.map(revocation).min(),
        bound: if said.is_empty() { Err(Reason::NotBound) } else { Ok(bound) },
    }
}

/// The newest certification that the key gave this user ID of its own, unless it was revoked.
fn certification<'a>(key: &PublicKey, user: &'a SignedUser, created: i64) -> Option<&'a Signature> {
    let own = user.signatures.iter().filter(|s| s.verify_certification(key, Tag::UserId, &user.id).is_ok());
    let (revocations, own): (Vec<_>, Vec<_>) = own.partition(|s| s.typ() == Some(SignatureType::CertRevocation));
    let newest = newest(own.into_iter(), created)?;
    let revoked = revocations.into_iter().any(|s| time(s) >= time(newest));
    (!revoked).then_some(newest)
}

fn subkey(primary: &PublicKey, sub: &SignedPublicSubKey) -> Key {
    let created = i64::from(sub.key.created_at().as_secs());
    let own = sub.signatures.iter().filter(|s| s.verify_subkey_binding(primary, &sub.key).is_ok());
    let (revocations, own): (Vec<_>, Vec<_>) = own.partition(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
    let bound = match newest(own.into_iter(), created) {
        None => Err(Reason::NotBound),
        Some(binding) => {
            let bound = Bound { expires: expiry(binding, created), signs: may_sign(binding).unwrap_or(false) };
            if bound.signs && !has_signed_back(primary, sub, binding) { Err(Reason::NotSignedBack) } else { Ok(bound) }
        }
    };
    let revoked = revocations.into_iter().map(revocation).min();
    Key { packet: Packet::Sub(sub.key.clone()), created, revoked, bound }
}

fn has_signed_back(primary: &PublicKey, sub: &SignedPublicSubKey, binding: &Signature) -> bool {
    let back = binding.embedded_signature();
    back.is_some_and(|s| is_sound(s) && s.verify_primary_key_binding(&sub.key, primary).is_ok())
}

/// The newest of self-signatures, each of which verified, that may be believed.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, created: i64) -> Option<&'a Signature> {
    signatures.filter(|s| is_sound(s) && time(s) >= created).max_by_key(|s| time(s))
}

/// Whether a self-signature is of a form that may be believed. One with an end of its own is not: a key's expiry is said
/// otherwise.
fn is_sound(signature: &Signature) -> bool {
    let is_weak = |hash| matches!(hash, HashAlgorithm::Md5 | HashAlgorithm::Ripemd160);
    signature.version() == SignatureVersion::V4
        && signature.created().is_some()
        && !signature.hash_alg().is_none_or(is_weak)
        && signature.signature_expiration_time().is_none_or(|d| d.as_secs() == 0)
        && is_understood(signature)
}

/// Whether all that a signature marks as critical is known here. The part that is not signed may say what it likes.
pub(in crate::release) fn is_understood(signature: &Signature) -> bool {
    use SubpacketData::{Experimental, Notation, Other, RegularExpression, TrustSignature};
    let is_foreign = |d: &SubpacketData| {
        matches!(d, Experimental(..) | Notation(_) | Other(..) | RegularExpression(_) | TrustSignature(..))
    };
    signature.config().is_some_and(|c| !c.hashed_subpackets().any(|s| s.is_critical && is_foreign(&s.data)))
}

/// When a signature says that it was made, in seconds since 1970.
pub(in crate::release) fn time(signature: &Signature) -> i64 {
    signature.created().map_or(0, |t| i64::from(t.as_secs()))
}

/// When the key expires that was created at `created`, if the signature says so.
fn expiry(signature: &Signature, created: i64) -> Option<i64> {
    let seconds = signature.key_expiration_time()?.as_secs();
    (seconds != 0).then(|| created + i64::from(seconds))
}

/// The flag "may sign", if the signature has flags.
fn may_sign(signature: &Signature) -> Option<bool> {
    signature.config()?.hashed_subpackets().find_map(|s| match &s.data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    })
}

fn revocation(signature: &Signature) -> Revocation {
    match signature.revocation_reason_code() {
        Some(RevocationCode::KeySuperseded | RevocationCode::KeyRetired) => Revocation::Soft(time(signature)),
        _ => Revocation::Hard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::trust::Trust;

    #[test]
    fn every_shipped_key_is_the_pinned_one_and_could_sign() {
        let trust = Trust::shipped();
        let signers = trust.signers_of("v0.21.3-beta");
        assert_eq!(signers.len(), 16);
        for signer in signers {
            let certificate = Certificate::parse(signer).unwrap();
            assert_eq!(
                hex::encode_upper(certificate.keys[0].details().fingerprint().as_bytes()),
                signer.fingerprint,
                "{}",
                signer.name
            );
            assert!(!certificate.signing_keys().is_empty(), "{}", signer.name);
        }
    }

    #[test]
    fn a_file_without_the_pinned_key_is_refused() {
        let trust = Trust::shipped();
        let signers = trust.signers_of("v0.21.3-beta");
        let (roasbeef, other) = (signers[2].clone(), signers[0].clone());
        let text = String::from_utf8(roasbeef.certificate.clone()).unwrap();
        let cut = text.lines().take(10).collect::<Vec<_>>().join("\n");
        for (file, what) in [
            (other.certificate.clone(), "does not hold the key"),
            (Vec::new(), "no armored"),
            (b"key".to_vec(), "no armored"),
            (cut.into_bytes(), "no armored"),
            (text.repeat(2).into_bytes(), "no armored"),
        ] {
            let mut signer = roasbeef.clone();
            signer.certificate = file;
            let error = Certificate::parse(&signer).unwrap_err();
            assert_eq!(error.code(), NO_KEY);
            assert!(error.cause().contains(what), "{}", error.cause());
        }
        Certificate::parse(&roasbeef).unwrap();
    }
}
