//! The programs that hold the keys: whose they are, and whether they are what was verified.

use super::{Answer, Place, Signer};
use crate::error::Exit;
use crate::facts;
use crate::host::program::SYSTEM_PATH;
use crate::release::known;
use crate::release::pins::{self, Arch, Status};
use crate::release::trust;
use crate::release::{Installed, Provenance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where lsm puts releases of lnd.
const RELEASES: &str = "/usr/local/lib/lsm/lnd";
/// No lnd has so many bytes; one of today has a sixth of that.
const PROGRAM: u64 = 512 << 20;
/// lsm's programs, each version in a folder: some ten files.
const PROGRAMS: &str = "/usr/local/lib/lsm";
/// More than a host ever has of versions.
const ENTRIES: usize = 400;
/// What root, systemd and the dynamic linker start or load by name or by folder (systemd.unit(5), ld.so(8)), beside
/// the folders of PATH.
const TRUSTED: [&str; 12] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system.control",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
];

/// The programs that hold the keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Binaries {
    /// Of each signer, by its name.
    pub lnd: BTreeMap<String, Answer<Lnd>>,
    /// What lies in lsm's own folder of programs, itself first.
    pub programs: Answer<Vec<Place>>,
    /// Folders that root's programs, systemd's units and libraries come from, and the folders above them.
    pub trusted: Answer<Vec<Place>>,
}

/// The program of one signer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lnd {
    /// Its file.
    pub place: Place,
    /// The folders above it.
    pub way: Answer<Vec<Place>>,
    /// The SHA-256 of its file in hex; unknown where it could not be read.
    pub sha256: Answer<String>,
    /// The process runs this very file; absent where there is no process.
    pub runs: Answer<bool>,
    /// What the policy in force says of it.
    pub judged: Answer<Judged>,
    /// What spoke for it when it was installed, and speaks for it today; absent where lsm did not install it.
    pub vouched: Answer<Vouched>,
}

/// A release, as the policy in force has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The version.
    pub version: String,
    /// The judgement.
    pub status: Status,
    /// Why it is not current.
    pub reason: Option<String>,
    /// It is told by the hash of the program, not by its folder.
    pub by_hash: bool,
    /// The SHA-256 that this version's program has to have on this processor, where lsm knows it.
    pub pinned: Option<String>,
}

/// What speaks for an installed release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// The archive's hash is the one that the policy in force has.
    pub pin_holds: bool,
    /// It was built here from modules with known hashes.
    pub built: bool,
    /// How many of lnd's signers were counted when it was installed, where they were.
    pub counted: Option<usize>,
    /// How many of them are believed today.
    pub believed: usize,
    /// How many there have to be today.
    pub needed: usize,
}

impl Binaries {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        let lnd = signers.iter().map(|signer| (signer.name.clone(), Lnd::look(signer))).collect();
        let trusted = SYSTEM_PATH.split(':').chain(TRUSTED).map(PathBuf::from);
        Self { lnd, programs: below(Path::new(PROGRAMS)), trusted: all_with_ways(trusted) }
    }
}

impl Lnd {
    fn look(signer: &Signer) -> Answer<Self> {
        let path = match file_of(signer) {
            Answer::Is(path) => path,
            Answer::Absent => return Answer::Absent,
            Answer::Unknown(why) => return Answer::Unknown(why),
        };
        let found = signer.here(&path);
        Place::look(&found).map(|place| {
            let sha256 = facts::hash_within(&found, PROGRAM);
            let unread = || Answer::Unknown(format!("{} cannot be read", found.display()));
            let runs = match &signer.process {
                // A container has a copy of the file.
                Answer::Is(process) if signer.docker().is_some() => runs_copy(process.pid, sha256.as_deref()),
                Answer::Is(process) => runs(process.pid, &found),
                Answer::Absent => Answer::Absent,
                Answer::Unknown(why) => Answer::Unknown(why.clone()),
            };
            Self {
                place,
                way: Place::way_to(&found),
                judged: judge(sha256.as_deref(), &path),
                sha256: sha256.map_or_else(unread, Answer::Is),
                runs,
                vouched: vouched(&path),
            }
        })
    }
}

/// The program that the spec names, since that is what an installed signer should run; else the one that runs.
fn file_of(signer: &Signer) -> Answer<PathBuf> {
    match (&signer.spec, &signer.process) {
        (Answer::Is(spec), _) => Answer::Is(Path::new(RELEASES).join(&spec.release).join("lnd")),
        (_, Answer::Is(process)) if process.deleted => {
            Answer::Unknown("the file of the lnd that runs is gone".to_owned())
        }
        (_, Answer::Is(process)) => process.exe.clone(),
        (_, Answer::Absent) => Answer::Absent,
        (_, Answer::Unknown(why)) => Answer::Unknown(why.clone()),
    }
}

/// Through the link to the file itself, whatever has its name by now (proc_pid_exe(5)).
fn runs(pid: u32, file: &Path) -> Answer<bool> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (id(&link), id(file)) {
        (Ok(running), Ok(there)) => Answer::Is(running == there),
        (Err(e), _) => Answer::failed(&link, &e),
        (_, Err(e)) => Answer::failed(file, &e),
    }
}

/// The same by what is in the file.
fn runs_copy(pid: u32, sha256: Option<&str>) -> Answer<bool> {
    match (facts::hash_running(pid, PROGRAM), sha256) {
        (Some(running), Some(there)) => Answer::Is(running == there),
        _ => Answer::Unknown(format!("the program of process {pid} cannot be held against the one on this host")),
    }
}

/// By the hash of the program, else by the version in the name of a folder that it is in.
fn judge(sha256: Option<&str>, path: &Path) -> Answer<Judged> {
    let unknown = |e: crate::error::Error| Answer::Unknown(e.cause().to_owned());
    let arch = match Arch::of_this_machine() {
        Ok(arch) => arch,
        Err(e) => return unknown(e),
    };
    let releases = match known::all() {
        Ok(releases) => releases,
        Err(e) => return unknown(e),
    };
    let pinned = |release: &pins::Release| release.archive.get(&arch).and_then(|pin| pin.lnd.clone());
    let same = releases.iter().find(|release| sha256.is_some() && pinned(release).as_deref() == sha256);
    let judged = |release: &pins::Release, by_hash| Judged {
        version: release.version.clone(),
        status: release.status,
        reason: release.reason.clone(),
        by_hash,
        pinned: pinned(release),
    };
    if let Some(release) = same {
        return Answer::Is(judged(release, true));
    }
    let Some(version) = version_in(path) else { return Answer::Absent };
    match known::find(&version) {
        Ok(release) => Answer::Is(judged(release, false)),
        Err(e) if e.code().exit == Exit::Refused => {
            let reason = Some(e.cause().to_owned());
            Answer::Is(Judged { version, status: Status::Refused, reason, by_hash: false, pinned: None })
        }
        Err(_) => Answer::Absent,
    }
}

/// The version in a folder's name, as lsm and lnd's archives name theirs: `v0.21.3-beta`, `lnd-linux-amd64-v0.21.3-beta`.
fn version_in(path: &Path) -> Option<String> {
    let of_name = |name: &str| {
        let begins = name.match_indices('v').map(|(at, _)| &name[at..]);
        let mut versions =
            begins.filter(|rest| rest[1..].starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.'));
        versions.next().map(str::to_owned)
    };
    path.ancestors().skip(1).find_map(|folder| of_name(folder.file_name()?.to_str()?))
}

/// What the file beside the program says of it, held against whom lsm believes today.
fn vouched(path: &Path) -> Answer<Vouched> {
    let Some(folder) = path.parent().filter(|folder| folder.starts_with(RELEASES)) else { return Answer::Absent };
    let unknown = |e: crate::error::Error| Answer::Unknown(e.cause().to_owned());
    let installed = match Installed::read(folder) {
        Ok(Some(installed)) => installed,
        Ok(None) => return Answer::Absent,
        Err(e) => return unknown(e),
    };
    let trust = match trust::in_force() {
        Ok(trust) => trust,
        Err(e) => return unknown(e),
    };
    let pin = known::find(&installed.version).and_then(|release| release.pin(installed.arch));
    let signers = trust.signers_of(&installed.version);
    let is_believed = |fingerprint: &str| signers.iter().any(|signer| signer.fingerprint == fingerprint);
    let quorum = installed.provenance.iter().find_map(|one| match one {
        Provenance::Quorum(quorum) => Some(quorum),
        _ => None,
    });
    let counted = quorum.map_or(&[][..], |quorum| &quorum.signatures);
    Answer::Is(Vouched {
        pin_holds: pin.is_ok_and(|pin| pin.sha256 == installed.sha256),
        built: installed.provenance.iter().any(|one| matches!(one, Provenance::SourceBuild { .. })),
        counted: quorum.map(|quorum| quorum.signatures.len()),
        believed: counted.iter().filter(|one| is_believed(&one.fingerprint)).count(),
        needed: trust.quorum,
    })
}

/// A folder, then all that is in it. No link is followed.
fn below(folder: &Path) -> Answer<Vec<Place>> {
    let (mut paths, mut next) = (vec![folder.to_owned()], 0);
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let mut inside: Vec<PathBuf> = match std::fs::read_dir(&path) {
                Ok(entries) => entries.flatten().map(|entry| entry.path()).take(ENTRIES).collect(),
                Err(e) => return Answer::failed(&path, &e),
            };
            inside.sort();
            paths.extend(inside);
        }
        if paths.len() > ENTRIES {
            return Answer::Unknown(format!("{} holds more than lsm would put there", folder.display()));
        }
    }
    if paths.len() == 1 && !folder.exists() { Answer::Absent } else { looked_at(paths) }
}

/// Those of `paths` that are there, each once, with the folders above them.
fn all_with_ways(paths: impl Iterator<Item = PathBuf>) -> Answer<Vec<Place>> {
    let real = paths.filter_map(|path| std::fs::canonicalize(path).ok());
    let mut all: Vec<PathBuf> =
        real.flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>()).collect();
    all.sort();
    all.dedup();
    looked_at(all)
}

fn looked_at(paths: Vec<PathBuf>) -> Answer<Vec<Place>> {
    let mut places = Vec::new();
    for path in paths {
        match Place::look(&path) {
            Answer::Is(place) => places.push(place),
            Answer::Absent => {}
            Answer::Unknown(why) => return Answer::Unknown(why),
        }
    }
    Answer::Is(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_the_name_of_a_folder() {
        for (path, version) in [
            ("/usr/local/lib/lsm/lnd/v0.21.3-beta/lnd", Some("v0.21.3-beta")),
            ("/opt/lnd-linux-amd64-v0.20.0-beta/lnd", Some("v0.20.0-beta")),
            ("/opt/v0.18.5-beta/bin/lnd", Some("v0.18.5-beta")),
            ("/usr/local/bin/lnd", None),
            ("/srv/vault/lnd", None),
            ("/srv/v2/lnd", None),
        ] {
            assert_eq!(version_in(Path::new(path)).as_deref(), version, "{path}");
        }
    }

    #[test]
    fn an_lnd_is_judged_by_its_hash_before_its_folder() {
        let Ok(arch) = Arch::of_this_machine() else { return };
        let release = known::find("v0.20.0-beta").unwrap();
        let Some(hash) = release.pin(arch).unwrap().lnd.as_deref() else { return };
        let judged = |hash, path| match judge(hash, Path::new(path)) {
            Answer::Is(judged) => Some((judged.version, judged.status, judged.by_hash)),
            _ => None,
        };
        let old = |by_hash| Some(("v0.20.0-beta".to_owned(), Status::NeedsAcceptRisk, by_hash));
        assert_eq!(judged(Some(hash), "/x/v0.21.3-beta/lnd"), old(true));
        assert_eq!(judged(Some("00"), "/x/v0.20.0-beta/lnd"), old(false));
        assert_eq!(judged(None, "/x/lnd"), None);
        let refused = ("v0.18.5-beta".to_owned(), Status::Refused, false);
        assert_eq!(judged(None, "/x/v0.18.5-beta/lnd"), Some(refused));
    }
}
