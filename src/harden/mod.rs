//! The audit: whether this host is fit to hold keys, with the evidence.
//!
//! An area of checks says what it needs to be read of the host; everything is read once ([`crate::facts::audit`]), and each
//! check is a function from that to a verdict. How grave a finding is stands in `policies/harden.toml`.

mod about;
mod accounts;
mod baseline;
mod binaries;
mod certificate;
mod check;
mod clock;
mod container;
mod disk;
mod finding;
mod fix;
mod jobs;
mod kernel;
mod machine;
mod network;
mod page;
mod process;
mod report;
mod sarif;
mod secrets;
mod settings;
mod ssh;
mod text;
mod units;
mod updates;
mod waiver;
mod watch;

pub use about::About;
pub use baseline::{Baseline, Change, Kind, Standing};
pub use check::{Check, Judge, Judged, Severity, Verdict, few};
pub use finding::{Finding, Grade, Waived};
pub use fix::Fixes;
pub use page::render_page;
pub use report::Report;
pub use sarif::render_sarif;
pub use text::render_text;
pub use waiver::Waivers;
pub use watch::render_watch;

use crate::backend::{Layout, docker};
use crate::error::{Code, Error, Result};
use crate::facts::audit::{Answer, Host, Needs, Signer, Unit, Unknown, instance_of, names_of};
use crate::plan::History;
use crate::plan::ledger::Touched;
use crate::plan::prior::{AtPath, Prior};
use crate::spec::{Instance, Places, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const NO_CHECK: Code = Code::usage("E-HARDEN-001");
const NONE_LEFT: Code = Code::usage("E-HARDEN-007");

/// Checks that belong together, and what they need to be read.
struct Area {
    needs: Needs,
    checks: &'static [Check],
}

/// Every area, in the order in which findings are told.
const AREAS: &[Area] = &[
    kernel::AREA,
    machine::AREA,
    disk::AREA,
    clock::AREA,
    updates::AREA,
    accounts::AREA,
    ssh::AREA,
    jobs::AREA,
    secrets::AREA,
    certificate::AREA,
    binaries::AREA,
    settings::AREA,
    network::AREA,
    process::AREA,
    units::AREA,
    container::AREA,
];

/// How grave each check's finding is.
static SEVERITIES: LazyLock<BTreeMap<String, Severity>> = LazyLock::new(|| {
    toml::from_str(include_str!("../../policies/harden.toml")).expect("the shipped severities are tested")
});

/// Every check that there is.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    AREAS.iter().flat_map(|area| area.checks)
}

/// How grave a finding of the check `id` is.
pub fn severity(id: &str) -> Severity {
    SEVERITIES.get(id).copied().unwrap_or(Severity::Critical)
}

/// Reads this host and every signer on it, `instance` first.
pub fn look(instance: &Instance) -> Host {
    let needs: Vec<Needs> = AREAS.iter().map(|area| area.needs).chain([about::NEEDS, fix::NEEDS]).collect();
    let layout = Layout::new(instance);
    let mut host = Host::gather(&needs, instance, layout.places());
    let journals: BTreeSet<PathBuf> = host.signers.iter().filter_map(journal_of).chain([layout.journal()]).collect();
    host.left = Answer::told(left(&journals));
    host.signers.iter_mut().for_each(note_made);
    host
}

/// Where lsm's journal of a signer is; nothing where lsm did not install it.
fn journal_of(signer: &Signer) -> Option<PathBuf> {
    match &signer.spec {
        Answer::Is(spec) => Some(Layout::of(spec).journal()),
        _ => Some(Places::MACHINE.journal(&instance_of(signer)?.parse().ok()?)),
    }
}

/// Notes which image lsm would make today for the container that the signer is in.
fn note_made(signer: &mut Signer) {
    let Answer::Is(spec @ Spec { docker: Some(docker), release, .. }) = &signer.spec else { return };
    // By its number alone, which its name has no part in.
    let numbers = docker::image(docker, &Places::of(spec), release, "", &crate::facts::libraries()).numbers();
    let made = numbers.map_or_else(|e| Answer::Unknown(e.cause().to_owned()), |both| Answer::Is(both.into()));
    if let Answer::Is(container) = &mut signer.container {
        container.image.made = made;
    }
}

/// What lsm's journals have of the files that lsm wrote; what is one signer's own is in one of them alone.
fn left(journals: &BTreeSet<PathBuf>) -> Result<Option<BTreeMap<PathBuf, String>>, Unknown> {
    let file = |touched: Touched| match touched.left? {
        Prior::Path(AtPath { path, sha256: Some(sha256), .. }) => Some((path, sha256)),
        _ => None,
    };
    let mut left: Option<BTreeMap<PathBuf, String>> = None;
    for journal in journals {
        if let Some(history) = Answer::of_file(journal, || History::read(journal)).take()? {
            left.get_or_insert_default().extend(history.touched().into_iter().filter_map(file));
        }
    }
    Ok(left)
}

/// What mends the findings of `report`, which is of `host`: those of `ids`, or where it has none, all that can be mended without
/// danger. What is waived is left as it is, and so are what could not be told and what is another instance's of lsm's: that
/// belongs into its own journal.
pub fn fix(host: &Host, report: &Report, ids: &BTreeSet<String>) -> Fixes {
    fix::fix(&without_others(host), report, ids)
}

/// The host as the instance that was asked for changes it.
fn without_others(host: &Host) -> Host {
    let mut host = host.clone();
    for other in host.signers.extract_if(.., |signer| signer.other) {
        host.secrets.kept.remove(&other.name);
        host.binaries.lnd.remove(&other.name);
    }
    let units: BTreeSet<String> = host.signers.iter().flat_map(names_of).collect();
    let shown = host.units.shown.get().ok().flatten();
    let shown = units.iter().filter_map(|name| shown?.get(name));
    let files: BTreeSet<PathBuf> = shown.flat_map(Unit::files).map(Path::to_owned).collect();
    host.units.files.retain(|path, _| files.contains(path));
    host
}

/// Which checks are wanted.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// These alone, where any are named.
    pub only: BTreeSet<String>,
    /// Not these.
    pub skip: BTreeSet<String>,
}

impl Choice {
    /// Checks named by their ids.
    ///
    /// # Errors
    /// Where there is no such check, or none is left: what was not judged must not pass.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self> {
        let known = |id: &String| {
            let is = checks().any(|check| check.id == id);
            let hint = "lsm harden --verbose names every check";
            if is { Ok(id.clone()) } else { Err(Error::new(NO_CHECK, format!("there is no check {id:?}")).hint(hint)) }
        };
        let all = |ids: &[String]| ids.iter().map(known).collect::<Result<BTreeSet<_>>>();
        let choice = Self { only: all(only)?, skip: all(skip)? };
        if checks().any(|check| choice.holds(check.id)) {
            return Ok(choice);
        }
        Err(Error::new(NONE_LEFT, "no check is left to judge")
            .hint("--skip leaves out all that was chosen: name fewer there, or more with --only"))
    }

    fn holds(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.contains(id)) && !self.skip.contains(id)
    }
}

/// Judges what was read of a host.
pub fn judge(host: &Host, choice: &Choice) -> Report {
    let chosen = checks().filter(|check| choice.holds(check.id));
    Report::new(chosen.map(|check| Finding::new(check, check.judge(host))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::Socket;
    use serde_json::json;

    /// The facts of a host with a signer of lsm's in a container.
    pub fn recorded() -> Host {
        serde_json::from_str(include_str!("../../tests/data/container/facts.json")).unwrap()
    }

    /// The same host, and an lnd of Ann's on it, the program of which is another one by now.
    pub fn anns() -> (Host, Signer) {
        let host = recorded();
        let mut signer = Signer { spec: Answer::Absent, container: Answer::Absent, ..host.signers[0].clone() };
        let Answer::Is(process) = &mut signer.process else { panic!("it runs") };
        process.own_network = Answer::Is(false);
        process.uid = Some(1000);
        process.exe = Answer::Is("/home/ann/lnd (deleted)".into());
        (host, signer)
    }

    /// Where that lnd waits.
    pub fn of_ann(address: &str) -> Socket {
        let holder = json!({ "program": "/home/ann/lnd" });
        serde_json::from_value(json!({ "protocol": "tcp", "address": address, "uid": 1000, "holder": holder })).unwrap()
    }

    #[test]
    fn another_instance_is_judged_and_not_mended() {
        let mut host = recorded();
        let first = host.signers[0].clone();
        let (name, folder) = ("lsm@second.service", "/var/lib/lsm/second");
        let mut kept = host.secrets.kept[&first.name].clone();
        let Answer::Is(places) = &mut kept.folder else { panic!("it has one") };
        (places[0].path, places[0].mode) = (folder.to_owned(), 0o755);
        host.secrets.kept.insert(name.to_owned(), kept);
        host.signers.push(Signer { name: name.to_owned(), other: true, ..first });
        let report = judge(&host, &Choice::new(&["SECR-001".to_owned()], &[]).unwrap());
        let evidence = report.findings[0].verdict.evidence();
        assert!(evidence.contains(name) && evidence.contains(folder), "{evidence}");
        let steps = |host: &Host| fix(host, &report, &BTreeSet::new()).steps.len();
        assert_eq!(steps(&host), 0);
        host.signers[1].other = false;
        assert_eq!(steps(&host), 1);
    }

    #[test]
    fn a_choice_of_no_check_is_none() {
        let one = ["KERN-001".to_owned()];
        assert_eq!(Choice::new(&one, &one).unwrap_err().code(), NONE_LEFT);
        let all: Vec<String> = checks().map(|check| check.id.to_owned()).collect();
        assert_eq!(Choice::new(&[], &all).unwrap_err().code(), NONE_LEFT);
        assert!(Choice::new(&[], &one).is_ok());
    }

    #[test]
    fn every_check_has_an_id_of_its_own_and_a_severity() {
        let ids: Vec<&str> = checks().map(|check| check.id).collect();
        let own: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), own.len(), "an id stands twice");
        let graded: BTreeSet<&str> = SEVERITIES.keys().map(String::as_str).collect();
        assert_eq!(own, graded, "policies/harden.toml has a severity for each check and no other");
        for id in own {
            let (area, number) = id.split_once('-').expect("AREA-NNN");
            let is_area = (2..=5).contains(&area.len()) && area.bytes().all(|b| b.is_ascii_uppercase());
            assert!(is_area && number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()), "{id}");
        }
    }
}
