//! An operator's folder, the keys of those who sign, and the texts that they sign.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lsm::host::program::{Output, Program};
use minisign::KeyPair;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// Somebody's update key.
pub struct Key(pub KeyPair);

impl Key {
    pub fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    pub fn public(&self) -> String {
        self.0.pk.to_base64()
    }

    pub fn id(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.0.pk.keynum().try_into().unwrap()))
    }

    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signature = minisign::sign(None, &self.0.sk, Cursor::new(text), Some("lnd \u{1b}[2J"), None).unwrap();
        signature.into_string().into_bytes()
    }
}

/// The day in so many days, from the one on which the tests began.
pub fn day(days: i64) -> String {
    static BEGUN: LazyLock<OffsetDateTime> = LazyLock::new(OffsetDateTime::now_utc);
    (*BEGUN + Duration::days(days)).date().to_string()
}

/// The head of an update, with a month to go.
pub fn head(counter: u64, key: &Key) -> String {
    format!("counter = {counter}\nexpires = \"{}\"\nkey = \"{}\"\n", day(30), key.id())
}

/// A release with a source and a pin for each processor; its hashes are made of `seed`.
pub fn release(version: &str, status: &str, seed: u8) -> String {
    let reason = if status == "current" { "" } else { "reason = \"because\"\n" };
    let hash = |part: u8| hex::encode([seed ^ part; 32]);
    let module = format!("h1:{}", STANDARD.encode([seed; 32]));
    let pin = |arch: &str, part: u8| {
        let (archive, lnd, lncli) = (hash(part), hash(part + 1), hash(part + 2));
        format!("[release.archive.{arch}]\nsha256 = \"{archive}\"\nlnd = \"{lnd}\"\nlncli = \"{lncli}\"\n")
    };
    format!(
        "[[release]]\nversion = \"{version}\"\nstatus = \"{status}\"\npinned = \"2026-11-23\"\n{reason}\
         [release.source]\ngo = \"1.26.6\"\ncommit = \"{}\"\ntime = 1790000000\nmodule = \"{module}\"\n{}{}",
        &hash(0)[..40],
        pin("amd64", 0x10),
        pin("arm64", 0x20),
    )
}

/// A judgement of a release that lsm ships; its pins are left out.
pub fn judgement(version: &str, status: &str) -> String {
    format!(
        "[[release]]\nversion = \"{version}\"\nstatus = \"{status}\"\npinned = \"2026-11-22\"\nreason = \"because\"\n"
    )
}

/// An operator's folder, and a place for the updates that they get.
pub struct Desk {
    pub dir: TempDir,
}

impl Desk {
    pub fn new(trust: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policy")).unwrap();
        std::fs::set_permissions(dir.path().join("policy"), PermissionsExt::from_mode(0o755)).unwrap();
        let desk = Self { dir };
        desk.trust(trust);
        desk
    }

    pub fn trusting(keys: &[&Key]) -> Self {
        Self::new(&update_keys(keys))
    }

    pub fn policy(&self) -> PathBuf {
        self.dir.path().join("policy")
    }

    pub fn trust(&self, text: &str) {
        let path = self.policy().join("trust.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    }

    pub fn lsm(&self, args: &[&str]) -> Output {
        Program::new(env!("CARGO_BIN_EXE_lsm")).env("LSM_POLICY", self.policy()).args(args).output().unwrap()
    }

    /// Lays the two files down and gives the name of the first.
    pub fn lay(&self, text: &[u8], signature: &[u8]) -> PathBuf {
        let file = self.dir.path().join("releases.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(self.dir.path().join("releases.toml.minisig"), signature).unwrap();
        file
    }

    pub fn update(&self, text: &[u8], signature: &[u8], more: &[&str]) -> Output {
        let file = self.lay(text, signature);
        self.lsm(&[&["release", "update", file.to_str().unwrap(), "--json"], more].concat())
    }

    /// Has an update accepted, signed by `key`.
    #[track_caller]
    pub fn accept(&self, text: &str, key: &Key) -> Value {
        let output = self.update(text.as_bytes(), &key.sign(text.as_bytes()), &["--yes"]);
        assert_eq!(output.status.code(), Some(0), "{} {}", json(&output), output.stderr);
        json(&output)
    }

    /// How an update signed by `key` ends: its exit code and error code.
    pub fn try_it(&self, text: &str, key: &Key) -> (i32, String) {
        failure(&self.update(text.as_bytes(), &key.sign(text.as_bytes()), &["--yes"]))
    }

    pub fn list(&self) -> Output {
        self.lsm(&["release", "list", "--json"])
    }

    pub fn listed(&self, version: &str) -> Value {
        let list = json(&self.list());
        list["releases"].as_array().unwrap().iter().find(|r| r["version"] == version).cloned().unwrap_or_default()
    }
}

pub fn update_keys(keys: &[&Key]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    format!("update-keys = {keys:?}\n")
}

#[track_caller]
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?} {}", String::from_utf8_lossy(&output.stdout), output.stderr))
}

#[track_caller]
pub fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), json(output)["error"]["code"].as_str().unwrap_or("none").to_owned())
}

/// Every file and folder below, with its mode and what is in it.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let mode = entry.metadata().unwrap().permissions().mode();
        if path.is_dir() {
            all.extend(snapshot(&path));
            all.insert(path, (mode, Vec::new()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, (mode, bytes));
        }
    }
    all
}
