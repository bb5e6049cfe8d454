//! SARIF: what the schema that OASIS publishes holds, and what only the standard's text does.

use super::{Desk, json_of, lab, waiver};
use boon::{Compiler, Schemas};
use lsm::harden;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// Names a copy of the schema of SARIF 2.1.0 with its approved errata, from docs.oasis-open.org or the standard's repository.
/// It is OASIS's to pass on, and not among these files.
const SCHEMA: &str = "LSM_TEST_SARIF_SCHEMA";
/// What that copy has to be.
const SCHEMA_SHA256: &str = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e";

/// The schema, by the address that lsm names; `None`, said as a skip, where there is no copy.
fn published() -> Option<Value> {
    let Some(path) = std::env::var_os(SCHEMA) else {
        lab::skip(&format!("{SCHEMA} names no copy of the schema of SARIF 2.1.0"));
        return None;
    };
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let found = data_encoding::HEXLOWER.encode(digest(&SHA256, &bytes).as_ref());
    assert_eq!(found, SCHEMA_SHA256, "{} is another schema", path.display());
    Some(serde_json::from_slice(&bytes).expect("JSON"))
}

#[test]
fn sarif_is_valid_by_the_published_schema() {
    let Some(schema) = published() else { return };
    let desk = Desk::new();
    let waivers = desk.write("waivers", waiver("2999-12-31"));
    let before = desk.write("before", desk.judge(&["--json"]).stdout);
    let log = json_of(&desk.judge(&["--format", "sarif", "--waivers", &waivers, "--baseline", &before]));
    let at = log["$schema"].as_str().expect("an address").to_owned();
    assert_eq!(schema["id"], at, "the schema that lsm names is this one");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource(&at, schema).expect("a resource");
    let schema = compiler.compile(&at, &mut schemas).unwrap_or_else(|e| panic!("{e}"));
    schemas.validate(&log, schema).unwrap_or_else(|e| panic!("{e:#}"));
    for (place, key, wrong) in [
        ("", "version", json!("2.2.0")),
        ("/runs/0", "reslts", json!([])),
        ("/runs/0/results/0", "level", json!("high")),
        ("/runs/0/results/0", "kind", json!("passed")),
        ("/runs/0/results/0", "ruleIndex", json!(-2)),
        ("/runs/0/results/0", "baselineState", json!("mended")),
        ("/runs/0/tool/driver/rules/0", "id", json!(7)),
    ] {
        let mut broken = log.clone();
        broken.pointer_mut(place).expect("a place")[key] = wrong;
        assert!(schemas.validate(&broken, schema).is_err(), "the schema holds {place}/{key}");
    }
}

#[test]
fn sarif_has_what_its_standard_requires() {
    let desk = Desk::new();
    let waivers = desk.write("waivers", waiver("2999-12-31"));
    let log = json_of(&desk.judge(&["--format", "sarif", "--waivers", &waivers]));
    assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&json!("2.1.0"), 1));
    assert!(log["$schema"].as_str().unwrap().ends_with("/sarif-schema-2.1.0.json"));
    let run = &log["runs"][0];
    let (rules, results) = (run["tool"]["driver"]["rules"].as_array().unwrap(), run["results"].as_array().unwrap());
    assert_eq!(run["tool"]["driver"]["name"], "lsm");
    assert_eq!(results.len(), harden::checks().count());
    let known: std::collections::BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(known.len(), rules.len(), "two rules have one id");
    for result in results {
        let place = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[place]["id"], result["ruleId"], "3.27.6");
        let (kind, level) = (result["kind"].as_str().unwrap(), result["level"].as_str().unwrap());
        assert!(["pass", "open", "notApplicable", "fail"].contains(&kind), "3.27.9: {result}");
        assert_eq!(kind == "fail", level != "none", "3.27.10: {result}");
        assert!(["none", "note", "warning", "error"].contains(&level), "{result}");
        assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "3.11.8");
        assert_eq!(result["partialFingerprints"]["lsmCheck/v1"], result["ruleId"]);
        assert!(result["suppressions"].is_array(), "on all or on none (3.27.23)");
    }
    let waived = results.iter().find(|result| result["ruleId"] == "KERN-002").unwrap();
    let told =
        json!([{"kind": "external", "status": "accepted", "justification": "tried <b>it</b> (Ann, until 2999-12-31)"}]);
    assert_eq!((&waived["suppressions"], &waived["level"]), (&told, &json!("error")));
}
