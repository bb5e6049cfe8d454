//! Units: whether what runs now is what runs after a reboot, and what systemd denies lnd.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Needs, Process, Signer, Unit, Unknown, instance_of, names_of};
use crate::render::unit::{GUARD_UNIT, UNITS};
use sha2::{Digest, Sha256};
use std::path::Path;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "PROC-001",
        title: "lnd's unit denies it what a signer does not need",
        why: "what the unit leaves open is open to whoever takes over lnd",
        mend: "systemctl edit the unit and set what is missing (systemd.exec(5)); or lsm install",
        judge: Judge::Signer(sandboxed),
    },
    Check {
        id: "UNIT-001",
        title: "lsm's units are as lsm wrote them, with no drop-in but its own",
        why: "one drop-in undoes the whole sandbox, or starts something else in lnd's place",
        mend: "lsm status names what differs; lsm install puts it right, systemctl revert UNIT takes drop-ins away",
        judge: Judge::Signer(as_shipped),
    },
    Check {
        id: "UNIT-002",
        title: "The signer and its packet filter start at the next boot",
        why: "what is started by hand alone is gone after a reboot: the filter too",
        mend: "systemctl enable the unit",
        judge: Judge::Signer(enabled),
    },
    Check {
        id: "UNIT-003",
        title: "systemd runs the units that are on disk",
        why: "what was judged is not what the next restart runs",
        mend: "systemctl daemon-reload, and restart the unit",
        judge: Judge::Signer(reloaded),
    },
    Check {
        id: "UNIT-004",
        title: "The signer runs only behind its packet filter",
        why: "without the order there is a moment at boot, and after a failure all the time, when the port is open to all",
        mend: "lsm install",
        judge: Judge::Signer(behind_filter),
    },
    Check {
        id: "UNIT-005",
        title: "No unit of the signer has failed",
        why: "a signer, a port or a filter that has failed is not there",
        mend: "systemctl status and journalctl -u the unit say why",
        judge: Judge::Signer(healthy),
    },
    Check {
        id: "UNIT-006",
        title: "lnd is started again however it ends",
        why: "a signer that stays down closes no channel in time",
        mend: "Restart=always in its unit",
        judge: Judge::Signer(restarted),
    },
    Check {
        id: "UNIT-007",
        title: "Only root can write the files of the units",
        why: "whoever can write a unit runs what it likes as root",
        mend: "chown root:root and chmod 0644 the file",
        judge: Judge::Signer(of_root),
    },
];

/// Values that take nothing away.
const OPEN: [&str; 3] = ["", "no", "default"];

/// What an lnd cannot do without losing a layer that keeps its keys: each by itself is a failure.
const ESSENTIAL: [&str; 8] = [
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "SystemCallFilter",
    "RestrictNamespaces",
    "MemoryDenyWriteExecute",
];
/// What makes the rest of the kernel smaller for it.
const FURTHER: [&str; 16] = [
    "PrivateUsers",
    "PrivateIPC",
    "ProtectProc",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "SystemCallArchitectures",
    "RestrictAddressFamilies",
    "IPAddressDeny",
    "PrivateNetwork",
];

/// The signer's own unit, as systemd shows it; the verdict where there is none.
fn unit_of<'a>(host: &'a Host, signer: &Signer) -> Result<Result<&'a Unit, Verdict>, Unknown> {
    let Some(shown) = host.units.shown.get()? else {
        return Ok(Err(Verdict::NotApplicable("systemd does not run here".to_owned())));
    };
    if let Some(docker) = signer.docker() {
        return Ok(Err(Verdict::NotApplicable(format!("no unit runs lnd: the container {} does", docker.container))));
    }
    let Some(name) = names_of(signer).into_iter().next() else {
        return Ok(Err(Verdict::NotApplicable(format!("{} is in no unit of systemd's", signer.name))));
    };
    let unit = shown.get(&name).filter(|unit| unit.exists());
    unit.map(Ok).ok_or_else(|| Unknown::new(format!("systemd has no {name}: it may be a user's own")))
}

/// The verdict where there is no unit to judge. Of a container that lsm made there is the one of its packet filter.
fn no_units(host: &Host, signer: &Signer) -> Result<Option<Verdict>, Unknown> {
    let is_judged = signer.docker().is_some() && host.units.shown.get()?.is_some();
    if is_judged && units_of(host, signer)?.is_empty() {
        return Ok(Some(Verdict::Fail(format!("systemd has no {}", names_of(signer).join(", ")))));
    }
    Ok(if is_judged { None } else { unit_of(host, signer)?.err() })
}

/// Every unit of the signer that there is, with its name; none where [`unit_of`] says why.
fn units_of<'a>(host: &'a Host, signer: &Signer) -> Result<Vec<(String, &'a Unit)>, Unknown> {
    let shown = host.units.shown.get()?;
    let of = |name: String| shown?.get(&name).filter(|unit| unit.exists()).map(|unit| (name, unit));
    Ok(names_of(signer).into_iter().filter_map(of).collect())
}

/// Fails with each of the signer's units of which `wrong` says what is.
fn none_wrong(host: &Host, signer: &Signer, good: &str, wrong: impl Fn(&str, &Unit) -> Option<String>) -> Judged {
    if let Some(verdict) = no_units(host, signer)? {
        return Ok(verdict);
    }
    let units = units_of(host, signer)?;
    Ok(Verdict::none(units.iter().filter_map(|(name, unit)| wrong(name, unit)), good))
}

/// Judged by the directives themselves and not by the number of `systemd-analyze security`, which would be one more program
/// to start for each signer. lsm's own units, which come to at most 0.4 in isolated mode and less than 1.5 in host mode, set
/// every one: without an essential one, or without more than three of the others, it fails.
fn sandboxed(host: &Host, signer: &Signer) -> Judged {
    const LIMIT: usize = 3;
    let unit = match unit_of(host, signer)? {
        Ok(unit) => unit,
        Err(verdict) => return Ok(verdict),
    };
    let is_open = |property: &&&str| OPEN.contains(&unit.is(property));
    let mut missing: Vec<&str> = ESSENTIAL.iter().filter(is_open).copied().collect();
    let is_root = unit.is("DynamicUser") != "yes" && ["", "root", "0"].contains(&unit.is("User"));
    missing.extend(is_root.then_some("User"));
    // systemd shows the whole set where the unit says nothing, and nothing where it is empty.
    missing.extend((!unit.is("CapabilityBoundingSet").is_empty()).then_some("CapabilityBoundingSet"));
    missing.extend((!unit.is("AmbientCapabilities").is_empty()).then_some("AmbientCapabilities"));
    let is_grave = !missing.is_empty();
    // An lnd that listens on TCP itself has the host's network: the filter and IPAddressDeny= have to do.
    let listens = unit.words("RestrictAddressFamilies").any(|family| family == "AF_INET");
    let further: Vec<&str> =
        FURTHER.iter().filter(is_open).filter(|name| !(listens && **name == "PrivateNetwork")).copied().collect();
    let count = further.len();
    missing.extend(further);
    Ok(match (is_grave || count > LIMIT, missing.is_empty()) {
        (true, _) => Verdict::Fail(format!("not set: {}", few(&missing))),
        (false, false) => Verdict::Warn(format!("not set: {}", few(&missing))),
        (false, true) => Verdict::Pass("every directive that a signer can have".to_owned()),
    })
}

/// Folders of lsm's files; each drop-in of its own is in one of them under one of these names.
const FOLDER: &str = "/etc/systemd/system";
const DROP_INS: [&str; 2] = ["lsm.conf", "allow.conf"];

fn as_shipped(host: &Host, signer: &Signer) -> Judged {
    let is_contained = signer.docker().is_some();
    let Some(instance) = instance_of(signer).or_else(|| is_contained.then_some("")) else {
        return Ok(Verdict::NotApplicable("lsm did not write its unit".to_owned()));
    };
    let left = host.left.need("journal of lsm's")?;
    none_wrong(host, signer, "lsm's files alone", |name, unit| {
        let template = name.replace(&format!("@{instance}."), "@.");
        let shipped = UNITS
            .iter()
            .chain([&GUARD_UNIT])
            .find(|(file, _)| *file == template)
            .map(|(_, text)| hex::encode(Sha256::digest(text)));
        let sha256 = |path: &Path| host.units.files.get(path).and_then(|file| file.get().ok()??.sha256.clone());
        let is_as_left = |path: &Path| is_own(name, path) && sha256(path).is_some_and(|is| left.get(path) == Some(&is));
        let mut strange: Vec<String> = unit.files().skip(1).filter(|path| !is_as_left(path)).map(shown).collect();
        let fragment = Path::new(unit.is("FragmentPath"));
        let is = sha256(fragment);
        if fragment != Path::new(FOLDER).join(&template) || is.is_none() || is != shipped {
            strange.insert(0, format!("{} is not lsm's", fragment.display()));
        }
        (!strange.is_empty()).then(|| strange.join(", "))
    })
}

fn is_own(unit: &str, path: &Path) -> bool {
    DROP_INS.iter().any(|file| path == Path::new(FOLDER).join(format!("{unit}.d")).join(file))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn enabled(host: &Host, signer: &Signer) -> Judged {
    if is_by_hand(host, signer)? {
        return Ok(Verdict::Fail("somebody started it by hand: no unit does".to_owned()));
    }
    none_wrong(host, signer, "enabled", |name, unit| {
        let state = unit.is("UnitFileState");
        // The proxy's service is started by its socket.
        let starts = ["enabled", "static", "alias", "generated"].contains(&state);
        (!starts).then(|| format!("{name} is {}", if state.is_empty() { "transient" } else { state }))
    })
}

/// True of what systemd knows to run in a login session and in no unit (pam_systemd(8)).
fn is_by_hand(host: &Host, signer: &Signer) -> Result<bool, Unknown> {
    let has_systemd = host.units.shown.get()?.is_some();
    let in_session = signer.process.get()?.is_some_and(Process::is_of_session);
    Ok(has_systemd && in_session && names_of(signer).is_empty())
}

fn reloaded(host: &Host, signer: &Signer) -> Judged {
    none_wrong(host, signer, "as on disk", |name, unit| {
        (unit.is("NeedDaemonReload") != "no").then(|| format!("{name} changed on disk"))
    })
}

fn behind_filter(host: &Host, signer: &Signer) -> Judged {
    const FILTER: &str = "lsm-firewall.service";
    if signer.docker().is_some() {
        let why = "Docker starts its container, and lsm-firewall.service comes before any network: UNIT-002";
        return Ok(Verdict::NotApplicable(why.to_owned()));
    }
    if instance_of(signer).is_none() {
        return Ok(Verdict::NotApplicable("lsm did not write its unit".to_owned()));
    }
    none_wrong(host, signer, "after lsm-firewall.service, and not without it", |name, unit| {
        let lacks = |property: &str| !unit.words(property).any(|word| word == FILTER);
        let is_before = name != FILTER && (name.starts_with("lsm@") || name.ends_with(".socket"));
        (is_before && (lacks("Requires") || lacks("After"))).then(|| format!("{name} does not wait for {FILTER}"))
    })
}

fn healthy(host: &Host, signer: &Signer) -> Judged {
    none_wrong(host, signer, "none has failed", |name, unit| {
        (unit.is("ActiveState") == "failed").then(|| format!("{name} has failed"))
    })
}

fn restarted(host: &Host, signer: &Signer) -> Judged {
    if is_by_hand(host, signer)? {
        return Ok(Verdict::Fail("somebody started it by hand, and has to again".to_owned()));
    }
    Ok(match unit_of(host, signer)? {
        Err(_) if signer.docker().is_some() => {
            Verdict::NotApplicable("no unit runs lnd, and its container comes back by itself: CONT-012".to_owned())
        }
        Ok(unit) => Verdict::hold(unit.is("Restart") == "always", format!("Restart={}", unit.is("Restart"))),
        Err(verdict) => verdict,
    })
}

fn of_root(host: &Host, signer: &Signer) -> Judged {
    if let Some(verdict) = no_units(host, signer)? {
        return Ok(verdict);
    }
    let mut wrong = Vec::new();
    // A mask is a link to /dev/null, which everybody may write and nobody changes.
    for (_, unit) in units_of(host, signer)?.into_iter().filter(|(_, unit)| unit.is("LoadState") != "masked") {
        for path in unit.files() {
            let Some(file) = host.units.files.get(path) else { continue };
            let file = file.need(&format!("file {}", path.display()))?;
            let by_others = if file.gid == 0 { 0o002 } else { 0o022 };
            if file.uid != 0 || file.mode & by_others != 0 {
                wrong.push(format!("{} is {:04o} of {}:{}", path.display(), file.mode, file.uid, file.gid));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    Ok(Verdict::none(wrong, "root's alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_is_lsms_own_by_its_whole_path() {
        let unit = "lsm@signer.service";
        for (path, own) in [
            ("/etc/systemd/system/lsm@signer.service.d/lsm.conf", true),
            ("/etc/systemd/system/lsm@signer.service.d/x.conf", false),
            ("/run/systemd/system/lsm@signer.service.d/lsm.conf", false),
            ("/etc/systemd/system/lsm@.service.d/lsm.conf", false),
            ("/etc/systemd/system/service.d/lsm.conf", false),
        ] {
            assert_eq!(is_own(unit, Path::new(path)), own, "{path}");
        }
    }
}
