//! Three signers side by side: under lnd's own sample unit, as the scripts that lsm replaces set one up, and as lsm installs
//! it. Each gets the findings that it deserves, and `docs/harden-compared.md` shows where they differ.

use super::{Verdicts, foreign, kernel, machine, original, verdicts};
use crate::lab::host::Host;
use crate::lab::lnd::Release;
use crate::stage::{self, Stage};
use lsm::harden;
use serde_json::Value;
use std::fs;
use std::path::Path;

const DOCUMENT: &str = "docs/harden-compared.md";
/// Above the generated part of it.
const MARK: &str = "<!-- written by tests/harden/compared.rs -->\n";

/// What every host that lsm did not install has, beside what is its own.
const STRANGE: &[(&str, &str)] = &[
    // Nothing of lsm's is here.
    ("BIN-003", "na"),
    // None of the three is in a container.
    ("NET-006", "na"),
    ("BIN-007", "na"),
    ("UNIT-001", "na"),
    ("UNIT-004", "na"),
    // Nobody made a packet filter. A container's systemd sets nothing of the kernel's network. There is no Docker.
    ("NET-004", "na"),
    ("NET-005", "fail"),
    ("NET-007", "na"),
    ("NET-008", "warn"),
    ("NET-010", "fail"),
    ("NET-012", "fail"),
    // It has no limit of memory either, but the lab's control groups count none.
    ("PROC-012", "warn"),
    // The smallest Debian has no time daemon, no unattended-upgrades and nothing that counts updates, no kernel and no sudo,
    // and lets everybody read what a user makes.
    ("TIME-002", "fail"),
    ("UPD-001", "fail"),
    ("UPD-002", "na"),
    ("UPD-003", "na"),
    ("UPD-005", "na"),
    ("USER-007", "na"),
    ("USER-010", "na"),
    ("USER-011", "na"),
    ("USER-015", "warn"),
];

/// One of the three.
struct Audited {
    host: Host,
    /// What came of each check that does not look at the outer machine, nor at an sshd or a container that is not here.
    found: Verdicts,
}

impl Audited {
    fn new(host: Host) -> Self {
        let is_told = |id: &str| {
            !kernel::is_of_it(id) && !machine::is_of_it(id) && !id.starts_with("SSH-") && !id.starts_with("CONT-")
        };
        let found = verdicts(&host.lsm(["harden", "--json"]).stdout);
        Self { host, found: found.into_iter().filter(|(id, _)| is_told(id)).collect() }
    }

    /// What lsm makes of these checks alone.
    fn grade(&self, ids: &[&str]) -> String {
        let report: Value = self.host.lsm(["harden", "--json", "--only", &ids.join(",")]).stdout.parse().expect("JSON");
        report["grade"].as_str().expect("a grade").to_owned()
    }

    /// Holds that it has what it deserves, and nothing else.
    #[track_caller]
    fn hold(&self, deserved: &[(&str, &str)]) {
        let found: Verdicts = self
            .found
            .iter()
            .filter(|(_, verdict)| *verdict != "pass")
            .map(|(id, v)| (id.clone(), v.clone()))
            .collect();
        let all = STRANGE.iter().chain(deserved).map(|(id, verdict)| ((*id).to_owned(), (*verdict).to_owned()));
        let deserved: Verdicts = all.collect();
        let new: Vec<_> = found.iter().filter(|(id, verdict)| deserved.get(*id) != Some(verdict)).collect();
        let gone: Vec<_> = deserved.iter().filter(|(id, verdict)| found.get(*id) != Some(verdict)).collect();
        assert!(
            new.is_empty() && gone.is_empty(),
            "found: {new:?}, not: {gone:?}\n{}",
            self.host.lsm(["harden"]).stdout
        );
    }
}

#[test]
fn three_signers_get_what_they_deserve_and_are_shown_side_by_side() {
    let Some(release) = stage::newest() else { return };
    // What the scripts pin.
    let Some(pinned) = Release::find("v0.20.0-beta") else { return };
    let Some(host) = foreign::boot(&release) else { return };
    let sample = Audited::new(host);
    sample.hold(foreign::DESERVED);
    let Some(host) = original::boot(&pinned) else { return };
    let original = Audited::new(host);
    original.hold(original::DESERVED);
    let Some(stage) = Stage::boot("compared") else { return };
    stage.install(&[]).ok();
    stage.host.run(["rm", stage::SEED]).ok();
    document(&[sample, original, Audited::new(stage.host)]);
}

/// Holds the document to show these three, or writes it.
fn document(three: &[Audited; 3]) {
    let differs = |id: &&str| three.iter().any(|one| one.found[*id] != three[0].found[*id]);
    let ids: Vec<&str> = three[0].found.keys().map(String::as_str).filter(differs).collect();
    let mut table = String::new();
    for check in harden::checks().filter(|check| ids.contains(&check.id)) {
        let [sample, original, own] = three.each_ref().map(|one| word(&one.found[check.id]));
        let severity = harden::severity(check.id).name();
        table += &format!("| {} | {severity} | {} | {sample} | {original} | {own} |\n", check.id, check.title);
    }
    let [sample, original, own] = three.each_ref().map(|one| one.grade(&ids));
    let written = format!(
        "\n| check | severity | what should be | lnd's sample unit | the scripts, natively | lsm install |\n\
         | --- | --- | --- | --- | --- | --- |\n{table}| | | **the grade of these checks** | **{sample}** | **{original}** | **{own}** |\n"
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = fs::read_to_string(&path).expect("the document");
    let (prose, kept) = text.split_once(MARK).expect("the document has a place for the table");
    if std::env::var_os("LSM_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{prose}{MARK}{written}")).expect("the document is written");
        return;
    }
    assert!(kept == written, "{DOCUMENT} shows others (LSM_WRITE_DOCS=1 writes it): {written}");
}

/// A verdict as the table has it.
fn word(verdict: &str) -> &str {
    match verdict {
        "fail" => "**fail**",
        "error" => "cannot tell",
        "na" => "-",
        other => other,
    }
}
