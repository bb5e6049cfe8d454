//! `lsm harden` on the facts of a host with a signer in a container: what is broken in them is found, and nothing else.

use crate::harden::container;
use crate::lab;
use lsm::harden;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use tempfile::TempDir;

/// The areas that a container says something to. The rest is the host's.
const AREAS: [&str; 8] = ["CONT", "NET", "PROC", "LND", "BIN", "SECR", "TLS", "UNIT"];

/// What is not `pass` on such a host, and why.
const OTHERS: &[(&str, &str)] = &[
    // An engine hands over no sealed file.
    ("SECR-005", "fail"),
    ("SECR-009", "na"),
    // It is the host's, of which lnd is no user.
    ("PROC-010", "warn"),
    // The kernel of this host counts nothing in its control groups.
    ("PROC-012", "warn"),
    // Docker does.
    ("NET-009", "warn"),
    // As everywhere on this host.
    ("NET-008", "warn"),
    ("NET-010", "fail"),
    ("NET-012", "fail"),
    // No unit runs lnd.
    ("PROC-001", "na"),
    ("UNIT-004", "na"),
    ("UNIT-006", "na"),
];

type Verdicts = BTreeMap<String, String>;

#[track_caller]
fn judge(facts: &Value) -> Verdicts {
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("facts");
    std::fs::write(&file, facts.to_string()).expect("facts are written");
    let mut command = Command::new(lab::LSM);
    command.args(["harden", "--json", "--facts"]).arg(&file);
    let said = lab::process::run(command);
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("findings").iter();
    let all = findings.map(|finding| (text(finding, "id"), text(finding, "verdict")));
    all.filter(|(id, _)| AREAS.iter().any(|area| id.starts_with(&format!("{area}-")))).collect()
}

#[test]
fn a_signer_that_lsm_has_just_put_into_a_container_raises_no_false_alarm() {
    let found: Verdicts = judge(&container::facts()).into_iter().filter(|(_, verdict)| verdict != "pass").collect();
    let wanted: Verdicts = OTHERS.iter().map(|(id, verdict)| ((*id).to_owned(), (*verdict).to_owned())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_is_broken_of_a_container_is_found_and_nothing_else() {
    let clean = judge(&container::facts());
    let mut wrong = Vec::new();
    for (at, fault) in container::FAULTS.iter().enumerate() {
        let mut broken = container::facts();
        (fault.cause)(&mut broken);
        let now = judge(&broken);
        let (id, verdict) = fault.found;
        if now[id] != verdict {
            wrong.push(format!("fault {at}: {id} is {}, not {verdict}", now[id]));
        }
        let other: BTreeSet<&str> =
            now.iter().filter(|(id, verdict)| clean[*id] != **verdict).map(|(id, _)| id.as_str()).collect();
        let wanted: BTreeSet<&str> = fault.with.iter().copied().chain([id]).collect();
        if other != wanted {
            wrong.push(format!("fault {at}, {id}: found {other:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_check_of_containers_has_a_fault_that_it_finds() {
    let planted: BTreeSet<&str> = container::FAULTS.iter().map(|fault| fault.found.0).collect();
    let all = harden::checks().map(|check| check.id).filter(|id| id.starts_with("CONT-") || *id == "NET-006");
    let bare: Vec<&str> = all.filter(|id| !planted.contains(id)).collect();
    assert!(bare.is_empty(), "no fault of these is planted: {bare:?}");
}

#[test]
fn of_an_lnd_in_no_container_nothing_is_told() {
    let mut facts = container::facts();
    let signer = &mut facts["signers"][0];
    signer["container"] = "absent".into();
    signer["spec"]["is"].as_object_mut().expect("a spec").remove("docker");
    signer["process"]["is"]["texts"]["cgroup"]["is"] = "0::/system.slice/lsm@signer.service\n".into();
    let found = judge(&facts);
    for (id, verdict) in container::OUTSIDE {
        assert_eq!(found[*id], *verdict, "{id}");
    }
    // Of one in somebody else's container, whose engine cannot be asked, nothing is known.
    facts["signers"][0]["process"]["is"]["texts"]["cgroup"]["is"] = "0::/system.slice/docker-1.scope\n".into();
    let found = judge(&facts);
    let wrong: Vec<_> = container::OUTSIDE.iter().filter(|(id, _)| found[*id] != "error").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
