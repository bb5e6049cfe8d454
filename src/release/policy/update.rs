//! A signed update of the release policy: what it looks like, whom it is believed from, and when.

use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::release::pins::{Arch, Origin, Policy, Release, Toolchain};
use crate::release::policy::merge::{self, Change};
use crate::release::policy::minisign::{Fault, Key, Signature, is_key_id};
use crate::release::policy::{Oldest, check_counter};
use crate::release::trust::Trust;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, Time};

const BAD_FORM: Code = Code::usage("E-UPDATE-001");
const NO_SIGNATURE: Code = Code::usage("E-UPDATE-002");
const BAD_SIGNATURE: Code = Code::unverified("E-UPDATE-003");
const UNKNOWN_KEY: Code = Code::unverified("E-UPDATE-004");
const REVOKED_KEY: Code = Code::unverified("E-UPDATE-005");
const WRONG_KEY_ID: Code = Code::unverified("E-UPDATE-006");
const OLD_COUNTER: Code = Code::unverified("E-UPDATE-007");
const EXPIRED: Code = Code::unverified("E-UPDATE-008");
const TOO_FAR: Code = Code::unverified("E-UPDATE-009");
const BAD_TRUSTED_KEY: Code = Code::usage("E-UPDATE-010");

/// A policy is a few kilobytes.
const TEXT_LIMIT: u64 = 1 << 20;
/// minisign's own comments are at most 8 KiB.
const SIGNATURE_LIMIT: u64 = 16 << 10;
/// A key that was stolen must not be able to sign for ever.
const LONGEST: Duration = Duration::days(400);

/// The bytes of an update and of its signature, as somebody gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The TOML text.
    pub text: Vec<u8>,
    /// The minisign signature over it.
    pub signature: Vec<u8>,
}

/// An update that was accepted, now or before.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// Its place in the order of updates.
    pub counter: u64,
    /// The id of the key that signed it.
    pub key: String,
    /// When its pins end, as it says so itself.
    pub expires: String,
    /// The trusted comment of its signature: text of whoever signed.
    pub comment: String,
    /// True where its pins have ended; its judgements stay.
    pub expired: bool,
    /// True where this lsm was shipped with a newer policy: its judgements alone are used.
    pub superseded: bool,
    #[serde(skip)]
    digest: [u8; 32],
}

/// An update that would be accepted, and what comes of it.
#[derive(Debug)]
pub struct Judged {
    /// About itself.
    pub accepted: Accepted,
    /// What it changes.
    pub changes: Vec<Change>,
    /// What is known then.
    pub policy: Policy,
}

/// The text of an update: a releases.toml that holds only what is new, under a head of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::release) struct Update {
    pub(in crate::release) counter: u64,
    expires: String,
    key: String,
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

impl Signed {
    /// Reads `file` and the signature beside it, `file.minisig`.
    ///
    /// # Errors
    /// Where one cannot be read, or is larger than such a file can be.
    pub fn read(file: &Path) -> Result<Self> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        let beside = PathBuf::from(beside);
        let text = file::read_named(file, TEXT_LIMIT)?;
        if !beside.exists() {
            return Err(Error::new(NO_SIGNATURE, format!("there is no signature {}", beside.display()))
                .hint("an update is two files: FILE and FILE.minisig"));
        }
        Ok(Self { text, signature: file::read_named(&beside, SIGNATURE_LIMIT)? })
    }

    fn digest(&self) -> [u8; 32] {
        let parts = [Sha256::digest(&self.text), Sha256::digest(&self.signature)];
        Sha256::digest(parts.concat()).into()
    }
}

impl Accepted {
    /// Whether it is `signed`, byte for byte.
    pub(in crate::release) fn is(&self, signed: &Signed) -> bool {
        self.digest == signed.digest()
    }
}

/// Judges whether an update may be accepted at the time `now` on top of `policy`.
///
/// # Errors
/// Where it is not signed by a key that is believed, is old or expired, breaks a rule, or does not have the form of one.
pub fn judge(signed: &Signed, policy: &Policy, trust: &Trust, now: OffsetDateTime) -> Result<Judged> {
    let (update, accepted) = authenticate(signed, policy, trust, now)?;
    if update.counter <= policy.counter {
        let cause = format!("this update has the counter {}, and {} is in force", update.counter, policy.counter);
        return Err(Error::new(OLD_COUNTER, cause).hint("an older update is never accepted; get the newest"));
    }
    let until = update.until()?;
    if accepted.expired {
        let cause = format!("this update has expired on {}", update.expires);
        return Err(Error::new(EXPIRED, cause).hint("get a newer one; if it is the newest, look at this host's clock"));
    }
    if until - now > LONGEST {
        let cause =
            format!("this update expires on {}, more than {} days from now", update.expires, LONGEST.whole_days());
        return Err(Error::new(TOO_FAR, cause).hint("if that is not so, look at this host's clock"));
    }
    merge::check_keys(policy, &update, trust)?;
    let mut policy = policy.clone();
    let changes = merge::add(&mut policy, &update, true)?;
    policy.updates.push(accepted.clone());
    Ok(Judged { accepted, changes, policy })
}

/// Takes an update that was accepted before into `policy` again; `shipped` is the counter of the shipped policy.
///
/// Above that counter it has to hold as it did then. At or below it the shipped policy speaks in its place: then only
/// what makes it stricter is taken, and an update whose key is not believed any more says nothing.
///
/// # Errors
/// Where it does not hold any more.
pub(in crate::release) fn recall(
    signed: &Signed,
    policy: &Policy,
    shipped: u64,
    trust: &Trust,
    now: OffsetDateTime,
) -> Result<Policy> {
    let (update, mut accepted) = authenticate(signed, policy, trust, now)?;
    let mut policy = policy.clone();
    if update.counter > shipped {
        merge::add(&mut policy, &update, !accepted.expired)?;
    } else {
        accepted.superseded = true;
        merge::tighten(&mut policy, &update);
    }
    policy.updates.push(accepted);
    Ok(policy)
}

/// What is signed is read only after its signature held.
fn authenticate(signed: &Signed, policy: &Policy, trust: &Trust, now: OffsetDateTime) -> Result<(Update, Accepted)> {
    let signature = Signature::parse(&signed.signature).map_err(|fault| match fault {
        Fault::Malformed => Error::new(BAD_SIGNATURE, "the signature of this update is not one of minisign"),
        Fault::Legacy => Error::new(BAD_SIGNATURE, "the signature of this update is of minisign's old kind")
            .hint("sign it with minisign 0.10 or newer, or with -H"),
    })?;
    let id = signature.key_id();
    if is_revoked(id, policy, trust) {
        return Err(Error::new(REVOKED_KEY, format!("this update is signed by the key {id}, which is revoked")));
    }
    let keys: Vec<_> = believed(policy, trust)?.into_iter().filter(|key| key.id() == id).collect();
    if keys.is_empty() {
        return Err(Error::new(UNKNOWN_KEY, format!("this update is signed by the key {id}, which lsm does not know"))
            .hint("an update that was left out may have added it; or name it in update-keys of your trust.toml"));
    }
    if !keys.iter().any(|key| key.has_signed(&signed.text, &signature)) {
        return Err(Error::new(BAD_SIGNATURE, "this update is not what was signed: it or its signature was changed"));
    }
    let update = Update::parse(&signed.text)?;
    if update.key != id {
        let cause = format!("this update says that it is signed by {:?}, and is by {id}", update.key);
        return Err(Error::new(WRONG_KEY_ID, cause));
    }
    let accepted = Accepted {
        counter: update.counter,
        key: update.key.clone(),
        expires: update.expires.clone(),
        comment: signature.comment().to_owned(),
        expired: update.until()? < now,
        superseded: false,
        digest: signed.digest(),
    };
    Ok((update, accepted))
}

impl Update {
    fn parse(text: &[u8]) -> Result<Self> {
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
    fn until(&self) -> Result<OffsetDateTime> {
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

/// Holds that the trust's update keys and revocations can be read: a misspelt revocation would revoke nothing.
///
/// # Errors
/// Where one cannot.
pub(in crate::release) fn check_trust(policy: &Policy, trust: &Trust) -> Result<()> {
    believed(policy, trust)?;
    match trust.revoked.iter().find(|id| !is_key_id(id)) {
        None => Ok(()),
        Some(id) => Err(Error::new(BAD_TRUSTED_KEY, format!("revoked names {id:?}, which is no key id"))
            .hint("it is 16 hexadecimal digits in capitals; look at your trust.toml")),
    }
}
