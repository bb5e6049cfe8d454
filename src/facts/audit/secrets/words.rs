//! The 24 words of a seed, where they stand in a text that somebody left.

use crate::signer::wallet::{SEED_WORDS as SEED, place_of};

/// More in a row are a list of words, and no secret.
const LIST: usize = 4 * SEED;

/// The fewest bytes that a text with a seed has: words of three letters, with one byte between them.
pub(super) const SHORTEST: u64 = (SEED as u64) * 4 - 1;

/// True where 24 of lnd's words stand in a row. What is between them may be numbers and signs, as lncli shows them.
pub(super) fn holds_seed(text: &[u8]) -> bool {
    let mut row = 0;
    let is_seed = |row: usize| (SEED..LIST).contains(&row);
    for word in text.split(|byte| !byte.is_ascii_alphanumeric()) {
        if word.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let known = std::str::from_utf8(word).is_ok_and(|word| place_of(&word.to_ascii_lowercase()).is_some());
        if known {
            row += 1;
        } else if is_seed(row) {
            return true;
        } else {
            row = 0;
        }
    }
    is_seed(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_words_are_those_of_bip_39() {
        let text = include_str!("../../../../policies/seed-words.txt");
        let wanted = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda";
        assert_eq!(hex::encode(Sha256::digest(text)), wanted);
        assert!(text.lines().enumerate().all(|(place, word)| place_of(word) == Some(place)));
    }

    #[test]
    fn a_seed_is_found_in_each_form_and_prose_is_none() {
        let words =
            |count: usize| vec!["abandon", "zoo", "ability"].into_iter().cycle().take(count).collect::<Vec<_>>();
        let numbered: Vec<String> =
            words(24).iter().enumerate().map(|(n, word)| format!("{:2}. {word}", n + 1)).collect();
        for (text, is) in [
            (words(24).join("\n") + "\n", true),
            (words(24).join(" "), true),
            (numbered.join("   "), true),
            (format!("{:?}", words(24)), true),
            (format!("lncli create; echo {} >>x", words(24).join(" ")), true),
            (words(24).join(" ").to_uppercase(), true),
            (words(23).join(" "), false),
            (format!("{} lnd {}", words(12).join(" "), words(12).join(" ")), false),
            (include_str!("../../../../policies/seed-words.txt").to_owned(), false),
            ("the quick brown fox jumps over the lazy dog ".repeat(8), false),
            (String::new(), false),
        ] {
            assert_eq!(holds_seed(text.as_bytes()), is, "{text}");
        }
        assert!(!holds_seed(&[0xff; 4096]));
    }
}
