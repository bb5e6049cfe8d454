//! Faults that the UNIT checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::json;

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: &[] };

const PLANTED: &[Planted] = &[
    Planted {
        found: ("UNIT-001", "fail"),
        // It changes nothing: that it is there is the fault.
        cause: "d=/etc/systemd/system/lsm-proxy@.service.d; mkdir $d && printf '[Service]\\n' >$d/x.conf && \
            systemctl daemon-reload",
        cure: "rm -r /etc/systemd/system/lsm-proxy@.service.d && systemctl daemon-reload",
        with: &[],
    },
    Planted {
        found: ("UNIT-001", "fail"),
        // lsm's own drop-in, and still another than lsm wrote.
        cause: "f=/etc/systemd/system/lsm@signer.service.d/lsm.conf; cp -p $f /root/lsm.conf && echo >>$f && \
            systemctl daemon-reload",
        cure: "cp -p /root/lsm.conf /etc/systemd/system/lsm@signer.service.d/lsm.conf && systemctl daemon-reload",
        with: &[],
    },
    Planted {
        found: ("UNIT-002", "fail"),
        cause: "systemctl disable lsm@signer",
        cure: "systemctl enable lsm@signer",
        with: &[],
    },
    Planted {
        found: ("UNIT-003", "fail"),
        cause: "d=/etc/systemd/system/lsm@signer.service.d; printf '[Service]\\n' >$d/x.conf",
        cure: "rm /etc/systemd/system/lsm@signer.service.d/x.conf && systemctl daemon-reload",
        with: &[],
    },
    Planted {
        found: ("UNIT-004", "fail"),
        cause: "cd /etc/systemd/system && cp -p lsm@.service /root/lsm@.service && \
            sed -i '/^Requires=lsm-firewall/d' lsm@.service && systemctl daemon-reload",
        cure: "cp -p /root/lsm@.service /etc/systemd/system/lsm@.service && systemctl daemon-reload",
        with: &["UNIT-001"],
    },
    Planted {
        found: ("UNIT-006", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && printf '[Service]\\nRestart=no\\n' >$d/x.conf && \
            systemctl daemon-reload",
        cure: "rm -r /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload",
        with: &["UNIT-001"],
    },
    Planted {
        found: ("UNIT-007", "fail"),
        cause: "chmod 0666 /etc/systemd/system/lsm@.service",
        cure: "chmod 0644 /etc/systemd/system/lsm@.service",
        with: &[],
    },
];

const RECORDED: &[Recorded] = &[Recorded {
    found: ("UNIT-005", "fail"),
    cause: |facts| facts["units"]["shown"]["is"]["lsm-firewall.service"]["ActiveState"] = json!("failed"),
    with: &[],
}];
