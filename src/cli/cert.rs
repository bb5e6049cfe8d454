//! `lsm cert`: the certificate that the watch-only side pins, how long it still holds, and the one after it.

mod renew;

pub(super) use renew::BEGIN as RENEW;

use crate::backend::Layout;
use crate::cli::control::installed;
use crate::cli::{Common, strings};
use crate::error::Result;
use crate::host::file;
use crate::signer::certificate::{Certificate, Urgency, days_left};
use crate::ui::{self, say};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// A certificate has a few hundred bytes.
const LARGEST: u64 = 1 << 16;

/// What to do with the signer's certificate.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Say what the certificate is valid for, and for how long
    Show(ShowArgs),
    /// Make the next certificate and a bundle with both; the signer shows it once the other side has that (--finish)
    Renew(renew::RenewArgs),
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
    match verb {
        CertVerb::Show(args) => show(args, common),
        CertVerb::Renew(args) => renew::run(args, common),
    }
}

fn show(args: &ShowArgs, common: &Common) -> Result<()> {
    let layout = || Ok(Layout::of(&installed(&common.instance)?));
    let (path, next) = match &args.certificate {
        Some(path) => (path.clone(), None),
        None => {
            let layout = layout()?;
            (layout.door().certificate, read_next(&layout)?)
        }
    };
    // A bundle's file has two while one is being renewed.
    let mut pins = Certificate::parse_pins(&file::read_named(&path, LARGEST)?)?.into_iter();
    let (certificate, now) = (pins.next(), OffsetDateTime::now_utc());
    let Some(certificate) = certificate else { return Ok(()) };
    let next = next.or(pins.next());
    if ui::voice().json {
        let mut object = to_json(&certificate, now);
        object["next"] = next.map_or(Value::Null, |next| to_json(&next, now));
        say!("{object}");
        return Ok(());
    }
    print("certificate", &certificate, now);
    if let Some(next) = next {
        print("next", &next, now);
    }
    Ok(())
}

fn print(name: &str, certificate: &Certificate, now: OffsetDateTime) {
    say!("{name:12} {}", certificate.fingerprint());
    say!("  valid for  {}", strings(certificate.names()).join(", "));
    say!("  valid      {} to {}", certificate.validity().0.date(), describe_end(certificate, now));
}

/// The certificate that is about to take the other one's place, where there is one.
pub(super) fn read_next(layout: &Layout) -> Result<Option<Certificate>> {
    let path = layout.next_certificate();
    if file::is_there(&path)? { read(&path).map(Some) } else { Ok(None) }
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
    object["days_left"] = json!(days_left(certificate.validity().1.unix_timestamp(), now.unix_timestamp()));
    object
}

/// Until when it is valid, and what is to be done about it.
pub(super) fn describe_end(certificate: &Certificate, now: OffsetDateTime) -> String {
    let end = certificate.validity().1;
    let (at, now) = (end.unix_timestamp(), now.unix_timestamp());
    match Urgency::of(at, now) {
        Some(Urgency::Expired) => format!("{}; {}", end.date(), Urgency::Expired.words()),
        Some(urgency) => format!("{} ({} days); {}", end.date(), days_left(at, now), urgency.words()),
        None => format!("{} ({} days)", end.date(), days_left(at, now)),
    }
}
