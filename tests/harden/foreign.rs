//! An lnd that somebody else set up, under lnd's own sample unit, is found and gets the findings that it deserves.

use super::{Verdicts, kernel, machine, verdicts};
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
    ("LND-001", "fail"),
    ("LND-005", "fail"),
    ("NET-005", "fail"),
    ("NET-008", "warn"),
    // A container's systemd sets nothing of the kernel's network.
    ("NET-010", "fail"),
    ("NET-012", "fail"),
    ("PROC-001", "fail"),
    ("PROC-004", "fail"),
    ("PROC-006", "fail"),
    ("PROC-010", "fail"),
    // It has no limit of memory either, but the lab's control groups count none.
    ("PROC-012", "warn"),
    ("PROC-014", "fail"),
    // The smallest Debian has no time daemon and no unattended-upgrades.
    ("TIME-002", "fail"),
    ("UNIT-006", "fail"),
    ("UPD-001", "fail"),
    // Debian's own.
    ("USER-015", "warn"),
];

/// What lsm did not make here, or nobody did: no bundle, no unit of lsm's, no packet filter, no Docker, no sshd,
/// no sudo, no kernel, no count of updates.
const NOT_HERE: &[&str] = &[
    "BIN-003", "BIN-007", "NET-004", "NET-007", "SECR-007", "SECR-008", "SECR-009", "TLS-002", "UNIT-001", "UNIT-004",
    "UPD-002", "UPD-003", "UPD-005", "USER-007", "USER-010", "USER-011",
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
    let is_told = |id: &str| !id.starts_with("SSH-") && !NOT_HERE.contains(&id);
    // The machine and its kernel are the outer ones.
    let all = verdicts(&said)
        .into_iter()
        .filter(|(id, verdict)| verdict != "pass" && !kernel::is_of_it(id) && !machine::is_of_it(id));
    let (found, not_here): (Verdicts, Verdicts) = all.partition(|(id, _)| is_told(id));
    let deserved: BTreeMap<_, _> = DESERVED.iter().map(|(id, verdict)| ((*id).into(), (*verdict).into())).collect();
    assert!(not_here.values().all(|verdict| verdict == "na"), "{not_here:?}");
    assert_eq!(found, deserved, "{said}");
}
