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
pub use fix::{Fixes, fix};
pub use page::render_page;
pub use report::Report;
pub use sarif::render_sarif;
pub use text::render_text;
pub use waiver::Waivers;
pub use watch::render_watch;

use crate::backend::{Layout, docker};
use crate::error::{Code, Error, Result};
use crate::facts::audit::{Answer, Host, Needs, Signer};
use crate::plan::History;
use crate::plan::ledger::Touched;
use crate::plan::prior::{AtPath, Prior};
use crate::spec::{Instance, Places, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const NO_CHECK: Code = Code::usage("E-HARDEN-001");

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

/// Reads this host, and the signer `instance` on it.
pub fn look(instance: &Instance) -> Host {
    let needs: Vec<Needs> = AREAS.iter().map(|area| area.needs).chain([about::NEEDS, fix::NEEDS]).collect();
    let layout = Layout::new(instance);
    let mut host = Host { left: left(&layout.journal()), ..Host::gather(&needs, instance, layout.places()) };
    host.signers.iter_mut().for_each(note_made);
    host
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

/// What lsm's journal has of the files that lsm wrote.
fn left(journal: &Path) -> Answer<BTreeMap<PathBuf, String>> {
    let file = |touched: Touched| match touched.left? {
        Prior::Path(AtPath { path, sha256: Some(sha256), .. }) => Some((path, sha256)),
        _ => None,
    };
    Answer::of_file(journal, || History::read(journal))
        .map(|history| history.touched().into_iter().filter_map(file).collect())
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
    /// Where there is no such check.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self> {
        let known = |id: &String| {
            let is = checks().any(|check| check.id == id);
            let hint = "lsm harden --verbose names every check";
            if is { Ok(id.clone()) } else { Err(Error::new(NO_CHECK, format!("there is no check {id:?}")).hint(hint)) }
        };
        let all = |ids: &[String]| ids.iter().map(known).collect::<Result<BTreeSet<_>>>();
        Ok(Self { only: all(only)?, skip: all(skip)? })
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
