//! What is no good bundle, however it came about: each is refused with its fault named, and the last good import stays.

mod scene;

use crate::lab;
use crate::lab::process;
use crate::node;
use crate::node::signer::start_signer;
use crate::node::{make_certificate, versions};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use lsm::signer::macaroon::Permission;
use scene::{
    ABOUT, ACCOUNTS, CERTIFICATE, Entry, MACAROON, MEMBERS, Scene, TOO_LARGE, gzip, hold_told, lsm, set_field,
};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tar::EntryType;

#[test]
fn a_bad_bundle_is_named_and_the_last_good_one_stays() {
    let Some((version, lnd)) = versions("a_bad_bundle_is_named_and_the_last_good_one_stays").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pair = || make_certificate(&["127.0.0.1"], (-1, 30));
    let signer = start_signer(&version, &lnd, &at("one"), &pair());
    let other = start_signer(&version, &lnd, &at("other"), &pair());
    let scene = Scene { folder, signer, other, made: 0.into() };
    fs::create_dir(scene.lnddir()).unwrap();
    what_was_copied_with_care_or_without_is_taken(&scene);
    what_is_no_bundle_at_all(&scene);
    hostile_archives(&scene);
    broken_copies(&scene);
    folders_with_something_wrong(&scene);
    what_bundle_json_says_and_must_not(&scene);
    what_nobody_could_use(&scene);
    what_is_another_signers(&scene);
}

fn what_was_copied_with_care_or_without_is_taken(scene: &Scene) {
    let text = scene.text();
    let raw = STANDARD.decode(text.split_whitespace().collect::<String>()).unwrap();
    let good = [
        scene.signer.bundle.to_str().unwrap().to_owned(),
        scene.file(&text),
        scene.file(text.replace('\n', "\r\n")),
        scene.file(raw),
        text.replace('\n', "\r\n"),
        text.replace('\n', " "),
        text.replace('\n', ""),
        format!("\n  \t{}\n\n", text.replace('\n', "\n    ")),
    ];
    for source in &good {
        scene.import(source, &[]).ok();
    }
    // As it is pasted, where no other user sees it.
    let mut command = Command::new(lab::LSM);
    command.args(["bundle", "import", "--bundle=-", "--lnddir"]).arg(scene.lnddir());
    let mut piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(text.replace('\n', "\r\n ").as_bytes()).unwrap();
    assert!(piped.wait().unwrap().success());
    for name in MEMBERS {
        assert_eq!(fs::read(scene.lnddir().join("signer-credentials").join(name)).unwrap(), scene.good(name), "{name}");
    }
}

fn what_is_no_bundle_at_all(scene: &Scene) {
    let empty = scene.place();
    fs::create_dir(&empty).unwrap();
    let mistyped = scene.signer.bundle.with_file_name("bundel");
    for (what, source, fault) in [
        ("a mistyped path", mistyped.to_str().unwrap().to_owned(), ("E-BUNDLE-020", "no bundle at")),
        ("a mistyped name", "credentials-bundel".to_owned(), ("E-BUNDLE-020", "\"credentials-bundel\"")),
        ("nothing", String::new(), ("E-BUNDLE-020", "no bundle at")),
        ("an empty file", scene.file(""), ("E-BUNDLE-021", "is empty")),
        ("a file of blanks", scene.file(" \r\n \n"), ("E-BUNDLE-021", "is empty")),
        ("an empty folder", empty.to_str().unwrap().to_owned(), ("E-BUNDLE-001", "no accounts.json")),
        ("a device", "/dev/zero".to_owned(), ("E-HOST-006", "/dev/zero")),
        ("a picture", scene.file(b"\x89PNG\r\n\x1a\n"), ("E-BUNDLE-021", "neither gzip nor base64")),
        ("its base64", scene.file(STANDARD.encode(b"\x89PNG\r\n\x1a\n")), ("E-BUNDLE-021", "of no archive")),
        ("a letter", scene.file("Dear operator, here is the bundle"), ("E-BUNDLE-021", "neither gzip nor base64")),
        ("a tar", scene.file(vec![0; 10_240]), ("E-BUNDLE-021", "neither gzip nor base64")),
        ("gzip of no tar", scene.file(gzip(&[b'x'; 2000])), ("E-BUNDLE-010", "damaged")),
        ("an empty tar", scene.archive(&[]), ("E-BUNDLE-001", "no accounts.json")),
    ] {
        scene.is_refused(what, &source, &[], fault);
    }
}

fn hostile_archives(scene: &Scene) {
    use EntryType as T;
    let hostile = "E-BUNDLE-011";
    let renamed = |name: &'static str| scene.archive_with(|entry| entry.name = name);
    let of_kind = |kind| {
        scene.archive_with(|entry| {
            entry.kind = kind;
            entry.content = b"";
        })
    };
    let of_mode = |mode| scene.archive_with(|entry| entry.mode = mode);
    let large = vec![b' '; TOO_LARGE];
    for (what, source, words) in [
        ("a program besides", scene.archive_and(Entry::plain("run.sh", b"#!/bin/sh\n")), "\"run.sh\""),
        ("a seed besides", scene.archive_and(Entry::plain("seed.txt", b"words")), "does not belong"),
        ("a member twice", scene.archive_and(Entry::plain(MACAROON, b"")), "more than once"),
        (
            "a folder besides",
            scene.archive_and(Entry { kind: T::Directory, ..Entry::plain("x/", b"") }),
            "no plain file",
        ),
        ("a way up", renamed("../accounts.json"), "does not belong"),
        ("a way to the root", renamed("/accounts.json"), "does not belong"),
        ("a symbolic link", of_kind(T::Symlink), "no plain file"),
        ("a hard link", of_kind(T::Link), "no plain file"),
        ("a device", of_kind(T::Char), "no plain file"),
        ("a pipe", of_kind(T::Fifo), "no plain file"),
        ("a set-user-ID file", of_mode(0o4755), "set-user-ID"),
        ("a set-group-ID file", of_mode(0o2755), "set-group-ID"),
        ("an oversized member", scene.archive(&[Entry::plain(ACCOUNTS, &large)]), "too large"),
        ("a bomb", scene.file(gzip(&vec![0; 5 * TOO_LARGE])), "more than any bundle"),
    ] {
        scene.is_refused(what, &source, &[], (hostile, words));
    }
}

fn broken_copies(scene: &Scene) {
    let text = scene.text();
    let raw = STANDARD.decode(text.split_whitespace().collect::<String>()).unwrap();
    let mut flipped = raw.clone();
    flipped[raw.len() / 2] ^= 1;
    let (damaged, none) = ("E-BUNDLE-010", "E-BUNDLE-021");
    let half = text.len() / 2 / 77 * 77;
    let lost_line = [&text[..half], &text[half + 77..]].concat();
    for (what, source, code, words) in [
        ("the first half", text[..half].to_owned(), damaged, "cut short"),
        ("the first half, in the middle of a line", text[..half + 7].to_owned(), none, "cut short"),
        ("the first half in a file", scene.file(&text[..half]), damaged, "cut short"),
        ("the second half", text[half..].to_owned(), none, "begins with H4sI"),
        ("without one line", lost_line, damaged, "damaged"),
        ("the first line", text[..76].to_owned(), damaged, "cut short"),
        ("pasted twice", scene.file([raw.as_slice(), &raw].concat()), damaged, "pasted twice"),
        ("something appended", scene.file([raw.as_slice(), b"x"].concat()), damaged, "follows the end"),
        ("another alphabet", scene.file(URL_SAFE.encode(&raw)), none, "neither gzip nor base64"),
        ("in quotes", scene.file(format!("\"{text}\"")), none, "neither gzip nor base64"),
        ("a flipped bit", scene.file(flipped), damaged, "damaged"),
        ("without its end", scene.file(&raw[..raw.len() - 9]), damaged, "cut short"),
    ] {
        scene.is_refused(what, &source, &[], (code, words));
    }
}

fn folders_with_something_wrong(scene: &Scene) {
    let without = |name: &'static str| scene.folder_with(|folder| fs::remove_file(folder.join(name)).unwrap());
    let absent = "E-BUNDLE-001";
    for name in &MEMBERS[..3] {
        scene.is_refused(name, &without(name), &[], (absent, &format!("no {name}")));
    }
    let linked = scene.folder_with(|folder| {
        fs::remove_file(folder.join(CERTIFICATE)).unwrap();
        symlink(scene.signer.bundle.join(CERTIFICATE), folder.join(CERTIFICATE)).unwrap();
    });
    let set_id = scene.folder_with(|folder| {
        fs::set_permissions(folder.join(ACCOUNTS), fs::Permissions::from_mode(0o4755)).unwrap();
    });
    let swapped = scene.folder_with(|folder| {
        fs::rename(folder.join(CERTIFICATE), folder.join("aside")).unwrap();
        fs::rename(folder.join(MACAROON), folder.join(CERTIFICATE)).unwrap();
        fs::rename(folder.join("aside"), folder.join(MACAROON)).unwrap();
    });
    let accounts = String::from_utf8(scene.good(ACCOUNTS)).unwrap();
    let altered = |from: &str, to: &str| scene.folder_with_member(ACCOUNTS, accounts.replacen(from, to, 1));
    let leaked = [scene.certificate((-1, 9)), make_certificate(&["a"], (-1, 9)).key].concat();
    let many = scene.certificate((-1, 9)).repeat(3);
    let hexed = hex::encode(scene.good(MACAROON));
    for (what, source, fault) in [
        ("a linked certificate", linked, ("E-BUNDLE-021", "tls.cert is no plain file")),
        ("a set-user-ID file", set_id, ("E-BUNDLE-021", "accounts.json is set-user-ID")),
        ("certificate and macaroon swapped", swapped, ("E-CERT-001", "no PEM")),
        ("large", scene.folder_with_member(ACCOUNTS, vec![b' '; TOO_LARGE]), ("E-HOST-004", "accounts.json")),
        (
            "half an account list",
            scene.folder_with_member(ACCOUNTS, &accounts[..9000]),
            ("E-ACCT-001", "accounts.json"),
        ),
        ("an account less", altered("m/1017'/1'/6'", "m/1017'/1'/666'"), ("E-ACCT-001", "m/1017'/1'/6' is absent")),
        ("an account twice", altered("m/1017'/1'/7'", "m/1017'/1'/6'"), ("E-ACCT-001", "is there twice")),
        ("a private key", altered("tpub", "tprv"), ("E-ACCT-001", "does not read")),
        ("the certificate's key too", scene.folder_with_member(CERTIFICATE, leaked), ("E-CERT-001", "private key")),
        (
            "certificates one after the other",
            scene.folder_with_member(CERTIFICATE, many),
            ("E-CERT-001", "more certificates"),
        ),
        ("a macaroon in hex", scene.folder_with_member(MACAROON, hexed), ("E-MAC-001", "binary, version 2")),
        ("half a macaroon", scene.folder_with_member(MACAROON, &scene.good(MACAROON)[..90]), ("E-MAC-001", "format")),
        (
            "altered",
            scene.folder_with(|f| fs::write(f.join(CERTIFICATE), scene.certificate((-1, 9))).unwrap()),
            ("E-BUNDLE-003", "tls.cert is not what"),
        ),
    ] {
        scene.is_refused(what, &source, &[], fault);
    }
}

fn what_bundle_json_says_and_must_not(scene: &Scene) {
    let bad = "E-BUNDLE-002";
    let millis = json!(node::signer::BIRTHDAY * 1000);
    for (what, source, fault) in [
        ("a later format", scene.folder_with_field("format", json!(2)), ("E-BUNDLE-004", "format 2")),
        (
            "half of it",
            scene.folder_with(|f| fs::write(f.join(ABOUT), "{\"format\":1").unwrap()),
            (bad, "does not read"),
        ),
        ("a birthday to come", scene.folder_with_field("birthday", millis), (bad, "birthday in the future")),
        (
            "a birthday after all time",
            scene.folder_with_field("birthday", json!(u64::MAX)),
            (bad, "birthday in the future"),
        ),
        ("no look ahead", scene.folder_with_field("recovery_window", json!(0)), (bad, "recovery window of 0")),
        ("one without end", scene.folder_with_field("recovery_window", json!(u32::MAX)), (bad, "recovery window of")),
        ("a path of this machine", scene.folder_with_field("rpchost", json!(["unix:///run/x"])), (bad, "unix socket")),
        ("no address", scene.folder_with_field("rpchost", json!(["signer"])), ("E-SIGNER-001", "signer")),
        ("no network", scene.folder_with_field("network", json!("tesnet")), (bad, "tesnet")),
        ("mainnet", scene.folder_with_field("network", json!("mainnet")), ("E-BUNDLE-005", "coin type 1")),
        ("another test network", scene.folder_with_field("network", json!("signet")), ("E-WATCH-026", "for regtest")),
        (
            "another's key",
            scene.folder_with_field("identity_pubkey", json!(scene.other.bundle().identity_pubkey())),
            ("E-BUNDLE-003", "node's key"),
        ),
    ] {
        scene.is_refused(what, &source, &[], fault);
    }
    let good = scene.signer.bundle.to_str().unwrap();
    for network in ["mainnet", "signet"] {
        scene.is_refused(network, good, &["--network", network], ("E-BUNDLE-005", &format!("not for {network}")));
    }
    let scripts = scene.folder_with(|folder| fs::remove_file(folder.join(ABOUT)).unwrap());
    scene.is_refused("no network said", &scripts, &[], ("E-BUNDLE-005", "--network"));
    scene.is_refused("mainnet said", &scripts, &["--network=mainnet"], ("E-BUNDLE-005", "coin type 1"));
}

fn what_nobody_could_use(scene: &Scene) {
    let narrow = scene.baked(&scene.least()[..2], 21);
    let script_role = ["SignOutputRaw", "ComputeInputScript", "MuSig2Sign"];
    let script_role = script_role.map(|call| Permission::uri(&format!("/signrpc.Signer/{call}")));
    let late = scene.folder_with_member(CERTIFICATE, scene.certificate((-9, -1)));
    for (what, source, fault) in [
        ("an expired certificate", late.clone(), ("E-BUNDLE-006", "expired on")),
        (
            "one for later",
            scene.folder_with_member(CERTIFICATE, scene.certificate((2, 9))),
            ("E-BUNDLE-006", "not valid before"),
        ),
        (
            "an expired macaroon",
            scene.folder_with_member(MACAROON, scene.expired_macaroon()),
            ("E-BUNDLE-006", "macaroon expired"),
        ),
        ("a call less", scene.folder_with_member(MACAROON, narrow), ("E-BUNDLE-007", "lacks /")),
        (
            "the scripts' signer-only role",
            scene.folder_with_member(MACAROON, scene.baked(&script_role, 22)),
            ("E-BUNDLE-007", "SignPsbt"),
        ),
    ] {
        scene.is_refused(what, &source, &[], fault);
    }
    // To look at, it is good enough.
    let mut show = Command::new(lab::LSM);
    show.args(["bundle", "show", "--bundle", &late]);
    process::run(show).ok();
}

fn what_is_another_signers(scene: &Scene) {
    let of_other = |name: &str| fs::read(scene.other.bundle.join(name)).unwrap();
    let mine = scene.signer.bundle().identity_pubkey().to_owned();
    let whole = scene.other.bundle.to_str().unwrap().to_owned();
    scene.is_refused("another signer's bundle", &whole, &[], ("E-WATCH-020", &mine));
    let accounts = scene.folder_with(|folder| fs::write(folder.join(ACCOUNTS), of_other(ACCOUNTS)).unwrap());
    scene.is_refused("its accounts", &accounts, &[], ("E-BUNDLE-003", "accounts.json is not what"));
    let rehashed = scene.folder_with_member(ACCOUNTS, of_other(ACCOUNTS));
    scene.is_refused("its accounts, hashed anew", &rehashed, &[], ("E-BUNDLE-003", "node's key"));
    set_field(Path::new(&rehashed), "identity_pubkey", json!(scene.other.bundle().identity_pubkey()));
    scene.is_refused("its accounts and key", &rehashed, &[], ("E-WATCH-020", &mine));

    // What the bundle itself does not tell, the signer does.
    let fresh = scene.place();
    hold_told("its accounts", &lsm(&["watch-only", "init"], &rehashed, &fresh, &[]), "E-PROOF-001", "another signer");
    assert!(!fresh.exists());
    let macaroon = scene.folder_with_member(MACAROON, of_other(MACAROON));
    scene.is_refused_by_the_signer("its macaroon", &macaroon, ("E-SIGNER-013", "refuses the macaroon"));
    let certificate = scene.folder_with_member(CERTIFICATE, of_other(CERTIFICATE));
    scene.is_refused_by_the_signer("its certificate", &certificate, ("E-SIGNER-006", "certificate"));
    let revoked = scene.folder_with_member(MACAROON, scene.baked(&scene.least(), 23));
    assert!(scene.signer.owner().delete_root_key(23).unwrap());
    scene.is_refused_by_the_signer("a macaroon of another root key", &revoked, ("E-SIGNER-013", "revoked"));
    let elsewhere = scene.folder_with_field("rpchost", json!([format!("127.0.0.1:{}", node::free_port())]));
    scene.is_refused_by_the_signer("a signer that is not there", &elsewhere, ("E-SIGNER-002", "127.0.0.1"));
}
