//! Archives: cut, changed, packed anew, under another name, or no archive at all.

use super::scene::{FINE, Row, Scene, change, link_away, put_folder, put_pipe, remove, row};
use crate::witnesses::signers::{ARCHIVE, VERSION};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tar::{EntryType, Header};

const CUT: (i32, &str, &str) = (4, "E-RELEASE-031", "cut short");
const CHANGED: (i32, &str, &str) = (4, "E-RELEASE-032", "was changed or is no lnd archive");
const FORBIDDEN: (i32, &str, &str) = (4, "E-RELEASE-032", "something that it must not");
const NOT_PLAIN: (i32, &str, &str) = (2, "E-HOST-006", "no plain file");
const TOP: &str = "lnd-linux-amd64-v0.20.0-beta";
const BLOCK: usize = 512;

fn changed(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    tamper: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| change(&scene.file(ARCHIVE), &tamper))
}

/// Packed anew, with something forbidden at its start.
fn packed(name: &'static str, path: &'static str, kind: EntryType, link: &'static str) -> Row {
    row(name, FORBIDDEN, move |scene| {
        // What is no file stands in the place of lnd.
        let rest = if kind == EntryType::Regular || kind == EntryType::Directory { whole() } else { program("lncli") };
        scene.put(ARCHIVE, &gz(&[entry(path, kind, link, b""), rest, vec![0; 2 * BLOCK]].concat()));
    })
}

/// One entry as it stands in a tar.
fn entry(path: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..path.len()].copy_from_slice(path.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    let mut all = [header.as_bytes(), bytes].concat();
    all.resize(all.len().next_multiple_of(BLOCK), 0);
    all
}

fn program(name: &str) -> Vec<u8> {
    entry(&format!("{TOP}/{name}"), EntryType::Regular, "", b"#!/bin/true\n")
}

/// A tar as it should be, of two small programs.
fn whole() -> Vec<u8> {
    [entry(&format!("{TOP}/"), EntryType::Directory, "", b""), program("lnd"), program("lncli"), vec![0; 2 * BLOCK]]
        .concat()
}

fn gz(tar: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(tar).unwrap();
    gz.finish().unwrap()
}

/// A link in place of the archive.
fn link(scene: &Scene<'_>, to: &str) {
    remove(&scene.file(ARCHIVE));
    std::os::unix::fs::symlink(to, scene.file(ARCHIVE)).unwrap();
}

pub fn rows() -> Vec<Row> {
    let mut rows = bytes();
    rows.extend(entries());
    rows.extend(places());
    rows
}

fn bytes() -> Vec<Row> {
    vec![
        row("none of it tampered with", FINE, |_| ()),
        row("none of it tampered with, named itself", FINE, |scene| scene.verify(&format!("from/{ARCHIVE}"), &[])),
        changed("cut in the middle", CUT, |bytes| bytes.truncate(bytes.len() / 2)),
        changed("a byte less", CUT, |bytes| bytes.truncate(bytes.len() - 1)),
        changed("empty", CUT, Vec::clear),
        changed("a bit at its start", CHANGED, |bytes| bytes[0] ^= 1),
        changed("a bit in its head", CHANGED, |bytes| bytes[3] ^= 0x80),
        changed("a bit in the middle", (4, "E-RELEASE-032", "sha256"), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        changed("a bit at its end", CHANGED, |bytes| *bytes.last_mut().unwrap() ^= 1),
        changed("a time in its head", (4, "E-RELEASE-032", "no archive that lsm has a pin for"), |bytes| bytes[4] ^= 1),
        changed("a byte more", (4, "E-RELEASE-032", "more after the end"), |bytes| bytes.push(0)),
        changed("a second gzip member", (4, "E-RELEASE-032", "more after the end"), |bytes| {
            bytes.extend(gz(b"more"));
        }),
        changed("no gzip", CHANGED, |bytes| *bytes = vec![b'x'; 4096]),
        changed("a web page", CHANGED, |bytes| *bytes = b"<html>Not Found</html>\n".to_vec()),
        changed("no tar", CHANGED, |bytes| *bytes = gz(&[b'x'; 4096])),
        row("larger than any", (4, "E-RELEASE-072", "no more than"), |scene| {
            remove(&scene.file(ARCHIVE));
            std::fs::File::create(scene.file(ARCHIVE)).unwrap().set_len((128 << 20) + 1).unwrap();
        }),
    ]
}

fn entries() -> Vec<Row> {
    use EntryType as T;
    vec![
        row("packed anew", (4, "E-RELEASE-032", "no archive that lsm has a pin for"), |scene| {
            scene.put(ARCHIVE, &gz(&whole()));
        }),
        packed("a way up", "../lnd", T::Regular, ""),
        packed("a way up inside", "lnd-linux-amd64-v0.20.0-beta/../../lnd", T::Regular, ""),
        packed("an absolute path", "/usr/local/bin/lnd", T::Regular, ""),
        packed("a link", "lnd-linux-amd64-v0.20.0-beta/lnd", T::Symlink, "/etc/passwd"),
        packed("a hard link", "lnd-linux-amd64-v0.20.0-beta/lnd", T::Link, "/etc/passwd"),
        packed("a device", "lnd-linux-amd64-v0.20.0-beta/lnd", T::Char, ""),
        packed("a pipe inside", "lnd-linux-amd64-v0.20.0-beta/lnd", T::Fifo, ""),
        packed("a pax header", "lnd-linux-amd64-v0.20.0-beta/lnd", T::XHeader, ""),
        packed("a long name", "lnd-linux-amd64-v0.20.0-beta/lnd", T::GNULongName, ""),
        packed("a third file", "lnd-linux-amd64-v0.20.0-beta/lnd.conf", T::Regular, ""),
        packed("a second folder", "other/", T::Directory, ""),
        packed("a program twice", "lnd-linux-amd64-v0.20.0-beta/lnd", T::Regular, ""),
        packed("a name that steers the terminal", "\u{1b}[2J", T::Regular, ""),
        row("a program missing", (4, "E-RELEASE-032", "lacks lncli"), |scene| {
            scene.put(ARCHIVE, &gz(&[program("lnd"), vec![0; 2 * BLOCK]].concat()));
        }),
        row("a file after the end", CHANGED, |scene| scene.put(ARCHIVE, &gz(&[whole(), program("lnd")].concat()))),
        row("a bomb", (4, "E-RELEASE-032", "unpacks to more"), |scene| {
            let mut header = Header::from_byte_slice(&program("lnd")[..BLOCK]).clone();
            header.set_size(1 << 40);
            header.set_cksum();
            scene.put(ARCHIVE, &gz(&[header.as_bytes(), &vec![0; 1 << 20][..]].concat()));
        }),
    ]
}

fn places() -> Vec<Row> {
    let other = || ARCHIVE.replace(VERSION, "v0.21.3-beta");
    vec![
        row("none there", (2, "E-RELEASE-033", "holds no"), |scene| remove(&scene.file(ARCHIVE))),
        row("two there", (2, "E-RELEASE-033", "holds 2"), |scene| {
            std::fs::hard_link(scene.file(ARCHIVE), scene.file(&ARCHIVE.replace("amd64", "arm64"))).unwrap();
        }),
        row("no folder there", (3, "E-HOST-001", "cannot read"), |scene| scene.verify("nowhere", &[])),
        row("an old one under a new name", (4, "E-RELEASE-030", "v0.21.3-beta"), move |scene| {
            std::fs::rename(scene.file(ARCHIVE), scene.file(&other())).unwrap();
        }),
        row("under another processor's name", (4, "E-RELEASE-030", "arm64"), |scene| {
            std::fs::rename(scene.file(ARCHIVE), scene.file(&ARCHIVE.replace("amd64", "arm64"))).unwrap();
        }),
        // A link leads wherever it likes: what is behind it has to have the pinned hash.
        row("a link to it", FINE, |scene| link_away(&scene.file(ARCHIVE), &scene.home.path().join("lnd.tar.gz"))),
        row("a link to another file", (4, "E-RELEASE-032", ""), |scene| link(scene, "/etc/passwd")),
        row("a link to nothing", (3, "E-HOST-001", "cannot read"), |scene| link(scene, "nowhere")),
        row("a link to a device", NOT_PLAIN, |scene| link(scene, "/dev/zero")),
        row("a folder", NOT_PLAIN, |scene| put_folder(&scene.file(ARCHIVE))),
        row("a pipe", NOT_PLAIN, |scene| put_pipe(&scene.file(ARCHIVE))),
    ]
}
