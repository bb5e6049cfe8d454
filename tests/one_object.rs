//! `--json`: whatever the verb is and whatever comes of it, one object on standard output and nothing else there.

use crate::lab::nobody::Nobodys;
use crate::lab::process::run;
use clap::CommandFactory;
use lsm::cli::Cli;
use serde_json::Value;

/// These print their text all the same (README.md).
const TEXTS: [&str; 2] = ["completions", "man"];

/// What gets further than a verb without arguments does, on a machine without a signer and by a user without any right.
const MORE: &[&str] = &[
    "allow add 10.0.0.1 --dry-run",
    "bundle show --base64",
    "bundle show --bundle=none",
    "cert show /dev/null",
    "guard check --file=/dev/null",
    "guard freeze --yes",
    "guard thaw --yes",
    "harden --facts=/dev/null",
    "harden --fix --dry-run",
    "harden --format=html",
    "harden --only=KERN-002",
    "harden --watch --dry-run",
    "install --network=nonsense",
    "install --network=regtest --listen=10.0.0.5",
    "install --network=regtest --backend=docker --dry-run",
    "install --network=regtest --dry-run",
    "install --network=regtest --yes",
    "logs --follow",
    "macaroon show -",
    "macaroon show /dev/null",
    "nonsense",
    "release build v0.0.0",
    "release update /nonexistent",
    "release verify /nonexistent",
    "rollback --dry-run",
    "start --nonsense",
    "trial --backend=docker",
    "uninstall --dry-run",
    "upgrade v0.0.0",
    "watch-only check --lnddir=/nonexistent",
    "watch-only init --bundle=none --lnddir=/nonexistent",
];

/// Every verb that is shown below `of`, behind the words `above`; one that has others below it too.
fn verbs(of: &clap::Command, above: &str) -> Vec<String> {
    let shown = of.get_subcommands().filter(|verb| !verb.is_hide_set() && !TEXTS.contains(&verb.get_name()));
    let lines = shown.flat_map(|verb| {
        let line = format!("{above} {}", verb.get_name());
        let below = verbs(verb, &line);
        std::iter::once(line).chain(below)
    });
    lines.collect()
}

#[test]
fn every_verb_prints_one_object_and_nothing_else() {
    let (nobodys, verbs) = (Nobodys::make(), verbs(&Cli::command(), ""));
    assert!(verbs.len() > 45 && verbs.contains(&" guard log export".to_owned()), "{verbs:?}");
    for line in verbs.iter().map(String::as_str).chain(MORE.iter().copied()) {
        let mut command = nobodys.lsm();
        command.args(line.split_whitespace()).args(["--json", "--instance=nosuch"]);
        let done = run(command);
        let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {done:?}"));
        assert!(said.is_object(), "{line}: {done:?}");
        // Bad usage, and what this machine lacks, are errors; a refusal may be a finding.
        let is_error = said["error"]["code"].is_string();
        assert!(is_error == (done.code >= 2) || done.code == 1, "{line}: {done:?}");
    }
}
