//! Putting one thing back as it was.

use super::service;
use crate::engine::{Bounds, Engine, Kind, Object};
use crate::error::{Code, Error, Result};
use crate::host::account::Accounts;
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access};
use crate::host::kept::Kept;
use crate::host::program::Program;
use crate::host::snapshot;
use crate::host::sysctl;
use crate::host::user::Owner;
use crate::host::xattrs;
use crate::plan::door::open_as_admin;
use crate::plan::prior::{self, AtPath, Prior, Role, TABLE, Was};
use crate::signer::wallet::State;
use crate::ui;
use std::path::Path;
use std::time::Duration;

const NOT_KEPT: Code = Code::refused("E-PLAN-041");

/// What a container or an image is made of, in bytes: most of it the profile of system calls.
const BODY: u64 = 1 << 20;
/// The lines of an account, in bytes.
const ACCOUNT: u64 = 1 << 16;
/// How long an lnd may take that was started a moment ago.
const SERVES_AGAIN: Duration = Duration::from_secs(60);

pub(super) fn restore(to: &Prior, kept: &Kept) -> Result<()> {
    match to {
        Prior::Path(at) => restore_path(at, kept),
        // What can be reloaded, the packet filter, must not be restarted: the signers that require it would be too.
        Prior::Unit { unit, active: true } => service::systemctl("reload-or-restart", unit),
        Prior::Unit { unit, active: false } => service::halt(unit),
        Prior::Account { account, exists: false, .. } => Accounts::default().remove(account),
        Prior::Account { account, kept: Some(name), .. } => {
            Accounts::default().put(account, &kept.read(name, ACCOUNT)?)
        }
        Prior::Account { account, .. } => Err(lost(account)),
        Prior::Filter { filter, loaded: true } => Program::new("nft").arg("-f").arg(filter).run().map(drop),
        Prior::Filter { loaded: false, .. } => unload(),
        Prior::Rights { rights_of, rights } => rights.as_ref().map_or(Ok(()), |rights| rights.give(rights_of)),
        Prior::Setting { setting, value } => {
            // A setting that goes one way alone is again what it was at the next boot.
            if let Some(Err(e)) = value.as_ref().map(|value| sysctl::write(setting, value)) {
                ui::note(&format!("{}; the next boot does", e.cause()));
            }
            Ok(())
        }
        Prior::Reader { reader } => service::reload(reader, &[]),
        Prior::Object { held, exists: false, .. } => Engine::open(&held.engine)?.remove(held.object, &held.name),
        Prior::Object { held, mark, runs, kept: name, .. } => {
            let body = name.as_deref().map(|name| kept.read(name, BODY)).transpose()?;
            make_again(held, (mark, *runs), body)
        }
        Prior::Wallet { .. } | Prior::RootKey { exists: true, .. } => Ok(()),
        Prior::RootKey { root_key, .. } => {
            let node = open_as_admin(&root_key.door)?;
            node.wait_for(|state| state == State::Active, SERVES_AGAIN)?;
            node.delete_root_key(root_key.id).map(drop)
        }
        Prior::Database { database } => {
            // The lnd that has it now must not go on writing into what is taken away.
            service::halt_lnd(database)?;
            snapshot::put_back(&database.copy, database.home(), &database.data)?;
            // In one go: from here on the database is the old password's, and is not put back again.
            database.passwords().map_or(Ok(()), |[place, aside]| file::exchange(place, aside))
        }
    }
}

/// Has the engine hold again what it held, with this mark, and running or not; `body` is what it was made of.
fn make_again(held: &Object, (mark, runs): (&str, bool), body: Option<Vec<u8>>) -> Result<()> {
    let engine = Engine::open(&held.engine)?;
    match (held.object, body) {
        (Kind::Network, _) => engine.make_network(&held.name, &Bounds::Bridge(held.name.clone())),
        (Kind::Image, Some(recipe)) if engine.find(Kind::Image, mark)?.is_none() => {
            engine.load_again(&recipe, &held.name, mark)
        }
        (Kind::Image, _) => engine.name_image(mark, &held.name),
        (Kind::Container, Some(body)) => {
            // Somebody else's that is still there is only started: made anew it would lose what it wrote into itself.
            let found = engine.find(held.object, &held.name)?;
            if !found.is_some_and(|found| found.mark.is_empty() && mark.is_empty()) {
                engine.replace(&held.name, &String::from_utf8_lossy(&body), None)?;
            }
            if !runs {
                return Ok(());
            }
            engine.start(&held.name)?;
            engine.wait_until_healthy(&held.name)
        }
        // What was in a volume is not kept: a signer must not find an empty one in its place.
        (Kind::Volume, _) | (Kind::Container, None) => Err(lost(&held.to_string())),
    }
}

fn restore_path(at: &AtPath, kept: &Kept) -> Result<()> {
    let path = &at.path;
    match at.was {
        Was::Absent if at.role == Role::Tree => file::remove_tree(path).map(drop),
        Was::Absent => remove(path),
        Was::File => {
            let name = at.kept.as_deref().ok_or_else(|| lost(&path.display().to_string()))?;
            let mut draft = Draft::begin(path, access(at))?;
            kept.copy_to(name, at.sha256.as_deref(), &mut draft)?;
            xattrs::write(draft.file(), path, &at.attributes())?;
            draft.keep(Durable::Yes)
        }
        Was::Folder => {
            file::make_folder(path, access(at))?;
            xattrs::write(&file::open_folder(path)?, path, &at.attributes())
        }
        Was::Link => file::replace_link(path, at.target.as_deref().unwrap_or(Path::new("/dev/null"))),
        Was::Other => Err(lost(&path.display().to_string())),
    }
}

/// A folder goes where it is empty: what somebody else put into it is theirs.
fn remove(path: &Path) -> Result<()> {
    let is_folder = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if is_folder { file::remove_folder(path).map(drop) } else { file::remove(path).map(drop) }
}

fn access(at: &AtPath) -> Access {
    let owner = Owner { uid: at.uid.unwrap_or(0), gid: at.gid.unwrap_or(0) };
    Access::owned(at.mode.unwrap_or(0o600), owner)
}

/// Gone is gone: a table that is not there is what is wanted.
fn unload() -> Result<()> {
    if !prior::is_loaded()? {
        return Ok(());
    }
    Program::new("nft").arg("delete").args(TABLE).run().map(drop)
}

fn lost(what: &str) -> Error {
    Error::new(NOT_KEPT, format!("what {what} was is not kept"))
        .hint("an older lsm kept no bytes; put it back from a backup")
}
