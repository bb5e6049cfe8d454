//! The lab's own signers of lnd v0.20.0-beta: their keys, an operator's folder that trusts them, and what they publish.

use crate::forge::{self, Forge};
use crate::lab;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const VERSION: &str = "v0.20.0-beta";
pub const ARCHIVE: &str = "lnd-linux-amd64-v0.20.0-beta.tar.gz";
pub const MANIFEST: &str = "manifest-v0.20.0-beta.txt";

/// When the keys were made, and when the release was signed.
pub const BORN: &str = "20250101T000000";
pub const SIGNED: &str = "20251112T000000";

/// Enough for the quorum that lsm ships with.
const SIGNERS: usize = 5;

pub struct Lab {
    pub forge: Forge,
    /// Names and fingerprints.
    pub signers: Vec<(String, String)>,
    /// The operator's folder, which trusts them.
    pub policy: TempDir,
    pub archive: PathBuf,
}

impl Lab {
    /// The lab, or a skip that says what is missing.
    #[track_caller]
    pub fn open() -> Option<Self> {
        if !forge::is_possible() {
            lab::skip("there is no gpg (apt-get install gpg gpg-agent gpgv)");
            return None;
        }
        let archive = lab::lnd::Release::find(VERSION)?.folder.join(ARCHIVE);
        if !archive.is_file() {
            lab::skip("the real archive of v0.20.0-beta is not here (tests/run builds it)");
            return None;
        }
        let forge = Forge::new();
        let key = |n| (format!("lab{n}"), forge.key(BORN, "ed25519", "sign", "never", &[]));
        let signers: Vec<_> = (1..=SIGNERS).map(key).collect();
        let policy = tempfile::tempdir().unwrap();
        let lab = Self { forge, signers, policy, archive };
        lab.trust("");
        Some(lab)
    }

    /// Writes the operator's folder anew: the lab's signers, and `more` at the top of trust.toml.
    pub fn trust(&self, more: &str) {
        let keys = self.policy.path().join("signers");
        std::fs::create_dir_all(&keys).unwrap();
        let mut text = format!("{more}\n");
        for (name, fingerprint) in &self.signers {
            text += &format!("[[signer]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
            std::fs::write(keys.join(format!("{name}.asc")), forge::armor(&self.forge.export(fingerprint))).unwrap();
        }
        std::fs::write(self.policy.path().join("trust.toml"), text).unwrap();
    }

    /// The manifest that lists the real archive and what is in it, as lnd's does.
    pub fn manifest(&self) -> Vec<u8> {
        let folder = self.archive.parent().unwrap();
        let hash = |path: &Path| hex::encode(Sha256::digest(std::fs::read(path).unwrap()));
        let top = ARCHIVE.trim_end_matches(".tar.gz");
        let (archive, lnd, lncli) = (hash(&self.archive), hash(&folder.join("lnd")), hash(&folder.join("lncli")));
        format!("{lncli}  {top}/lncli\n{lnd}  {top}/lnd\n{archive}  {ARCHIVE}\n").into_bytes()
    }

    /// The name of a signer's file.
    pub fn file(&self, signer: usize) -> String {
        format!("manifest-{}-{VERSION}.sig", self.signers[signer].0)
    }

    pub fn sign(&self, signer: usize, message: &[u8]) -> Vec<u8> {
        self.forge.sign(SIGNED, &self.signers[signer].1, message, &[])
    }

    /// What is published: this manifest, and a signature of each signer over it.
    pub fn papers(&self, manifest: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
        let mut papers: BTreeMap<_, _> =
            (0..SIGNERS).map(|signer| (self.file(signer), self.sign(signer, &manifest))).collect();
        papers.insert(MANIFEST.to_owned(), manifest);
        papers
    }
}
