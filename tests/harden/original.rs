//! A signer as the shell scripts that lsm replaces set one up natively: lnd in the operator's own account, started by hand,
//! with its password, its seed and its bundle in clear text beside it.

use crate::lab::host::Host;
use crate::lab::lnd::Release;
use crate::stage::older::make_wallet;
use lsm::secret::Secret;
use std::fs;

/// The operator Ann's home. The scripts need no root and make no user.
const HOME: &str = "/home/ann";

/// What the scripts make of their template, natively and on their default network: flat, in this order.
const SETTINGS: &str = "alias=lnget-signer
debuglevel=info
listen=
rpclisten=localhost:10012
restlisten=localhost:10013
wallet-unlock-password-file=/home/ann/.lnget/signer/wallet-password.txt
wallet-unlock-allow-create=true
tlsextraip=0.0.0.0
tlsextradomain=signer
tlsextradomain=litd-signer
maxpendingchannels=0
bitcoin.active=true
bitcoin.testnet=true
bitcoin.node=neutrino
neutrino.addpeer=btcd0.lightning.computer
neutrino.addpeer=mainnet1-btcd.zaphq.io
neutrino.addpeer=mainnet2-btcd.zaphq.io
fee.url=https://nodes.lightning.computer/fees/v1/btc-fee-estimates.json
neutrino.maxpeers=8
neutrino.persistfilters=true
db.backend=sqlite
autopilot.active=false
tor.active=false
";

/// What it deserves beside what every host that lsm did not install has: everything else passes.
pub const DESERVED: &[(&str, &str)] = &[
    // The program is the operator's own, in a folder of his.
    ("BIN-001", "fail"),
    // He built it: no release that lsm knows.
    ("BIN-004", "error"),
    // listen= opens port 9735.
    ("LND-001", "fail"),
    ("LND-005", "fail"),
    ("LND-012", "fail"),
    ("PROC-001", "na"),
    ("PROC-003", "fail"),
    ("PROC-004", "fail"),
    ("PROC-006", "fail"),
    ("PROC-010", "fail"),
    ("PROC-014", "fail"),
    ("SECR-001", "fail"),
    ("SECR-003", "fail"),
    ("SECR-005", "fail"),
    // The bundle's macaroon is lnd's admin macaroon.
    ("SECR-006", "fail"),
    ("SECR-007", "fail"),
    // Everybody may read its files, in a folder that is closed.
    ("SECR-008", "warn"),
    ("SECR-009", "na"),
    // tlsextraip=0.0.0.0.
    ("TLS-002", "fail"),
    ("UNIT-002", "fail"),
    // No unit.
    ("UNIT-003", "na"),
    ("UNIT-005", "na"),
    ("UNIT-006", "fail"),
    ("UNIT-007", "na"),
    ("USER-001", "fail"),
];

/// A host with it, as setup leaves it: lnd runs, with a wallet and an exported bundle. It has no unit, no user of its own
/// and no rule in the packet filter.
#[track_caller]
pub fn boot(release: &Release) -> Option<Host> {
    let host = Host::boot("original")?;
    host.sh("useradd --create-home --shell /bin/bash ann && echo ann:lab | chpasswd").ok();
    install(&host, release);
    let signer = format!("{HOME}/.lnget/signer");
    // Folders and files by the umask of a login, but for those that the scripts close.
    as_ann(&host, &format!("mkdir -p {signer} && chmod 700 {signer} && mkdir {HOME}/.lnd-signer"));
    let password = Secret::generate_password();
    keep(&host, &format!("{signer}/wallet-password.txt"), password.expose(), 0o600);
    keep(&host, &format!("{signer}/signer-lnd.conf"), SETTINGS.as_bytes(), 0o644);
    start(&host);
    let seed = make_wallet(&host, "127.0.0.1:10012", &format!("{HOME}/.lnd-signer"), &password);
    keep(&host, &format!("{signer}/seed.txt"), seed.expose(), 0o600);
    export(&host, &signer);
    Some(host)
}

/// `install.sh --source` leaves what it built in the operator's own folder of Go programs. With other build tags than a
/// release it is another program: one more byte makes it so.
fn install(host: &Host, release: &Release) {
    let bin = format!("{HOME}/go/bin");
    host.copy_in(&release.lnd(), &format!("{bin}/lnd"), 0o755);
    host.copy_in(&release.lncli(), &format!("{bin}/lncli"), 0o755);
    host.sh(&format!("echo >>{bin}/lnd && chown -R ann: {HOME}/go")).ok();
}

/// A login session's process, in the background.
fn start(host: &Host) {
    let run = "systemd-run --quiet --scope --unit=session-1 --slice=user-1000.slice --uid=ann --gid=ann";
    let lnd =
        format!("{HOME}/go/bin/lnd --lnddir={HOME}/.lnd-signer --configfile={HOME}/.lnget/signer/signer-lnd.conf");
    let log = format!("{HOME}/.lnget/signer/signer-setup.log");
    host.sh(&format!("umask 022; HOME={HOME} {run} sh -c 'nohup {lnd} >{log} 2>&1 &'")).ok();
}

/// The admin macaroon goes into the bundle as it is, and the whole bundle into one file beside it.
fn export(host: &Host, signer: &str) {
    let (lnd, bundle) = (format!("{HOME}/.lnd-signer"), format!("{signer}/credentials-bundle"));
    let lncli = format!("{HOME}/go/bin/lncli --rpcserver=localhost:10012 --lnddir={lnd} --network=testnet");
    as_ann(
        host,
        &format!(
            "mkdir -p {bundle} && chmod 700 {bundle} && {lncli} wallet accounts list >{bundle}/accounts.json && \
             cp {lnd}/tls.cert {bundle}/ && cp {lnd}/data/chain/bitcoin/testnet/admin.macaroon {bundle}/ && \
             tar -czf - -C {bundle} accounts.json tls.cert admin.macaroon | base64 >{signer}/credentials-bundle.tar.gz.b64"
        ),
    );
}

fn as_ann(host: &Host, script: &str) {
    let line = ["setpriv", "--reuid=ann", "--regid=ann", "--clear-groups", "env"];
    let home = format!("HOME={HOME}");
    let script = format!("umask 022; {script}");
    host.run(line.into_iter().chain([home.as_str(), "sh", "-c", script.as_str()])).ok();
}

/// A file of Ann's.
fn keep(host: &Host, path: &str, bytes: &[u8], mode: u32) {
    fs::write(host.path(path), bytes).expect("a file is written");
    host.sh(&format!("chown ann: {path} && chmod {mode:o} {path}")).ok();
}
