//! What a macaroon is for, and what it therefore permits.

use super::{Permission, signer_permissions};
use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

const UNKNOWN: Code = Code::usage("E-MAC-012");

/// What the monitor's role may call: how far lnd has come, and which version it is. What lnd answers to anybody is in no list
/// of its permissions.
pub(super) const MONITOR_URIS: [&str; 3] =
    ["/lnrpc.State/GetState", "/lnrpc.State/SubscribeState", "/verrpc.Versioner/GetVersion"];

/// What a macaroon is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A watch-only node's.
    Signer,
    /// The same with taproot channels: its holder can compute private keys.
    SignerTaproot,
    /// Sees whether lnd can sign, and its version; nothing else.
    Monitor,
    /// Everything.
    Admin,
    /// These calls, each `/package.Service/Call`.
    Calls(BTreeSet<String>),
}

impl Role {
    /// A watch-only node's.
    pub const fn signer(taproot_channels: bool) -> Self {
        if taproot_channels { Self::SignerTaproot } else { Self::Signer }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Signer => "signer",
            Self::SignerTaproot => "signer-taproot",
            Self::Monitor => "monitor",
            Self::Admin => "admin",
            Self::Calls(_) => "calls",
        }
    }

    /// What it permits at an lnd that knows these `calls`, each with what it asks of a macaroon that does not name it.
    ///
    /// # Errors
    /// Where lnd does not know a call that is needed or was named.
    pub fn permissions(&self, calls: &BTreeMap<String, Vec<Permission>>) -> Result<Vec<Permission>> {
        let known: BTreeSet<String> = calls.keys().cloned().collect();
        Ok(match self {
            Self::Signer | Self::SignerTaproot => signer_permissions(*self == Self::SignerTaproot, &known)?,
            Self::Monitor => {
                MONITOR_URIS.iter().filter(|uri| known.contains(**uri)).map(|uri| Permission::uri(uri)).collect()
            }
            // As lnd's own: what all calls ask for, not the calls, of which the next lnd may have others.
            Self::Admin => calls.values().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            Self::Calls(uris) => {
                if let Some(strange) = uris.iter().find(|uri| !known.contains(*uri)) {
                    return Err(unknown(strange, &known));
                }
                uris.iter().map(|uri| Permission::uri(uri)).collect()
            }
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names the call that was probably meant: one that ends alike, or reads alike but for its case.
fn unknown(uri: &str, known: &BTreeSet<String>) -> Error {
    let last = |uri: &str| uri.rsplit(['/', '.']).next().unwrap_or_default().to_ascii_lowercase();
    let alike = known.iter().find(|other| last(other) == last(uri));
    let hint = alike.map_or_else(String::new, |other| format!("is {other} meant? "));
    Error::new(UNKNOWN, format!("this signer knows no call {uri:?}"))
        .hint(format!("{hint}all that it knows: lsm macaroon permissions"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::macaroon::SIGNER_URIS;

    fn calls(uris: &[&str]) -> BTreeMap<String, Vec<Permission>> {
        let read = |entity: &str| vec![Permission { entity: entity.into(), action: "read".into() }];
        uris.iter().map(|uri| ((*uri).to_owned(), read(uri.split('.').next().unwrap_or_default()))).collect()
    }

    #[test]
    fn each_role_permits_what_it_is_for_of_what_lnd_knows() {
        let mut uris = SIGNER_URIS.to_vec();
        uris.extend(["/verrpc.Versioner/GetVersion", "/signrpc.Signer/MuSig2Sign"]);
        let calls = calls(&uris);
        let of = |role: Role| {
            let permissions = role.permissions(&calls).unwrap();
            permissions.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(Role::Monitor), ["uri:/verrpc.Versioner/GetVersion"]);
        assert_eq!((of(Role::Signer).len(), of(Role::SignerTaproot).len()), (3, 4));
        assert_eq!(of(Role::Admin).len(), 3, "each entity once");
        let chosen = Role::Calls([SIGNER_URIS[0].to_owned()].into());
        assert_eq!(of(chosen), [format!("uri:{}", SIGNER_URIS[0])]);
    }

    #[test]
    fn an_unknown_call_is_named_with_the_one_that_was_meant() {
        let calls = calls(&["/lnrpc.Lightning/GetInfo"]);
        for (asked, meant) in [("/lnrpc.Lightning/getinfo", true), ("GetInfo", true), ("/a.B/C", false), ("", false)] {
            let error = Role::Calls([asked.to_owned()].into()).permissions(&calls).unwrap_err();
            let hint = error.advice().unwrap_or_default();
            assert!(error.code() == UNKNOWN && hint.contains("meant") == meant, "{asked}: {hint}");
        }
    }
}
