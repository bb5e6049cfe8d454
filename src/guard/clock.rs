//! A time as the operator reads it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time, in milliseconds since 1970, in words.
pub fn in_words(at: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
