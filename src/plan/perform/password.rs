//! Another password for the wallet: the kept one and lnd's change together, or both are what they were.

use super::service;
use super::wallet::{Running, read_receipt};
use crate::error::{Code, Error, Result};
use crate::host::credential::Keep;
use crate::host::{file, snapshot};
use crate::plan::door::read_admin;
use crate::plan::prior::Database;
use crate::plan::step::{Door, Runner};
use crate::signer::Node;
use crate::signer::macaroon::Macaroon;
use crate::signer::wallet::State;
use crate::ui::progress::Progress;
use std::path::Path;

const NOT_CHANGED: Code = Code::refused("E-WALLET-060");
const OTHER_KEYS: Code = Code::unverified("E-WALLET-061");

/// The step's parts.
pub(super) struct Work<'a> {
    pub(super) runner: &'a Runner,
    pub(super) door: &'a Door,
    pub(super) place: &'a Keep,
    pub(super) aside: &'a Keep,
    pub(super) database: &'a Database,
    pub(super) receipt: &'a Path,
}

/// Puts the new password in the old one's place, and has lnd change its databases after it. Whatever an earlier try that was
/// cut off left of these is one of three: the old password's, the new one's, or half of each, and then the copy's turn.
pub(super) fn change(work: &Work<'_>, shown: &Progress) -> Result<()> {
    // A boot may have started it meanwhile.
    service::halt_lnd(work.database)?;
    if !work.database.is_given_over() {
        // First: an lnd that is started from here on opens the wallet by the new one, or not at all.
        file::exchange(work.place.path(), work.aside.path())?;
    }
    let (old, new) = (work.aside.load()?, work.place.load()?);
    let change = |node: &Node| node.change_password(&old, &new);
    // Where it is the new one already, lnd writes the macaroon as it is opened.
    let open_only = |node: &Node| {
        node.unlock(&new)?;
        service::wait(node, work.runner, |state| state >= State::RpcActive)?;
        read_admin(work.door)
    };
    let changed = attempt(work, shown, change).or_else(|_| attempt(work, shown, open_only));
    if changed.is_ok() {
        return Ok(());
    }
    shown.say("putting lnd's database back, and trying once more");
    snapshot::put_back(&work.database.copy, work.database.home(), &work.database.data)?;
    attempt(work, shown, change).map_err(|e| {
        Error::new(NOT_CHANGED, "lnd does not take another password for its wallet")
            .hint(e.cause().to_owned())
            .because(e)
    })
}

/// One lnd, locked, that is opened in this way, and has the wallet's keys then.
fn attempt(work: &Work<'_>, shown: &Progress, opens: impl FnOnce(&Node) -> Result<Macaroon>) -> Result<()> {
    shown.say("waiting for lnd");
    let (running, node) = Running::locked(work.runner, work.door)?;
    shown.say("changing the password");
    let admin = opens(&node)?;
    let node = node.with_macaroon(&admin);
    service::wait(&node, work.runner, |state| state == State::Active)?;
    let identity = node.accounts()?.identity_pubkey().to_owned();
    let wanted = read_receipt(work.receipt)?.identity_pubkey;
    if identity != wanted {
        return Err(Error::new(OTHER_KEYS, format!("the wallet's identity is {identity}, and was to be {wanted}")));
    }
    running.end()
}
