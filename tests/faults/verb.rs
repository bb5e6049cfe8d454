//! The verbs that change a machine: how a host comes before each, what it is asked for, and what holds when it is done.

use crate::held::{assert_complete, assert_signs};
use crate::lab::snapshot::{Snapshot, is_kept_with_a_wallet, is_kept_without_a_wallet};
use crate::stage::Stage;
use serde_json::json;

/// One verb that the matrix goes through.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
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
        prepare: |_| {},
        arguments: |stage| consented(stage.arguments()),
        assert_done: |stage, _, when| assert_complete(stage, when),
        may_stay: |name, wallet| if wallet { is_kept_with_a_wallet(name) } else { is_kept_without_a_wallet(name) },
    },
    Verb {
        name: "uninstall",
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
        prepare: install,
        arguments: |_| words("allow add 10.77.0.9 --yes"),
        assert_done: |stage, _, when| {
            assert_eq!(stage.host.lsm(["allow", "list"]).ok(), "10.77.0.3/32\n10.77.0.9/32\n", "{when}");
            let plan = stage.host.lsm(["allow", "add", "10.77.0.9", "--dry-run", "--json"]).json();
            assert_eq!(plan, json!({"steps": []}), "{when}");
            assert_signs(stage, when);
        },
        may_stay: |name, _| is_of_a_running_signer(name),
    },
];

fn install(stage: &Stage) {
    stage.install(&[]).ok();
    assert_signs(stage, "prepared");
}

/// What changes while a signer runs, and the journal.
fn is_of_a_running_signer(name: &str) -> bool {
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
