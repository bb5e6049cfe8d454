//! Signatures: files that are none, and those that were made by the wrong key, at the wrong time or in the wrong form.

use super::scene::{FINE, Row, Scene, change, link_away, put, put_folder, put_pipe, remove, row, signature_of};
use crate::forge::{self, Why};
use crate::witnesses::signers::{BORN, SIGNED, VERSION};
use std::os::unix::ffi::OsStrExt;

/// Before and after the day on which the signers signed.
const BEFORE: &str = "20250601T000000";
const AFTER: &str = "20260301T000000";
const BAD: (i32, &str, &str) = (4, "E-QUORUM-001", "BAD signature of lab1");
const NO_SIGNATURE: (i32, &str, &str) = (4, "E-QUORUM-002", "manifest-lab1-");
const NOT_PLAIN: (i32, &str, &str) = (2, "E-HOST-006", "manifest-lab1-");

/// Four signatures are good; this is why the first does not count.
const fn void(says: &'static str) -> (i32, &'static str, &'static str) {
    (4, "E-QUORUM-003", says)
}

/// The first signer's file with these bytes.
fn file(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    bytes: impl Fn(&Scene<'_>) -> Vec<u8> + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| put(&scene.signature(0), &bytes(scene)))
}

/// The first signer's, made at this time and with these options of gpg.
fn made(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    at: &'static str,
    options: &'static [&'static str],
) -> Row {
    file(name, end, move |scene| {
        let lab = &scene.stock.lab;
        lab.forge.sign(at, &lab.signers[0].1, scene.message(), options)
    })
}

/// A new key as the first signer's: made by `key` of its fingerprint, signed with at `SIGNED`, then changed by `then`.
fn by(
    name: &'static str,
    end: (i32, &'static str, &'static str),
    (algorithm, options): (&'static str, &'static [&'static str]),
    then: impl Fn(&forge::Forge, &str) + Send + Sync + 'static,
) -> Row {
    row(name, end, move |scene| {
        let forge = &scene.stock.lab.forge;
        let key = forge.key(BORN, algorithm, "sign", "never", &[]);
        let signature = forge.sign(SIGNED, &key, scene.message(), options);
        then(forge, &key);
        scene.sign_with(&key, &forge.export(&key), &signature);
    })
}

pub fn rows() -> Vec<Row> {
    let mut rows = files();
    rows.extend(whose());
    rows.extend(when());
    rows.extend(how());
    rows
}

fn files() -> Vec<Row> {
    vec![
        row("missing", void("4 of 5"), |scene| remove(&scene.signature(0))),
        file("empty", NO_SIGNATURE, |_| Vec::new()),
        file("random bytes", NO_SIGNATURE, |_| vec![0xa7; 300]),
        file("a web page", NO_SIGNATURE, |_| b"<html>Not Found</html>\n".to_vec()),
        file("a key", NO_SIGNATURE, |scene| std::fs::read(scene.key(0)).unwrap()),
        row("cut", NO_SIGNATURE, |scene| change(&scene.signature(0), |bytes| bytes.truncate(bytes.len() - 1))),
        row("a byte more", NO_SIGNATURE, |scene| change(&scene.signature(0), |bytes| bytes.push(0))),
        row("nine in a file", NO_SIGNATURE, |scene| {
            change(&scene.signature(0), |bytes| *bytes = bytes.repeat(9));
        }),
        row("armored", FINE, |scene| {
            change(&scene.signature(0), |bytes| *bytes = forge::armor_signature(bytes));
        }),
        row("armored and cut", NO_SIGNATURE, |scene| {
            change(&scene.signature(0), |bytes| {
                *bytes = forge::armor_signature(bytes);
                bytes.truncate(bytes.len() - 20);
            });
        }),
        file("1 MiB", (2, "E-HOST-004", "larger than"), |_| vec![0xc2; 1 << 20]),
        row("a link", NOT_PLAIN, |scene| link_away(&scene.signature(0), &scene.home.path().join("signature"))),
        row("a folder", NOT_PLAIN, |scene| put_folder(&scene.signature(0))),
        row("a pipe", NOT_PLAIN, |scene| put_pipe(&scene.signature(0))),
        row("101 files", (2, "E-PAPERS-004", "signatures"), |scene| {
            (5..101).for_each(|n| scene.put(&signature_of(&format!("x{n}")), b"x"));
        }),
        row("a stranger's file that is none", FINE, |scene| scene.put(&signature_of("nobody"), b"<html>")),
        row("a name that is not text", FINE, |scene| {
            let name = std::ffi::OsStr::from_bytes(b"manifest-\xff-v0.20.0-beta.sig");
            std::fs::rename(scene.signature(0), scene.home.path().join("from").join(name)).unwrap();
        }),
    ]
}

fn whose() -> Vec<Row> {
    vec![
        row("two in each other's file", FINE, |scene| {
            let [one, other] = [0, 1].map(|n| std::fs::read(scene.signature(n)).unwrap());
            put(&scene.signature(0), &other);
            put(&scene.signature(1), &one);
        }),
        row("two in one file", FINE, |scene| {
            let [one, other] = [0, 1].map(|n| std::fs::read(scene.signature(n)).unwrap());
            put(&scene.signature(0), &[one, other].concat());
            remove(&scene.signature(1));
        }),
        row("one signer's under all names", void("lab1 counts once"), |scene| {
            let one = std::fs::read(scene.signature(0)).unwrap();
            (1..5).for_each(|n| put(&scene.signature(n), &one));
        }),
        file("by a stranger", void("by nobody who signs"), |scene| {
            let forge = &scene.stock.lab.forge;
            forge.sign(SIGNED, &forge.key(BORN, "ed25519", "sign", "never", &[]), scene.message(), &[])
        }),
        file("by a stranger who names a signer", BAD, |scene| {
            let lab = &scene.stock.lab;
            let stranger = lab.forge.secret(&lab.forge.key(BORN, "ed25519", "sign", "never", &[]));
            let named = lab.forge.secret(&lab.signers[0].1);
            forge::sign_as(&stranger.primary_key, Some(&named.primary_key), SIGNED, scene.message())
        }),
        file("over another manifest", BAD, |scene| scene.stock.lab.sign(0, b"another manifest")),
        row("a bit changed", BAD, |scene| change(&scene.signature(0), |bytes| *bytes.last_mut().unwrap() ^= 1)),
        row("over another manifest, under a stranger's name", BAD, |scene| {
            scene.put(&signature_of("nobody"), &scene.stock.lab.sign(0, b"another manifest"));
        }),
        row("by a subkey", FINE, |scene| by_subkey(scene, |forge, owner| forge.export(owner))),
        row("by somebody else's subkey", void("no valid self-signature"), |scene| {
            let forge = &scene.stock.lab.forge;
            let (owner, thief) = with_subkey(scene);
            let stolen = forge::steal(&forge.secret(&thief), &forge.secret(&owner.0));
            scene.sign_with(&thief, &stolen, &forge.sign(SIGNED, &owner.1, scene.message(), &[]));
        }),
        row("by a subkey that never signed back", void("has not signed the binding"), |scene| {
            by_subkey(scene, |forge, owner| {
                let secret = forge.secret(owner);
                forge::bind(&secret, &secret, BORN, false)
            });
        }),
        row("by an encryption key", void("not for signing"), |scene| {
            let forge = &scene.stock.lab.forge;
            let key = forge.key(BORN, "ed25519", "sign", "never", &[]);
            forge.subkey(BORN, &key, "rsa2048", "encrypt", "never");
            let sub = &forge.secret(&key).secret_subkeys[0].key;
            let signature = forge::sign_anyway(sub, SIGNED, scene.message(), Vec::new());
            scene.sign_with(&key, &forge.export(&key), &signature);
        }),
    ]
}

/// A key with its signing subkey, and a key without.
fn with_subkey(scene: &Scene<'_>) -> ((String, String), String) {
    let forge = &scene.stock.lab.forge;
    let [owner, other] = std::array::from_fn(|_| forge.key(BORN, "ed25519", "sign", "never", &[]));
    let sub = forge.subkey(BORN, &owner, "ed25519", "sign", "never");
    ((owner, sub), other)
}

fn by_subkey(scene: &Scene<'_>, export: impl FnOnce(&forge::Forge, &str) -> Vec<u8>) {
    let forge = &scene.stock.lab.forge;
    let ((owner, sub), _) = with_subkey(scene);
    let signature = forge.sign(SIGNED, &sub, scene.message(), &[]);
    scene.sign_with(&owner, &export(forge, &owner), &signature);
}

fn when() -> Vec<Row> {
    const PLAIN: (&str, &[&str]) = ("ed25519", &[]);
    vec![
        // In 2026 that is the future too, which is told first.
        made("after the pin's day", void("of lab1, but it was made "), "20261123T000000", &[]),
        made("on the pin's day", FINE, "20261122T000000", &[]),
        made("in the future", void("in the future"), "20990101T000000", &[]),
        made("before its key", void("before its key"), "20240101T000000", &[]),
        made("expired itself", void("it has expired"), SIGNED, &["--default-sig-expire", "10d"]),
        by("by a key that had expired", void("after its key had expired"), PLAIN, |forge, key| {
            forge.expire(BEFORE, key, "2025-09-01", &[]);
        }),
        by("by a key that has expired since", FINE, PLAIN, |forge, key| {
            forge.expire(BEFORE, key, "2026-02-01", &[]);
        }),
        by("by a compromised key", void("was revoked"), PLAIN, |forge, key| {
            forge.revoke(AFTER, key, Why::Compromised);
        }),
        by("by a key revoked for no reason", void("was revoked"), PLAIN, |forge, key| {
            forge.revoke(AFTER, key, Why::None);
        }),
        by("by a key that was retired before", void("had been given up"), PLAIN, |forge, key| {
            forge.revoke(BEFORE, key, Why::Retired);
        }),
        by("by a key that was superseded since", FINE, PLAIN, |forge, key| {
            forge.revoke(AFTER, key, Why::Superseded);
        }),
    ]
}

fn how() -> Vec<Row> {
    vec![
        made("over a text", void("over a file's bytes"), SIGNED, &["--textmode"]),
        made("with a critical notation", void("critical part"), SIGNED, &["--sig-notation", "!a@example.org=1"]),
        by("by SHA-1", void("its hash is weak"), ("rsa2048", &["--digest-algo", "SHA1"]), |_, _| ()),
        by("by MD5", void("its hash is weak"), ("rsa2048", &["--digest-algo", "MD5"]), |_, _| ()),
        by("by RSA with 1024 bits", void("its key is weak"), ("rsa1024", &[]), |_, _| ()),
        by("by RSA with 2048 bits", FINE, ("rsa2048", &[]), |_, _| ()),
        file("of version 3", void("not of version 4"), |scene| {
            let lab = &scene.stock.lab;
            let key = lab.forge.secret(&lab.signers[0].1);
            forge::sign_v3(&key.primary_key, SIGNED, scene.message())
        }),
        file("over a key", void("over a file's bytes"), |scene| {
            let lab = &scene.stock.lab;
            forge::sign_key(&lab.forge.secret(&lab.signers[0].1), SIGNED)
        }),
        row("for another release", (3, "E-RELEASE-037", "no signed manifest"), |scene| {
            for name in scene.stock.papers.keys() {
                let other = name.replace(VERSION, "v0.21.3-beta");
                std::fs::rename(scene.file(name), scene.file(&other)).unwrap();
            }
        }),
    ]
}
