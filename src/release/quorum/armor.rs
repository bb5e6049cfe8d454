//! OpenPGP's armor: exactly one block, and nothing beside it.

use pgp::armor::{BlockType, Dearmor, DearmorOptions};
use std::io::Read;

/// Public keys.
pub(in crate::release) const KEYS: BlockType = BlockType::PublicKey;
/// Detached signatures.
pub(in crate::release) const SIGNATURES: BlockType = BlockType::Signature;

/// What the one block of kind `kind` in `text` holds; nothing where it is not whole, or not alone.
pub(in crate::release) fn read(text: &[u8], kind: BlockType) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    // Held first, for rPGP looks for a beginning anywhere, and does not mind what comes after the end.
    if !text.starts_with(begin.as_bytes()) || !text.ends_with(end.as_bytes()) {
        return None;
    }
    if text.windows(5).filter(|w| w == b"-----").count() != 4 {
        return None;
    }
    let options = DearmorOptions::new().set_limit(text.len());
    let mut bytes = Vec::new();
    Dearmor::with_options(text, options).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether a file that should be OpenPGP's is armored: a packet's first bit is set, a letter's is not.
pub(in crate::release) fn is_armored(file: &[u8]) -> bool {
    file.first().is_some_and(u8::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_block_is_read_and_nothing_else() {
        let whole = "-----BEGIN PGP SIGNATURE-----\n\naGVsbG8=\n-----END PGP SIGNATURE-----\n";
        assert_eq!(read(whole.as_bytes(), SIGNATURES).as_deref(), Some(b"hello".as_slice()));
        assert_eq!(read(whole.as_bytes(), KEYS), None);
        for other in [
            String::new(),
            format!("junk\n{whole}"),
            format!("{whole}junk"),
            whole.repeat(2),
            whole[..whole.len() - 10].to_owned(),
            whole.replace("END PGP SIGNATURE", "END PGP MESSAGE"),
            whole.replace("aGVs", "a-----GVs"),
        ] {
            assert_eq!(read(other.as_bytes(), SIGNATURES), None, "{other}");
        }
    }
}
