//! Faults that the PROC checks have to find.

use super::{Area, Planted};

pub const AREA: Area = Area { planted: PLANTED, recorded: &[], clean: &[] };

const PLANTED: &[Planted] = &[Planted {
    found: ("PROC-003", "fail"),
    // Without the launcher, which gives them up by itself.
    cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && { echo '[Service]'; echo NoNewPrivileges=no; \
        echo ExecStart=; sed -n 's/^ExecStart=.* -- /ExecStart=/p' /etc/$(echo $d | cut -d/ -f3-)/lsm.conf; } >$d/x.conf && \
        systemctl daemon-reload && systemctl restart lsm@signer",
    cure: "rm -r /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload && systemctl restart lsm@signer",
    with: &[],
}];
