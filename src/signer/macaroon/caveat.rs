//! Conditions that narrow a macaroon: whoever holds one can add them, and nobody can take them off again.

use super::{BAD, IDENTIFIER, Macaroon, SIGNATURE, read_v2};
use crate::error::{Code, Error, Result};
use ipnet::IpNet;
use ring::hmac;
use std::fmt;
use std::str::FromStr;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, Duration, OffsetDateTime};
use zeroize::Zeroizing;

const BAD_TIME: Code = Code::usage("E-MAC-011");

/// A condition that lnd checks (lnd's macaroons/constraints.go; go-macaroon-bakery's checkers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caveat {
    /// It is good until then.
    Until(OffsetDateTime),
    /// It is good from there alone; only where lnd sees its caller's address.
    From(IpNet),
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Until(end) => {
                // Whole seconds of a year with four digits always format.
                write!(f, "time-before {}", end.format(&Rfc3339).unwrap_or_default())
            }
            Self::From(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "ipaddr {}", net.addr()),
            Self::From(net) => write!(f, "iprange {net}"),
        }
    }
}

impl Caveat {
    /// Reads when a macaroon is to expire: a date, a time as in RFC 3339, or so long from `now` on (`90d`, `12h`, `30m`).
    ///
    /// # Errors
    /// Where it is none of these, or is past.
    pub fn parse_end(text: &str, now: OffsetDateTime) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(BAD_TIME, format!("{text:?} {why}"))
                .hint("for example 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z")
        };
        let end = parse_length(text)
            .and_then(|length| now.checked_add(length))
            .or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
            .or_else(|| Some(Date::parse(text, &Iso8601::DATE).ok()?.midnight().assume_utc()))
            .filter(|end| (1970..=9999).contains(&end.year()))
            .ok_or_else(|| bad("is no time"))?;
        let end = end.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(end);
        if end > now { Ok(Self::Until(end)) } else { Err(bad("is past already")) }
    }
}

/// So many days, hours or minutes.
fn parse_length(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        _ => return None,
    };
    Some(Duration::seconds(i64::from(u32::from_str(number).ok()?) * seconds))
}

impl Macaroon {
    /// The same with one condition more.
    ///
    /// # Errors
    /// Where the result is no macaroon, which would be a fault of lsm's.
    pub fn narrowed(&self, caveat: &str) -> Result<Self> {
        let bytes = self.expose();
        let lost = || Error::new(BAD, "the macaroon cannot be narrowed");
        let signature = read_v2(bytes).ok_or_else(lost)?.signature;
        // Its signature is the key for the next one (go-macaroon's AddFirstPartyCaveat).
        let next = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signature), caveat.as_bytes());
        // The end of the caveats is one zero before the signature's field: a byte for its type, one for its length.
        let end = bytes.len().checked_sub(signature.len() + 3).ok_or_else(lost)?;
        let mut narrowed = Zeroizing::new(Vec::with_capacity(bytes.len() + caveat.len() + 8));
        narrowed.extend_from_slice(&bytes[..end]);
        put_field(&mut narrowed, IDENTIFIER, caveat.as_bytes());
        narrowed.extend([0, 0]);
        put_field(&mut narrowed, SIGNATURE, next.as_ref());
        Self::parse(std::mem::take(&mut narrowed))
    }
}

fn put_field(bytes: &mut Vec<u8>, kind: u64, value: &[u8]) {
    prost::encoding::encode_varint(kind, bytes);
    prost::encoding::encode_varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::macaroon::tests::sample;

    fn at(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(text, &Rfc3339).unwrap()
    }

    #[test]
    fn an_end_is_a_length_a_date_or_a_time_and_never_past() {
        let now = at("2027-01-31T11:22:33.5Z");
        for (text, wanted) in [
            ("90d", "time-before 2027-05-01T11:22:33Z"),
            ("12h", "time-before 2027-01-31T23:22:33Z"),
            ("1m", "time-before 2027-01-31T11:23:33Z"),
            ("2027-02-01", "time-before 2027-02-01T00:00:00Z"),
            ("2027-02-01T01:00:00+01:00", "time-before 2027-02-01T00:00:00Z"),
        ] {
            assert_eq!(Caveat::parse_end(text, now).unwrap().to_string(), wanted, "{text}");
        }
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "1.5d",
            "90",
            "90D",
            "soon",
            "2027-01-31",
            "1999-01-01",
            "4294967296d",
            "9999999d",
            "é",
        ] {
            assert_eq!(Caveat::parse_end(bad, now).unwrap_err().code(), BAD_TIME, "{bad}");
        }
    }

    #[test]
    fn caveats_are_added_at_the_end_and_change_the_signature_alone() {
        let whole = Macaroon::parse(sample()).unwrap();
        let until = Caveat::parse_end("2031-01-01", at("2030-01-01T00:00:00Z")).unwrap();
        let from = Caveat::From("10.0.0.0/28".parse().unwrap());
        let narrow = whole.narrowed(&until.to_string()).unwrap().narrowed(&from.to_string()).unwrap();
        assert_eq!(
            narrow.caveats(),
            ["time-before 2030-01-01T00:00:00Z", "time-before 2031-01-01T00:00:00Z", "iprange 10.0.0.0/28"]
        );
        assert_eq!((narrow.permissions(), narrow.root_key_id()), (whole.permissions(), whole.root_key_id()));
        assert_ne!(narrow.expose()[narrow.expose().len() - 32..], [9; 32]);
        assert_eq!(Caveat::From("10.0.0.7/32".parse().unwrap()).to_string(), "ipaddr 10.0.0.7");
    }
}
