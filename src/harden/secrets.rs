//! Secrets: how they lie on this host, and where they should not.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Found, Host, Kept, Kind, Needs, Place, Signer, Strewn, Unknown};
use crate::signer::macaroon::{Permission, SIGNER_URIS, TAPROOT_URIS};

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

/// Whoever may do one of these makes a macaroon with every permission.
const MAKES_MACAROONS: [&str; 2] = ["macaroon:generate", "macaroon:write"];
/// Each of these signs something (lnd: rpcserver.go, signrpc, walletrpc).
const SIGNS: [&str; 5] = ["signer:generate", "message:write", "onchain:write", "offchain:write", "signer:write"];

const CHECKS: &[Check] = &[
    Check {
        id: "SECR-001",
        title: "lnd's folder and the secrets in it are lnd's alone",
        why: "the wallet and the admin macaroon are in it: whoever reads them can try the password at leisure, or sign",
        mend: "chmod 0700 on the folder and 0600 on its secrets, setfacl -bR, chown to lnd's user",
        judge: Judge::Signer(folder),
    },
    Check {
        id: "SECR-002",
        title: "Nobody else can exchange lnd's folder or its sealed secrets",
        why: "whoever may write to a folder above them can put others in their place",
        mend: "chown root and chmod go-w on each folder that is named",
        judge: Judge::Signer(way),
    },
    Check {
        id: "SECR-003",
        title: "No seed lies on this host",
        why: "24 words are every key that this signer has or will have, with no password",
        mend: "copy it to paper or metal, then shred -u the file; take the line out of the history",
        judge: Judge::Host(seeds),
    },
    Check {
        id: "SECR-004",
        title: "No secret stands in lnd's arguments, environment or unit",
        why: "every user can read arguments and units, and every child inherits the environment",
        mend: "put it into a file and hand that over: LoadCredentialEncrypted= (systemd-creds encrypt)",
        judge: Judge::Signer(told),
    },
    Check {
        id: "SECR-005",
        title: "The password that unlocks the wallet is encrypted",
        why: "beside a wallet in clear text it opens every copy and every backup of this disk",
        mend: "lsm install; or systemd-creds encrypt --name=wallet-password, and LoadCredentialEncrypted= in the unit; a container is handed none: --backend native, or an encrypted disk",
        judge: Judge::Signer(password),
    },
    Check {
        id: "SECR-006",
        title: "No copy of the admin macaroon lies outside of lnd's folder",
        why: "it permits everything that lnd can do, and lnd cannot revoke it",
        mend: "shred -u the copies; where one has been away from this host: lsm macaroon revoke --admin",
        judge: Judge::Host(admin_macaroons),
    },
    Check {
        id: "SECR-007",
        title: "The watch-only node's macaroon permits what such a node calls, and nothing else",
        why: "with MuSig2 the caller chooses the secret nonce: two calls give a private key away",
        mend: "lsm bundle export makes one with three permissions; then lncli deletemacaroonid for the old one's root key",
        judge: Judge::Host(watch_only_macaroon),
    },
    Check {
        id: "SECR-008",
        title: "A bundle that lies on this host is its owner's alone",
        why: "its macaroon signs, and the key of channel.backup derives from a key in accounts.json",
        mend: "chmod 0600 its files; carry it to the watch-only host and shred -u it here",
        judge: Judge::Host(bundles),
    },
    Check {
        id: "SECR-009",
        title: "The files that systemd hands to lnd are root's alone",
        why: "they are the wallet's password and the key of its certificate",
        mend: "chown root: FILE && chmod 0600 FILE",
        judge: Judge::Signer(credentials),
    },
];

fn kept<'a>(host: &'a Host, signer: &Signer) -> Result<&'a Kept, Unknown> {
    let missing = || Unknown::new(format!("these facts say nothing of how {} keeps its secrets", signer.name));
    host.secrets.kept.get(&signer.name).ok_or_else(missing)
}

fn owner(kept: &Kept) -> Result<u32, Unknown> {
    kept.uid.ok_or_else(|| Unknown::new("it cannot be told which user lnd runs as"))
}

fn folder(host: &Host, signer: &Signer) -> Judged {
    let kept = kept(host, signer)?;
    let mut wrong = Vec::new();
    let mut loose = Vec::new();
    let all = [kept.folder.get(), kept.data.get(), kept.admin.get()];
    for (folder, secrets) in all.iter().flatten().flatten().filter_map(|places| places.split_first()) {
        let owner = owner(kept)?;
        let is_open = folder.is_shared() || folder.kind != Kind::Folder || ![0, owner].contains(&folder.uid);
        wrong.extend(is_open.then(|| folder.to_string()));
        for secret in secrets {
            let is_strange = secret.acl || secret.kind != Kind::File || ![0, owner].contains(&secret.uid);
            if is_strange || (is_open && secret.is_shared()) {
                wrong.push(secret.to_string());
            } else if secret.is_shared() {
                loose.push(secret.to_string());
            }
        }
    }
    // What is open is so wherever else nobody can look.
    if !wrong.is_empty() {
        return Ok(Verdict::none(wrong, ""));
    }
    let [own, data, admin] = all;
    let (own, data, _) = (own?, data?, admin?);
    let Some(first) = own.or(data) else {
        return Ok(Verdict::NotApplicable("lnd has no folder yet".to_owned()));
    };
    if !loose.is_empty() {
        return Ok(Verdict::Warn(format!("only the folder keeps others out: {}", few(&loose))));
    }
    Ok(Verdict::Pass(first.first().map(Place::to_string).unwrap_or_default()))
}

fn way(host: &Host, signer: &Signer) -> Judged {
    let kept = kept(host, signer)?;
    let owner = owner(kept)?;
    let above = kept.way.get()?.into_iter().flatten().filter(|place| place.is_open_to_others(owner));
    let mut open: Vec<String> = above.map(Place::to_string).collect();
    for credential in kept.credentials.need("unit of lnd")? {
        let above = credential.way.get()?.into_iter().flatten().filter(|place| place.is_open_to_others(0));
        open.extend(above.map(Place::to_string));
    }
    open.sort();
    open.dedup();
    if open.is_empty() {
        // Where nobody knows where its data is, nobody knows the way there.
        kept.data.get()?;
    }
    Ok(Verdict::none(open, "root's alone, or lnd's"))
}

fn seeds(host: &Host) -> Judged {
    let strewn = &host.secrets.strewn;
    settle(strewn, strewn.seeds.clone(), "none in homes, /etc, /srv, /opt, /tmp, backups or lnd's folder")
}

/// What was found; where nothing was, it depends on whether everything was seen.
fn settle(strewn: &Strewn, found: Vec<String>, good: &str) -> Judged {
    if found.is_empty() {
        hold_seen(strewn)?;
    }
    if found.is_empty() && strewn.cut_short {
        return Ok(Verdict::Warn(
            "nothing among the first some thousand files of each owner; there are more".to_owned(),
        ));
    }
    Ok(Verdict::none(found, good))
}

fn hold_seen(strewn: &Strewn) -> Result<(), Unknown> {
    if strewn.unseen.is_empty() { Ok(()) } else { Err(Unknown::new(format!("cannot look at {}", few(&strewn.unseen)))) }
}

fn told(host: &Host, signer: &Signer) -> Judged {
    let told = kept(host, signer)?.told.need("unit and no process")?;
    Ok(Verdict::none(told, "none"))
}

fn password(host: &Host, signer: &Signer) -> Judged {
    let settings = signer.settings.need("settings of lnd")?;
    if settings.is_on("noseedbackup") {
        return Ok(Verdict::Fail("noseedbackup: the wallet has the password that every such lnd has".to_owned()));
    }
    let kept = kept(host, signer)?;
    let named = settings.value("wallet-unlock-password-file").filter(|path| !path.is_empty());
    let Some(path) = named.or_else(|| handed(kept, signer)) else {
        let is_running = signer.process.get()?.is_some();
        let why = if is_running { "nothing on this host unlocks the wallet" } else { "lnd does not run" };
        return Ok(if is_running { Verdict::Pass(why.to_owned()) } else { Verdict::NotApplicable(why.to_owned()) });
    };
    // What systemd puts there, it reads from a credential by that name.
    let is_handed = ["$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/", "/run/credentials/"];
    if !is_handed.iter().any(|beginning| path.starts_with(beginning)) {
        // Not by what the process sees: these facts may be of another machine.
        let container = signer.container.get().ok().flatten();
        let there = container.and_then(|container| container.outside(path.as_ref())).unwrap_or_else(|| path.into());
        return Ok(Verdict::Fail(format!("{} holds it in clear text", there.display())));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    // The last one counts (systemd.unit(5)): drop-ins come after what they add to.
    let from = kept.credentials.need("unit of lnd")?.iter().rev().find(|credential| credential.name == name);
    let from = from.ok_or_else(|| Unknown::new(format!("lnd's unit does not say what the credential {name} is")))?;
    let place = from.place.get()?.map_or("a file that is not there", |place| place.path.as_str());
    let words = if from.sealed { "encrypted" } else { "clear text" };
    Ok(Verdict::hold(from.sealed, format!("{place}, {words}")))
}

/// The lnd in which lsm made the wallet was told of no password; at its next start its unit hands it this one.
fn handed(kept: &Kept, signer: &Signer) -> Option<&'static str> {
    let (Answer::Is(_), Answer::Is(all)) = (&signer.process, &kept.credentials) else { return None };
    let is_handed = all.iter().any(|credential| credential.name == "wallet-password");
    is_handed.then_some("$CREDENTIALS_DIRECTORY/wallet-password")
}

fn admin_macaroons(host: &Host) -> Judged {
    let strewn = &host.secrets.strewn;
    let copies = strewn.macaroons.iter().filter(|found| makes_macaroons(found));
    settle(strewn, copies.map(|found| found.place.path.clone()).collect(), "none")
}

fn makes_macaroons(found: &Found) -> bool {
    found.permissions.iter().any(|permission| MAKES_MACAROONS.contains(&permission.as_str()))
}

fn watch_only_macaroon(host: &Host) -> Judged {
    let taproot = host.signers.iter().any(|signer| matches!(&signer.spec, Answer::Is(spec) if spec.taproot_channels));
    judge_macaroons(&host.secrets.strewn, taproot)
}

/// Of those that sign, and those in bundles; `taproot` channels need MuSig2.
fn judge_macaroons(strewn: &Strewn, taproot: bool) -> Judged {
    let [needed, musig2] = [&SIGNER_URIS[..], &TAPROOT_URIS[..]]
        .map(|uris| uris.iter().map(|uri| Permission::uri(uri).to_string()).collect::<Vec<_>>());
    let signs = |permission: &String| {
        needed.contains(permission) || musig2.contains(permission) || SIGNS.contains(&permission.as_str())
    };
    // An admin macaroon that lies alone is another check's.
    let theirs = |found: &&Found| found.in_bundle || (!makes_macaroons(found) && found.permissions.iter().any(signs));
    let macaroons: Vec<&Found> = strewn.macaroons.iter().filter(theirs).collect();
    if macaroons.is_empty() {
        hold_seen(strewn)?;
        return Ok(Verdict::NotApplicable("no macaroon of a watch-only node lies on this host".to_owned()));
    }
    let (mut wrong, mut risky) = (Vec::new(), Vec::new());
    for found in &macaroons {
        let more: Vec<&str> =
            found.permissions.iter().filter(|one| !needed.contains(one)).map(String::as_str).collect();
        let is_asked_for = taproot && more.iter().all(|one| musig2.iter().any(|uri| uri == one));
        let words = format!("{} permits {}", found.place.path, few(&more));
        match more.is_empty() {
            true => {}
            false if is_asked_for => risky.push(words),
            false => wrong.push(words),
        }
    }
    if wrong.is_empty() && !risky.is_empty() {
        return Ok(Verdict::Warn(format!("as taproot channels ask: {}", few(&risky))));
    }
    Ok(Verdict::none(wrong, format!("{}: {} permissions", macaroons[0].place.path, needed.len())))
}

fn bundles(host: &Host) -> Judged {
    let strewn = &host.secrets.strewn;
    let macaroons = strewn.macaroons.iter().filter(|found| found.in_bundle).map(|found| &found.place);
    let parts: Vec<&Place> = strewn.bundles.iter().chain(macaroons).collect();
    let Some(first) = parts.first() else {
        hold_seen(strewn)?;
        return Ok(Verdict::NotApplicable("no bundle lies on this host".to_owned()));
    };
    let shared = parts.iter().copied().filter(|place| place.is_shared());
    let (loose, open): (Vec<&Place>, Vec<&Place>) = shared.partition(|place| strewn.guarded.contains(&place.path));
    if open.is_empty() && !loose.is_empty() {
        let loose: Vec<String> = loose.into_iter().map(Place::to_string).collect();
        return Ok(Verdict::Warn(format!("only a folder above keeps others out: {}", few(&loose))));
    }
    Ok(Verdict::none(open, first.to_string()))
}

fn credentials(host: &Host, signer: &Signer) -> Judged {
    let kept = kept(host, signer)?;
    let credentials = kept.credentials.need("unit of lnd")?;
    if credentials.is_empty() {
        return Ok(Verdict::NotApplicable("lnd's unit hands it no file".to_owned()));
    }
    let mut wrong = Vec::new();
    for credential in credentials {
        let Some(place) = credential.place.get()? else { continue };
        if place.is_shared() || place.uid != 0 || place.kind != Kind::File {
            wrong.push(place.to_string());
        }
    }
    Ok(Verdict::none(wrong, "0600 and root's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::tests::recorded;

    fn found(permissions: &[&str], in_bundle: bool) -> Found {
        let place =
            Place { path: "/x".to_owned(), kind: Kind::File, mode: 0o600, uid: 0, acl: false, capabilities: false };
        Found { place, permissions: permissions.iter().map(|one| (*one).to_owned()).collect(), in_bundle }
    }

    #[test]
    fn a_macaroon_that_signs_has_the_documented_least() {
        let least = SIGNER_URIS.map(|uri| format!("uri:{uri}"));
        let least: Vec<&str> = least.iter().map(String::as_str).collect();
        let musig2 = [&least[..], &["uri:/signrpc.Signer/MuSig2Sign"]].concat();
        let admin = ["macaroon:generate", "onchain:write", "signer:generate"];
        // As lnd's own guide has it made (docs/remote-signing.md).
        let guide = ["message:write", "signer:generate", "address:read", "onchain:write"];
        for (permissions, in_bundle, taproot, verdict) in [
            (&least[..], true, false, "pass"),
            (&least[..], true, true, "pass"),
            (&musig2[..], true, false, "fail"),
            (&musig2[..], true, true, "warn"),
            (&guide[..], false, true, "fail"),
            (&admin[..], true, true, "fail"),
            // The copy of an admin macaroon is a finding of its own.
            (&admin[..], false, false, "na"),
            (&["info:read"][..], false, false, "na"),
        ] {
            let strewn = Strewn { macaroons: vec![found(permissions, in_bundle)], ..Strewn::default() };
            let judged = judge_macaroons(&strewn, taproot).unwrap();
            assert_eq!(judged.name(), verdict, "{permissions:?} {in_bundle} {taproot}");
        }
        let unseen = Strewn { unseen: vec!["/root".to_owned()], ..Strewn::default() };
        assert!(judge_macaroons(&unseen, false).is_err(), "what nobody saw is not absent");
    }

    #[test]
    fn a_wallet_outside_of_lnds_folder_is_judged_as_one_in_it() {
        let mut host = recorded();
        let signer = host.signers[0].clone();
        let place = |path: &str, kind, mode| {
            let uid = signer.docker().map_or(0, |docker| docker.uid);
            Place { path: path.to_owned(), kind, mode, uid, acl: false, capabilities: false }
        };
        let at = |mode, wallet| {
            Answer::Is(vec![place("/srv/x", Kind::Folder, mode), place("/srv/x/wallet.db", Kind::File, wallet)])
        };
        for (data, verdicts) in [
            (Answer::Absent, ["pass", "pass"]),
            (at(0o700, 0o600), ["pass", "pass"]),
            (at(0o700, 0o644), ["warn", "pass"]),
            (at(0o755, 0o644), ["fail", "pass"]),
            (Answer::Unknown("no".to_owned()), ["error", "error"]),
        ] {
            host.secrets.kept.get_mut(&signer.name).unwrap().data = data.clone();
            let told = [folder(&host, &signer), way(&host, &signer)];
            let told = told.map(|judged| judged.map_or("error", |verdict| verdict.name()));
            assert_eq!(told, verdicts, "{data:?}");
        }
    }
}
