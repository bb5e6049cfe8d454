//! What a macaroon lets its holder do, in words, and how that compares with what a watch-only node needs.

use super::role::MONITOR_URIS;
use super::{Macaroon, Permission, SIGNER_URIS, TAPROOT_URIS};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What some permissions come to: all of `needs`, of each one of the permissions.
struct Power {
    words: &'static str,
    needs: &'static [&'static [&'static str]],
}

const KEYS: Power = Power {
    words: "compute private keys of the wallet, the node's identity too (MuSig2 with a nonce that the caller chose)",
    needs: &[
        &["signer:generate", "uri:/signrpc.Signer/MuSig2CreateSession"],
        &["signer:generate", "uri:/signrpc.Signer/MuSig2Sign"],
    ],
};

/// The gravest first. Which call asks for which entity is in lnd's rpcserver.go, signrpc/signer_server.go and
/// walletrpc/walletkit_server.go (`MacPermissions`); that MuSig2 gives keys away was tried (SECURITY.md).
const POWERS: &[Power] = &[
    KEYS,
    Power {
        words: "make macaroons with every right there is",
        needs: &[&["macaroon:generate", "uri:/lnrpc.Lightning/BakeMacaroon"]],
    },
    Power {
        words: "have any transaction signed, and so spend everything",
        needs: &[&[
            "onchain:write",
            "signer:generate",
            "uri:/walletrpc.WalletKit/SignPsbt",
            "uri:/walletrpc.WalletKit/FinalizePsbt",
            "uri:/walletrpc.WalletKit/SendOutputs",
            "uri:/signrpc.Signer/SignOutputRaw",
            "uri:/signrpc.Signer/ComputeInputScript",
            "uri:/lnrpc.Lightning/SendCoins",
            "uri:/lnrpc.Lightning/SendMany",
        ]],
    },
    Power {
        words: "sign any message with any of lnd's own keys, the node's identity too",
        needs: &[&["signer:generate", "uri:/signrpc.Signer/SignMessage"]],
    },
    Power {
        words: "compute the secret that any of lnd's own keys shares with another key (ECDH)",
        needs: &[&["signer:generate", "uri:/signrpc.Signer/DeriveSharedKey"]],
    },
    Power { words: "sign messages as the node", needs: &[&["message:write", "uri:/lnrpc.Lightning/SignMessage"]] },
    Power {
        words: "pay over channels, change their fees, forget channels and payments",
        needs: &[&["offchain:write", "uri:/routerrpc.Router/SendPaymentV2", "uri:/lnrpc.Lightning/AbandonChannel"]],
    },
    Power { words: "revoke macaroons", needs: &[&["macaroon:write", "uri:/lnrpc.Lightning/DeleteMacaroonID"]] },
    Power { words: "stop lnd", needs: &[&["info:write", "uri:/lnrpc.Lightning/StopDaemon"]] },
    Power {
        words: "see every address of the wallet, now and later (xpubs)",
        needs: &[&["onchain:read", "uri:/walletrpc.WalletKit/ListAccounts"]],
    },
];

/// What only reads, of lnd's own permissions: not `address:read`, by which lnd gives out new addresses and keys
/// (walletrpc/walletkit_server.go, `NextAddr`). Of single calls those of the monitor's role, and lnd's account of itself.
const READS: [&str; 8] = [
    "onchain:read",
    "offchain:read",
    "message:read",
    "peers:read",
    "info:read",
    "invoices:read",
    "signer:read",
    "macaroon:read",
];
const READING_URIS: [&str; 1] = ["/lnrpc.Lightning/GetInfo"];

/// The entity's permission under which lnd makes one of these calls without naming it.
fn cover(uri: &str) -> &'static str {
    match uri {
        "/walletrpc.WalletKit/SignPsbt" => "onchain:write",
        "/signrpc.Signer/MuSig2GetCombinedNonce" => "signer:read",
        _ => "signer:generate",
    }
}

/// What a macaroon is to a watch-only node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// The calls that such a node needs and this macaroon does not permit.
    pub missing: Vec<&'static str>,
    /// The calls of taproot channels that it permits.
    pub taproot: Vec<&'static str>,
    /// What it permits beside all of those.
    pub more: Vec<Permission>,
}

impl Macaroon {
    /// What its holder could do, the gravest first; caveats aside.
    pub fn powers(&self) -> Vec<&'static str> {
        self.had().map(|power| power.words).collect()
    }

    /// What it permits that is no part of those powers, and is not known to read alone: of that lsm can say nothing.
    pub fn unjudged(&self) -> Vec<&Permission> {
        let is_one_of = |one: &Permission, uris: &[&str]| uris.iter().any(|uri| *one == Permission::uri(uri));
        let is_read = |one: &Permission| {
            READS.contains(&one.to_string().as_str()) || is_one_of(one, &MONITOR_URIS) || is_one_of(one, &READING_URIS)
        };
        let gives_keys = self.has(&KEYS);
        let is_judged = |one: &Permission| {
            let name = one.to_string();
            let mut needed = self.had().flat_map(|power| power.needs.iter().copied().flatten());
            // The rest of MuSig2 is nothing beside the keys.
            needed.any(|needed| *needed == name) || gives_keys && is_one_of(one, &TAPROOT_URIS)
        };
        self.permissions.iter().filter(|one| !is_read(one) && !is_judged(one)).collect()
    }

    fn had(&self) -> impl Iterator<Item = &'static Power> {
        POWERS.iter().filter(|power| self.has(power))
    }

    fn has(&self, power: &Power) -> bool {
        let held = self.held();
        power.needs.iter().all(|any| any.iter().any(|one| held.iter().any(|held| held == one)))
    }

    /// How what it permits compares with the least that a watch-only node needs.
    pub fn fit(&self) -> Fit {
        let held = self.held();
        let allows = |uri: &&str| {
            let named = Permission::uri(uri).to_string();
            held.iter().any(|one| *one == named || one == cover(uri))
        };
        let is_theirs = |one: &&Permission| {
            let mut uris = SIGNER_URIS.iter().chain(&TAPROOT_URIS);
            uris.any(|uri| **one == Permission::uri(uri))
        };
        Fit {
            missing: SIGNER_URIS.into_iter().filter(|uri| !allows(uri)).collect(),
            taproot: TAPROOT_URIS.into_iter().filter(allows).collect(),
            more: self.permissions.iter().filter(|one| !is_theirs(one)).cloned().collect(),
        }
    }

    /// Its caveats, each in words; `now` decides what has expired.
    pub fn conditions(&self, now: OffsetDateTime) -> Vec<String> {
        self.caveats.iter().map(|caveat| describe(caveat, now)).collect()
    }

    /// When it expired, where it has by `now`.
    pub fn expired(&self, now: OffsetDateTime) -> Option<&str> {
        let ends = self.caveats.iter().filter_map(|caveat| caveat.strip_prefix("time-before "));
        ends.into_iter().find(|end| OffsetDateTime::parse(end, &Rfc3339).is_ok_and(|end| end <= now))
    }

    fn held(&self) -> Vec<String> {
        self.permissions.iter().map(ToString::to_string).collect()
    }
}

/// A caveat in words; `now` decides what has expired. The conditions that lnd checks are in its macaroons/constraints.go and
/// go-macaroon-bakery's checkers.
pub fn describe(caveat: &str, now: OffsetDateTime) -> String {
    let (name, argument) = caveat.split_once(' ').unwrap_or((caveat, ""));
    match name {
        "time-before" => match OffsetDateTime::parse(argument, &Rfc3339) {
            Ok(end) if end <= now => format!("expired at {argument}"),
            Ok(_) => format!("until {argument}"),
            Err(_) => format!("{caveat} (no time: lnd refuses it)"),
        },
        "ipaddr" | "iprange" => format!("from {argument} alone, where lnd sees the caller's address"),
        "lnd-custom" => format!("where a middleware of lnd's takes it upon itself: {argument}"),
        _ => caveat.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::macaroon::tests::{sample, with_permissions};

    fn holding(permissions: &[&str]) -> Macaroon {
        let split = |text: &&str| {
            let (entity, action) = text.split_once(':').unwrap();
            (entity.to_owned(), action.to_owned())
        };
        Macaroon::parse(with_permissions(permissions.iter().map(split).collect())).unwrap()
    }

    fn least() -> Vec<String> {
        SIGNER_URIS.iter().map(|uri| format!("uri:{uri}")).collect()
    }

    #[test]
    fn the_least_one_fits_and_still_spends() {
        let least = least();
        let macaroon = holding(&least.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(macaroon.fit(), Fit { missing: vec![], taproot: vec![], more: vec![] });
        let powers = macaroon.powers();
        assert!(powers.len() == 3 && powers[0].contains("spend"), "{powers:?}");
    }

    #[test]
    fn keys_are_had_with_both_of_musig2s_calls_or_with_lnds_own_word_for_them() {
        let keys = |permissions: &[&str]| holding(permissions).powers().iter().any(|power| power.contains("private"));
        let (create, sign) = ("uri:/signrpc.Signer/MuSig2CreateSession", "uri:/signrpc.Signer/MuSig2Sign");
        assert!(keys(&[create, sign]) && keys(&["signer:generate"]));
        assert!(!keys(&[create]) && !keys(&[sign]) && !keys(&["signer:read", "onchain:write"]));
    }

    #[test]
    fn lnds_words_cover_what_a_watch_only_node_calls_and_are_more_than_it_needs() {
        let fit = holding(&["onchain:write", "signer:generate"]).fit();
        assert!(
            fit.missing.is_empty() && fit.taproot.len() == TAPROOT_URIS.len() - 1 && fit.more.len() == 2,
            "{fit:?}"
        );
        assert_eq!(holding(&["signer:generate"]).fit().missing, ["/walletrpc.WalletKit/SignPsbt"]);
        assert_eq!(holding(&["info:read"]).fit().missing, SIGNER_URIS);
    }

    #[test]
    fn every_call_of_the_signers_role_is_some_power() {
        for uri in SIGNER_URIS {
            assert!(!holding(&[&format!("uri:{uri}")]).powers().is_empty(), "{uri}");
        }
        assert!(holding(&["uri:/lnrpc.State/GetState", "info:read"]).powers().is_empty());
    }

    #[test]
    fn only_what_is_known_to_read_is_no_power() {
        let unjudged = |permissions: &[&str]| holding(permissions).unjudged().len();
        let reads = ["uri:/lnrpc.State/GetState", "uri:/lnrpc.Lightning/GetInfo", "info:read", "offchain:read"];
        assert_eq!(unjudged(&reads), 0);
        for one in [
            "uri:/walletrpc.WalletKit/SignMessageWithAddr",
            "uri:/lnrpc.Lightning/OpenChannel",
            "uri:/walletrpc.WalletKit/BumpFee",
            "uri:/signrpc.Signer/MuSig2CreateSession",
            "address:write",
            "address:read",
            "whatever:read",
        ] {
            assert!(holding(&[one]).powers().is_empty() && unjudged(&[one]) == 1, "{one}");
            assert_eq!(unjudged(&[one, "info:write"]), 1, "{one} beside a power");
        }
        let (least, taproot) = (least(), TAPROOT_URIS.map(|uri| format!("uri:{uri}")));
        let bundles: Vec<&str> = least.iter().chain(&taproot).map(String::as_str).collect();
        assert_eq!((unjudged(&bundles[..least.len()]), unjudged(&bundles)), (0, 0), "what lsm hands out it judges");
    }

    #[test]
    fn caveats_are_told_and_an_end_that_has_come() {
        let macaroon = Macaroon::parse(sample()).unwrap();
        let at = |text: &str| macaroon.conditions(OffsetDateTime::parse(text, &Rfc3339).unwrap());
        assert_eq!(at("2029-12-31T23:59:59Z"), ["until 2030-01-01T00:00:00Z"]);
        assert_eq!(at("2030-01-01T00:00:00Z"), ["expired at 2030-01-01T00:00:00Z"]);
        let now = OffsetDateTime::UNIX_EPOCH;
        assert!(describe("ipaddr 10.0.0.7", now).starts_with("from 10.0.0.7 alone"));
        assert_eq!(describe("time-before soon", now), "time-before soon (no time: lnd refuses it)");
        assert_eq!(describe("whatever", now), "whatever");
    }
}
