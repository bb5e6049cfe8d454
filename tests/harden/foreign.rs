//! An lnd that somebody else set up, under lnd's own sample unit, is found and gets the findings that it deserves.

use super::{Verdicts, verdicts};
use crate::lab::host::Host;
use crate::lab::wait_for;
use crate::stage;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// lnd's sample (contrib/init/lnd.service), without the bitcoind that it wants and with the user lnd.
const UNIT: &str = "[Unit]
Description=Lightning Network Daemon

[Service]
ExecStart=/usr/local/bin/lnd
ExecStop=/usr/local/bin/lncli stop
User=lnd
Group=lnd
Restart=on-failure
RestartSec=60
Type=notify
TimeoutStartSec=1200
TimeoutStopSec=3600
ProtectSystem=full
NoNewPrivileges=true
PrivateDevices=true
MemoryDenyWriteExecute=true

[Install]
WantedBy=multi-user.target
";

/// What it deserves: everything else passes.
const DESERVED: &[(&str, &str)] = &[
    ("PROC-001", "fail"),
    ("PROC-004", "fail"),
    ("PROC-006", "fail"),
    ("PROC-010", "fail"),
    ("PROC-012", "fail"),
    ("PROC-014", "fail"),
    // lsm wrote none of its units.
    ("UNIT-001", "na"),
    ("UNIT-004", "na"),
    ("UNIT-006", "fail"),
];

#[test]
fn an_lnd_under_its_own_sample_unit_gets_what_it_deserves() {
    let Some(release) = stage::newest() else { return };
    let Some(host) = Host::boot("foreign") else { return };
    host.copy_in(&release.lnd(), "/usr/local/bin/lnd", 0o755);
    host.sh("useradd --system --create-home --home-dir /home/lnd --shell /usr/sbin/nologin lnd").ok();
    host.sh("mkdir -m 0700 /home/lnd/.lnd && chown lnd:lnd /home/lnd/.lnd").ok();
    let settings = "bitcoin.regtest=true\nbitcoin.node=nochainbackend\n";
    fs::write(host.path("/home/lnd/.lnd/lnd.conf"), settings).expect("the settings are written");
    fs::write(host.path("/etc/systemd/system/lnd.service"), UNIT).expect("the unit is written");
    host.sh("systemctl daemon-reload && systemctl enable lnd && systemctl start --no-block lnd").ok();
    wait_for("the lnd of lnd.service", Duration::from_secs(60), || {
        (host.sh("cat /proc/$(systemctl show --property=MainPID --value lnd)/comm").stdout.trim() == "lnd")
            .then_some(())
    });
    let said = host.lsm(["harden", "--json"]).stdout;
    let found: Verdicts = verdicts(&said).into_iter().filter(|(_, verdict)| verdict != "pass").collect();
    let deserved: BTreeMap<_, _> = DESERVED.iter().map(|(id, verdict)| ((*id).into(), (*verdict).into())).collect();
    assert_eq!(found, deserved, "{said}");
}
