//! The certificate that each lnd shows.

use super::{Answer, Signer};
use crate::host::file;
use crate::signer::certificate;
use crate::spec::San;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A certificate is some hundred bytes.
const LIMIT: u64 = 64 << 10;

/// The certificates, by the names of their signers.
pub type Certificates = BTreeMap<String, Answer<Certificate>>;

/// What is in a certificate that matters to those who pin it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The first moment at which it is valid, in seconds since 1970.
    pub from: i64,
    /// The last one.
    pub until: i64,
    /// The names and addresses that it is valid for.
    pub names: Vec<San>,
    /// The SHA-256 of its DER bytes, in hex.
    pub sha256: String,
}

/// Reads the certificate of each signer.
pub(super) fn gather(signers: &[Signer]) -> Certificates {
    signers.iter().map(|signer| (signer.name.clone(), read(signer))).collect()
}

fn read(signer: &Signer) -> Answer<Certificate> {
    let Some(path) = place(signer) else {
        return Answer::Unknown("it cannot be told where lnd's certificate is".into());
    };
    Answer::of_file(&path, || {
        let found = certificate::Certificate::parse_pem(&file::read_plain(&path, LIMIT)?)?;
        let (from, until) = found.validity();
        let (from, until) = (from.unix_timestamp(), until.unix_timestamp());
        Ok(Certificate { from, until, names: found.names().to_vec(), sha256: found.fingerprint() })
    })
}

/// Where lnd's settings say that it is, else where lnd puts it.
fn place(signer: &Signer) -> Option<PathBuf> {
    let Answer::Is(settings) = &signer.settings else { return None };
    let told = settings.value("tlscertpath").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || signer.folder.as_deref().map(|folder| folder.join("tls.cert"));
    told.or_else(own).as_deref().map(|path: &Path| signer.outside(path))
}
