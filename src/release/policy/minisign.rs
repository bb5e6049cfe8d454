//! Minisign: public keys, their ids, and signatures with their trusted comment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// A public key that may sign updates.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: String,
    key: minisign_verify::PublicKey,
}

/// A signature, not yet held against a key.
pub struct Signature {
    key_id: String,
    signature: minisign_verify::Signature,
}

/// Why a signature is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not have the form of one.
    Malformed,
    /// It is one of the old kind, over the file itself and not its hash.
    Legacy,
}

impl Key {
    /// Reads the second line of a `.pub` file (`RW...`).
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let id = bytes.strip_prefix(b"Ed")?.first_chunk().map(|id| shown(*id))?;
        Some(Self { id, key: minisign_verify::PublicKey::from_base64(text).ok()? })
    }

    /// The id as minisign shows it: 16 hexadecimal digits in capitals. It names a key and proves nothing.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` is this key's over `bytes`, and over its trusted comment.
    pub fn has_signed(&self, bytes: &[u8], signature: &Signature) -> bool {
        self.key.verify(bytes, &signature.signature, false).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl Signature {
    /// Reads the four lines of a `.minisig` file.
    ///
    /// # Errors
    /// Where it is none, or one of the old kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Malformed)?;
        let line = STANDARD.decode(text.lines().nth(1).unwrap_or_default()).map_err(|_| Fault::Malformed)?;
        // "ED" signs the hash of a file, "Ed" the file itself.
        let hashed = line.strip_prefix(b"ED");
        let id = hashed.or_else(|| line.strip_prefix(b"Ed")).and_then(|rest| rest.first_chunk());
        let key_id = shown(*id.ok_or(Fault::Malformed)?);
        let signature = minisign_verify::Signature::decode(text).map_err(|_| Fault::Malformed)?;
        if hashed.is_none() {
            return Err(Fault::Legacy);
        }
        Ok(Self { key_id, signature })
    }

    /// The id of the key that it says it is by, as [`Key::id`].
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The comment that is signed with the file. It is text of whoever signed: show it escaped.
    pub fn comment(&self) -> &str {
        self.signature.trusted_comment()
    }
}

/// Whether `text` is a key's id, as [`Key::id`] gives it.
pub fn is_key_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

/// minisign takes the eight bytes as a number, least byte first, and shows it in hexadecimal.
fn shown(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with the original minisign, of a file that holds `test`; the first is of the old kind.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
        RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
        trusted comment: timestamp:1555779966\tfile:test\n\
        QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";
    const HASHED: &str = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1556193335\tfile:test\n\
        y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";

    #[test]
    fn a_signature_of_the_original_minisign_holds_and_one_of_the_old_kind_is_refused() {
        let key = Key::parse(KEY).unwrap();
        let signature = Signature::parse(HASHED.as_bytes()).unwrap();
        assert_eq!((key.id(), signature.key_id()), ("E7620F1842B4E81F", "E7620F1842B4E81F"));
        assert_eq!(signature.comment(), "timestamp:1556193335\tfile:test");
        assert!(key.has_signed(b"test", &signature));
        assert!(!key.has_signed(b"tesT", &signature));
        assert_eq!(Signature::parse(LEGACY.as_bytes()).err(), Some(Fault::Legacy));
    }

    #[test]
    fn what_is_no_key_or_signature_is_none() {
        for text in ["", "RW", "RWQ", &KEY[..55], &KEY.replace("RWQ", "RUQ"), &format!("{KEY}\n"), "\u{e9}"] {
            assert!(Key::parse(text).is_none(), "{text:?}");
        }
        let lines: Vec<_> = HASHED.lines().collect();
        let cut = |n: usize| lines[..n].join("\n");
        for text in [cut(0), cut(1), cut(2), cut(3), HASHED.replace("RUQ", "RXQ"), HASHED.replace("trusted c", "c")] {
            assert_eq!(Signature::parse(text.as_bytes()).err(), Some(Fault::Malformed), "{text:?}");
        }
        assert_eq!(Signature::parse(b"\xff\n").err(), Some(Fault::Malformed));
        let other = Signature::parse(HASHED.replace("1556193335", "1556193336").as_bytes()).unwrap();
        assert!(!Key::parse(KEY).unwrap().has_signed(b"test", &other), "the trusted comment is signed too");
    }

    #[test]
    fn a_key_id_is_sixteen_capital_digits() {
        assert!(is_key_id("E7620F1842B4E81F"));
        for text in ["", "E7620F1842B4E81", "e7620f1842b4e81f", "E7620F1842B4E81G", "E7620F1842B4E81F0"] {
            assert!(!is_key_id(text), "{text:?}");
        }
    }
}
