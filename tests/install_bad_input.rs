//! `lsm install` where it cannot or must not: a clear error, its exit code, and a host that is as it was.

use crate::lab::LSM;
use crate::lab::host::Host;
use crate::lab::process::{self, Done};
use crate::stage::{SEED, Stage, assert_unchanged};
use std::fs;
use std::process::Command;

/// What no failed install may change.
const KEPT: &str = "/etc /var/lib /usr/local /root";
/// lnd's wallet, where the install would make it.
const WALLET: &str = "/var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db";

/// Holds a failed run to `code` and one of its words to `cause`: one line of cause with its code, one of hint, no more.
#[track_caller]
fn assert_fails(done: &Done, code: i32, cause: &str) {
    let all = format!("exit {}, stdout: {:?}, stderr: {:?}", done.code, done.stdout, done.stderr);
    assert_eq!(done.code, code, "{all}");
    assert!(done.stdout.is_empty() && done.stderr.contains(cause), "wanted {cause:?}: {all}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    let told = |line: &str| line.starts_with("error: ");
    assert_eq!(lines.iter().filter(|line| told(line)).count(), 1, "{all}");
    // Bad usage is told by the parser, in its own shape.
    if !done.stderr.contains("try '--help'") {
        assert!(lines.len() <= 2 && told(lines[0]) && lines[0].contains("[E-"), "{all}");
        assert!(lines.get(1).is_none_or(|line| line.starts_with("hint: ")), "{all}");
    }
}

impl Stage {
    /// Runs the usual install changed by `change`, holds it to `code` and `cause`, and the host to what it was.
    #[track_caller]
    fn assert_refused(&self, code: i32, cause: &str, change: impl FnOnce(&mut Vec<String>)) {
        let mut args = self.arguments();
        args.push("--yes".into());
        change(&mut args);
        let before = self.listing(KEPT);
        assert_fails(&self.host.lsm(&args), code, cause);
        assert_unchanged(&before, &self.listing(KEPT));
    }
}

/// Puts `new` in the place of the option that begins as `new` does up to its `=`.
fn set(args: &mut Vec<String>, new: &str) {
    let option = new.split('=').next().unwrap_or(new);
    args.retain(|arg| arg.split('=').next() != Some(option));
    args.push(new.to_owned());
}

fn drop_option(args: &mut Vec<String>, option: &str) {
    args.retain(|arg| arg.split('=').next() != Some(option));
}

#[test]
fn a_failure_is_told_in_json_however_that_was_asked_for() {
    let told = |args: &[&str], form: &[&str]| {
        let mut command = Command::new(LSM);
        command.args(args).args(form);
        let done = process::run(command);
        assert!(done.code != 0 && !done.stderr.contains("error: "), "{done:?}");
        let told: serde_json::Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
        told["error"]["code"].as_str().expect("a code").to_owned()
    };
    for form in [&["--json"][..], &["--format=json"], &["--format", "json"]] {
        let found = told(&["install", "--network=regtest", "--release=v0.99.0-beta", "--dry-run"], form);
        assert!(found.starts_with("E-") && found != "E-CLI-002", "{found}");
        assert_eq!(told(&["install", "--no-such-option"], form), "E-CLI-002");
    }
}

#[test]
fn a_value_that_cannot_be_is_told_with_its_hint() {
    for (args, hint) in [
        (&["--network=mainet"][..], "mainnet"),
        (&["--network=regtest", "--listen=10.0.0.5"], "as in 10.0.0.2:10012"),
        (&["--network=regtest", "--birthday=17.05.2024"], "for example 2024-05-17"),
    ] {
        let mut command = Command::new(LSM);
        command.arg("install").args(args);
        let done = process::run(command);
        assert!(done.code == 2 && done.stderr.contains("[E-"), "{done:?}");
        assert!(done.stderr.lines().any(|line| line.starts_with("hint: ") && line.contains(hint)), "{done:?}");
    }
}

#[test]
fn what_would_be_ignored_is_refused() {
    for line in [
        "install --network=regtest --no-wallet --seed-out=seed",
        "install --network=regtest --no-wallet --restore",
        "install --network=regtest --allow=none --allow=10.0.0.1 --dry-run",
        "release verify lnd.tar.gz --arch=arm64",
    ] {
        let mut command = Command::new(LSM);
        command.args(line.split(' '));
        let done = process::run(command);
        assert_eq!(done.code, 2, "{line}: {done:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let Some(stage) = Stage::boot("refused") else { return };
    bad_arguments(&stage);
    bad_archives(&stage);
    what_the_machine_lacks(&stage);
    what_is_there_already_is_kept(&stage);
    two_at_once_make_one_wallet(&stage);
}

fn bad_arguments(stage: &Stage) {
    stage.assert_refused(2, "v0.99.0-beta", |args| set(args, "--release=v0.99.0-beta"));
    stage.assert_refused(1, "v0.19.1-beta is refused", |args| set(args, "--release=v0.19.1-beta"));
    for version in ["v0.20.0-beta", "v0.21.1-beta"] {
        stage.assert_refused(1, "has a known fault", |args| {
            drop_option(args, "--accept-risk");
            set(args, &format!("--release={version}"));
        });
    }
    for bad in ["10.77.0", "10.77.0.3/33", "peer.example", "0.0.0.0/0", "10.77.0.3 accept"] {
        stage.assert_refused(2, bad, |args| set(args, &format!("--allow={bad}")));
    }
    stage.assert_refused(2, "allows everybody", |args| {
        set(args, "--allow=0.0.0.0/1");
        args.push("--allow=128.0.0.0/1".into());
    });
    stage.assert_refused(2, "--san", |args| set(args, "--listen=0.0.0.0:10012"));
    // The certificate would have it, and nobody could dial it: the bundle would not come to be, after the wallet.
    for bad in ["10.77.0", "signer.0x7f"] {
        stage.assert_refused(2, bad, |args| args.push(format!("--san={bad}")));
    }
    stage.assert_refused(2, "has no port", |args| set(args, "--listen=10.77.0.2:0"));
    for bad in ["journal", "bundle", "../x", "Signer"] {
        stage.assert_refused(2, bad, |args| args.push(format!("--instance={bad}")));
    }
    stage.assert_refused(3, "Landlock ABI 99 is required", |args| args.push("--require-landlock=99".into()));
    for option in ["--seed-out", "--bundle-out"] {
        stage.assert_refused(2, "no folder /root/nowhere", |args| set(args, &format!("{option}=/root/nowhere/x")));
    }
    // Without a terminal nobody can be asked, nor a seed be shown.
    stage.assert_refused(2, "--yes", |args| drop_option(args, "--yes"));
    stage.assert_refused(2, "--seed-out", |args| drop_option(args, "--seed-out"));
    stage.host.sh("mkdir /root/short && echo 1234567 >/root/short/password").ok();
    stage.assert_refused(2, "8 bytes", |args| args.push("--password-file=/root/short/password".into()));
}

fn bad_archives(stage: &Stage) {
    let whole = fs::read(stage.host.path(&stage.archive_inside())).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::create_dir(stage.host.path("/root/bad")).unwrap();
    for (name, bytes) in [("cut", &whole[..whole.len() - 1000]), ("flipped", &flipped), ("empty", &[])] {
        let path = format!("/root/bad/{name}.tar.gz");
        fs::write(stage.host.path(&path), bytes).unwrap();
        stage.assert_refused(4, name, |args| set(args, &format!("--from={path}")));
    }
    let folder = "/root/bad/folder";
    let name = stage.archive_inside().rsplit('/').next().expect("a name").to_owned();
    fs::create_dir(stage.host.path(folder)).unwrap();
    fs::write(stage.host.path(&format!("{folder}/{name}")), &flipped).unwrap();
    stage.assert_refused(4, &name, |args| set(args, &format!("--from={folder}")));
}

fn what_the_machine_lacks(stage: &Stage) {
    let host = &stage.host;
    let mut args = stage.arguments();
    args.push("--yes".into());
    let before = stage.listing(KEPT);
    assert_fails(&stage.lsm_as_nobody(&args), 3, "needs root");

    let line = args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    // As in a chroot or a container without an init.
    let bare = format!("mount -t tmpfs none /run && exec /root/lsm {line}");
    assert_fails(&host.run(["unshare", "--mount", "sh", "-c", &bare]), 3, "systemd");
    let full = format!("mount -t tmpfs -o size=100m none /var/lib && exec /root/lsm {line}");
    assert_fails(&host.run(["unshare", "--mount", "sh", "-c", &full]), 3, "MiB free");
    let hosts = format!("echo 10.77.0.2 vm >/run/hosts && mount --bind /run/hosts /etc/hosts && exec /root/lsm {line}");
    assert_fails(&host.run(["unshare", "--mount", "sh", "-c", &hosts]), 3, "localhost");
    host.sh("mv /usr/sbin/nft /usr/sbin/nft.away").ok();
    let done = host.lsm(&args);
    host.sh("mv /usr/sbin/nft.away /usr/sbin/nft").ok();
    assert_fails(&done, 3, "nft");
    assert!(done.stderr.contains("apt"), "it says how to get it: {}", done.stderr);
    for taken in ["10.77.0.2:10012", "0.0.0.0:10012"] {
        let _holder = host.inside(|| std::net::TcpListener::bind(taken).unwrap());
        assert_fails(&host.lsm(&args), 3, "10.77.0.2:10012");
    }
    assert_unchanged(&before, &stage.listing(KEPT));
}

fn what_is_there_already_is_kept(stage: &Stage) {
    let wallet = stage.host.path(WALLET);
    let folder = wallet.parent().expect("a folder");
    fs::create_dir_all(folder).unwrap();
    fs::write(&wallet, "somebody's money").unwrap();
    stage.assert_refused(1, "there is a wallet already", |_| {});
    assert_eq!(fs::read(&wallet).unwrap(), b"somebody's money");
    fs::remove_dir_all(stage.host.path("/var/lib/lsm")).unwrap();

    fs::write(stage.host.path(SEED), "somebody's words").unwrap();
    stage.assert_refused(1, SEED, |_| {});
    assert_eq!(fs::read(stage.host.path(SEED)).unwrap(), b"somebody's words");
    fs::remove_file(stage.host.path(SEED)).unwrap();
}

fn two_at_once_make_one_wallet(stage: &Stage) {
    let mut args = stage.arguments();
    args.push("--yes".into());
    let run = |host: &Host| host.lsm(&args);
    let (one, other) = std::thread::scope(|threads| {
        let one = threads.spawn(|| run(&stage.host));
        let other = run(&stage.host);
        (one.join().expect("an install"), other)
    });
    let (first, second) = if one.code == 0 { (one, other) } else { (other, one) };
    first.ok();
    // The loser came while the other was at work, or after it, when there was nothing left to do.
    if second.code != 0 {
        assert_fails(&second, 1, "E-PLAN-002");
    }
    let journal = fs::read_to_string(stage.host.path("/var/lib/lsm/journal/signer.jsonl")).unwrap();
    assert_eq!(journal.matches("\"event\":\"seed-kept\"").count(), 1, "{journal}");
    let before = stage.listing("/etc /var/lib/lsm /root");
    stage.install(&[]).ok();
    assert_unchanged(&before, &stage.listing("/etc /var/lib/lsm /root"));
}
