//! What a signer's credentials do not do: keep lnd from starting, outlive a leak, open a folder, follow another user.

use super::{ADMIN, code, list, of_key, read_macaroon, sign};
use crate::faults::cut::{self, Moment};
use crate::lab::trace::Fate;
use crate::stage::{BUNDLE, Stage};
use lsm::signer;
use serde_json::json;
use std::fs;

/// `lsm start` is let through where what was cut off needs lnd, and nothing else is.
#[track_caller]
pub fn a_macaroons_change_that_was_cut_off_has_lnd_started_for_it(stage: &Stage) {
    let rotate = ["macaroon", "rotate", "--yes"].map(str::to_owned);
    let killed = cut::run(&stage.host, &rotate, |step, moment| {
        let is_it = step == "rotate" && matches!(moment, Moment::Written(line) if line.event == "intent");
        if is_it { Fate::Kill } else { Fate::Go }
    });
    assert_eq!(killed.code, 128 + 9, "{killed:?}");
    stage.host.lsm(["stop", "--yes"]).ok();
    let stopped = stage.host.lsm(["macaroon", "rotate", "--yes"]);
    assert!(stopped.code != 0 && stopped.stderr.contains("lsm start"), "{stopped:?}");
    // Where lnd ends in the middle the undoing needs it too.
    stage.host.sh("systemctl start lsm@signer").ok();
    let ended = cut::run(&stage.host, &rotate, |step, moment| {
        if step == "rotate" && matches!(moment, Moment::Written(line) if line.event == "intent") {
            stage.host.sh("systemctl stop lsm-proxy@signer.socket lsm@signer").ok();
        }
        Fate::Go
    });
    assert!(ended.code != 0 && ended.stderr.contains("undoing it failed"), "{ended:?}");
    let restart = stage.host.lsm(["restart", "--yes"]);
    assert!(restart.code == 1 && restart.stderr.contains("E-PLAN-050"), "{restart:?}");
    stage.host.lsm(["start", "--yes"]).ok();
    stage.host.lsm(["rollback", "--yes"]).ok();
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    // What nobody has tried this time is not said to sign.
    let again = stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    assert!(again.contains("is already") && again.contains("good still") && !again.contains("signs"), "{again}");
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    sign(stage, &stage.bundle().macaroon).unwrap();
}

/// An lnd that replaces its root keys is locked and without a port: it does not outlive the lsm that started it.
#[track_caller]
pub fn interrupted_while_root_keys_change_it_stops_lnd(stage: &Stage) {
    let locked = "systemctl is-active lsm-create@signer | grep -x active";
    let interrupted = stage.host.sh(&format!(
        "/root/lsm macaroon revoke --admin --yes >/root/out/said 2>&1 & lsm=$!
        until [ -n \"$({locked})\" ]; do kill -0 $lsm || break; sleep 0.05; done
        kill -INT $lsm; wait $lsm; echo ended with $?; pgrep -a lnd; true"
    ));
    assert_eq!(interrupted.stdout, "ended with 130\n", "{interrupted:?}");
    assert!(!stage.host.path("/run/systemd/system/lsm-create@signer.service").exists());
    stage.host.lsm(["macaroon", "revoke", "--admin", "--yes"]).ok();
    sign(stage, &stage.bundle().macaroon).unwrap();
    sign(stage, &read_macaroon(stage, ADMIN)).unwrap();
}

/// A next certificate that is there already may have leaked with the one in force: it is not the one that comes then.
#[track_caller]
pub fn a_key_that_leaked_is_replaced_beside_a_renewal(stage: &Stage) {
    let pending = stage.host.lsm(["cert", "renew", "--yes", "--json"]).json()["next"]["sha256"].clone();
    assert!(pending.is_string());
    // Cut off before it was taken away, it is not taken for one that was made in its place.
    let leaked = ["cert", "renew", "--now", "--yes"].map(str::to_owned);
    let killed = cut::run(&stage.host, &leaked, |_, moment| {
        if matches!(moment, Moment::Written(line) if line.event == "begin") { Fate::Kill } else { Fate::Go }
    });
    assert_eq!(killed.code, 128 + 9, "{killed:?}");
    let now = stage.host.lsm(["cert", "renew", "--now", "--yes", "--json"]);
    assert!(now.stderr.contains("cut off until"), "{now:?}");
    let now = now.json();
    assert_ne!(now["certificate"]["sha256"], pending);
    let bundle = stage.bundle();
    assert_eq!((json!(bundle.certificate.fingerprint()), bundle.next), (now["certificate"]["sha256"].clone(), None));
    assert!(!stage.host.path("/etc/lsm/signer/next.cert").exists());
    sign(stage, &stage.bundle().macaroon).unwrap();
}

/// A bundle of before `--taproot-channels` is as good as the one after it, until a rotation is finished.
#[track_caller]
pub fn both_roles_retire(stage: &Stage) {
    let least = stage.bundle().macaroon;
    stage.host.lsm(["install", "--network=regtest", "--taproot-channels", "--yes"]).ok();
    let wide = stage.bundle().macaroon;
    for macaroon in [&least, &wide] {
        sign(stage, macaroon).unwrap();
    }
    let mut retiring = [&least, &wide].map(|macaroon| macaroon.root_key_id().parse::<u64>().expect("a root key"));
    let mut said: Vec<u64> =
        serde_json::from_value(stage.host.lsm(["macaroon", "rotate", "--yes", "--json"]).json()["retiring"].clone())
            .expect("root keys");
    retiring.sort_unstable();
    said.sort_unstable();
    assert_eq!(said, retiring);
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    for macaroon in [&least, &wide] {
        assert_eq!(code(sign(stage, macaroon)), signer::MACAROON_REFUSED.id);
    }
    sign(stage, &stage.bundle().macaroon).unwrap();
    assert!(retiring.iter().all(|key| of_key(&list(stage), *key)["good"] == false));
    goes_back_to_the_least_on_a_key_of_its_own(stage);
    // In the middle of a rotation, which is finished later.
    stage.host.lsm(["install", "--network=regtest", "--taproot-channels", "--yes"]).ok();
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    goes_back_to_the_least_on_a_key_of_its_own(stage);
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    sign(stage, &stage.bundle().macaroon).unwrap();
    undone_it_keeps_its_name(stage);
}

/// Every root key that the role had is revoked, or about to be: none of them comes back.
#[track_caller]
fn goes_back_to_the_least_on_a_key_of_its_own(stage: &Stage) {
    let before = list(stage);
    stage.host.lsm(["install", "--network=regtest", "--taproot-channels=false", "--yes"]).ok();
    let least = stage.bundle().macaroon;
    assert!(least.fit().taproot.is_empty());
    sign(stage, &least).unwrap();
    let root_key = least.root_key_id().parse().expect("a root key");
    assert!(of_key(&before, root_key).is_null(), "{root_key} of {before}");
    assert_eq!(of_key(&list(stage), root_key)["held"], "bundle");
}

/// What was exported is good until it is revoked: a rollback does not forget what it hangs on.
#[track_caller]
fn undone_it_keeps_its_name(stage: &Stage) {
    stage.host.lsm(["install", "--network=regtest", "--taproot-channels", "--yes"]).ok();
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    goes_back_to_the_least_on_a_key_of_its_own(stage);
    let least = stage.bundle().macaroon;
    stage.host.lsm(["rollback", "--yes"]).ok();
    sign(stage, &least).unwrap();
    let root_key = least.root_key_id().parse().expect("a root key");
    assert_eq!(of_key(&list(stage), root_key)["held"], "bundle");
    stage.host.lsm(["install", "--network=regtest", "--taproot-channels=false", "--yes"]).ok();
    assert_eq!(stage.bundle().macaroon.root_key_id(), least.root_key_id());
    sign(stage, &stage.bundle().macaroon).unwrap();
}

/// One of before a rotation has a bundle's name, and a macaroon that is refused.
#[track_caller]
pub fn an_earlier_export_is_exported_anew(stage: &Stage) {
    let planned = |folder: &str| {
        let install = ["install", "--network=regtest", "--bundle-out", folder, "--dry-run", "--json"];
        let plan = stage.host.lsm(install).json();
        plan["steps"].as_array().expect("steps").iter().map(|step| step["kind"].clone()).collect::<Vec<_>>()
    };
    let earlier = "/root/out/earlier";
    stage.host.sh(&format!("cp -a {BUNDLE} {earlier}")).ok();
    assert!(planned(earlier).is_empty(), "it is the signer's of now: {:?}", planned(earlier));
    stage.host.lsm(["macaroon", "rotate", "--yes"]).ok();
    assert_eq!(planned(earlier), ["bundle"]);
    stage.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    assert_eq!(planned(earlier), ["bundle"]);
    assert!(planned(BUNDLE).is_empty());
    stage.host.sh(&format!("rm -r {earlier} && mkdir -m 700 {earlier} && touch {earlier}/bundle.json")).ok();
    assert_eq!(planned(earlier), ["bundle"], "that is none");
    stage.host.sh(&format!("rm -r {earlier}")).ok();
}

/// Root writes no bundle where another user decides; an encrypted one leaves the folder that it goes into as it is.
#[track_caller]
pub fn a_bundle_goes_where_it_is_asked_to_and_nowhere_else(stage: &Stage) {
    stage.host.sh("install -d -o nobody -g nogroup -m 755 /srv/theirs && install -d -m 755 /srv/shared").ok();
    let import = |folder: &str| stage.host.lsm(["bundle", "import", "--bundle", BUNDLE, "--lnddir", folder]);
    for folder in ["/srv/theirs", "/srv/theirs/not-there"] {
        let refused = import(folder);
        assert!(refused.code == 1 && refused.stderr.contains("E-WATCH-025"), "{folder}: {refused:?}");
    }
    stage.host.sh("ln -s /srv/shared /srv/theirs/link && chown --no-dereference nobody /srv/theirs/link").ok();
    let refused = import("/srv/theirs/link");
    assert!(refused.code == 1 && refused.stderr.contains("E-WATCH-025"), "{refused:?}");
    assert_eq!(stage.host.sh("find /srv/theirs /srv/shared -mindepth 1").ok(), "/srv/theirs/link\n");
    // A folder that others may write to is as good as theirs: they could put another in the place of what is below it.
    stage.host.sh("install -d -m 757 /srv/open && install -d -m 755 /srv/open/lnd").ok();
    for folder in ["/srv/open/lnd", "/srv/open/not-there"] {
        let refused = import(folder);
        assert!(refused.code == 1 && refused.stderr.contains("E-WATCH-025"), "{folder}: {refused:?}");
    }
    assert_eq!(stage.host.sh("find /srv/open -mindepth 1").ok(), "/srv/open/lnd\n");
    // Nor does it start anything there.
    stage.host.sh("printf '#!/bin/sh\ntouch /root/ran\n' >/root/other-lnd && chmod 755 /root/other-lnd").ok();
    stage.host.sh("printf 'bitcoin.regtest=true\n' >/srv/theirs/lnd.conf && chown nobody /srv/theirs/lnd.conf").ok();
    for (folder, more) in [
        ("/srv/theirs", "--lnd /root/other-lnd --migrate --seed-verified --yes"),
        ("/srv/theirs/not-there", ""),
        ("/srv/shared", "--conf /srv/theirs/lnd.conf"),
    ] {
        let init = format!("/root/lsm watch-only init --bundle {BUNDLE} --lnddir {folder} {more}");
        let refused = stage.host.sh(&init);
        assert!(refused.code == 1 && refused.stderr.contains("E-WATCH-025"), "{init}: {refused:?}");
    }
    let there = stage.host.sh("ls /root/ran; find /srv/theirs /srv/shared -mindepth 1 | sort").stdout;
    assert_eq!(there, "/srv/theirs/link\n/srv/theirs/lnd.conf\n");

    // What does not fit is not said to be done.
    let full = stage.host.sh(&format!("/root/lsm bundle show --bundle {BUNDLE} --base64 >/dev/full"));
    assert!(full.code == 1 && full.stderr.contains("not printed whole"), "{full:?}");

    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    stage.host.sh("touch /srv/before").ok();
    stage.host.lsm(["bundle", "export", "--encrypt-to", recipient, "--out", "/srv/shared", "--yes"]).ok();
    let access = stage.host.sh("stat -c '%a %n' /srv/shared /srv/shared/*").ok();
    let lines: Vec<&str> = access.lines().collect();
    assert!(lines[0] == "755 /srv/shared" && lines.len() == 2 && lines[1].starts_with("600 "), "{access}");
    let file = lines[1].split_once(' ').expect("a name").1;
    assert!(fs::read_to_string(stage.host.path(file)).unwrap().starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    assert_eq!(stage.host.sh("find / -xdev -name accounts.json -newer /srv/before").ok(), "", "nothing in plain text");
    assert_eq!(
        stage.host.lsm(["status", "--json"]).json()["bundle"]["folder"],
        BUNDLE,
        "the copy is not kept up to date"
    );
}
