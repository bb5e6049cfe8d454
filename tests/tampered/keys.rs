//! Keys: the operator's trust.toml and the key files that it names.

use super::scene::{FINE, Row, change, link_away, put, put_folder, put_pipe, remove, row, set_mode};
use crate::forge;
use std::path::PathBuf;

const NO_KEY: (i32, &str, &str) = (2, "E-PGP-001", "lab1");
const NOT_OURS: (i32, &str, &str) = (1, "E-TRUST-002", "somebody else");

/// The first signer's key file with these bytes.
fn key(name: &'static str, end: (i32, &'static str, &'static str), bytes: &'static [u8]) -> Row {
    row(name, end, move |scene| put(&scene.key(0), bytes))
}

/// What trust.toml says, changed.
fn trust(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    change: impl Fn(String) -> String + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| scene.trust(&change))
}

/// Something done to a file of the operator's folder, and another place to move it to.
fn place(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    path: &'static str,
    tamper: impl Fn(PathBuf, PathBuf) + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| tamper(scene.policy().join(path), scene.home.path().join("away")))
}

pub fn rows() -> Vec<Row> {
    let mut rows = key_files();
    rows.extend(trust_files());
    rows.extend(places());
    rows
}

fn key_files() -> Vec<Row> {
    vec![
        row("missing", (2, "E-TRUST-004", "lab1"), |scene| remove(&scene.key(0))),
        key("empty", NO_KEY, b""),
        key("random bytes", NO_KEY, &[0xa7; 300]),
        key("a web page", NO_KEY, b"<html>Not Found</html>\n"),
        row("cut", NO_KEY, |scene| change(&scene.key(0), |bytes| bytes.truncate(bytes.len() / 2))),
        row("a bit of its self-signature changed", (4, "E-QUORUM-003", "no valid self-signature"), |scene| {
            let lab = &scene.stock.lab;
            let mut bytes = lab.forge.export(&lab.signers[0].1);
            *bytes.last_mut().unwrap() ^= 1;
            put(&scene.key(0), &forge::armor(&bytes));
        }),
        row("twice", NO_KEY, |scene| change(&scene.key(0), |bytes| *bytes = bytes.repeat(2))),
        row("binary", NO_KEY, |scene| {
            let lab = &scene.stock.lab;
            put(&scene.key(0), &lab.forge.export(&lab.signers[0].1));
        }),
        row("another signer's", NO_KEY, |scene| put(&scene.key(0), &std::fs::read(scene.key(1)).unwrap())),
        row("another's beside it", FINE, |scene| {
            let lab = &scene.stock.lab;
            let both = [0, 1].map(|n| lab.forge.export(&lab.signers[n].1));
            put(&scene.key(0), &forge::armor(&both.concat()));
        }),
        row("a private key", NO_KEY, |scene| {
            let lab = &scene.stock.lab;
            let secret = lab.forge.secret(&lab.signers[0].1);
            put(&scene.key(0), secret.to_armored_string(Default::default()).unwrap().as_bytes());
        }),
        row("without its user ID", (4, "E-QUORUM-003", "no valid self-signature"), |scene| {
            let lab = &scene.stock.lab;
            let fingerprint = &lab.signers[0].1;
            let bare = forge::bare(&lab.forge.export(fingerprint));
            put(&scene.key(0), &forge::armor(&bare));
        }),
        row("a key too large", (2, "E-HOST-004", "larger than"), |scene| {
            put(&scene.key(0), &vec![b'a'; (256 << 10) + 1]);
        }),
    ]
}

fn trust_files() -> Vec<Row> {
    const BAD: &str = "E-TRUST-001";
    vec![
        trust("no TOML", (2, BAD, "cannot be read"), |_| "trust me\n".into()),
        trust("an unknown field", (2, BAD, "surprise"), |text| format!("surprise = 1\n{text}")),
        trust("an unknown field of a signer", (2, BAD, "weight"), |text| text + "weight = 5\n"),
        trust("a quorum of 1", (1, "E-TRUST-003", "quorum of 1"), |text| format!("quorum = 1\n{text}")),
        trust("a quorum of 0", (1, "E-TRUST-003", "quorum of 0"), |text| format!("quorum = 0\n{text}")),
        trust("a quorum below 0", (2, BAD, "cannot be read"), |text| format!("quorum = -5\n{text}")),
        trust("fingerprints in small letters", (2, BAD, "in capitals"), |text| {
            text.lines().map(|l| if l.starts_with("finger") { l.to_lowercase() } else { l.into() } + "\n").collect()
        }),
        trust("fingerprints cut to key ids", (2, BAD, "40"), |text| {
            text.lines()
                .map(|l| if l.starts_with("finger") { l[..l.len() - 25].to_owned() + "\"" } else { l.into() } + "\n")
                .collect()
        }),
        trust("a signer twice", (2, BAD, "already"), |text| text.clone() + &text),
        trust("a signer under two names", (2, BAD, "already"), |text| {
            let first = text.find("[[signer]]").unwrap();
            let second = first + text[first + 1..].find("[[signer]]").unwrap() + 1;
            text[..second].replace("lab1", "lab2") + &text.replace("\n\n", "\n")
        }),
        trust("one of lnd's own signers", (2, BAD, "roasbeef already"), |text| {
            text.lines()
                .map(|l| {
                    if l.starts_with("finger") {
                        "fingerprint = \"A5B61896952D9FDA83BC054CDC42612E89237182\"\n".into()
                    } else {
                        format!("{l}\n")
                    }
                })
                .collect()
        }),
        trust("a name that leads elsewhere", (2, "E-TRUST-004", ""), |text| text.replace("lab1", "../signers/lab1")),
        trust("a version that is none", (2, BAD, "version"), |text| text + "until = \"soon\"\n"),
        trust("a signer of earlier releases alone", (4, "E-QUORUM-003", "4 of 5"), |text| {
            text + "until = \"v0.19.3-beta\"\n"
        }),
        trust("an update key that is none", (2, "E-UPDATE-010", ""), |text| format!("update-keys = [\"RWx\"]\n{text}")),
        row("not text", (2, BAD, "UTF-8"), |scene| put(&scene.policy().join("trust.toml"), b"# \xff\n")),
        trust("too large", (2, "E-HOST-004", "larger than"), |text| text + &"#".repeat(1 << 20)),
    ]
}

fn places() -> Vec<Row> {
    const TRUST: &str = "trust.toml";
    vec![
        place("trust.toml that others may write", NOT_OURS, TRUST, |path, _| set_mode(&path, 0o666)),
        place("trust.toml that a group may write", NOT_OURS, TRUST, |path, _| set_mode(&path, 0o664)),
        place("trust.toml as a link", NOT_OURS, TRUST, |path, away| link_away(&path, &away)),
        place("trust.toml as a link to nothing", NOT_OURS, TRUST, |path, away| {
            link_away(&path, &away);
            remove(&away);
        }),
        place("trust.toml as a folder", (2, "E-HOST-006", "no plain file"), TRUST, |path, _| put_folder(&path)),
        place("trust.toml as a pipe", (2, "E-HOST-006", "no plain file"), TRUST, |path, _| put_pipe(&path)),
        place("a key that others may write", NOT_OURS, "signers/lab1.asc", |path, _| set_mode(&path, 0o666)),
        place("a key as a link", NOT_OURS, "signers/lab1.asc", |path, away| link_away(&path, &away)),
        place("a key as a folder", (2, "E-HOST-006", "no plain file"), "signers/lab1.asc", |path, _| put_folder(&path)),
        row("a folder that others may write", NOT_OURS, |scene| set_mode(&scene.policy(), 0o777)),
        row("a folder as a link", NOT_OURS, |scene| link_away(&scene.policy(), &scene.home.path().join("away"))),
        row("a folder as a link to nothing", NOT_OURS, |scene| {
            std::fs::remove_dir_all(scene.policy()).unwrap();
            std::os::unix::fs::symlink("nowhere", scene.policy()).unwrap();
        }),
    ]
}
