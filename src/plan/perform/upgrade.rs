//! Another lnd on the same database: what the old one knew and a copy of it, and the new one held to that.

use super::machine::Machine;
use super::{outside, service};
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::snapshot;
use crate::plan::door::open_as_admin;
use crate::plan::prior::Database;
use crate::plan::step::{Door, Port};
use crate::signer::accounts::Accounts;
use crate::signer::macaroon::{SIGNER_URIS, TAPROOT_URIS, signer_permissions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

const NOT_RUNNING: Code = Code::refused("E-UPGRADE-010");
const UNREADABLE: Code = Code::refused("E-UPGRADE-011");
const OTHER_VERSION: Code = Code::unverified("E-UPGRADE-012");
const KEYS_LOST: Code = Code::unverified("E-UPGRADE-013");

/// What the earlier lnd knew, beside the copy of its database.
const BEFORE: &str = "before.json";
/// The largest such file, in bytes: accounts and a few numbers.
const LIMIT: u64 = 16 << 20;

/// What is known of a wallet through its lnd.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    accounts: serde_json::Value,
    /// Every call that a bundle's macaroon could permit there, of those that lnd knew.
    calls: BTreeSet<String>,
    /// The root keys on which macaroons hang.
    root_keys: BTreeSet<String>,
}

/// Holds that the database can be copied, and that there is room for it: before the signer is stopped.
///
/// # Errors
/// Where it cannot.
pub fn check_snapshot(database: &Database) -> Result<()> {
    snapshot::check(database.home(), &database.data, &database.copy)
}

/// Keeps what the running lnd knows, stops it, and copies its database.
pub(super) fn snapshot(database: &Database, door: &Door, bundle: &Path, machine: &Machine<'_>) -> Result<()> {
    file::make_folder(&database.copy, Access::mode(0o700))?;
    keep_before(&database.copy.join(BEFORE), door, bundle)?;
    check_snapshot(database)?;
    machine.told.borrow_mut().stopped = Some(Instant::now());
    match &database.container {
        Some(object) => service::stop_container(object, database)?,
        None => service::systemctl("stop", &database.unit)?,
    }
    snapshot::take(database.home(), &database.data, &database.copy)
}

/// Holds the lnd that runs now to what the one before it knew, and has it sign through its port.
pub(super) fn prove(version: &str, door: &Door, copy: &Path, port: &Port, machine: &Machine<'_>) -> Result<()> {
    let before = read_before(copy)?;
    let admin = open_as_admin(door)?;
    // Looked at before a macaroon is baked, which makes a key that is not there.
    let root_keys: BTreeSet<String> = admin.root_key_ids()?.iter().map(ToString::to_string).collect();
    outside::sign(door, port)?;
    let gap = machine.told.borrow().stopped.map(|stopped| stopped.elapsed());
    let is = admin.info()?.version;
    if is != version {
        return Err(Error::new(OTHER_VERSION, format!("lnd says that it is {is}, and was to be {version}")));
    }
    if let Some(lost) = before.root_keys.difference(&root_keys).next() {
        return Err(Error::new(KEYS_LOST, format!("lnd has lost the macaroons' root key {lost}: no bundle is good"))
            .hint("where the lnd of before may have lied about it: lsm restart, then run it again"));
    }
    let accounts = admin.accounts()?.added_since(&before.accounts()?)?;
    let mut told = machine.told.borrow_mut();
    (told.gap, told.accounts) = (gap, accounts);
    Ok(())
}

/// True where the bundle's macaroon has to permit other calls of the lnd that runs now than of the one before it.
pub(super) fn asks_for_others(door: &Door, copy: &Path, taproot_channels: bool) -> Result<bool> {
    let (now, before) = (open_as_admin(door)?.known_uris()?, read_before(copy)?.calls);
    Ok(signer_permissions(taproot_channels, &now)? != signer_permissions(taproot_channels, &before)?)
}

impl Before {
    fn accounts(&self) -> Result<Accounts> {
        Accounts::parse(self.accounts.to_string().as_bytes())
    }
}

/// From the running lnd; where it does not run, from an earlier try that stopped it, or from the bundle.
fn keep_before(place: &Path, door: &Door, bundle: &Path) -> Result<()> {
    let before = match ask(door) {
        Ok(before) => before,
        Err(_) if file::is_there(place)? => return Ok(()),
        Err(e) => read_bundle(bundle).map_err(|_| {
            Error::new(NOT_RUNNING, "lnd does not run, and there is no bundle that says what it signs for")
                .hint("start it first, for the new one to be compared with it: lsm start")
                .because(e)
        })?,
    };
    let json = serde_json::to_vec(&before).map_err(|e| unreadable(place).because(e))?;
    file::replace(place, &json, Access::mode(0o600))
}

fn ask(door: &Door) -> Result<Before> {
    let admin = open_as_admin(door)?;
    let known = admin.known_uris()?;
    Ok(Before {
        accounts: parse(&admin.accounts()?)?,
        calls: SIGNER_URIS
            .iter()
            .chain(&TAPROOT_URIS)
            .map(|uri| (*uri).to_owned())
            .filter(|uri| known.contains(uri))
            .collect(),
        root_keys: admin.root_key_ids()?.iter().map(ToString::to_string).collect(),
    })
}

fn read_bundle(folder: &Path) -> Result<Before> {
    let bundle = Bundle::read(&folder.to_string_lossy())?;
    Ok(Before {
        accounts: parse(&bundle.accounts)?,
        calls: bundle.macaroon.permissions().iter().map(|permission| permission.action.clone()).collect(),
        root_keys: [bundle.macaroon.root_key_id().to_owned()].into(),
    })
}

fn parse(accounts: &Accounts) -> Result<serde_json::Value> {
    serde_json::from_slice(&accounts.to_json()).map_err(|e| unreadable(Path::new(BEFORE)).because(e))
}

fn read_before(copy: &Path) -> Result<Before> {
    let place = copy.join(BEFORE);
    serde_json::from_slice(&file::read_plain(&place, LIMIT)?).map_err(|e| unreadable(&place).because(e))
}

fn unreadable(place: &Path) -> Error {
    Error::new(UNREADABLE, format!("{} does not say what the earlier lnd knew", place.display()))
        .hint("undo the upgrade: lsm rollback")
}
