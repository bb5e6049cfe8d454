//! A signer in a container that a user installs without root, on a real host with a real dockerd.

use crate::adopt::{hashes, settings};
use crate::faults::fault::Place;
use crate::faults::{chain, cut};
use crate::lab::host::Debian;
use crate::lab::lnd::Release;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::lab::trace::Fate;
use crate::lab::wait_for;
use crate::stage::older::{identity, make_wallet};
use crate::stage::{PORT, Stage, assert_unchanged};
use lsm::bundle::Bundle;
use lsm::secret::Secret;
use lsm::signer::Node;
use lsm::watch_only::prove_at_signer;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
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

/// What runs a program as that user.
const WHO: [&str; 6] = ["setpriv", "--reuid=1500", "--regid=1600", "--init-groups", "--reset-env", "--"];

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
        self.host.run(WHO.iter().chain(line))
    }

    /// lsm as the user op, to be started.
    fn user_command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(WHO[0]);
        command.args(&WHO[1..]).arg("/usr/bin/lsm").args(args);
        command
    }

    /// Holds what has to hold at every moment: one wallet or none, and no secret that others could read. A second name of a
    /// program is none.
    #[track_caller]
    fn look_at_user(&self, when: &str) {
        let wallets = self.host.sh(&format!("find {HOME} -name wallet.db")).ok();
        assert!(wallets.lines().count() <= 1, "{when}: {wallets}");
        let open = format!(
            "cd {HOME} && find out .lnget/signer/lnd .lnget/signer/run .lnget/signer/wallet-password.txt .lnget/signer/tls-key \
            .lnget/signer/credentials-bundle .lnget/.lsm/var/journal -type f -perm /077 \
            -not \\( -path '*/signer.kept/*' -perm -111 \\) 2>/dev/null"
        );
        assert_eq!(self.host.sh(&open).stdout, "", "{when}: others may read it");
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
    stage.lsm_as_user(&["start", "--yes"]).ok();
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

#[test]
fn a_users_install_that_is_killed_goes_on_or_back_and_gives_a_folder_its_mode_again() {
    let Some(stage) = Stage::with_user("docker-user-killed") else { return };
    let host = &stage.host;
    // As the scripts leave it: the folder is for all to see, and something of the user's is in it.
    host.sh("install -d -m 755 -o op -g ops /home/op/.lnget && touch /home/op/.lnget/theirs").ok();
    let mode = || host.sh("stat -c %a /home/op/.lnget").ok().trim().to_owned();
    let before = stage.state_in_docker();
    let first =
        cut::run_command(
            &stage.user_command(&INSTALL),
            |_, moment| {
                if Place::Before.is(moment) { Fate::Kill } else { Fate::Go }
            },
        );
    assert_eq!((first.code, mode().as_str()), (128 + 9, "755"), "no step has begun: {first:?}");
    stage.lsm_as_user(&["rollback", "--yes"]).ok();
    assert_unchanged(&before, &stage.state_in_docker());

    let places = [Place::During(2), Place::After, Place::Before, Place::Told];
    let killed = chain::run_command(&stage.user_command(&INSTALL), &places, |when| stage.look_at_user(when));
    for kind in ["folder", "image", "network", "wallet", "container", "bundle"] {
        assert!(killed.iter().any(|step| step.starts_with(kind)), "{kind} in {killed:?}");
    }
    stage.hold_signature(BUNDLE);
    let again = stage.lsm_as_user(&["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!((again, mode().as_str()), (json!({"steps": []}), "700"));

    let uninstall = stage.user_command(&["uninstall", "--yes"]);
    let back = chain::run_command(&uninstall, &places, |when| stage.look_at_user(when));
    println!("MEASURED steps of a user's at which lsm was killed, and went on: {}", killed.len() + back.len());
    // The same wallet again; then all of it goes.
    stage.lsm_as_user(&INSTALL).ok();
    stage.hold_signature(BUNDLE);
    stage.lsm_as_user(&["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    host.sh("rm -r /home/op/out/*").ok();
    assert_unchanged(&before, &stage.state_in_docker());
}

#[test]
fn a_user_takes_an_older_lnd_over_and_to_the_next_version() {
    let (Some(old), Some(stage)) = (Release::find("v0.20.0-beta"), Stage::with_user("docker-user-adopts")) else {
        return;
    };
    let (Some(archive), password) = (old.archive(), Secret::generate_password()) else { return };
    let (host, home, address) = (&stage.host, "/home/op/.lnd-signer", "127.0.0.1:10012");
    let name = archive.file_name().expect("a name").to_string_lossy().into_owned();
    host.copy_in(&archive, &format!("{HOME}/old/{name}"), 0o644);
    host.copy_in(&old.lnd(), "/usr/local/bin/old-lnd", 0o755);
    host.sh(&format!("install -d -m 700 -o op -g ops {home}")).ok();
    fs::write(host.path(&format!("{home}/lnd.conf")), settings(home)).expect("written");
    fs::write(host.path(&format!("{home}/wallet-password.txt")), password.expose()).expect("written");
    host.sh(&format!("chown -R op:ops {home} && chmod 600 {home}/wallet-password.txt")).ok();
    let start = format!(
        "systemd-run --quiet --unit=old --uid=op --gid=ops -E HOME={HOME} /usr/local/bin/old-lnd --lnddir={home} --rpclisten={address}"
    );
    host.sh(&start).ok();
    drop(make_wallet(host, address, home, &password));
    let keys = identity(host, address, home, "testnet");
    let (from, adopt) = (format!("--from={HOME}/old"), format!("--adopt={home}"));
    let install = [
        "install",
        "--network=testnet",
        "--backend=docker",
        "--release=v0.20.0-beta",
        "--accept-risk=v0.20.0-beta",
        &from,
        &adopt,
        "--yes",
    ];
    let runs = stage.lsm_as_user(&install);
    assert!(runs.code == 1 && runs.stderr.contains("E-ADOPT-003"), "{runs:?}");
    host.sh("systemctl stop old").ok();
    let before = hashes(host, home);
    stage.lsm_as_user(&install).ok();
    stage.hold_signature(BUNDLE);
    let has_keys = || Bundle::read(&host.path(BUNDLE).to_string_lossy()).expect("a bundle").identity_pubkey() == keys;
    assert!(has_keys(), "other keys than {keys}");
    let (version, from) = (stage.release.version.clone(), "--from=/home/op/archives");
    // Cut off where the new lnd may have had the database, it goes back; then all the way.
    let upgrade = ["upgrade", &version, from, "--yes"];
    let killed = cut::run_command(&stage.user_command(&upgrade), |step, moment| {
        if step.starts_with("container") && Place::After.is(moment) { Fate::Kill } else { Fate::Go }
    });
    assert_eq!(killed.code, 128 + 9, "{killed:?}");
    stage.lsm_as_user(&["rollback", "--yes"]).ok();
    stage.hold_signature(BUNDLE);
    assert_eq!(stage.lsm_as_user(&["status", "--json"]).json()["release"], "v0.20.0-beta");
    stage.lsm_as_user(&upgrade).ok();
    stage.hold_signature(BUNDLE);
    assert_eq!(stage.lsm_as_user(&["status", "--json"]).json()["release"], *version);
    assert!(has_keys() && hashes(host, home) == before, "nothing of its own was changed");
    stage.lsm_as_user(&["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    host.sh(&start).ok();
    assert_eq!(identity(host, address, home, "testnet"), keys);
}
