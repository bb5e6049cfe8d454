//! Manifests: what all five signed and is still wrong, and what was changed after they signed.

use super::scene::{FINE, Row, link_away, put_folder, put_pipe, remove, row};
use crate::witnesses::signers::{ARCHIVE, MANIFEST, VERSION};

const NONE: &str = "E-MANIFEST-001";
const BAD: (i32, &str, &str) = (4, "E-QUORUM-001", "BAD signature of lab1");
const NOT_PLAIN: (i32, &str, &str) = (2, "E-HOST-006", MANIFEST);

/// Signed anew by all five, with a change of its text.
fn signed(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    change: impl Fn(String) -> String + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| {
        scene.manifest(|bytes| change(String::from_utf8(bytes).unwrap()).into_bytes());
    })
}

/// A line more, signed by all five.
fn line(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    listed: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Row {
    signed(name, end, move |text| text + &listed(&"a".repeat(64)))
}

/// The first digit of the hash of the file whose line ends so, changed.
fn other_hash(text: &str, ending: &str) -> String {
    let change = |line: &str| match line.strip_suffix(ending) {
        Some(_) => line.replacen(&line[..1], if line.starts_with('0') { "1" } else { "0" }, 1),
        None => line.to_owned(),
    };
    text.lines().map(|line| change(line) + "\n").collect()
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        signed("empty", (4, NONE, "it is empty"), |_| String::new()),
        signed("a line end alone", (4, NONE, "it is empty"), |_| "\n".into()),
        signed("CRLF", (4, NONE, "line 1"), |text| text.replace('\n', "\r\n")),
        signed("hashes in capitals", (4, NONE, "lower-case"), |text| {
            text.lines().map(|line| format!("{}{}\n", line[..64].to_uppercase(), &line[64..])).collect()
        }),
        signed("a hash too short", (4, NONE, "SHA-256"), |text| text[1..].to_owned()),
        signed("one space", (4, NONE, "two spaces"), |text| text.replace("  ", " ")),
        signed("an empty line", (4, NONE, "line 4"), |text| text + "\n"),
        signed("a name twice", (4, NONE, "twice"), |text| text.clone() + &text),
        signed("archive not listed", (4, "E-PAPERS-002", ARCHIVE), |text| {
            text.lines().filter(|line| !line.ends_with(ARCHIVE)).map(|line| format!("{line}\n")).collect()
        }),
        signed("another hash of the archive", (4, "E-PAPERS-001", ARCHIVE), |text| other_hash(&text, ARCHIVE)),
        signed("another hash of lnd", (4, "E-PAPERS-001", "/lnd"), |text| other_hash(&text, "/lnd")),
        signed("another hash of lncli", (4, "E-PAPERS-001", "/lncli"), |text| other_hash(&text, "/lncli")),
        signed("another version", (4, "E-MANIFEST-002", "another version"), |text| {
            text.replace(VERSION, "v0.19.3-beta")
        }),
        signed("too large", (2, "E-HOST-004", "larger than"), |text| text.repeat(2000)),
        signed("the programs not listed", FINE, |text| text.lines().last().unwrap().to_owned() + "\n"),
        line("a name above", (4, NONE, "outside"), |hash| format!("{hash}  ../lnd\n")),
        line("a name above, inside", (4, NONE, "outside"), |hash| format!("{hash}  vendor/../../lnd\n")),
        line("an absolute name", (4, NONE, "outside"), |hash| format!("{hash}  /usr/bin/lnd\n")),
        line("a control character", (4, NONE, "names a file"), |hash| format!("{hash}  vendor\u{1b}[2J\n")),
        line("a backslash", (4, NONE, "names a file"), |hash| format!("{hash}  vendor\\n.tar.gz\n")),
        line("an archive of another version", (4, "E-MANIFEST-002", "v0.19.3"), |hash| {
            format!("{hash}  lnd-linux-amd64-v0.19.3-beta.tar.gz\n")
        }),
        line("another file", FINE, |hash| format!("{hash}  vendor.tar.gz\n")),
        row("not text", (4, NONE, "not text"), |scene| scene.manifest(|_| b"\xff\xfe\n".to_vec())),
    ];
    rows.extend(unsigned());
    rows
}

/// Changed after all five signed.
fn unsigned() -> Vec<Row> {
    vec![
        row("a byte more", BAD, |scene| scene.manifest_unsigned(|text| [&text, &b"\n"[..]].concat())),
        row("a bit changed", BAD, |scene| {
            scene.manifest_unsigned(|mut text| {
                text[7] ^= 1;
                text
            });
        }),
        row("a line less", BAD, |scene| {
            scene.manifest_unsigned(|text| text[text.iter().position(|b| *b == b'\n').unwrap() + 1..].to_vec());
        }),
        row("emptied", BAD, |scene| scene.manifest_unsigned(|_| Vec::new())),
        row("missing", (3, "E-RELEASE-037", "no signed manifest"), |scene| remove(&scene.file(MANIFEST))),
        row("under the name of another version", (3, "E-RELEASE-037", "no signed manifest"), |scene| {
            std::fs::rename(scene.file(MANIFEST), scene.file("manifest-v0.21.3-beta.txt")).unwrap();
        }),
        row("a link", NOT_PLAIN, |scene| link_away(&scene.file(MANIFEST), &scene.home.path().join("manifest"))),
        row("a link to nothing", NOT_PLAIN, |scene| {
            link_away(&scene.file(MANIFEST), &scene.home.path().join("manifest"));
            remove(&scene.home.path().join("manifest"));
        }),
        row("a folder", NOT_PLAIN, |scene| put_folder(&scene.file(MANIFEST))),
        row("a pipe", NOT_PLAIN, |scene| put_pipe(&scene.file(MANIFEST))),
    ]
}
