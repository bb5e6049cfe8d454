//! What is known of lnd's releases: pinned hashes and judgements, read from policies/releases.toml.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use time::macros::format_description;

const UNKNOWN_VERSION: Code = Code::usage("E-RELEASE-001");
const UNKNOWN_ARCH: Code = Code::usage("E-RELEASE-002");
const NOT_PINNED: Code = Code::usage("E-RELEASE-003");
const REFUSED: Code = Code::refused("E-RELEASE-004");
const AT_RISK: Code = Code::refused("E-RELEASE-005");

/// A processor that lnd is released for and lsm knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// The name that Go and lnd's archives use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The processor that lsm runs on.
    ///
    /// # Errors
    /// Where lnd is not released for it.
    pub fn of_this_machine() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => Err(Error::new(UNKNOWN_ARCH, format!("lsm knows no lnd for {other}"))),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Amd64, Self::Arm64].into_iter().find(|a| a.name() == text).ok_or_else(|| {
            Error::new(UNKNOWN_ARCH, format!("{text:?} is no processor that lsm knows")).hint("one of: amd64, arm64")
        })
    }
}

/// How a release is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The one to install.
    Current,
    /// Works, but a newer one mends something.
    Outdated,
    /// Has a known fault; installed only with `--accept-risk`.
    NeedsAcceptRisk,
    /// Never installed.
    Refused,
}

/// One release of lnd.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The tag (`v0.21.3-beta`).
    pub version: String,
    /// The judgement.
    pub status: Status,
    /// The day on which it was pinned (`2026-11-22`): no signature that is younger counts.
    pub pinned: String,
    /// Why it is not current.
    pub reason: Option<String>,
    /// What a build from source starts with.
    pub source: Option<Source>,
    /// What the official archives are, by processor.
    #[serde(default)]
    pub archive: BTreeMap<Arch, Pin>,
}

/// The source of a release.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The Go version of the official build (`GO_VERSION` in lnd's Makefile).
    pub go: String,
    /// The tagged commit.
    pub commit: String,
    /// The commit's time, seconds since 1970.
    pub time: i64,
    /// The module hash of lnd's module zip.
    pub module: String,
}

/// The SHA-256 of an official archive and of the two programs in it, in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Of the archive.
    pub sha256: String,
    /// Of the file `lnd`, where known.
    pub lnd: Option<String>,
    /// Of the file `lncli`, where known.
    pub lncli: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    oldest: Oldest,
    toolchain: BTreeMap<String, BTreeMap<Arch, String>>,
    release: Vec<Release>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Oldest {
    version: [u32; 3],
    reason: String,
}

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    toml::from_str(include_str!("../../policies/releases.toml")).expect("the embedded policy is valid: a test reads it")
});

/// Every release that lsm knows, newest first.
pub fn all() -> &'static [Release] {
    &POLICY.release
}

/// The release to install where none is named: the newest pinned one.
pub fn newest() -> &'static Release {
    all().iter().find(|r| r.status == Status::Current).expect("the embedded policy has a current release")
}

/// The release `version`.
///
/// # Errors
/// Where lsm does not know it, or refuses it for its age.
pub fn find(version: &str) -> Result<&'static Release> {
    if let Some(release) = all().iter().find(|r| r.version == version) {
        return Ok(release);
    }
    let oldest = &POLICY.oldest;
    if numbers(version).is_some_and(|n| n < oldest.version) {
        return Err(Error::new(REFUSED, format!("lnd {version} is refused: {}", oldest.reason)).hint(known()));
    }
    Err(Error::new(UNKNOWN_VERSION, format!("lsm knows no lnd {version:?}")).hint(known()))
}

/// The module hash of the Go toolchain `go` for a build on `host`.
pub(super) fn toolchain(go: &str, host: Arch) -> Option<&'static str> {
    POLICY.toolchain.get(go)?.get(&host).map(String::as_str)
}

/// The release and processor that the official archive with this SHA-256 (hexadecimal) is for.
pub(super) fn find_archive(sha256: &str) -> Option<(&'static Release, Arch)> {
    all().iter().find_map(|r| r.archive.iter().find(|(_, pin)| pin.sha256 == sha256).map(|(arch, _)| (r, *arch)))
}

impl Release {
    /// The pin of the official archive for `arch`.
    ///
    /// # Errors
    /// Where lsm has none.
    pub fn pin(&self, arch: Arch) -> Result<&Pin> {
        self.archive.get(&arch).ok_or_else(|| {
            Error::new(NOT_PINNED, format!("lsm has no pinned hash of lnd {} for {arch}", self.version)).hint(known())
        })
    }

    /// The end of the day on which it was pinned, in UTC, seconds since 1970; nothing where it names no day.
    pub fn pinned_until(&self) -> Option<i64> {
        let day = time::Date::parse(&self.pinned, format_description!("[year]-[month]-[day]")).ok()?;
        Some(day.with_time(time::Time::MAX).assume_utc().unix_timestamp())
    }

    /// Whether it may be installed, the operator having accepted the risk of version `accepted`.
    ///
    /// # Errors
    /// Where it is refused, or has a known fault that was not accepted by name.
    pub fn admit(&self, accepted: Option<&str>) -> Result<()> {
        let (version, reason) = (&self.version, self.reason.as_deref().unwrap_or("no reason is given"));
        match self.status {
            Status::Current | Status::Outdated => Ok(()),
            Status::NeedsAcceptRisk if accepted == Some(version) => Ok(()),
            Status::NeedsAcceptRisk => Err(Error::new(AT_RISK, format!("lnd {version} has a known fault: {reason}"))
                .hint(format!("install {}, or accept it with --accept-risk {version}", newest().version))),
            Status::Refused => Err(Error::new(REFUSED, format!("lnd {version} is refused: {reason}")).hint(known())),
        }
    }

    /// The name of the official archive, without `.tar.gz`; also the name of the one folder in it.
    pub fn archive_name(&self, arch: Arch) -> String {
        format!("lnd-linux-{arch}-{}", self.version)
    }
}

fn known() -> String {
    let versions: Vec<_> = all().iter().filter(|r| !r.archive.is_empty()).map(|r| r.version.as_str()).collect();
    format!("known: {}", versions.join(", "))
}

/// The three numbers of `v1.2.3-beta` or `1.2.3`.
pub(super) fn numbers(version: &str) -> Option<[u32; 3]> {
    let plain = version.strip_prefix('v').unwrap_or(version).split('-').next()?;
    let parts: Vec<u32> = plain.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sha256(text: &str) -> bool {
        hex::decode(text).is_ok_and(|b| b.len() == 32)
    }

    #[test]
    fn the_policy_is_whole() {
        for release in all() {
            assert_eq!(release.reason.is_none(), release.status == Status::Current, "{}", release.version);
            assert!(release.archive.values().all(|p| is_sha256(&p.sha256)), "{}", release.version);
            assert!(release.pinned_until().is_some(), "{}", release.version);
            assert!(release.archive.is_empty() || release.source.is_some(), "{}", release.version);
            if let Some(source) = &release.source {
                assert!(toolchain(&source.go, Arch::Amd64).is_some_and(|h| h.starts_with("h1:")));
                assert!(source.module.starts_with("h1:") && source.commit.len() == 40);
            }
        }
        let order: Vec<_> = all().iter().map(|r| numbers(&r.version).unwrap()).collect();
        assert!(order.is_sorted_by(|a, b| a > b), "newest first");
    }

    #[test]
    fn the_published_hash_of_the_original_pin_is_kept() {
        let (release, arch) = find_archive("88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557").unwrap();
        assert_eq!((release.version.as_str(), arch), ("v0.20.0-beta", Arch::Amd64));
    }

    #[test]
    fn versions_are_admitted_refused_or_unknown() {
        assert_eq!(newest().version, "v0.21.3-beta");
        newest().admit(None).unwrap();
        let risky = find("v0.20.0-beta").unwrap();
        assert_eq!(risky.admit(None).unwrap_err().code(), AT_RISK);
        assert_eq!(risky.admit(Some("v0.21.0-beta")).unwrap_err().code(), AT_RISK);
        risky.admit(Some("v0.20.0-beta")).unwrap();
        assert_eq!(find("v0.19.1-beta").unwrap_err().code(), REFUSED);
        let unknown = find("v9.9.9-beta").unwrap_err();
        assert_eq!(unknown.code(), UNKNOWN_VERSION);
        assert!(unknown.advice().unwrap().contains("v0.21.3-beta"));
    }
}
