//! `lsm cert`: the certificate that the watch-only side pins, and how long it still holds.

use crate::backend::Layout;
use crate::cli::control::installed;
use crate::cli::{Common, strings};
use crate::error::Result;
use crate::host::file;
use crate::signer::certificate::Certificate;
use crate::ui::{self, say};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// A certificate has a few hundred bytes.
const LARGEST: u64 = 1 << 16;
/// Days before its end from which it is to be renewed, in the words for each.
const WARNINGS: [(i64, &str); 4] =
    [(0, "EXPIRED: every call is refused"), (7, "RENEW IT NOW"), (30, "renew it soon"), (60, "plan its renewal")];
/// How.
const RENEWAL: &str = "move it away, run lsm install again, and give the new bundle to the watch-only side";

/// What to do with the signer's certificate.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Say what the certificate is valid for, and for how long
    Show(ShowArgs),
}

/// `cert show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lsm cert show\n  lsm cert show ~/.lnd/signer-credentials/tls.cert --json")]
pub struct ShowArgs {
    /// Its file [default: the signer's own]
    #[arg(value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// Runs `lsm cert`.
pub(super) fn run(verb: &CertVerb, common: &Common) -> Result<()> {
    let CertVerb::Show(args) = verb;
    let path = match &args.certificate {
        Some(path) => path.clone(),
        None => Layout::of(&installed(&common.instance)?).door().certificate,
    };
    let (certificate, now) = (read(&path)?, OffsetDateTime::now_utc());
    if ui::voice().json {
        say!("{}", to_json(&certificate, now));
        return Ok(());
    }
    say!("certificate  {}", certificate.fingerprint());
    say!("  valid for  {}", strings(certificate.names()).join(", "));
    say!("  valid      {} to {}", certificate.validity().0.date(), describe_end(&certificate, now));
    Ok(())
}

/// The certificate in a file.
///
/// # Errors
/// Where it cannot be read, or is none.
pub(super) fn read(path: &Path) -> Result<Certificate> {
    Certificate::parse_pem(&file::read_named(path, LARGEST)?)
}

/// What is in it, for programs; times in seconds since 1970.
pub(super) fn contents(certificate: &Certificate) -> serde_json::Value {
    let (from, to) = certificate.validity();
    json!({
        "sha256": certificate.fingerprint(), "names": strings(certificate.names()),
        "not_before": from.unix_timestamp(), "not_after": to.unix_timestamp(),
    })
}

/// The same, and for how long it still holds.
pub(super) fn to_json(certificate: &Certificate, now: OffsetDateTime) -> serde_json::Value {
    let mut object = contents(certificate);
    object["days_left"] = json!(days_left(certificate.validity().1, now));
    object
}

/// Until when it is valid, and what is to be done about it.
pub(super) fn describe_end(certificate: &Certificate, now: OffsetDateTime) -> String {
    describe(certificate.validity().1, now)
}

fn describe(end: OffsetDateTime, now: OffsetDateTime) -> String {
    let left = days_left(end, now);
    match WARNINGS.iter().find(|(days, _)| left < *days) {
        Some((0, words)) => format!("{}; {words}; {RENEWAL}", end.date()),
        Some((_, words)) => format!("{} ({left} days); {words}: {RENEWAL}", end.date()),
        None => format!("{} ({left} days)", end.date()),
    }
}

/// Whole days; negative once it has expired.
fn days_left(end: OffsetDateTime, now: OffsetDateTime) -> i64 {
    (end - now).whole_seconds().div_euclid(24 * 60 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn the_end_is_told_louder_the_nearer_it_is() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let told = |left: Duration| describe(now + left, now);
        assert_eq!(told(Duration::days(60)), "1970-03-02 (60 days)");
        for (left, words) in [
            (Duration::days(60) - Duration::SECOND, "(59 days); plan"),
            (Duration::days(29), "soon"),
            (Duration::days(6), "NOW"),
            (Duration::SECOND, "(0 days); RENEW IT NOW"),
            (-Duration::SECOND, "EXPIRED"),
        ] {
            assert!(told(left).contains(words), "{left}: {}", told(left));
        }
    }
}
