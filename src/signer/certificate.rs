//! A node's certificate as a pin: read from PEM, compared byte for byte, with its own names and dates.

use crate::error::{Code, Error, Result};
use crate::spec::San;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const BAD: Code = Code::usage("E-CERT-001");

/// One certificate that a client insists on. Not a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pem: Vec<u8>,
    der: CertificateDer<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    names: Vec<San>,
}

impl Certificate {
    /// Reads a PEM file's bytes: exactly one certificate and no private key.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn parse_pem(pem: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::new(BAD, format!("the TLS certificate {why}"));
        let mut sections = CertificateDer::pem_slice_iter(pem);
        let der = match sections.next() {
            Some(Ok(der)) => der,
            Some(Err(e)) => return Err(bad(&format!("is no PEM: {e}"))),
            None => return Err(bad("is no PEM: it has no CERTIFICATE section")),
        };
        if sections.next().is_some() {
            return Err(bad("file holds more than one certificate; a pin is exactly one"));
        }
        if pem.windows(12).any(|w| w == b"PRIVATE KEY-") {
            return Err(bad("file holds a private key, which must never leave the signer"));
        }
        let (not_before, not_after, names) = read_fields(&der).ok_or_else(|| bad("is no X.509 certificate"))?;
        Ok(Self { pem: pem.to_vec(), der, not_before, not_after, names })
    }

    /// The PEM bytes as they were read.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The DER bytes, which the server has to present.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The first and last moment at which it is valid.
    pub fn validity(&self) -> (OffsetDateTime, OffsetDateTime) {
        (self.not_before, self.not_after)
    }

    /// The names and addresses that it is valid for (its SANs; the common name counts for nothing).
    pub fn names(&self) -> &[San] {
        &self.names
    }

    /// True where it is valid for `host`, a name or an address, by the rules of RFC 6125 that TLS clients keep.
    pub fn is_for(&self, host: &str) -> bool {
        let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(&self.der), ServerName::try_from(host)) else {
            return false;
        };
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    }

    /// The sha256 of the DER bytes, in hex: what `openssl x509 -fingerprint -sha256` shows.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }
}

/// The sha256 of a certificate's DER bytes, in hex.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

fn read_fields(der: &[u8]) -> Option<(OffsetDateTime, OffsetDateTime, Vec<San>)> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let validity = certificate.validity();
    let names = match certificate.subject_alternative_name().ok()? {
        Some(extension) => extension.value.general_names.iter().filter_map(read_name).collect(),
        None => Vec::new(),
    };
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime(), names))
}

fn read_name(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(text) => Some(San::Name((*text).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| San::Address(IpAddr::from(b))),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| San::Address(IpAddr::from(b))),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(names: &[&str]) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem()
    }

    #[test]
    fn one_certificate_is_read_with_its_names() {
        let certificate = Certificate::parse_pem(make(&["signer.example", "10.0.0.7", "::1"]).as_bytes()).unwrap();
        assert_eq!(certificate.names().len(), 3);
        for (host, good) in [
            ("signer.example", true),
            ("SIGNER.example", true),
            ("10.0.0.7", true),
            ("::1", true),
            ("10.0.0.8", false),
            ("other.example", false),
            ("", false),
        ] {
            assert_eq!(certificate.is_for(host), good, "{host}");
        }
    }

    #[test]
    fn anything_but_one_certificate_is_refused() {
        let (one, two) = (make(&["a"]), make(&["a"]));
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for bad in [
            String::new(),
            "nonsense".to_owned(),
            one.clone() + &two,
            one.clone() + &key,
            key,
            one.replace("MII", "AAA"),
        ] {
            assert_eq!(Certificate::parse_pem(bad.as_bytes()).unwrap_err().code(), BAD, "{bad}");
        }
    }
}
