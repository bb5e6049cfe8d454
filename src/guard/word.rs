//! What the operator says to a guard that runs: a file of root's for each thing that can be said, which holds when it was.

use super::MINUTE;
use crate::host::file;
use std::path::Path;

/// How long it holds: a guard that runs has heard it long before.
const HOLDS: u64 = 10 * MINUTE;
/// How large the file may be: it holds one number.
const LIMIT: u64 = 64;

/// The file by which it is said `at` that time.
pub fn render(at: u64) -> Vec<u8> {
    format!("{at}\n").into_bytes()
}

/// When the operator has said it at `path`, where that was just before `now`.
pub fn said(path: &Path, now: u64) -> Option<u64> {
    let text = file::is_there(path).ok().filter(|there| *there).and_then(|_| file::read_plain(path, LIMIT).ok());
    let said = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse::<u64>().ok());
    said.filter(|at| (*at..at.saturating_add(HOLDS)).contains(&now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_says_holds_for_ten_minutes_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("word");
        assert_eq!(said(&path, 5), None, "nobody has said anything");
        std::fs::write(&path, render(5_000)).unwrap();
        assert_eq!(
            [4_999, 5_000, 604_999, 605_000].map(|now| said(&path, now)),
            [None, Some(5_000), Some(5_000), None]
        );
        std::fs::write(&path, "now").unwrap();
        assert_eq!(said(&path, 5_000), None);
    }
}
