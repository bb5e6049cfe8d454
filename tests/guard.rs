//! `lsm install --guard enforce` on a real host: without its guard lnd answers nobody, and with it again all is as before.

mod flood;
mod payments;

use crate::caller::{Client, Port};
use crate::lab::wait_for;
use crate::stage::{LISTEN, Stage, endpoint};
use lsm::signer::wire::walletrpc::SignPsbtRequest;
use lsm::signer::{MACAROON_REFUSED, Node};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const GUARD: &str = "lsm-guard@signer.service";
const POLICY: &str = "/etc/lsm/signer-guard.toml";
/// An address of another network than the test's.
const MAINNETS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const LOG: &str = "/var/lib/lsm/guard/signer/log/entries.jsonl";

#[test]
fn without_its_guard_a_signer_signs_nothing() {
    let Some(mut stage) = Stage::boot("guard") else { return };
    let refused = stage.install(&["--guard=enforce", "--mode=host"]);
    assert!(refused.code == 2 && refused.stderr.contains("--mode isolated"), "{refused:?}");
    stage.install(&["--guard=enforce"]).ok();
    it_is_as_wanted(&stage);
    its_unit_is_as_tight_as_lnds(&stage);
    its_policy_is_told_tried_and_in_force_at_once(&stage);
    who_ends_the_guard_ends_no_lnd_and_gets_no_signature(&stage);
    a_request_of_nearly_lnds_limit_ends_no_guard(&stage);
    the_operator_freezes_it_over_a_reboot(&mut stage);
    what_it_cannot_write_down_it_refuses(&stage);
    credentials_are_replaced_under_it(&stage);
    it_goes_as_it_came(&stage);
}

/// A signature of the node's identity through the public port: none, or what came instead.
fn sign(stage: &Stage) -> Result<(), String> {
    let signer = stage.signer();
    stage.host.allowed().inside(|| signer.sign_with_key(6, 0, b"a message")).map(drop).map_err(|e| e.to_string())
}

#[track_caller]
fn wait_signed(stage: &Stage) {
    wait_for("a signature", PATIENCE, || sign(stage).ok());
}

/// Waits until another lnd runs than the one of this number.
#[track_caller]
fn wait_for_another_lnd(stage: &Stage, lnd: u32) {
    wait_for("another lnd", PATIENCE, || {
        let shown = stage.host.run(["systemctl", "show", "--property=MainPID", "--value", "lsm@signer"]).stdout;
        (shown.trim() != lnd.to_string() && shown.trim() != "0").then_some(())
    });
}

fn status(stage: &Stage) -> Value {
    let said = stage.host.lsm(["guard", "status", "--json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

fn main_pid(stage: &Stage) -> u32 {
    let shown = stage.host.run(["systemctl", "show", "--property=MainPID", "--value", GUARD]).ok();
    shown.trim().parse().expect("a process number")
}

/// All is done, and a plan of the same finds nothing to do.
fn it_is_as_wanted(stage: &Stage) {
    sign(stage).unwrap();
    let found = status(stage);
    assert_eq!((&found["guard"], &found["running"]), (&json!("enforce"), &json!(true)), "{found}");
    assert_eq!((&found["frozen"], &found["canary_refused"]), (&json!(false), &json!(true)), "{found}");
    assert_eq!((&found["frozen_seconds"], &found["warnings"]), (&json!(null), &json!([])), "{found}");
    let again = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(again["steps"], json!([]));
    let found = stage.host.lsm(["status", "--json"]).json();
    assert_eq!((&found["guard"], &found["last_signature"]["seen_by"]), (&json!("enforce"), &json!("guard")), "{found}");
    for (path, access) in [
        ("/var/lib/lsm/guard/signer", "755 root:root"),
        ("/var/lib/lsm/guard/signer/log", "700 lsm-guard-signer:lsm-guard-signer"),
        (LOG, "600 lsm-guard-signer:lsm-guard-signer"),
        ("/etc/credstore.encrypted/lsm-signer.guard-macaroon", "600 root:root"),
    ] {
        assert_eq!(stage.host.run(["stat", "-c", "%a %U:%G", path]).ok().trim(), access, "{path}");
    }
}

/// Its exposure, and what it sees of the host: lnd's socket and systemd's, and of lnd's folder nothing.
fn its_unit_is_as_tight_as_lnds(stage: &Stage) {
    assert!(stage.exposure(GUARD) <= stage.exposure("lsm@signer.service") + 0.2, "{}", stage.exposure(GUARD));
    let pid = main_pid(stage);
    let names = |folder: &str| {
        let seen = std::fs::read_dir(stage.proc(pid, &format!("root/{folder}"))).expect("a folder");
        let mut names: Vec<_> = seen.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("run"), ["credentials", "lsm", "systemd"]);
    assert_eq!(
        (names("run/lsm"), names("run/systemd")),
        (vec!["signer".to_owned(), "signer-guard".to_owned()], vec!["incoming".to_owned(), "notify".to_owned()])
    );
    let lnds = std::fs::metadata(stage.proc(pid, "root/var/lib/lsm/signer")).expect("a folder");
    assert_eq!(lnds.permissions().mode() & 0o777, 0);
    let links = stage.host.run(["nsenter", "-t", &pid.to_string(), "-n", "--", "ip", "-o", "link"]).ok();
    assert!(links.lines().count() == 1 && links.contains(" lo: "), "{links}");
}

/// The file is explained, tried on what was asked before, and holds from the next call on; each change is written down.
fn its_policy_is_told_tried_and_in_force_at_once(stage: &Stage) {
    let lsm = |args: &[&str]| stage.host.lsm(args.iter().copied());
    assert!(lsm(&["guard", "check"]).ok().contains("nothing is limited"));
    let example = lsm(&["guard", "check", "--example"]).ok();
    stage.host.sh(&format!("cat >/root/example.toml <<'END'\n{example}END")).ok();
    let said = lsm(&["guard", "check", "--file=/root/example.toml", "--json"]).json();
    let rules = said["rules"].as_array().expect("rules");
    assert!(
        rules.iter().any(|rule| rule == "at most 250000 sat may be the fee of one transaction (fee-ceiling)"),
        "{said}"
    );
    assert_eq!(lsm(&["guard", "replay", "--file=/root/example.toml", "--json"]).json()["refused"], json!([]));

    (0..3).for_each(|_| sign(stage).unwrap());
    stage.host.sh("printf '[rates.message]\\nper-hour = 2\\n' >/root/tight.toml").ok();
    let tried = lsm(&["guard", "replay", "--file=/root/tight.toml", "--json"]);
    let found: Value = serde_json::from_str(&tried.stdout).expect("an object");
    assert!(tried.code == 1 && found["judged"].as_u64() > Some(2), "{tried:?}");
    assert!(found["refused"][0]["rule"] == "rate" && found["refused"][0]["was"] == "passed", "{found}");
    assert!(lsm(&["guard", "replay", "--file=/root/tight.toml"]).stdout.contains("(rate); was passed"));
    sign(stage).unwrap();
    stage.host.sh(&format!("mv /root/tight.toml {POLICY}")).ok();
    assert!(sign(stage).unwrap_err().contains("(rate)"));
    stage.host.sh(&format!("printf '[rates]\\nmessages = 2\\n' >{POLICY}")).ok();
    assert!(lsm(&["guard", "check"]).code == 2 && lsm(&["guard", "replay"]).code == 2);
    assert!(sign(stage).unwrap_err().contains("(rate)"), "the rates of before hold on");
    stage.host.sh(&format!("printf '[[free]]\\naddress = \"{MAINNETS}\"\\n' >{POLICY}")).ok();
    let refused = lsm(&["guard", "check"]);
    assert!(refused.code == 2 && refused.stderr.contains("no address of regtest"), "{refused:?}");
    sign(stage).unwrap();
    stage.host.sh(&format!("printf 'unlimited = true\\n' >{POLICY}")).ok();
    sign(stage).unwrap();
    let log = lsm(&["guard", "log", "--json"]).json();
    let told = log["entries"].as_array().expect("entries").iter().filter(|entry| entry["call"] == "policy");
    let told: Vec<_> = told.map(|entry| entry["verdict"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, ["passed", "refused", "passed", "passed"]);

    // What no limit refused is nothing to approve, and nobody else approves.
    for (id, code) in [("1", 2), ("99999", 2)] {
        assert_eq!(lsm(&["guard", "approve", id, "--yes"]).code, code, "{id}");
    }
    assert_ne!(stage.lsm_as_nobody(&["guard".into(), "approve".into(), "1".into(), "--yes".into()]).code, 0);
}

/// What `lsm status` says of why nothing can be signed, which it has to say.
#[track_caller]
fn cannot_sign(stage: &Stage) -> String {
    let said = stage.host.lsm(["status", "--json"]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!((said.code, &found["signs"]), (1, &json!(false)), "{found}");
    found["why"].as_str().expect("a reason").to_owned()
}

/// Stopped, killed and hung: nothing is signed, lnd runs on, and the guard is back by itself.
fn who_ends_the_guard_ends_no_lnd_and_gets_no_signature(stage: &Stage) {
    let lnd = stage.lnd();
    stage.host.run(["systemctl", "stop", GUARD]).ok();
    let found = status(stage);
    assert!(found["running"] == false && found["why"].as_str().is_some_and(|why| why.contains("mandatory")), "{found}");
    assert_eq!(stage.host.lsm(["guard", "status"]).code, 1);
    assert!(cannot_sign(stage).contains("its guard does not run"));
    assert!(!stage.is_active("lsm-proxy@signer.service"), "no connection outlives it");
    // The next connection waits for the next guard.
    sign(stage).unwrap();
    assert!(stage.is_active(GUARD));

    let before = main_pid(stage);
    stage.host.run(["systemctl", "kill", "--signal=KILL", GUARD]).ok();
    wait_signed(stage);
    assert_ne!(main_pid(stage), before);

    stage.host.run(["systemctl", "kill", "--signal=STOP", GUARD]).ok();
    let began = Instant::now();
    // What lnd says of that is held back, too; root is told it.
    assert!(cannot_sign(stage).contains("timeout"));
    sign(stage).unwrap_err();
    wait_signed(stage);
    println!("a guard that hung was replaced within {:?}", began.elapsed());
    assert_eq!(stage.lnd(), lnd, "lnd ran on");

    // And the other way round: lnd ends, and finds its guard again.
    stage.host.run(["kill", "-9", &lnd.to_string()]).ok();
    wait_for_another_lnd(stage, lnd);
    wait_signed(stage);
}

/// lnd takes 200 MiB, and hands on to its guard what it takes. lnd may have lost patience before the guard had all of it.
fn a_request_of_nearly_lnds_limit_ends_no_guard(stage: &Stage) {
    let (guard, bundle) = (main_pid(stage), stage.bundle());
    let asked = SignPsbtRequest { funded_psbt: vec![7; 150 << 20] };
    let said = stage.host.allowed().inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let port = Port::new(LISTEN.parse().expect("an address"), &bundle.certificate);
            let client = Client::new(&port, None, &bundle.macaroon, bundle.identity_pubkey());
            client.call::<_, ()>("/walletrpc.WalletKit/SignPsbt", asked).await
        })
    });
    let said = said.unwrap_err();
    assert!(said.contains("(too-large)") || said.contains("timeout"), "{said}");
    wait_signed(stage);
    assert_eq!(main_pid(stage), guard);
}

fn the_operator_freezes_it_over_a_reboot(stage: &mut Stage) {
    let freeze = |stage: &Stage, verb: &str| stage.host.lsm(["guard", verb, "--json"]).json();
    let frozen = freeze(stage, "freeze");
    assert!(frozen["changed"] == true && frozen["at_stake"].as_array().is_some_and(|all| all.len() > 2), "{frozen}");
    assert_eq!(freeze(stage, "freeze")["changed"], false);
    assert!(stage.host.lsm(["guard", "freeze"]).ok().contains("can take no penalty"));
    assert!(sign(stage).unwrap_err().contains("(frozen)"));
    assert!(cannot_sign(stage).contains("frozen it since 2") && cannot_sign(stage).contains("deadlines run on"));
    assert!(status(stage)["frozen_seconds"].as_u64().is_some_and(|seconds| seconds < 600), "{}", status(stage));
    assert!(stage.host.lsm(["guard", "status"]).stdout.contains("deadlines run on"));
    stage.host.reboot();
    let said = wait_for("the guard's answer", PATIENCE, || sign(stage).err().filter(|said| said.contains("lsm guard")));
    assert!(said.contains("(frozen)"), "{said}");
    assert_eq!(status(stage)["frozen"], true);
    let thawed = freeze(stage, "thaw");
    assert!(thawed["changed"] == true && thawed["at_stake"] == json!([]), "{thawed}");
    assert_eq!(stage.host.lsm(["guard", "clock", "--json"]).json()["changed"], false, "it was not ahead");
    assert_eq!(stage.host.lsm(["guard", "forget", "--json"]).json()["transactions"], 0, "nothing waits");
    sign(stage).unwrap();
    // Whatever is done to the signer at that time: freezing it does not wait.
    let held = "flock /var/lib/lsm/journal/lock sleep 30 & sleep 1; /root/lsm guard freeze --json; kill $!";
    assert!(stage.host.sh(held).stdout.contains("\"changed\":true"), "it waited");
    assert!(sign(stage).unwrap_err().contains("(frozen)"));
    assert_eq!(freeze(stage, "thaw")["changed"], true);
    sign(stage).unwrap();
}

/// A log that was changed, and one that has no room: nothing is signed, the operator is told why, and all goes on by itself once
/// that is mended.
fn what_it_cannot_write_down_it_refuses(stage: &Stage) {
    let (verify, lnd) = (|| stage.host.lsm(["guard", "log", "verify", "--json"]), stage.lnd());
    let guard = main_pid(stage);
    assert!(verify().json()["entries"].as_u64().is_some_and(|entries| entries > 3) && verify().json()["rest"] == 0);
    let seen = verify().json()["seen"].as_str().expect("the last entry").to_owned();
    let later = |seen: &str| stage.host.lsm(["guard", "log", "verify", &format!("--from={seen}")]).code;
    sign(stage).unwrap();
    assert_eq!((later(&seen), later(&seen.replace(':', ":0")), later(&format!("9{seen}"))), (0, 2, 4));
    let other = seen.split_once(':').map(|(id, _)| format!("{id}:{}", "0".repeat(64))).expect("a hash");
    assert_eq!(later(&other), 4);
    let exported = stage.host.lsm(["guard", "log", "export"]).ok();
    assert_eq!(exported, std::fs::read_to_string(stage.host.path(LOG)).unwrap(), "line by line as it is");
    stage.host.sh(&format!("cp -p {LOG} /root/log && sed -i '2s/passed/refused/' {LOG}")).ok();
    assert_eq!(verify().code, 4);
    assert!(sign(stage).unwrap_err().contains("(no-log)"));
    assert!(cannot_sign(stage).contains("does not follow from it"));
    assert_eq!(stage.host.lsm(["guard", "status"]).code, 1);
    stage.host.sh(&format!("cp /root/log {LOG}")).ok();
    // Nobody has to ask before it finds out.
    wait_for("a mended log", PATIENCE, || (stage.host.lsm(["status"]).code == 0).then_some(()));
    sign(stage).unwrap();
    assert_eq!((verify().code, main_pid(stage)), (0, guard));

    let folder = "/var/lib/lsm/guard/signer/log";
    let small = format!("mount -t tmpfs -o size=4m,mode=700,uid=lsm-guard-signer tmpfs {folder}");
    stage.host.sh(&format!("{small} && systemctl restart {GUARD}")).ok();
    wait_signed(stage);
    stage.host.sh(&format!("cat /dev/zero >{folder}/filling || true")).ok();
    wait_for("a full disk", PATIENCE, || {
        (stage.host.lsm(["status"]).code == 1).then(|| assert!(cannot_sign(stage).contains("no room")))
    });
    let said = wait_for("a full disk", PATIENCE, || sign(stage).err());
    assert!(said.contains("(no-log)"), "{said}");
    assert!(status(stage)["trouble"].is_string());
    stage.host.run(["rm", &format!("{folder}/filling")]).ok();
    sign(stage).unwrap();
    assert_eq!((stage.host.lsm(["status"]).code, stage.host.lsm(["guard", "status"]).code), (0, 0));
    stage.host.sh(&format!("umount -l {folder} && systemctl restart {GUARD}")).ok();
    wait_signed(stage);
    assert_eq!(stage.lnd(), lnd, "lnd ran on");
}

/// The guard's own macaroon is nobody's to revoke, and outlives those that are.
fn credentials_are_replaced_under_it(stage: &Stage) {
    let list = stage.host.lsm(["macaroon", "list"]).ok();
    let line = list.lines().find(|line| line.contains("the guard's")).expect("the guard's root key");
    let key = line.split_whitespace().next().expect("its number");
    assert_eq!(stage.host.lsm(["macaroon", "revoke", key, "--yes"]).code, 1);
    let old = std::fs::read(stage.host.path("/etc/credstore.encrypted/lsm-signer.guard-macaroon")).unwrap();
    // Frozen, as after a break-in: what somebody may have is replaced before anything is signed again.
    let (stolen, freeze) = (stage.bundle(), |verb| drop(stage.host.lsm(["guard", verb]).ok()));
    freeze("freeze");
    for verb in [&["rotate"][..], &["rotate", "--finish"], &["revoke", "--admin"]] {
        let done = stage.host.lsm(["macaroon"].iter().chain(verb).chain(&["--yes"]));
        assert!(done.code == 0, "{done:?}");
        assert!(sign(stage).unwrap_err().contains("(frozen)"), "{verb:?}");
    }
    freeze("thaw");
    let signer = Node::new(endpoint(), &stolen.certificate).with_macaroon(&stolen.macaroon);
    let refused = stage.host.allowed().inside(|| signer.sign_with_key(6, 0, b"a message"));
    assert_eq!(refused.unwrap_err().code(), MACAROON_REFUSED);
    assert_ne!(std::fs::read(stage.host.path("/etc/credstore.encrypted/lsm-signer.guard-macaroon")).unwrap(), old);
    sign(stage).unwrap();
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    sign(stage).unwrap();
    assert_eq!(status(stage)["canary_refused"], true);
}

/// No session that lnd began unasked outlives the guard; and one that is turned on again has another macaroon, where the old one was
/// revoked meanwhile.
fn a_guard_of_taproot_channels_takes_lnd_with_it(stage: &Stage) {
    stage.host.lsm(["macaroon", "revoke", "--admin", "--yes"]).ok();
    stage.install(&["--guard=enforce", "--taproot-channels"]).ok();
    wait_signed(stage);
    let lnd = stage.lnd();
    stage.host.run(["systemctl", "restart", GUARD]).ok();
    wait_signed(stage);
    assert_eq!(stage.lnd(), lnd, "one that was told to end has let nobody in");
    stage.host.run(["systemctl", "kill", "--signal=KILL", GUARD]).ok();
    wait_for_another_lnd(stage, lnd);
    wait_signed(stage);
    stage.install(&["--guard=off", "--taproot-channels=false"]).ok();
}

/// Without the guard the same signer signs what it refused; taken away, nothing of it is left.
fn it_goes_as_it_came(stage: &Stage) {
    // The operator's own, which lsm does not take away.
    stage.host.run(["rm", POLICY]).ok();
    let opaque = || {
        let signer: Node = Node::new(endpoint(), &stage.bundle().certificate).with_macaroon(&stage.bundle().macaroon);
        stage.host.allowed().inside(|| signer.sign_with_key(3, 0, b"a message"))
    };
    assert!(opaque().unwrap_err().to_string().contains("(message-key)"));
    stage.install(&["--guard=observe"]).ok();
    opaque().unwrap();
    stage.host.run(["systemctl", "stop", GUARD]).ok();
    opaque().unwrap();
    stage.install(&["--guard=off"]).ok();
    opaque().unwrap();
    assert!(!stage.is_active(GUARD));
    a_guard_of_taproot_channels_takes_lnd_with_it(stage);
    stage.host.sh("echo '[]' >/var/lib/lsm/guard/signer/approvals.json").ok();
    assert_eq!(stage.host.lsm(["guard", "status"]).code, 1);
    let again = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(again["steps"], json!([]));
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    let left = "ls -d /etc/lsm /var/lib/lsm /etc/credstore.encrypted/lsm-* /etc/systemd/system/lsm* 2>/dev/null; getent passwd | grep lsm-";
    assert_eq!(stage.host.sh(left).stdout, "");
}
