//! What a row begins with: a release as it should be, an operator's folder, and the question that lsm is asked.

use crate::forge;
use crate::lab;
use crate::mirror::Server;
use crate::witnesses::signers::{ARCHIVE, Lab, MANIFEST, VERSION};
use lsm::host::program::{Output, Program};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// In seconds: a row that takes longer hangs.
const PATIENCE: &str = "60";

/// One tampered input.
pub struct Row {
    pub name: &'static str,
    pub exit: i32,
    /// The error's code; empty where there is none.
    pub code: &'static str,
    /// What its cause says, among other things.
    pub says: &'static str,
    pub tamper: Box<dyn Fn(&mut Scene<'_>) + Send + Sync>,
}

pub fn row(
    name: &'static str,
    (exit, code, says): (i32, &'static str, &'static str),
    tamper: impl Fn(&mut Scene<'_>) + Send + Sync + 'static,
) -> Row {
    Row { name, exit, code, says, tamper: Box::new(tamper) }
}

/// How a row ends that is not refused.
pub const FINE: (i32, &str, &str) = (0, "", "");

/// What all scenes are made of.
pub struct Stock {
    pub lab: Lab,
    /// The manifest and the signatures.
    pub papers: BTreeMap<String, Vec<u8>>,
    pub archive: Arc<Vec<u8>>,
    /// The archive as a file that scenes link to.
    copy: TempDir,
    /// Held while something is tampered with.
    pub hand: Mutex<()>,
}

impl Stock {
    /// The stock, or a skip that says what is missing.
    #[track_caller]
    pub fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let (papers, archive) = (lab.papers(lab.manifest()), std::fs::read(&lab.archive).unwrap());
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(ARCHIVE), &archive).unwrap();
        Some(Self { lab, papers, archive: Arc::new(archive), copy, hand: Mutex::new(()) })
    }
}

/// One row's world; all of it is below `home`.
pub struct Scene<'a> {
    pub stock: &'a Stock,
    pub home: TempDir,
    /// What lsm is asked.
    pub asked: Vec<OsString>,
    /// Where files are fetched from.
    pub base: String,
}

impl<'a> Scene<'a> {
    /// A whole release of five good signatures, and the question whether it is one.
    pub fn set(stock: &'a Stock) -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["from", "out", "policy", "policy/signers", "tmp"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        // Without a mirror nothing can be fetched: a port on which nobody listens.
        let base = "https://127.0.0.1:9/lnd".to_owned();
        let mut scene = Self { stock, home, asked: Vec::new(), base };
        put(&scene.home.path().join("roots.pem"), crate::mirror::identity("localhost", |_| ()).pem.as_bytes());
        std::fs::hard_link(stock.copy.path().join(ARCHIVE), scene.file(ARCHIVE)).unwrap();
        for (name, bytes) in &stock.papers {
            scene.put(name, bytes);
        }
        copy(stock.lab.policy.path(), &scene.policy());
        scene.verify("from", &["--quorum", "5"]);
        scene
    }

    /// Asks to verify and unpack this file or folder below `home`.
    pub fn verify(&mut self, path: &str, more: &[&str]) {
        let path = self.home.path().join(path);
        self.asked = ["release".into(), "verify".into(), path.into(), "--unpack".into(), self.to().into()].into();
        self.asked.extend(more.iter().map(OsString::from));
    }

    /// Asks to fetch this version.
    pub fn fetch(&mut self, version: &str, more: &[&str]) {
        self.asked = ["release", "fetch", version, "--arch", "amd64", "--out"].map(OsString::from).into();
        self.asked.push(self.to().into());
        self.asked.extend(more.iter().map(OsString::from));
    }

    /// Asks to fetch the release from this server, whose certificate is trusted.
    pub fn fetch_from(&mut self, server: &Server) {
        put(&self.home.path().join("roots.pem"), server.pem.as_bytes());
        self.base = server.base();
        self.fetch(VERSION, &["--quorum", "5"]);
    }

    /// Where lsm is to put things. It is not there yet.
    fn to(&self) -> PathBuf {
        self.home.path().join("out/into")
    }

    pub fn policy(&self) -> PathBuf {
        self.home.path().join("policy")
    }

    /// A file of the release.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("from").join(name)
    }

    /// Puts `bytes` there in place of what was there; what it was linked to stays.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        put(&self.file(name), bytes);
    }

    /// Changes the manifest, and has it signed by none of them.
    pub fn manifest_unsigned(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        self.put(MANIFEST, &change(self.stock.papers[MANIFEST].clone()));
    }

    /// Changes the manifest, and has it signed by all of them.
    pub fn manifest(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let manifest = change(self.stock.papers[MANIFEST].clone());
        for (name, bytes) in self.stock.lab.papers(manifest) {
            self.put(&name, &bytes);
        }
    }

    /// The true manifest.
    pub fn message(&self) -> &'a [u8] {
        &self.stock.papers[MANIFEST]
    }

    /// The file of a signer, from 0.
    pub fn signature(&self, signer: usize) -> PathBuf {
        self.file(&self.stock.lab.file(signer))
    }

    /// The file of a signer's key.
    pub fn key(&self, signer: usize) -> PathBuf {
        self.policy().join("signers").join(format!("{}.asc", self.stock.lab.signers[signer].0))
    }

    /// The operator's trust.toml, changed.
    pub fn trust(&self, change: impl FnOnce(String) -> String) {
        let path = self.policy().join("trust.toml");
        put(&path, change(std::fs::read_to_string(&path).unwrap()).as_bytes());
    }

    /// The first signer with this key (binary) and this signature.
    pub fn sign_with(&self, fingerprint: &str, key: &[u8], signature: &[u8]) {
        let (_, old) = &self.stock.lab.signers[0];
        self.trust(|text| text.replace(old, fingerprint));
        put(&self.key(0), &forge::armor(key));
        put(&self.signature(0), signature);
    }

    /// Runs lsm. One that hangs is ended, and its exit code is none of lsm's.
    pub fn run(&self) -> Output {
        let home = self.home.path();
        let mut program = Program::new("timeout").args(["-k", "5", PATIENCE, lab::LSM, "--json"]).args(&self.asked);
        program = program.env("LSM_CACHE", home.join("cache")).env("LSM_POLICY", self.policy());
        program = program.env("TMPDIR", home.join("tmp")).env("HOME", home).env("LSM_RELEASE_BASE", &self.base);
        program = program.env("SSL_CERT_FILE", home.join("roots.pem")).env("SSL_CERT_DIR", "");
        program.output().unwrap()
    }
}

/// Puts `bytes` at `path` as a new file of its own.
pub fn put(path: &Path, bytes: &[u8]) {
    remove(path);
    std::fs::write(path, bytes).unwrap();
}

/// Removes what is at `path`, if there is something.
pub fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Changes the bytes at `path`.
pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    put(path, &bytes);
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Moves what is at `path` away, and puts a link to it there.
pub fn link_away(path: &Path, away: &Path) {
    std::fs::rename(path, away).unwrap();
    std::os::unix::fs::symlink(away, path).unwrap();
}

/// Puts a pipe at `path`, into which nobody writes.
pub fn put_pipe(path: &Path) {
    remove(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
}

pub fn put_folder(path: &Path) {
    remove(path);
    std::fs::create_dir(path).unwrap();
}

/// Copies files and folders to where some of the folders are already.
pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&place).unwrap();
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), &place).unwrap();
        }
    }
}

/// The name of a signature file of this signer.
pub fn signature_of(signer: &str) -> String {
    format!("manifest-{signer}-{VERSION}.sig")
}
