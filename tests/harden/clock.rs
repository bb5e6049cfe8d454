//! Faults that the TIME checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::json;

pub const AREA: Area = Area {
    planted: PLANTED,
    recorded: RECORDED,
    clean: &[
        // A host in a container keeps no clock: the outer machine does, and that cannot be seen.
        ("TIME-002", "fail"),
    ],
};

const PLANTED: &[Planted] = &[
    Planted {
        found: ("TIME-002", "pass"),
        cause: "ln -s /bin/true /etc/systemd/system/multi-user.target.wants/chrony.service",
        cure: "rm /etc/systemd/system/multi-user.target.wants/chrony.service",
        with: &[],
    },
    Planted {
        found: ("TIME-002", "warn"),
        cause: "for unit in chrony ntpsec; do \
            ln -s /bin/true /etc/systemd/system/multi-user.target.wants/$unit.service; done",
        cure: "rm /etc/systemd/system/multi-user.target.wants/chrony.service \
            /etc/systemd/system/multi-user.target.wants/ntpsec.service",
        with: &[],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("TIME-001", "fail"),
        cause: |facts| facts["machine"]["clock"] = json!({ "is": false }),
        with: &[],
    },
    Recorded {
        found: ("TIME-001", "error"),
        cause: |facts| facts["machine"]["clock"] = json!({ "unknown": "it does not tell" }),
        with: &[],
    },
];
