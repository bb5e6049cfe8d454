//! `lsm start`, `stop`, `restart`, `logs`, `macaroon` and `cert` on an installed signer.

use crate::lab::net::Met;
use crate::stage::port::call_while;
use crate::stage::terminal::Terminal;
use crate::stage::{BUNDLE, PORT, RESTARTED, Stage};
use lsm::signer::wallet::State;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;
use time::OffsetDateTime;

/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_signer_is_stopped_and_started_and_tells_what_it_did() {
    let Some(stage) = Stage::boot("control") else { return };
    let other = stage.host.lsm(["stop", "--yes"]);
    assert!(other.code == 1 && other.stderr.contains("no signer called signer"), "{other:?}");
    stage.install_with(&stage.arguments_without_wallet(), &[]).ok();
    let without = stage.host.lsm(["start", "--yes"]);
    assert!(without.code == 1 && without.stderr.contains("no wallet"), "{without:?}");
    what_is_damaged_is_not_told_as_absent(&stage);
    stage.install(&[]).ok();
    stopping_shuts_the_port(&stage);
    starting_waits_until_it_can_sign(&stage);
    its_status_is_one_screen_and_one_file(&stage);
    its_network_stays(&stage);
    call_while(&stage.host, || restarting_keeps_callers_waiting(&stage));
    its_log_is_shown(&stage);
    its_credentials_are_explained(&stage);
    what_systemd_starts_over_and_over_is_stopped(&stage);
    stopping_for_good_takes_the_wallet_too(&stage);
}

/// A spec that does not read is told as that, and a name that nobody has as nobody's.
fn what_is_damaged_is_not_told_as_absent(stage: &Stage) {
    stage.host.sh("printf 'x = [' >/etc/lsm/other.toml").ok();
    for verb in [&["status", "--instance=other"][..], &["upgrade", "v0.21.3-beta", "--instance=other", "--dry-run"]] {
        let damaged = stage.host.lsm(verb.iter().copied());
        assert!(damaged.code == 1 && damaged.stderr.contains("other.toml is no signer's spec: "), "{damaged:?}");
    }
    stage.host.sh("rm /etc/lsm/other.toml").ok();
    for option in ["--yes", "--dry-run"] {
        let typo = stage.host.lsm(["uninstall", "--instance=typo", option]).ok();
        assert!(typo.contains("this host has no signer called typo"), "{typo}");
    }
}

fn stopping_shuts_the_port(stage: &Stage) {
    let asked = stage.host.lsm(["stop"]);
    assert_eq!(asked.code, 2, "without a terminal it needs --yes: {asked:?}");
    assert!(stage.is_active("lsm@signer"));
    let dry = stage.host.lsm(["stop", "--dry-run", "--json"]).json();
    let units = ["lsm@signer.service", "lsm-proxy@signer.socket"].map(|unit| json!({"kind": "stop", "unit": unit}));
    assert_eq!(dry, json!({ "steps": units }));
    // Whoever is connected is nobody's to end.
    let client =
        stage.host.sh("setsid bash -c 'exec 3<>/dev/tcp/10.77.0.2/10012; sleep 600' >/dev/null 2>&1 & echo $!").ok();
    let stopped = stage.host.lsm(["stop", "--yes", "--json"]);
    stage.host.sh(&format!("kill {client}")).ok();
    assert!(stopped.stderr.contains("watch-only"), "{stopped:?}");
    assert_eq!(stopped.json(), json!({"instance": "signer", "changed": true, "running": false}));
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open);
    std::thread::sleep(RESTARTED);
    assert_ne!(stage.host.allowed().knock("10.77.0.2", PORT, SOON), Met::Open, "a while later too");
    assert!(!stage.is_active("lsm@signer"), "no connection starts it");
    assert_eq!(stage.host.lsm(["stop", "--yes", "--json"]).json()["changed"], false);
}

/// What has lnd fail at every start.
const FAILS: &str = "/run/systemd/system/lsm@signer.service.d/fails.conf";

fn fail_over_and_over(stage: &Stage) {
    let fails = "[Service]\nExecStartPre=/bin/false\nRestartSec=200ms\n";
    let line = format!("mkdir -p ${{0%/*}} && printf '{fails}' >$0 && systemctl daemon-reload");
    stage.host.run(["sh", "-c", &line, FAILS]).ok();
}

/// systemd, which starts lnd again each second, has its port opened too and gives up a stop of that.
fn what_systemd_starts_over_and_over_is_stopped(stage: &Stage) {
    fail_over_and_over(stage);
    for _ in 0..20 {
        stage.host.run(["systemctl", "restart", "--no-block", "lsm@signer.service", "lsm-proxy@signer.socket"]).ok();
        stage.host.sh("sleep 0.$((RANDOM % 5))").ok();
        stage.host.lsm(["stop", "--yes"]).ok();
        let left = stage.host.run(["systemctl", "is-active", "lsm@signer.service", "lsm-proxy@signer.socket"]).stdout;
        assert!(!left.contains("activating") && !left.lines().any(|state| state == "active"), "{left}");
    }
    stage.host.sh(&format!("rm {FAILS} && systemctl daemon-reload && systemctl reset-failed")).ok();
    stage.host.lsm(["start", "--yes"]).ok();
}

fn starting_waits_until_it_can_sign(stage: &Stage) {
    assert_eq!(stage.lsm_as_nobody(&["start".to_owned()]).code, 3, "only root starts it");
    assert_eq!(stage.host.lsm(["start"]).code, 2, "without a terminal it needs --yes");
    assert!(!stage.is_active("lsm@signer"));
    assert_eq!(stage.host.lsm(["start", "--yes", "--json"]).json()["running"], true);
    let node = stage.signer();
    assert_eq!(stage.host.allowed().inside(|| node.state()).unwrap(), State::Active);
    let pid = stage.lnd();
    assert_eq!(stage.host.lsm(["start", "--json"]).json()["changed"], false);
    assert_eq!(stage.host.lsm(["start", "--dry-run", "--json"]).json(), json!({"steps": []}));
    assert_eq!(stage.lnd(), pid);
}

fn its_status_is_one_screen_and_one_file(stage: &Stage) {
    let file = "/root/out/lsm.prom";
    let open = stage.host.allowed().inside(|| TcpStream::connect(("10.77.0.2", PORT))).unwrap();
    let status = stage.host.lsm(["status", "--json", "--prometheus", file]).json();
    drop(open);
    assert_eq!(status["connected"], json!([{"address": "10.77.0.3", "connections": 1}]), "{status}");
    assert_eq!((&status["wallet"], &status["next"]), (&json!("active"), &json!(null)), "{status}");
    let fence = &status["sandbox"];
    assert_eq!(fence["pid"], stage.lnd());
    for held in ["no_capabilities", "no_new_privileges", "own_network"] {
        assert_eq!(fence[held], true, "{held}: {status}");
    }
    assert!(fence["seccomp_filters"].as_u64().is_some_and(|filters| filters > 1), "the unit's and the launcher's");
    let bundle = &status["bundle"];
    assert_eq!((&bundle["folder"], &bundle["current"]), (&json!(BUNDLE), &json!(true)));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    assert!(bundle["at"].as_i64().is_some_and(|at| (now - 600..=now).contains(&at)), "{bundle}");

    let signed = &status["last_signature"];
    assert_eq!(signed["seen_by"], "lsm", "no bundle without one: {status}");
    assert!(signed["at"].as_i64().is_some_and(|at| (now - 600..=now).contains(&at)), "{signed}");

    let metrics = read_metrics(&stage.host.sh(&format!("stat -c %a {file}; cat {file}")).ok());
    assert_eq!(metrics["lsm_signer_last_signature_seconds"], signed["at"].as_i64().unwrap());
    assert_eq!((metrics["lsm_signer_signs"], metrics["lsm_signer_connections"]), (1, 1));
    assert_eq!(metrics["lsm_signer_certificate_expiry_seconds"], status["certificate"]["not_after"].as_i64().unwrap());
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators-guide.md")).unwrap();
    metrics.keys().for_each(|name| assert!(guide.contains(&format!("`{name}`")), "{name} is not in the guide"));

    stage.host.lsm(["stop", "--yes"]).ok();
    let without = stage.host.lsm(["status", "--prometheus", file]);
    assert!(without.code == 1 && without.stdout.contains("next       sudo lsm start;"), "{without:?}");
    assert_eq!(read_metrics(&stage.host.sh(&format!("stat -c %a {file}; cat {file}")).ok())["lsm_signer_signs"], 0);
    let nowhere = stage.host.lsm(["status", "--prometheus", "/nonexistent/lsm.prom"]);
    assert!(nowhere.stderr.contains("E-HOST-002"), "{nowhere:?}");
    stage.host.lsm(["start", "--yes"]).ok();
}

/// Reads a file of metrics, after its mode, as node_exporter does: each has its help, its kind, and one number.
fn read_metrics(text: &str) -> BTreeMap<String, i64> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("644"), "node_exporter's user may read it");
    let mut metrics = BTreeMap::new();
    while let Some(help) = lines.next() {
        let (name, words) = help.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(help);
        assert!(!words.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{help}");
        assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
        let sample = lines.next().and_then(|line| line.strip_prefix(name)).expect(name);
        let (labels, value) = sample.strip_prefix('{').and_then(|rest| rest.split_once("} ")).expect(sample);
        assert!(labels.starts_with("instance=\"signer\",network=\"regtest\""), "{sample}");
        assert_eq!(labels.matches('"').count() % 2, 0, "{sample}");
        assert!(metrics.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
    }
    metrics
}

fn its_network_stays(stage: &Stage) {
    let other = stage.host.lsm(["install", "--network=testnet", "--dry-run"]);
    assert!(other.code == 1 && other.stderr.contains("E-INSTALL-009"), "{other:?}");
}

fn restarting_keeps_callers_waiting(stage: &Stage) {
    let pid = stage.lnd();
    assert_eq!(stage.host.lsm(["restart"]).code, 2, "without a terminal it needs --yes");
    assert_eq!(stage.lnd(), pid);
    let restarted = stage.host.lsm(["restart", "--yes"]);
    assert!(restarted.stderr.contains("MuSig2 sessions are lost"), "{restarted:?}");
    assert!(restarted.ok().contains("can sign"));
    assert_ne!(stage.lnd(), pid);
}

fn its_log_is_shown(stage: &Stage) {
    let shown = stage.host.lsm(["logs", "--lines", "500"]).ok();
    assert!(shown.contains("lnd") && shown.contains("Started lsm@signer.service"), "{shown}");
    let entries = stage.host.lsm(["logs", "-n", "500", "--json"]).json()["entries"].clone();
    let of = |unit: &str| entries.as_array().expect("entries").iter().filter(|entry| entry["unit"] == unit).count();
    assert!(of("lsm@signer.service") > 1 && of("lsm-proxy@signer.socket") > 0, "{entries}");
    assert_eq!(stage.host.lsm(["logs", "--follow", "--json"]).code, 2);
    let followed = stage.host.sh("timeout 2 /root/lsm logs --follow --lines 1");
    assert!(followed.code == 124 && !followed.stdout.is_empty(), "{followed:?}");
}

fn its_credentials_are_explained(stage: &Stage) {
    let show = |of: &str| stage.host.lsm(["macaroon", "show", of, "--json"]).json();
    let bundled = show(&format!("{BUNDLE}/admin.macaroon"));
    assert_eq!(bundled["watch_only"], json!({"missing": [], "taproot": [], "more": []}));
    assert_eq!((bundled["powers"].as_array().map(Vec::len), &bundled["caveats"]), (Some(3), &json!([])));
    let admin = stage.host.lsm(["macaroon", "show", "/run/lsm/signer-admin/admin.macaroon"]).ok();
    assert!(admin.contains("compute private keys") && admin.contains("enough for"), "{admin:?}");
    let piped = stage.host.sh(&format!("od -An -v -tx1 {BUNDLE}/admin.macaroon | tr -d ' \\n' | lsm macaroon show -"));
    assert!(piped.ok().contains("/walletrpc.WalletKit/SignPsbt"), "in hex");

    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    stage.host.lsm(["bundle", "export", "--yes", "--encrypt-to", recipient, "--out=/root/out/encrypted"]).ok();
    let listed = stage.host.sh("stat -c '%a %U' /root/out/encrypted/*; ls /root/out/encrypted").ok();
    assert_eq!(listed, "600 root\ncredentials-bundle.tar.gz.b64.age\n");
    assert_eq!(stage.host.lsm(["status", "--json"]).json()["bundle"]["folder"], BUNDLE, "that is a copy");
    assert_ne!(stage.host.run(["test", "-e", "/var/lib/lsm/bundle/signer"]).code, 0, "nothing in plain text beside it");

    stage.host.sh("install -d -m 1777 /root/shared && touch /root/shared/theirs").ok();
    let shared = stage.host.lsm(["bundle", "export", "--yes", "--out=/root/shared"]);
    assert!(shared.code == 2 && shared.stderr.contains("E-BUNDLE-008"), "{shared:?}");
    assert_eq!(stage.host.sh("stat -c %a /root/shared && ls /root/shared").ok(), "1777\ntheirs\n");

    let mut certificate = stage.host.lsm(["cert", "show", "--json"]).json();
    assert_eq!(certificate.as_object_mut().and_then(|object| object.remove("next")), Some(json!(null)));
    assert_eq!(
        (&certificate["days_left"], &certificate["sha256"]),
        (&json!(729), &json!(stage.bundle().certificate.fingerprint()))
    );
    assert_eq!(stage.host.lsm(["status", "--json"]).json()["certificate"], certificate);

    let calls = stage.host.lsm(["macaroon", "permissions", "--json"]).json()["calls"].clone();
    let needed = |by: &str| calls.as_array().expect("calls").iter().filter(|call| call["needed_by"] == by).count();
    assert_eq!((needed("watch-only"), needed("taproot")), (3, 7));
    let nobody = stage.lsm_as_nobody(&["macaroon".to_owned(), "permissions".to_owned()]);
    assert!(nobody.code != 0 && nobody.stderr.contains("sudo"), "{nobody:?}");
}

fn stopping_for_good_takes_the_wallet_too(stage: &Stage) {
    for unnamed in [&["stop", "--clean", "--yes"][..], &["stop", "--clean", "--confirm=other", "--yes"]] {
        assert_eq!(stage.host.lsm(unnamed).code, 2, "{unnamed:?}");
    }
    assert!(stage.is_active("lsm@signer"));
    // What is to be stopped changes by the moment, also while the question is on the terminal.
    fail_over_and_over(stage);
    stage.host.run(["systemctl", "restart", "--no-block", "lsm@signer.service"]).ok();
    let mut terminal = Terminal::start(stage, ["stop", "--clean", "--confirm=signer"]);
    terminal.expect("[y/N] ");
    std::thread::sleep(SOON);
    terminal.type_line("y");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!stage.host.path("/var/lib/lsm").exists() && !stage.host.path("/etc/lsm").exists());
}
