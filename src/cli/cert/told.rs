//! What is told of a certificate.

use crate::backend::Layout;
use crate::cli::strings;
use crate::error::Result;
use crate::host::file;
use crate::signer::certificate::{Certificate, Urgency, days_left};
use serde_json::json;
use std::path::Path;
use time::OffsetDateTime;

/// A certificate has a few hundred bytes.
pub(super) const LARGEST: u64 = 1 << 16;

/// The certificate that is about to take the other one's place, where there is one.
pub(in crate::cli) fn read_next(layout: &Layout) -> Result<Option<Certificate>> {
    let path = layout.next_certificate();
    if file::is_there(&path)? { read(&path).map(Some) } else { Ok(None) }
}

/// The certificate in a file.
///
/// # Errors
/// Where it cannot be read, or is none.
pub(in crate::cli) fn read(path: &Path) -> Result<Certificate> {
    Certificate::parse_pem(&file::read_named(path, LARGEST)?)
}

/// What is in it, for programs; times in seconds since 1970.
pub(in crate::cli) fn contents(certificate: &Certificate) -> serde_json::Value {
    let (from, to) = certificate.validity();
    json!({
        "sha256": certificate.fingerprint(), "names": strings(certificate.names()),
        "not_before": from.unix_timestamp(), "not_after": to.unix_timestamp(),
    })
}

/// The same, and for how long it still holds.
pub(in crate::cli) fn to_json(certificate: &Certificate, now: OffsetDateTime) -> serde_json::Value {
    let mut object = contents(certificate);
    object["days_left"] = json!(days_left(certificate.validity().1.unix_timestamp(), now.unix_timestamp()));
    object
}

/// Until when it is valid, and what is to be done about it.
pub(in crate::cli) fn describe_end(certificate: &Certificate, now: OffsetDateTime) -> String {
    let end = certificate.validity().1;
    let (at, now) = (end.unix_timestamp(), now.unix_timestamp());
    match Urgency::of(at, now) {
        Some(Urgency::Expired) => format!("{}; {}", end.date(), Urgency::Expired.words()),
        Some(urgency) => format!("{} ({} days); {}", end.date(), days_left(at, now), urgency.words()),
        None => format!("{} ({} days)", end.date(), days_left(at, now)),
    }
}
