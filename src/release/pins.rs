//! What is known of lnd's releases: pinned hashes and judgements, from policies/releases.toml and accepted updates.

use crate::error::{Code, Error, Result};
use crate::release::policy::{self, chain};
use crate::release::trust;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use time::OffsetDateTime;
use time::macros::format_description;

pub use crate::release::policy::{Policy, parse};

const UNKNOWN_ARCH: Code = Code::usage("E-RELEASE-002");
const DOWNGRADE: Code = Code::refused("E-RELEASE-009");
const NOT_PINNED: Code = Code::usage("E-RELEASE-003");
pub(super) const REFUSED: Code = Code::refused("E-RELEASE-004");
const AT_RISK: Code = Code::refused("E-RELEASE-005");
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

/// The policy in force: the shipped one with the accepted updates, from [`trust::folder`].
///
/// # Errors
/// Where a kept update cannot be read or does not hold any more, and as [`trust::in_force`].
pub fn in_force() -> Result<&'static Policy> {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    if let Some(policy) = POLICY.get() {
        return Ok(policy);
    }
    let policy = chain::load(&trust::folder(), trust::in_force()?, OffsetDateTime::now_utc())?;
    Ok(POLICY.get_or_init(|| policy))
}

/// Every release that lsm knows, newest first.
///
/// # Errors
/// As [`in_force`].
pub fn all() -> Result<&'static [Release]> {
    in_force().map(Policy::releases)
}

/// The release to install where none is named: the newest current one with a pin that holds.
///
/// # Errors
/// Where there is none, and as [`in_force`].
pub fn newest() -> Result<&'static Release> {
    in_force()?.newest()
}

/// The release `version`.
///
/// # Errors
/// Where lsm does not know it, or refuses it for its age, and as [`in_force`].
pub fn find(version: &str) -> Result<&'static Release> {
    in_force()?.find(version)
}

impl Release {
    /// The pin of the official archive for `arch`, be it one that has expired.
    ///
    /// # Errors
    /// Where lsm has none.
    pub fn pin(&self, arch: Arch) -> Result<&Pin> {
        self.archive.get(&arch).ok_or_else(|| {
            Error::new(NOT_PINNED, format!("lsm has no pinned hash of lnd {} for {arch}", self.version)).hint(known())
        })
    }

    /// The pin of the official archive for `arch`, to verify an archive with.
    ///
    /// # Errors
    /// Where lsm has none, or it came by an update that has expired.
    pub fn live_pin(&self, arch: Arch) -> Result<&Pin> {
        let pin = self.pin(arch)?;
        if pin.expired { Err(expired(&format!("the pin of lnd {} for {arch}", self.version))) } else { Ok(pin) }
    }

    /// The end of the day on which it was pinned, in UTC, seconds since 1970; nothing where it names no day.
    pub fn pinned_until(&self) -> Option<i64> {
        let day = time::Date::parse(&self.pinned, format_description!("[year]-[month]-[day]")).ok()?;
        Some(day.with_time(time::Time::MAX).assume_utc().unix_timestamp())
    }

    /// Whether it may be installed where `there` is installed now, or was when it left its wallet, the operator having
    /// accepted the risk of version `accepted`.
    ///
    /// # Errors
    /// Where it is refused, or has a known fault or is older than what is there and that was not accepted by name.
    pub fn admit(&self, there: Option<&str>, accepted: Option<&str>) -> Result<()> {
        let newer = there.filter(|there| numbers(there) > numbers(&self.version));
        if let (Some(newer), true) = (newer, accepted != Some(&self.version)) {
            let cause = format!("lnd {newer} had this signer last, and {} is older", self.version);
            return Err(Error::new(DOWNGRADE, cause).hint(format!(
                "an older lnd may lack what was mended, and may not read the newer one's files; accept it with --accept-risk {}",
                self.version
            )));
        }
        let (version, reason) = (&self.version, self.reason.as_deref().unwrap_or("no reason is given"));
        match self.status {
            Status::Current | Status::Outdated => Ok(()),
            Status::NeedsAcceptRisk if accepted == Some(version) => Ok(()),
            Status::NeedsAcceptRisk => {
                let other = newest().map_or_else(|_| String::new(), |r| format!("install {}, or ", r.version));
                Err(Error::new(AT_RISK, format!("lnd {version} has a known fault: {reason}"))
                    .hint(format!("{other}accept it with --accept-risk {version}")))
            }
            Status::Refused => Err(Error::new(REFUSED, format!("lnd {version} is refused: {reason}")).hint(known())),
        }
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

fn known() -> String {
    in_force().map_or_else(|_| policy::LIST_HINT.to_owned(), Policy::known)
}

/// The three numbers of `v1.2.3-beta` or `1.2.3`.
pub(super) fn numbers(version: &str) -> Option<[u32; 3]> {
    let plain = version.strip_prefix('v').unwrap_or(version).split('-').next()?;
    let parts: Vec<u32> = plain.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}
