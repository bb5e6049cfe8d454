//! A clock that was ahead: what was signed then counts until that time has come, or until the operator says that the clock is right now.

use super::MINUTE;
use crate::host::file;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long what the operator says of the clock holds: a guard that runs has heard it long before.
const HOLDS: u64 = 10 * MINUTE;
/// How large the file may be: it holds one number.
const LIMIT: u64 = 64;

/// The file by which the operator says that the clock is right `at` that time.
pub fn render(at: u64) -> Vec<u8> {
    format!("{at}\n").into_bytes()
}

/// True where the operator has said so at `path`, just before `now`.
pub fn is_right(path: &Path, now: u64) -> bool {
    let text = file::is_there(path).ok().filter(|there| *there).and_then(|_| file::read_plain(path, LIMIT).ok());
    let said = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse::<u64>().ok());
    said.is_some_and(|at| (at..at.saturating_add(HOLDS)).contains(&now))
}

/// A time, in milliseconds since 1970, in words.
pub fn in_words(at: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_says_of_the_clock_holds_for_ten_minutes_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        assert!(!is_right(&path, 5), "nobody has said anything");
        std::fs::write(&path, render(5_000)).unwrap();
        let right = [4_999, 5_000, 604_999, 605_000].map(|now| is_right(&path, now));
        assert_eq!(right, [false, true, true, false]);
        std::fs::write(&path, "now").unwrap();
        assert!(!is_right(&path, 5_000));
    }
}
