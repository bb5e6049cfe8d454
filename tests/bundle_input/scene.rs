//! A signer, a second one, a watch-only machine's folder, and bundles of every kind for it.

use crate::lab;
use crate::lab::process::{self, Done};
use crate::node::make_certificate;
use crate::node::signer::Signer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder};
use lsm::signer::macaroon::{self, Permission};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::EntryType;

pub const ACCOUNTS: &str = "accounts.json";
pub const CERTIFICATE: &str = "tls.cert";
pub const MACAROON: &str = "admin.macaroon";
pub const ABOUT: &str = "bundle.json";
pub const MEMBERS: [&str; 4] = [ACCOUNTS, CERTIFICATE, MACAROON, ABOUT];
/// More than a member may have.
pub const TOO_LARGE: usize = (8 << 20) + 1;

/// A signer, a second one, and a watch-only machine's folder with the first one's bundle.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub signer: Signer,
    pub other: Signer,
    /// How many sources were made.
    pub made: std::cell::Cell<u32>,
}

/// An entry of a tar, as a hostile one may be.
pub struct Entry<'a> {
    pub name: &'a str,
    pub kind: EntryType,
    pub mode: u32,
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    pub fn plain(name: &'a str, content: &'a [u8]) -> Self {
        Self { name, kind: EntryType::Regular, mode: 0o644, content }
    }
}

fn gzipped_tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        // As it stands: the library would refuse some of these names.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        if matches!(entry.kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Every file and folder below `folder`, with mode and content.
pub fn listing(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { vec![] };
        found.insert(path.clone(), (meta.permissions().mode(), content));
        if meta.is_dir() {
            found.extend(listing(&path));
        }
    }
    found
}

impl Scene {
    pub fn lnddir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    pub fn good(&self, name: &str) -> Vec<u8> {
        fs::read(self.signer.bundle.join(name)).unwrap()
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.signer.bundle.join("credentials-bundle.tar.gz.b64")).unwrap()
    }

    /// A place for a source that nothing is at yet.
    pub fn place(&self) -> PathBuf {
        self.made.set(self.made.get() + 1);
        self.folder.path().join(format!("source-{}", self.made.get()))
    }

    /// A file with this content.
    pub fn file(&self, bytes: impl AsRef<[u8]>) -> String {
        let place = self.place();
        fs::write(&place, bytes).unwrap();
        place.to_str().unwrap().to_owned()
    }

    /// An archive's file.
    pub fn archive(&self, entries: &[Entry<'_>]) -> String {
        self.file(STANDARD.encode(gzipped_tar(entries)))
    }

    /// The good members in an archive, the first of them as `change` makes it.
    pub fn archive_with(&self, change: impl FnOnce(&mut Entry<'_>)) -> String {
        let contents = MEMBERS.map(|name| self.good(name));
        let mut entries: Vec<_> =
            MEMBERS.iter().zip(&contents).map(|(name, content)| Entry::plain(name, content)).collect();
        change(&mut entries[0]);
        self.archive(&entries)
    }

    /// The good members in an archive, with one more.
    pub fn archive_and(&self, more: Entry<'_>) -> String {
        let contents = MEMBERS.map(|name| self.good(name));
        let mut entries: Vec<_> =
            MEMBERS.iter().zip(&contents).map(|(name, content)| Entry::plain(name, content)).collect();
        entries.push(more);
        self.archive(&entries)
    }

    /// A copy of the good folder, as `change` makes it.
    pub fn folder_with(&self, change: impl FnOnce(&Path)) -> String {
        let place = self.place();
        fs::create_dir(&place).unwrap();
        for name in MEMBERS {
            fs::write(place.join(name), self.good(name)).unwrap();
        }
        change(&place);
        place.to_str().unwrap().to_owned()
    }

    /// The same with one member that says something else, and bundle.json agreeing with it.
    pub fn folder_with_member(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.folder_with(|folder| {
            fs::write(folder.join(name), content).unwrap();
            rehash(folder);
        })
    }

    /// The same with a field of bundle.json that says something else.
    pub fn folder_with_field(&self, field: &str, value: Value) -> String {
        self.folder_with(|folder| set_field(folder, field, value))
    }

    pub fn certificate(&self, days: (i64, i64)) -> String {
        make_certificate(&["127.0.0.1"], days).certificate
    }

    /// A macaroon of the signer's, as a file's bytes.
    pub fn baked(&self, permissions: &[Permission], key: u64) -> Vec<u8> {
        self.signer.owner().bake(permissions, key).unwrap().expose().to_vec()
    }

    /// A macaroon of the signer's that is over by the time it is used.
    pub fn expired_macaroon(&self) -> Vec<u8> {
        let (admin, made) = (self.place(), self.place());
        fs::write(&admin, self.signer.admin.expose()).unwrap();
        let [admin, save_to] =
            [("macaroonpath", &admin), ("save_to", &made)].map(|(n, p)| format!("--{n}={}", p.display()));
        let uris = macaroon::SIGNER_URIS.map(|uri| format!("uri:{uri}"));
        let mut args = vec![&*admin, "bakemacaroon", "--timeout=1", &save_to];
        args.extend(uris.iter().map(String::as_str));
        self.signer.lnd.lncli(&args);
        std::thread::sleep(std::time::Duration::from_secs(1));
        fs::read(made).unwrap()
    }

    pub fn least(&self) -> Vec<Permission> {
        macaroon::signer_permissions(false, &self.signer.owner().known_uris().unwrap()).unwrap()
    }

    pub fn import(&self, source: &str, more: &[&str]) -> Done {
        lsm(&["bundle", "import"], source, &self.lnddir(), more)
    }

    /// Holds that the import of `source` fails with `code` and these words, and costs nothing.
    #[track_caller]
    pub fn is_refused(&self, what: &str, source: &str, more: &[&str], (code, words): (&str, &str)) {
        let before = listing(&self.lnddir());
        let done = self.import(source, more);
        hold_told(what, &done, code, words);
        assert!(listing(&self.lnddir()) == before, "{what}");
    }

    /// The same of what only the signer can tell, at `watch-only init`: into the folder with the good bundle and a new one.
    #[track_caller]
    pub fn is_refused_by_the_signer(&self, what: &str, source: &str, fault: (&str, &str)) {
        let new = self.place();
        for (lnddir, fault) in [(self.lnddir(), fault), (new.clone(), fault)] {
            let before = listing(&lnddir);
            hold_told(what, &lsm(&["watch-only", "init"], source, &lnddir, &[]), fault.0, fault.1);
            assert!(listing(&lnddir) == before, "{what}");
        }
        assert!(!new.exists(), "{what}");
    }
}

/// Runs a verb that takes a bundle and lnd's folder.
pub fn lsm(verb: &[&str], source: &str, lnddir: &Path, more: &[&str]) -> Done {
    let mut command = Command::new(lab::LSM);
    command.args(verb).arg("--bundle").arg(source).arg("--lnddir").arg(lnddir).args(more);
    process::run(command)
}

/// Holds a failed run to one line of cause with its code, one of hint at most, and these words.
#[track_caller]
pub fn hold_told(what: &str, done: &Done, code: &str, words: &str) {
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!([1, 2, 4].contains(&done.code) && done.stdout.is_empty(), "{what}: {done:?}");
    assert!(lines.len() <= 2 && lines[0].starts_with("error: "), "{what}: {done:?}");
    assert!(lines[0].contains(&format!("[{code}]")), "{what}: wanted {code}: {done:?}");
    assert!(done.stderr.contains(words), "{what}: wanted {words:?}: {done:?}");
    assert!(done.stderr.len() < 1000, "{what}: {done:?}");
}

pub fn set_field(folder: &Path, field: &str, value: Value) {
    let mut about: Value = serde_json::from_slice(&fs::read(folder.join(ABOUT)).unwrap()).unwrap();
    about[field] = value;
    fs::write(folder.join(ABOUT), about.to_string()).unwrap();
}

/// Has bundle.json agree with what lies beside it, as whoever altered it would.
pub fn rehash(folder: &Path) {
    let hash =
        |name: &&str| ((*name).to_owned(), json!(hex::encode(Sha256::digest(fs::read(folder.join(name)).unwrap()))));
    let hashes: serde_json::Map<String, Value> = MEMBERS[..3].iter().map(hash).collect();
    set_field(folder, "sha256", hashes.into());
}
