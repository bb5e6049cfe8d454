//! Whether a signed update of the release policy is believed, and when.

use crate::error::{Code, Error, Result};
use crate::release::policy::Policy;
use crate::release::policy::merge::{self, Change};
use crate::release::policy::minisign::{Fault, Signature, is_key_id};
use crate::release::policy::signed::{Accepted, Signed};
use crate::release::policy::update::{BAD_TRUSTED_KEY, Update, believed, is_revoked};
use crate::release::trust::Trust;
use time::{Duration, OffsetDateTime};

const BAD_SIGNATURE: Code = Code::unverified("E-UPDATE-003");
const UNKNOWN_KEY: Code = Code::unverified("E-UPDATE-004");
const REVOKED_KEY: Code = Code::unverified("E-UPDATE-005");
const WRONG_KEY_ID: Code = Code::unverified("E-UPDATE-006");
const OLD_COUNTER: Code = Code::unverified("E-UPDATE-007");
const EXPIRED: Code = Code::unverified("E-UPDATE-008");
const TOO_FAR: Code = Code::unverified("E-UPDATE-009");

/// A key that was stolen must not be able to sign for ever.
const LONGEST: Duration = Duration::days(400);

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
