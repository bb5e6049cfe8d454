//! Signed updates of the release policy: accepted, kept and shown; and each kind of bad one refused, with nothing changed.

pub mod bad;
pub mod desk;

use bad::{Met, bad_texts, badly_signed};
use desk::{Desk, Key, day, failure, head, json, judgement, release, snapshot, update_keys};
use lsm::host::program::Program;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn an_update_is_accepted_kept_shown_and_then_nothing_to_do() {
    let key = Key::new();
    let desk = Desk::trusting(&[&key]);
    let text = format!(
        "{}{}{}",
        head(2, &key),
        release("v0.22.0-beta", "current", 0x40),
        judgement("v0.21.3-beta", "outdated")
    );
    let signature = key.sign(text.as_bytes());
    let before = snapshot(desk.dir.path());
    // Looked at first: nothing changes.
    let dry = json(&desk.update(text.as_bytes(), &signature, &["--dry-run"]));
    let place = desk.policy().join("updates/00000002.toml");
    assert_eq!(dry["steps"], json!([{"kind": "keep-update", "path": place}]));
    assert!(!place.exists());
    // Nobody is there to ask.
    assert_eq!(failure(&desk.update(text.as_bytes(), &signature, &[])), (2, "E-UI-001".to_owned()));
    assert_eq!(before.len() + 2, snapshot(desk.dir.path()).len(), "only the update itself was laid there");

    let accepted = json(&desk.update(text.as_bytes(), &signature, &["--yes"]));
    assert_eq!(accepted["counter"], 2);
    assert_eq!(accepted["key"], key.id());
    assert_eq!(accepted["expires"], day(30));
    assert_eq!(accepted["changed"], true);
    let changes = accepted["changes"].as_array().unwrap();
    assert_eq!(changes[0], json!({"kind": "release", "version": "v0.22.0-beta", "status": "current"}));
    let outdated = json!({"kind": "judgement", "version": "v0.21.3-beta", "from": "current", "to": "outdated",
        "reason": "because"});
    assert!(changes.contains(&outdated), "{changes:?}");

    let new = desk.listed("v0.22.0-beta");
    assert_eq!(new["archive"]["amd64"]["origin"], json!({"update": 2}));
    assert_eq!(new["source"]["origin"], json!({"update": 2}));
    assert_eq!(new["judged"], json!({"update": 2}));
    let old = desk.listed("v0.21.3-beta");
    assert_eq!((&old["status"], &old["judged"]), (&json!("outdated"), &json!({"update": 2})));
    assert_eq!(old["archive"]["amd64"]["origin"], "shipped");
    assert_eq!(json(&desk.list())["updates"][0]["counter"], 2);
    let mode = |path: &str| std::fs::metadata(desk.policy().join(path)).unwrap().permissions().mode() & 0o7777;
    let modes = ["updates", "updates/00000002.toml", "updates/00000002.toml.minisig"].map(mode);
    assert_eq!(modes, [0o755, 0o644, 0o644]);

    // The same again, with and without --dry-run.
    let before = snapshot(&desk.policy());
    let again = desk.update(text.as_bytes(), &signature, &["--yes"]);
    assert_eq!((again.status.code(), &json(&again)["changed"]), (Some(0), &json!(false)));
    assert_eq!(json(&desk.update(text.as_bytes(), &signature, &["--dry-run"]))["steps"], json!([]));
    assert_eq!(snapshot(&desk.policy()), before);
    // A person sees what was signed, and no control character of it.
    let file = desk.lay(text.as_bytes(), &signature);
    std::fs::remove_dir_all(desk.policy().join("updates")).unwrap();
    let shown = desk.lsm(&["release", "update", file.to_str().unwrap(), "--yes"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("new: lnd v0.22.0-beta, current"), "{shown}");
    assert!(shown.contains("u{1b}[2J") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn without_a_key_nothing_is_accepted_and_no_folder_made() {
    let key = Key::new();
    let desk = Desk::trusting(&[]);
    std::fs::remove_dir_all(desk.policy()).unwrap();
    let text = head(2, &key);
    assert_eq!(desk.try_it(&text, &key), (4, "E-UPDATE-004".to_owned()), "no key is shipped");
    assert!(!desk.policy().exists());
}

#[test]
fn bad_updates_are_refused_and_leave_everything_as_it_was() {
    let met = Met::new();
    let mut table = badly_signed(&met);
    table.extend(bad_texts(&met).into_iter().map(|(what, text, exit, code)| {
        let signature = met.good.sign(text.as_bytes());
        (what, text.into_bytes(), signature, exit, code)
    }));
    assert!(table.len() > 50);
    let before = snapshot(&met.desk.policy());
    for (what, text, signature, exit, code) in table {
        let output = met.desk.update(&text, &signature, &["--yes"]);
        assert_eq!(failure(&output), (exit, code.to_owned()), "{what}: {}", json(&output));
        assert_eq!(snapshot(&met.desk.policy()), before, "{what}");
    }
    // The same desk takes a good one, so it was each time the fault that was named.
    met.desk.accept(&(met.head() + &release("v0.23.0-beta", "current", 0x80)), &met.good);
}

#[test]
fn an_update_without_signature_or_file_is_told() {
    let met = Met::new();
    let file = met.desk.lay(met.head().as_bytes(), b"");
    let update =
        |file: &Path| failure(&met.desk.lsm(&["release", "update", file.to_str().unwrap(), "--json", "--yes"]));
    std::fs::remove_file(met.desk.dir.path().join("releases.toml.minisig")).unwrap();
    assert_eq!(update(&file), (2, "E-UPDATE-002".to_owned()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(update(&file), (3, "E-HOST-001".to_owned()));
}

#[test]
fn what_somebody_else_could_write_is_not_believed() {
    let met = Met::new();
    let text = met.head();
    for path in ["", "updates", "updates/00000005.toml", "updates/00000005.toml.minisig"] {
        let path = met.desk.policy().join(path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode | 0o002)).unwrap();
        let before = snapshot(&met.desk.policy());
        assert_eq!(met.desk.try_it(&text, &met.good), (1, "E-TRUST-002".to_owned()), "{}", path.display());
        assert_eq!(failure(&met.desk.list()), (1, "E-TRUST-002".to_owned()), "{}", path.display());
        assert_eq!(snapshot(&met.desk.policy()), before);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    met.desk.accept(&text, &met.good);
}

#[test]
fn a_key_is_rotated_and_the_old_one_revoked() {
    let (old, new, third) = (Key::new(), Key::new(), Key::new());
    let desk = Desk::trusting(&[&old]);
    // Before it was added, the new key signs nothing.
    assert_eq!(desk.try_it(&head(2, &new), &new), (4, "E-UPDATE-004".to_owned()));
    let adds = format!("{}keys.add = [{:?}]\n", head(2, &old), new.public());
    assert_eq!(desk.accept(&adds, &old)["changes"], json!([{"kind": "key-added", "key": new.id()}]));
    // Both hold for a while.
    desk.accept(&head(3, &old), &old);
    desk.accept(&head(4, &new), &new);
    let revokes = format!("{}keys.revoke = [{:?}]\n", head(5, &new), old.id());
    assert_eq!(desk.accept(&revokes, &new)["changes"], json!([{"kind": "key-revoked", "key": old.id()}]));
    assert_eq!(desk.try_it(&head(6, &old), &old), (4, "E-UPDATE-005".to_owned()));
    // In one step, by the key that goes.
    let leaves = format!("{}keys = {{ add = [{:?}], revoke = [{:?}] }}\n", head(6, &new), third.public(), new.id());
    desk.accept(&leaves, &new);
    assert_eq!(desk.try_it(&head(7, &new), &new), (4, "E-UPDATE-005".to_owned()));
    desk.accept(&head(7, &third), &third);
    // What the old keys signed in their time is still there: a rotated key was not stolen.
    let updates = json(&desk.list())["updates"].clone();
    let counters: Vec<_> = updates.as_array().unwrap().iter().map(|u| u["counter"].as_u64().unwrap()).collect();
    assert_eq!(counters, [2, 3, 4, 5, 6, 7]);
    // A stolen one is revoked by the operator (or a newer lsm): then what it signed is not believed any more, and said.
    desk.trust(&format!("{}revoked = [{:?}]\n", update_keys(&[&old]), new.id()));
    let output = desk.list();
    assert_eq!(failure(&output), (4, "E-UPDATE-020".to_owned()));
    assert!(json(&output)["error"]["cause"].as_str().unwrap().contains("00000004.toml"), "{}", json(&output));
    assert!(json(&output)["error"]["hint"].as_str().unwrap().contains("rm "), "{}", json(&output));
}

#[test]
fn a_damaged_chain_is_told_by_name_and_nothing_goes_on() {
    let met = Met::new();
    let updates = met.desk.policy().join("updates");
    let (text, signature) = (updates.join("00000005.toml"), updates.join("00000005.toml.minisig"));
    let whole = [std::fs::read(&text).unwrap(), std::fs::read(&signature).unwrap()];
    let mend = || {
        std::fs::write(&text, &whole[0]).unwrap();
        std::fs::write(&signature, &whole[1]).unwrap();
    };
    let told = |what: &str| {
        for verb in [&["list"][..], &["fetch", "v0.21.3-beta", "--out", "/nowhere"]] {
            let output = met.desk.lsm(&[&["release"], verb, &["--json"]].concat());
            assert_eq!(failure(&output), (4, "E-UPDATE-020".to_owned()), "{what}: {}", json(&output));
            assert!(json(&output)["error"]["cause"].as_str().unwrap().contains("0005.toml"), "{}", json(&output));
        }
        let next = met.desk.try_it(&met.head(), &met.good);
        assert_eq!(next, (4, "E-UPDATE-020".to_owned()), "{what}");
    };
    std::fs::write(&text, [&whole[0][..], b"\n"].concat()).unwrap();
    told("a byte more");
    mend();
    std::fs::write(&text, &whole[0][..whole[0].len() / 2]).unwrap();
    told("cut short");
    mend();
    std::fs::write(&signature, b"").unwrap();
    told("an empty signature");
    std::fs::remove_file(&signature).unwrap();
    told("no signature");
    mend();
    // Under another number, before or after, or none.
    for name in ["00000006.toml", "00000004.toml", "x0005.toml", "6.toml"] {
        std::fs::copy(&text, updates.join(name)).unwrap();
        std::fs::copy(&signature, updates.join(format!("{name}.minisig"))).unwrap();
        assert_eq!(failure(&met.desk.list()), (4, "E-UPDATE-020".to_owned()), "{name}");
        std::fs::remove_file(updates.join(name)).unwrap();
    }
    // Signatures alone, as a write that was cut off leaves them, are nothing.
    met.desk.accept(&met.head(), &met.good);
}

#[test]
fn a_misspelt_key_or_revocation_of_the_operator_is_told() {
    let key = Key::new();
    for trust in ["update-keys = [\"RWx\"]", "revoked = [\"e7620f1842b4e81f\"]"] {
        let desk = Desk::new(trust);
        assert_eq!(failure(&desk.list()), (2, "E-UPDATE-010".to_owned()), "{trust}");
        assert_eq!(desk.try_it(&head(2, &key), &key), (2, "E-UPDATE-010".to_owned()), "{trust}");
    }
}

#[test]
fn of_two_that_contradict_each_other_one_is_accepted() {
    let met = Met::new();
    let codes: Vec<_> = std::thread::scope(|scope| {
        let (desk, key) = (&met.desk, &met.good);
        let run = |n: u8| {
            let text = head(5 + u64::from(n), key) + &release("v0.23.0-beta", "current", 0x80 + n);
            let file = desk.dir.path().join(format!("{n}.toml"));
            std::fs::write(&file, &text).unwrap();
            std::fs::write(desk.dir.path().join(format!("{n}.toml.minisig")), key.sign(text.as_bytes())).unwrap();
            desk.lsm(&["release", "update", file.to_str().unwrap(), "--yes", "--json"]).status.code().unwrap()
        };
        let started: Vec<_> = (1..=8).map(|n| scope.spawn(move || run(n))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 4).count(), 7, "{codes:?}");
    assert_eq!(met.desk.list().status.code(), Some(0));
}

#[test]
fn a_pipe_in_place_of_an_update_or_its_signature_is_refused_and_not_waited_on() {
    let key = Key::new();
    let desk = Desk::trusting(&[&key]);
    let text = head(2, &key);
    let file = desk.lay(text.as_bytes(), &key.sign(text.as_bytes()));
    let beside = desk.dir.path().join("releases.toml.minisig");
    for path in [&beside, &file] {
        std::fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let update = desk.lsm(&["release", "update", file.to_str().unwrap(), "--json", "--dry-run"]);
        assert_eq!(failure(&update), (2, "E-HOST-006".to_owned()), "{}", path.display());
    }
}

#[test]
fn a_policy_folder_is_found_from_where_lsm_runs() {
    let desk = Desk::new("quorum = 1\n");
    let lsm = Program::new(env!("CARGO_BIN_EXE_lsm")).folder(desk.dir.path()).args(["release", "list", "--json"]);
    assert_eq!(failure(&lsm.env("LSM_POLICY", "policy").output().unwrap()), (1, "E-TRUST-003".to_owned()));
}
