//! What there is to know of a release of lnd: pinned hashes and a judgement.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use time::macros::format_description;

const UNKNOWN_ARCH: Code = Code::usage("E-RELEASE-002");
pub(super) const REFUSED: Code = Code::refused("E-RELEASE-004");
const EXPIRED: Code = Code::refused("E-RELEASE-006");

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

/// How a release is judged. The order is that of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Who said it: lsm as it was shipped, or a signed update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// policies/releases.toml of this lsm.
    #[default]
    Shipped,
    /// The accepted update with this counter.
    Update(u64),
}

/// One release of lnd.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The tag (`v0.21.3-beta`).
    pub version: String,
    /// The judgement.
    pub status: Status,
    /// Who judged it so.
    #[serde(skip_deserializing)]
    pub judged: Origin,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Who pinned it.
    #[serde(skip_deserializing)]
    pub origin: Origin,
    /// True where that was an update that has expired: nothing is built from it any more.
    #[serde(skip_deserializing, skip_serializing_if = "is_false")]
    pub expired: bool,
}

/// The SHA-256 of an official archive and of the two programs in it, in hexadecimal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Of the archive.
    pub sha256: String,
    /// Of the file `lnd`, where known.
    pub lnd: Option<String>,
    /// Of the file `lncli`, where known.
    pub lncli: Option<String>,
    /// Who pinned it.
    #[serde(skip_deserializing)]
    pub origin: Origin,
    /// True where that was an update that has expired: nothing is unpacked by it any more.
    #[serde(skip_deserializing, skip_serializing_if = "is_false")]
    pub expired: bool,
}

/// The module hash of a Go toolchain.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "String")]
pub struct Toolchain {
    /// As the Go checksum database has it (`h1:...`).
    pub hash: String,
    /// Who pinned it.
    pub origin: Origin,
    /// True where that was an update that has expired: nothing is built with it any more.
    pub expired: bool,
}

impl From<String> for Toolchain {
    fn from(hash: String) -> Self {
        Self { hash, origin: Origin::Shipped, expired: false }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Release {
    /// The end of the day on which it was pinned, in UTC, seconds since 1970; nothing where it names no day.
    pub fn pinned_until(&self) -> Option<i64> {
        let day = time::Date::parse(&self.pinned, format_description!("[year]-[month]-[day]")).ok()?;
        Some(day.with_time(time::Time::MAX).assume_utc().unix_timestamp())
    }

    /// The name of the official archive, without `.tar.gz`; also the name of the one folder in it.
    pub fn archive_name(&self, arch: Arch) -> String {
        format!("lnd-linux-{arch}-{}", self.version)
    }

    /// The file name of the official archive.
    pub fn archive_file(&self, arch: Arch) -> String {
        format!("{}.tar.gz", self.archive_name(arch))
    }
}

impl Source {
    /// Holds that it may be built from.
    ///
    /// # Errors
    /// Where it came by an update that has expired.
    pub fn hold_live(&self) -> Result<()> {
        if self.expired { Err(expired(&format!("the source of lnd with module hash {}", self.module))) } else { Ok(()) }
    }
}

pub(super) fn expired(what: &str) -> Error {
    Error::new(EXPIRED, format!("{what} came by an update that has expired"))
        .hint("get a newer one and give it to: lsm release update")
}

/// The three numbers of `v1.2.3-beta` or `1.2.3`.
pub fn numbers(version: &str) -> Option<[u32; 3]> {
    let plain = version.strip_prefix('v').unwrap_or(version).split('-').next()?;
    let parts: Vec<u32> = plain.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}
