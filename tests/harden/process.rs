//! Faults that the PROC checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: CLEAN };

/// The lab's control groups count no memory: what the unit says of it holds nothing there.
const CLEAN: &[(&str, &str)] = &[("PROC-012", "warn")];

/// Takes every drop-in of a plant away; lsm's own are in /etc.
const CURE: &str =
    "rm -r /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload && systemctl restart lsm@signer";

const PLANTED: &[Planted] = &[
    Planted {
        found: ("PROC-001", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && printf '[Service]\\nProtectHome=no\\n' >$d/x.conf && \
            systemctl daemon-reload",
        cure: CURE,
        with: &["UNIT-001"],
    },
    Planted {
        found: ("PROC-003", "fail"),
        // Without the launcher, which gives them up by itself. What cannot be broken so is NoNewPrivs: a unit of another user
        // than root with a filter of system calls has it whatever the unit says (systemd.exec(5), NoNewPrivileges=).
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && { echo '[Service]'; echo ExecStart=; \
            echo CapabilityBoundingSet=CAP_NET_BIND_SERVICE; echo AmbientCapabilities=CAP_NET_BIND_SERVICE; \
            sed -n 's/^ExecStart=.* -- /ExecStart=/p' /etc/$(echo $d | cut -d/ -f3-)/lsm.conf; } >$d/x.conf && \
            systemctl daemon-reload && systemctl restart lsm@signer",
        cure: CURE,
        with: &["PROC-001", "PROC-006", "UNIT-001"],
    },
    Planted {
        found: ("PROC-004", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && printf '[Service]\\nReadWritePaths=/etc\\n' \
            >$d/x.conf && systemctl daemon-reload && systemctl restart lsm@signer",
        cure: CURE,
        with: &["UNIT-001"],
    },
    Planted {
        found: ("PROC-005", "fail"),
        // The same bytes in another file: the one that runs is gone.
        cause: "p=$(readlink /proc/$(systemctl show --property=MainPID --value lsm@signer)/exe); cp -p $p /root/lnd.copy && \
            mv /root/lnd.copy $p",
        cure: "systemctl restart lsm@signer",
        with: &["BIN-008"],
    },
    Planted {
        found: ("PROC-009", "fail"),
        cause: "systemd-run --quiet --unit=other --property=User=lsm-signer sleep 600",
        cure: "systemctl stop other",
        with: &[],
    },
    Planted {
        found: ("PROC-010", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && printf '[Service]\\nPrivateIPC=no\\n' >$d/x.conf && \
            systemctl daemon-reload && systemctl restart lsm@signer",
        cure: CURE,
        with: &["PROC-001", "UNIT-001"],
    },
    Planted {
        found: ("PROC-013", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && printf '[Service]\\nSupplementaryGroups=adm\\n' \
            >$d/x.conf && systemctl daemon-reload && systemctl restart lsm@signer",
        cure: CURE,
        with: &["UNIT-001"],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded { found: ("PROC-003", "fail"), cause: |facts| set_status(facts, "NoNewPrivs", "0"), with: &[] },
    Recorded { found: ("PROC-003", "fail"), cause: |facts| set_status(facts, "Seccomp", "0"), with: &[] },
    Recorded {
        found: ("PROC-004", "fail"),
        cause: |facts| set_text_of(facts, "limits", "Max core file size  0  unlimited  bytes\n"),
        with: &[],
    },
    Recorded { found: ("PROC-004", "error"), cause: |facts| set_text_of(facts, "mountinfo", ""), with: &[] },
    Recorded { found: ("PROC-006", "fail"), cause: |facts| set_status(facts, "CapBnd", "000001ffffffffff"), with: &[] },
    Recorded { found: ("PROC-007", "fail"), cause: |facts| set_status(facts, "TracerPid", "77"), with: &[] },
    Recorded {
        found: ("PROC-008", "fail"),
        cause: |facts| process(facts)["environment"] = json!({ "is": ["PATH", "LD_PRELOAD"] }),
        with: &[],
    },
    Recorded { found: ("PROC-011", "fail"), cause: |facts| set_status(facts, "Uid", "0\t0\t0\t0"), with: &[] },
    Recorded {
        found: ("PROC-012", "fail"),
        cause: |facts| process(facts)["bounds"]["pids.max"] = json!({ "is": "max" }),
        with: &[],
    },
    Recorded { found: ("PROC-014", "fail"), cause: |facts| set_status(facts, "Umask", "0022"), with: &[] },
];

fn process(facts: &mut Value) -> &mut Value {
    &mut facts["signers"][0]["process"]["is"]
}

fn set_text_of(facts: &mut Value, name: &str, text: &str) {
    process(facts)["texts"][name] = json!({ "is": text });
}

/// Sets a line of the process's status.
fn set_status(facts: &mut Value, name: &str, value: &str) {
    let status = process(facts)["texts"]["status"]["is"].as_str().expect("a status").to_owned();
    let begins = format!("{name}:");
    let set = |line: &str| if line.starts_with(&begins) { format!("{begins}\t{value}\n") } else { format!("{line}\n") };
    set_text_of(facts, "status", &status.lines().map(set).collect::<String>());
}
