//! Seeds, macaroons and bundles that lie about where people and backups put things.

use super::words::{SHORTEST, holds_seed};
use crate::error::Result;
use crate::facts::audit::place::shown;
use crate::facts::audit::{Answer, Place, unescape};
use crate::host::file;
use crate::secret::Secret;
use crate::signer::macaroon::Macaroon;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where people put files, and programs copies of them.
const ROOTS: [&str; 9] =
    ["/root", "/home", "/srv", "/opt", "/tmp", "/var/tmp", "/var/backups", "/var/lib/lsm/bundle", "/etc"];
/// So deep below them, and so many files and folders of each owner: some ten milliseconds. A signer's host has not half of that. A
/// folder into which anybody may put something counts for itself: nobody's heap of files hides another's.
const DEPTH: usize = 6;
const ENTRIES: usize = 4000;
/// So many in all.
const ALL_ENTRIES: usize = 100_000;
/// The longest text that is taken for one that somebody saved a seed in: numbered, in columns, with a line of comment.
const LONGEST: u64 = 1024;
/// A shell keeps some thousand lines.
const HISTORY: u64 = 2 << 20;
/// A macaroon with every permission has some 300 bytes.
const MACAROON: u64 = 8 << 10;
/// Files that a bundle has, beside its certificate and its macaroon, and what the beginning of each has in it: many another
/// program has an accounts.json. The archive is gzip in base64.
const BUNDLE: [(&str, &[&str]); 3] = [
    ("accounts.json", &["\"accounts\"", "\"extended_public_key\""]),
    ("bundle.json", &["\"format\"", "\"identity_pubkey\""]),
    (crate::bundle::ARCHIVE, &["H4sI"]),
];
/// Its macaroon, whatever that permits.
const ITS_MACAROON: &str = "admin.macaroon";
/// The first of 259 accounts ends before.
const BEGINNING: u64 = 4 << 10;
/// File systems that another machine or a user's program answers for, and may never answer.
const FOREIGN: [&str; 7] = ["nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs"];

/// A macaroon that lies about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How it lies there.
    pub place: Place,
    /// What it permits, as `entity:action`.
    pub permissions: Vec<String>,
    /// It lies beside other parts of a bundle.
    pub in_bundle: bool,
}

/// Whose files are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Heap {
    /// All of one owner's folders.
    Of(u32),
    /// A folder into which others than its owner may put something.
    Shared(PathBuf),
}

impl Heap {
    fn of(folder: &Path) -> Self {
        match std::fs::symlink_metadata(folder) {
            Ok(meta) if meta.mode() & 0o022 == 0 => Self::Of(meta.uid()),
            _ => Self::Shared(folder.to_owned()),
        }
    }
}

/// What lies about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strewn {
    /// Files with the 24 words of a seed.
    pub seeds: Vec<String>,
    /// Macaroons outside of lnd's own folders.
    pub macaroons: Vec<Found>,
    /// Parts of bundles.
    pub bundles: Vec<Place>,
    /// Of those and of the macaroons, the paths of what lies below a folder that lets only its owner in.
    pub guarded: BTreeSet<String>,
    /// Folders that this user may not look into, and what could not be read.
    pub unseen: Vec<String>,
    /// The search ended before everything was seen.
    pub cut_short: bool,
}

impl Strewn {
    /// Searches, in `own` (lnd's own folders) for seeds alone.
    pub(super) fn search(own: &[PathBuf]) -> Self {
        let own: Vec<PathBuf> = own.iter().filter(|own| hides_no_root(own)).cloned().collect();
        let roots = ROOTS.iter().map(PathBuf::from).chain(own.iter().cloned());
        Self::search_in(roots.collect(), &own, &foreign_mounts())
    }

    fn search_in(roots: Vec<PathBuf>, own: &[PathBuf], foreign: &BTreeSet<PathBuf>) -> Self {
        let mut strewn = Self::default();
        // What is near comes first: a deep heap of files hides nothing that lies at the top.
        let mut folders: VecDeque<(PathBuf, usize)> = roots.into_iter().map(|root| (root, 0)).collect();
        let (mut seen, mut all, mut been) = (BTreeMap::new(), 0, BTreeSet::new());
        while let Some((folder, depth)) = folders.pop_front() {
            // One of lnd's folders may be below another root.
            if !been.insert(folder.clone()) {
                continue;
            }
            if foreign.contains(&folder) {
                strewn.unseen.push(format!("{}, which another machine or program answers for", shown(&folder)));
                continue;
            }
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(_) => {
                    strewn.unseen.push(shown(&folder));
                    continue;
                }
            };
            let is_own = own.iter().any(|own| folder.starts_with(own));
            let of_heap: &mut usize = seen.entry(Heap::of(&folder)).or_default();
            for entry in entries.flatten() {
                (*of_heap, all) = (*of_heap + 1, all + 1);
                if *of_heap > ENTRIES || all > ALL_ENTRIES {
                    strewn.cut_short = true;
                    break;
                }
                // The entry's own kind: no link is followed.
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && depth < DEPTH {
                    folders.push_back((entry.path(), depth + 1));
                } else if kind.is_dir() {
                    strewn.cut_short = true;
                } else if kind.is_file() {
                    strewn.look(&entry.path(), is_own);
                }
            }
        }
        strewn.sorted()
    }

    fn look(&mut self, path: &Path, is_own: bool) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.contains("macaroon") && !is_own {
            self.look_at_macaroon(path);
        } else if !is_own && self.is_part(path, name) {
            let place = self.place(path);
            self.bundles.extend(place);
        } else {
            self.look_for_seed(path, name.ends_with("_history"));
        }
    }

    /// True of a part of a bundle: by its name, and by how it begins or what lies beside it.
    fn is_part(&mut self, path: &Path, name: &str) -> bool {
        let Some((_, words)) = BUNDLE.iter().find(|(part, _)| *part == name) else { return false };
        let is_macaroon = |bytes| Macaroon::parse(bytes).is_ok();
        if file::read_plain(&path.with_file_name(ITS_MACAROON), MACAROON).is_ok_and(is_macaroon) {
            return true;
        }
        match beginning(path) {
            Ok(text) => words.iter().all(|word| text.expose().windows(word.len()).any(|part| part == word.as_bytes())),
            // What is gone by now is not there.
            Err(_) if !path.exists() => false,
            Err(_) => {
                self.unseen.push(shown(path));
                false
            }
        }
    }

    fn look_for_seed(&mut self, path: &Path, is_history: bool) {
        let Ok(meta) = std::fs::symlink_metadata(path) else { return };
        if !is_history && !(SHORTEST..=LONGEST).contains(&meta.len()) {
            return;
        }
        match file::read_plain(path, if is_history { HISTORY } else { LONGEST }).map(Secret::new) {
            Ok(text) if holds_seed(text.expose()) => self.seeds.push(shown(path)),
            Ok(_) => {}
            // What is gone by now is not there.
            Err(_) if !path.exists() => {}
            Err(_) => self.unseen.push(shown(path)),
        }
    }

    fn look_at_macaroon(&mut self, path: &Path) {
        let Ok(meta) = std::fs::symlink_metadata(path) else { return };
        let read = match file::read_plain(path, MACAROON) {
            // Something else by that name is no secret.
            Ok(bytes) => Macaroon::parse(bytes),
            Err(_) if meta.len() > MACAROON => return,
            Err(_) => return self.unseen.push(shown(path)),
        };
        let Ok(macaroon) = read else { return };
        let permissions = macaroon.permissions().iter().map(ToString::to_string).collect();
        let in_bundle = path.parent().is_some_and(|folder| folder.join(BUNDLE[0].0).exists());
        if let Some(place) = self.place(path) {
            self.macaroons.push(Found { place, permissions, in_bundle });
        }
    }

    /// How it lies there; what cannot be looked at was not seen.
    fn place(&mut self, path: &Path) -> Option<Place> {
        match Place::look(path) {
            Answer::Is(place) => {
                if is_guarded(path) {
                    self.guarded.insert(place.path.clone());
                }
                return Some(place);
            }
            Answer::Absent => {}
            Answer::Unknown(_) => self.unseen.push(shown(path)),
        }
        None
    }

    /// Folders are listed in no order; what is found has to be the same on two runs.
    fn sorted(mut self) -> Self {
        self.seeds.sort();
        self.unseen.sort();
        self.macaroons.sort_by(|a, b| a.place.path.cmp(&b.place.path));
        self.bundles.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }
}

/// How a file begins that somebody else may have made.
fn beginning(path: &Path) -> Result<Secret> {
    let mut bytes = Vec::with_capacity(BEGINNING as usize + 1);
    let read = file::open_plain(path)?.take(BEGINNING).read_to_end(&mut bytes);
    read.map(|_| Secret::new(bytes)).map_err(|e| file::cannot_read(path, &e))
}

/// Whoever starts an lnd says where its folder is: one that has a place in it where others keep things would hide all of that.
fn hides_no_root(own: &Path) -> bool {
    !ROOTS.iter().any(|root| Path::new(root).starts_with(own))
}

/// True where a folder above lets nobody through but its owner.
fn is_guarded(path: &Path) -> bool {
    let is_closed =
        |folder: &Path| matches!(Place::look(folder), Answer::Is(place) if !place.acl && place.mode & 0o011 == 0);
    path.ancestors().skip(1).any(is_closed)
}

/// Where file systems begin that this machine's kernel does not answer for alone (proc_pid_mountinfo(5)).
fn foreign_mounts() -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        FOREIGN.iter().any(|foreign| kind.starts_with(foreign)).then(|| before.split(' ').nth(4).map(unescape))?
    };
    text.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::fs::PermissionsExt;

    const ACCOUNTS: &str = "{\"accounts\": [{\"name\": \"default\", \"extended_public_key\": \"tpub\"}]}";

    fn search(folder: &Path, own: &[PathBuf]) -> Strewn {
        Strewn::search_in(vec![folder.to_owned()], own, &BTreeSet::new())
    }

    #[test]
    fn no_folder_that_an_lnd_claims_hides_what_others_keep() {
        for (own, is_one) in
            [("/", false), ("/home", false), ("/var", false), ("/root/.lnd", true), ("/var/lib/lsm", false)]
        {
            assert_eq!(hides_no_root(Path::new(own)), is_one, "{own}");
        }
    }

    #[test]
    fn seeds_are_found_and_hostile_names_wait_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let seed = vec!["abandon"; 24].join("\n");
        std::fs::create_dir_all(at("a/own")).unwrap();
        std::fs::write(at("a/note"), &seed).unwrap();
        std::fs::write(at("a/own/seed"), &seed).unwrap();
        std::fs::write(at(".bash_history"), format!("ls\n{}\n", seed.replace('\n', " "))).unwrap();
        std::fs::write(at("plain.macaroon"), "no macaroon").unwrap();
        std::fs::write(at("accounts.json"), ACCOUNTS).unwrap();
        for name in ["x.macaroon", "y_history", "bundle.json"] {
            nix::unistd::mkfifo(&at(name), Mode::S_IRUSR).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), at("loop")).unwrap();
        let found = search(dir.path(), &[at("a/own")]);
        let names: Vec<_> = found.seeds.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, [".bash_history", "note", "seed"]);
        assert_eq!((found.macaroons.len(), found.bundles.len(), found.unseen.len()), (0, 1, 0));
        assert!(!found.cut_short);
    }

    #[test]
    fn a_file_is_of_a_bundle_by_what_is_in_it_or_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let is_of_one = |name: &str, text: &str| {
            std::fs::write(at(name), text).unwrap();
            let found = search(dir.path(), &[]);
            std::fs::remove_file(at(name)).unwrap();
            assert_eq!(found.unseen, [""; 0]);
            !found.bundles.is_empty()
        };
        let about = "{\"format\": 1, \"identity_pubkey\": \"02\"}";
        for (name, text, is) in [
            ("accounts.json", ACCOUNTS, true),
            // What a copy was cut off at.
            ("accounts.json", &ACCOUNTS[..60], true),
            ("accounts.json", "{\"accounts\": [{\"name\": \"eve\"}]}", false),
            ("accounts.json", "", false),
            ("bundle.json", about, true),
            ("bundle.json", "{\"format\": \"esm\"}", false),
            (crate::bundle::ARCHIVE, "H4sIAAAAAAAAA+3", true),
            (crate::bundle::ARCHIVE, "none", false),
            ("other.json", ACCOUNTS, false),
        ] {
            assert_eq!(is_of_one(name, text), is, "{name}: {text}");
        }
        let macaroon = [&[2_u8, 2, 1, 3, 0, 0, 6, 32][..], &[9; 32]].concat();
        std::fs::write(at("admin.macaroon"), macaroon).unwrap();
        assert!(is_of_one("accounts.json", ""), "it lies beside a macaroon");
        std::fs::write(at("admin.macaroon"), "none").unwrap();
        assert!(!is_of_one("accounts.json", ""));
        // A seed is one whatever its file is called.
        std::fs::write(at("accounts.json"), vec!["abandon"; 24].join(" ")).unwrap();
        assert_eq!(search(dir.path(), &[]).seeds.len(), 1);
    }

    #[test]
    fn a_closed_folder_guards_what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("accounts.json"), ACCOUNTS).unwrap();
        for (mode, guarded) in [(0o755, 0), (0o711, 0), (0o700, 1)] {
            std::fs::set_permissions(dir.path().join("a"), PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(search(dir.path(), &[]).guarded.len(), guarded, "{mode:o}");
        }
    }

    #[test]
    fn a_search_has_an_end_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let deep = (0..=DEPTH).fold(dir.path().to_owned(), |path, n| path.join(n.to_string()));
        std::fs::create_dir_all(&deep).unwrap();
        assert!(search(dir.path(), &[]).cut_short);
        let dir = tempfile::tempdir().unwrap();
        (0..=ENTRIES).for_each(|n| std::fs::write(dir.path().join(n.to_string()), "").unwrap());
        assert!(search(dir.path(), &[]).cut_short);
    }

    #[test]
    fn a_heap_where_anybody_puts_files_hides_nothing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (heap, deep) = (dir.path().join("a"), dir.path().join("b/c/d"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(&heap).unwrap();
        std::fs::set_permissions(&heap, PermissionsExt::from_mode(0o1777)).unwrap();
        (0..=ENTRIES).for_each(|n| std::fs::write(heap.join(n.to_string()), "").unwrap());
        std::fs::write(deep.join("note"), vec!["abandon"; 24].join("\n")).unwrap();
        let found = search(dir.path(), &[]);
        assert_eq!((found.seeds.len(), found.cut_short), (1, true));
    }

    #[test]
    fn what_another_machine_answers_for_was_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a b")).unwrap();
        let foreign = BTreeSet::from([unescape(&format!("{}/a\\040b", dir.path().display()))]);
        assert_eq!(Strewn::search_in(vec![dir.path().to_owned()], &[], &foreign).unseen.len(), 1);
        assert_eq!(unescape("/x\\134y\\"), Path::new("/x\\y\\"));
    }
}
