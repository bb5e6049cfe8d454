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

/// What ends a certificate in PEM (RFC 7468).
const END: &str = "-----END CERTIFICATE-----";

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
        if pem.windows(12).any(|w| w == b"PRIVATE KEY-") {
            return Err(bad("file holds a private key, which must never leave the signer"));
        }
        let mut sections = CertificateDer::pem_slice_iter(pem);
        let der = match sections.next() {
            Some(Ok(der)) => der,
            Some(Err(e)) => return Err(bad(&format!("is no PEM: {e}"))),
            None => return Err(bad("is no PEM: it has no CERTIFICATE section")),
        };
        if sections.next().is_some() {
            return Err(bad("file holds more certificates than it may"));
        }
        let (not_before, not_after, names) = read_fields(&der).ok_or_else(|| bad("is no X.509 certificate"))?;
        Ok(Self { pem: pem.to_vec(), der, not_before, not_after, names })
    }

    /// Reads a PEM file's bytes: one certificate, or two while one is being renewed, the one in force first.
    ///
    /// # Errors
    /// As [`Certificate::parse_pem`], where there are more, or one of them twice.
    pub fn parse_pins(pem: &[u8]) -> Result<Vec<Self>> {
        let text = String::from_utf8_lossy(pem);
        let parts: Vec<&str> = text.split_inclusive(END).collect();
        // What follows the last one is a line's end, or no certificate, which reading it will say.
        let rest = parts.last().is_some_and(|rest| rest.trim().is_empty());
        let (parts, _) = parts.split_at(parts.len() - usize::from(rest));
        match parts {
            [first, second] => {
                // Each as a file of its own would have it.
                let [first, second] =
                    [first, second].map(|part| Self::parse_pem(format!("{}\n", part.trim()).as_bytes()));
                let (first, second) = (first?, second?);
                if first.der == second.der {
                    return Err(Error::new(BAD, "the TLS certificate file holds one certificate twice"));
                }
                Ok(vec![first, second])
            }
            _ => Ok(vec![Self::parse_pem(pem)?]),
        }
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

impl AsRef<[Certificate]> for Certificate {
    fn as_ref(&self) -> &[Certificate] {
        std::slice::from_ref(self)
    }
}

/// How near its end a certificate is: each watch-only node has to be given the next one by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Less than 60 days are left.
    Plan,
    /// Less than 30 days are left.
    Soon,
    /// Less than 7 days are left.
    Now,
    /// It has expired.
    Expired,
}

impl Urgency {
    /// How near `now` is to `end`, both in seconds since 1970; `None` while there is time.
    pub fn of(end: i64, now: i64) -> Option<Self> {
        match days_left(end, now) {
            ..0 => Some(Self::Expired),
            0..7 => Some(Self::Now),
            7..30 => Some(Self::Soon),
            30..60 => Some(Self::Plan),
            60.. => None,
        }
    }

    /// What it asks for, with the command.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Plan => "plan its renewal: lsm cert renew",
            Self::Soon => "renew it soon: lsm cert renew",
            Self::Now => "RENEW IT NOW: lsm cert renew",
            Self::Expired => "EXPIRED: every call is refused; lsm cert renew",
        }
    }

    /// The same as a priority of the journal's (sd-daemon(3)).
    pub const fn priority(self) -> u8 {
        match self {
            Self::Plan => 5,
            Self::Soon => 4,
            Self::Now => 3,
            Self::Expired => 2,
        }
    }
}

/// Whole days from `now` to `end`, both in seconds since 1970; negative once that is past.
pub fn days_left(end: i64, now: i64) -> i64 {
    (end - now).div_euclid(24 * 60 * 60)
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
    fn two_pins_are_a_renewal_and_more_are_none() {
        let (one, two, three) = (make(&["a"]), make(&["b"]), make(&["c"]));
        for (text, wanted) in [(one.clone(), 1), (one.clone() + &two, 2), (one.clone() + "\r\n" + &two + "\n", 2)] {
            let pins = Certificate::parse_pins(text.as_bytes()).unwrap();
            assert_eq!(pins.len(), wanted);
            assert_eq!(pins[0].der(), Certificate::parse_pem(one.as_bytes()).unwrap().der());
        }
        for bad in
            [one.clone() + &one, one.clone() + &two + &three, one.clone() + &two + "x", "x".into(), String::new()]
        {
            assert_eq!(Certificate::parse_pins(bad.as_bytes()).unwrap_err().code(), BAD, "{bad}");
        }
    }

    #[test]
    fn the_nearer_the_end_the_louder() {
        const DAY: i64 = 24 * 60 * 60;
        let told = |left: i64| Urgency::of(1_000 + left, 1_000);
        assert_eq!(told(60 * DAY), None);
        for (left, wanted) in [
            (60 * DAY - 1, Urgency::Plan),
            (30 * DAY, Urgency::Plan),
            (30 * DAY - 1, Urgency::Soon),
            (7 * DAY - 1, Urgency::Now),
            (0, Urgency::Now),
            (-1, Urgency::Expired),
        ] {
            assert_eq!(told(left), Some(wanted), "{left}");
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
