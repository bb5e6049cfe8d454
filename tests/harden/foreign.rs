//! An lnd that somebody set up under lnd's own sample unit.

use crate::lab::host::Host;
use crate::lab::lnd::Release;
use crate::stage::older::make_wallet;
use std::fs;

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

/// What it deserves beside what every host that lsm did not install has: everything else passes.
pub const DESERVED: &[(&str, &str)] = &[
    ("LND-001", "fail"),
    ("LND-005", "fail"),
    // lnd lets its group read the admin macaroon; the folder is closed.
    ("SECR-001", "warn"),
    // The wallet is unlocked by hand: the unit hands lnd nothing.
    ("SECR-009", "na"),
    ("PROC-001", "fail"),
    ("PROC-004", "fail"),
    ("PROC-006", "fail"),
    ("PROC-010", "fail"),
    ("PROC-014", "fail"),
    ("UNIT-006", "fail"),
    // No macaroon of a watch-only node, no bundle; lnd's own listens for this host alone.
    ("SECR-007", "na"),
    ("SECR-008", "na"),
    ("TLS-002", "na"),
];

/// A host with it, and with a wallet that was made by hand.
#[track_caller]
pub fn boot(release: &Release) -> Option<Host> {
    let host = Host::boot("foreign")?;
    host.copy_in(&release.lnd(), "/usr/local/bin/lnd", 0o755);
    host.sh("useradd --system --create-home --home-dir /home/lnd --shell /usr/sbin/nologin lnd").ok();
    host.sh("mkdir -m 0700 /home/lnd/.lnd && chown lnd:lnd /home/lnd/.lnd").ok();
    let settings = "bitcoin.regtest=true\nbitcoin.node=nochainbackend\n";
    fs::write(host.path("/home/lnd/.lnd/lnd.conf"), settings).expect("the settings are written");
    fs::write(host.path("/etc/systemd/system/lnd.service"), UNIT).expect("the unit is written");
    host.sh("systemctl daemon-reload && systemctl enable lnd && systemctl start --no-block lnd").ok();
    make_wallet(&host, "127.0.0.1:10009", "/home/lnd/.lnd", &lsm::secret::Secret::generate_password());
    Some(host)
}
