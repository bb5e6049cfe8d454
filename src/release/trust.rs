//! Whom lsm believes about lnd's releases: policies/trust.toml and policies/signers/, and what the operator adds.
//!
//! The operator's part is a folder of the same form: `trust.toml`, and `signers/NAME.asc` for the keys that it names. It
//! adds signers, mirrors and update keys, and may set another quorum; it takes away by `revoked` alone.

use crate::error::{Code, Error, Result};
use crate::host::{file, user};
use crate::release::pins::numbers;
use serde::Deserialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BAD_TRUST: Code = Code::usage("E-TRUST-001");
const OPEN_TO_OTHERS: Code = Code::refused("E-TRUST-002");
const LOW_QUORUM: Code = Code::refused("E-TRUST-003");
const NO_KEY: Code = Code::usage("E-TRUST-004");

/// Fewer signatures than this are enough only where a flag says so each time.
pub const LEAST_QUORUM: usize = 2;

/// A trust.toml has a line or two for each signer.
const TEXT_LIMIT: u64 = 1 << 20;
/// A key file is a few kilobytes; the largest of lnd's signers has 20.
const KEY_LIMIT: u64 = 256 << 10;

/// Somebody who signs releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The name, as in `manifest-NAME-VERSION.sig`. It says where to look and proves nothing.
    pub name: String,
    /// The fingerprint of the primary key: 40 hexadecimal digits in capitals.
    pub fingerprint: String,
    /// The armored OpenPGP key.
    pub certificate: Vec<u8>,
    /// True where the operator added it; lsm did not ship it.
    pub added: bool,
    since: Option<[u32; 3]>,
    until: Option<[u32; 3]>,
}

/// Whom lsm believes.
#[derive(Debug)]
pub struct Trust {
    /// How many good signatures of distinct signers a manifest needs.
    pub quorum: usize,
    /// The places of official files, in the order in which they are asked.
    pub mirrors: Vec<String>,
    /// Minisign public keys (base64) that may sign an update.
    pub update_keys: Vec<String>,
    /// Key ids (16 hexadecimal digits in capitals) of update keys that are believed no longer.
    pub revoked: Vec<String>,
    /// The operator's folder, where there is one.
    pub folder: Option<PathBuf>,
    signers: Vec<Signer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    quorum: Option<usize>,
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    update_keys: Vec<String>,
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default)]
    signer: Vec<SignerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerText {
    name: String,
    fingerprint: String,
    since: Option<String>,
    until: Option<String>,
}

macro_rules! shipped_keys {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../policies/signers/", $name, ".asc")))),*]
    };
}

/// The keys in policies/signers/, by name.
const KEYS: &[(&str, &str)] = shipped_keys!(
    "ViktorT-11" "bhandras" "boris" "carlaKC" "ellemouton" "ffranr" "georgetsagk" "gijswijs" "guggero" "hieblmi"
    "proofofkeags" "roasbeef" "sputn1ck" "suheb" "yyforyongyu" "ziggie1984"
);

/// The trust in force: the shipped one with the operator's, from [`folder`].
///
/// # Errors
/// Where the operator's cannot be read, or somebody else could have written it.
pub fn in_force() -> Result<&'static Trust> {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    if let Some(trust) = TRUST.get() {
        return Ok(trust);
    }
    let trust = Trust::load(&folder())?;
    Ok(TRUST.get_or_init(|| trust))
}

/// The operator's folder: for root `/etc/lsm/release-policy`, else `$XDG_CONFIG_HOME/lsm/release-policy` or
/// `~/.config/lsm/release-policy`. `LSM_POLICY` names another. It need not be there.
pub fn folder() -> PathBuf {
    // From wherever it is meant: one that was passed over would be trust, and revocations, that nobody misses.
    if let Some(folder) = std::env::var_os("LSM_POLICY").map(PathBuf::from).filter(|p| !p.as_os_str().is_empty()) {
        return std::path::absolute(&folder).unwrap_or(folder);
    }
    if user::is_root() {
        return "/etc/lsm/release-policy".into();
    }
    user::base_folder("XDG_CONFIG_HOME", ".config").unwrap_or_else(|| "/etc".into()).join("lsm/release-policy")
}

impl Trust {
    /// What lsm ships with.
    pub fn shipped() -> Self {
        Self::read_shipped().expect("the embedded trust is valid: a test reads it")
    }

    fn read_shipped() -> Result<Self> {
        let text = parse(include_str!("../../policies/trust.toml"), "policies/trust.toml")?;
        let signers = parse(include_str!("../../policies/signers/signers.toml"), "policies/signers/signers.toml")?;
        let key = |name: &str| KEYS.iter().find(|(n, _)| *n == name).map(|(_, key)| key.as_bytes().to_vec());
        let signers = signers.signer.into_iter().map(|s| {
            let certificate = key(&s.name).ok_or_else(|| no_key(&s.name, "policies/signers"))?;
            s.checked(certificate, false)
        });
        Ok(Self {
            quorum: text.quorum.unwrap_or(LEAST_QUORUM),
            mirrors: text.mirrors,
            update_keys: text.update_keys,
            revoked: text.revoked,
            folder: None,
            signers: signers.collect::<Result<_>>()?,
        })
    }

    /// The shipped trust with what the operator's `folder` adds; just the shipped one where there is no such folder.
    ///
    /// # Errors
    /// Where it cannot be read, says what cannot be, or somebody else could have written it.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut trust = Self::shipped();
        if !file::is_there(folder)? {
            return Ok(trust);
        }
        trust.folder = Some(folder.to_owned());
        hold_own(folder)?;
        let path = folder.join("trust.toml");
        if !file::is_there(&path)? {
            return Ok(trust);
        }
        hold_own(&path)?;
        let shown = path.display().to_string();
        let text = String::from_utf8(file::read_plain(&path, TEXT_LIMIT)?)
            .map_err(|e| Error::new(BAD_TRUST, format!("{shown} is not UTF-8 text")).because(e))?;
        let text = parse(&text, &shown)?;
        if let Some(quorum) = text.quorum {
            if quorum < LEAST_QUORUM {
                return Err(Error::new(LOW_QUORUM, format!("{shown} asks for a quorum of {quorum}"))
                    .hint(format!("{LEAST_QUORUM} is the least; a single time --quorum {quorum} does it")));
            }
            trust.quorum = quorum;
        }
        let signers = folder.join("signers");
        for signer in text.signer {
            let key = signers.join(format!("{}.asc", signer.name));
            if !is_plain_name(&signer.name) || !file::is_there(&key)? {
                return Err(no_key(&signer.name, &signers.display().to_string()));
            }
            hold_own(&signers)?;
            hold_own(&key)?;
            trust.add(signer.checked(file::read_plain(&key, KEY_LIMIT)?, true)?, &shown)?;
        }
        // The operator's mirrors are nearer.
        trust.mirrors.splice(0..0, text.mirrors);
        trust.update_keys.extend(text.update_keys);
        trust.revoked.extend(text.revoked);
        Ok(trust)
    }

    fn add(&mut self, signer: Signer, shown: &str) -> Result<()> {
        let twice = |s: &&Signer| s.fingerprint == signer.fingerprint || s.name == signer.name;
        if let Some(there) = self.signers.iter().find(twice) {
            let cause = format!("{shown} adds the signer {}, who is {} already", signer.name, there.name);
            return Err(Error::new(BAD_TRUST, cause).hint("one person counts once"));
        }
        self.signers.push(signer);
        Ok(())
    }

    /// Who may sign the release `version`.
    pub fn signers_of(&self, version: &str) -> Vec<&Signer> {
        let version = numbers(version).unwrap_or_default();
        let may = |s: &&Signer| s.since.is_none_or(|since| since <= version) && s.until.is_none_or(|u| version <= u);
        self.signers.iter().filter(may).collect()
    }
}

impl SignerText {
    fn checked(self, certificate: Vec<u8>, added: bool) -> Result<Signer> {
        let bad = |what: &str| Error::new(BAD_TRUST, format!("the signer {:?} has {what}", self.name));
        if !is_plain_name(&self.name) {
            return Err(bad("no plain name"));
        }
        let is_capital_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if self.fingerprint.len() != 40 || !self.fingerprint.bytes().all(is_capital_hex) {
            return Err(bad("a fingerprint that is not 40 hexadecimal digits in capitals"));
        }
        let version = |v: &Option<String>| {
            v.as_deref().map(|v| numbers(v).ok_or_else(|| bad("a version that is none"))).transpose()
        };
        let (since, until) = (version(&self.since)?, version(&self.until)?);
        Ok(Signer { name: self.name, fingerprint: self.fingerprint, certificate, added, since, until })
    }
}

fn parse(text: &str, shown: &str) -> Result<Text> {
    toml::from_str(text)
        .map_err(|e| Error::new(BAD_TRUST, format!("{shown} cannot be read: {}", e.message())).because(e))
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn no_key(name: &str, folder: &str) -> Error {
    Error::new(NO_KEY, format!("there is no key of the signer {name:?} in {folder}"))
        .hint(format!("put it there: gpg --armor --export FINGERPRINT > {folder}/NAME.asc"))
}

/// Holds that nobody but root and the running user can change `path`.
pub(super) fn hold_own(path: &Path) -> Result<()> {
    let about = std::fs::symlink_metadata(path)
        .map_err(|e| Error::new(OPEN_TO_OTHERS, format!("cannot look at {}: {e}", path.display())))?;
    if user::is_root_or_own(about.uid()) && about.mode() & 0o022 == 0 && !about.is_symlink() {
        return Ok(());
    }
    let shown = path.display();
    Err(Error::new(OPEN_TO_OTHERS, format!("{shown} says whom to believe, and somebody else could have written it"))
        .hint(format!("look at it, then: chown root {shown} && chmod go-w {shown}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_shipped_trust_is_whole() {
        let trust = Trust::shipped();
        assert_eq!((trust.quorum, trust.mirrors.len(), trust.update_keys.len()), (5, 1, 0));
        // As lnd's scripts/verify-install.sh of each version has them.
        for (version, signers) in [
            ("v0.20.0-beta", 13),
            ("v0.20.1-beta", 13),
            ("v0.21.0-beta", 14),
            ("v0.21.1-beta", 14),
            ("v0.21.3-beta", 16),
        ] {
            assert_eq!(trust.signers_of(version).len(), signers, "{version}");
        }
        assert_eq!(KEYS.len(), trust.signers.len(), "no key lies there unused");
    }

    fn folder_with(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("trust.toml"), text).unwrap();
        dir
    }

    #[test]
    fn the_operator_adds_and_is_told_what_is_wrong() {
        let fingerprint = "A".repeat(40);
        let signer = |name: &str, fp: &str| format!("[[signer]]\nname = \"{name}\"\nfingerprint = \"{fp}\"\n");
        let dir = folder_with(&format!("quorum = 3\nmirrors = [\"https://m.example\"]\n{}", signer("x", &fingerprint)));
        assert_eq!(Trust::load(dir.path()).unwrap_err().code(), NO_KEY);
        std::fs::create_dir(dir.path().join("signers")).unwrap();
        std::fs::write(dir.path().join("signers/x.asc"), "key").unwrap();
        let trust = Trust::load(dir.path()).unwrap();
        assert_eq!((trust.quorum, trust.mirrors[0].as_str(), trust.mirrors.len()), (3, "https://m.example", 2));
        assert!(trust.signers_of("v0.20.0-beta").iter().any(|s| s.name == "x" && s.added));
        let roasbeef = "A5B61896952D9FDA83BC054CDC42612E89237182";
        for (text, code) in [
            ("quorum = 1".to_owned(), LOW_QUORUM),
            ("quorum = \"5\"".to_owned(), BAD_TRUST),
            ("x = 1".to_owned(), BAD_TRUST),
            (signer("../x", &fingerprint), NO_KEY),
            (signer("x", &fingerprint.to_lowercase()), BAD_TRUST),
            (signer("x", "AA"), BAD_TRUST),
            (signer("x", roasbeef), BAD_TRUST),
            (signer("x", &fingerprint) + &signer("x", &"B".repeat(40)), BAD_TRUST),
        ] {
            std::fs::write(dir.path().join("trust.toml"), &text).unwrap();
            assert_eq!(Trust::load(dir.path()).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn what_somebody_else_could_write_is_not_believed() {
        let fingerprint = "A".repeat(40);
        let dir = folder_with(&format!("quorum = 3\n[[signer]]\nname = \"x\"\nfingerprint = \"{fingerprint}\"\n"));
        let (file, signers) = (dir.path().join("trust.toml"), dir.path().join("signers"));
        std::fs::create_dir(&signers).unwrap();
        let key = signers.join("x.asc");
        std::fs::write(&key, "key").unwrap();
        for path in [dir.path(), &file, &signers, &key] {
            let before = std::fs::metadata(path).unwrap().permissions();
            std::fs::set_permissions(path, PermissionsExt::from_mode(before.mode() | 0o020)).unwrap();
            assert_eq!(Trust::load(dir.path()).unwrap_err().code(), OPEN_TO_OTHERS, "{}", path.display());
            std::fs::set_permissions(path, before).unwrap();
        }
        Trust::load(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_seen_is_not_taken_for_absent() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(Trust::load(&link).unwrap_err().code(), OPEN_TO_OTHERS);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Trust::load(&file.join("policy")).unwrap_err().code().id, "E-HOST-001");
        assert!(Trust::load(&dir.path().join("absent")).unwrap().folder.is_none());
    }
}
