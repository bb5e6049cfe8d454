//! Whoever has taken over lnd plants links, pipes and devices in its folders: lsm, run by root, goes through none of them.

use crate::lab::process::Done;
use crate::stage::{BUNDLE, Stage, assert_unchanged};
use std::fs;

/// Of whom the planted things are.
const LND: &str = "setpriv --reuid lsm-signer --regid lsm-signer --clear-groups";
const SOCKET: &str = "/run/lsm/signer/lnd.sock";
const MACAROON: &str = "/run/lsm/signer-admin/admin.macaroon";
const DATA: &str = "/var/lib/lsm/signer/data";
const RECEIPT: &str = "/etc/lsm/signer/wallet.toml";

const EXPORT: &str = "bundle export --yes --out /root/out/new";

/// What may stand in a file's place, and what makes it; `@` is the place.
const PLANTED: [(&str, &str); 6] = [
    ("a link to a secret", "ln -s /etc/shadow @"),
    ("a link to a folder", "ln -s /etc @"),
    ("a link to nothing", "ln -s /nonexistent @"),
    ("a pipe", "mkfifo -m 666 @"),
    ("a folder", "mkdir @"),
    ("an endless device", "mknod -m 666 @ c 1 5"),
];

impl Stage {
    /// Has `script` stand at `place`, made by lnd's user where that user can.
    #[track_caller]
    fn plant(&self, place: &str, script: &str) {
        let script = script.replace('@', place);
        let own = if script.starts_with("mknod") { "" } else { LND };
        self.host.sh(&format!("rm -rf {place} && {own} sh -c '{script}'")).ok();
    }

    /// `lsm` inside, killed where it hangs.
    fn lsm_in_time(&self, args: &str) -> Done {
        self.host.sh(&format!("timeout -s KILL 30 /root/lsm {args}"))
    }

    /// Every verb that meets what was planted says so at once, and neither writes a bundle nor changes anything else.
    #[track_caller]
    fn assert_told(&self, what: &str, verbs: &[&str]) {
        let kept = "/etc /usr/local /root/out";
        self.host.sh(&format!("rm -rf {BUNDLE}")).ok();
        let before = self.listing(kept);
        for verb in verbs {
            let done = self.lsm_in_time(verb);
            let said = format!("{}{}", done.stdout, done.stderr);
            assert!(done.code == 1 && said.contains("E-HOST-060"), "{what}: {verb}: {} {said}", done.code);
        }
        assert_unchanged(&before, &self.listing(kept));
    }
}

#[test]
fn what_lnd_plants_leads_root_nowhere() {
    let Some(stage) = Stage::boot("untrusted") else { return };
    stage.install(&[]).ok();
    in_the_place_of_its_socket(&stage);
    in_the_place_of_its_macaroon(&stage);
    in_the_place_of_its_wallet(&stage);
    lnds_folders_take_nothing_of_roots(&stage);
}

fn in_the_place_of_its_socket(stage: &Stage) {
    let aside = "/run/lsm/signer/aside";
    stage.host.run(["mv", SOCKET, aside]).ok();
    let verbs = ["status", "ready", EXPORT];
    // The first two would do as well as the socket itself, were they followed.
    let linked = [("a link to a signer", format!("ln -s {aside} @")), ("a link on the way", "ln -s aside @".into())];
    for (what, script) in linked.iter().map(|(what, script)| (*what, script.as_str())).chain(PLANTED) {
        stage.plant(SOCKET, script);
        stage.assert_told(what, &verbs);
    }
    stage.plant(SOCKET, "ln -s /run/dbus/system_bus_socket @");
    stage.assert_told("a link to the system's bus", &verbs);
    // What stands there at a start is no socket that a killed lnd left: it stays as it is, and so does what it leads to.
    stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
    let before = stage.listing("/etc");
    for (what, script) in [PLANTED[0], PLANTED[3], PLANTED[4]] {
        stage.plant(SOCKET, script);
        assert_ne!(stage.host.run(["timeout", "60", "systemctl", "start", "lsm@signer"]).code, 0, "{what}");
        stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
    }
    assert_unchanged(&before, &stage.listing("/etc"));
    stage.host.sh(&format!("rm -rf {SOCKET} {aside} && systemctl start lsm@signer && /root/lsm status")).ok();
}

fn in_the_place_of_its_macaroon(stage: &Stage) {
    let aside = "/run/lsm/signer-admin/aside";
    stage.host.run(["mv", MACAROON, aside]).ok();
    let linked = format!("ln -s {aside} @");
    for (what, script) in [("a link to a macaroon", linked.as_str())].into_iter().chain(PLANTED) {
        stage.plant(MACAROON, script);
        stage.assert_told(what, &[EXPORT]);
        assert_eq!(stage.lsm_in_time("status").code, 0, "{what}: status needs no macaroon");
    }
    // Not lnd's: whoever wrote it, it is not what lnd wrote.
    stage.host.sh(&format!("rm -rf {MACAROON} && cp {aside} {MACAROON}")).ok();
    stage.assert_told("a file of root's", &[EXPORT, &again()]);
    stage.host.sh(&format!("mv -f {aside} {MACAROON}")).ok();
    stage.lsm_in_time(&again()).ok();
}

fn in_the_place_of_its_wallet(stage: &Stage) {
    stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
    let (wallet, aside) = (format!("{DATA}/chain/bitcoin/regtest/wallet.db"), "/var/lib/lsm/signer/aside");
    // Larger than anybody can read in an hour.
    stage.host.sh(&format!("mv {wallet} {aside} && {LND} truncate -s 4T {wallet}")).ok();
    stage.lsm_in_time(&format!("{} --dry-run", again())).ok();
    stage.host.sh(&format!("mv -f {aside} {wallet}")).ok();
    // As after an install that was cut off: now it matters whether there is a wallet.
    let receipt = fs::read(stage.host.path(RECEIPT)).unwrap();
    fs::remove_file(stage.host.path(RECEIPT)).unwrap();
    stage.host.sh(&format!("mv {DATA} {aside}")).ok();
    for (what, script) in [("a link to its folder", "ln -s ../signer/aside @"), PLANTED[0], PLANTED[1]] {
        stage.plant(DATA, script);
        stage.assert_told(what, &[&again()]);
    }
    stage.host.sh(&format!("rm {DATA} && mv {aside} {DATA}")).ok();
    stage.host.sh(&format!("mv {wallet} {aside} && ln -s {aside} {wallet}")).ok();
    stage.assert_told("a link to its file", &[&again()]);
    stage.host.sh(&format!("mv -f {aside} {wallet}")).ok();
    fs::write(stage.host.path(RECEIPT), receipt).unwrap();
    stage.lsm_in_time(&again()).ok();
    stage.lsm_in_time("status").ok();
}

fn lnds_folders_take_nothing_of_roots(stage: &Stage) {
    stage.host.sh("ln -s /var/lib/lsm/signer /root/lnds && ln -s /etc /var/lib/lsm/signer/away").ok();
    for place in ["/run/lsm/signer/b", "/var/lib/lsm/signer/b", "/var/lib/lsm/signer/away/b", "/root/lnds/b"] {
        let done = stage.lsm_in_time(&format!("bundle export --yes --out {place}"));
        assert!(done.code == 2 && done.stderr.contains("E-INSTALL-015"), "{place}: {done:?}");
        assert_eq!(stage.host.run(["test", "-e", place]).code, 1, "{place}");
    }
}

/// The install again, after its bundle was lost.
fn again() -> String {
    format!("install --network=regtest --yes --bundle-out={BUNDLE}")
}
