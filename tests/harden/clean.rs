//! What clean means: what comes of each check on a host that lsm installed and on which nothing is wrong, on three kinds of
//! hosts. What the lab's hosts have in common stands with the areas of checks, what is of one kind alone here.

use super::{AREAS, Verdicts, kernel, machine};
use crate::lab::host::Debian;
use crate::stage::{SEED, Stage};
use serde_json::Value;
use std::collections::BTreeMap;

/// Verdicts by id, each where it is not the one that the areas have.
type Other = &'static [(&'static str, &'static str)];

/// Debian 12, isolated: the one that the areas are written for.
pub const BOOKWORM: Other = &[];

/// Debian 12 in host mode: lnd listens on TCP itself.
const HOST_MODE: Other = &[];

/// Debian 13, isolated, as a server is set up: with sshd, sudo, cron, a time daemon and unattended-upgrades, each with the
/// settings that it comes with.
const TRIXIE: Other = &[
    ("TIME-002", "pass"),
    // Set, and the first day is not over.
    ("UPD-001", "warn"),
    ("UPD-002", "pass"),
    ("USER-007", "pass"),
    ("USER-010", "pass"),
    ("USER-011", "pass"),
    ("SSH-001", "pass"),
    // Debian's sshd takes passwords,
    ("SSH-002", "fail"),
    ("SSH-003", "pass"),
    // forwards ports, agents and X11,
    ("SSH-004", "fail"),
    // offers MACs of 64 bits and with SHA-1 after better ones,
    ("SSH-005", "warn"),
    // and allows six guesses.
    ("SSH-006", "fail"),
    ("SSH-007", "pass"),
    ("SSH-008", "pass"),
    ("SSH-009", "pass"),
    ("SSH-010", "pass"),
];

/// What was seen of a clean host.
pub struct Clean {
    /// What came of each check.
    pub verdicts: Verdicts,
    /// Its facts, on a machine and a kernel as they should be: those under the lab may be any.
    pub facts: Value,
    /// What comes of these.
    pub sound: Verdicts,
}

impl Clean {
    /// Looks at a host on which lsm has just installed a signer.
    #[track_caller]
    pub fn look(stage: &Stage) -> Self {
        // As the operator is told to, once the words are on paper.
        stage.host.run(["rm", SEED]).ok();
        let verdicts = stage.audit();
        let mut facts = stage.record();
        kernel::make_sound(&mut facts);
        machine::make_sound(&mut facts);
        let sound = stage.judge(&facts);
        Self { verdicts, facts, sound }
    }

    /// What is not as on a clean host with these of its own, by the checks' ids: false alarms.
    pub fn alarms(&self, other: Other) -> BTreeMap<String, String> {
        let wanted: BTreeMap<&str, &str> = AREAS.iter().flat_map(|area| area.clean).chain(other).copied().collect();
        let own = self.verdicts.iter().filter(|(id, _)| !kernel::is_of_it(id) && !machine::is_of_it(id));
        let told = own.chain(&self.sound).filter_map(|(id, verdict)| {
            let wanted = wanted.get(id.as_str()).copied().unwrap_or("pass");
            (verdict != wanted).then(|| (id.clone(), format!("a clean host: {id} is {verdict}, not {wanted}")))
        });
        told.collect()
    }
}

/// Installs with `more` on a host and holds that it is clean.
#[track_caller]
fn hold(stage: &Stage, more: &[&str], other: Other) {
    stage.install(more).ok();
    let alarms = Clean::look(stage).alarms(other);
    assert!(alarms.is_empty(), "{alarms:#?}\n{}", stage.host.lsm(["harden", "-v"]).stdout);
}

#[test]
fn a_clean_host_in_host_mode_raises_no_alarm() {
    let Some(stage) = Stage::boot("clean-host") else { return };
    hold(&stage, &["--mode=host"], HOST_MODE);
}

#[test]
fn a_clean_debian_13_raises_no_alarm() {
    let Some(stage) = Stage::boot_of(Debian::Trixie, "clean-13") else { return };
    let version = stage.host.sh(". /etc/os-release && echo $ID $VERSION_ID").ok();
    assert_eq!(version.trim(), "debian 13");
    hold(&stage, &[], TRIXIE);
}
