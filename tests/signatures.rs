//! Signatures over a manifest: each class held against gpgv's, on a corpus of keys; and the quorum that they make.

use crate::forge;
use crate::forge::corpus::{self, BORN, Case, MADE, PINNED};
use crate::forge::{Forge, armor, gpgv, seconds};
use lsm::error::Exit;
use lsm::host::program::Program;
use lsm::release::pins::{Release, Status};
use lsm::release::quorum;
use lsm::release::quorum::certificate::Certificate;
use lsm::release::quorum::openpgp::{self, Class};
use lsm::release::trust::Trust;
use std::collections::BTreeMap;
use tempfile::TempDir;

const VERSION: &str = "v0.21.3-beta";

/// Says that there is no gpg, where there is none.
fn forge(test: &str) -> Option<Forge> {
    if !forge::is_possible() {
        println!("SKIP {test}: there is no gpg and gpgv");
        return None;
    }
    Some(Forge::new())
}

/// The shipped trust with these signers, each with a name, a fingerprint and a binary key, as an operator adds them.
fn trust(signers: &[(&str, &str, &[u8])]) -> Trust {
    let folder = TempDir::new().unwrap();
    let mut text = String::new();
    std::fs::create_dir(folder.path().join("signers")).unwrap();
    for (name, fingerprint, key) in signers {
        text += &format!("[[signer]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
        std::fs::write(folder.path().join(format!("signers/{name}.asc")), armor(key)).unwrap();
    }
    std::fs::write(folder.path().join("trust.toml"), text).unwrap();
    Program::new("chmod").args(["-R", "go-w"]).arg(folder.path()).run().unwrap();
    Trust::load(folder.path()).unwrap()
}

fn release() -> Release {
    Release {
        version: VERSION.into(),
        judged: Default::default(),
        status: Status::Current,
        pinned: PINNED.into(),
        reason: None,
        source: None,
        archive: BTreeMap::new(),
    }
}

/// The name of our class, and whether it is what gpgv's class says.
fn class(class: Class, gpgv: &str) -> (String, bool) {
    use lsm::release::quorum::reason::Reason::{AfterRevocation, Expired, Revoked};
    match class {
        Class::Good { expired_since: None, .. } => ("good".into(), gpgv == "GOODSIG"),
        Class::Good { expired_since: Some(_), .. } => ("good, expired since".into(), gpgv == "EXPKEYSIG"),
        Class::Bad => ("bad".into(), gpgv == "BADSIG"),
        Class::Unknown => ("unknown".into(), gpgv == "NO_PUBKEY"),
        Class::Void(reason) => {
            let same = gpgv == "ERRSIG"
                || matches!((reason, gpgv), (Revoked | AfterRevocation, "REVKEYSIG"))
                || (reason, gpgv) == (Expired, "EXPSIG");
            (format!("{reason:?}"), same)
        }
    }
}

/// Case, gpgv's classes, ours, and why they differ, where they do.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("RSA 4096", "GOODSIG", "good", ""),
    ("Ed25519", "GOODSIG", "good", ""),
    ("NIST P-256", "GOODSIG", "good", ""),
    ("signing subkey", "GOODSIG", "good", ""),
    ("self-signature by SHA-1", "GOODSIG", "good", ""),
    ("notation", "GOODSIG", "good", ""),
    ("no user ID, but a direct self-signature", "GOODSIG", "good", ""),
    ("key expired since", "EXPKEYSIG", "good, expired since", ""),
    ("subkey expired since", "EXPKEYSIG", "good, expired since", ""),
    ("subkey of a key that expired since", "EXPKEYSIG", "good, expired since", ""),
    ("after the key's expiry", "EXPKEYSIG", "AfterExpiry", "gpgv has one class for before and after"),
    ("after the subkey's expiry", "EXPKEYSIG", "AfterExpiry", "gpgv has one class for before and after"),
    ("expiry extended since", "GOODSIG", "good", ""),
    ("expiry in a direct self-signature", "EXPKEYSIG", "AfterExpiry", "gpgv has one class for before and after"),
    ("revoked: compromised", "REVKEYSIG", "Revoked", ""),
    ("revoked: for no reason", "REVKEYSIG", "Revoked", ""),
    ("revoked: superseded since", "REVKEYSIG", "good", "gpgv takes every revocation for a hard one"),
    ("revoked: retired since", "REVKEYSIG", "good", "gpgv takes every revocation for a hard one"),
    ("superseded before", "REVKEYSIG", "AfterRevocation", ""),
    ("retired before", "REVKEYSIG", "AfterRevocation", ""),
    ("revoked: no reason is there", "REVKEYSIG", "Revoked", ""),
    ("revoked: for an unknown reason", "REVKEYSIG", "Revoked", ""),
    ("retired in the same second", "REVKEYSIG", "AfterRevocation", ""),
    ("the only user ID revoked", "GOODSIG", "NotBound", "gpgv does not mind: here nothing is left that says what the key may do"),
    ("subkey revoked: compromised", "REVKEYSIG", "Revoked", ""),
    ("subkey revoked: for no reason", "REVKEYSIG", "Revoked", ""),
    ("subkey superseded since", "REVKEYSIG", "good", "gpgv takes every revocation for a hard one"),
    ("subkey retired before", "REVKEYSIG", "AfterRevocation", ""),
    ("subkey of a compromised key", "REVKEYSIG", "Revoked", ""),
    ("key with a compromised subkey", "GOODSIG", "good", ""),
    ("two signatures, one by somebody else", "GOODSIG NO_PUBKEY", "good unknown", ""),
    ("two signatures, keys together", "GOODSIG GOODSIG", "good unknown", "a key that lies beside the pinned one is not pinned"),
    ("armored", "GOODSIG", "good", ""),
    ("over a text", "GOODSIG", "NotOfBytes", "such a signature holds for other line endings too, and so for another file"),
    ("over another text", "BADSIG", "bad", ""),
    ("over a key", "ERRSIG", "NotOfBytes", ""),
    ("version 3", "GOODSIG", "OtherForm", "it signs neither its maker nor its hash's name, and gpg has made none for twenty years"),
    ("critical notation", "BADSIG", "NotUnderstood", "nothing was changed: it does not count, but stops nobody else's"),
    ("critical and unknown", "BADSIG", "NotUnderstood", "nothing was changed: it does not count, but stops nobody else's"),
    ("after the pin's day", "GOODSIG", "AfterPin", "gpgv knows of no pin"),
    ("on the pin's day", "GOODSIG", "good", ""),
    ("in the future", "GOODSIG", "Future", "gpgv does not mind"),
    ("before the key", "ERRSIG", "BeforeKey", ""),
    ("before the subkey", "ERRSIG", "BeforeKey", ""),
    ("expired itself", "EXPSIG", "Expired", ""),
    ("expires itself some day", "GOODSIG", "good", ""),
    ("over another manifest", "BADSIG", "bad", ""),
    ("by a stranger", "NO_PUBKEY", "unknown", ""),
    ("by a stranger who names a signer", "BADSIG", "bad", ""),
    ("names nobody", "NO_PUBKEY", "good", "gpgv needs the hint; here every pinned key is tried"),
    ("by a stranger, names nobody", "NO_PUBKEY", "unknown", ""),
    ("its last bit changed", "BADSIG", "bad", ""),
    ("over another manifest, by SHA-1", "BADSIG", "bad", ""),
    ("subkey bound again by rPGP", "GOODSIG", "good", ""),
    ("subkey that never signed back", "ERRSIG", "NotSignedBack", ""),
    ("somebody else's subkey", "ERRSIG", "NotBound", ""),
    ("somebody else's subkey, over another manifest", "ERRSIG", "NotBound", ""),
    ("key that only certifies", "ERRSIG", "NotForSigning", ""),
    ("encryption subkey", "ERRSIG", "NotForSigning", ""),
    ("key without flags", "GOODSIG", "NotForSigning", "gpgv lets a key without flags do all it can"),
    ("self-signature critical and unknown", "ERRSIG", "NotBound", ""),
    ("no self-signature", "ERRSIG", "NotBound", ""),
    ("MD5", "ERRSIG", "WeakHash", ""),
    ("SHA-1", "GOODSIG", "WeakHash", "gpgv minds only MD5"),
    ("RIPEMD-160", "GOODSIG", "WeakHash", "gpgv minds only MD5"),
    ("SHA-224", "GOODSIG", "WeakHash", "gpgv minds only MD5"),
    ("RSA 1024", "GOODSIG", "WeakKey", "gpgv minds no key's length"),
    ("DSA 2048", "GOODSIG", "WeakKey", "a careless signature gives a DSA key away; no signer of lnd has one"),
    ("self-signature by MD5", "ERRSIG", "NotBound", ""),
];

fn judge(case: &Case, message: &[u8]) -> Vec<Class> {
    let trust = trust(&[("x", &case.fingerprint, &case.key)]);
    let signer = trust.signers_of(VERSION).into_iter().find(|s| s.name == "x").unwrap();
    let certificates = [Certificate::parse(signer).unwrap()];
    let (latest, now) = (release().pinned_until().unwrap(), seconds("20261101T000000"));
    let judged = openpgp::judge(&case.signature, message, &certificates, latest, now).unwrap();
    judged.iter().map(|j| j.class).collect()
}

#[test]
fn every_signature_is_of_gpgvs_class_or_the_table_says_why_not() {
    let Some(forge) = forge("every_signature_is_of_gpgvs_class_or_the_table_says_why_not") else { return };
    let (message, folder) = (corpus::message(), TempDir::new().unwrap());
    let cases = corpus::make(&forge);
    let mut wrong = Vec::new();
    for case in &cases {
        let theirs = gpgv(folder.path(), &case.key, &case.signature, &message);
        let ours = judge(case, &message);
        let (names, same): (Vec<_>, Vec<_>) = ours.iter().zip(&theirs).map(|(o, t)| class(*o, t)).unzip();
        let found =
            (case.name, theirs.join(" "), names.join(" "), same.iter().all(|s| *s) && ours.len() == theirs.len());
        let row = TABLE.iter().find(|row| row.0 == case.name);
        if row.is_none_or(|r| (r.1, r.2, r.3.is_empty()) != (&found.1, &found.2, found.3)) {
            wrong.push(found);
        }
    }
    assert_eq!(wrong, [], "case, gpgv's, ours, whether they agree");
    assert_eq!(cases.len(), TABLE.len(), "every row has its case");
}

/// A signer of the quorum's tests: a name, the primary key's fingerprint, the public key.
type Signer = (String, String, Vec<u8>);

fn signers(forge: &Forge, count: usize) -> Vec<Signer> {
    let signer = |n| {
        let fingerprint = forge.key(BORN, "ed25519", "sign", "never", &[]);
        (format!("s{n}"), fingerprint.clone(), forge.export(&fingerprint))
    };
    (0..count).map(signer).collect()
}

fn trust_in(signers: &[Signer]) -> Trust {
    let signers: Vec<_> = signers.iter().map(|(n, f, k)| (n.as_str(), f.as_str(), k.as_slice())).collect();
    trust(&signers)
}

fn manifest(version: &str) -> Vec<u8> {
    format!("{}  lnd-linux-amd64-{version}.tar.gz\n", "a".repeat(64)).into_bytes()
}

/// A signature file under the signer's name.
fn file(forge: &Forge, signer: &Signer, message: &[u8]) -> (String, Vec<u8>) {
    (format!("manifest-{}-{VERSION}.sig", signer.0), forge.sign(MADE, &signer.1, message, &[]))
}

#[test]
fn a_quorum_counts_each_signer_once_and_says_what_it_ignored() {
    let Some(forge) = forge("a_quorum_counts_each_signer_once_and_says_what_it_ignored") else { return };
    let (all, message) = (signers(&forge, 6), manifest(VERSION));
    let trust = trust_in(&all[..5]);
    let mut files: Vec<_> = all.iter().map(|s| file(&forge, s, &message)).collect();
    // File names prove nothing: the stranger under a signer's name, a signer under the stranger's.
    let again = files[0].1.clone();
    let strangers = std::mem::replace(&mut files[5].1, again);
    files.push((files[1].0.clone(), strangers));
    files.push(("notes.sig".into(), b"not a signature \x1b[2J".to_vec()));
    let (read, quorum) = quorum::hold(&message, &files, &release(), &trust, 5).unwrap();
    assert_eq!(read.sha256_of(&format!("lnd-linux-amd64-{VERSION}.tar.gz")), Some("a".repeat(64).as_str()));
    let names: Vec<_> = quorum.signatures.iter().map(|s| s.name.as_str()).collect();
    assert_eq!((names, quorum.needed), (vec!["s0", "s1", "s2", "s3", "s4"], 5));
    let first = serde_json::to_value(&quorum.signatures[0]).unwrap();
    let expected = serde_json::json!({
        "name": "s0", "fingerprint": all[0].1, "made": "2025-06-01T00:00:00Z", "key_expired": false, "added": true,
    });
    assert_eq!(first, expected);
    let ignored = [
        format!("manifest-s5-{VERSION}.sig: s0 counts once"),
        format!("manifest-s1-{VERSION}.sig: by nobody who signs this release"),
        "notes.sig: it is no signature".into(),
    ];
    assert_eq!(quorum.ignored, ignored);
    let error = quorum::hold(&message, &files, &release(), &trust, 6).unwrap_err();
    assert_eq!((error.code().id, error.code().exit), ("E-QUORUM-003", Exit::Unverified));
    for said in ["5 of 6 needed", "s0, s1, s2, s3, s4", "s0 counts once", "by nobody"] {
        assert!(error.cause().contains(said), "{said}: {}", error.cause());
    }
}

#[test]
fn one_bad_signature_stops_every_good_one() {
    let Some(forge) = forge("one_bad_signature_stops_every_good_one") else { return };
    let (all, message) = (signers(&forge, 6), manifest(VERSION));
    let trust = trust_in(&all);
    let good: Vec<_> = all[..5].iter().map(|s| file(&forge, s, &message)).collect();
    let (named, bytes) = file(&forge, &all[5], &manifest("v0.20.0-beta"));
    let own = forge.sign("20260301T000000", &all[5].1, &message, &[]);
    let cut = good[4].1[..good[4].1.len() - 1].to_vec();
    for (extra, code, said) in [
        ((named.clone(), bytes.clone()), "E-QUORUM-001", ["BAD", "s5", named.as_str()]),
        (("x.sig".into(), bytes), "E-QUORUM-001", ["BAD", "s5", "x.sig"]),
        ((named.clone(), b"<html>".to_vec()), "E-QUORUM-002", ["no signature", "s5", &named]),
        ((named.clone(), Vec::new()), "E-QUORUM-002", ["no signature", "s5", &named]),
        ((named.clone(), cut), "E-QUORUM-002", ["no signature", "s5", &named]),
        ((named.clone(), own), "E-QUORUM-003", ["5 of 6", "s5", "after the day"]),
    ] {
        let files = [vec![extra], good.clone()].concat();
        let error = quorum::hold(&message, &files, &release(), &trust, 6).unwrap_err();
        assert_eq!((error.code().id, error.code().exit), (code, Exit::Unverified), "{}", error.cause());
        assert!(said.iter().all(|s| error.cause().contains(s)), "{said:?}: {}", error.cause());
    }
    quorum::hold(&message, &good, &release(), &trust, 5).unwrap();
    let error = quorum::hold(&message, &good, &release(), &trust, 0).unwrap_err();
    assert_eq!(error.code().id, "E-QUORUM-005");
    let long = vec![b'a'; lsm::release::quorum::manifest::LIMIT + 1];
    assert_eq!(quorum::hold(&long, &good, &release(), &trust, 5).unwrap_err().code().id, "E-MANIFEST-001");
    let undated = Release { pinned: "yesterday".into(), ..release() };
    assert_eq!(quorum::hold(&message, &good, &undated, &trust, 5).unwrap_err().code().id, "E-QUORUM-004");
    assert!(quorum::hold(&manifest("v0.20.0-beta"), &good, &release(), &trust, 5).is_err());
}

#[test]
fn a_subkey_that_somebody_else_took_is_still_its_owners() {
    let Some(forge) = forge("a_subkey_that_somebody_else_took_is_still_its_owners") else { return };
    let message = manifest(VERSION);
    let (owner, thief) = (signers(&forge, 1).remove(0), signers(&forge, 1).remove(0));
    let sub = forge.subkey(BORN, &owner.1, "ed25519", "sign", "never");
    let stolen = forge::steal(&forge.secret(&thief.1), &forge.secret(&owner.1));
    let both = [("thief".into(), thief.1, stolen), ("owner".into(), owner.1.clone(), forge.export(&owner.1))];
    let trust = trust_in(&both);
    let sign = |message: &[u8]| [("x.sig".into(), forge.sign(MADE, &sub, message, &[]))];
    let (_, quorum) = quorum::hold(&message, &sign(&message), &release(), &trust, 1).unwrap();
    assert_eq!(quorum.signatures[0].name, "owner");
    let error = quorum::hold(&message, &sign(b"other"), &release(), &trust, 1).unwrap_err();
    assert!(error.cause().contains("BAD signature of owner"), "{}", error.cause());
}

#[test]
fn a_well_signed_manifest_of_another_version_is_not_this_ones() {
    let Some(forge) = forge("a_well_signed_manifest_of_another_version_is_not_this_ones") else { return };
    let (all, message) = (signers(&forge, 2), manifest("v0.20.0-beta"));
    let files: Vec<_> = all.iter().map(|s| file(&forge, s, &message)).collect();
    let error = quorum::hold(&message, &files, &release(), &trust_in(&all), 2).unwrap_err();
    assert_eq!((error.code().id, error.code().exit), ("E-MANIFEST-002", Exit::Unverified));
}

#[test]
fn a_file_that_is_not_signatures_alone_is_none() {
    let Some(forge) = forge("a_file_that_is_not_signatures_alone_is_none") else { return };
    let (all, message) = (signers(&forge, 1), manifest(VERSION));
    let certificates = quorum::certificates(&trust_in(&all), VERSION).unwrap();
    let good = file(&forge, &all[0], &message).1;
    let judge = |bytes: &[u8]| openpgp::judge(bytes, &message, &certificates, i64::MAX, i64::MAX);
    let is_good = |bytes: &[u8]| judge(bytes).is_ok_and(|j| j.iter().any(|j| matches!(j.class, Class::Good { .. })));
    let armored = forge::armor_signature(&good);
    assert!(is_good(&good) && is_good(&armored));
    let with = |more: &[u8]| [&good, more].concat();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("a web page", b"<html></html>".to_vec()),
        ("a key", all[0].2.clone()),
        ("a byte after it", with(b"\0")),
        ("half a header after it", with(b"\xc2")),
        ("a key after it", with(&all[0].2)),
        ("a byte more in the packet", [&[good[0], good[1] + 1], &good[2..], b"\0"].concat()),
        ("text after it", with(b"\n")),
        ("text before it", [b"\n", good.as_slice()].concat()),
        ("an armored one after it", with(&armored)),
        ("two armored ones", armored.repeat(2)),
        ("a byte after the armor", [armored.as_slice(), b"x"].concat()),
        ("armor that is cut", armored[..armored.len() - 20].to_vec()),
        ("nine", good.repeat(9)),
        ("more than it reads", good.repeat(openpgp::LIMIT / good.len() + 1)),
        ("a partial length", [&[0xc2, 0xe9][..], &good[2..]].concat()),
    ] {
        assert_eq!(judge(&bytes).map(|j| j.len()).map_err(|e| e.code().id), Err("E-PGP-010"), "{what}");
    }
    for length in 0..good.len() {
        assert!(!is_good(&good[..length]), "cut to {length} bytes");
    }
    assert!(is_good(&good.repeat(8)));
}

#[test]
fn what_lnds_signers_keys_may_do_is_what_gpg_says() {
    let Some(_) = forge("what_lnds_signers_keys_may_do_is_what_gpg_says") else { return };
    let (trust, home) = (Trust::shipped(), TempDir::new().unwrap());
    let signers = trust.signers_of(VERSION);
    assert_eq!(signers.len(), 16);
    for signer in signers {
        let path = home.path().join("key.asc");
        std::fs::write(&path, &signer.certificate).unwrap();
        let shown = Program::new("gpg").env("GNUPGHOME", home.path()).args(["--batch", "--with-colons", "--show-keys"]);
        let shown = String::from_utf8(shown.arg(&path).output().unwrap().stdout).unwrap();
        let certificate = Certificate::parse(signer).unwrap();
        assert_eq!(certificate.signing_keys(), signing_keys(&shown), "{}\n{shown}", signer.name);
        assert!(!certificate.signing_keys().is_empty());
    }
}

/// The keys that can sign, and when each expires or the primary one before it, from gpg's list.
fn signing_keys(shown: &str) -> Vec<(String, Option<i64>)> {
    let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split(':').collect()).collect();
    let end = |fields: &[&str]| fields[6].parse::<i64>().ok();
    let primary = end(lines.iter().find(|fields| fields[0] == "pub").unwrap());
    let mut found = Vec::new();
    for pair in lines.windows(2).filter(|pair| matches!(pair[0][0], "pub" | "sub") && pair[1][0] == "fpr") {
        if pair[0][11].contains('s') {
            found.push((pair[1][9].to_owned(), primary.into_iter().chain(end(&pair[0])).min()));
        }
    }
    found
}
