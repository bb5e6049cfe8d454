//! What is known of lnd's releases, from policies/releases.toml and accepted updates.

use crate::error::{Code, Error, Result};
use crate::release::pins::{Arch, Pin, REFUSED, Release, Status, expired, numbers};
use crate::release::policy::{self, Policy, chain};
use crate::release::trust;
use std::sync::OnceLock;
use time::OffsetDateTime;

const DOWNGRADE: Code = Code::refused("E-RELEASE-009");
const NOT_PINNED: Code = Code::usage("E-RELEASE-003");
const AT_RISK: Code = Code::refused("E-RELEASE-005");

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
}

fn known() -> String {
    in_force().map_or_else(|_| policy::LIST_HINT.to_owned(), Policy::known)
}
