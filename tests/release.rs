//! A verified lnd: built from source equal to the published archive, and nothing kept where one byte is another.
//!
//! The real build needs the network once; its caches stay in `LSM_TEST_CACHE` (else below the target folder).

use crate::lab::release_cache as cache;
use crate::mirror::{Server, head};
use lsm::host::program::{Output, Program};
use lsm::release::pins::Arch;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const VERSION: &str = "v0.20.0-beta";
const PUBLISHED: &str = "88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557";
const LND_ZIP: &str = "/github.com/lightningnetwork/lnd/@v/v0.20.0-beta.zip";
const TOOLCHAIN_ZIP: &str = "/golang.org/toolchain/@v/v0.0.1-go1.25.3.linux-amd64.zip";
/// A small module that lnd needs.
const DEPENDENCY_ZIP: &str = "/github.com/btcsuite/btclog/v2/@v/v2.0.1-0.20250728225537-6090e87c6c5b.zip";

/// A folder that any user can enter: root's builds are made by somebody else.
fn open_tempdir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("lsm-release-").tempdir().unwrap();
    Program::new("chmod").arg("755").arg(dir.path()).run().unwrap();
    dir
}

fn lsm(cache: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut program = Program::new(env!("CARGO_BIN_EXE_lsm")).env("LSM_CACHE", cache).arg("--json").args(args);
    for name in ["GOPROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY"] {
        if let Some(value) = std::env::var_os(name) {
            program = program.env(name, value);
        }
    }
    for (name, value) in env {
        program = program.env(name, value);
    }
    program.output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?} {}", String::from_utf8_lossy(&output.stdout), output.stderr))
}

/// What a failed run said: its exit code, and the cause.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), json(output)["error"]["cause"].as_str().unwrap().to_owned())
}

struct Built {
    out: TempDir,
    json: serde_json::Value,
}

impl Built {
    fn archive(&self) -> PathBuf {
        self.out.path().join(format!("lnd-linux-amd64-{VERSION}.tar.gz"))
    }
}

/// The real archive, built once a run.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = open_tempdir();
        let args = ["release", "build", VERSION, "--arch", "amd64", "--out", out.path().to_str().unwrap()];
        let output = lsm(&cache(), &[], &args);
        assert!(output.status.success(), "{:?} {}", failure(&output), output.stderr);
        let json = json(&output);
        Built { out, json }
    })
}

/// A module proxy on loopback: the module cache that the real build filled, with some answers exchanged.
struct Proxy {
    url: String,
}

impl Proxy {
    fn serve(changed: HashMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let changed = Arc::new(changed);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let changed = Arc::clone(&changed);
                std::thread::spawn(move || {
                    answer(stream.unwrap(), |path| changed.get(path).cloned().or_else(|| genuine(path)))
                });
            }
        });
        Self { url }
    }
}

/// One request answered and the connection closed; a peer that hangs up early is its own affair.
fn answer(mut stream: impl Read + Write, find: impl Fn(&str) -> Option<Vec<u8>>) {
    let mut lines = BufReader::new(&mut stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
    drop(lines);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match find(path) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).and_then(|()| stream.flush());
}

/// What the real proxy gave for `path`.
fn genuine(path: &str) -> Option<Vec<u8>> {
    let below = path.strip_prefix('/').filter(|p| !p.contains(".."))?;
    let module = std::fs::read(cache().join("go/pkg/mod/cache/download").join(below));
    // lnd and the toolchain are not fetched by go: lsm keeps them as MODULE@VERSION.zip.
    let kept = below.replace("/@v/", "@").replace('/', "!");
    module.or_else(|_| std::fs::read(cache().join("zip").join(kept))).ok()
}

/// The same zip with one byte more in the first file whose name ends so; every checksum in it is right.
fn with_one_byte_more(zip: Vec<u8>, name_ends: &str) -> Vec<u8> {
    let mut old = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
    let mut new = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut done = false;
    for n in 0..old.len() {
        let mut entry = old.by_index(n).unwrap();
        let name = entry.name().unwrap().into_owned();
        if done || !name.ends_with(name_ends) {
            drop(entry);
            new.raw_copy_file(old.by_index_raw(n).unwrap()).unwrap();
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        bytes.push(b'\n');
        new.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        new.write_all(&bytes).unwrap();
        done = true;
    }
    assert!(done, "no file ends in {name_ends}");
    new.finish().unwrap().into_inner()
}

/// Builds in `cache` with a proxy that answers `path` with `bytes`; gives the exit code, the cause and what `out` holds.
fn build_with(path: &str, bytes: Vec<u8>, cache: &Path) -> (i32, String, usize) {
    let proxy = Proxy::serve(HashMap::from([(path.to_owned(), bytes)]));
    let out = open_tempdir();
    let args = ["release", "build", VERSION, "--arch", "amd64", "--out", out.path().to_str().unwrap()];
    let output = lsm(cache, &[("GOPROXY", &proxy.url), ("NO_PROXY", "127.0.0.1")], &args);
    let (code, cause) = failure(&output);
    (code, cause, std::fs::read_dir(out.path()).unwrap().count())
}

#[test]
fn a_source_build_is_the_published_archive() {
    let built = built();
    let bytes = std::fs::read(built.archive()).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), PUBLISHED);
    assert_eq!(built.json["sha256"], PUBLISHED);
    assert_eq!(built.json["version"], VERSION);
    assert_eq!(built.json["arch"], "amd64");
    assert_eq!(built.json["path"], built.archive().to_str().unwrap());
    assert_eq!(built.json["provenance"][0]["kind"], "pin");
    assert_eq!(built.json["provenance"][1]["kind"], "source-build");
    assert_eq!(std::fs::read_dir(built.out.path()).unwrap().count(), 1);
}

#[test]
#[ignore = "long: a build for another processor"]
fn the_archives_for_arm64_are_the_pinned_ones() {
    for version in ["v0.21.3-beta", VERSION] {
        let out = open_tempdir();
        let args = ["release", "build", version, "--arch", "arm64", "--out", out.path().to_str().unwrap()];
        let output = lsm(&cache(), &[], &args);
        assert!(output.status.success(), "{:?} {}", failure(&output), output.stderr);
        assert!(out.path().join(format!("lnd-linux-arm64-{version}.tar.gz")).exists());
    }
}

#[test]
fn a_verified_archive_unpacks_to_a_running_lnd() {
    let dir = open_tempdir();
    // By the folder that holds it, as an operator may name it.
    let folder = built().out.path().to_str().unwrap();
    let output = lsm(&cache(), &[], &["release", "verify", folder, "--unpack", dir.path().to_str().unwrap()]);
    assert_eq!(json(&output)["sha256"], PUBLISHED);
    for name in ["lnd", "lncli"] {
        let version = Program::new(dir.path().join(name)).arg("--version").run().unwrap();
        let version = String::from_utf8(version).unwrap();
        assert!(version.contains("0.20.0-beta commit=v0.20.0-beta"), "{version}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn an_archive_cut_short_or_with_a_flipped_bit_is_refused_and_not_unpacked() {
    let whole = std::fs::read(built().archive()).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, word) in [(&whole[..whole.len() - 1], "cut short"), (&flipped[..], "sha256")] {
        let dir = open_tempdir();
        let (file, to) = (dir.path().join("lnd.tar.gz"), dir.path().join("to"));
        std::fs::write(&file, bytes).unwrap();
        let args = ["release", "verify", file.to_str().unwrap(), "--unpack", to.to_str().unwrap()];
        let (code, cause) = failure(&lsm(&cache(), &[], &args));
        assert_eq!(code, 4, "{cause}");
        assert!(cause.contains(word), "{cause}");
        assert!(!to.exists());
    }
}

#[test]
fn a_changed_toolchain_is_refused_by_name() {
    built();
    let changed = with_one_byte_more(genuine(TOOLCHAIN_ZIP).unwrap(), "/src/fmt/print.go");
    let (code, cause, left) = build_with(TOOLCHAIN_ZIP, changed, open_tempdir().path());
    assert_eq!((code, left), (4, 0), "{cause}");
    assert!(cause.contains("golang.org/toolchain@v0.0.1-go1.25.3.linux-amd64 is not what is pinned"), "{cause}");
}

/// Keeps the genuine zip of `path` in `cache`, so that a build gets past it.
fn keep(cache: &Path, path: &str) {
    lsm::release::cache::claim(cache).unwrap();
    let kept = path[1..].replace("/@v/", "@").replace('/', "!");
    std::fs::create_dir_all(cache.join("zip")).unwrap();
    std::fs::write(cache.join("zip").join(kept), genuine(path).unwrap()).unwrap();
}

#[test]
fn a_changed_or_broken_lnd_source_is_refused_by_name() {
    built();
    let zip = genuine(LND_ZIP).unwrap();
    let mut flipped = zip.clone();
    flipped[zip.len() / 2] ^= 1;
    let cut = zip[..zip.len() - 100].to_vec();
    let cache = open_tempdir();
    keep(cache.path(), TOOLCHAIN_ZIP);
    for bytes in [with_one_byte_more(zip, "/config.go"), flipped, cut] {
        let (code, cause, left) = build_with(LND_ZIP, bytes, cache.path());
        assert_eq!((code, left), (4, 0), "{cause}");
        assert!(cause.contains("github.com/lightningnetwork/lnd@v0.20.0-beta"), "{cause}");
    }
}

#[test]
fn a_changed_or_broken_dependency_is_refused_by_name() {
    built();
    let zip = genuine(DEPENDENCY_ZIP).unwrap();
    let mut flipped = zip.clone();
    flipped[zip.len() / 2] ^= 1;
    let cache = open_tempdir();
    keep(cache.path(), TOOLCHAIN_ZIP);
    // The kept copy is damaged; the proxy's is taken instead, and the build goes on to the dependency.
    keep(cache.path(), LND_ZIP);
    let kept = cache.path().join("zip/github.com!lightningnetwork!lnd@v0.20.0-beta.zip");
    File::options().write(true).open(kept).unwrap().set_len(1000).unwrap();
    for bytes in [with_one_byte_more(zip, ".go"), flipped] {
        let (code, cause, left) = build_with(DEPENDENCY_ZIP, bytes, cache.path());
        assert_eq!((code, left), (4, 0), "{cause}");
        assert!(cause.contains("github.com/btcsuite/btclog/v2"), "{cause}");
    }
}

#[test]
fn what_cannot_be_had_is_told_before_anything_is_done() {
    let dir = open_tempdir();
    let build = |version: &str, goproxy: &str| {
        let args = ["release", "build", version, "--out", dir.path().to_str().unwrap()];
        failure(&lsm(&dir.path().join("cache"), &[("GOPROXY", goproxy)], &args))
    };
    let unknown = lsm(dir.path(), &[], &["release", "build", "v9.9.9-beta"]);
    assert_eq!(failure(&unknown).0, 2);
    assert!(json(&unknown)["error"]["hint"].as_str().unwrap().contains(VERSION));
    assert_eq!(build("v0.18.0-beta", "off").0, 1);
    for proxy in ["off", "direct"] {
        let (code, cause) = build(VERSION, proxy);
        assert_eq!(code, 3, "{cause}");
        assert!(cause.contains(proxy), "{cause}");
    }
    assert_eq!(build(VERSION, "file:///tmp").0, 2);
    // A closed port: refused at once, and said.
    let (code, cause) = build(VERSION, "http://127.0.0.1:1");
    assert_eq!(code, 3, "{cause}");
    assert!(cause.contains("127.0.0.1:1"), "{cause}");
}

#[test]
fn a_kept_archive_is_used_again_and_a_damaged_one_is_had_anew() {
    let release = lsm::release::known::find(VERSION).unwrap();
    lsm::release::set_unpacker(Path::new(env!("CARGO_BIN_EXE_lsm")));
    let obtain = |cache: &Path| lsm::release::obtain(release, Arch::Amd64, cache, None).unwrap();
    let (dir, name) = (open_tempdir(), format!("archive/lnd-linux-amd64-{VERSION}/lnd-linux-amd64-{VERSION}.tar.gz"));
    lsm::release::cache::claim(dir.path()).unwrap();
    std::fs::create_dir_all(dir.path().join(&name).parent().unwrap()).unwrap();
    std::fs::copy(built().archive(), dir.path().join(&name)).unwrap();
    let kept = obtain(dir.path());
    assert_eq!((kept.sha256(), kept.provenance().len()), (PUBLISHED, 1));
    // From the download where the official server can be reached, else from a build: the hash is the same.
    std::fs::create_dir_all(cache().join(&name).parent().unwrap()).unwrap();
    std::fs::write(cache().join(&name), b"damaged").unwrap();
    let anew = obtain(&cache());
    assert_eq!((anew.sha256(), anew.provenance().len()), (PUBLISHED, 2));
    assert_eq!(hex::encode(Sha256::digest(std::fs::read(anew.path()).unwrap())), PUBLISHED);
}

/// A mirror that has `archive` at the official path, and no papers.
fn serve_tls(archive: Vec<u8>) -> Server {
    Server::start(move |request, to| {
        if request.path == format!("/lnd/{VERSION}/lnd-linux-amd64-{VERSION}.tar.gz") {
            head(to, "200 OK", archive.len(), "").and_then(|()| to.write_all(&archive))
        } else {
            head(to, "404 Not Found", 0, "")
        }
    })
}

#[test]
fn a_download_is_kept_only_where_it_is_the_pinned_one() {
    let genuine = std::fs::read(built().archive()).unwrap();
    let mut flipped = genuine.clone();
    flipped[1000] ^= 1;
    for (archive, trusted, code, left) in [(genuine.clone(), true, 0, 1), (genuine, false, 3, 0), (flipped, true, 4, 0)]
    {
        let server = serve_tls(archive);
        let base = server.base();
        let (dir, out) = (open_tempdir(), open_tempdir());
        let roots = dir.path().join("roots.pem");
        if trusted {
            std::fs::write(&roots, server.pem).unwrap();
        } else {
            let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(&roots, other.cert.pem()).unwrap();
        }
        let env = [
            ("LSM_RELEASE_BASE", base.as_str()),
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
            ("SSL_CERT_DIR", ""),
            ("NO_PROXY", "localhost"),
        ];
        let args = ["release", "fetch", VERSION, "--arch", "amd64", "--out", out.path().to_str().unwrap()];
        let output = lsm(dir.path(), &env, &args);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), left);
        if code == 0 {
            assert_eq!(json(&output)["provenance"][1]["kind"], "download");
        }
    }
}
