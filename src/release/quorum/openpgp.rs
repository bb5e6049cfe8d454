//! Whether a detached OpenPGP signature over a manifest counts: the cryptography is rPGP's, the policy is ours.
//!
//! Every signature gets one class. In this order: a signature that names no key of a pinned signer is unknown; a form
//! that lsm does not read is void; one that none of the keys that it names made is bad; one that was made, but not
//! by the rules, is void, with the first reason that is found. The key's own side is told in [`super::certificate`].
//! Who issued a signature is only a hint, for it need not be signed: it says which keys to try. The time that counts is
//! the signed one.

use crate::error::{Code, Error, Result};
use crate::release::quorum::armor;
use crate::release::quorum::certificate::{Certificate, Key, is_understood, time};
use crate::release::quorum::reason::Reason;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PacketHeader, Signature, SignatureType, SignatureVersion};
use pgp::types::{PacketLength, Tag};

const NO_SIGNATURE: Code = Code::unverified("E-PGP-010");

/// The largest signature file that is read, in bytes. One signature has at most about 1 KiB.
pub const LIMIT: usize = 64 << 10;
/// A file with more signatures is none.
const MOST: usize = 8;

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It counts.
    Good {
        /// When it was made, in seconds since 1970.
        made: i64,
        /// Since when its key has been expired, in seconds since 1970. It was not when it signed.
        expired_since: Option<i64>,
    },
    /// It names a pinned signer's key, which did not make it over these bytes.
    Bad,
    /// It names no key of a pinned signer.
    Unknown,
    /// It does not count.
    Void(Reason),
}

/// One signature, judged.
#[derive(Debug, Clone, Copy)]
pub struct Judgement<'a> {
    /// Whose it is; where it did not prove that, whose key it names.
    pub signer: Option<&'a Certificate>,
    /// What it is worth.
    pub class: Class,
}

/// Judges every signature in `file`, binary or armored, over `message`. `latest` is the end of the day on which the
/// release was pinned, `now` this machine's time, both in seconds since 1970.
///
/// # Errors
/// Where the file is anything but whole signatures, one after the other.
pub fn judge<'a>(
    file: &[u8],
    message: &[u8],
    signers: &'a [Certificate],
    latest: i64,
    now: i64,
) -> Result<Vec<Judgement<'a>>> {
    let signatures = read(file).ok_or_else(|| {
        Error::new(NO_SIGNATURE, "it is no OpenPGP signature")
            .hint("get it again, from the place where lnd publishes it")
    })?;
    Ok(signatures.iter().map(|s| judge_one(s, message, signers, latest, now)).collect())
}

/// The signatures that a file consists of.
fn read(file: &[u8]) -> Option<Vec<Signature>> {
    if file.len() > LIMIT {
        return None;
    }
    let bytes;
    let mut rest = file;
    if armor::is_armored(file) {
        bytes = armor::read(file, armor::SIGNATURES)?;
        rest = &bytes;
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        // One packet at a time, for rPGP's own reader passes over what is cut short.
        let header = PacketHeader::try_from_reader(&mut rest).ok()?;
        let PacketLength::Fixed(length) = header.packet_length() else { return None };
        let (mut body, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if header.tag() != Tag::Signature || found.len() == MOST {
            return None;
        }
        found.push(Signature::try_from_reader(header, &mut body).ok()?);
        if !body.is_empty() {
            return None;
        }
        rest = after;
    }
    (!found.is_empty()).then_some(found)
}

fn judge_one<'a>(
    signature: &Signature,
    message: &[u8],
    signers: &'a [Certificate],
    latest: i64,
    now: i64,
) -> Judgement<'a> {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    let is_named = !(ids.is_empty() && fingerprints.is_empty());
    let keys = signers.iter().flat_map(|signer| signer.keys().iter().map(move |key| (signer, key)));
    let mut tried: Vec<_> = keys.filter(|(_, key)| !is_named || key.is_meant(&ids, &fingerprints)).collect();
    // Who took another's subkey into his key without being its owner comes last.
    tried.sort_by_key(|(_, key)| !key.is_bound());
    let Some((first, _)) = tried.first() else {
        return Judgement { signer: None, class: Class::Unknown };
    };
    let named = is_named.then_some(*first);
    if let Err(reason) = hold_form(signature) {
        return Judgement { signer: named, class: Class::Void(reason) };
    }
    let strong = tried.iter().filter(|(_, key)| key.is_strong());
    if let Some((signer, key)) = strong.clone().find(|(_, key)| key.made(signature, message)) {
        let class = hold_rules(signature, signer, key, latest, now)
            .map_or_else(Class::Void, |expired_since| Class::Good { made: time(signature), expired_since });
        return Judgement { signer: Some(signer), class };
    }
    // None of them made it. A key that is not bound is nobody's, and cannot make a signer's signature bad.
    let class = match strong.map(|(_, key)| key.is_bound()).max() {
        _ if !is_named => Class::Unknown,
        Some(true) => Class::Bad,
        Some(false) => Class::Void(Reason::NotBound),
        None => Class::Void(Reason::WeakKey),
    };
    Judgement { signer: named, class }
}

/// Holds that it is a signature whose making can be checked.
fn hold_form(signature: &Signature) -> std::result::Result<(), Reason> {
    if signature.version() != SignatureVersion::V4 || signature.created().is_none() {
        return Err(Reason::OtherForm);
    }
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(Reason::NotOfBytes);
    }
    // Here and not among the rules, for rPGP checks no signature with a critical part that it does not know.
    if !is_understood(signature) {
        return Err(Reason::NotUnderstood);
    }
    match signature.hash_alg() {
        None | Some(HashAlgorithm::None | HashAlgorithm::Private10 | HashAlgorithm::Other(_)) => Err(Reason::WeakHash),
        // The weak ones that rPGP knows come later: a bad signature is bad whatever its hash.
        _ => Ok(()),
    }
}

/// Holds that a signature that `key` of `signer` did make counts: since when the key has been expired.
fn hold_rules(
    signature: &Signature,
    signer: &Certificate,
    key: &Key,
    latest: i64,
    now: i64,
) -> std::result::Result<Option<i64>, Reason> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    let made = time(signature);
    let refuse = |refused, reason| if refused { Err(reason) } else { Ok(()) };
    refuse(signature.typ() != Some(SignatureType::Binary), Reason::NotOfBytes)?;
    let is_strong = matches!(signature.hash_alg(), Some(Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512));
    refuse(!is_strong, Reason::WeakHash)?;
    refuse(made > now, Reason::Future)?;
    refuse(made > latest, Reason::AfterPin)?;
    let life = signature.signature_expiration_time().map_or(0, |d| i64::from(d.as_secs()));
    refuse(life != 0 && made + life <= now, Reason::Expired)?;
    signer.hold_use(key, made, now)
}
