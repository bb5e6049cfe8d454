//! What changes behind lsm's back on a real host: `lsm status` names it, `lsm install` puts it right, step by step.

use crate::lab;
use crate::lab::net::Met;
use crate::stage;
use crate::stage::watch_only::WatchOnly;
use crate::stage::{PORT, Stage};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_millis(500);

/// The steps that follow where the signer's unit is another one.
const RELOADED: [&str; 2] = ["let systemd read its units again", SIGNER];
const SIGNER: &str = "enable and start lsm@signer.service";
const SOCKET: &str = "enable and start lsm-proxy@signer.socket";
const FILTER: &str = "write /etc/lsm/firewall.nft and load it, now and at every boot";
/// It may have let somebody in.
const CUT: &str = "end the connections to 10.77.0.2:10012 of those who are not allowed";
const FOLDERS: &str = "write /etc/tmpfiles.d/lsm-signer.conf and make the folders /var/lib/lsm/signer, /run/lsm/signer, /run/lsm/signer-admin, /run/lsm/signer-gate";
/// lnd's programs, inside.
const LND: &str = "/usr/local/lib/lsm/lnd/VERSION";
/// An operator's own drop-in, which opens what lsm's unit closes.
const OVERRIDE: &str = "[Service]\\nMemoryDenyWriteExecute=no\\n";

impl Stage {
    /// What `lsm status` shows to have changed, seen to be what the dry run of an install says.
    #[track_caller]
    fn drift(&self) -> Vec<String> {
        let drift = self.status()["drift"].clone();
        let planned = self.host.lsm(["install", "--network=regtest", "--dry-run"]).ok();
        let planned: Vec<String> = planned.lines().map(str::to_owned).filter(|l| !l.starts_with("nothing")).collect();
        assert_eq!(drift, json!(planned));
        planned
    }

    /// `lsm status` as JSON, whether or not lnd can sign.
    #[track_caller]
    fn status(&self) -> Value {
        let said = self.host.lsm(["status", "--json"]).stdout;
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    /// Does `cause` inside, sees it named as exactly these steps, has them done, and sees the signer sign.
    #[track_caller]
    fn drifts(&self, cause: &str, steps: &[&str]) {
        let lnd = LND.replace("VERSION", &self.release.version);
        self.host.sh(&cause.replace("LND", &lnd)).ok();
        let steps: Vec<String> = steps.iter().map(|step| step.replace("LND", &lnd)).collect();
        assert_eq!(self.drift(), steps, "{cause}");
        let again = ["install".to_owned(), "--network=regtest".to_owned()];
        self.install_with(&[&again[..], &self.source()].concat(), &[]).ok();
        assert_eq!(self.status()["drift"], json!([]), "{cause}");
        self.signs();
    }

    /// The bundle's holder gets a signature.
    #[track_caller]
    fn signs(&self) {
        let (bundle, signer) = (self.bundle(), self.signer());
        let proved = self.host.allowed().inside(|| lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey()));
        assert!(proved.is_ok(), "{proved:?}");
    }

    /// Nobody else gets an answer.
    #[track_caller]
    fn is_closed_to_strangers(&self) {
        assert!(matches!(self.host.stranger().knock("10.77.0.2", PORT, SOON), Met::Silence));
    }

    /// Use, a reboot and what else is nobody's doing are no drift.
    #[track_caller]
    fn is_as_wanted_whatever_happens(&mut self) {
        let _open = self.host.allowed().inside(|| TcpStream::connect(("10.77.0.2", PORT))).unwrap();
        self.signs();
        let sets = self.host.run(["nft", "list", "table", "inet", "lsm"]).ok();
        assert!(sets.contains("elements = { 10.77.0.3 ct count"), "a peer is in a set: {sets}");
        assert_eq!(self.drift(), [""; 0]);
        self.host.sh("systemctl restart nftables.service lsm@signer.service").ok();
        assert_eq!(self.drift(), [""; 0]);
        self.signs();
        self.host.reboot();
        lab::wait_for("the signer", Duration::from_secs(90), || self.status()["signs"].as_bool()?.then_some(()));
        // Active is what is ready: its port opens after it can sign.
        lab::wait_for("the port", PATIENCE, || self.status()["port_open"].as_bool()?.then_some(()));
        assert_eq!(self.drift(), [""; 0]);
        let status = self.status();
        assert!(status["drift_unknown"].is_null() && status["filtered"] == true, "{status}");
        self.signs();
    }
}

#[test]
fn what_changed_is_named_and_put_right() {
    let Some(mut stage) = Stage::boot("drift") else { return };
    stage.install(&[]).ok();
    let folder = tempfile::tempdir().unwrap();
    let host = std::sync::Arc::clone(stage.host.net());
    let mut watch_only = WatchOnly::set_up(&stage, host.allowed(), folder.path());
    stage.is_as_wanted_whatever_happens();
    units(&stage);
    strangers(&stage);
    filter(&stage);
    accesses(&stage);
    programs(&stage);
    what_is_for_every_unit_is_told_and_left(&stage);
    who_is_not_root_sees_his_part(&stage);
    watch_only.check();
}

fn units(stage: &Stage) {
    let written = ["write /etc/systemd/system/lsm@.service (0644)", RELOADED[0], RELOADED[1]];
    stage.drifts("echo '# x' >>/etc/systemd/system/lsm@.service", &written);
    // Also where it took effect.
    let edit = "sed -i s/^MemoryMax=.*/MemoryMax=3G/ /etc/systemd/system/lsm@.service; systemctl daemon-reload";
    stage.drifts(&format!("{edit}; systemctl restart lsm@signer"), &written);
    // systemd cannot tell what was changed.
    stage.drifts("touch /etc/systemd/system/lsm@.service", &RELOADED);
    let pid = stage.lnd();
    stage.drifts("systemctl disable --quiet lsm@signer.service", &["enable lsm@signer.service"]);
    assert_eq!(stage.lnd(), pid, "it was not started anew");
    stage.drifts("systemctl stop lsm@signer.service", &[SIGNER, SOCKET]);
    stage.drifts("systemctl disable --quiet --now lsm-proxy@signer.socket", &[SOCKET]);
}

fn strangers(stage: &Stage) {
    let put = |path: &str| format!("mkdir -p $(dirname {path}); printf '{OVERRIDE}' >{path}; systemctl daemon-reload");
    let away = |path: &str| format!("take away {path}, which lsm did not write");
    for path in [
        "/etc/systemd/system/lsm@signer.service.d/override.conf",
        "/run/systemd/system/lsm@.service.d/override.conf",
        "/etc/systemd/system.control/lsm@signer.service.d/lsm.conf",
    ] {
        // Under the name of lsm's own drop-in one takes its place, and no unit is left to run.
        stage.drifts(
            &format!("{}; systemctl restart lsm@signer || true", put(path)),
            &[&away(path), RELOADED[0], RELOADED[1]],
        );
        let shown = stage.host.run(["systemctl", "show", "--property=MemoryDenyWriteExecute", "lsm@signer.service"]);
        assert_eq!(shown.ok().trim(), "MemoryDenyWriteExecute=yes", "{path}");
    }
    let path = "/run/systemd/system.control/lsm-proxy@signer.socket.d/50-IPAddressAllow.conf";
    stage.drifts(
        "systemctl set-property --runtime lsm-proxy@signer.socket IPAddressAllow=10.77.0.4",
        &[&away(path), RELOADED[0], SOCKET],
    );
    stage.is_closed_to_strangers();
    let mask = "/etc/systemd/system/lsm@signer.service";
    stage.drifts("systemctl mask --quiet lsm@signer.service", &[&away(mask), RELOADED[0], RELOADED[1]]);
    // A whole unit in the place of the template, and a link in the place of a folder of drop-ins.
    let unit = "/run/systemd/system/lsm@signer.service";
    stage.drifts(&format!("cp /etc/systemd/system/lsm@.service {unit}"), &[&away(unit), RELOADED[0], RELOADED[1]]);
    let link = "/etc/systemd/system/lsm-.service.d";
    stage.drifts(
        &format!("mkdir -p /srv/d; printf '{OVERRIDE}' >/srv/d/x.conf; ln -s /srv/d {link}"),
        &[&away(link), RELOADED[0], FILTER, CUT, SOCKET],
    );
    assert!(stage.host.path("/srv/d/x.conf").exists(), "what the link leads to is somebody's own");
}

fn filter(stage: &Stage) {
    for cause in [
        "nft delete table inet lsm",
        "nft flush chain inet lsm signer_judge",
        "nft flush set inet lsm signer_allow4",
        "nft add element inet lsm signer_allow4 { 10.77.0.4 }",
        "nft insert rule inet lsm prerouting accept",
        "nft add table inet lsm '{ flags dormant; }'",
        "echo >>/etc/lsm/firewall.nft",
    ] {
        stage.drifts(cause, &[FILTER, CUT]);
        stage.is_closed_to_strangers();
    }
    stage.host.sh("nft flush ruleset").ok();
    assert_eq!(stage.status()["filtered"], false, "the unit is active, and filters nothing");
    stage.drifts("systemctl stop lsm-firewall.service", &[FILTER, SIGNER, SOCKET]);
    without_its_filter_nothing_starts(stage);
}

/// What was loaded stays loaded; a boot would find nothing that loads.
fn without_its_filter_nothing_starts(stage: &Stage) {
    stage.host.sh("systemctl stop lsm-firewall.service; echo nonsense >>/etc/lsm/firewall.nft").ok();
    assert_ne!(stage.host.run(["nft", "--check", "--file", "/etc/lsm/firewall.nft"]).code, 0);
    for unit in ["lsm@signer.service", "lsm-proxy@signer.socket"] {
        let refused = stage.host.run(["systemctl", "start", unit]);
        assert!(refused.code != 0 && refused.stderr.contains("dependency"), "{unit}: {refused:?}");
    }
    std::thread::sleep(stage::RESTARTED);
    for unit in ["lsm-firewall.service", "lsm@signer.service", "lsm-proxy@signer.socket"] {
        assert!(!stage.is_active(unit), "{unit}");
    }
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open);
    stage.drifts("true", &[FILTER, SIGNER, SOCKET]);
}

fn accesses(stage: &Stage) {
    let gives = |path: &str, access: &str| format!("give {path} its mode and owner again ({access})");
    let pid = stage.lnd();
    let wrong = [
        ("chmod 0644", stage::PASSWORD, "0600"),
        ("chown nobody", "/etc/credstore.encrypted/lsm-signer.tls-key", "0600"),
        ("chmod 0666", "/etc/lsm/signer/tls.cert", "0644"),
        ("chmod 0666", "/etc/lsm/signer/wallet.toml", "0644"),
        ("chown nobody", "/etc/lsm/signer-lnd.conf", "0644"),
        ("chmod 0666", "/etc/lsm/signer.toml", "0644"),
        ("chmod 0755", "/var/lib/lsm/signer", "0700, lsm-signer"),
        ("chown nobody", "/var/lib/lsm/signer", "0700, lsm-signer"),
        ("chmod 0777", "/run/lsm", "0755"),
        ("chgrp nogroup", "/run/lsm/signer", "2750, lsm-signer:lsm-proxy-signer"),
        ("chmod 0755", "/run/lsm/signer-admin", "0700, lsm-signer"),
        ("chmod 0755", "/var/lib/lsm/journal", "0700"),
        ("chmod 0644", "/var/lib/lsm/journal/signer.jsonl", "0600"),
    ];
    // All at once: each takes two installs to be seen and put right.
    let causes: String = wrong.iter().map(|(cause, path, _)| format!("{cause} {path}; ")).collect();
    stage.host.sh(&format!("{causes} chown nobody /etc/lsm/signer")).ok();
    let mut steps: Vec<String> = wrong.iter().map(|(_, path, access)| gives(path, access)).collect();
    steps.push("make the folder /etc/lsm/signer (0755)".to_owned());
    let mut seen = stage.drift();
    seen.sort();
    steps.sort();
    steps.dedup();
    assert_eq!(seen, steps);
    stage.drifts("true", &stage.drift().iter().map(String::as_str).collect::<Vec<_>>());
    xattr::remove(stage.host.path("/var/lib/lsm/signer"), "system.posix_acl_default").unwrap();
    stage.drifts("true", &[FOLDERS]);
    stage.drifts("rmdir /run/lsm/signer-gate", &[FOLDERS]);
    assert_eq!(stage.lnd(), pid, "it was not started anew");
    stage.drifts("rm -r /run/lsm/signer", &[FOLDERS, SIGNER]);
    // The signer's own bundle; the one that was handed over is the operator's.
    stage.host.sh(&format!("chmod 755 {} && chmod 644 {0}/admin.macaroon", stage::BUNDLE)).ok();
    assert_eq!(stage.drift(), [""; 0]);
    stage.host.lsm(["bundle", "export", "--yes"]).ok();
    let bundle = "/var/lib/lsm/bundle/signer";
    stage.drifts(
        &format!("chmod 644 {bundle}/admin.macaroon; chmod 755 {bundle}"),
        &[&gives(&format!("{bundle}/admin.macaroon"), "0600"), &gives(bundle, "0700")],
    );
}

fn programs(stage: &Stage) {
    let unpack = format!("unpack the verified lnd {} to LND", stage.release.version);
    stage.drifts("echo >>LND/lncli", &[&unpack, SIGNER]);
    stage.drifts("cp LND/lnd /root/lnd; echo >>/root/lnd; mv /root/lnd LND/lnd", &[&unpack, SIGNER]);
    let gives = |name: &str, mode: &str| format!("give LND/{name} its mode and owner again ({mode})");
    // Who can read it can be looked into.
    stage.drifts("chmod 0755 LND/lnd", &[&gives("lnd", "0711"), SIGNER]);
    // The file is right, and what runs is another one.
    stage.drifts("cp -p LND/lnd LND/x; mv LND/x LND/lnd", &[SIGNER]);
    stage.drifts("chmod 0777 /usr/local/lib/lsm/lsm", &["copy lsm to /usr/local/lib/lsm/lsm"]);
}

fn what_is_for_every_unit_is_told_and_left(stage: &Stage) {
    let path = "/etc/systemd/system/service.d/x.conf";
    stage.host.sh(&format!("mkdir -p $(dirname {path}); echo '[Service]' >{path}; systemctl daemon-reload")).ok();
    assert_eq!(stage.drift(), [""; 0]);
    assert_eq!(stage.status()["general_drop_ins"], json!([path]));
    assert!(stage.host.lsm(["status"]).ok().contains(path));
}

fn who_is_not_root_sees_his_part(stage: &Stage) {
    let status = |stage: &Stage| {
        let said = stage.lsm_as_nobody(&["status".to_owned(), "--json".to_owned()]).stdout;
        serde_json::from_str::<Value>(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    };
    stage.host.run(["nft", "flush", "ruleset"]).ok();
    let seen = status(stage);
    assert_eq!(seen["drift"], json!([]));
    assert!(seen["drift_unknown"].as_str().is_some_and(|why| why.contains("root")), "{seen}");
    stage.host.run(["chmod", "666", "/etc/lsm/signer-lnd.conf"]).ok();
    let step = "give /etc/lsm/signer-lnd.conf its mode and owner again (0644)";
    assert_eq!(status(stage)["drift"], json!([step]));
    stage.drifts("true", &[FILTER, CUT, step]);
}

#[test]
fn in_host_mode_the_open_gate_is_no_drift_and_a_shut_one_is() {
    let Some(mut stage) = Stage::boot("drift-host") else { return };
    stage.install(&["--mode=host"]).ok();
    stage.is_as_wanted_whatever_happens();
    stage.drifts("nft flush set inet lsm signer_open", &[FILTER, CUT]);
    stage.drifts("nft add element inet lsm signer_open { 22 }", &[FILTER, CUT]);
    stage.drifts("nft flush ruleset", &[FILTER, CUT]);
    stage.drifts("systemctl stop lsm@signer.service", &[SIGNER]);
}
