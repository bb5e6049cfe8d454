//! Every lnd of the matrix in its unit's whole sandbox, in both modes: started again, killed, and rotating its log.

use crate::lab::lnd::{RELEASES, Release};
use crate::lab::net::Net;
use crate::lab::wait_for;
use crate::stage::Stage;
use lsm::signer::wallet::State;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const LOG: &str = "/var/lib/lsm/signer/logs/bitcoin/regtest/lnd.log";

#[test]
fn every_lnd_lives_in_its_unit() {
    for version in RELEASES {
        let Some(release) = Release::find(version) else { continue };
        let Some(net) = Net::build() else { return };
        let Some(stage) = Stage::boot_in(&net, "unit", &release) else { return };
        stage.install(&[]).ok();
        for mode in ["--mode=isolated", "--mode=host"] {
            let again = ["install", "--network=regtest"].map(str::to_owned);
            stage.install_with(&[&again[..], &stage.source()].concat(), &[mode]).ok();
            it_comes_back(&stage);
        }
        its_log_is_rotated(&stage);
        let said = stage.host.journal(&["-u", "lsm@signer", "-o", "cat"]).to_lowercase();
        assert!(!said.contains("not permitted"), "{version}: {said}");
    }
}

/// Signs again after a restart and after a kill.
fn it_comes_back(stage: &Stage) {
    stage.host.run(["systemctl", "restart", "lsm@signer"]).ok();
    wait_for("the signer after a restart", PATIENCE, || signs(stage));
    let pid = stage.lnd();
    stage.host.run(["kill", "-9", &pid.to_string()]).ok();
    wait_for("lnd's end", PATIENCE, || (!stage.proc(pid, "status").exists()).then_some(()));
    wait_for("the signer after a kill", PATIENCE, || signs(stage));
    assert_ne!(stage.lnd(), pid);
}

fn signs(stage: &Stage) -> Option<()> {
    let node = stage.signer();
    stage.host.allowed().inside(|| node.state()).is_ok_and(|state| state == State::Active).then_some(())
}

/// An operator who wants a log file as well gets one, and lnd can put it aside when it is full.
fn its_log_is_rotated(stage: &Stage) {
    let conf = "/etc/lsm/signer-lnd.conf";
    let change = format!(
        "sed -i 's/^logging.file.disable=true/logging.file.max-file-size=1\\nlogging.file.max-files=2/' {conf} && \
         systemctl stop lsm@signer && mkdir -p $(dirname {LOG}) && yes full | head -c 1100000 >{LOG} && \
         chown -R lsm-signer: /var/lib/lsm/signer/logs && systemctl start lsm@signer"
    );
    stage.host.sh(&change).ok();
    wait_for("the rotated log", PATIENCE, || stage.host.path(&format!("{LOG}.1.gz")).exists().then_some(()));
    wait_for("the signer with a log", PATIENCE, || signs(stage));
    let size = |path: &str| std::fs::metadata(stage.host.path(path)).map_or(0, |meta| meta.len());
    assert!(size(LOG) < 1_000_000 && size(&format!("{LOG}.1.gz")) > 0, "{}", size(LOG));
}
