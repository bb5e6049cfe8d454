//! A signer in a container, and what may befall its making: lsm killed at every step, an engine that dies, is full, is too
//! old or no Docker at all; a port, a volume or an image that is not as lsm needs it.

use crate::docker_others::STRANGE;
use crate::faults::chain;
use crate::faults::cut;
use crate::faults::cut::Moment;
use crate::faults::fault::{Fault, Place};
use crate::faults::held::{Held, assert_complete};
use crate::faults::matrix::{COLUMNS, Counts};
use crate::lab::process::Done;
use crate::lab::trace::Fate;
use crate::stage::{PORT, Stage, assert_unchanged};
use nix::errno::Errno;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

const PLACES: [Place; 4] = [Place::During(2), Place::After, Place::Before, Place::Told];

fn install(stage: &Stage) -> Vec<String> {
    let mut arguments = stage.arguments();
    arguments.extend(["--backend=docker", "--yes"].map(str::to_owned));
    arguments
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn what_is_killed_at_every_step_goes_on_and_back() {
    let Some(stage) = Stage::in_docker("docker-killed") else { return };
    let (before, mut held) = (stage.state_in_docker(), Held::default());
    let killed = chain::run(&stage, &install(&stage), &PLACES, &mut held);
    assert!(killed.len() >= 20, "{killed:?}");
    for kind in ["image", "network", "volume", "wallet", "container", "firewall"] {
        assert!(killed.iter().any(|step| step.starts_with(kind)), "{kind} in {killed:?}");
    }
    assert_complete(&stage, "after the last resume");
    let back = chain::run(&stage, &words("uninstall --yes"), &PLACES, &mut held);
    assert!(back.len() >= 10, "{back:?}");
    println!("MEASURED steps of a container's at which lsm was killed, and went on: {}", killed.len() + back.len());
    assert!(held.has_wallet(), "an uninstall keeps it");
    // The same wallet again; then all of it goes.
    stage.host.lsm(install(&stage)).ok();
    held.look(&stage, "installed again");
    assert_complete(&stage, "installed again");
    stage.host.lsm(words("uninstall --purge --confirm=signer --yes")).ok();
    stage.host.sh("rm -r /root/out/*").ok();
    held.forget();
    held.look(&stage, "purged");
    assert_unchanged(&before, &stage.state_in_docker());
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_the_making_of_a_container() {
    let Some(stage) = Stage::in_docker("docker-making") else { return };
    let before = stage.state_in_docker();
    go_through(&stage, "install, docker", &install(&stage), assert_complete, |stage, when| {
        // Of what never began there is no journal, and of what was purged none either.
        stage.host.lsm(words("rollback --yes")).ok();
        stage.host.lsm(words("uninstall --purge --confirm=signer --yes")).ok();
        stage.host.sh("rm -rf /root/out/*").ok();
        println!("{when}: as it was");
        assert_unchanged(&before, &stage.state_in_docker());
    });
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_the_going_of_a_container() {
    let Some(stage) = Stage::in_docker("docker-going") else { return };
    stage.host.lsm(install(&stage)).ok();
    let is_gone = |stage: &Stage, when: &str| {
        assert_eq!(stage.host.lsm(["uninstall", "--dry-run", "--json"]).json(), json!({"steps": []}), "{when}");
    };
    go_through(&stage, "uninstall, docker", &words("uninstall --yes"), is_gone, |stage, when| {
        stage.host.lsm(words("rollback --yes")).ok();
        println!("{when}: as it was");
        assert_complete(stage, when);
    });
}

/// What of a signer's an engine has a part in; of every other step a unit's signer has the same, and the same row.
const ENGINES: [&str; 6] = ["image", "network", "volume", "wallet", "container", "restore"];

/// Kills a verb at each step, and runs it once for each fault and step of the engine's, and writes the verb's row of the fault
/// matrix. Whatever befell it, there is one wallet or none; run again it comes to its end, by `done`, or `back` brings the host
/// back to where it begins, and holds that.
#[track_caller]
fn go_through(
    stage: &Stage,
    verb: &'static str,
    arguments: &[String],
    done: impl Fn(&Stage, &str),
    back: impl Fn(&Stage, &str),
) {
    let steps = count_steps(stage, arguments);
    done(stage, verb);
    back(stage, verb);
    let mut counts = Counts::new(verb, steps.len());
    for place in [Place::Before, Place::During(2), Place::After] {
        let (when, tried) = (format!("killed {place:?} each step"), u32::try_from(steps.len()).expect("few"));
        counts.count(COLUMNS[0], &when, tried, || {
            let killed = chain::run(stage, arguments, &[place], &mut Held::default());
            // Those of one name count once.
            let names: BTreeSet<_> = steps.iter().map(|(name, _)| name).collect();
            assert!(killed.len() + 2 >= names.len(), "only {killed:?}");
            done(stage, &when);
            back(stage, &when);
        });
    }
    let is_engines = |name: &str| {
        let (kind, about) = name.split_once(' ').unwrap_or((name, ""));
        ENGINES.contains(&kind) && !(kind == "restore" && about.starts_with('/'))
    };
    for (nth, (name, changes)) in steps.iter().enumerate().filter(|(_, (name, _))| is_engines(name)) {
        let middle = Place::During(changes.div_ceil(2).max(1));
        let kills = [Place::Before, middle, Place::After].map(|place| (COLUMNS[1], Fault::Kill(place)));
        let errors =
            [(COLUMNS[4], Errno::ENOSPC), (COLUMNS[5], Errno::EACCES)].map(|(column, e)| (column, Fault::Error(e)));
        for (column, fault) in kills.into_iter().chain(errors).filter(|(_, fault)| fault.befalls(name, *changes)) {
            let when = format!("step {nth} ({name}), {fault:?}");
            counts.count(column, &when, 1, || {
                let befallen = fault.run(&stage.host, arguments, nth, || {});
                assert_ne!(befallen.code, 0, "{befallen:?}");
                Held::default().look(stage, &when);
                back(stage, &when);
            });
        }
    }
    println!("MEASURED faults during {verb} that left nothing half done: {}", counts.total());
    counts.keep();
    assert!(counts.failures.is_empty(), "{:#?}", counts.failures);
}

/// Runs a verb to its end; what each of its steps is called, and how many of its calls change something.
#[track_caller]
fn count_steps(stage: &Stage, arguments: &[String]) -> Vec<(String, u32)> {
    let mut steps: Vec<(String, u32)> = Vec::new();
    let done = cut::run(&stage.host, arguments, |step, moment| {
        match moment {
            Moment::Written(line) if line.event == "intent" => steps.push((step.to_owned(), 0)),
            Moment::Change(n) => steps.last_mut().expect("a step").1 = *n,
            _ => {}
        }
        Fate::Go
    });
    assert_eq!(done.code, 0, "{done:?}");
    steps
}

/// Runs an install at whose step `kind` this befalls the host.
fn befallen(stage: &Stage, kind: &str, what: &str) -> Done {
    let mut befallen = false;
    cut::run(&stage.host, &install(stage), |step, moment| {
        let is_it = step.starts_with(kind) && matches!(moment, Moment::Written(line) if line.event == "intent");
        if is_it && !std::mem::replace(&mut befallen, true) {
            stage.host.sh(what).ok();
        }
        Fate::Go
    })
}

#[test]
fn an_engine_that_dies_or_fills_up_in_the_middle_costs_nothing() {
    let Some(stage) = Stage::in_docker("docker-dies") else { return };
    stage.host.sh("systemctl stop docker.socket docker && mount -t tmpfs -o size=1400m tmpfs /var/lib/docker").ok();
    stage.host.sh("systemctl start docker.socket docker").ok();
    let before = stage.state_in_docker();
    // Too little room beforehand, and room that somebody else takes in the meantime.
    stage.host.sh("head -c 1100M /dev/zero >/var/lib/docker/fill").ok();
    let full = stage.host.lsm(install(&stage));
    assert!(full.code == 3 && full.stderr.contains("E-DOCKER-004"), "{full:?}");
    stage.host.sh("rm /var/lib/docker/fill").ok();
    let full = befallen(&stage, "image", "head -c 1350M /dev/zero >/var/lib/docker/fill");
    assert!(full.code == 1 && full.stderr.contains("no space left"), "{full:?}");
    stage.host.sh("rm /var/lib/docker/fill").ok();
    // The journal tells of it.
    let after: Vec<String> =
        stage.state_in_docker().into_iter().filter(|line| !line.contains("/var/lib/lsm")).collect();
    assert_unchanged(&before, &after);

    for kind in ["image", "wallet", "container"] {
        let dead = befallen(&stage, kind, "systemctl stop docker.socket docker");
        assert!(dead.code == 3 && dead.stderr.contains("no engine answers"), "{kind}: {dead:?}");
        stage.host.sh("systemctl start docker.socket docker").ok();
        stage.host.lsm(install(&stage)).ok();
        assert_complete(&stage, kind);
        stage.host.lsm(words("uninstall --purge --confirm=signer --yes")).ok();
        stage.host.sh("rm -r /root/out/*").ok();
        assert_unchanged(&before, &stage.state_in_docker());
    }
}

#[test]
fn a_taken_port_and_volume_are_left_alone_and_a_lost_image_is_made_again() {
    let Some(stage) = Stage::in_docker("docker-taken") else { return };
    let before = stage.state_in_docker();
    let taken = stage.host.inside(|| TcpListener::bind((stage.host.v4.as_str(), PORT)).expect("the port is free"));
    let refused = stage.host.lsm(install(&stage));
    assert!(refused.code == 3 && refused.stderr.contains("E-INSTALL-005"), "{refused:?}");
    drop(taken);
    let data = "/var/lib/docker/volumes/signer-data/_data";
    stage.host.sh(&format!("docker volume create signer-data && echo theirs >{data}/file")).ok();
    let refused = stage.host.lsm(install(&stage));
    assert!(refused.code == 1 && refused.stderr.contains("E-DOCKER-006"), "{refused:?}");
    assert_eq!(stage.host.run(["cat", &format!("{data}/file")]).ok(), "theirs\n");
    // Nothing in it yet, and somebody else's all the same.
    let other = "docker rm -f other && docker volume rm signer-data";
    stage
        .host
        .sh(&format!(
            "rm {data}/file && {} && docker create --name other -v signer-data:/theirs strange:1 true",
            STRANGE
        ))
        .ok();
    let refused = stage.host.lsm(install(&stage));
    assert!(refused.code == 1 && refused.stderr.contains("container other has"), "{refused:?}");
    stage.host.sh(&format!("{other} && docker rmi strange:1")).ok();
    // What the shell scripts before lsm kept under the same names.
    stage
        .host
        .sh("install -d -m 700 /root/.lnget/signer && echo the-only-copy >/root/.lnget/signer/wallet-password.txt")
        .ok();
    let refused = stage.host.lsm(install(&stage));
    assert!(refused.code == 1 && refused.stderr.contains("E-DOCKER-012"), "{refused:?}");
    assert_eq!(stage.host.run(["cat", "/root/.lnget/signer/wallet-password.txt"]).ok(), "the-only-copy\n");
    stage.host.sh("rm -r /root/.lnget").ok();
    assert_unchanged(&before, &stage.state_in_docker());

    stage.host.lsm(install(&stage)).ok();
    let image = stage.host.run(["docker", "inspect", "--format", "{{.Config.Image}}", "litd-signer"]).ok();
    stage.host.sh(&format!("docker rm -f litd-signer && docker rmi {image}")).ok();
    assert_ne!(stage.host.lsm(["status"]).code, 0, "it does not run");
    let start = stage.host.lsm(["start", "--yes"]);
    assert!(start.code != 0 && start.stderr.contains("lsm install"), "{start:?}");
    stage.host.lsm(install(&stage)).ok();
    assert_complete(&stage, "without its image");
}

#[test]
fn an_engine_that_will_not_do_is_named() {
    let Some(stage) = Stage::in_docker("docker-others") else { return };
    let before = stage.state_in_docker();
    // No such engine is to be had here: something that answers as they do.
    let old = r#"{"Version":"19.03.15","ApiVersion":"1.40","MinAPIVersion":"1.12"}"#;
    let podman = r#"{"Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24","Components":[{"Name":"Podman Engine","Version":"4.3.1"}]}"#;
    let rootless = r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
    for (version, code) in [(old, "E-ENGINE-003"), (podman, "E-ENGINE-005"), (rootless, "E-ENGINE-004")] {
        let listener = UnixListener::bind(stage.host.path("/run/fake.sock")).expect("a socket");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut asked = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut asked) {
                        let is_info = String::from_utf8_lossy(&asked[..read]).contains("/info");
                        let body = if is_info { r#"{"SecurityOptions":["name=rootless"]}"# } else { version };
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
                        let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
                    }
                });
            }
        });
        let line = ["env", "DOCKER_HOST=unix:///run/fake.sock", "/root/lsm"].map(str::to_owned);
        let refused = stage.host.run(line.into_iter().chain(install(&stage)));
        assert!(refused.code == 3 && refused.stderr.contains(code), "{code}: {refused:?}");
        stage.host.sh("rm /run/fake.sock").ok();
    }
    assert_unchanged(&before, &stage.state_in_docker());
}
