//! Faults that the TLS checks have to find.

use super::{Area, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: &[], recorded: RECORDED, clean: &[] };

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

const RECORDED: &[Recorded] = &[
    Recorded { found: ("TLS-001", "fail"), cause: |facts| valid_for(facts, 29), with: &[] },
    Recorded { found: ("TLS-001", "fail"), cause: |facts| valid_for(facts, -1), with: &[] },
    Recorded { found: ("TLS-001", "warn"), cause: |facts| valid_for(facts, 59), with: &[] },
    Recorded {
        found: ("TLS-001", "fail"),
        cause: |facts| certificate(facts)["from"] = json!(facts["taken"].as_i64().expect("a time") + DAY),
        with: &[],
    },
    Recorded {
        found: ("TLS-002", "fail"),
        cause: |facts| certificate(facts)["names"] = json!(["other.example"]),
        with: &[],
    },
    Recorded {
        found: ("TLS-002", "fail"),
        cause: |facts| certificate(facts)["names"].as_array_mut().expect("names").push(json!("0.0.0.0")),
        with: &[],
    },
];

fn certificate(facts: &mut Value) -> &mut Value {
    &mut facts["certificates"]["lsm@signer.service"]["is"]
}

fn valid_for(facts: &mut Value, days: i64) {
    let until = facts["taken"].as_i64().expect("a time") + days * DAY + DAY / 2;
    certificate(facts)["until"] = json!(until);
}
