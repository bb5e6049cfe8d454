//! The programs that hold the keys: that they are what was verified, and stay so.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Answer, Host, Kind, Lnd, Needs, Place, Signer, Unknown, Vouched};
use crate::release::pins::Status;

const PRELOAD: &str = "/etc/ld.so.preload";

pub(super) const AREA: Area = Area { needs: Needs { texts: &[PRELOAD], programs: &[] }, checks: CHECKS };

/// Set-user-id and set-group-id (inode(7)).
const SET_ID: u32 = 0o6000;

const CHECKS: &[Check] = &[
    Check {
        id: "BIN-001",
        title: "lnd is the release that was verified, and root's alone to change",
        why: "whoever exchanges the program has the seed at its next start",
        mend: "lsm install; or chown root and chmod go-w on the program and each folder above it, and verify it anew",
        judge: Judge::Signer(program),
    },
    Check {
        id: "BIN-002",
        title: "lnd, lncli and lsm have no rights of their own",
        why: "whoever starts a program with set-id or file capabilities has its rights, whoever that is",
        mend: "chmod ug-s FILE; setcap -r FILE",
        judge: Judge::Host(own_rights),
    },
    Check {
        id: "BIN-003",
        title: "What spoke for lnd when it was installed speaks for it today",
        why: "a signer whose key was lost, or a pin that was withdrawn, vouches for nothing",
        mend: "lsm release verify the archive again; lsm upgrade to a release that is vouched for",
        judge: Judge::Signer(provenance),
    },
    Check {
        id: "BIN-004",
        title: "This version of lnd has no known fault",
        why: "a known fault is the first thing that an attacker tries",
        mend: "lsm upgrade; or install a release that lsm release list calls current",
        judge: Judge::Signer(version),
    },
    Check {
        id: "BIN-005",
        title: "Nothing is loaded into every program",
        why: "a library in ld.so.preload runs inside each program that root starts, lsm too",
        mend: "rm /etc/ld.so.preload",
        judge: Judge::Host(preload),
    },
    Check {
        id: "BIN-006",
        title: "Programs, units and libraries come from folders that root alone can change",
        why: "what somebody puts there, root or systemd runs",
        mend: "chown root and chmod go-w on each that is named",
        judge: Judge::Host(trusted),
    },
    Check {
        id: "BIN-007",
        title: "lsm's own programs are root's alone to change",
        why: "root runs lsm, and lsm starts lnd",
        mend: "chown -R root: /usr/local/lib/lsm && chmod -R go-w /usr/local/lib/lsm",
        judge: Judge::Host(own_programs),
    },
    Check {
        id: "BIN-008",
        title: "The lnd that runs is the one that is installed",
        why: "what was verified is the file; what holds the keys is the process",
        mend: "systemctl restart lnd's unit; if it stays so, look at what its ExecStart= names",
        judge: Judge::Signer(running),
    },
];

fn lnd<'a>(host: &'a Host, signer: &Signer) -> Result<Option<&'a Lnd>, Unknown> {
    host.binaries.lnd.get(&signer.name).unwrap_or(&Answer::Absent).get()
}

/// What nobody can judge that is not there.
fn no_program() -> Verdict {
    Verdict::NotApplicable("lnd's program is not on this host".to_owned())
}

fn program(host: &Host, signer: &Signer) -> Judged {
    let Some(lnd) = lnd(host, signer)? else {
        let spec = signer.spec.get()?;
        let gone = |spec: &crate::spec::Spec| Verdict::Fail(format!("lnd {} is not where lsm put it", spec.release));
        return Ok(spec.map_or_else(no_program, gone));
    };
    judge_program(lnd, signer.spec.get()?.map(|spec| spec.release.as_str()))
}

/// Whose it is, and whether it is what was `wanted`: a version, where lsm installed it.
fn judge_program(lnd: &Lnd, wanted: Option<&str>) -> Judged {
    let way = lnd.way.need("way to lnd's program")?;
    let open: Vec<String> =
        [&lnd.place].into_iter().chain(way).filter(|place| place.is_open_to_others(0)).map(Place::to_string).collect();
    if !open.is_empty() || lnd.place.kind != Kind::File {
        return Ok(Verdict::none(open, lnd.place.to_string()));
    }
    let judged = lnd.judged.get()?;
    let sha256 = lnd.sha256.need("program")?;
    let hash = &sha256[..sha256.len().min(16)];
    let evidence = |words: &str| format!("{}, sha256 {hash}..., is {words}", lnd.place.path);
    Ok(match (judged.filter(|judged| judged.by_hash), wanted) {
        (Some(is), Some(wanted)) if is.version != wanted => {
            Verdict::Fail(evidence(&format!("{}, not {wanted}", is.version)))
        }
        (Some(is), _) => Verdict::Pass(evidence(&is.version)),
        (None, Some(_)) if judged.is_some_and(|judged| judged.pinned.is_some()) => {
            Verdict::Fail(evidence("not what was verified"))
        }
        (None, Some(_)) => Verdict::Warn(evidence("of a release that lsm has no program's hash of")),
        (None, None) => Verdict::Warn(evidence("no release that lsm knows: who built it, only you can say")),
    })
}

fn own_rights(host: &Host) -> Judged {
    let mut places: Vec<&Place> = host.binaries.programs.get()?.into_iter().flatten().collect();
    for signer in &host.signers {
        places.extend(lnd(host, signer)?.map(|lnd| &lnd.place));
    }
    if places.is_empty() {
        return Ok(no_program());
    }
    let is_wrong = |place: &&&Place| place.kind == Kind::File && (place.mode & SET_ID != 0 || place.capabilities);
    let words = |place: &&Place| {
        let rights = if place.capabilities { " with file capabilities" } else { "" };
        format!("{}{rights}", place)
    };
    let mut wrong: Vec<String> = places.iter().filter(is_wrong).map(words).collect();
    wrong.dedup();
    Ok(Verdict::none(wrong, "none has set-id bits or capabilities"))
}

fn provenance(host: &Host, signer: &Signer) -> Judged {
    let Some(lnd) = lnd(host, signer)? else { return Ok(no_program()) };
    let Some(vouched) = lnd.vouched.get()? else {
        let installed = signer.spec.get()?.is_some();
        return Ok(match installed {
            true => Verdict::Fail("no provenance.json lies beside lnd: nothing says where it came from".to_owned()),
            false => Verdict::NotApplicable("lsm did not install this lnd".to_owned()),
        });
    };
    Ok(judge_vouched(vouched))
}

fn judge_vouched(vouched: &Vouched) -> Verdict {
    let Vouched { pin_holds, built, counted, believed, needed } = vouched;
    let how = if *built { "built from modules with known hashes" } else { "the archive that is pinned" };
    let Some(counted) = counted else {
        return Verdict::hold(*pin_holds, if *pin_holds { how } else { "not the archive that is pinned today" });
    };
    let evidence = format!("{believed} of {counted} signers are believed today, {needed} are asked for");
    match (pin_holds, believed >= needed) {
        (true, true) => Verdict::Pass(evidence),
        // Fewer were let pass by a flag: the pin speaks too.
        (true, false) if believed == counted => Verdict::Warn(evidence),
        (true, false) => Verdict::Fail(evidence),
        (false, _) => Verdict::Fail(format!("{evidence}; it is not the archive that is pinned today")),
    }
}

fn version(host: &Host, signer: &Signer) -> Judged {
    let Some(lnd) = lnd(host, signer)? else { return Ok(no_program()) };
    let Some(judged) = lnd.judged.get()? else {
        let hash = lnd.sha256.need("program")?;
        return Err(Unknown::new(format!("no release that lsm knows has the sha256 {hash}, and no folder names one")));
    };
    let how = if judged.by_hash { "" } else { " by its folder's name" };
    let reason = judged.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let evidence = format!("{}{how}{reason}", judged.version);
    Ok(match judged.status {
        Status::Current => Verdict::Pass(evidence),
        Status::Outdated => Verdict::Warn(evidence),
        Status::NeedsAcceptRisk | Status::Refused => Verdict::Fail(evidence),
    })
}

fn preload(host: &Host) -> Judged {
    let text = host.text(PRELOAD)?.unwrap_or_default();
    Ok(Verdict::none(text.split_whitespace().map(|path| format!("{PRELOAD}: {path}")), "nothing"))
}

fn trusted(host: &Host) -> Judged {
    let places = host.binaries.trusted.need("folder of programs")?;
    Ok(Verdict::none(open(places), "root's alone"))
}

fn own_programs(host: &Host) -> Judged {
    let Some(places) = host.binaries.programs.get()? else {
        return Ok(Verdict::NotApplicable("lsm is not installed on this host".to_owned()));
    };
    Ok(Verdict::none(open(places), "root's alone"))
}

fn open(places: &[Place]) -> impl Iterator<Item = String> {
    places.iter().filter(|place| place.is_open_to_others(0)).map(Place::to_string)
}

fn running(host: &Host, signer: &Signer) -> Judged {
    let Some(lnd) = lnd(host, signer)? else { return Ok(no_program()) };
    let Some(runs) = lnd.runs.get()? else { return Ok(Verdict::NotApplicable("lnd does not run".to_owned())) };
    let words = if *runs { "the process runs" } else { "the process runs another file than" };
    Ok(Verdict::hold(*runs, format!("{words} {}", lnd.place.path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit;

    fn place(path: &str, mode: u32, uid: u32) -> Place {
        Place { path: path.to_owned(), kind: Kind::File, mode, uid, acl: false, capabilities: false }
    }

    fn lnd(uid: u32, by_hash: Option<bool>) -> Lnd {
        let judged = |by_hash| audit::Judged {
            version: "v0.21.3-beta".to_owned(),
            status: Status::Current,
            reason: None,
            by_hash,
            pinned: Some("ab".to_owned()),
        };
        Lnd {
            place: place("/x/lnd", 0o755, uid),
            way: Answer::Is(vec![place("/x", 0o755, 0)]),
            sha256: Answer::Is("ab".to_owned()),
            runs: Answer::Is(true),
            judged: by_hash.map_or(Answer::Absent, |by_hash| Answer::Is(judged(by_hash))),
            vouched: Answer::Absent,
        }
    }

    #[test]
    fn an_lnd_is_what_was_installed_or_an_official_one_or_unknown() {
        let other = Some("v0.20.0-beta");
        let right = Some("v0.21.3-beta");
        for (uid, by_hash, wanted, verdict) in [
            (0, Some(true), right, "pass"),
            (0, Some(true), other, "fail"),
            (0, Some(false), right, "fail"),
            (0, None, right, "warn"),
            // One that lsm did not install.
            (0, Some(true), None, "pass"),
            (0, Some(false), None, "warn"),
            (0, None, None, "warn"),
            (1000, Some(true), None, "fail"),
        ] {
            let judged = judge_program(&lnd(uid, by_hash), wanted).unwrap();
            assert_eq!(judged.name(), verdict, "{uid} {by_hash:?} {wanted:?}: {judged:?}");
        }
        let unread = Lnd { sha256: Answer::Unknown("no".to_owned()), ..lnd(0, None) };
        assert!(judge_program(&unread, None).is_err(), "what nobody read has not passed");
    }

    #[test]
    fn those_who_vouched_are_counted_anew() {
        for (pin_holds, counted, believed, verdict) in [
            (true, None, 0, "pass"),
            (false, None, 0, "fail"),
            (true, Some(6), 5, "pass"),
            (true, Some(5), 4, "fail"),
            (true, Some(2), 2, "warn"),
            (false, Some(5), 5, "fail"),
        ] {
            let vouched = Vouched { pin_holds, built: false, counted, believed, needed: 5 };
            assert_eq!(judge_vouched(&vouched).name(), verdict, "{vouched:?}");
        }
    }
}
