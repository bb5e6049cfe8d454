//! A secret for somebody else: encrypted to an age recipient (age-encryption.org/v1), as age(1) reads it.
//!
//! The format is small where the recipient is an X25519 key, and its primitives are ring's, which is here anyway; but for
//! that key's secret half, which ring does not take in, and which is x25519-dalek's, here anyway too. The age crate says of itself that it is for testing, and brings many others
//! (docs/architecture.md).

mod identity;

pub use identity::{Identity, decrypt, is_encrypted};

use crate::error::{Code, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::{aead, hkdf, hmac};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const BAD_RECIPIENT: Code = Code::usage("E-AGE-001");
const CANNOT_ENCRYPT: Code = Code::usage("E-AGE-002");

/// The version line, and what each key is derived for (the specification's sections "Header" and "Payload").
const VERSION: &str = "age-encryption.org/v1";
const FOR_STANZA: &[u8] = b"age-encryption.org/v1/X25519";
const FOR_MAC: &[u8] = b"header";
const FOR_PAYLOAD: &[u8] = b"payload";

/// What a recipient begins with, before bech32's `1`.
const AGE: Hrp = Hrp::parse_unchecked("age");
/// How much of the plaintext is sealed at a time, in bytes.
const CHUNK: usize = 64 << 10;
/// The columns of an armored file, and of what is wrapped for a recipient.
const COLUMNS: usize = 64;

/// Whom something is encrypted to: the public half of an X25519 key, as age-keygen(1) prints it (`age1...`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    text: String,
    key: [u8; 32],
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Recipient {
    type Err = Error;

    /// Reads it. The error does not repeat the text, which may be the secret half by mistake.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str, hint: &str| Err(Error::new(BAD_RECIPIENT, why).hint(hint));
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return bad(
                "this is the secret half of an age key, not a recipient",
                "it stood in a command line, so make a new key; its public half is what age-keygen -y prints",
            );
        }
        let read = CheckedHrpstring::new::<Bech32>(text).ok().map(|read| read.byte_iter().collect::<Vec<u8>>());
        // What is written again in the one right way is the same: its prefix, case and padding too.
        let same = |key: &[u8; 32]| bech32::encode::<Bech32>(AGE, key).is_ok_and(|again| again == text);
        let key = read.and_then(|bytes| bytes.try_into().ok()).filter(same);
        match key {
            Some(key) => Ok(Self { text: text.to_owned(), key }),
            None => bad("this is no age recipient", "a native X25519 one is wanted: age1 and 58 letters and digits"),
        }
    }
}

/// Encrypts `plain` to `recipient`, as an armored age file: text, with a final newline.
///
/// # Errors
/// Where the recipient is a point on the curve that no key has.
///
/// # Panics
/// Where the kernel gives no random bytes: nothing safe can be done then.
pub fn encrypt(plain: &[u8], recipient: &Recipient) -> Result<String> {
    let (file_key, nonce) = (random(), random());
    let mut file = header(&file_key, recipient)
        .map_err(|_| Error::new(CANNOT_ENCRYPT, format!("nobody has the key of {recipient}")))?;
    file.extend_from_slice(&*nonce);
    let key = derive(&*file_key, &*nonce, FOR_PAYLOAD);
    let chunks: Vec<&[u8]> = if plain.is_empty() { vec![plain] } else { plain.chunks(CHUNK).collect() };
    for (place, chunk) in chunks.iter().enumerate() {
        // STREAM: a counter of 11 bytes, and whether it is the last.
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(place as u64).to_be_bytes());
        nonce[11] = u8::from(place + 1 == chunks.len());
        seal(&key, nonce, chunk, &mut file);
    }
    Ok(armor(&file))
}

fn header(file_key: &[u8; 16], recipient: &Recipient) -> Result<Vec<u8>, ring::error::Unspecified> {
    let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
    let share = own.compute_public_key()?;
    let salt = [share.as_ref(), &recipient.key].concat();
    // Refuses a shared secret of zeros (RFC 7748, section 6.1).
    let wrap = agree_ephemeral(own, &UnparsedPublicKey::new(&X25519, &recipient.key), |shared| {
        derive(shared, &salt, FOR_STANZA)
    })?;
    let mut wrapped = Vec::new();
    // A key of its own, used once: the specification's nonce is zero.
    seal(&wrap, [0; 12], file_key, &mut wrapped);
    let (share, wrapped) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(wrapped));
    let text = format!("{VERSION}\n-> X25519 {share}\n{wrapped}\n---");
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*derive(file_key, &[], FOR_MAC)), text.as_bytes());
    Ok(format!("{text} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes())
}

/// HKDF-SHA-256, to 32 bytes.
fn derive(secret: &[u8], salt: &[u8], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let from = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = from.expand(&[purpose], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *key));
    filled.expect("32 bytes is what HKDF-SHA-256 gives");
    key
}

/// Appends `plain` to `to`, sealed by ChaCha20-Poly1305 with its tag.
fn seal(key: &[u8; 32], nonce: [u8; 12], plain: &[u8], to: &mut Vec<u8>) {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).expect("the key has the cipher's length");
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    // Sealed in place: what was plain is not left anywhere.
    let mut bytes = plain.to_vec();
    let tag = aead::LessSafeKey::new(key).seal_in_place_separate_tag(nonce, aead::Aad::empty(), &mut bytes);
    to.extend_from_slice(&bytes);
    to.extend_from_slice(tag.expect("a chunk is shorter than the cipher's limit").as_ref());
}

fn random() -> Zeroizing<[u8; 16]> {
    let mut bytes = Zeroizing::new([0; 16]);
    getrandom::fill(&mut *bytes).expect("the kernel's random generator answers");
    bytes
}

fn armor(file: &[u8]) -> String {
    let text = STANDARD.encode(file);
    let mut armored = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    for line in text.as_bytes().chunks(COLUMNS) {
        armored.extend(line.iter().copied().map(char::from));
        armored.push('\n');
    }
    armored.push_str("-----END AGE ENCRYPTED FILE-----\n");
    armored
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key pair of age's, to open one file with.
    fn pair() -> (EphemeralPrivateKey, Recipient) {
        let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let text = bech32::encode::<Bech32>(AGE, own.compute_public_key().unwrap().as_ref());
        (own, text.unwrap().parse().unwrap())
    }

    fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Vec<u8>> {
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).unwrap());
        let mut bytes = sealed.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        key.open_in_place(nonce, aead::Aad::empty(), &mut bytes).ok().map(|plain| plain.to_vec())
    }

    /// Opens it step by step as the specification says, from the other side.
    fn decrypt(armored: &str, own: EphemeralPrivateKey, recipient: &Recipient) -> Vec<u8> {
        let body: String = armored.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(armored.lines().all(|line| line.len() <= COLUMNS) && armored.ends_with("FILE-----\n"));
        let file = STANDARD.decode(body).unwrap();
        let mut lines = file.splitn(5, |byte| *byte == b'\n').map(<[u8]>::to_vec);
        let mut text = || String::from_utf8(lines.next().unwrap()).unwrap();
        let (version, stanza, wrapped, mac) = (text(), text(), text(), text());
        let payload = lines.next().unwrap();
        let share = STANDARD_NO_PAD.decode(stanza.strip_prefix("-> X25519 ").unwrap()).unwrap();
        let salt = [share.as_slice(), &recipient.key].concat();
        let wrap =
            agree_ephemeral(own, &UnparsedPublicKey::new(&X25519, &share), |shared| derive(shared, &salt, FOR_STANZA));
        let file_key = open(&wrap.unwrap(), [0; 12], &STANDARD_NO_PAD.decode(&wrapped).unwrap()).unwrap();
        let said = format!("{version}\n{stanza}\n{wrapped}\n---");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(&file_key, &[], FOR_MAC));
        let mac = STANDARD_NO_PAD.decode(mac.strip_prefix("--- ").unwrap()).unwrap();
        hmac::verify(&key, said.as_bytes(), &mac).unwrap();
        let key = derive(&file_key, &payload[..16], FOR_PAYLOAD);
        let chunks: Vec<_> = payload[16..].chunks(CHUNK + 16).collect();
        let plain = |(place, chunk): (usize, &&[u8])| {
            let mut nonce = [0; 12];
            nonce[10] = u8::try_from(place).unwrap();
            nonce[11] = u8::from(place + 1 == chunks.len());
            open(&key, nonce, chunk).unwrap()
        };
        chunks.iter().enumerate().flat_map(plain).collect()
    }

    #[test]
    fn what_is_encrypted_is_opened_by_the_recipients_key() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let (own, recipient) = pair();
            let plain: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let armored = encrypt(&plain, &recipient).unwrap();
            assert_eq!(decrypt(&armored, own, &recipient), plain, "{length}");
            assert_ne!(encrypt(&plain, &recipient).unwrap(), armored, "each time by new keys");
        }
    }

    #[test]
    fn a_recipient_is_read_and_what_is_none_is_refused_without_being_repeated() {
        let good = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        assert_eq!(good.parse::<Recipient>().unwrap().to_string(), good);
        for bad in [
            "",
            "age1",
            &good.to_uppercase(),
            &good.replace("8p", "8q"),
            "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
            "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        ] {
            let error = bad.parse::<Recipient>().unwrap_err();
            assert_eq!(error.code(), BAD_RECIPIENT, "{bad}");
            assert!(bad.is_empty() || !error.cause().contains(bad), "{error}");
        }
    }

    #[test]
    fn a_point_that_no_key_has_is_refused() {
        let zeros = bech32::encode::<Bech32>(AGE, &[0; 32]).unwrap();
        assert_eq!(encrypt(b"x", &zeros.parse().unwrap()).unwrap_err().code(), CANNOT_ENCRYPT);
    }
}
