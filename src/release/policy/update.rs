//! An update of the release policy: what it looks like, and by whose key it is believed.

use crate::error::{Code, Error, Result};
use crate::release::pins::{Arch, Origin, Release, Toolchain};
use crate::release::policy::minisign::{Key, is_key_id};
use crate::release::policy::{Oldest, Policy, check_counter};
use crate::release::trust::Trust;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

const BAD_FORM: Code = Code::usage("E-UPDATE-001");
pub(super) const BAD_TRUSTED_KEY: Code = Code::usage("E-UPDATE-010");

/// The text of an update: a releases.toml that holds only what is new, under a head of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::release) struct Update {
    pub(in crate::release) counter: u64,
    pub(super) expires: String,
    pub(super) key: String,
    #[serde(default)]
    pub(in crate::release) keys: KeyChanges,
    pub(in crate::release) oldest: Option<Oldest>,
    #[serde(default)]
    pub(in crate::release) toolchain: BTreeMap<String, BTreeMap<Arch, Toolchain>>,
    #[serde(default)]
    pub(in crate::release) release: Vec<Release>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::release) struct KeyChanges {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    pub(in crate::release) revoke: Vec<String>,
}

impl Update {
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| bad_form("is not UTF-8 text"))?;
        let update: Self = toml::from_str(text).map_err(|e| bad_form(&format!("cannot be read: {}", e.message())))?;
        check_counter(update.counter)?;
        update.until()?;
        if let Some(id) = update.keys.revoke.iter().find(|id| !is_key_id(id)) {
            return Err(bad_form(&format!("revokes {id:?}, which is no key id")));
        }
        update.added_keys()?;
        let mut versions = BTreeSet::new();
        if let Some(twice) = update.release.iter().find(|r| !versions.insert(&r.version)) {
            return Err(bad_form(&format!("names the release {:?} twice", twice.version)));
        }
        Ok(update)
    }

    pub(in crate::release) fn origin(&self) -> Origin {
        Origin::Update(self.counter)
    }

    pub(in crate::release) fn added_keys(&self) -> Result<Vec<Key>> {
        let key = |text: &String| {
            Key::parse(text).ok_or_else(|| bad_form(&format!("adds {text:?}, which is no minisign public key")))
        };
        self.keys.add.iter().map(key).collect()
    }

    /// The moment of its expiry, a day being over with its end in UTC.
    pub(super) fn until(&self) -> Result<OffsetDateTime> {
        let day = Date::parse(&self.expires, format_description!("[year]-[month]-[day]"));
        day.map(|day| day.with_time(Time::MAX).assume_utc())
            .or_else(|_| OffsetDateTime::parse(&self.expires, &Rfc3339))
            .map_err(|_| bad_form(&format!("expires on {:?}, which is no RFC 3339 date", self.expires)))
    }
}

fn bad_form(what: &str) -> Error {
    Error::new(BAD_FORM, format!("this update is signed, but {what}"))
        .hint("it may need a newer lsm; else tell who signed it")
}

/// The update keys that are believed.
///
/// # Errors
/// Where the trust names a key that is none.
pub(in crate::release) fn believed(policy: &Policy, trust: &Trust) -> Result<Vec<Key>> {
    let parse = |text: &String| {
        Key::parse(text).ok_or_else(|| {
            Error::new(BAD_TRUSTED_KEY, format!("update-keys names {text:?}, which is no minisign public key"))
                .hint("it is the line of the .pub file that begins with RW; look at your trust.toml")
        })
    };
    let mut keys = trust.update_keys.iter().map(parse).collect::<Result<Vec<_>>>()?;
    keys.extend(policy.keys.iter().cloned());
    keys.retain(|key| !is_revoked(key.id(), policy, trust));
    Ok(keys)
}

pub(in crate::release) fn is_revoked(id: &str, policy: &Policy, trust: &Trust) -> bool {
    policy.revoked.contains(id) || trust.revoked.iter().any(|revoked| revoked == id)
}
