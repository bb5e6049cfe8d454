//! What an update may change: it adds, and it makes stricter. What is pinned stays, and no judgement becomes milder.

use crate::error::{Code, Error, Result, plain};
use crate::release::pins::{Arch, Release, Source, Status, numbers};
use crate::release::policy::Oldest;
use crate::release::policy::Policy;
use crate::release::policy::update::{Update, believed, is_revoked};
use crate::release::trust::Trust;
use serde::Serialize;
use serde_json::json;
use std::cmp::Reverse;

const MILDER: Code = Code::unverified("E-UPDATE-011");
const OTHER_PIN: Code = Code::unverified("E-UPDATE-012");
const BAD_KEYS: Code = Code::unverified("E-UPDATE-013");

/// One thing that an update changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A release that was not known.
    Release {
        /// Its tag.
        version: String,
        /// Its judgement.
        status: Status,
    },
    /// A judgement that is stricter now, or has another reason.
    Judgement {
        /// The tag of the release.
        version: String,
        /// What it was.
        from: Status,
        /// What it is.
        to: Status,
        /// Why.
        reason: String,
    },
    /// The pin of an archive that had none, or whose pin had expired.
    Archive {
        /// The tag of the release.
        version: String,
        /// The processor.
        arch: Arch,
        /// The SHA-256, in hexadecimal.
        sha256: String,
    },
    /// The source of a release that had none, or whose source had expired.
    Source {
        /// The tag of the release.
        version: String,
        /// The module hash.
        module: String,
    },
    /// A Go toolchain that was not known, or had expired.
    Toolchain {
        /// The Go version.
        go: String,
        /// The processor that it runs on.
        arch: Arch,
    },
    /// More old versions are refused.
    Oldest {
        /// The oldest version that is not.
        version: String,
        /// Why.
        reason: String,
    },
    /// A key that may sign updates from now on.
    KeyAdded {
        /// Its id.
        key: String,
    },
    /// A key that may sign none any more.
    KeyRevoked {
        /// Its id.
        key: String,
    },
}

impl Change {
    /// One line for a person; what it quotes is escaped.
    pub fn describe(&self) -> String {
        let word = |status: &Status| json!(status).as_str().unwrap_or_default().to_owned();
        plain(&match self {
            Self::Release { version, status } => format!("new: lnd {version}, {}", word(status)),
            Self::Judgement { version, from, to, reason } => {
                format!("lnd {version}: {} instead of {}: {reason}", word(to), word(from))
            }
            Self::Archive { version, arch, sha256 } => format!("lnd {version} for {arch} is pinned: sha256 {sha256}"),
            Self::Source { version, module } => format!("the source of lnd {version} is pinned: {module}"),
            Self::Toolchain { go, arch } => format!("the toolchain of Go {go} for {arch} is pinned"),
            Self::Oldest { version, reason } => format!("what is older than {version} is refused: {reason}"),
            Self::KeyAdded { key } => format!("the key {key} may sign updates from now on"),
            Self::KeyRevoked { key } => format!("the key {key} may sign no update any more"),
        })
    }
}

/// Holds that an update leaves the update keys in order: none comes back that was revoked, none takes the id of
/// another, and one is left.
///
/// # Errors
/// Where it does not.
pub(in crate::release) fn check_keys(policy: &Policy, update: &Update, trust: &Trust) -> Result<()> {
    let known = believed(policy, trust)?;
    for key in update.added_keys()? {
        let id = key.id();
        if is_revoked(id, policy, trust) || update.keys.revoke.iter().any(|revoked| revoked == id) {
            return Err(Error::new(BAD_KEYS, format!("this update adds the key {id}, which is revoked"))
                .hint("a revoked key never comes back; make a new one"));
        }
        if known.iter().any(|there| there.id() == id && *there != key) {
            return Err(Error::new(BAD_KEYS, format!("this update adds another key with the id {id}")));
        }
    }
    let mut after = policy.clone();
    change_keys(&mut after, update)?;
    if !update.keys.revoke.is_empty() && believed(&after, trust)?.is_empty() {
        return Err(Error::new(BAD_KEYS, "this update would leave no key that may sign the next one")
            .hint("add the new key first, and revoke the old one with it or later"));
    }
    Ok(())
}

/// Adds what `update` says to `policy`. The pins of one that is not `live` are known, and not used.
///
/// # Errors
/// Where it would change a pin or make a judgement milder, or what comes out is not whole.
pub(in crate::release) fn add(policy: &mut Policy, update: &Update, live: bool) -> Result<Vec<Change>> {
    let mut changes = change_keys(policy, update)?;
    add_toolchains(policy, update, live, &mut changes)?;
    for release in &update.release {
        match policy.release.iter_mut().find(|known| known.version == release.version) {
            Some(known) => change_release(known, release, update, live, &mut changes)?,
            None => add_release(policy, release, update, live, &mut changes),
        }
    }
    if let Some(oldest) = &update.oldest {
        if oldest.version < policy.oldest.version {
            let cause =
                format!("this update admits lnd {} again, which is refused for its age", dotted(oldest.version));
            return Err(milder(&cause));
        }
        raise_oldest(policy, oldest, &mut changes);
    }
    refuse_older(policy, update, &mut changes);
    policy.release.sort_by_key(|r| Reverse(numbers(&r.version)));
    policy.counter = update.counter;
    policy.check()?;
    Ok(changes)
}

/// Takes from `update` only what makes `policy` stricter, and its keys.
pub(in crate::release) fn tighten(policy: &mut Policy, update: &Update) {
    let mut stricter = policy.clone();
    for release in &update.release {
        match stricter.release.iter_mut().find(|known| known.version == release.version) {
            Some(known) if known.status < release.status => judge_anew(known, release, update),
            Some(_) => {}
            None if release.status < Status::NeedsAcceptRisk || has_numbers_of(policy, release) => {}
            None => {
                let bare = Release { source: None, archive: Default::default(), ..release.clone() };
                stricter.release.push(Release { judged: update.origin(), ..bare });
            }
        }
    }
    if let Some(oldest) = update.oldest.as_ref().filter(|o| o.version > stricter.oldest.version) {
        raise_oldest(&mut stricter, oldest, &mut Vec::new());
    }
    refuse_older(&mut stricter, update, &mut Vec::new());
    stricter.release.sort_by_key(|r| Reverse(numbers(&r.version)));
    if change_keys(&mut stricter, update).is_ok() && stricter.check().is_ok() {
        *policy = stricter;
    }
}

fn has_numbers_of(policy: &Policy, release: &Release) -> bool {
    policy.release.iter().any(|known| numbers(&known.version) == numbers(&release.version))
}

fn change_keys(policy: &mut Policy, update: &Update) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for key in update.added_keys()? {
        if !policy.keys.contains(&key) {
            changes.push(Change::KeyAdded { key: key.id().to_owned() });
            policy.keys.push(key);
        }
    }
    for id in &update.keys.revoke {
        if policy.revoked.insert(id.clone()) {
            changes.push(Change::KeyRevoked { key: id.clone() });
        }
    }
    Ok(changes)
}

fn add_toolchains(policy: &mut Policy, update: &Update, live: bool, changes: &mut Vec<Change>) -> Result<()> {
    for (go, arch, toolchain) in
        update.toolchain.iter().flat_map(|(go, archs)| archs.iter().map(move |(arch, t)| (go, *arch, t)))
    {
        let known = policy.toolchain.entry(go.clone()).or_default();
        match known.get(&arch) {
            Some(there) if there.hash != toolchain.hash => {
                return Err(other(&format!("the toolchain of Go {go} for {arch}")));
            }
            Some(there) if !(there.expired && live) => {}
            _ => {
                let mut added = toolchain.clone();
                (added.origin, added.expired) = (update.origin(), !live);
                known.insert(arch, added);
                changes.push(Change::Toolchain { go: go.clone(), arch });
            }
        }
    }
    Ok(())
}

fn add_release(policy: &mut Policy, release: &Release, update: &Update, live: bool, changes: &mut Vec<Change>) {
    let mut added = Release { judged: update.origin(), ..release.clone() };
    changes.push(Change::Release { version: added.version.clone(), status: added.status });
    if let Some(source) = &mut added.source {
        (source.origin, source.expired) = (update.origin(), !live);
        changes.push(Change::Source { version: added.version.clone(), module: source.module.clone() });
    }
    for (arch, pin) in &mut added.archive {
        (pin.origin, pin.expired) = (update.origin(), !live);
        changes.push(Change::Archive { version: added.version.clone(), arch: *arch, sha256: pin.sha256.clone() });
    }
    policy.release.push(added);
}

fn change_release(
    known: &mut Release,
    release: &Release,
    update: &Update,
    live: bool,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let version = &release.version;
    if release.status < known.status {
        return Err(milder(&format!("this update judges lnd {version} milder than before")));
    }
    if release.pinned != known.pinned {
        return Err(other(&format!("the day on which lnd {version} was pinned")));
    }
    if release.status > known.status || release.reason != known.reason {
        let (from, to, reason) = (known.status, release.status, release.reason.clone().unwrap_or_default());
        changes.push(Change::Judgement { version: version.clone(), from, to, reason });
        judge_anew(known, release, update);
    }
    if let Some(source) = &release.source {
        add_source(known, source, update, live, changes)?;
    }
    for (arch, pin) in &release.archive {
        match known.archive.get(arch) {
            Some(there) if (&there.sha256, &there.lnd, &there.lncli) != (&pin.sha256, &pin.lnd, &pin.lncli) => {
                return Err(other(&format!("the archive of lnd {version} for {arch}")));
            }
            Some(there) if !(there.expired && live) => {}
            _ => {
                let mut added = pin.clone();
                (added.origin, added.expired) = (update.origin(), !live);
                known.archive.insert(*arch, added);
                changes.push(Change::Archive { version: version.clone(), arch: *arch, sha256: pin.sha256.clone() });
            }
        }
    }
    Ok(())
}

fn add_source(
    known: &mut Release,
    source: &Source,
    update: &Update,
    live: bool,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let what = |s: &Source| (s.go.clone(), s.commit.clone(), s.time, s.module.clone());
    match &known.source {
        Some(there) if what(there) != what(source) => Err(other(&format!("the source of lnd {}", known.version))),
        Some(there) if !(there.expired && live) => Ok(()),
        _ => {
            let mut added = source.clone();
            (added.origin, added.expired) = (update.origin(), !live);
            changes.push(Change::Source { version: known.version.clone(), module: added.module.clone() });
            known.source = Some(added);
            Ok(())
        }
    }
}

fn judge_anew(known: &mut Release, release: &Release, update: &Update) {
    known.status = release.status;
    known.reason.clone_from(&release.reason);
    known.judged = update.origin();
}

fn raise_oldest(policy: &mut Policy, oldest: &Oldest, changes: &mut Vec<Change>) {
    if oldest.version > policy.oldest.version {
        changes.push(Change::Oldest { version: dotted(oldest.version), reason: oldest.reason.clone() });
        policy.oldest = oldest.clone();
    }
}

/// What is older than the oldest is refused, also where it was known.
fn refuse_older(policy: &mut Policy, update: &Update, changes: &mut Vec<Change>) {
    let oldest = &policy.oldest;
    for release in &mut policy.release {
        if release.status == Status::Refused || numbers(&release.version).is_none_or(|n| n >= oldest.version) {
            continue;
        }
        let (version, from, reason) = (release.version.clone(), release.status, oldest.reason.clone());
        (release.status, release.judged, release.reason) = (Status::Refused, update.origin(), Some(reason.clone()));
        changes.push(Change::Judgement { version, from, to: Status::Refused, reason });
    }
}

fn dotted(version: [u32; 3]) -> String {
    version.map(|n| n.to_string()).join(".")
}

fn milder(cause: &str) -> Error {
    Error::new(MILDER, cause).hint("an update may only make it stricter; a milder judgement needs a newer lsm")
}

fn other(what: &str) -> Error {
    Error::new(OTHER_PIN, format!("this update changes {what}, which is pinned"))
        .hint("what is pinned never changes; tell who signed it")
}
