//! `lsm cert`: the certificate that the watch-only side pins, how long it still holds, and the one after it.

mod renew;
mod told;

pub(super) use renew::BEGIN as RENEW;
pub(super) use told::{contents, describe_end, read, read_next, to_json};

use crate::backend::Layout;
use crate::cli::rights::installed;
use crate::cli::{Common, strings};
use crate::error::Result;
use crate::host::file;
use crate::signer::certificate::Certificate;
use crate::ui::{self, say};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;
use time::OffsetDateTime;

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
    let mut pins = Certificate::parse_pins(&file::read_named(&path, told::LARGEST)?)?.into_iter();
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
