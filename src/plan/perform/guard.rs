//! The guard's macaroon: baked by an lnd without a port, which does not hold the guard for mandatory.

use super::service;
use super::wallet::Running;
use crate::error::Result;
use crate::facts;
use crate::host::credential::Keep;
use crate::host::file;
use crate::plan::door::open_as_admin;
use crate::plan::register;
use crate::plan::step::{Door, Runner};
use crate::secret::Secret;
use crate::signer::Node;
use crate::signer::macaroon::Permission;
use crate::signer::middleware::URIS;
use crate::signer::wallet::State;
use crate::ui::progress::Progress;

/// The step's parts.
pub(super) struct Work<'a> {
    pub(super) runner: &'a Runner,
    pub(super) door: &'a Door,
    pub(super) password: &'a Keep,
    pub(super) keep: &'a Keep,
    pub(super) unit: &'a str,
}

/// Stops lnd where it runs, and has it bake the macaroon in the unit without a port.
pub(super) fn bake(work: &Work<'_>, shown: &Progress) -> Result<()> {
    if facts::state(work.unit)?.is_up() {
        service::systemctl("stop", work.unit)?;
    }
    shown.say("waiting for lnd");
    let (running, node) = Running::locked(work.runner, work.door)?;
    node.unlock(&work.password.load()?)?;
    service::wait(&node, work.runner, |state| state >= State::RpcActive)?;
    replace(&open_as_admin(work.door)?, work.keep)?;
    running.end()
}

/// Bakes another one in its place; what hung on the root key before is refused from then on.
pub(super) fn replace(admin: &Node, keep: &Keep) -> Result<()> {
    admin.delete_root_key(register::GUARD)?;
    let permissions: Vec<Permission> = URIS.iter().map(|uri| Permission::uri(uri)).collect();
    let macaroon = admin.bake(&permissions, register::GUARD)?;
    file::remove(keep.path())?;
    super::keep_secret(keep, Secret::new(macaroon.expose().to_vec()))
}
