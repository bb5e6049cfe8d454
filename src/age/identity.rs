//! The secret half of an age key: opens what was encrypted to its recipient, armored or not.

use super::{COLUMNS, FOR_MAC, FOR_PAYLOAD, FOR_STANZA, VERSION, derive};
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use ring::{aead, hmac};
use std::path::Path;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const BAD_IDENTITY: Code = Code::usage("E-AGE-010");
const NOT_FOR_US: Code = Code::usage("E-AGE-011");
const DAMAGED: Code = Code::unverified("E-AGE-012");

/// What an armored file begins with.
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// And what one ends with.
const END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
/// What an identity begins with, before bech32's `1`.
const SECRET: Hrp = Hrp::parse_unchecked("age-secret-key-");
/// An identity file has a key and some comments.
const LARGEST: u64 = 1 << 16;
/// What is sealed is longer by this.
const TAG: usize = 16;
/// A sealed chunk of the payload: 64 KiB and a tag.
const SEALED: usize = (64 << 10) + TAG;

/// The secret half of an age key.
pub struct Identity(StaticSecret);

/// True of a file of age's, armored or not.
pub fn is_encrypted(file: &[u8]) -> bool {
    let file = file.trim_ascii_start();
    file.starts_with(ARMOR) || file.starts_with(VERSION.as_bytes())
}

impl Identity {
    /// Reads the keys of an identity file, as age-keygen(1) writes it: one a line, and comments.
    ///
    /// # Errors
    /// Where it cannot be read, or has no X25519 key or something else.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let bad = |why: &str| Error::new(BAD_IDENTITY, format!("{} {why}", path.display()));
        let text = Zeroizing::new(file::read_named(path, LARGEST)?);
        let text = std::str::from_utf8(&text).map_err(|_| bad("is no text"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<Self>> = lines.map(Self::parse).collect();
        keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
            bad("is no age identity file").hint("a native X25519 key is wanted, as age-keygen prints it")
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let read = CheckedHrpstring::new::<Bech32>(line).ok().filter(|read| read.hrp() == SECRET)?;
        let bytes = Zeroizing::new(read.byte_iter().collect::<Vec<u8>>());
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(|key| Self(StaticSecret::from(key)))
    }
}

/// Opens an age file with whichever of `identities` it was encrypted to.
///
/// # Errors
/// Where it was to none of them, or was cut short or altered.
pub fn decrypt(file: &[u8], identities: &[Identity]) -> Result<Secret> {
    let bare = unarmor(file)?;
    let parts = Parts::read(&bare).ok_or_else(|| damaged("its header does not read"))?;
    let opened = identities.iter().find_map(|identity| parts.shares.iter().find_map(|share| share.open(identity)));
    let file_key = opened.ok_or_else(|| {
        Error::new(NOT_FOR_US, "what is encrypted is not for this key").hint("name the key of its recipient")
    })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(&file_key, &[], FOR_MAC));
    hmac::verify(&key, parts.header, &parts.mac).map_err(|_| damaged("its header was altered"))?;
    let (nonce, sealed) = parts.payload.split_at_checked(16).ok_or_else(|| damaged("it is cut short"))?;
    let key = derive(&file_key, nonce, FOR_PAYLOAD);
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let chunks = sealed.len().div_ceil(SEALED).max(1);
    for place in 0..chunks {
        let chunk = &sealed[place * SEALED..sealed.len().min((place + 1) * SEALED)];
        if place > 0 && chunk.len() == TAG {
            return Err(damaged("its last part is empty"));
        }
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(place as u64).to_be_bytes());
        nonce[11] = u8::from(place + 1 == chunks);
        plain.extend_from_slice(&unseal(&key, nonce, chunk).ok_or_else(|| damaged("it is cut short or was altered"))?);
    }
    Ok(Secret::new(std::mem::take(&mut *plain)))
}

fn damaged(why: &str) -> Error {
    Error::new(DAMAGED, format!("what is encrypted is damaged: {why}")).hint("copy it again")
}

/// As strict as the specification (its "ASCII armor"): lines of 64, the last not empty and maybe shorter, in the one right
/// base64; around it there may be white space.
fn unarmor(file: &[u8]) -> Result<Vec<u8>> {
    let Some(body) = file.trim_ascii().strip_prefix(ARMOR) else { return Ok(file.to_vec()) };
    let body = body.strip_suffix(END).ok_or_else(|| damaged("it has no end"))?;
    let lines: Vec<&[u8]> =
        body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    // First and last is what follows the beginning on its line, and what precedes the end.
    let [b"", full @ .., last, b""] = &lines[..] else { return Err(damaged("its lines do not read")) };
    if full.iter().any(|line| line.len() != COLUMNS) || last.is_empty() || last.len() > COLUMNS {
        return Err(damaged("its lines do not read"));
    }
    STANDARD.decode(lines.concat()).map_err(|_| damaged("its base64 does not read"))
}

/// An age file, taken apart.
struct Parts<'a> {
    /// All that the header's MAC is over.
    header: &'a [u8],
    mac: Vec<u8>,
    shares: Vec<Share>,
    payload: &'a [u8],
}

/// The file's key, wrapped for one recipient.
struct Share {
    public: [u8; 32],
    wrapped: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// The specification's section "Header": lines, each recipient's first beginning with `->`, the last with `---`.
    fn read(file: &'a [u8]) -> Option<Self> {
        let (mut shares, mut at) = (Vec::new(), 0);
        let mut line = || {
            let length = file[at..].iter().position(|byte| *byte == b'\n')?;
            let (begin, text) = (at, std::str::from_utf8(&file[at..at + length]).ok()?);
            at += length + 1;
            Some((begin, text))
        };
        (line()?.1 == VERSION).then_some(())?;
        let (mut begin, mut text) = line()?;
        while let Some(arguments) = text.strip_prefix("-> ") {
            let is_argument = |said: &str| !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_graphic());
            arguments.split(' ').all(is_argument).then_some(())?;
            let mut body = String::new();
            // Full lines, and then one that is shorter.
            loop {
                let (_, more) = line()?;
                (more.len() <= COLUMNS).then(|| body.push_str(more))?;
                if more.len() < COLUMNS {
                    break;
                }
            }
            // A body that does not read is none of the format, whomever it is for.
            let wrapped = STANDARD_NO_PAD.decode(body).ok()?;
            if let Some(public) = arguments.strip_prefix("X25519 ") {
                shares.push(Share { public: STANDARD_NO_PAD.decode(public).ok()?.try_into().ok()?, wrapped });
            }
            (begin, text) = line()?;
        }
        let mac = STANDARD_NO_PAD.decode(text.strip_prefix("--- ")?).ok()?;
        Some(Self { header: &file[..begin + 3], mac, shares, payload: &file[at..] })
    }
}

impl Share {
    fn open(&self, identity: &Identity) -> Option<Zeroizing<Vec<u8>>> {
        let shared = identity.0.diffie_hellman(&PublicKey::from(self.public));
        let salt = [self.public.as_slice(), PublicKey::from(&identity.0).as_bytes()].concat();
        let key = shared.was_contributory().then(|| derive(shared.as_bytes(), &salt, FOR_STANZA))?;
        // A key of its own, used once: the specification's nonce is zero. It is 16 bytes, and nothing else is opened.
        (self.wrapped.len() == 32).then(|| unseal(&key, [0; 12], &self.wrapped)).flatten()
    }
}

fn unseal(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).ok()?);
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let plain = key.open_in_place(nonce, aead::Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(plain);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::age::{Recipient, encrypt};

    fn pair() -> (String, Identity, Recipient) {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        let text = bech32::encode_upper::<Bech32>(SECRET, &bytes).unwrap();
        let secret = StaticSecret::from(bytes);
        let recipient = bech32::encode::<Bech32>(super::super::AGE, PublicKey::from(&secret).as_bytes()).unwrap();
        (text, Identity(secret), recipient.parse().unwrap())
    }

    #[test]
    fn what_is_encrypted_is_opened_with_the_file_of_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            Identity::read(&folder.path().join(name))
        };
        let ((mine, _, recipient), (other, ..)) = (pair(), pair());
        let mine = keep("mine", &format!("# created: today\n# public key: {recipient}\n{mine}\n")).unwrap();
        let other = keep("other", &other).unwrap();
        for length in [0, 1, SEALED - 16, SEALED - 15, 200_000] {
            let plain: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let armored = encrypt(&plain, &recipient).unwrap();
            assert!(is_encrypted(armored.as_bytes()) && !is_encrypted(b"H4sI"));
            assert_eq!(decrypt(armored.as_bytes(), &mine).unwrap().expose(), plain);
            let bare = unarmor(armored.as_bytes()).unwrap();
            assert_eq!(decrypt(armored.replace('\n', "\r\n").as_bytes(), &mine).unwrap().expose(), plain);
            assert_eq!(decrypt(armored.as_bytes(), &other).unwrap_err().code(), NOT_FOR_US);
            for at in [0, 60, 150, bare.len() - 1] {
                let mut altered = bare.clone();
                altered[at] ^= 1;
                assert!(decrypt(&altered, &mine).is_err(), "{at}");
                assert!(decrypt(&bare[..at], &mine).is_err(), "{at}");
            }
        }
        for bad in ["", "# nothing", "AGE-SECRET-KEY-1", &recipient.to_string(), "-----BEGIN OPENSSH PRIVATE KEY-----"]
        {
            assert_eq!(keep("bad", bad).err().unwrap().code(), BAD_IDENTITY, "{bad}");
        }
    }
}
