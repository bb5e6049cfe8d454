//! Proof that a signature was made by a node's identity key: the key is recovered from it and compared.

use crate::error::{Code, Error, Result};
use data_encoding::{Encoding, Specification};
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const NO_PROOF: Code = Code::unverified("E-PROOF-001");

/// What lnd puts before a message that its node signs (lnd's rpcserver.go, signedMsgPrefix).
pub const NODE_PREFIX: &[u8] = b"Lightning Signed Message:";

/// The key family and index of a node's identity (lnd's keychain.KeyFamilyNodeKey).
pub const IDENTITY: (i32, i32) = (6, 0);

/// Something that nobody has signed yet.
pub fn new_message() -> String {
    let mut nonce = [0_u8; 16];
    getrandom::fill(&mut nonce).expect("the kernel's random generator answers");
    format!("lsm proof {}", hex::encode(nonce))
}

/// Checks a signature as `lncli signmessage` gives it.
///
/// # Errors
/// Where it is not by `identity_pubkey` (33 bytes in hex) over `message`.
pub fn verify_node_signature(message: &[u8], zbase32: &str, identity_pubkey: &str) -> Result<()> {
    let signature = ZBASE32.decode(zbase32.as_bytes()).map_err(|e| unproved("does not read").because(e))?;
    verify_compact(&[NODE_PREFIX, message].concat(), &signature, identity_pubkey)
}

/// A compact signature as `lncli signmessage` gives it.
pub fn encode(signature: &[u8]) -> String {
    ZBASE32.encode(signature)
}

/// Checks a compact signature (a header byte, r, s) over the double sha256 of `message`.
///
/// # Errors
/// As [`verify_node_signature`].
pub fn verify_compact(message: &[u8], signature: &[u8], identity_pubkey: &str) -> Result<()> {
    let recovered = recover(message, signature).ok_or_else(|| unproved("does not read"))?;
    if recovered == identity_pubkey {
        return Ok(());
    }
    Err(unproved(&format!("is by {recovered}, not by the bundle's {identity_pubkey}"))
        .hint("the bundle belongs to another signer than the one that answered"))
}

// btcec's compact format: 27 + recovery id, + 4 for a compressed key, which lnd always asks for.
fn recover(message: &[u8], signature: &[u8]) -> Option<String> {
    let (header, rs) = signature.split_first()?;
    let id = RecoveryId::from_byte(header.checked_sub(27 + 4)?)?;
    let digest = Sha256::digest(Sha256::digest(message));
    let key = VerifyingKey::recover_from_prehash(&digest, &Signature::from_slice(rs).ok()?, id).ok()?;
    Some(hex::encode(key.to_encoded_point(true).as_bytes()))
}

fn unproved(why: &str) -> Error {
    Error::new(NO_PROOF, format!("the signature {why}"))
}

// Zooko's human-oriented base32, as github.com/tv42/zbase32 writes it: no padding, leftover bits are zero.
static ZBASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    specification.encoding().expect("32 different symbols")
});

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::SigningKey;

    fn sign(message: &[u8]) -> (String, String) {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let digest = Sha256::digest(Sha256::digest([NODE_PREFIX, message].concat()));
        let (signature, id) = key.sign_prehash_recoverable(&digest).unwrap();
        let compact = [&[31 + id.to_byte()][..], &signature.to_bytes()[..]].concat();
        let public = hex::encode(key.verifying_key().to_encoded_point(true).as_bytes());
        (ZBASE32.encode(&compact), public)
    }

    #[test]
    fn only_the_keys_own_signature_over_the_same_message_proves() {
        let (signature, public) = sign(b"hello");
        verify_node_signature(b"hello", &signature, &public).unwrap();
        let other = public.replace(&public[10..14], "0000");
        for (message, signature, public) in [
            (&b"hellO"[..], signature.as_str(), &public),
            (b"hello", &signature, &other),
            (b"hello", "", &public),
            (b"hello", "yyy", &public),
            (b"hello", "0lv2", &public),
        ] {
            assert_eq!(verify_node_signature(message, signature, public).unwrap_err().code(), NO_PROOF);
        }
    }
}
