//! What of somebody else's has the name of something of the signer's: it is told from that, and left alone.

use crate::lab::process::Done;
use crate::stage::Stage;
use serde_json::{Value, json};

/// Makes the image `strange:1`, whose program is this host's sleep(1).
pub const STRANGE: &str =
    "cd / && tar -chf- $(which sleep) $(ldd $(which sleep) | grep -o '/[^ ]*') | docker import - strange:1";

impl Stage {
    /// Removes the signer's container and has another run in its place.
    #[track_caller]
    fn take_its_name(&self) -> Value {
        self.host.sh("docker rm -f litd-signer && docker run -d --name litd-signer strange:1 sleep 100000").ok();
        self.who()
    }

    /// The number of the container that has the signer's name, and when it was started.
    #[track_caller]
    fn who(&self) -> Value {
        let is = self.host.run(["docker", "inspect", "litd-signer"]).json();
        json!([is[0]["Id"], is[0]["State"]["StartedAt"], is[0]["State"]["Running"]])
    }
}

#[test]
fn another_container_of_the_signers_name_is_not_taken_for_it() {
    let Some(stage) = Stage::in_docker("docker-others") else { return };
    stage.host.sh(STRANGE).ok();
    stage.install(&["--backend=docker"]).ok();
    let theirs = stage.take_its_name();
    let lsm = |line: &str| stage.host.lsm(line.split(' '));
    let refused = |line: &str, id: &str| {
        let done: Done = lsm(line);
        assert!(done.code == 1 && done.stderr.contains(id), "{line}: {done:?}");
        assert_eq!(stage.who(), theirs, "{line}");
    };
    for line in ["start --yes", "restart --yes", "logs"] {
        refused(line, "E-DOCKER-009");
    }
    // The signer's own does not run.
    lsm("stop --yes").ok();
    assert_eq!(stage.who(), theirs);
    for line in ["wallet change-password --yes", "macaroon rotate --yes", "macaroon revoke --admin --yes"] {
        refused(line, "E-DOCKER-009");
    }
    refused("install --network=regtest --yes", "E-DOCKER-005");
    let status = stage.host.lsm(["status", "--json"]);
    let told: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert!(status.code == 1 && told["signs"] == false, "{status:?}");

    // What is said helps: under another name it is nobody's business, and the signer is made again.
    stage.host.sh("docker rename litd-signer theirs").ok();
    lsm("install --network=regtest --yes").ok();
    lsm("status").ok();
    stage.host.sh("docker rm -f theirs").ok();

    // An uninstall takes all else, and leaves it.
    let theirs = stage.take_its_name();
    let gone = lsm("uninstall --yes");
    assert!(gone.code == 0 && format!("{}{}", gone.stdout, gone.stderr).contains("litd-signer"), "{gone:?}");
    assert_eq!(stage.who(), theirs);
    assert_eq!(stage.host.sh("docker network ls --format '{{.Name}}' | grep lsm-signer").stdout, "");
}

#[test]
fn an_upgrade_does_not_stop_another_container_of_the_signers_name() {
    let (Some(old), Some(stage)) =
        (crate::lab::lnd::Release::find("v0.20.0-beta"), Stage::in_docker("docker-others-upgrade"))
    else {
        return;
    };
    let Some(archive) = old.archive() else { return };
    stage.host.sh(STRANGE).ok();
    stage.host.copy_in(&archive, "/root/old/lnd-linux-amd64-v0.20.0-beta.tar.gz", 0o644);
    let line = "install --network=regtest --backend=docker --release=v0.20.0-beta --accept-risk=v0.20.0-beta \
        --from=/root/old --listen=10.77.0.2:10012 --seed-out=/root/out/seed --bundle-out=/root/out/bundle --yes";
    stage.host.sh("mkdir -p /root/out").ok();
    stage.host.lsm(line.split_whitespace()).ok();
    let theirs = stage.take_its_name();
    let from = format!("--from={}", stage.archive_inside());
    let refused = stage.host.lsm(["upgrade", &stage.release.version, &from, "--yes"]);
    assert!(refused.code == 1 && refused.stderr.contains("E-DOCKER-009"), "{refused:?}");
    assert_eq!(stage.who(), theirs);
}

#[test]
fn another_network_of_the_signers_name_is_refused_before_anything_is_changed() {
    let Some(stage) = Stage::in_docker("docker-others-network") else { return };
    // As an engine makes it unless it is told otherwise: it leads outwards, and from container to container.
    stage.host.sh("docker network create lsm-signer").ok();
    let before = stage.state_in_docker();
    let refused = stage.install(&["--backend=docker"]);
    assert!(refused.code == 1 && refused.stderr.contains("E-ENGINE-032"), "{refused:?}");
    crate::stage::assert_unchanged(&before, &stage.state_in_docker());
    stage.host.sh("docker network rm lsm-signer").ok();
    stage.install(&["--backend=docker"]).ok();
    let plan = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(plan, json!({"steps": []}), "its own is known again");

    // An uninstall takes all else, and leaves it.
    let swap = "docker rm -f litd-signer && docker network rm lsm-signer && docker network create lsm-signer";
    stage.host.sh(swap).ok();
    let gone = stage.host.lsm(["uninstall", "--yes"]);
    assert!(gone.code == 0 && format!("{}{}", gone.stdout, gone.stderr).contains("network lsm-signer"), "{gone:?}");
    stage.host.sh("docker network inspect lsm-signer").ok();
}
