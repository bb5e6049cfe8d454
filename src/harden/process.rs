//! The running lnd: what the kernel lets it do, whatever its unit says.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Answer, Needs, Process, Signer, Unknown};
use std::path::Path;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "PROC-003",
        title: "lnd cannot gain rights, calls a filtered kernel and has no capability",
        why: "whoever takes over lnd has what lnd has: with these three, next to nothing",
        mend: "lsm install; or NoNewPrivileges=yes, SystemCallFilter= and CapabilityBoundingSet= in its unit",
        judge: Judge::Signer(|_, signer| running(signer, sealed)),
    },
    Check {
        id: "PROC-004",
        title: "lnd leaves no core dump, and the system is read-only for it",
        why: "a core dump holds the seed, and a program or setting that lnd can write outlives its restart",
        mend: "LimitCORE=0 and ProtectSystem=strict in its unit",
        judge: Judge::Signer(|_, signer| running(signer, confined)),
    },
    Check {
        id: "PROC-005",
        title: "lnd runs the program that is on disk",
        why: "nobody can check any more what a program is whose file is gone, and after a restart it is another one",
        mend: "systemctl restart the unit of lnd",
        judge: Judge::Signer(|_, signer| running(signer, on_disk)),
    },
    Check {
        id: "PROC-006",
        title: "lnd could get no capability either",
        why: "a capability in any of the sets can be had by whatever lnd would execute",
        mend: "CapabilityBoundingSet= and AmbientCapabilities= in its unit, both empty",
        judge: Judge::Signer(|_, signer| running(signer, without_capabilities)),
    },
    Check {
        id: "PROC-007",
        title: "Nobody traces lnd",
        why: "whoever traces lnd reads the seed from its memory and signs what it likes",
        mend: "find out what it is (TracerPid in /proc/PID/status), and take the keys for stolen",
        judge: Judge::Signer(|_, signer| running(signer, untraced)),
    },
    Check {
        id: "PROC-008",
        title: "Nothing is loaded into lnd by its environment",
        why: "the dynamic linker loads what LD_PRELOAD names into lnd, next to its keys",
        mend: "take Environment=LD_... out of its unit and what starts it",
        judge: Judge::Signer(|_, signer| running(signer, unloaded)),
    },
    Check {
        id: "PROC-009",
        title: "Nothing but lnd runs as lnd's user",
        why: "a process of the same user reads lnd's files, and its memory where the kernel lets it",
        mend: "give lnd a user of its own (User= in its unit), and end the others",
        judge: Judge::Signer(|_, signer| running(signer, alone)),
    },
    Check {
        id: "PROC-010",
        title: "lnd has mounts, users and shared memory of its own",
        why: "without namespaces of its own lnd sees the whole host, and what it may do to it is left to file modes",
        mend: "ProtectSystem=strict, PrivateUsers=yes and PrivateIPC=yes in its unit",
        judge: Judge::Signer(|_, signer| running(signer, |process| apart(signer, process))),
    },
    Check {
        id: "PROC-011",
        title: "lnd is not root",
        why: "an lnd that is root hands the host to whoever takes it over",
        mend: "User= in its unit, with a user of its own",
        judge: Judge::Signer(|_, signer| running(signer, not_root)),
    },
    Check {
        id: "PROC-012",
        title: "lnd's memory and processes have limits, and none of it can be swapped out",
        why: "swap writes the seed to disk; without limits one peer's flood takes the host down",
        mend: "MemorySwapMax=0, MemoryMax= and TasksMax= in its unit",
        judge: Judge::Signer(|_, signer| running(signer, bounded)),
    },
    Check {
        id: "PROC-013",
        title: "lnd is in no group but its own",
        why: "whatever other groups may read, write or ask for is open to lnd too",
        mend: "take lnd's user out of the groups (gpasswd -d USER GROUP), and SupplementaryGroups= out of its unit",
        judge: Judge::Signer(|_, signer| running(signer, in_its_group)),
    },
    Check {
        id: "PROC-014",
        title: "What lnd writes is closed to others",
        why: "lnd writes wallets and macaroons; with an open umask every user can read what it makes",
        mend: "UMask=0077 in its unit",
        judge: Judge::Signer(|_, signer| running(signer, closes_files)),
    },
];

/// What comes of a check of the running process; nobody can look at one that does not run.
fn running(signer: &Signer, judge: impl FnOnce(&Process) -> Judged) -> Judged {
    match signer.process.get()? {
        Some(process) => judge(process),
        None => Ok(Verdict::NotApplicable("lnd does not run".to_owned())),
    }
}

fn sealed(process: &Process) -> Judged {
    hold_status(process, &[("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000")])
}

fn without_capabilities(process: &Process) -> Judged {
    let none = ["CapInh", "CapPrm", "CapBnd", "CapAmb"].map(|set| (set, "0000000000000000"));
    hold_status(process, &none)
}

fn untraced(process: &Process) -> Judged {
    // Not who: its number is another one next time.
    let tracer = status(process, "TracerPid")?;
    Ok(if tracer == "0" { Verdict::Pass("TracerPid 0".into()) } else { Verdict::Fail("a process traces it".into()) })
}

fn hold_status(process: &Process, wanted: &[(&str, &str)]) -> Judged {
    let mut wrong = Vec::new();
    for (name, value) in wanted {
        let is = status(process, name)?;
        if is != *value {
            wrong.push(format!("{name} is {is}, not {value}"));
        }
    }
    let good: Vec<String> = wanted.iter().map(|(name, value)| format!("{name} {value}")).collect();
    Ok(Verdict::none(wrong, good.join(", ")))
}

/// The system's folders, as systemd protects them with ProtectSystem=full (systemd.exec(5)), and the root.
const SYSTEM: [&str; 3] = ["/", "/usr", "/etc"];

fn confined(process: &Process) -> Judged {
    let core = core_limit(text(process, "limits")?)?;
    let mounts = text(process, "mountinfo")?;
    let mut wrong: Vec<String> =
        (core != ["0", "0"]).then(|| format!("core limit {}", core.join(" to "))).into_iter().collect();
    for path in SYSTEM {
        if is_writable(mounts, path)? {
            wrong.push(format!("{path} is writable"));
        }
    }
    Ok(Verdict::none(wrong, format!("core limit 0, read-only: {}", SYSTEM.join(" "))))
}

/// The soft and the hard limit of core files (proc_pid_limits(5)).
fn core_limit(limits: &str) -> Result<[&str; 2], Unknown> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.unwrap_or_default().split_whitespace();
    match (words.next(), words.next()) {
        (Some(soft), Some(hard)) => Ok([soft, hard]),
        _ => Err(Unknown::new("the kernel does not show the limit of core files")),
    }
}

/// True where the mount that `path` is on is writable: both the mount and its file system are (proc_pid_mountinfo(5)). Of
/// two mounts at one place the later is on top.
fn is_writable(mounts: &str, path: &str) -> Result<bool, Unknown> {
    let mut on: Option<(&str, bool)> = None;
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(point), Some(options), Some(of_system)) = (words.get(4), words.get(5), words.last()) else {
            continue;
        };
        let is_deeper = on.is_none_or(|(other, _)| point.len() >= other.len());
        if Path::new(path).starts_with(point) && is_deeper {
            let rw = |options: &str| options.split(',').any(|option| option == "rw");
            on = Some((point, rw(options) && rw(of_system)));
        }
    }
    on.map(|(_, writable)| writable).ok_or_else(|| Unknown::new(format!("no mount of the process's holds {path}")))
}

fn on_disk(process: &Process) -> Judged {
    let exe = process.exe.need("program of this process")?;
    Ok(Verdict::hold(!process.deleted, exe.display().to_string()))
}

fn unloaded(process: &Process) -> Judged {
    let names = process.environment.need("environment of this process")?;
    Ok(Verdict::none(names.iter().filter(|name| name.starts_with("LD_")), "no LD_ variable"))
}

fn alone(process: &Process) -> Judged {
    if process.uid == Some(0) {
        return Ok(Verdict::NotApplicable("lnd is root, as much else: see PROC-011".to_owned()));
    }
    let others = process.companions.need("user of this process")?;
    Ok(Verdict::none(others, "no other process of its user"))
}

fn apart(signer: &Signer, process: &Process) -> Judged {
    let mut shared = Vec::new();
    for (kind, apart) in &process.namespaces {
        if !*apart.need("such namespace")? {
            shared.push(format!("{kind} is the host's"));
        }
    }
    // Docker makes no users of a container's own unless it does for all of them, and lsm's container is nobody's number.
    let is_nobody = process.uid.is_some()
        && process.uid == signer.docker().filter(|docker| !docker.is_users()).map(|docker| docker.uid);
    if is_nobody && shared == ["user is the host's"] {
        return Ok(Verdict::Warn("user is the host's, of whose users it is none: CONT-001".to_owned()));
    }
    let good = process.namespaces.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Ok(Verdict::none(shared, format!("of its own: {good}")))
}

fn not_root(process: &Process) -> Judged {
    let ids = status(process, "Uid")?;
    let is_root = ids.split_whitespace().any(|id| id == "0");
    Ok(Verdict::hold(!is_root, format!("uid {}", ids.split_whitespace().next().unwrap_or_default())))
}

fn bounded(process: &Process) -> Judged {
    let mut wrong = Vec::new();
    for (name, bound) in &process.bounds {
        match bound.get()?.map(String::as_str) {
            Some("max") => wrong.push(format!("{name} is max")),
            Some("0") | None => {}
            Some(number) if name == "memory.swap.max" => wrong.push(format!("{name} is {number}")),
            Some(_) => {}
        }
    }
    let uncounted: Vec<&str> =
        process.bounds.iter().filter(|(_, bound)| **bound == Answer::Absent).map(|(name, _)| name.as_str()).collect();
    if !wrong.is_empty() {
        return Ok(Verdict::none(wrong, ""));
    }
    let shown = process.bounds.iter().filter_map(|(name, bound)| Some(format!("{name} {}", bound.get().ok()??)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    // What is not counted has no limit, whatever the unit says.
    let lacks = format!("this kernel counts no {} of it", uncounted.join(", "));
    Ok(if uncounted.is_empty() { Verdict::Pass(shown) } else { Verdict::Warn(lacks) })
}

fn in_its_group(process: &Process) -> Judged {
    let own = status(process, "Gid")?.split_whitespace().next().unwrap_or_default();
    let groups = status(process, "Groups")?.split_whitespace();
    Ok(Verdict::none(groups.filter(|gid| *gid != own).map(|gid| format!("gid {gid}")), format!("gid {own} alone")))
}

fn closes_files(process: &Process) -> Judged {
    let mask = status(process, "Umask")?;
    let bits = u32::from_str_radix(mask, 8).map_err(|_| Unknown::new(format!("umask {mask} is no number")))?;
    Ok(Verdict::hold(bits & 0o7 == 0o7, format!("umask {mask}")))
}

/// A line of the process's status.
fn status<'a>(process: &'a Process, name: &str) -> Result<&'a str, Unknown> {
    process
        .status(name)
        .ok_or_else(|| Unknown::new(format!("the kernel does not show {name} of process {}", process.pid)))
}

/// One of the process's files in /proc.
fn text<'a>(process: &'a Process, name: &str) -> Result<&'a str, Unknown> {
    process.texts.get(name).unwrap_or(&Answer::Absent).need(&format!("{name} of this process")).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_on_top_says_whether_a_path_can_be_written() {
        let mounts = "1 0 0:1 / / rw shared:1 - ext4 /dev/a rw\n2 1 0:1 / / ro - ext4 /dev/a rw\n\
            3 2 0:1 / /usr rw - ext4 /dev/a rw\n4 2 0:2 / /etc rw - overlay x ro\n5 2 0:1 / /us rw - ext4 /dev/a rw";
        for (path, writable) in [("/", false), ("/usr", true), ("/usr/lib", true), ("/etc", false), ("/var", false)] {
            assert_eq!(is_writable(mounts, path), Ok(writable), "{path}");
        }
        assert!(is_writable("", "/").is_err() && is_writable("garbage", "/").is_err());
    }

    #[test]
    fn the_core_limit_is_read_or_not_known() {
        let line = "Max core file size        0                    unlimited            bytes";
        assert_eq!(core_limit(line), Ok(["0", "unlimited"]));
        assert!(core_limit("Max core file size").is_err() && core_limit("").is_err());
    }
}
