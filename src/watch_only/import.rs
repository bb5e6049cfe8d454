//! `bundle import`: a bundle that can be used takes the place of the last one of the same signer, whole or not at all.

use super::CREDENTIALS;
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::host::user::{self, Owner};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The folder's wallet, or the bundle in it, is another signer's.
pub(super) const OTHER_WALLET: Code = Code::refused("E-WATCH-020");
const NOT_MINE: Code = Code::refused("E-WATCH-025");
const OTHER_NETWORK: Code = Code::refused("E-WATCH-026");

/// Puts the bundle into lnd's folder, and says where. Its network has to be settled.
///
/// # Errors
/// Where it cannot be used, the folder is another user's, or the bundle that is there is another signer's; that one then stays.
pub fn import(bundle: &Bundle, lnddir: &Path, owner: Option<Owner>) -> Result<PathBuf> {
    bundle.check_use(OffsetDateTime::now_utc())?;
    hold_own(lnddir, owner)?;
    hold_same_signer(bundle, lnddir)?;
    let folder = lnddir.join(CREDENTIALS);
    bundle.write_members(&folder, owner)?;
    Ok(folder)
}

/// Holds that the folder is of the user who is to read what is written: lnd could not, and root would write where another
/// user decides.
///
/// # Errors
/// Where it is not.
pub(super) fn hold_own(lnddir: &Path, wanted: Option<Owner>) -> Result<()> {
    let own = wanted.map_or_else(user::own_uid, |wanted| wanted.uid);
    let owner = file::access_of(lnddir)?.and_then(|access| access.owner);
    if owner.is_some_and(|owner| owner.uid != own) {
        return Err(not_mine(lnddir));
    }
    hold_way(lnddir, wanted)
}

/// Holds that nobody else decides where root writes when it writes to `path`. Where lsm itself names another owner, the place is of
/// its own choice too.
///
/// # Errors
/// Where somebody does.
pub(super) fn hold_way(path: &Path, wanted: Option<Owner>) -> Result<()> {
    if wanted.is_some() || !user::is_root() {
        return Ok(());
    }
    foreign(path)?.map_or(Ok(()), |whose| Err(not_mine(&whose)))
}

fn not_mine(whose: &Path) -> Error {
    Error::new(NOT_MINE, format!("{} belongs to another user", whose.display()))
        .hint("run it as lnd's own user (sudo -u USER lsm ...), so that lnd can read what it writes")
}

/// What is on the way to `lnddir` and is not root's: a folder or a link, whose owner could lead root elsewhere.
fn foreign(lnddir: &Path) -> Result<Option<PathBuf>> {
    let place = std::path::absolute(lnddir).map_err(|e| file::cannot_read(lnddir, &e))?;
    let is_foreign = |path: &&Path| {
        let both = [std::fs::symlink_metadata(path), std::fs::metadata(path)];
        both.into_iter().flatten().any(|meta| meta.uid() != 0)
    };
    Ok(place.ancestors().find(is_foreign).map(Path::to_owned))
}

/// Holds that the bundle which is there, if one is, is of the same wallet. One that does not read is nobody's.
pub(super) fn hold_same_signer(bundle: &Bundle, lnddir: &Path) -> Result<()> {
    let Ok(earlier) = Bundle::read(&lnddir.join(CREDENTIALS).to_string_lossy()) else { return Ok(()) };
    compare_identity(earlier.identity_pubkey(), bundle)?;
    match (earlier.about.network, bundle.about.network) {
        (Some(had), Some(has)) if had != has => {
            Err(Error::new(OTHER_NETWORK, format!("the bundle in this folder is for {had}, the new one for {has}"))
                .hint("a node has one network: give the bundle another --lnddir"))
        }
        _ => Ok(()),
    }
}

pub(super) fn compare_identity(identity: &str, bundle: &Bundle) -> Result<()> {
    let theirs = bundle.identity_pubkey();
    if identity == theirs {
        return Ok(());
    }
    Err(Error::new(OTHER_WALLET, format!("this folder's wallet is {identity}, the bundle's signer is {theirs}"))
        .hint("the wallet is left as it is; give the bundle another --lnddir"))
}
