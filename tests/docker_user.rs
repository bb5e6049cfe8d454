//! A signer in a container that a user installs without root, on a real host with a real dockerd.

use crate::lab::host::Debian;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::lab::wait_for;
use crate::stage::{PORT, Stage, assert_unchanged};
use lsm::bundle::Bundle;
use lsm::signer::Node;
use lsm::watch_only::prove_at_signer;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(700);
/// Where its owner dials it.
const LISTEN: &str = "127.0.0.1:10012";
/// Its bundle, unless another place is named.
const BUNDLE: &str = "/home/op/.lnget/signer/credentials-bundle";
/// The place that was named.
const HANDED: &str = "/home/op/out/bundle";
/// The user's home.
const HOME: &str = "/home/op";

/// What an install says besides.
const INSTALL: [&str; 6] = [
    "install",
    "--network=regtest",
    "--backend=docker",
    "--from=/home/op/archives",
    "--seed-out=/home/op/out/seed",
    "--yes",
];

impl Stage {
    /// Makes the user op, whose number is not that of its group, on a host with a dockerd. `None`, said as a skip, where this
    /// machine cannot.
    fn with_user(name: &str) -> Option<Self> {
        let stage = Self::boot_of(Debian::Docker, name)?;
        stage.host.copy_in(&stage.release.archive()?, &format!("{HOME}/archives/{}", stage.archive_name()), 0o644);
        let made = "groupadd -g 1600 ops && useradd -u 1500 -g ops -G docker -d /home/op op &&
            chown op:ops /home/op && install -d -m 700 -o op -g ops /home/op/out";
        stage.host.sh(made).ok();
        Some(stage)
    }

    fn archive_name(&self) -> String {
        let inside = self.archive_inside();
        inside.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Runs a line as the user op.
    #[track_caller]
    fn as_user(&self, line: &[&str]) -> Done {
        let who = ["setpriv", "--reuid=1500", "--regid=1600", "--init-groups", "--reset-env", "--"];
        self.host.run(who.iter().chain(line))
    }

    /// Runs lsm as the user op.
    #[track_caller]
    fn lsm_as_user(&self, args: &[&str]) -> Done {
        self.as_user(&[&["/usr/bin/lsm"], args].concat())
    }

    /// Has the signer sign for whoever holds the bundle at `place` on this host.
    #[track_caller]
    fn hold_signature(&self, place: &str) {
        let bundle = Bundle::read(&self.host.path(place).to_string_lossy());
        let bundle = bundle.expect("a bundle");
        let node = Node::new(LISTEN.parse().expect("an endpoint"), &bundle.certificate).with_macaroon(&bundle.macaroon);
        let proof = self.host.inside(|| prove_at_signer(&node, bundle.identity_pubkey()));
        proof.expect("it signs");
    }

    /// Holds that nobody of another machine or container gets to it, on any road.
    #[track_caller]
    fn hold_loopback_alone(&self) {
        let is = self.host.run(["docker", "inspect", "litd-signer"]).json()[0].clone();
        let networks = is["NetworkSettings"]["Networks"].as_object().expect("networks");
        let inside =
            networks.values().find_map(|network| network["IPAddress"].as_str()).expect("an address").to_owned();
        let stranger = self.host.stranger();
        assert_ne!(stranger.knock(&self.host.v4, PORT, SOON), Met::Open, "the published port");
        stranger.run(["ip", "route", "replace", &format!("{inside}/32"), "via", &self.host.v4]).ok();
        assert_ne!(stranger.knock(&inside, PORT, SOON), Met::Open, "the container's own address");
        // It is the hops that keep it away: with as many as usual it gets there, past this engine's own rules.
        let pid = is["State"]["Pid"].to_string();
        let allow = |hops: &str| {
            let script = format!("echo {hops} >/proc/sys/net/ipv4/ip_default_ttl");
            self.host.run(["nsenter", "-t", &pid, "-n", "sh", "-c", &script]).ok();
        };
        allow("64");
        assert_eq!(stranger.knock(&inside, PORT, SOON), Met::Open, "with more hops");
        allow("1");
        assert_ne!(stranger.knock(&inside, PORT, SOON), Met::Open, "and with one again");
    }
}

/// The names of what failed.
fn failed(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["verdict"] == "fail").filter_map(|finding| finding["id"].as_str()).collect()
}

#[test]
fn a_user_of_the_engine_installs_without_root_and_leaves_no_trace() {
    let Some(stage) = Stage::with_user("docker-user") else { return };
    let (host, before) = (&stage.host, stage.state_in_docker());
    for (more, what) in [("--listen=10.77.0.2:10012", "--listen"), ("--allow=10.77.0.3", "allowlist")] {
        let refused = stage.lsm_as_user(&[&INSTALL[..], &[more]].concat());
        assert!(
            refused.code == 3 && refused.stderr.contains("E-DOCKER-007") && refused.stderr.contains(what),
            "{refused:?}"
        );
    }
    let steps = stage.lsm_as_user(&[&INSTALL[..], &["--dry-run", "--json"]].concat()).json();
    assert!(steps["steps"].as_array().expect("steps").iter().all(|step| step["kind"] != "firewall"), "{steps}");
    assert_unchanged(&before, &stage.state_in_docker());

    println!("{}", stage.lsm_as_user(&INSTALL).ok());
    stage.hold_signature(BUNDLE);
    stage.hold_loopback_alone();
    let again = stage.lsm_as_user(&["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(again, json!({"steps": []}));
    let shown = stage.lsm_as_user(&["status"]).ok();
    assert!(shown.contains("filtered   no") && shown.contains("next       nothing"), "{shown}");
    let status = stage.lsm_as_user(&["status", "--json"]).json();
    let of = |name: &str| &status[name];
    assert_eq!(
        (of("signs"), of("port_open"), of("drift"), of("listen")),
        (&json!(true), &json!(true), &json!([]), &json!(LISTEN)),
        "{status}"
    );
    assert_eq!(status["sandbox"]["uid"], 1500, "{status}");
    // Root sees none of it, and does not get in its way.
    assert_ne!(host.lsm(["status"]).code, 0);
    let taken = host.lsm([
        "install",
        "--network=regtest",
        "--backend=docker",
        "--from=/home/op/archives",
        "--seed-out=/root/out/s",
        "--listen=10.77.0.2:10012",
        "--yes",
    ]);
    assert!(taken.code == 1 && taken.stderr.contains("E-DOCKER-005"), "{taken:?}");
    // Somebody who may not talk to the engine.
    let nobody = stage.lsm_as_nobody(&INSTALL.map(str::to_owned));
    assert!(nobody.code == 3 && nobody.stderr.contains("E-ENGINE-002"), "{nobody:?}");

    stage.lsm_as_user(&["stop", "--yes"]).ok();
    assert_ne!(stage.lsm_as_user(&["status"]).code, 0);
    stage.lsm_as_user(&["start"]).ok();
    stage.hold_signature(BUNDLE);
    stage.lsm_as_user(&["restart", "--yes"]).ok();
    host.sh("systemctl restart docker").ok();
    wait_for("a signer that can sign", Duration::from_secs(60), || {
        (stage.lsm_as_user(&["status"]).code == 0).then_some(())
    });
    stage.hold_signature(BUNDLE);
    stage.hold_loopback_alone();
    assert!(stage.lsm_as_user(&["logs"]).ok().contains("LTND"));
    let allowed = stage.lsm_as_user(&["allow", "add", "10.77.0.3", "--yes"]);
    assert!(allowed.code == 3 && allowed.stderr.contains("E-DOCKER-007"), "{allowed:?}");
    stage.lsm_as_user(&["bundle", "export", "--out", HANDED, "--yes"]).ok();
    stage.lsm_as_user(&["macaroon", "rotate", "--yes"]).ok();
    stage.hold_signature(HANDED);
    stage.lsm_as_user(&["macaroon", "rotate", "--finish", "--yes"]).ok();
    stage.hold_signature(HANDED);
    // What it has less than root's is said: the number is the user's.
    let report = stage.lsm_as_user(&[
        "harden",
        "--only=CONT-001,CONT-002,CONT-003,CONT-004,CONT-005,CONT-006,CONT-007,CONT-008",
        "--json",
    ]);
    println!("{}", report.stdout);
    assert_eq!(failed(&serde_json::from_str(&report.stdout).expect("a report")), ["CONT-001"]);

    stage.lsm_as_user(&["uninstall", "--yes"]).ok();
    stage.lsm_as_user(&INSTALL).ok();
    stage.hold_signature(HANDED);
    stage.lsm_as_user(&["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    host.sh("rm -r /home/op/out/*").ok();
    assert_unchanged(&before, &stage.state_in_docker());
}
