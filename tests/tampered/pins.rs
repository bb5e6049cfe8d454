//! Pins: versions that are not pinned, and accepted updates that were changed where they are kept.

use super::scene::{FINE, Row, Scene, change, link_away, put, remove, row, set_mode};
use crate::update::desk::{self, Key, day, head};
use std::path::PathBuf;

const BROKEN: &str = "E-UPDATE-020";
const NOT_OURS: (i32, &str, &str) = (1, "E-TRUST-002", "somebody else");

/// The kept update with this counter.
fn kept(scene: &Scene<'_>, counter: u64) -> PathBuf {
    scene.policy().join(format!("updates/{counter:08}.toml"))
}

fn signature(scene: &Scene<'_>, counter: u64) -> PathBuf {
    kept(scene, counter).with_extension("toml.minisig")
}

/// Keeps an update of these words as if it had been accepted; gives its key, which the operator trusts.
fn keep(scene: &Scene<'_>, words: &str) -> Key {
    let key = Key::new();
    scene.trust(|text| desk::update_keys(&[&key]) + &text);
    let text = format!("{}{words}", head(2, &key));
    lay(scene, 2, &text, &key);
    key
}

fn lay(scene: &Scene<'_>, counter: u64, text: &str, key: &Key) {
    std::fs::create_dir_all(scene.policy().join("updates")).unwrap();
    put(&kept(scene, counter), text.as_bytes());
    put(&signature(scene, counter), &key.sign(text.as_bytes()));
}

/// With a kept update, to which something is done.
fn chain(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    tamper: impl Fn(&Scene<'_>, &Key) + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| {
        let key = keep(scene, &desk::release("v0.22.0-beta", "current", 0x40));
        tamper(scene, &key);
    })
}

/// With a kept update of these words.
fn says(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    words: impl Fn() -> String + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| {
        keep(scene, &words());
    })
}

/// A question for another release, or with another quorum.
fn fetch(name: &'static str, end: (i32, &'static str, &'static str), version: &'static str) -> Row {
    row(name, end, move |scene| scene.fetch(version, &[]))
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        fetch("a version that nobody knows", (2, "E-RELEASE-001", "v9.9.9"), "v9.9.9-beta"),
        fetch("a version without its v", (2, "E-RELEASE-001", ""), "0.20.0-beta"),
        fetch("a version that is a path", (2, "E-RELEASE-001", ""), "../v0.20.0-beta"),
        fetch("a version that steers the terminal", (2, "E-RELEASE-001", ""), "v0.20.0-beta\u{1b}[2J"),
        fetch("a version refused for its age", (1, "E-RELEASE-004", "v0.18.5-beta"), "v0.18.5-beta"),
        fetch("a version that is judged and not pinned", (2, "E-RELEASE-003", "no pinned hash"), "v0.21.1-beta"),
        row("a quorum of 0 for once", (2, "E-QUORUM-005", "0"), |scene| scene.verify("from", &["--quorum", "0"])),
        row("a quorum of 6", (4, "E-QUORUM-003", "5 of 6"), |scene| scene.verify("from", &["--quorum", "6"])),
        row("a quorum of an archive alone", (3, "E-RELEASE-037", ""), |scene| {
            scene.verify(&format!("from/{}", crate::witnesses::signers::ARCHIVE), &["--quorum", "5"]);
        }),
    ];
    rows.extend(kept_updates());
    rows.extend(words());
    rows
}

fn kept_updates() -> Vec<Row> {
    vec![
        chain("a kept update as it was accepted", FINE, |_, _| ()),
        chain("a kept update with a bit changed", (4, BROKEN, "not what was signed"), |scene, _| {
            change(&kept(scene, 2), |text| *text.last_mut().unwrap() ^= 1);
        }),
        chain("a kept update cut", (4, BROKEN, "not what was signed"), |scene, _| {
            change(&kept(scene, 2), |text| text.truncate(40));
        }),
        chain("a kept update emptied", (4, BROKEN, "not what was signed"), |scene, _| put(&kept(scene, 2), b"")),
        chain("a kept update without its signature", (4, BROKEN, "missing"), |scene, _| remove(&signature(scene, 2))),
        chain("a kept update with a broken signature", (4, BROKEN, "not one of minisign"), |scene, _| {
            put(&signature(scene, 2), b"trust me\n");
        }),
        chain("a kept update by another key", (4, BROKEN, "does not know"), |scene, _| {
            let other = Key::new();
            lay(scene, 2, &head(2, &other), &other);
        }),
        chain("a kept update under another number", (4, BROKEN, "another counter"), |scene, _| {
            std::fs::rename(kept(scene, 2), kept(scene, 3)).unwrap();
            std::fs::rename(signature(scene, 2), signature(scene, 3)).unwrap();
        }),
        chain("a kept update twice", (4, BROKEN, ""), |scene, _| {
            std::fs::copy(kept(scene, 2), kept(scene, 3)).unwrap();
            std::fs::copy(signature(scene, 2), signature(scene, 3)).unwrap();
        }),
        chain("a kept update with a name of its own", (4, BROKEN, "eight digits"), |scene, _| {
            std::fs::copy(kept(scene, 2), scene.policy().join("updates/mine.toml")).unwrap();
        }),
        chain("a kept update whose key was revoked", (4, BROKEN, "revoked"), |scene, key| {
            scene.trust(|text| format!("revoked = [{:?}]\n{text}", key.id()));
        }),
        chain("a kept update whose key is trusted no more", (4, BROKEN, "does not know"), |scene, key| {
            scene.trust(|text| text.replace(&key.public(), &Key::new().public()));
        }),
        chain("a kept update that others may write", NOT_OURS, |scene, _| set_mode(&kept(scene, 2), 0o666)),
        chain("a kept update as a link", NOT_OURS, |scene, _| link_away(&kept(scene, 2), &scene.home.path().join("x"))),
        chain("kept updates that others may write", NOT_OURS, |scene, _| {
            set_mode(&scene.policy().join("updates"), 0o777);
        }),
        chain("kept updates as a link to nothing", NOT_OURS, |scene, _| {
            std::fs::remove_dir_all(scene.policy().join("updates")).unwrap();
            std::os::unix::fs::symlink("nowhere", scene.policy().join("updates")).unwrap();
        }),
    ]
}

fn words() -> Vec<Row> {
    const PINNED: &str = "88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557";
    // v0.20.0-beta as it is shipped, up to its archives.
    let shipped = || {
        let policy = include_str!("../../policies/releases.toml");
        policy[policy.find("[[release]]\nversion = \"v0.20.0-beta\"").unwrap()..].to_owned()
    };
    vec![
        says("a foreign pin of a shipped release", (4, BROKEN, ""), move || {
            shipped().replace(PINNED, &"99".repeat(32))
        }),
        says("the shipped pin for another release", (4, BROKEN, ""), || {
            desk::release("v0.22.0-beta", "current", 0x40).replace(&"50".repeat(32), PINNED)
        }),
        says("a milder judgement", (4, BROKEN, ""), || desk::judgement("v0.20.0-beta", "current")),
        says("a stricter judgement", FINE, || desk::judgement("v0.20.0-beta", "refused")),
        row("a pin of an update, alone", (4, "E-RELEASE-038", "came by update 2"), |scene| {
            let name = other_archive(scene);
            keep(scene, &pin_of(scene, &name));
            scene.verify("from", &[]);
        }),
        row("a pin of an update that has expired", (1, "E-RELEASE-006", "expired"), |scene| {
            let name = other_archive(scene);
            let key = keep(scene, "");
            let text = head(2, &key).replace(&day(30), &day(-1)) + &pin_of(scene, &name);
            lay(scene, 2, &text, &key);
        }),
    ]
}

/// Another archive in place of the real one, as of a new release.
fn other_archive(scene: &Scene<'_>) -> String {
    let name = "lnd-linux-amd64-v0.22.0-beta.tar.gz";
    remove(&scene.file(crate::witnesses::signers::ARCHIVE));
    scene.put(name, b"what update 2 pins");
    name.to_owned()
}

/// A release whose pin is that of this file.
fn pin_of(scene: &Scene<'_>, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(std::fs::read(scene.file(name)).unwrap()));
    desk::release("v0.22.0-beta", "current", 0x40).replace(&"50".repeat(32), &hash).replace("2026-11-23", "2026-11-22")
}
