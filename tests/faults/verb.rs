//! The verbs that change a machine: how a host comes before each, what it is asked for, and what holds when it is done.

use super::held::{assert_complete, assert_signs};
use crate::lab::lnd::{RELEASES, Release};
use crate::lab::snapshot::{Snapshot, is_kept_with_a_wallet, is_kept_without_a_wallet};
use crate::stage::Stage;
use serde_json::json;

/// One verb that the matrix goes through.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// The lnd that the host has an archive of.
    pub release: &'static str,
    /// Brings a clean host to where the verb begins.
    pub prepare: fn(&Stage),
    /// Its arguments, the consent too.
    pub arguments: fn(&Stage) -> Vec<String>,
    /// Holds that it is done; the snapshot is of the clean host.
    pub assert_done: fn(&Stage, &Snapshot, &str),
    /// What may differ, by its name in a snapshot, once the verb was rolled back; and whether a wallet was made by then.
    pub may_stay: fn(&str, bool) -> bool,
}

/// Every verb.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "install",
        release: RELEASES[0],
        prepare: |_| {},
        arguments: |stage| consented(stage.arguments()),
        assert_done: |stage, _, when| assert_complete(stage, when),
        may_stay: |name, wallet| if wallet { is_kept_with_a_wallet(name) } else { is_kept_without_a_wallet(name) },
    },
    Verb {
        name: "uninstall",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("uninstall --yes"),
        assert_done: |stage, clean, when| {
            let differences = clean.differences(&Snapshot::of(&stage.host), is_kept_with_a_wallet);
            assert!(differences.is_empty(), "{when}: {differences:#?}");
            assert_eq!(stage.host.lsm(["uninstall", "--dry-run", "--json"]).json(), json!({"steps": []}), "{when}");
        },
        may_stay: |name, _| is_of_a_running_signer(name),
    },
    Verb {
        name: "allow add",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("allow add 10.77.0.9 --yes"),
        assert_done: |stage, _, when| assert_allowed(stage, &["10.77.0.3", "10.77.0.9"], when),
        may_stay: |name, _| is_of_a_running_signer(name),
    },
    Verb {
        name: "allow remove",
        release: RELEASES[0],
        prepare: |stage| {
            install(stage);
            stage.host.lsm(words("allow add 10.77.0.9 --yes")).ok();
        },
        arguments: |_| words("allow remove 10.77.0.9 --yes"),
        assert_done: |stage, _, when| assert_allowed(stage, &["10.77.0.3"], when),
        may_stay: |name, _| is_of_a_running_signer(name),
    },
    Verb {
        name: "upgrade",
        release: RELEASES[1],
        prepare: |stage| {
            bring_newer(stage);
            install(stage);
        },
        arguments: |_| words(&format!("upgrade {} --from={NEWER} --yes", RELEASES[0])),
        assert_done: |stage, _, when| {
            let status = stage.host.lsm(["status", "--json"]).json();
            assert_eq!(status["release"], RELEASES[0], "{when}");
            for verb in [&["upgrade", RELEASES[0]][..], &["install", "--network=regtest"]] {
                let plan = stage.host.lsm(verb.iter().chain(&["--dry-run", "--json"])).json();
                assert_eq!(plan, json!({"steps": []}), "{when}: {verb:?}");
            }
            assert_signs(stage, when);
        },
        may_stay: |name, _| is_of_a_running_signer(name),
    },
    Verb {
        name: "macaroon bake",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("macaroon bake --role monitor --out /root/out/monitor.macaroon --yes"),
        assert_done: |stage, _, when| {
            assert_good(stage, &[(1, true), (3, true)], when);
            assert_eq!(stage.host.sh("stat -c %a /root/out/monitor.macaroon").ok(), "600\n", "{when}");
            assert_signs(stage, when);
        },
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "macaroon rotate",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("macaroon rotate --yes"),
        assert_done: |stage, _, when| {
            assert_good(stage, &[(1, true), (3, true)], when);
            assert_on_key(stage, "3", when);
        },
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "macaroon rotate --finish",
        release: RELEASES[0],
        prepare: |stage| {
            install(stage);
            stage.host.lsm(words("macaroon rotate --yes")).ok();
        },
        arguments: |_| words("macaroon rotate --finish --yes"),
        assert_done: |stage, _, when| {
            assert_good(stage, &[(1, false), (3, true)], when);
            assert_on_key(stage, "3", when);
        },
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "macaroon revoke",
        release: RELEASES[0],
        prepare: |stage| {
            install(stage);
            stage.host.lsm(words("macaroon bake --role monitor --out /root/out/monitor.macaroon --yes")).ok();
        },
        arguments: |_| words("macaroon revoke 3 --yes"),
        assert_done: |stage, _, when| {
            assert_good(stage, &[(1, true), (3, false)], when);
            assert_on_key(stage, "1", when);
        },
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "macaroon revoke --admin",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("macaroon revoke --admin --yes"),
        assert_done: |stage, _, when| {
            let listed = stage.host.lsm(["macaroon", "list", "--json"]).json();
            assert_eq!(listed["other_root_keys"], json!([0]), "{when}");
            assert_good(stage, &[(1, false)], when);
            let is_good = |one: &&serde_json::Value| one["good"] == true;
            assert_eq!(listed["macaroons"].as_array().map(|all| all.iter().filter(is_good).count()), Some(1), "{when}");
            assert_signs(stage, when);
        },
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "cert renew",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("cert renew --yes"),
        assert_done: |stage, _, when| assert_renewed(stage, false, when),
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "cert renew --finish",
        release: RELEASES[0],
        prepare: |stage| {
            install(stage);
            stage.host.lsm(words("cert renew --yes")).ok();
        },
        arguments: |_| words("cert renew --finish --yes"),
        assert_done: |stage, _, when| assert_renewed(stage, true, when),
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "cert renew --now",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("cert renew --now --yes"),
        assert_done: |stage, _, when| assert_renewed(stage, true, when),
        may_stay: |name, _| is_given(name),
    },
    Verb {
        name: "wallet change-password",
        release: RELEASES[0],
        prepare: install,
        arguments: |_| words("wallet change-password --yes"),
        assert_done: |stage, _, when| {
            let left = "ls -d /etc/credstore.encrypted/*.aside /var/lib/lsm/snapshot/signer/password 2>/dev/null";
            assert_eq!(stage.host.sh(left).stdout, "", "{when}");
            let plan = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
            assert_eq!(plan, json!({"steps": []}), "{when}");
            assert_signs(stage, when);
        },
        may_stay: |name, _| is_of_a_running_signer(name),
    },
];

/// The verbs that change what is known to somebody outside, or lnd's own: the last of the table.
pub fn of_credentials() -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(|verb| ["macaroon ", "cert ", "wallet "].iter().any(|kind| verb.name.starts_with(kind)))
}

/// lnd accepts the macaroons on these root keys, or does not.
#[track_caller]
fn assert_good(stage: &Stage, wanted: &[(u64, bool)], when: &str) {
    let listed = stage.host.lsm(["macaroon", "list", "--json"]).json();
    let all = listed["macaroons"].as_array().expect("macaroons");
    for (key, good) in wanted {
        let found: Vec<_> = all.iter().filter(|one| one["root_key_id"] == *key).collect();
        assert!(found.len() == 1 && found[0]["good"] == *good, "{when}: root key {key} in {listed}");
    }
}

/// The bundle's macaroon is on this root key, and signs.
#[track_caller]
fn assert_on_key(stage: &Stage, key: &str, when: &str) {
    assert_eq!(stage.bundle().macaroon.root_key_id(), key, "{when}");
    assert_signs(stage, when);
}

/// The next certificate is in force, or beside the one that is; the bundle says the same.
#[track_caller]
fn assert_renewed(stage: &Stage, in_force: bool, when: &str) {
    let (shown, bundle) = (stage.host.lsm(["cert", "show", "--json"]).json(), stage.bundle());
    assert_eq!(bundle.certificate.fingerprint(), shown["sha256"].as_str().expect("a hash"), "{when}");
    assert_eq!((bundle.next.is_none(), shown["next"].is_null()), (in_force, in_force), "{when}: {shown}");
    let left = stage.host.sh("ls /etc/lsm/signer/next.cert /etc/credstore.encrypted/*.next 2>/dev/null").stdout;
    assert_eq!(left.lines().count(), if in_force { 0 } else { 2 }, "{when}: {left}");
    assert_signs(stage, when);
}

/// What was handed to the operator stays with him, and what a running signer changes is its own.
fn is_given(name: &str) -> bool {
    name.starts_with("file /root/out") || is_of_a_running_signer(name)
}

/// The archive of the newest lnd, inside, where it is not the one that was installed.
pub const NEWER: &str = "/root/newer/lnd.tar.gz";

/// Puts that archive there.
pub fn bring_newer(stage: &Stage) {
    let archive = Release::find(RELEASES[0]).and_then(|new| new.archive()).expect("an lnd to go to");
    stage.host.copy_in(&archive, NEWER, 0o644);
}

/// Just these may connect, nothing is left to do for that, and the signer signs.
#[track_caller]
fn assert_allowed(stage: &Stage, peers: &[&str], when: &str) {
    let list: String = peers.iter().map(|peer| format!("{peer}/32\n")).collect();
    assert_eq!(stage.host.lsm(["allow", "list"]).ok(), list, "{when}");
    let plan = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(plan, json!({"steps": []}), "{when}");
    assert_signs(stage, when);
}

fn install(stage: &Stage) {
    stage.install(&[]).ok();
    assert_signs(stage, "prepared");
}

/// What changes while a signer runs, and whenever somebody connects to it; and the journal.
fn is_of_a_running_signer(name: &str) -> bool {
    if name.starts_with("unit of lsm lsm-proxy@") || name == "active unit lsm-proxy@signer.service" {
        return true;
    }
    let own = ["/var/lib/lsm/signer/", "/var/lib/lsm/journal/", "/run/lsm/"];
    own.iter().any(|path| name.strip_prefix("file ").is_some_and(|file| file.starts_with(path)))
}

/// These arguments with the consent.
pub fn consented(mut arguments: Vec<String>) -> Vec<String> {
    arguments.push("--yes".into());
    arguments
}

/// The words of a line.
pub fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
