//! The container that an lnd is in: what it may do, what it has of the host, and that it is the one that lsm made.

mod own;

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Container, Host, Needs, Profile, Rights, Signer, Unknown};
use crate::spec::Docker;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "CONT-001",
        title: "lnd in its container is no user of this host, and not root",
        why: "a number inside is the same number outside: root's there is root's here once it gets out",
        mend: "lsm install --backend docker; elsewhere --user NUMBER:NUMBER that nobody on this host has",
        judge: Judge::Signer(|host, signer| held(signer, |container| nobody(host, signer, container))),
    },
    Check {
        id: "CONT-002",
        title: "lnd's container has no capability, gains none and has no device",
        why: "privileged, or with some capabilities, a container is the host with another name",
        mend: "lsm install --backend docker; elsewhere --cap-drop ALL --security-opt no-new-privileges, and no --privileged",
        judge: Judge::Signer(|_, signer| held(signer, powerless)),
    },
    Check {
        id: "CONT-003",
        title: "lnd's container has lsm's filter of system calls, and it is in force",
        why: "each further call is a further way into the kernel that holds all containers",
        mend: "lsm install --backend docker, which brings its profile; never seccomp=unconfined",
        judge: Judge::Signer(|_, signer| held(signer, |container| filtered(signer, container))),
    },
    Check {
        id: "CONT-004",
        title: "The root of lnd's container is read-only",
        why: "a program that lnd can write outlives its restart",
        mend: "lsm install --backend docker; elsewhere --read-only with a volume for lnd's folder",
        judge: Judge::Signer(|_, signer| {
            held(signer, |container| {
                let words = if container.read_only { "read-only" } else { "writable" };
                Ok(Verdict::hold(container.read_only, words))
            })
        }),
    },
    Check {
        id: "CONT-005",
        title: "No secret stands in the environment, the command or the labels of lnd's container",
        why: "docker inspect shows all three to whoever may ask, and so does every backup of Docker's folder",
        mend: "mount a file of lnd's user in its place, 0600; then docker rm the container and make it anew",
        judge: Judge::Signer(|_, signer| held(signer, |container| Ok(Verdict::none(&container.told, "none")))),
    },
    Check {
        id: "CONT-006",
        title: "lnd's container has nothing of the host but its own files",
        why: "with Docker's socket, or a folder of the system's, lnd can do there what it likes",
        mend: "lsm install --backend docker; elsewhere take the mounts away that are named",
        judge: Judge::Signer(|_, signer| held(signer, |container| own::mounts(signer, container))),
    },
    Check {
        id: "CONT-007",
        title: "No other container has anything of lnd's",
        why: "who else mounts the wallet's volume reads it, however well lnd is shut in",
        mend: "docker stop and docker rm the container that is named, or take the mount away",
        judge: Judge::Signer(|_, signer| held(signer, unshared)),
    },
    Check {
        id: "CONT-008",
        title: "lnd's container has a network, processes and memory of its own",
        why: "in the host's network it is behind no filter; another container in its own is inside of it",
        mend: "lsm install --backend docker; elsewhere no --network host, --pid, --ipc, --uts or --userns, and docker network disconnect the others",
        judge: Judge::Signer(|_, signer| held(signer, |container| apart(signer, container))),
    },
    Check {
        id: "CONT-009",
        title: "lnd's container has limits: memory and no swap, processes, and no core dump",
        why: "swap and core dumps write the seed to disk; without limits one peer's flood takes the host down",
        mend: "lsm install --backend docker; elsewhere --memory and --memory-swap alike, --pids-limit, --ulimit core=0",
        judge: Judge::Signer(|_, signer| held(signer, bounded)),
    },
    Check {
        id: "CONT-010",
        title: "lnd's image is what lsm made of the verified lnd",
        why: "an image of somebody else under the same name is somebody else's lnd",
        mend: "lsm install --backend docker, which makes the image and the container anew; and find out who may talk to Docker",
        judge: Judge::Signer(|_, signer| held(signer, |container| own::image(signer, container))),
    },
    Check {
        id: "CONT-011",
        title: "lnd's container is published where it was asked for, and nowhere else",
        why: "an address too many is a network too many that reaches the calls that sign",
        mend: "lsm install --backend docker --listen ADDRESS:PORT; elsewhere -p ADDRESS:PORT:PORT with the address",
        judge: Judge::Signer(|_, signer| held(signer, |container| own::published(signer, container))),
    },
    Check {
        id: "CONT-012",
        title: "lnd's container comes back by itself, and its log does not fill the disk",
        why: "a signer that stays down, or cannot write, closes no channel in time",
        mend: "lsm install --backend docker; elsewhere --restart unless-stopped --log-opt max-size=10m --log-opt max-file=3",
        judge: Judge::Signer(|_, signer| held(signer, kept_up)),
    },
    Check {
        id: "CONT-013",
        title: "lnd's container says that it can sign",
        why: "an lnd that runs and stays locked is found when a channel needs it",
        mend: "docker inspect and docker logs the container; lsm status says what its lnd lacks",
        judge: Judge::Signer(|_, signer| held(signer, healthy)),
    },
];

/// What comes of a check of the signer's container.
fn held(signer: &Signer, judge: impl FnOnce(&Container) -> Judged) -> Judged {
    let asked = signer.container.get().map_err(|why| Unknown::new(format!("cannot tell: {why}")))?;
    match (asked, signer.docker()) {
        (Some(container), _) => judge(container),
        (None, Some(docker)) => Ok(Verdict::Fail(format!("there is no container {}", docker.container))),
        (None, None) => match signer.process.get()?.filter(|process| process.is_contained()) {
            Some(_) => Err(Unknown::new("cannot tell: its container's engine is none that lsm can ask")),
            None => Ok(Verdict::NotApplicable("lnd is in no container".to_owned())),
        },
    }
}

fn nobody(host: &Host, signer: &Signer, container: &Container) -> Judged {
    let parts: Vec<Option<u32>> = container.user.split(':').map(|part| part.parse().ok()).collect();
    let mut wrong: Vec<String> = Vec::new();
    match parts.first().copied().flatten() {
        // A name is looked up in the image, which may say that it is root.
        None if container.user.is_empty() => wrong.push("it runs as root, for nothing says as whom".to_owned()),
        None => wrong.push(format!("{} is a name, and no number", container.user)),
        Some(_) => {}
    }
    wrong.extend(parts.contains(&Some(0)).then(|| format!("it runs as {}", container.user)));
    let wanted = signer.docker().map(crate::backend::docker::owner).map(|owner| format!("{}:{}", owner.uid, owner.gid));
    wrong.extend(
        wanted.filter(|wanted| *wanted != container.user).map(|w| format!("it is {}, not {w}", container.user)),
    );
    wrong.extend(container.groups.iter().map(|group| format!("group {group}")));
    let running = signer.process.get()?.and_then(|process| process.uid);
    let numbers: Vec<u32> = parts.iter().flatten().copied().chain(running).collect();
    wrong.extend(running.filter(|uid| parts.first() != Some(&Some(*uid))).map(|uid| format!("its process is {uid}")));
    let users = host.accounts.users.need("/etc/passwd")?;
    let same = users.iter().find(|user| user.uid != 0 && numbers.contains(&user.uid));
    wrong.extend(same.map(|user| format!("{} of this host has the number {}", user.name, user.uid)));
    Ok(Verdict::none(wrong, format!("user {}, nobody of this host", container.user)))
}

fn powerless(container: &Container) -> Judged {
    let Rights { privileged, added, dropped, no_new, devices, .. } = &container.rights;
    let mut wrong: Vec<String> = privileged.then(|| "privileged".to_owned()).into_iter().collect();
    wrong.extend(added.iter().map(|one| format!("capability {one} added")));
    let is_all = dropped.iter().any(|one| one.eq_ignore_ascii_case("all"));
    wrong.extend((!is_all).then(|| "Docker's usual capabilities".to_owned()));
    wrong.extend((!no_new).then(|| "no no-new-privileges".to_owned()));
    wrong.extend(devices.iter().map(|one| format!("device {one}")));
    Ok(Verdict::none(wrong, "no capability, no-new-privileges, no device"))
}

fn filtered(signer: &Signer, container: &Container) -> Judged {
    let process = signer.process.get()?;
    let mode = process.map(|process| process.status("Seccomp").unwrap_or("not told"));
    if let Some(mode) = mode.filter(|mode| *mode != "2") {
        return Ok(Verdict::Fail(format!("no filter is in force: Seccomp is {mode}, not 2")));
    }
    let in_force = if mode.is_some() { ", in force" } else { "" };
    Ok(match (container.rights.seccomp, signer.docker()) {
        (_, _) if container.rights.privileged => Verdict::Fail("privileged: none is in force".to_owned()),
        (Profile::Own, _) => Verdict::Pass(format!("lsm's{in_force}")),
        (Profile::Unconfined, _) => Verdict::Fail("seccomp=unconfined".to_owned()),
        (Profile::Default, Some(_)) => Verdict::Fail("Docker's own, not lsm's".to_owned()),
        (Profile::Other, Some(_)) => Verdict::Fail("neither this lsm's nor Docker's".to_owned()),
        (Profile::Default, None) => Verdict::Warn("Docker's own, which allows some 300 calls".to_owned()),
        (Profile::Other, None) => Verdict::Warn("somebody's: what it allows, nobody here knows".to_owned()),
    })
}

fn unshared(container: &Container) -> Judged {
    let others = container.others.need("list of containers")?.iter();
    Ok(Verdict::none(others.map(|other| format!("{} has {}", other.name, few(&other.has))), "none"))
}

/// Whose namespaces it has. An engine calls its own differently from version to version: what is somebody else's is named.
fn apart(signer: &Signer, container: &Container) -> Judged {
    let docker = signer.docker();
    let mut wrong = Vec::new();
    for (kind, of) in &container.spaces {
        // Its files have numbers of the host's: an engine that maps users is told not to, and it has no right by that.
        let is_asked_for = kind == "userns" && docker.is_some_and(|docker: &Docker| docker.maps_users);
        let is_shared = of == "host" || of.starts_with("container:") || of == "shareable";
        wrong.extend((is_shared && !is_asked_for).then(|| format!("{kind} is {of}")));
    }
    if let (Answer::Is(spec), Some(docker)) = (&signer.spec, docker) {
        let own = docker.network(&spec.instance);
        let strange = container.networks.keys().filter(|name| **name != own);
        wrong.extend(strange.map(|name| format!("it is in the network {name}")));
        let misses = !container.networks.contains_key(&own);
        wrong.extend(misses.then(|| format!("it is not in the network {own}")));
    }
    for (name, network) in &container.networks {
        let others = network.need(&format!("network {name}"))?.others.iter();
        wrong.extend(others.map(|other| format!("{other} is in {name} too")));
    }
    Ok(Verdict::none(wrong, "its own, and nobody else's"))
}

/// What the engine cannot count it leaves out, and says so.
fn bounded(container: &Container) -> Judged {
    let (limits, counts) = (&container.limits, container.counts);
    let mut wrong: Vec<&str> = Vec::new();
    let mut uncounted: Vec<&str> = Vec::new();
    for (lacks, is_counted, name) in [
        (limits.memory.is_none(), counts.memory, "memory"),
        (limits.memory.is_none() || limits.with_swap != limits.memory, counts.swap, "swap"),
        (limits.pids.is_none(), counts.pids, "processes"),
    ] {
        match (lacks, is_counted) {
            (false, _) => {}
            (true, true) => wrong.push(name),
            (true, false) => uncounted.push(name),
        }
    }
    wrong.extend((limits.core != Some(0)).then_some("core dumps"));
    Ok(match (wrong.is_empty(), uncounted.is_empty()) {
        (false, _) => Verdict::Fail(format!("no limit of {}", few(&wrong))),
        (true, false) => Verdict::Warn(format!("this engine counts no {} of it", few(&uncounted))),
        (true, true) => Verdict::Pass(format!(
            "{} MiB and no swap, {} processes, no core dump",
            limits.memory.unwrap_or_default() >> 20,
            limits.pids.unwrap_or_default()
        )),
    })
}

fn kept_up(container: &Container) -> Judged {
    let log = &container.log;
    let mut wrong = Vec::new();
    let comes_back = ["always", "unless-stopped"].contains(&container.restart.as_str());
    wrong.extend((!comes_back).then(|| format!("restart policy {:?}", container.restart)));
    // The local driver and journald keep to limits of their own.
    let is_bounded = match log.driver.as_str() {
        "json-file" => log.size.is_some(),
        driver => ["local", "journald", "none"].contains(&driver),
    };
    wrong.extend((!is_bounded).then(|| format!("{} has no max-size", log.driver)));
    let size = log.size.as_deref().map(|size| format!(" of {size}")).unwrap_or_default();
    Ok(Verdict::none(wrong, format!("{}, {}{size}", container.restart, log.driver)))
}

fn healthy(container: &Container) -> Judged {
    let health = &container.health;
    Ok(match (health.asked, health.state.as_str()) {
        (true, "healthy") => Verdict::Pass("healthy: lsm ready asks its lnd".to_owned()),
        (_, "unhealthy" | "exited" | "dead" | "paused" | "restarting" | "created") => {
            Verdict::Fail(health.state.clone())
        }
        (true, "starting") => Verdict::Warn("starting: it has not been asked long enough".to_owned()),
        (true, _) => Verdict::Fail("its health check never ran".to_owned()),
        (false, _) => Verdict::Warn("nothing asks its lnd whether it can sign".to_owned()),
    })
}
