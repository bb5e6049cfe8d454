//! Another lnd under a signer that is in use: it takes over, or the old one comes back by itself; and back by hand.

mod broken;

use crate::lab::lnd::{RELEASES, Release};
use crate::lab::net::Net;
use crate::lab::process::Done;
use crate::lab::snapshot::Snapshot;
use crate::stage::watch_only::{Asking, WatchOnly};
use crate::stage::{BUNDLE, Stage};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

const NEW: &str = RELEASES[0];
const OLD: &str = RELEASES[1];
/// Where lnd keeps the wallet, inside.
const WALLET: &str = "/var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db";
/// The new lnd's archive, inside.
const ARCHIVE: &str = "/root/new.tar.gz";

/// A host with the old lnd installed and the new one's archive on it.
fn installed(name: &str, more: &[&str]) -> Option<(Stage, Release)> {
    let (old, new) = (Release::find(OLD)?, Release::find(NEW)?);
    let stage = Stage::boot_in(&Net::build()?, name, &old)?;
    stage.host.copy_in(&new.archive()?, ARCHIVE, 0o644);
    stage.install(more).ok();
    Some((stage, new))
}

impl Stage {
    fn upgrade(&self, version: &str, archive: &str, more: &[&str]) -> Done {
        self.host.lsm(["upgrade", version, "--from", archive, "--json"].iter().chain(more))
    }

    fn planned(&self, args: &[&str]) -> Vec<Value> {
        let plan = self.host.lsm(args.iter().chain(&["--dry-run", "--json"])).json();
        plan["steps"].as_array().expect("steps").clone()
    }

    /// Which lnd runs, by what the host says and by the process.
    #[track_caller]
    fn assert_runs(&self, version: &str) {
        let status = self.host.lsm(["status", "--json"]).json();
        assert_eq!((&status["release"], &status["signs"]), (&json!(version), &json!(true)), "{status}");
        let program = fs::read_link(self.proc(self.lnd(), "exe")).expect("lnd's program");
        assert_eq!(program.to_string_lossy(), format!("/usr/local/lib/lsm/lnd/{version}/lnd"));
        assert_eq!(self.planned(&["install", "--network=regtest"]), [] as [Value; 0]);
    }

    fn has(&self, path: &str) -> bool {
        self.host.path(path).exists()
    }

    fn bundle_bytes(&self) -> Vec<u8> {
        fs::read(self.host.path(&format!("{BUNDLE}/credentials-bundle.tar.gz.b64"))).expect("the bundle")
    }
}

#[test]
fn a_new_lnd_takes_over_under_a_live_node_or_the_old_one_comes_back() {
    let Some((stage, new)) = installed("upgrade", &[]) else { return };
    if !broken::bring(&stage, &new) {
        return;
    }
    let (folder, bundle) = (tempfile::tempdir().unwrap(), stage.bundle_bytes());
    let kept = WatchOnly::set_up(&stage, stage.host.allowed(), folder.path()).keep();
    kept.sign_while(|asking| {
        what_cannot_be_changes_nothing(&stage);
        one_that_cannot_sign_goes_again(&stage, asking);
        the_new_one_takes_over(&stage, asking);
        and_back_by_hand(&stage, asking);
        cut_off_it_goes_on(&stage, asking);
    });
    assert_eq!(stage.bundle_bytes(), bundle, "the watch-only side had nothing to import");
}

fn what_cannot_be_changes_nothing(stage: &Stage) {
    let lnd = stage.lnd();
    let refused = |done: Done, code: i32, says: &str| {
        assert!(done.code == code && done.stdout.contains(says), "{says}: {done:?}");
        assert_eq!(stage.lnd(), lnd, "{says}");
        assert!(!stage.has("/var/lib/lsm/snapshot"), "{says}");
    };
    refused(stage.upgrade("v0.99.0-beta", ARCHIVE, &["--yes"]), 2, "v0.99.0-beta");
    refused(stage.upgrade("v0.19.1-beta", ARCHIVE, &["--yes"]), 1, "is refused");
    refused(stage.upgrade("v0.21.1-beta", ARCHIVE, &["--yes"]), 1, "has a known fault");
    refused(stage.upgrade(NEW, &stage.archive_inside(), &["--yes"]), 4, "E-");
    refused(stage.upgrade(NEW, ARCHIVE, &[]), 2, "--yes");
    refused(stage.upgrade(NEW, ARCHIVE, &["--yes", "--instance=other"]), 1, "no signer called other");
    // The way that an install would take is none.
    let install = ["install", "--network=regtest", "--release", NEW, "--from", ARCHIVE, "--yes", "--json"];
    refused(stage.host.lsm(install), 1, &format!("lsm upgrade {NEW}"));
    // What lnd could have put beside its database.
    for (plant, says) in
        [("ln -s /etc/shadow", "is a link"), ("mkfifo", "no plain file"), ("truncate -s 4T", "free some space")]
    {
        stage
            .host
            .sh(&format!(
                "{plant} /var/lib/lsm/signer/data/planted && chown -h lsm-signer: /var/lib/lsm/signer/data/planted"
            ))
            .ok();
        let done = stage.upgrade(NEW, ARCHIVE, &["--yes"]);
        let code = if says == "free some space" { 3 } else { 1 };
        refused(done, code, says);
        stage.host.sh("rm /var/lib/lsm/signer/data/planted").ok();
    }
    assert_eq!(stage.upgrade(OLD, ARCHIVE, &["--yes"]).json()["changed"], false);
    assert_eq!(stage.planned(&["upgrade", OLD]), [] as [Value; 0]);
    let kinds: Vec<String> =
        stage.planned(&["upgrade", NEW]).iter().map(|s| s["kind"].as_str().unwrap().to_owned()).collect();
    let place = |kind: &str| kinds.iter().position(|k| k == kind).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"));
    assert!(place("release") < place("snapshot") && place("snapshot") < place("service"), "{kinds:?}");
    assert!(place("service") < place("prove") && !kinds.contains(&"bundle".to_owned()), "{kinds:?}");
    stage.assert_runs(OLD);
}

fn one_that_cannot_sign_goes_again(stage: &Stage, asking: &Asking<'_>) {
    let done = stage.upgrade(broken::VERSION, broken::FOLDER, &["--yes"]);
    assert!(done.code == 1 && done.stdout.contains("does not know /signrpc.Signer/SignMessage"), "{done:?}");
    assert!(done.stdout.contains("was undone"), "{done:?}");
    // It had run, and had the database.
    assert!(stage.host.journal(&["-u", "lsm@signer"]).contains("0.21.3-beta"));
    stage.assert_runs(OLD);
    assert!(!stage.has("/var/lib/lsm/snapshot") && !stage.has(&format!("/usr/local/lib/lsm/lnd/{}", broken::VERSION)));
    asking.wait_signed();
    assert_eq!(stage.host.lsm(["rollback", "--yes", "--json"]).json()["changed"], false);
}

fn the_new_one_takes_over(stage: &Stage, asking: &Asking<'_>) {
    let identity = stage.bundle().identity_pubkey().to_owned();
    let done = stage.upgrade(NEW, ARCHIVE, &["--yes"]).json();
    assert_eq!((&done["from"], &done["to"], &done["changed"]), (&json!(OLD), &json!(NEW), &json!(true)));
    assert_eq!((&done["bundle_changed"], &done["accounts_changed"]), (&json!(false), &json!([])));
    println!("MEASURED gap of an upgrade: {} ms", done["gap_ms"].as_u64().expect("a gap"));
    stage.assert_runs(NEW);
    asking.wait_signed();
    assert_eq!(stage.host.lsm(["status", "--json"]).json()["identity_pubkey"], identity);
    let snapshot = fs::metadata(stage.host.path("/var/lib/lsm/snapshot")).unwrap();
    assert_eq!((snapshot.mode() & 0o7777, snapshot.uid()), (0o700, 0));
    assert!(stage.has(&format!("/usr/local/lib/lsm/lnd/{OLD}/lnd")), "to go back to");
    assert_eq!(stage.upgrade(NEW, ARCHIVE, &["--yes"]).json()["changed"], false);
    let down = stage.upgrade(OLD, &stage.archive_inside(), &["--yes"]);
    assert!(down.code == 1 && down.stdout.contains("is older"), "{down:?}");
}

fn and_back_by_hand(stage: &Stage, asking: &Asking<'_>) {
    let copy = format!("/var/lib/lsm/snapshot/signer/{OLD}/files/chain/bitcoin/regtest/wallet.db");
    let access = |path: &str| {
        let meta = fs::metadata(stage.host.path(path)).unwrap();
        (meta.mode(), meta.uid(), meta.gid())
    };
    let (was, lists) = (
        access(WALLET),
        "getfacl -p /var/lib/lsm/signer/data /var/lib/lsm/signer/data/chain/bitcoin/regtest; find /var/lib/lsm/signer -printf '%p %y %m %U:%G\\n' | grep -v '/logs/\\|backup' | sort",
    );
    let before = stage.host.sh(lists).ok();
    assert!(stage.has(&copy));
    stage.host.lsm(["rollback", "--yes"]).ok();
    stage.assert_runs(OLD);
    asking.wait_signed();
    assert_eq!(access(WALLET), was);
    assert_eq!(stage.host.sh(lists).ok(), before);
    assert!(!stage.has("/var/lib/lsm/snapshot") && !stage.has(&format!("/usr/local/lib/lsm/lnd/{NEW}")));
}

/// Killed at each of these, the same command goes on; or it is undone.
fn cut_off_it_goes_on(stage: &Stage, asking: &Asking<'_>) {
    for (moment, forward) in [("snapshot", true), ("prove", false), ("service", true)] {
        let kill = format!(
            "before=$(grep -c '\"kind\":\"{moment}\"' /var/lib/lsm/journal/signer.jsonl)
            /root/lsm upgrade {NEW} --from {ARCHIVE} --yes >/dev/null 2>&1 & lsm=$!
            until [ \"$(grep -c '\"kind\":\"{moment}\"' /var/lib/lsm/journal/signer.jsonl)\" -gt $before ]; do :; done
            kill -9 $lsm"
        );
        stage.host.sh(&kill);
        let other = stage.host.lsm(["bundle", "export", "--yes", "--json"]);
        assert!(other.code == 1 && other.stdout.contains("was cut off"), "{moment}: {other:?}");
        let elsewhere = stage.upgrade(broken::VERSION, broken::FOLDER, &["--yes"]);
        assert!(elsewhere.code == 1 && elsewhere.stdout.contains("was cut off"), "{moment}: {elsewhere:?}");
        if moment == "service" {
            // By the text of what starts it lsm knows whether the new lnd may have had the database.
            let spec = "/etc/lsm/signer.toml";
            stage.host.sh(&format!("cp -p {spec} /root/spec && sed -i '1i require_landlock = 1' {spec}")).ok();
            let other = stage.upgrade(NEW, ARCHIVE, &["--yes"]);
            assert!(other.code == 1 && other.stdout.contains("cannot go on"), "{other:?}");
            stage.host.sh(&format!("cp -p /root/spec {spec}")).ok();
        }
        if forward {
            let done = stage.upgrade(NEW, ARCHIVE, &["--yes"]).json();
            assert_eq!((&done["from"], &done["to"], &done["changed"]), (&json!(OLD), &json!(NEW), &json!(true)));
            stage.assert_runs(NEW);
            assert_eq!(stage.planned(&["upgrade", NEW]), [] as [Value; 0]);
            asking.wait_signed();
        }
        stage.host.lsm(["rollback", "--yes"]).ok();
        stage.assert_runs(OLD);
        asking.wait_signed();
    }
}

#[test]
fn with_taproot_channels_the_bundle_has_the_new_lnds_calls() {
    let Some((stage, _)) = installed("upgrade-taproot", &["--taproot-channels", "--mode=host"]) else { return };
    let permitted = || stage.bundle().macaroon.permissions().len();
    assert_eq!(permitted(), 8);
    let done = stage.upgrade(NEW, ARCHIVE, &["--yes"]).json();
    assert_eq!((&done["bundle_changed"], &done["bundle"]), (&json!(true), &json!(BUNDLE)), "{done}");
    assert_eq!(permitted(), 10);
    stage.assert_runs(NEW);
    let folder = tempfile::tempdir().unwrap();
    WatchOnly::set_up(&stage, stage.host.allowed(), folder.path()).check();
    // What was handed to the operator is theirs, and its macaroon permits all that the old lnd knows.
    stage.host.lsm(["rollback", "--yes"]).ok();
    stage.assert_runs(OLD);
    assert_eq!(permitted(), 10);
    let folder = tempfile::tempdir().unwrap();
    WatchOnly::set_up(&stage, stage.host.allowed(), folder.path()).check();
}

/// Where the second signer is: its name, and where it listens.
const OTHER: &str = "other";
const OTHER_LISTEN: &str = "10.77.0.2:10013";
/// What a third release stands under, that lsm unpacked once and nobody runs.
const UNUSED: &str = "v0.20.1-beta";

impl Stage {
    fn install_other(&self) {
        let mut args: Vec<String> = ["install", "--network=regtest", "--instance", OTHER].map(str::to_owned).to_vec();
        args.extend(self.source());
        args.extend([format!("--listen={OTHER_LISTEN}"), "--allow=10.77.0.3".into()]);
        args.push("--seed-out=/root/out/other.seed".into());
        self.install_with(&args, &[]).ok();
    }

    /// The releases that are unpacked.
    fn releases(&self) -> Vec<String> {
        let shown = self.host.sh("ls /usr/local/lib/lsm/lnd").ok();
        shown.lines().map(str::to_owned).collect()
    }

    /// The process of the other signer, which signs.
    #[track_caller]
    fn other_signs(&self, version: &str) -> String {
        let status = self.host.lsm(["status", "--json", "--instance", OTHER]).json();
        assert_eq!((&status["release"], &status["signs"]), (&json!(version), &json!(true)), "{status}");
        let plan = self.planned(&["install", "--network=regtest", "--instance", OTHER]);
        assert_eq!(plan, [] as [Value; 0]);
        self.host.run(["systemctl", "show", "--property=MainPID", "--value", "lsm@other"]).ok()
    }
}

#[test]
fn two_signers_part_ways_and_each_leaves_what_the_other_needs() {
    let (Some(old), Some(new)) = (Release::find(OLD), Release::find(NEW)) else { return };
    let Some(net) = Net::build() else { return };
    let (Some(stage), Some(archive)) = (Stage::boot_in(&net, "upgrade-two", &old), new.archive()) else { return };
    let before = Snapshot::of(&stage.host);
    stage.host.copy_in(&archive, ARCHIVE, 0o644);
    stage.install(&[]).ok();
    stage.install_other();

    // Who brought the old lnd goes, and the other one can still go back to it.
    stage.upgrade(NEW, ARCHIVE, &["--yes", "--instance", OTHER]).ok();
    stage.host.lsm(["uninstall", "--yes"]).ok();
    stage.other_signs(NEW);
    stage.host.lsm(["rollback", "--yes", "--instance", OTHER]).ok();
    stage.other_signs(OLD);
    stage.install(&[]).ok();

    stage.host.sh(&format!("cd /usr/local/lib/lsm/lnd && cp -a {OLD} {UNUSED} && mkdir mine && touch mine/lnd")).ok();
    let (identity, other) = (stage.bundle().identity_pubkey().to_owned(), stage.other_signs(OLD));

    // One of them goes on; nobody runs the third, and what lsm did not unpack is not its own.
    let done = stage.upgrade(NEW, ARCHIVE, &["--yes"]);
    done.ok();
    stage.assert_runs(NEW);
    assert_eq!(stage.releases(), ["mine", OLD, NEW]);
    assert_eq!(stage.other_signs(OLD), other, "the other one was not even started anew");

    // It goes with its new lnd and the copy of before; its wallet stays, and no older lnd takes that by mistake.
    stage.host.lsm(["uninstall", "--yes"]).ok();
    assert_eq!(stage.releases(), ["mine", OLD]);
    assert_eq!(stage.other_signs(OLD), other);
    assert!(stage.has(WALLET) && !stage.has("/var/lib/lsm/snapshot/signer"));
    let mut again = stage.arguments();
    again.retain(|argument| !argument.starts_with("--accept-risk"));
    let refused = stage.install_with(&again, &[]);
    assert!(refused.code == 1 && refused.stderr.contains("is older"), "{refused:?}");
    // Accepted by name it is tried, and gives up.
    let tried = stage.install(&[]);
    assert!(tried.code == 1 && tried.stderr.contains("was undone"), "{tried:?}");
    assert_eq!(stage.releases(), ["mine", OLD]);
    again.retain(|argument| !argument.starts_with("--release") && !argument.starts_with("--from"));
    stage.install_with(&again, &["--release", NEW, "--from", ARCHIVE]).ok();
    stage.assert_runs(NEW);
    assert_eq!(stage.bundle().identity_pubkey(), identity);

    // The other follows, and could go back; then all goes.
    stage.upgrade(NEW, ARCHIVE, &["--yes", "--instance", OTHER]).ok();
    stage.other_signs(NEW);
    assert_eq!(stage.releases(), ["mine", OLD, NEW]);
    stage.host.lsm(["uninstall", "--purge", "--confirm", OTHER, "--instance", OTHER, "--yes"]).ok();
    assert_eq!(stage.releases(), ["mine", NEW]);
    stage.assert_runs(NEW);
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    stage.host.sh("rm -r /usr/local/lib/lsm").ok();
    let may_stay = |name: &str| name.starts_with("file /root/") || name == "file /var/lib/systemd/credential.secret";
    assert_eq!(before.differences(&Snapshot::of(&stage.host), may_stay), [] as [String; 0]);
}
