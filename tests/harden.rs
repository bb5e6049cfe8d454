//! `lsm harden` on a real host: what is broken on purpose is found, nothing else is, and a clean host is clean.

mod accounts;
mod binaries;
mod certificate;
mod clean;
mod clock;
mod compared;
pub mod container;
mod disk;
mod foreign;
mod hostile;
mod jobs;
mod kernel;
mod machine;
mod network;
mod original;
mod process;
mod secrets;
mod settings;
mod ssh;
mod table;
mod units;
mod updates;

use crate::lab;
use crate::stage::Stage;
use clean::Clean;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use table::{Ground, Table};

/// Something broken on purpose on a real host.
pub struct Planted {
    /// What has to be found, and how: `fail`, `error`, or where something else makes up for it, `warn`.
    pub found: (&'static str, &'static str),
    /// What breaks it, for a shell inside. A fault that takes the lnd that runs ends with `systemctl restart lsm@signer`.
    pub cause: &'static str,
    /// What puts it right again, for a shell inside.
    pub cure: &'static str,
    /// What else has to be found, because it follows.
    pub with: &'static [&'static str],
}

/// Something broken on purpose in the facts of a clean host: its kernel, disks and firmware are the outer machine's, and no
/// test may break those.
pub struct Recorded {
    /// What comes of it.
    pub found: (&'static str, &'static str),
    /// What breaks it.
    pub cause: fn(&mut Value),
    /// What else has to be found, because it follows.
    pub with: &'static [&'static str],
}

/// What an area of checks has to show.
pub struct Area {
    /// On the host itself.
    pub planted: &'static [Planted],
    /// In its facts.
    pub recorded: &'static [Recorded],
    /// What comes of its checks on a clean host of the lab, where that is not `pass`. This is what clean means.
    pub clean: &'static [(&'static str, &'static str)],
}

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
    // Of containers there is nothing on these hosts: their faults are planted in facts of another.
    Area { planted: &[], recorded: &[], clean: container::OUTSIDE },
];

/// What came of each check, by id.
type Verdicts = BTreeMap<String, String>;

/// Reads what `lsm harden --json` said.
#[track_caller]
fn verdicts(said: &str) -> Verdicts {
    let report: Value = serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().map(|finding| (text(finding, "id"), text(finding, "verdict"))).collect()
}

impl Stage {
    #[track_caller]
    fn audit(&self) -> Verdicts {
        verdicts(&self.host.lsm(["harden", "--json"]).stdout)
    }

    /// Breaks or mends something inside.
    #[track_caller]
    fn make(&self, fault: &Planted, script: &str) {
        let done = self.host.sh(script);
        assert_eq!(done.code, 0, "{}: {script}: {done:?}", fault.found.0);
    }

    /// The facts of this host, as they are written down.
    #[track_caller]
    fn record(&self) -> Value {
        self.host.sh("rm -f /root/facts && /root/lsm harden --record /root/facts").ok();
        serde_json::from_slice(&std::fs::read(self.host.path("/root/facts")).expect("facts")).expect("JSON")
    }

    /// Judges facts outside of the host that they are of.
    #[track_caller]
    fn judge(&self, facts: &Value) -> Verdicts {
        let file = self.host.folder().join("facts");
        std::fs::write(&file, facts.to_string()).expect("facts are written");
        let file = file.to_str().expect("a path");
        let mut command = Command::new(lab::LSM);
        command.args(["harden", "--json", "--facts", file]);
        verdicts(&lab::process::run(command).stdout)
    }
}

#[test]
fn what_is_broken_on_purpose_is_found_and_nothing_else() {
    let Some(stage) = Stage::boot("harden") else { return };
    stage.install(&[]).ok();
    let clean = Clean::look(&stage);
    let mut table = Table::new();
    let alarms = clean.alarms(clean::BOOKWORM);
    alarms.keys().for_each(|id| table.alarm(id));
    let mut wrong: Vec<String> = alarms.into_values().collect();
    for area in AREAS {
        for fault in area.recorded {
            let mut broken = clean.facts.clone();
            (fault.cause)(&mut broken);
            let now = stage.judge(&broken);
            wrong.extend(table.count(Ground::Facts, (&now, &clean.sound), fault.found, fault.with).err());
        }
        for fault in area.planted {
            stage.make(fault, fault.cause);
            let now = stage.audit();
            wrong.extend(table.count(Ground::Host, (&now, &clean.verdicts), fault.found, fault.with).err());
            stage.make(fault, fault.cure);
            if stage.audit() != clean.verdicts {
                wrong.push(format!("{}: not as before after {:?}", fault.found.0, fault.cure));
            }
        }
    }
    let contained = stage.judge(&container::facts());
    for fault in container::FAULTS {
        let mut broken = container::facts();
        (fault.cause)(&mut broken);
        let now = stage.judge(&broken);
        wrong.extend(table.count(Ground::Facts, (&now, &contained), fault.found, fault.with).err());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(table.bare().is_empty(), "no fault of these was planted: {:?}", table.bare());
    table.hold_document();
}

/// Sets what stands in a text file, in facts.
pub fn set_text(facts: &mut Value, path: &str, text: &str) {
    facts["texts"][path] = serde_json::json!({ "is": text });
}
