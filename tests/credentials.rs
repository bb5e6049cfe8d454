//! `lsm macaroon bake|list|rotate|revoke` and `lsm cert renew` on an installed signer, under a watch-only node that signs.

mod kept;

use crate::node::{Pair, make_certificate};
use crate::stage::watch_only::{Asking, Kept, WatchOnly};
use crate::stage::{BUNDLE, Stage, certificate, endpoint};
use lsm::error::Result;
use lsm::signer::certificate::Certificate;
use lsm::signer::macaroon::Macaroon;
use lsm::signer::wallet::State;
use lsm::signer::{self, Node};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const ADMIN: &str = "/run/lsm/signer-admin/admin.macaroon";

#[test]
fn credentials_are_made_replaced_and_revoked_while_a_node_signs() {
    let Some(stage) = Stage::boot("credentials") else { return };
    stage.install(&[]).ok();
    what_cannot_be_baked_is_refused_and_costs_nothing(&stage);
    a_macaroon_is_baked_listed_and_revoked(&stage);
    a_bake_that_is_rolled_back_is_revoked(&stage);

    let folder = tempfile::tempdir().unwrap();
    let watch_only = WatchOnly::set_up(&stage, stage.host.allowed(), folder.path()).keep();
    let before = Before::look(&stage);
    watch_only.sign_while(|asking| {
        both_overlap_without_a_gap(&stage, &watch_only, asking, folder.path());
        both_are_finished(&stage, &before, asking);
    });
    drop(watch_only);
    nothing_is_finished_twice(&stage);

    kept::a_macaroons_change_that_was_cut_off_has_lnd_started_for_it(&stage);
    a_revocation_of_all_that_fails_goes_on_and_not_back(&stage);
    an_admin_macaroon_that_leaked_is_refused(&stage);
    kept::interrupted_while_root_keys_change_it_stops_lnd(&stage);
    kept::a_key_that_leaked_is_replaced_beside_a_renewal(&stage);
    kept::both_roles_retire(&stage);
    kept::an_earlier_export_is_exported_anew(&stage);
    kept::a_bundle_goes_where_it_is_asked_to_and_nowhere_else(&stage);
    the_end_of_a_certificate_is_told_and_lnd_makes_no_other(&stage);
    stage.host.lsm(["cert", "renew", "--yes"]).ok();
    kill_and_go_on(&stage, "cert renew --finish");
    sign(&stage, &stage.bundle().macaroon).unwrap();
    assert_eq!(stage.bundle().next, None);
    which_root_keys_were_given_out_outlasts_an_uninstall(&stage);
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    let left = stage.host.sh("ls -d /etc/lsm /var/lib/lsm /etc/credstore.encrypted/lsm-* 2>/dev/null").stdout;
    assert_eq!(left, "");
}

/// They are in the wallet's database, which stays: an install after it must not take one that leaked for a new one.
fn which_root_keys_were_given_out_outlasts_an_uninstall(stage: &Stage) {
    let rotated = stage.host.lsm(["macaroon", "rotate", "--yes", "--json"]).json();
    let before = list(stage);
    stage.host.lsm(["uninstall", "--yes"]).ok();
    stage.install(&[]).ok();
    assert_eq!(list(stage), before);
    assert_eq!(stage.bundle().macaroon.root_key_id(), rotated["root_key_id"].to_string());
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    assert_eq!(of_key(&list(stage), rotated["retiring"][0].as_u64().expect("a root key"))["good"], false);
}

/// What the signer's credentials were.
struct Before {
    certificate: Certificate,
    macaroon: Macaroon,
}

impl Before {
    fn look(stage: &Stage) -> Self {
        let bundle = stage.bundle();
        Self { certificate: bundle.certificate, macaroon: bundle.macaroon }
    }
}

fn read_macaroon(stage: &Stage, path: &str) -> Macaroon {
    Macaroon::parse(fs::read(stage.host.path(path)).unwrap()).unwrap()
}

/// The signer at its port, as the holder of this macaroon reaches it.
fn holder(stage: &Stage, macaroon: &Macaroon) -> Node {
    Node::new(endpoint(), &certificate(&stage.host).expect("a certificate")).with_macaroon(macaroon)
}

fn sign(stage: &Stage, macaroon: &Macaroon) -> Result<Vec<u8>> {
    let node = holder(stage, macaroon);
    stage.host.allowed().inside(|| node.sign_with_key(6, 0, b"a message"))
}

fn code<T>(result: Result<T>) -> &'static str {
    result.err().map_or("none", |e| e.code().id)
}

fn list(stage: &Stage) -> Value {
    stage.host.lsm(["macaroon", "list", "--json"]).json()
}

fn of_key(list: &Value, key: u64) -> Value {
    let all = list["macaroons"].as_array().expect("macaroons");
    all.iter().find(|one| one["root_key_id"] == key).cloned().unwrap_or_default()
}

fn what_cannot_be_baked_is_refused_and_costs_nothing(stage: &Stage) {
    let before = list(stage);
    stage.host.sh("touch /root/taken.macaroon").ok();
    for (args, exit, said) in [
        (&["--role=monitor", "--ip=10.0.0.7"][..], 2, "isolated"),
        (&["--uri=/lnrpc.Lightning/getinfo"], 2, "/lnrpc.Lightning/GetInfo"),
        (&["--role=monitor", "--expires=2001-01-01"], 2, "past"),
        (&["--role=monitor", "--out=/root/taken.macaroon"], 2, "already"),
        (&["--role=monitor", "--out=/root/no/folder.macaroon"], 3, "folder"),
        (&["--role=monitor", "--taproot-channels"], 2, "--role signer"),
        (&["--role=monitor", "--uri=/a.B/C"], 2, "cannot be used with"),
        (&["--role=monitor", "--name=../x"], 2, "no name"),
        (&[], 2, "required"),
    ] {
        let done = stage.host.lsm([&["macaroon", "bake", "--yes"], args].concat());
        assert!(done.code == exit && done.stderr.contains(said), "{args:?}: {done:?}");
    }
    assert_eq!(stage.host.lsm(["macaroon", "bake", "--role=monitor"]).code, 2, "without a terminal it needs --yes");
    let args = ["macaroon", "bake", "--role=monitor", "--out=/tmp/m", "--json"].map(str::to_owned);
    assert_eq!(stage.lsm_as_nobody(&[&args[..], &["--yes".to_owned()]].concat()).code, 3);
    let dry = stage.lsm_as_nobody(&[&args[..], &["--dry-run".to_owned()]].concat()).json();
    assert_eq!((&dry["steps"][0]["kind"], &dry["steps"][0]["entry"]["role"]), (&json!("bake"), &json!("monitor")));
    stage.host.lsm(["rollback", "--yes"]);
    assert_eq!(list(stage), before);
}

fn a_macaroon_is_baked_listed_and_revoked(stage: &Stage) {
    let bake = |args: &[&str]| stage.host.lsm([&["macaroon", "bake", "--yes", "--json"], args].concat()).json();
    let signer = bake(&["--role=signer", "--name=second", "--out=/root/second.macaroon", "--expires=2d"]);
    let monitor = bake(&["--role=monitor", "--out=/root/monitor.macaroon"]);
    let admin = bake(&["--role=admin", "--out=/root/admin.macaroon"]);
    let chosen = bake(&["--uri=uri:/lnrpc.Lightning/GetInfo", "--out=/root/chosen.macaroon"]);
    let key = |baked: &Value| baked["root_key_id"].as_u64().expect("a root key");
    let made = stage.host.sh("stat -c '%a %U' /root/*.macaroon | sort -u").ok();
    assert!(made.contains("600 root"), "{made}");

    let [second, monitors, admins, chosens] =
        ["second", "monitor", "admin", "chosen"].map(|name| read_macaroon(stage, &format!("/root/{name}.macaroon")));
    sign(stage, &second).unwrap();
    assert_eq!(code(sign(stage, &monitors)), signer::NOT_PERMITTED.id);
    let (watcher, node) = (holder(stage, &chosens), holder(stage, &admins));
    stage.host.allowed().inside(|| {
        watcher.info().unwrap();
        assert_eq!(code(watcher.accounts()), signer::NOT_PERMITTED.id);
        assert!(node.accounts().is_ok() && node.root_key_ids().unwrap().contains(&key(&signer)));
        assert_eq!(code(holder(stage, &monitors).info()), signer::NOT_PERMITTED.id);
    });

    let listed = list(stage);
    let of = of_key(&listed, key(&signer));
    assert_eq!((&of["name"], &of["role"], &of["good"]), (&json!("second"), &json!("signer"), &json!(true)));
    assert_eq!(listed["other_root_keys"], json!([0]), "lnd's own");
    assert_eq!(of_key(&listed, 1)["held"], "bundle");
    let shown = stage.host.lsm(["macaroon", "show", "/root/second.macaroon"]).ok();
    assert!(shown.contains("until 20") && shown.contains("second: role signer"), "{shown}");

    let revoke = |args: &[&str]| stage.host.lsm([&["macaroon", "revoke", "--yes"], args].concat());
    for (wrong, exit, said) in [("0", 2, "--admin"), ("1", 1, "rotate"), ("77", 2, "no macaroon"), ("x", 2, "invalid")]
    {
        let done = revoke(&[wrong]);
        assert!(done.code == exit && done.stderr.contains(said), "{wrong}: {done:?}");
    }
    let keys = [&signer, &admin].map(|baked| key(baked).to_string());
    revoke(&[&keys[0], &keys[1]]).ok();
    assert_eq!(code(sign(stage, &second)), signer::MACAROON_REFUSED.id);
    assert!(revoke(&[&keys[0]]).ok().contains("revoked already"));
    let rolled = stage.host.lsm(["rollback", "--yes"]);
    assert!(rolled.stderr.contains("stays revoked") && rolled.ok().contains("nothing to undo"));
    let listed = list(stage);
    assert_eq!(
        (&of_key(&listed, key(&signer))["good"], &of_key(&listed, key(&chosen))["good"]),
        (&json!(false), &json!(true))
    );
    revoke(&[&key(&monitor).to_string(), &key(&chosen).to_string()]).ok();
}

fn a_bake_that_is_rolled_back_is_revoked(stage: &Stage) {
    let before = list(stage);
    stage.host.lsm(["macaroon", "bake", "--role=signer", "--out=/root/undone.macaroon", "--yes"]).ok();
    let undone = read_macaroon(stage, "/root/undone.macaroon");
    sign(stage, &undone).unwrap();
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert_eq!(code(sign(stage, &undone)), signer::MACAROON_REFUSED.id);
    assert_eq!(list(stage), before);
}

/// Both are begun, one bundle brings both, and all the while every call is signed.
fn both_overlap_without_a_gap(stage: &Stage, node: &Kept<'_>, asking: &Asking<'_>, folder: &Path) {
    let (starts, old) = (node.starts(), Before::look(stage));
    asking.wait_signed();
    let dry = stage.host.lsm(["macaroon", "rotate", "--dry-run", "--json"]).json();
    let kinds: Vec<&Value> = dry["steps"].as_array().expect("steps").iter().map(|step| &step["kind"]).collect();
    assert_eq!(kinds, ["text", "rotate"]);
    let rotated = stage.host.lsm(["macaroon", "rotate", "--yes", "--json"]).json();
    assert_eq!((&rotated["changed"], &rotated["retiring"]), (&json!(true), &json!([1])));
    let again = stage.host.lsm(["macaroon", "rotate", "--yes", "--json"]).json();
    assert_eq!((&again["changed"], &again["root_key_id"]), (&json!(false), &rotated["root_key_id"]));
    let renewed = stage.host.lsm(["cert", "renew", "--yes", "--json"]).json();
    assert_eq!(stage.host.lsm(["cert", "renew", "--yes", "--json"]).json()["changed"], false);
    let status = stage.host.lsm(["status"]).ok();
    assert!(status.contains("macaroon rotate --finish") && status.contains("cert renew --finish"), "{status}");
    assert!(status.contains("as wanted  yes"), "{status}");

    let bundle = stage.bundle();
    assert_eq!(bundle.certificate, old.certificate);
    assert_eq!(bundle.next.as_ref().map(Certificate::fingerprint).as_deref(), renewed["next"]["sha256"].as_str());
    assert_eq!(bundle.macaroon.root_key_id(), rotated["root_key_id"].to_string());
    asking.wait_signed();
    let (_, failed) = asking.so_far();
    assert!(failed.is_empty() && node.starts() == starts, "{failed:?}");
    for macaroon in [&old.macaroon, &bundle.macaroon] {
        sign(stage, macaroon).unwrap();
    }
    node.take_bundle(stage, folder);
    asking.wait_signed();
}

/// The old ones end; the node that has taken the bundle goes on.
fn both_are_finished(stage: &Stage, before: &Before, asking: &Asking<'_>) {
    let new = stage.bundle();
    let revoked = stage.host.lsm(["macaroon", "rotate", "--finish", "--yes", "--json"]).json();
    assert_eq!(revoked["revoked"], json!([1]));
    asking.wait_signed();
    assert_eq!(code(sign(stage, &before.macaroon)), signer::MACAROON_REFUSED.id);

    let finished = stage.host.lsm(["cert", "renew", "--finish", "--yes"]);
    assert!(finished.stderr.contains("warning"), "{finished:?}");
    finished.ok();
    asking.wait_signed();
    let shown = certificate(&stage.host).expect("a certificate");
    assert_eq!(Some(&shown), new.next.as_ref());
    let bundle = stage.bundle();
    assert_eq!((&bundle.certificate, &bundle.next), (&shown, &None));
    assert_eq!(bundle.macaroon.root_key_id(), new.macaroon.root_key_id());
    let stale = Node::new(endpoint(), &before.certificate);
    assert_eq!(code(stage.host.allowed().inside(|| stale.state())), lsm::signer::channel::OTHER_CERTIFICATE.id);
    for left in ["/etc/lsm/signer/next.cert", "/etc/credstore.encrypted/lsm-signer.tls-key.next"] {
        assert!(!stage.host.path(left).exists(), "{left}");
    }
}

fn nothing_is_finished_twice(stage: &Stage) {
    for verb in [["macaroon", "rotate"], ["cert", "renew"]] {
        let done = stage.host.lsm([verb[0], verb[1], "--finish", "--yes"]).ok();
        assert!(done.contains("nothing to do"), "{done}");
    }
    let status = stage.host.lsm(["status"]).ok();
    assert!(status.contains("as wanted  yes") && !status.contains("--finish"), "{status}");
    // Back to the old certificate and its bundle, and forward again.
    stage.host.lsm(["cert", "renew", "--yes"]).ok();
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert!(!stage.host.path("/etc/lsm/signer/next.cert").exists());
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    let undone = stage.bundle().macaroon;
    let rolled = stage.host.lsm(["rollback", "--yes"]).ok();
    assert!(rolled.contains("lsm bundle export"), "{rolled}");
    assert_eq!(code(sign(stage, &undone)), signer::MACAROON_REFUSED.id);
    stage.host.lsm(["bundle", "export", "--out", BUNDLE, "--yes"]).ok();
    sign(stage, &stage.bundle().macaroon).unwrap();
    assert_eq!(stage.bundle().next, None);
}

/// Killed wherever a second takes it, it goes on when it is run again.
fn kill_and_go_on(stage: &Stage, verb: &str) {
    stage.host.sh(&format!("timeout -s KILL 1 lsm {verb} --yes"));
    stage.host.sh(&format!("lsm {verb} --yes")).ok();
}

/// The root keys are gone before the proof that the port signs, which fails.
fn a_revocation_of_all_that_fails_goes_on_and_not_back(stage: &Stage) {
    let before = stage.bundle().macaroon;
    stage.host.run(["systemctl", "mask", "--runtime", "lsm-proxy@signer.socket"]).ok();
    let failed = stage.host.lsm(["macaroon", "revoke", "--admin", "--yes"]);
    assert!(failed.code != 0 && failed.stderr.contains("goes on to new ones"), "{failed:?}");
    assert!(!failed.stderr.contains("undone") && stage.is_active("lsm@signer"), "{failed:?}");
    stage.host.run(["systemctl", "unmask", "--runtime", "lsm-proxy@signer.socket"]).ok();
    stage.host.lsm(["macaroon", "revoke", "--admin", "--yes"]).ok();
    assert_eq!(code(sign(stage, &before)), signer::MACAROON_REFUSED.id);
    sign(stage, &stage.bundle().macaroon).unwrap();
}

fn an_admin_macaroon_that_leaked_is_refused(stage: &Stage) {
    let leaked = read_macaroon(stage, ADMIN);
    let holds = |macaroon: &Macaroon| {
        let node = holder(stage, macaroon);
        stage.host.allowed().inside(|| node.root_key_ids())
    };
    stage.host.lsm(["macaroon", "bake", "--role=admin", "--out=/root/thiefs.macaroon", "--yes"]).ok();
    let (thiefs, bundled) = (read_macaroon(stage, "/root/thiefs.macaroon"), stage.bundle().macaroon);
    assert!(holds(&leaked).unwrap().len() > 2 && holds(&thiefs).is_ok());
    let dry = stage.host.lsm(["macaroon", "revoke", "--admin", "--dry-run"]).ok();
    assert!(dry.contains("every root key"), "{dry}");
    let pid = stage.lnd();
    kill_and_go_on(stage, "macaroon revoke --admin");
    assert_ne!(stage.lnd(), pid);
    for old in [&leaked, &thiefs] {
        assert_eq!(code(holds(old)), signer::MACAROON_REFUSED.id);
    }
    assert_eq!(code(sign(stage, &bundled)), signer::MACAROON_REFUSED.id);
    let keys = holds(&read_macaroon(stage, ADMIN)).unwrap();
    assert_eq!(keys.iter().map(u64::to_string).collect::<Vec<_>>(), ["0", stage.bundle().macaroon.root_key_id()]);
    sign(stage, &stage.bundle().macaroon).unwrap();
    assert!(
        stage.is_active("lsm-proxy@signer.socket")
            && !stage.host.path("/run/systemd/system/lsm-create@signer.service").exists()
    );
    stage.host.lsm(["status"]).ok();
}

fn the_end_of_a_certificate_is_told_and_lnd_makes_no_other(stage: &Stage) {
    put_certificate(stage, (-1, 20));
    stage.host.run(["systemctl", "restart", "lsm@signer"]).ok();
    let soon = "renew it soon: lsm cert renew";
    assert!(stage.host.lsm(["status"]).ok().contains(soon));
    assert!(stage.host.lsm(["cert", "show"]).ok().contains(soon));
    let log = stage.host.journal(&["-u", "lsm@signer", "-p", "warning"]);
    assert!(log.contains(soon), "{log}");
    let found = stage.host.lsm(["harden", "--only=TLS-001", "--json"]);
    assert!(found.code == 1 && found.stdout.contains(soon), "{found:?}");

    let expired = put_certificate(stage, (-30, -1));
    assert_ne!(stage.host.run(["systemctl", "restart", "lsm@signer"]).code, 0, "lnd does not start with it");
    assert_eq!(fs::read_to_string(stage.host.path("/etc/lsm/signer/tls.cert")).unwrap(), expired);
    let status = stage.host.lsm(["status"]);
    assert!(status.code == 1 && status.stdout.contains("EXPIRED"), "{status:?}");

    let renewed = stage.host.lsm(["cert", "renew", "--yes"]);
    assert!(renewed.stderr.contains("cut off until"), "{renewed:?}");
    renewed.ok();
    let node = stage.signer();
    assert_eq!(stage.host.allowed().inside(|| node.state()).unwrap(), State::Active);
    let days = stage.host.lsm(["cert", "show", "--json"]).json()["days_left"].clone();
    assert_eq!((days, stage.bundle().next), (json!(729), None));
    stage.host.lsm(["status"]).ok();
}

/// Gives the signer a certificate that is valid from and until so many days from now, with its key.
fn put_certificate(stage: &Stage, days: (i64, i64)) -> String {
    let pair = make_certificate(&["10.77.0.2"], days);
    put_pair(stage, &pair);
    pair.certificate
}

/// Gives the signer this certificate with its key; a restart puts it in force.
pub fn put_pair(stage: &Stage, pair: &Pair) {
    fs::write(stage.host.path("/etc/lsm/signer/tls.cert"), &pair.certificate).unwrap();
    fs::write(stage.host.path("/root/key"), &pair.key).unwrap();
    let key = "/etc/credstore.encrypted/lsm-signer.tls-key";
    stage
        .host
        .sh(&format!(
            "systemd-creds encrypt --with-key=host --name=tls-key /root/key - >/root/sealed && cat /root/sealed >{key}"
        ))
        .ok();
}
