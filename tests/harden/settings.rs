//! Faults that the LND checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: &[] };

/// The settings as they were.
const CURE: &str = "cp -p /root/conf /etc/lsm/signer-lnd.conf";

const PLANTED: &[Planted] = &[
    fault("LND-001", "cp -p /etc/lsm/signer-lnd.conf /root/conf && echo nolisten=0 >>/etc/lsm/signer-lnd.conf"),
    fault("LND-001", "sed -i s/^nolisten=.*/listen=/ /etc/lsm/signer-lnd.conf"),
    fault("LND-002", "echo rpclisten=0.0.0.0:10012 >>/etc/lsm/signer-lnd.conf"),
    fault("LND-003", "sed -i s/^norest=.*/restlisten=10.77.0.2:8080/ /etc/lsm/signer-lnd.conf"),
    fault("LND-004", "echo no-macaroons=true >>/etc/lsm/signer-lnd.conf"),
    fault("LND-005", "echo bitcoin.node=neutrino >>/etc/lsm/signer-lnd.conf"),
    fault("LND-005", "sed -i /^nobootstrap/d /etc/lsm/signer-lnd.conf"),
    fault("LND-006", "echo debuglevel=info,RPCS=trace >>/etc/lsm/signer-lnd.conf"),
    fault("LND-007", "echo profile=127.0.0.1:9736 >>/etc/lsm/signer-lnd.conf"),
    fault("LND-009", "echo tlsautorefresh=1 >>/etc/lsm/signer-lnd.conf"),
    fault("LND-010", "echo tor.active=true >>/etc/lsm/signer-lnd.conf"),
    fault("LND-011", "echo 'restcors=*' >>/etc/lsm/signer-lnd.conf"),
    fault("LND-012", "echo wallet-unlock-allow-create=true >>/etc/lsm/signer-lnd.conf"),
    fault("LND-013", "echo db.backend=postgres >>/etc/lsm/signer-lnd.conf"),
    Planted {
        found: ("LND-008", "fail"),
        cause: "echo noseedbackup=1 >>/etc/lsm/signer-lnd.conf",
        cure: CURE,
        // Such a wallet has no password to keep.
        with: &["SECR-005"],
    },
    // A pipe is not waited on.
    Planted {
        found: ("LND-004", "error"),
        cause: "rm /etc/lsm/signer-lnd.conf && mkfifo /etc/lsm/signer-lnd.conf",
        cure: "rm /etc/lsm/signer-lnd.conf && cp -p /root/conf /etc/lsm/signer-lnd.conf",
        with: &[
            "LND-001", "LND-002", "LND-003", "LND-005", "LND-006", "LND-007", "LND-008", "LND-009", "LND-010",
            "LND-011", "LND-012", "LND-013", "SECR-001", "SECR-005", "TLS-001", "TLS-002",
            // Where the wallet is, only the settings say.
            "DISK-005", "SECR-002",
        ],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("LND-002", "fail"),
        cause: |facts| facts["signers"][0]["settings"]["is"]["rpclisten"] = json!(["0.0.0.0:10012"]),
        with: &[],
    },
    // Its settings were put right, and it was not restarted: on 0.0.0.0:10009, and on 10.0.0.1:8080.
    Recorded { found: ("LND-002", "fail"), cause: |facts| wait_at(facts, "00000000:2719"), with: &[] },
    Recorded { found: ("LND-003", "fail"), cause: |facts| wait_at(facts, "0100000A:1F90"), with: &[] },
    Recorded {
        found: ("LND-008", "fail"),
        cause: |facts| facts["signers"][0]["settings"]["is"]["noseedbackup"] = json!([""]),
        with: &["SECR-005"],
    },
    Recorded {
        found: ("LND-001", "fail"),
        cause: |facts| {
            let table = "  sl  local_address\n   0: 00000000:2607 00000000:0000 0A 00000000:00000000\n";
            facts["signers"][0]["process"]["is"]["texts"]["net/tcp"] = json!({ "is": table });
        },
        with: &[],
    },
];

/// Has lnd listen in its own network.
fn wait_at(facts: &mut Value, at: &str) {
    let process = &mut facts["signers"][0]["process"]["is"];
    let rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000";
    let line = format!("   0: {at} {rest} {} 0 77 1\n", process["uid"]);
    process["texts"]["net/tcp"] = json!({ "is": line });
}

const fn fault(id: &'static str, cause: &'static str) -> Planted {
    Planted { found: (id, "fail"), cause, cure: CURE, with: &[] }
}
