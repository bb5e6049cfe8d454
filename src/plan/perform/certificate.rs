//! The signer's certificate: self-signed, pinned by the watch-only side, valid for exactly what that side dials.

use crate::error::{Code, Error, Result};
use crate::host::credential::Keep;
use crate::host::file::{self, Access};
use crate::secret::Secret;
use crate::spec::San;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use std::path::Path;
use time::{Duration, OffsetDateTime};

const CANNOT_MAKE: Code = Code::refused("E-PLAN-020");

/// How long it is valid. Long enough that a renewal is a planned act: every watch-only node pins it.
const VALID_DAYS: i64 = 730;
/// A certificate has a few hundred bytes.
const LARGEST: u64 = 1 << 16;

/// Makes key and certificate; a certificate that is there has its key.
///
/// # Errors
/// Where one cannot be made or written.
pub fn make(path: &Path, key: &Keep, names: &[San]) -> Result<()> {
    let pair = KeyPair::generate().map_err(cannot)?;
    let certificate = profile(names, OffsetDateTime::now_utc())?.self_signed(&pair).map_err(cannot)?;
    // A certificate beside another key keeps lnd from starting, and looks done: with the old one gone it never does.
    file::remove(path)?;
    file::remove(key.path())?;
    super::keep_secret(key, Secret::new(pair.serialize_pem().into_bytes()))?;
    file::replace(path, certificate.pem().as_bytes(), Access::mode(0o644))
}

/// Puts the next certificate and its key in the place of those in force. Cut off in between it is done again: as long as the
/// next key is there, so is all that is to be put in place.
pub(super) fn switch(path: &Path, key: &Keep, next: &Path, next_key: &Keep) -> Result<()> {
    if file::is_there(next_key.path())? {
        key.take_over(next_key)?;
        file::replace(path, &file::read(next, LARGEST)?, Access::mode(0o644))?;
        file::remove(next_key.path())?;
    }
    file::remove(next).map(drop)
}

fn profile(names: &[San], now: OffsetDateTime) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(to_san).collect::<Result<_>>()?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "lightning signer");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // An hour back: the clocks of two machines differ.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(VALID_DAYS);
    Ok(params)
}

fn to_san(name: &San) -> Result<SanType> {
    Ok(match name {
        San::Address(address) => SanType::IpAddress(*address),
        San::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(cannot)?),
    })
}

fn cannot(e: rcgen::Error) -> Error {
    Error::new(CANNOT_MAKE, "the certificate cannot be made").because(e)
}
