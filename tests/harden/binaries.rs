//! Faults that the BIN checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: &[] };

const PLANTED: &[Planted] = &[
    Planted {
        found: ("BIN-001", "fail"),
        // What runs is a file that is gone now.
        cause: "cd /usr/local/lib/lsm/lnd/v* && ln lnd /root/out/lnd && cp -a lnd x && echo >>x && mv x lnd",
        cure: "mv /root/out/lnd /usr/local/lib/lsm/lnd/v*/lnd && systemctl restart lsm@signer",
        with: &["BIN-008", "PROC-005"],
    },
    Planted {
        found: ("BIN-001", "fail"),
        cause: "chown nobody /usr/local/lib/lsm/lnd/v*/lnd",
        cure: "chown root /usr/local/lib/lsm/lnd/v*/lnd",
        with: &["BIN-007"],
    },
    Planted {
        found: ("BIN-002", "fail"),
        cause: "chmod u+s /usr/local/lib/lsm/lnd/v*/lncli",
        cure: "chmod u-s /usr/local/lib/lsm/lnd/v*/lncli",
        with: &[],
    },
    Planted {
        found: ("BIN-003", "fail"),
        cause: "mv /usr/local/lib/lsm/lnd/v*/provenance.json /root/out/provenance",
        cure: "cd /usr/local/lib/lsm/lnd/v* && mv /root/out/provenance provenance.json",
        with: &[],
    },
    Planted {
        found: ("BIN-005", "fail"),
        // One that changes nothing.
        cause: "echo libm.so.6 >/etc/ld.so.preload",
        cure: "rm /etc/ld.so.preload",
        with: &[],
    },
    Planted {
        found: ("BIN-006", "fail"),
        cause: "chmod 0777 /usr/local/bin",
        cure: "chmod 0755 /usr/local/bin",
        with: &[],
    },
    Planted {
        found: ("BIN-006", "fail"),
        cause: "mkdir -p /etc/ld.so.conf.d && chmod 0775 /etc/ld.so.conf.d",
        cure: "chmod 0755 /etc/ld.so.conf.d",
        with: &[],
    },
    Planted {
        found: ("BIN-007", "fail"),
        cause: "chmod o+w /usr/local/lib/lsm/lsm",
        cure: "chmod o-w /usr/local/lib/lsm/lsm",
        with: &[],
    },
    Planted {
        found: ("BIN-008", "fail"),
        // The same bytes, but not the file that runs.
        cause: "cd /usr/local/lib/lsm/lnd/v* && cp -a lnd x && mv x lnd",
        cure: "systemctl restart lsm@signer",
        with: &["PROC-005"],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("BIN-001", "error"),
        cause: |facts| lnd(facts)["sha256"] = json!({ "unknown": "no" }),
        with: &[],
    },
    Recorded {
        found: ("BIN-001", "fail"),
        cause: |facts| lnd(facts)["judged"]["is"]["version"] = json!("v0.19.9-beta"),
        with: &[],
    },
    Recorded {
        found: ("BIN-002", "fail"),
        cause: |facts| lnd(facts)["place"]["capabilities"] = json!(true),
        with: &[],
    },
    Recorded {
        found: ("BIN-003", "fail"),
        cause: |facts| lnd(facts)["vouched"]["is"]["pin_holds"] = json!(false),
        with: &[],
    },
    Recorded { found: ("BIN-003", "fail"), cause: |facts| quorum(facts, 5, 4), with: &[] },
    // Fewer than are asked for, as the operator let pass, and still the pinned archive.
    Recorded { found: ("BIN-003", "warn"), cause: |facts| quorum(facts, 4, 4), with: &[] },
    Recorded {
        found: ("BIN-004", "fail"),
        cause: |facts| lnd(facts)["judged"]["is"]["status"] = json!("needs-accept-risk"),
        with: &[],
    },
    Recorded {
        found: ("BIN-004", "warn"),
        cause: |facts| lnd(facts)["judged"]["is"]["status"] = json!("outdated"),
        with: &[],
    },
];

fn lnd(facts: &mut Value) -> &mut Value {
    &mut facts["binaries"]["lnd"]["lsm@signer.service"]["is"]
}

fn quorum(facts: &mut Value, counted: u64, believed: u64) {
    let vouched = &mut lnd(facts)["vouched"]["is"];
    vouched["counted"] = json!(counted);
    vouched["believed"] = json!(believed);
}
