//! The three witnesses end to end: papers from a mirror, a folder for a machine without a network, and all at once.

pub mod signers;

use crate::lab;
use crate::mirror::{Server, head};
use crate::stage;
use crate::update::desk;
use lsm::host::program::{Output, Program};
use serde_json::Value;
use signers::{ARCHIVE, Lab, MANIFEST, VERSION};
use std::collections::BTreeMap;
use std::path::Path;

/// A mirror with the real archive and these papers; what is empty is answered with an error of the server.
fn publish(lab: &Lab, papers: BTreeMap<String, Vec<u8>>) -> Server {
    let archive = std::fs::read(&lab.archive).unwrap();
    Server::start(move |request, to| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        match papers.get(name).or((name == ARCHIVE).then_some(&archive)) {
            Some(body) if body.is_empty() => head(to, "503 Service Unavailable", 0, ""),
            Some(body) => head(to, "200 OK", body.len(), "").and_then(|()| to.write_all(body)),
            None => head(to, "404 Not Found", 0, ""),
        }
    })
}

/// Runs lsm with the lab's trust, and with the mirror where there is one.
fn lsm(lab: &Lab, server: Option<&Server>, args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut program =
        Program::new(lab::LSM).env("LSM_CACHE", lab::release_cache()).env("LSM_POLICY", lab.policy.path());
    if let Some(proxy) = std::env::var_os("GOPROXY") {
        program = program.env("GOPROXY", proxy);
    }
    // Without a mirror nothing can be fetched from anywhere: a port on which nobody listens.
    let base = server.map_or_else(|| "https://127.0.0.1:9/lnd".to_owned(), Server::base);
    program = program.env("LSM_RELEASE_BASE", base);
    if let Some(server) = server {
        let roots = home.path().join("roots.pem");
        std::fs::write(&roots, &server.pem).unwrap();
        program = program.env("SSL_CERT_FILE", roots).env("SSL_CERT_DIR", "");
    }
    program.arg("--json").args(args).output().unwrap()
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?} {}", String::from_utf8_lossy(&output.stdout), output.stderr))
}

/// Exit code and error code.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), said(output)["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// The signers that counted.
fn counted(provenance: &Value) -> Vec<String> {
    let quorum = provenance.as_array().unwrap().iter().find(|p| p["kind"] == "quorum");
    let names = quorum.and_then(|q| q["signatures"].as_array()).into_iter().flatten();
    names.map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn fetch(lab: &Lab, server: &Server, more: &[&str]) -> (Output, Vec<String>, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let args = ["release", "fetch", VERSION, "--arch", "amd64", "--out", out.path().to_str().unwrap()];
    let output = lsm(lab, Some(server), &[&args, more].concat());
    let left = files(out.path());
    (output, left, out)
}

#[test]
fn a_release_is_fetched_with_its_signatures_and_verified_where_there_is_no_network() {
    let Some(lab) = Lab::open() else { return };
    let papers = lab.papers(lab.manifest());
    let mut expected: Vec<_> = papers.keys().cloned().collect();
    expected.insert(0, ARCHIVE.to_owned());
    let (output, left, out) = fetch(&lab, &publish(&lab, papers), &["--quorum", "5"]);
    assert!(output.status.success(), "{:?}", failure(&output));
    assert_eq!(counted(&said(&output)["provenance"]), ["lab1", "lab2", "lab3", "lab4", "lab5"]);
    assert_eq!(left, expected);
    // On another machine: the same folder, and nothing to ask.
    let programs = tempfile::tempdir().unwrap();
    let (folder, to) = (out.path().to_str().unwrap(), programs.path().to_str().unwrap());
    let output = lsm(&lab, None, &["release", "verify", folder, "--unpack", to, "--quorum", "5"]);
    assert!(output.status.success(), "{:?}", failure(&output));
    assert_eq!(counted(&said(&output)["provenance"]).len(), 5);
    assert_eq!(files(programs.path()), ["lncli", "lnd"]);
    // A single signature is enough only where that is said, and then it is on record.
    for signer in 1..5 {
        std::fs::remove_file(out.path().join(lab.file(signer))).unwrap();
    }
    let verify = |more: &[&str]| lsm(&lab, None, &[&["release", "verify", folder], more].concat());
    assert_eq!(failure(&verify(&["--quorum", "2"])), (4, "E-QUORUM-003".into()));
    let one = said(&verify(&["--quorum", "1"]));
    assert_eq!(one["provenance"][1]["needed"], 1);
    // Without a word about signatures the pin speaks, and that it does so alone is told.
    let output = verify(&[]);
    assert_eq!((output.status.code(), counted(&said(&output)["provenance"]).len()), (Some(0), 0));
    assert!(output.stderr.contains("only the pin speaks for it"), "{}", output.stderr);
    std::fs::remove_file(out.path().join(MANIFEST)).unwrap();
    assert_eq!(failure(&verify(&["--quorum", "1"])), (3, "E-RELEASE-037".into()));
}

#[test]
fn a_signature_that_cannot_be_had_is_missing_and_a_bad_one_ends_it_all() {
    let Some(lab) = Lab::open() else { return };
    let mut papers = lab.papers(lab.manifest());
    // The server fails for one, and does not have another.
    papers.insert(lab.file(0), Vec::new());
    papers.remove(&lab.file(1));
    let (output, left, _) = fetch(&lab, &publish(&lab, papers.clone()), &[]);
    assert_eq!((output.status.code(), left.len()), (Some(0), 5), "{:?}", failure(&output));
    assert!(output.stderr.contains(&format!("{} could not be had", lab.file(0))), "{}", output.stderr);
    let (output, left, _) = fetch(&lab, &publish(&lab, papers.clone()), &["--quorum", "5"]);
    assert_eq!((failure(&output), left.len()), ((4, "E-QUORUM-003".into()), 0));
    // One that is bad is named, whoever else signed, and nothing is kept.
    let mut papers = lab.papers(lab.manifest());
    papers.insert(lab.file(2), lab.sign(2, b"another manifest"));
    let (output, left, _) = fetch(&lab, &publish(&lab, papers), &[]);
    assert_eq!((failure(&output), left.len()), ((4, "E-QUORUM-001".into()), 0));
    let cause = said(&output)["error"]["cause"].to_string();
    assert!(cause.contains("lab3") && cause.contains(&lab.file(2)), "{cause}");
    // Five who signed another hash contradict the pin.
    let other = String::from_utf8(lab.manifest()).unwrap().replace("88c43d", "99c43d");
    let (output, left, _) = fetch(&lab, &publish(&lab, lab.papers(other.into_bytes())), &[]);
    assert_eq!((failure(&output), left.len()), ((4, "E-PAPERS-001".into()), 0));
}

#[test]
fn all_three_witnesses_are_demanded_and_the_missing_one_is_named() {
    let Some(lab) = Lab::open() else { return };
    let server = publish(&lab, lab.papers(lab.manifest()));
    let all = ["release", "verify", "--all", VERSION, "--arch", "amd64"];
    // The build asks the module proxy, whose certificate the mirror's roots do not know: everything is in the cache.
    let output = lsm(&lab, None, &all);
    let words = said(&output);
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(output.stderr.contains("quorum missing"), "{}", output.stderr);
    assert!(words["quorum"]["missing"].is_string() && words["build"]["given"]["kind"] == "source-build", "{words}");
    let output = lsm(&lab, Some(&server), &all);
    let words = said(&output);
    assert_eq!(output.status.code(), Some(0), "{words} {}", output.stderr);
    for (name, kind) in [("pin", "pin"), ("quorum", "quorum"), ("build", "source-build")] {
        assert_eq!(words[name]["given"]["kind"], kind, "{words}");
    }
    // No proxy to build from: the build is missing.
    let empty = tempfile::tempdir().unwrap();
    let output = Program::new(lab::LSM)
        .env("LSM_CACHE", empty.path())
        .env("LSM_RELEASE_BASE", "https://127.0.0.1:9/lnd")
        .env("GOPROXY", "off")
        .args(all)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stderr.contains("quorum, build missing"), "{}", output.stderr);
    // A witness who says something else is no missing one.
    let other = String::from_utf8(lab.manifest()).unwrap().replace("88c43d", "99c43d");
    let liar = publish(&lab, lab.papers(other.into_bytes()));
    assert_eq!(failure(&lsm(&lab, Some(&liar), &all)), (4, "E-PAPERS-001".into()));
}

#[test]
fn a_quorum_of_nobody_is_refused_before_anything_is_asked() {
    let Some(lab) = Lab::open() else { return };
    for verb in [&["verify", "--all", VERSION][..], &["fetch", VERSION, "--out", "/nonexistent"]] {
        let refused = lsm(&lab, None, &[&["release"], verb, &["--quorum", "0"]].concat());
        assert_eq!(failure(&refused), (2, "E-QUORUM-005".into()));
    }
    let misspelt = lsm(&lab, None, &["release", "verfy"]);
    assert_eq!(failure(&misspelt), (2, "E-CLI-002".into()));
}

/// An archive as lnd's release script makes it, of two small programs.
fn pack(version: &str) -> Vec<u8> {
    let (mut lnd, mut lncli) = (&b"#!/bin/true\n"[..], &b"#!/bin/false\n"[..]);
    let member = |name, from| lsm::archive::Member { name, size: 12, from };
    let mut packed = Vec::new();
    let members = vec![member("lnd", &mut lnd as &mut dyn std::io::Read), member("lncli", &mut lncli)];
    lsm::archive::pack(&format!("lnd-linux-amd64-{version}"), members, &mut packed).unwrap();
    packed
}

/// Has an update with this text accepted.
fn update(lab: &Lab, folder: &Path, key: &desk::Key, text: &str) {
    let file = folder.join("update.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.join("update.toml.minisig"), key.sign(text.as_bytes())).unwrap();
    let output = lsm(lab, None, &["release", "update", file.to_str().unwrap(), "--yes"]);
    assert!(output.status.success(), "{:?}", said(&output));
}

#[test]
fn a_pin_that_came_by_an_update_needs_another_witness() {
    use sha2::{Digest, Sha256};
    const NEW: &str = "v0.22.0-beta";
    let Some(lab) = Lab::open() else { return };
    let key = desk::Key::new();
    lab.trust(&format!("update-keys = [\"{}\"]", key.public()));
    let archive = pack(NEW);
    let hash = hex::encode(Sha256::digest(&archive));
    let release = desk::release(NEW, "current", 7);
    // The first hash of the release is that of its archive for amd64.
    let pinned = hex::encode([7 ^ 0x10; 32]);
    let text = desk::head(2, &key) + &release.replace(&pinned, &hash).replace("2026-11-23", "2026-11-22");
    let text =
        text.lines().filter(|l| !l.starts_with("lnd =") && !l.starts_with("lncli =")).collect::<Vec<_>>().join("\n");
    let home = tempfile::tempdir().unwrap();
    update(&lab, home.path(), &key, &text);

    // Its archive, with the pinned hash, is not believed for that alone.
    let folder = home.path().join("lnd");
    let name = format!("lnd-linux-amd64-{NEW}.tar.gz");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(&name), &archive).unwrap();
    let to = home.path().join("to");
    let (from, into) = (folder.to_str().unwrap(), to.to_str().unwrap());
    let verify = || lsm(&lab, None, &["release", "verify", from, "--unpack", into]);
    assert_eq!(failure(&verify()), (4, "E-RELEASE-038".into()));
    assert!(!to.exists());
    // Four signatures are too few; five are enough.
    let manifest = format!("{hash}  {name}\n").into_bytes();
    std::fs::write(folder.join(format!("manifest-{NEW}.txt")), &manifest).unwrap();
    for signer in 0..5 {
        assert_eq!(failure(&verify()).0, 4);
        // Asking for fewer does not make them enough beside an update.
        let few = signer.max(1).to_string();
        let fewer = lsm(&lab, None, &["release", "verify", from, "--quorum", &few]);
        assert_eq!(failure(&fewer).0, 4);
        let signature = folder.join(format!("manifest-{}-{NEW}.sig", lab.signers[signer].0));
        std::fs::write(signature, lab.sign(signer, &manifest)).unwrap();
    }
    let output = verify();
    assert!(output.status.success(), "{:?}", failure(&output));
    assert_eq!(said(&output)["provenance"][0]["origin"]["update"], 2);
    assert_eq!(files(&to), ["lncli", "lnd"]);

    // The other way is a build. Whoever signs updates names its source too, and the checksum database knows better.
    let release = desk::release("v0.20.1-beta", "needs-accept-risk", 9).replace("2026-11-23", "2026-11-22");
    update(&lab, home.path(), &key, &(desk::head(3, &key) + &release));
    let out = home.path().to_str().unwrap();
    let output = lsm(&lab, None, &["release", "build", "v0.20.1-beta", "--arch", "amd64", "--out", out]);
    let end = failure(&output);
    if end.1 == "E-SUMDB-001" {
        lab::skip("the checksum database cannot be reached");
        return;
    }
    assert_eq!(end, (4, "E-SUMDB-004".into()), "{}", said(&output));
}

#[test]
fn an_install_from_a_folder_counts_its_signatures_and_keeps_what_spoke_for_it() {
    let Some(lab) = Lab::open() else { return };
    let Some(release) = lab::lnd::Release::find(VERSION) else { return };
    let Some(net) = lab::net::Net::build() else { return };
    let Some(stage) = stage::Stage::boot_in(&net, "witness", &release) else { return };
    let copy = |bytes: &[u8], to: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        stage.host.copy_in(file.path(), to, 0o644);
    };
    stage.host.sh("mkdir -p -m 755 /etc/lsm/release-policy/signers").ok();
    for entry in
        ["trust.toml"].into_iter().map(str::to_owned).chain(lab.signers.iter().map(|s| format!("signers/{}.asc", s.0)))
    {
        copy(&std::fs::read(lab.policy.path().join(&entry)).unwrap(), &format!("/etc/lsm/release-policy/{entry}"));
    }
    let papers = lab.papers(lab.manifest());
    for (name, bytes) in &papers {
        copy(bytes, &format!("/root/archives/{name}"));
    }
    // A bad one, and nothing happens.
    let bad = format!("/root/archives/{}", lab.file(3));
    copy(&lab.sign(3, b"another manifest"), &bad);
    let done = stage.install(&["--quorum=5", "--json"]);
    assert_eq!(done.code, 4, "{}", done.stdout);
    assert!(done.stdout.contains("E-QUORUM-001") && done.stdout.contains("lab4"), "{}", done.stdout);
    stage.host.sh("test ! -e /etc/lsm/signer.toml && test ! -e /usr/local/lib/lsm").ok();
    copy(&papers[&lab.file(3)], &bad);
    stage.install(&["--quorum=5"]).ok();
    // Nothing is unpacked again; what was counted then is what there is.
    stage.install(&["--quorum=5"]).ok();
    let more = stage.install(&["--quorum=6", "--json"]);
    assert!(more.code == 4 && more.stdout.contains("E-INSTALL-014"), "{}", more.stdout);

    let status = stage.host.lsm(["status", "--json"]).json();
    assert_eq!(status["judgement"], "needs-accept-risk");
    assert_eq!(counted(&status["lnd"]["provenance"]).len(), 5, "{status}");
    let list = stage.host.lsm(["release", "list", "--json"]).json();
    assert_eq!(list["installed"][0], status["lnd"]);
    let journal = stage.host.sh("cat /var/lib/lsm/journal/signer.jsonl").ok();
    let lines: Vec<Value> = journal.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["accepted_risk"], VERSION);
    let evidence = lines.iter().find(|l| l["event"] == "evidence").unwrap();
    assert_eq!(evidence["archive"], status["lnd"]);

    // Were a newer one there, this one would need a word, and the way of an upgrade.
    stage.host.sh("sed -i s/v0.20.0-beta/v0.21.3-beta/ /etc/lsm/signer.toml").ok();
    let plan = |verb: &[&str], more: &[&str]| stage.host.lsm(verb.iter().chain(&["--dry-run", "--json"]).chain(more));
    let refused = |verb: &[&str], more: &[&str], code: &str| {
        let done = plan(verb, more);
        assert!(done.code == 1 && done.stdout.contains(code), "{verb:?} {more:?}: {done:?}");
    };
    let (install, upgrade) = (["install", "--network=regtest", "--release", VERSION], ["upgrade", VERSION]);
    for verb in [&install[..], &upgrade[..]] {
        refused(verb, &[], "E-RELEASE-009");
        refused(verb, &["--accept-risk=v0.21.3-beta"], "E-RELEASE-009");
    }
    refused(&install, &["--accept-risk", VERSION], &format!("lsm upgrade {VERSION}"));
    plan(&upgrade, &["--accept-risk", VERSION]).ok();
}

/// v0.20.1-beta, which lsm judges and does not pin: what a maintainer would sign to have it built. The archive's hash is
/// that of a build of these tests' own.
const BUILDABLE: &str = r#"
[toolchain."1.25.5"]
amd64 = "h1:IkknVKy/4hLMR+ZwWfP4Oqhjz2sKqNtEXz1meP8P3Nc="

[[release]]
version = "v0.20.1-beta"
status = "needs-accept-risk"
reason = "it does not recover from a panic in an RPC"
pinned = "2026-11-22"

[release.source]
go = "1.25.5"
commit = "848b72ce96eb68fa90fd4336523ca4c59bddcd4c"
time = 1770705774
module = "h1:wDMNgks5uST1CY+WwjIZ4+McPMMFpr2pIIGJp7ytDI4="

[release.archive.amd64]
sha256 = "e01f755ba18e45a7b20f9fd645a328a250aae241e23b8c1eca06efeb2974570a"
"#;

#[test]
#[ignore = "long: a build of another release"]
fn a_build_whose_source_came_by_an_update_is_proved_by_the_checksum_database() {
    let Some(lab) = Lab::open() else { return };
    let key = desk::Key::new();
    lab.trust(&format!("update-keys = [\"{}\"]", key.public()));
    let home =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    update(&lab, home.path(), &key, &(desk::head(2, &key) + BUILDABLE));
    let out = home.path().to_str().unwrap();
    let output = lsm(&lab, None, &["release", "build", "v0.20.1-beta", "--arch", "amd64", "--out", out]);
    assert!(output.status.success(), "{}", said(&output));
    let build = &said(&output)["provenance"][1];
    let proved = ["golang.org/toolchain@v0.0.1-go1.25.5.linux-amd64", "github.com/lightningnetwork/lnd@v0.20.1-beta"];
    assert_eq!((&build["kind"], &build["proved"]), (&"source-build".into(), &serde_json::json!(proved)));
}
