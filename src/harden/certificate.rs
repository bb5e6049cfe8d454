//! The certificate that the watch-only side pins.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Certificate, Host, Needs, Settings, Signer, Unknown};
use crate::signer::certificate::Urgency;
use crate::spec::San;
use std::net::IpAddr;
use time::OffsetDateTime;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "TLS-001",
        title: "The certificate is valid, and will be for a while",
        why: "the watch-only node pins it: when it has run out, lnd makes another at its next start, and no call comes through",
        mend: "lsm cert renew; for an lnd that lsm did not set up: move its tls.cert away and restart it, then a new bundle",
        judge: Judge::Signer(dates),
    },
    Check {
        id: "TLS-002",
        title: "The certificate names the addresses that the watch-only node dials",
        why: "a client that is told to pass over a wrong name passes over an impostor's too",
        mend: "lsm install --san NAME; or tlsextraip= and tlsextradomain= in lnd.conf, then a new bundle",
        judge: Judge::Signer(names),
    },
];

fn certificate<'a>(host: &'a Host, signer: &Signer) -> Result<Option<&'a Certificate>, Unknown> {
    host.certificates.get(&signer.name).unwrap_or(&Answer::Absent).get()
}

/// What nobody can judge that is not there.
fn none_yet() -> Verdict {
    Verdict::NotApplicable("lnd has no certificate yet".to_owned())
}

fn dates(host: &Host, signer: &Signer) -> Judged {
    let Some(certificate) = certificate(host, signer)? else { return Ok(none_yet()) };
    let day = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "no date".to_owned(), |at| at.date().to_string())
    };
    if certificate.from > host.taken {
        return Ok(Verdict::Fail(format!("valid from {} on", day(certificate.from))));
    }
    let evidence = format!("valid until {}", day(certificate.until));
    // Each stage is told anew, also by the watch: the evidence names it.
    Ok(match Urgency::of(certificate.until, host.taken) {
        None => Verdict::Pass(evidence),
        Some(Urgency::Plan) => Verdict::Warn(evidence),
        Some(urgency) => Verdict::Fail(format!("{evidence}; {}", urgency.words())),
    })
}

fn names(host: &Host, signer: &Signer) -> Judged {
    let Some(certificate) = certificate(host, signer)? else { return Ok(none_yet()) };
    let has: Vec<String> = certificate.names.iter().map(San::to_string).collect();
    // lnd takes a wildcard for a name like any other: nobody can dial it.
    if certificate.names.iter().any(|name| matches!(name, San::Address(address) if address.is_unspecified())) {
        return Ok(Verdict::Fail(format!("it names the wildcard: {}", few(&has))));
    }
    let wanted: Vec<San> = match signer.spec.get()? {
        Some(spec) => spec.certificate_names(),
        None => dialled(signer.settings.need("settings of lnd")?),
    };
    if wanted.is_empty() {
        return Ok(Verdict::NotApplicable("lnd's settings name no address that others dial".to_owned()));
    }
    let missing: Vec<String> =
        wanted.iter().filter(|name| !certificate.names.contains(name)).map(San::to_string).collect();
    if missing.is_empty() {
        return Ok(Verdict::Pass(few(&has)));
    }
    Ok(Verdict::Fail(format!("{} is not among {}", few(&missing), few(&has))))
}

/// Addresses that lnd listens on for others than this host.
fn dialled(settings: &Settings) -> Vec<San> {
    let address = |listen: &String| {
        let host = listen.rsplit_once(':').map_or(listen.as_str(), |(host, _)| host);
        let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
        (!address.is_unspecified() && !address.is_loopback()).then_some(San::Address(address))
    };
    settings.values("rpclisten").iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_others_dial_has_to_be_named() {
        let listen =
            ["localhost:10009", "127.0.0.1:10009", "0.0.0.0:10009", "10.0.0.5:10009", "[fd00::5]:10009", "[::]:1"];
        let settings: Settings = serde_json::from_value(json!({ "rpclisten": listen })).unwrap();
        let names: Vec<String> = dialled(&settings).iter().map(San::to_string).collect();
        assert_eq!(names, ["10.0.0.5", "fd00::5"]);
    }
}
