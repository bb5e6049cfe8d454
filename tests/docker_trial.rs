//! `lsm trial --backend docker`, on a real dockerd: a signature through two containers that reach each other alone, and
//! nothing of them afterwards.

use crate::lab;
use crate::lab::host::Debian;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::stage::Stage;
use lsm::release::known;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(700);

/// A user who may ask the engine, and is nobody else.
const VISITOR: &str = "useradd --create-home --groups docker visitor && mkdir -p /var/cache/lsm/archive/$NAME
    cp /root/archives/$NAME.tar.gz /var/cache/lsm/archive/$NAME/
    mkdir -p /home/visitor/.cache/lsm/archive && cp -r /var/cache/lsm/archive/$NAME /home/visitor/.cache/lsm/archive/
    chown -R visitor /home/visitor/.cache";

/// All that the engine holds, and what lsm would leave of a signer.
const HELD: &str =
    "docker ps -a --format '{{.Names}} {{.Image}} {{.State}}'; docker images -a --format '{{.Repository}}:{{.Tag}}'
    docker volume ls -q; docker network ls --format '{{.Name}}'; ip -brief link | cut -d' ' -f1 | sort
    find /etc/lsm /var/lib/lsm /run/lsm 2>/dev/null | sort; iptables-save | grep -v '^[:#]' | sort";

/// What lsm asks an engine for when it wants a network.
const CREATE: &[u8] = b"/networks/create";
/// What lsm asks an engine about the container that goes first at a trial's end.
const LAST: &[u8] = b"/containers/lsmtrial-1000-watch-only?";
/// What lsm asks an engine for between the two: the image, and each of its containers to be started.
const STAGES: [&str; 4] = [
    "/images/load",
    "/containers/lsmtrial-1000-create/start",
    "/containers/lsmtrial-1000-signer/start",
    "/containers/lsmtrial-1000-watch-only/start",
];

impl Stage {
    /// A host with a dockerd, and on it a user with the newest lnd in the cache.
    fn with_visitor(name: &str) -> Option<Self> {
        let stage = Self::boot_of(Debian::Docker, name)?;
        if known::newest().expect("releases").version != stage.release.version {
            lab::skip("the newest lnd is not built here");
            return None;
        }
        let archive = stage.archive_inside();
        let name = archive.rsplit('/').next().expect("a name").trim_end_matches(".tar.gz");
        stage.host.sh(&format!("NAME={name}; {VISITOR}")).ok();
        Some(stage)
    }

    fn trial_as_visitor(&self, before: &[&str], more: &[&str]) -> Done {
        let line = ["runuser", "-u", "visitor", "--", "env", "HOME=/home/visitor"];
        let trial = ["/usr/bin/lsm", "trial", "--backend", "docker"];
        self.host.run(line.iter().chain(before).chain(&trial).chain(more))
    }

    /// Ends lsm by this signal: with INT as ctrl-C does.
    fn end_lsm(&self, signal: &str) {
        self.host.sh(&format!("kill -{signal} $(grep -lx lsm /proc/[0-9]*/comm | cut -d/ -f3)")).ok();
    }

    fn held(&self) -> String {
        self.host.sh(HELD).ok()
    }
}

#[test]
fn a_trial_of_a_user_signs_in_two_containers_and_leaves_nothing_in_the_engine() {
    let Some(stage) = Stage::with_visitor("docker-trial") else { return };
    // Beside a signer, whose filter and containers are not the trial's.
    stage.install(&["--backend=docker"]).ok();
    let before = stage.held();
    let done = stage.trial_as_visitor(&[], &[]);
    let said = done.ok();
    assert!(said.contains("proved") && said.contains("signature"), "{said}");
    assert_eq!(stage.held(), before);
    let strangers = stage.host.sh("find /home/visitor/.lnget -not -user visitor").ok();
    assert_eq!(strangers, "", "all of it is the user's");

    let kept = stage.trial_as_visitor(&[], &["--keep", "--json"]).json();
    let names: Vec<&str> = kept["containers"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert_eq!(names.len(), 2, "{kept}");
    assert_eq!(kept["pids"], json!([]));
    let network = stage.host.run(["docker", "network", "inspect", "lsmtrial-1000"]).json();
    assert_eq!(
        (&network[0]["Internal"], network[0]["Containers"].as_object().map(|all| all.len())),
        (&json!(true), Some(2))
    );
    for name in &names {
        hold_confined(&stage, name);
    }
    for (what, port) in [("signer", 10012), ("watch_only", 10009)] {
        let address = kept[what].as_str().and_then(|at| at.split(':').next()).expect("an address");
        let stranger = stage.host.stranger();
        stranger.run(["ip", "route", "replace", &format!("{address}/32"), "via", &stage.host.v4]).ok();
        assert_ne!(stranger.knock(address, port, SOON), Met::Open, "{what} from outside");
    }
    // The next one takes away what was kept.
    stage.trial_as_visitor(&[], &[]).ok();
    assert_eq!(stage.held(), before);
}

/// Holds that a trial's container may do nothing.
#[track_caller]
fn hold_confined(stage: &Stage, name: &str) {
    let is = stage.host.run(["docker", "inspect", name]).json()[0].clone();
    assert_eq!(is["Config"]["User"], "1000:1000");
    let host = &is["HostConfig"];
    assert_eq!(
        (&host["ReadonlyRootfs"], &host["CapDrop"], &host["Privileged"]),
        (&json!(true), &json!(["ALL"]), &json!(false))
    );
    assert_eq!(
        is["NetworkSettings"]["Ports"].as_object().map_or(0, |ports| ports.values().filter(|at| !at.is_null()).count()),
        0
    );
    let security = host["SecurityOpt"].to_string();
    assert!(security.contains("no-new-privileges") && security.contains("seccomp="), "{security}");
    let pid = is["State"]["Pid"].to_string();
    for target in ["1.1.1.1", "10.77.0.4"] {
        let dial = format!("exec 3<>/dev/tcp/{target}/9");
        let out = stage.host.run(["nsenter", "-n", "-t", &pid, "timeout", "1", "bash", "-c", &dial]);
        assert!(out.code != 0 && out.stderr.contains("unreachable") || out.code == 124, "{name} to {target}: {out:?}");
    }
}

/// A trial of which `look` sees each piece of what it asks the engine, before the engine does.
fn broken_off(stage: &Stage, look: impl Fn(&[u8]) + Sync) -> Done {
    let slow = stage.host.path("/run/slow.sock");
    let listener = UnixListener::bind(&slow).expect("a socket");
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o666)).expect("the socket");
    let is_done = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            for client in listener.incoming().take_while(|_| !is_done.load(Ordering::SeqCst)) {
                scope.spawn(|| pass_on(stage, client.expect("a client"), &look));
            }
        });
        let done = stage.trial_as_visitor(&["DOCKER_HOST=unix:///run/slow.sock"], &[]);
        is_done.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&slow));
        done
    });
    fs::remove_file(&slow).expect("the socket");
    done
}

/// Between lsm and the engine.
fn pass_on(stage: &Stage, mut client: UnixStream, look: &impl Fn(&[u8])) {
    let mut engine = UnixStream::connect(stage.host.path("/run/docker.sock")).expect("the engine");
    let (mut answers, mut back) = (engine.try_clone().expect("one"), client.try_clone().expect("one"));
    std::thread::scope(|scope| {
        // Read to the end whether or not anybody listens: the engine has to have its say.
        scope.spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = std::io::copy(&mut answers, &mut std::io::sink());
        });
        let mut piece = [0; 1 << 16];
        while let Ok(read @ 1..) = client.read(&mut piece) {
            look(&piece[..read]);
            if engine.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = engine.shutdown(Shutdown::Write);
    });
}

/// A trial that is interrupted while its engine has yet to make the network, for which it is asked only a second later.
fn broken_off_while_a_network_is_made(stage: &Stage) -> Done {
    broken_off(stage, |piece| {
        if has(piece, CREATE) {
            stage.end_lsm("INT");
            std::thread::sleep(Duration::from_secs(1));
        }
    })
}

/// A trial that is interrupted at its end, while a container is taken away: where the cleaning up asks for the same, the
/// engine is asked for both at once.
fn broken_off_while_a_container_is_removed(stage: &Stage) -> Done {
    let asked = AtomicUsize::new(0);
    let is_there = || stage.host.run(["docker", "inspect", "lsmtrial-1000-watch-only"]).code == 0;
    broken_off(stage, |piece| {
        if has(piece, b"DELETE ") && has(piece, LAST) && is_there() {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                stage.end_lsm("INT");
            }
            let end = Instant::now() + Duration::from_secs(2);
            while asked.load(Ordering::SeqCst) < 2 && Instant::now() < end {
                std::thread::yield_now();
            }
        }
    })
}

/// A trial that is ended by this signal while its engine is asked for `what`.
fn broken_off_at(stage: &Stage, what: &str, signal: &str) -> Done {
    broken_off(stage, |piece| {
        if has(piece, what.as_bytes()) {
            stage.end_lsm(signal);
        }
    })
}

fn has(piece: &[u8], what: &[u8]) -> bool {
    piece.windows(what.len()).any(|part| part == what)
}

#[test]
fn a_trial_that_is_broken_off_or_cannot_begin_leaves_nothing() {
    let Some(stage) = Stage::with_visitor("docker-trial-off") else { return };
    let before = stage.held();
    let done = broken_off_while_a_network_is_made(&stage);
    assert_eq!((done.code, stage.held().as_str()), (130, before.as_str()), "{done:?}");
    let done = broken_off_while_a_container_is_removed(&stage);
    assert_eq!((done.code, stage.held().as_str()), (130, before.as_str()), "{done:?}");
    for what in STAGES {
        let done = broken_off_at(&stage, what, "INT");
        assert_eq!((done.code, stage.held().as_str()), (130, before.as_str()), "broken off at {what}: {done:?}");
    }
    // Killed, nothing could be taken away; the next one does it.
    let killed = broken_off_at(&stage, STAGES[2], "KILL");
    assert_ne!(stage.held(), before, "{killed:?}");
    stage.trial_as_visitor(&[], &[]).ok();
    assert_eq!(stage.held(), before);
    // Root's containers are not root.
    let kept = stage.host.lsm(["trial", "--backend=docker", "--keep", "--json"]).json();
    let name = kept["containers"][1].as_str().expect("a name");
    let user = stage.host.run(["docker", "inspect", "--format", "{{.Config.User}}", name]).ok();
    assert!(!user.starts_with('0') && user.contains(':'), "{user}");
    stage.host.lsm(["trial", "--backend=docker"]).ok();
    assert_eq!(stage.held(), before);

    let refused = |done: Done, id: &str| assert!(done.code == 3 && done.stderr.contains(id), "{done:?}");
    refused(stage.trial_as_visitor(&["DOCKER_HOST=unix:///run/none.sock"], &[]), "E-ENGINE-001");
    stage.host.sh("gpasswd -d visitor docker").ok();
    refused(stage.trial_as_visitor(&[], &[]), "E-ENGINE-002");
}
