//! The whole of what is known of lnd's releases at one time: what is shipped, what updates added, and what makes it whole.

pub(super) mod chain;
pub mod judge;
pub(super) mod merge;
pub mod minisign;
pub mod signed;
mod update;

use crate::error::{Code, Error, Result};
use crate::release::pins::{Arch, REFUSED, Release, Status, Toolchain, numbers};
use crate::release::policy::minisign::Key;
use crate::release::policy::signed::{Accepted, Signed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const UNKNOWN_VERSION: Code = Code::usage("E-RELEASE-001");
const NOT_WHOLE: Code = Code::usage("E-RELEASE-007");
const NONE_CURRENT: Code = Code::refused("E-RELEASE-008");

/// Kept updates are named by eight digits.
const LARGEST_COUNTER: u64 = 99_999_999;
/// A reason is one line on a terminal.
const REASON_LIMIT: usize = 300;

/// The hint where the policy itself cannot be read.
pub(super) const LIST_HINT: &str = "lsm release list names the versions that it knows";

/// What is known of lnd's releases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Of the shipped policy, or of the last update above it.
    pub(super) counter: u64,
    pub(super) oldest: Oldest,
    pub(super) toolchain: BTreeMap<String, BTreeMap<Arch, Toolchain>>,
    pub(super) release: Vec<Release>,
    /// Update keys that updates added.
    #[serde(skip)]
    pub(super) keys: Vec<Key>,
    /// Ids of update keys that updates revoked.
    #[serde(skip)]
    pub(super) revoked: BTreeSet<String>,
    #[serde(skip)]
    pub(super) updates: Vec<Accepted>,
}

/// Below this everything is refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oldest {
    pub(super) version: [u32; 3],
    pub(super) reason: String,
}

/// Reads the text of a releases.toml, and holds that it is whole.
///
/// # Errors
/// Where it is not TOML, has a field that is missing, unknown or of another form, or contradicts itself.
pub fn parse(text: &str) -> Result<Policy> {
    let policy: Policy = toml::from_str(text)
        .map_err(|e| Error::new(NOT_WHOLE, format!("the release policy cannot be read: {}", e.message())).because(e))?;
    policy.check()?;
    Ok(policy)
}

impl Policy {
    /// What this lsm was shipped with.
    pub fn shipped() -> Self {
        parse(include_str!("../../policies/releases.toml")).expect("the embedded policy is valid: a test reads it")
    }

    /// The counter of the newest of what it is made of.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Every release, newest first.
    pub fn releases(&self) -> &[Release] {
        &self.release
    }

    /// The accepted updates that it is made of, oldest first.
    pub fn updates(&self) -> &[Accepted] {
        &self.updates
    }

    /// The accepted update that is `signed`, byte for byte.
    pub fn kept(&self, signed: &Signed) -> Option<&Accepted> {
        self.updates.iter().find(|accepted| accepted.is(signed))
    }

    /// The release to install where none is named: the newest current one with a pin that holds.
    ///
    /// # Errors
    /// Where there is none: updates judged them all, or their pins have expired.
    pub fn newest(&self) -> Result<&Release> {
        let installable = |r: &&Release| r.status == Status::Current && r.archive.values().any(|pin| !pin.expired);
        self.release.iter().find(installable).ok_or_else(|| {
            Error::new(NONE_CURRENT, "no current release of lnd has a pin that holds")
                .hint("get a newer update and give it to lsm release update, or name a version with --release")
        })
    }

    /// The release `version`.
    ///
    /// # Errors
    /// Where it is not known, or refused for its age.
    pub fn find(&self, version: &str) -> Result<&Release> {
        if let Some(release) = self.release.iter().find(|r| r.version == version) {
            return Ok(release);
        }
        let oldest = &self.oldest;
        if numbers(version).is_some_and(|n| n < oldest.version) {
            return Err(Error::new(REFUSED, format!("lnd {version} is refused: {}", oldest.reason)).hint(self.known()));
        }
        Err(Error::new(UNKNOWN_VERSION, format!("lsm knows no lnd {version:?}")).hint(self.known()))
    }

    /// The Go toolchain `go` for a build on `host`.
    pub(super) fn toolchain(&self, go: &str, host: Arch) -> Option<&Toolchain> {
        self.toolchain.get(go)?.get(&host)
    }

    /// The release and processor that the official archive with this SHA-256 (hexadecimal) is for.
    pub(super) fn find_archive(&self, sha256: &str) -> Option<(&Release, Arch)> {
        let arch_in = |r: &Release| r.archive.iter().find(|(_, pin)| pin.sha256 == sha256).map(|(arch, _)| *arch);
        self.release.iter().find_map(|r| arch_in(r).map(|arch| (r, arch)))
    }

    pub(super) fn known(&self) -> String {
        let versions: Vec<_> =
            self.release.iter().filter(|r| !r.archive.is_empty()).map(|r| r.version.as_str()).collect();
        format!("known: {}", versions.join(", "))
    }

    /// Holds that it is whole: everything in it well-formed, and nothing at odds with the rest.
    ///
    /// # Errors
    /// Where it is not.
    pub(super) fn check(&self) -> Result<()> {
        check_counter(self.counter)?;
        check_reason("the oldest version", &self.oldest.reason)?;
        for (go, hash) in self.toolchain.iter().flat_map(|(go, archs)| archs.values().map(move |t| (go, &t.hash))) {
            if !is_go_version(go) || !is_module_hash(hash) {
                return Err(not_whole(format!("the toolchain {go:?} has a name or hash that is none")));
            }
        }
        let mut hashes = BTreeSet::new();
        for release in &self.release {
            release.check(self)?;
            for hash in
                release.archive.values().flat_map(|pin| [Some(&pin.sha256), pin.lnd.as_ref(), pin.lncli.as_ref()])
            {
                // One file under two names could pass off an old version as a new one.
                if hash.is_some_and(|hash| !hashes.insert(hash)) {
                    return Err(bad(release, "a hash that stands twice"));
                }
            }
        }
        let order: Vec<_> = self.release.iter().map(|r| numbers(&r.version)).collect();
        if !order.is_sorted_by(|a, b| a > b) {
            return Err(not_whole("the releases are not each one once, newest first"));
        }
        Ok(())
    }
}

impl Release {
    fn check(&self, policy: &Policy) -> Result<()> {
        let Some(version) = numbers(&self.version).filter(|n| is_tag(&self.version, *n)) else {
            return Err(bad(self, "a version that is none"));
        };
        if self.reason.is_none() != (self.status == Status::Current) {
            return Err(bad(self, "a reason where it is current, or none where it is not"));
        }
        self.reason.as_ref().map_or(Ok(()), |reason| check_reason(&format!("the release {}", self.version), reason))?;
        if version < policy.oldest.version && self.status != Status::Refused {
            return Err(bad(self, "another judgement than refused, and is older than the oldest"));
        }
        if self.pinned_until().is_none() {
            return Err(bad(self, "a pinned day that is none"));
        }
        let hashes = |p: &crate::release::pins::Pin| [Some(p.sha256.clone()), p.lnd.clone(), p.lncli.clone()];
        if !self.archive.values().flat_map(hashes).flatten().all(|hash| is_hex(&hash, 64)) {
            return Err(bad(self, "a hash that is not 64 hexadecimal digits in small letters"));
        }
        let Some(source) = &self.source else {
            return if self.archive.is_empty() { Ok(()) } else { Err(bad(self, "an archive and no source")) };
        };
        if !is_hex(&source.commit, 40) || source.time <= 0 || !is_module_hash(&source.module) {
            return Err(bad(self, "a source whose commit, time or module hash is none"));
        }
        if policy.toolchain(&source.go, Arch::Amd64).is_none() {
            return Err(bad(self, "a Go version without a toolchain for amd64"));
        }
        Ok(())
    }
}

fn not_whole(cause: impl Into<String>) -> Error {
    Error::new(NOT_WHOLE, cause)
}

fn bad(release: &Release, what: &str) -> Error {
    not_whole(format!("the release {:?} has {what}", release.version))
}

/// Holds that a counter is one: from 1, and not so large that none could follow.
pub(super) fn check_counter(counter: u64) -> Result<()> {
    if (1..=LARGEST_COUNTER).contains(&counter) {
        return Ok(());
    }
    Err(not_whole(format!("the counter {counter} is not between 1 and {LARGEST_COUNTER}")))
}

fn check_reason(of: &str, reason: &str) -> Result<()> {
    if !reason.trim().is_empty() && reason.len() <= REASON_LIMIT && !reason.contains(char::is_control) {
        return Ok(());
    }
    Err(not_whole(format!("{of} has a reason that is not one line of at most {REASON_LIMIT} bytes")))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_module_hash(text: &str) -> bool {
    text.strip_prefix("h1:").is_some_and(|hash| STANDARD.decode(hash).is_ok_and(|bytes| bytes.len() == 32))
}

/// It becomes part of a path and an address.
fn is_go_version(text: &str) -> bool {
    text.len() <= 20 && text.starts_with('1') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

/// `v1.2.3` or `v1.2.3-beta`: it becomes part of a path and an address.
fn is_tag(version: &str, [major, minor, patch]: [u32; 3]) -> bool {
    let Some(rest) = version.strip_prefix(&format!("v{major}.{minor}.{patch}")) else { return false };
    let is_word = |w: &str| {
        !w.is_empty() && w.len() <= 20 && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
    };
    rest.is_empty() || rest.strip_prefix('-').is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../policies/releases.toml");

    #[test]
    fn the_shipped_policy_is_whole() {
        let policy = parse(SHIPPED).unwrap();
        assert!(policy.release.iter().all(|r| r.archive.values().all(|pin| !pin.expired)));
    }

    #[test]
    fn the_published_hash_of_the_original_pin_is_kept() {
        let policy = Policy::shipped();
        let published = "88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557";
        let (release, arch) = policy.find_archive(published).unwrap();
        assert_eq!((release.version.as_str(), arch), ("v0.20.0-beta", Arch::Amd64));
    }

    #[test]
    fn versions_are_admitted_refused_or_unknown() {
        let policy = Policy::shipped();
        let newest = policy.newest().unwrap();
        assert_eq!(newest.version, "v0.21.3-beta");
        newest.admit(None, None).unwrap();
        newest.admit(Some("v0.20.0-beta"), None).unwrap();
        let risky = policy.find("v0.20.0-beta").unwrap();
        assert_eq!(risky.admit(None, None).unwrap_err().code().id, "E-RELEASE-005");
        assert_eq!(risky.admit(None, Some("v0.21.0-beta")).unwrap_err().code().id, "E-RELEASE-005");
        risky.admit(None, Some("v0.20.0-beta")).unwrap();
        // One older than what is installed needs the same word.
        let newer = Some("v0.22.0-beta");
        assert_eq!(newest.admit(newer, None).unwrap_err().code().id, "E-RELEASE-009");
        newest.admit(newer, Some("v0.21.3-beta")).unwrap();
        assert_eq!(policy.find("v0.19.1-beta").unwrap_err().code(), REFUSED);
        let unknown = policy.find("v9.9.9-beta").unwrap_err();
        assert_eq!(unknown.code(), UNKNOWN_VERSION);
        assert!(unknown.advice().unwrap().contains("v0.21.3-beta"));
    }

    #[test]
    fn a_policy_that_is_not_whole_is_told_why() {
        let sha256 = "aad62005d25bb0d974c5c1b135decc269d8f3e69ee9cde8bb6b32998100bc3fd";
        for (from, to, word) in [
            ("counter = 1", "", "counter"),
            ("counter = 1", "counter = 0", "between"),
            ("counter = 1", "counter = 100000000", "between"),
            ("counter = 1", "counter = 1\nextra = 1", "unknown field"),
            ("v0.21.3-beta", "v0.21.3-beta/../x", "version"),
            ("v0.21.3-beta", "v0.+21.3-beta", "version"),
            ("v0.21.3-beta", "v0.21.03-beta", "version"),
            ("v0.21.3-beta", "0.21.3-beta", "version"),
            ("v0.21.3-beta", "v0.21.1-beta", "newest first"),
            ("v0.21.3-beta", "v0.19.0-beta", "older than the oldest"),
            ("status = \"current\"", "status = \"best\"", "unknown variant"),
            ("status = \"current\"", "status = \"outdated\"", "reason"),
            ("status = \"current\"", "status = \"outdated\"\nreason = \" \"", "one line"),
            ("reason = \"it skips", "reason = \"\\u001bit skips", "one line"),
            ("pinned = \"2026-11-22\"", "pinned = \"2026-13-22\"", "pinned day"),
            ("pinned = \"2026-11-22\"", "pinned = \"2026-11-22\"\norigin = \"shipped\"", "unknown field"),
            (sha256, &sha256.to_uppercase(), "64 hexadecimal"),
            (sha256, &sha256[1..], "64 hexadecimal"),
            (sha256, "88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557", "stands twice"),
            ("go = \"1.26.6\"", "go = \"1.26.5\"", "toolchain"),
            ("toolchain.\"1.26.6\"", "toolchain.\"1/26\"", "none"),
            ("h1:owmNw4", "h2:owmNw4", "none"),
            ("h1:Tp1Ydw", "h1:", "module hash"),
            ("commit = \"572b", "commit = \"57zz", "commit"),
            ("time = 1788304015", "time = -1", "time"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            let error = parse(&SHIPPED.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.code(), NOT_WHOLE, "{to}");
            assert!(error.cause().contains(word), "{to}: {error}");
        }
        for text in ["", "\0", "[[release]]", &"[".repeat(100_000)] {
            parse(text).unwrap_err();
        }
    }
}
