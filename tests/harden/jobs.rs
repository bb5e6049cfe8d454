//! Faults that the CRON checks have to find.

use super::{Area, Planted};

pub const AREA: Area = Area { planted: PLANTED, recorded: &[], clean: &[] };

const PLANTED: &[Planted] = &[
    Planted {
        found: ("CRON-001", "fail"),
        cause: "chmod 666 /etc/cron.d/e2scrub_all",
        cure: "chmod 644 /etc/cron.d/e2scrub_all",
        with: &[],
    },
    Planted {
        found: ("CRON-001", "fail"),
        cause: "chown games /etc/cron.daily",
        cure: "chown root /etc/cron.daily",
        with: &[],
    },
    Planted {
        found: ("CRON-002", "fail"),
        cause: "echo '0 3 * * * root tar c /var/lib/lsm/signer/data >/root/x.tar' >/etc/cron.d/x",
        cure: "rm /etc/cron.d/x",
        with: &[],
    },
    Planted {
        // What at keeps: a script of its owner's with the environment that it was asked in.
        found: ("CRON-002", "fail"),
        cause: "mkdir -p /var/spool/cron/atjobs && chown daemon /var/spool/cron/atjobs && \
            printf '#!/bin/sh\\n# atrun uid=0 gid=0\\nlncli stop\\n' >/var/spool/cron/atjobs/a0000101c5f6a0",
        cure: "rm -r /var/spool/cron",
        with: &[],
    },
    Planted {
        found: ("CRON-003", "fail"),
        cause: "mkdir -p /var/spool/cron/crontabs && chmod 1730 /var/spool/cron/crontabs && \
            echo '@reboot /bin/true' >/var/spool/cron/crontabs/lsm-signer && \
            chown lsm-signer /var/spool/cron/crontabs/lsm-signer",
        cure: "rm -r /var/spool/cron",
        with: &[],
    },
    Planted {
        found: ("CRON-004", "fail"),
        cause: "mkdir -p /opt/x && install -m 755 -o games /dev/null /opt/x/run && \
            echo '*/5 * * * * root test -d /opt && /opt/x/run >/dev/null' >/etc/cron.d/x",
        cure: "rm -r /opt/x /etc/cron.d/x",
        with: &[],
    },
    Planted {
        // A user's own program is that user's affair.
        found: ("CRON-001", "fail"),
        cause: "install -m 755 -o games /dev/null /opt/run && echo '0 0 * * * games /opt/run' >/etc/cron.d/x && \
            chmod 646 /etc/cron.d/x",
        cure: "rm /opt/run /etc/cron.d/x",
        with: &[],
    },
    Planted {
        found: ("CRON-005", "fail"),
        cause: "install -m 757 /dev/null /opt/run && cd /etc/systemd/system && \
            printf '[Timer]\\nOnBootSec=1d\\nUnit=y.service\\n' >x.timer && \
            printf '[Service]\\nExecStart=-/opt/run\\n' >y.service",
        cure: "cd /etc/systemd/system && rm x.timer y.service /opt/run",
        with: &[],
    },
    Planted {
        // A pipe in the place of a table is no table; one in the place of the folder cannot be looked into.
        found: ("CRON-002", "error"),
        cause: "mkfifo /etc/cron.d/pipe && mv /etc/cron.daily /root/ && mkfifo /etc/cron.daily",
        cure: "rm /etc/cron.d/pipe /etc/cron.daily && mv /root/cron.daily /etc/",
        with: &["CRON-001", "CRON-003", "CRON-004"],
    },
];
