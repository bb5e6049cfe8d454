//! `lsm install --adopt`: an lnd that the shell scripts before lsm set up becomes lsm's, with its keys and nothing of its own
//! changed; and comes back.

use crate::lab::host::{Debian, Host};
use crate::lab::lnd::Release;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::stage::older::{identity, make_wallet};
use crate::stage::{BUNDLE, LISTEN, PORT, Stage};
use lsm::secret::Secret;
use lsm::signer::MACAROON_REFUSED;
use lsm::signer::macaroon::Macaroon;
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const ADDRESS: &str = "127.0.0.1:10012";
/// The volume that compose made for the scripts' container.
const VOLUME: &str = "/var/lib/docker/volumes/lnd_signer-data/_data";

/// What the scripts make of their template, below `folder`.
pub fn settings(folder: &str) -> String {
    format!(
        "[Application Options]\nalias=lnget-signer\nlisten=\nrpclisten=0.0.0.0:10012\nrestlisten=127.0.0.1:10013\n\
        wallet-unlock-password-file={folder}/wallet-password.txt\nwallet-unlock-allow-create=true\ntlsextradomain=signer\n\
        maxpendingchannels=0\n[Bitcoin]\nbitcoin.testnet=true\nbitcoin.node=neutrino\n[db]\ndb.backend=sqlite\n"
    )
}

/// Every file below a folder with its hash; sockets, logs and locks do not count.
pub fn hashes(host: &Host, folder: &str) -> String {
    host.sh(&format!("cd {folder} && find . -type f -not -path './logs/*' -exec sha256sum {{}} + | LC_ALL=C sort")).ok()
}

impl Stage {
    fn adopt(&self, more: &[&str]) -> Done {
        let mut args: Vec<String> = ["install", "--network=testnet"].map(str::to_owned).to_vec();
        args.extend(self.source());
        args.extend([format!("--listen={LISTEN}"), "--allow=10.77.0.3".into(), format!("--bundle-out={BUNDLE}")]);
        self.install_with(&args, more)
    }

    /// Holds that the signer has these keys, and signs for the allowed peer.
    #[track_caller]
    fn hold_keys(&self, identity: &str) {
        assert_eq!(self.bundle().identity_pubkey(), identity);
        assert_eq!(self.host.allowed().knock("10.77.0.2", PORT, PATIENCE), Met::Open);
        let proof = self.host.allowed().inside(|| lsm::watch_only::prove_at_signer(&self.signer(), identity));
        proof.expect("the adopted key signs");
    }
}

/// The scripts' container: root's, on every address, its settings and password in its volume.
fn run_container(stage: &Stage, old: &Release) -> (Secret, String) {
    let (host, password) = (&stage.host, Secret::generate_password());
    host.copy_in(&old.lnd(), "/root/image/lnd", 0o755);
    host.sh("mkdir -p /root/image/tmp && tar -C /root/image -c . | docker import - lightninglabs/lnd:v0.20.0-beta")
        .ok();
    host.sh("docker volume create lnd_signer-data").ok();
    fs::write(host.path(&format!("{VOLUME}/lnd.conf")), settings("/root/.lnd")).expect("written");
    fs::write(host.path(&format!("{VOLUME}/wallet-password.txt")), password.expose()).expect("written");
    host.sh(
        "docker run -d --name litd-signer --restart unless-stopped -e HOME=/root -p 10012:10012 -v lnd_signer-data:/root/.lnd \
        lightninglabs/lnd:v0.20.0-beta /lnd --lnddir=/root/.lnd",
    )
    .ok();
    drop(make_wallet(host, ADDRESS, VOLUME, &password));
    (password, identity(host, ADDRESS, VOLUME, "testnet"))
}

#[test]
fn the_scripts_container_is_taken_over_and_comes_back() {
    let Some(old) = Release::find("v0.20.0-beta") else { return };
    let Some(stage) = Stage::boot_of(Debian::Docker, "adopt-docker") else { return };
    let host = &stage.host;
    let (_, keys) = run_container(&stage, &old);

    let refused = stage.install(&["--backend=docker"]);
    assert!(refused.code == 1 && refused.stderr.contains("--adopt litd-signer"), "{refused:?}");
    let wrong = host.lsm(["install", "--network=regtest", "--backend=docker", "--adopt=litd-signer", "--dry-run"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("E-ADOPT-002") && wrong.stderr.contains("testnet"), "{wrong:?}");
    host.sh("docker stop litd-signer").ok();
    let before = hashes(host, VOLUME);
    host.sh("docker start litd-signer").ok();

    stage.adopt(&["--backend=docker", "--adopt=litd-signer"]).ok();
    stage.hold_keys(&keys);
    assert_eq!(hashes(host, VOLUME).lines().count(), before.lines().count());
    assert!(before.contains("chain.sqlite") && host.sh("ls /var/lib/docker/volumes/signer-data/_data/data").code == 0);
    // Again, also with the same words: nothing is done.
    stage.adopt(&["--backend=docker", "--adopt=litd-signer"]).ok();
    let status = host.lsm(["status", "--json"]).json();
    assert!(status["signs"] == true && status["drift"].as_array().is_none_or(Vec::is_empty), "{status}");

    host.lsm(["rollback", "--yes"]).ok();
    assert_eq!(identity(host, ADDRESS, VOLUME, "testnet"), keys, "the scripts' lnd runs on its own wallet again");
}

/// The folder of the scripts' lnd where that is a process of root's.
const HOME: &str = "/root/old/home";

/// The scripts' lnd as a process of root's, with a wallet: whose it is.
fn run_native(stage: &Stage, old: &Release, settings: &str) -> String {
    let (host, password) = (&stage.host, Secret::generate_password());
    host.sh(&format!("mkdir -p {HOME}")).ok();
    host.copy_in(&old.lnd(), "/root/old/lnd", 0o755);
    fs::write(host.path(&format!("{HOME}/lnd.conf")), settings).expect("written");
    fs::write(host.path(&format!("{HOME}/wallet-password.txt")), password.expose()).expect("written");
    start_native(stage);
    drop(make_wallet(host, ADDRESS, HOME, &password));
    identity(host, ADDRESS, HOME, "testnet")
}

fn start_native(stage: &Stage) {
    let lnd = format!("/root/old/lnd --lnddir={HOME} --rpclisten={ADDRESS}");
    stage.host.sh(&format!("systemd-run --quiet --unit=old -E HOME={HOME} {lnd}")).ok();
}

#[test]
fn the_scripts_own_lnd_is_taken_over_when_it_does_not_run() {
    let Some(old) = Release::find("v0.20.0-beta") else { return };
    let Some(stage) = Stage::boot("adopt") else { return };
    let (host, home) = (&stage.host, HOME);
    let keys = run_native(&stage, &old, &settings(home));

    let refused = |what: &str, more: &[&str], id: &str| {
        let done = stage.adopt(more);
        assert!(done.code != 0 && done.stderr.contains(id), "{what}: {done:?}");
        assert_ne!(host.run(["test", "-e", "/etc/lsm"]).code, 0, "{what}: nothing was made");
    };
    let from = format!("--adopt={home}");
    refused("it runs", &[&from], "E-ADOPT-003");
    host.sh("systemctl stop old").ok();
    let before = hashes(host, home);
    refused("there is none", &["--adopt=/root/nowhere"], "E-ADOPT-002");
    host.sh("echo another-password >/root/other").ok();
    refused("another password", &[&from, "--password-file=/root/other"], "E-WALLET-012");
    host.sh(&format!("mv {home}/wallet-password.txt /root/password")).ok();
    refused("no password", &[&from], "E-ADOPT-004");
    assert_ne!(stage.adopt(&[&from, "--seed-out=/root/out/seed"]).code, 0, "there is no seed to write");

    // By the same lnd, and then to the next one.
    let Some(archive) = old.archive() else { return };
    let inside = format!("/root/{}", archive.file_name().expect("a name").to_string_lossy());
    host.copy_in(&archive, &inside, 0o644);
    let mut args: Vec<String> = ["install", "--network=testnet", &from].map(str::to_owned).to_vec();
    args.extend([format!("--from={inside}"), format!("--release={}", old.version)]);
    args.extend([format!("--accept-risk={}", old.version), format!("--listen={LISTEN}"), "--allow=10.77.0.3".into()]);
    args.extend([format!("--bundle-out={BUNDLE}"), "--password-file=/root/password".into()]);
    stage.install_with(&args, &[]).ok();
    stage.hold_keys(&keys);
    let admin =
        fs::read(host.path(&format!("{home}/data/chain/bitcoin/testnet/admin.macaroon"))).expect("the old lnd's");
    let thief = stage.signer().with_macaroon(&Macaroon::parse(admin).expect("a macaroon"));
    let refused = host.allowed().inside(|| thief.sign_with_key(6, 0, b"a message"));
    assert_eq!(refused.unwrap_err().code(), MACAROON_REFUSED, "what the old lnd gave away is good there alone");
    host.lsm(["upgrade", &stage.release.version, &format!("--from={}", stage.archive_inside()), "--yes"]).ok();
    stage.hold_keys(&keys);
    host.sh(&format!("mv /root/password {home}/wallet-password.txt")).ok();
    assert_eq!(hashes(host, home), before, "nothing of its own was changed");
    assert_eq!(host.sh("find /var/lib/lsm/signer -not -user lsm-signer").ok(), "");
    host.lsm(["restart", "--yes"]).ok();
    stage.hold_keys(&keys);

    host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    start_native(&stage);
    assert_eq!(identity(host, ADDRESS, home, "testnet"), keys);

    // A signer with a wallet of its own takes no other.
    host.sh("systemctl stop old; rm -r /root/out/*").ok();
    stage.adopt(&["--seed-out=/root/out/seed"]).ok();
    let own = stage.bundle().identity_pubkey().to_owned();
    let refused = stage.adopt(&[&from]);
    assert!(refused.code == 1 && refused.stderr.contains("E-ADOPT-006"), "{refused:?}");
    stage.hold_keys(&own);

    host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    host.sh("rm -r /root/old /root/out/*").ok();
    a_wallet_without_root_keys_is_taken_over_too(&stage, &old);
}

#[track_caller]
fn a_wallet_without_root_keys_is_taken_over_too(stage: &Stage, old: &Release) {
    let keys = run_native(stage, old, &settings(HOME).replace("db.backend=sqlite", "db.backend=bolt"));
    stage.host.sh(&format!("systemctl stop old; rm {HOME}/data/chain/bitcoin/testnet/macaroons.db")).ok();
    stage.adopt(&[&format!("--adopt={HOME}")]).ok();
    stage.hold_keys(&keys);
}
