//! `bundle import`: a bundle that can be used takes the place of the last one of the same signer, whole or not at all.

use super::CREDENTIALS;
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::host::user::{self, Owner};
use crate::host::{file, way};
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
        return Err(Error::new(NOT_MINE, format!("{} belongs to another user", lnddir.display()))
            .hint("run it as lnd's own user (sudo -u USER lsm ...), so that lnd can read what it writes"));
    }
    hold_way(lnddir, wanted)
}

/// Holds that nobody else decides where root writes when it writes to `path`: neither who owns what is on the way, nor who may
/// write there. Where lsm itself names another owner, the place is of its own choice too.
///
/// # Errors
/// Where somebody does.
pub(super) fn hold_way(path: &Path, wanted: Option<Owner>) -> Result<()> {
    if wanted.is_some() || !user::is_root() {
        return Ok(());
    }
    let place = std::path::absolute(path).map_err(|e| file::cannot_read(path, &e))?;
    let Some(open) = way::open_to_others(&place) else { return Ok(()) };
    Err(Error::new(NOT_MINE, format!("other users can change {}", open.display()))
        .hint("run it as lnd's own user (sudo -u USER lsm ...), or have that be root's alone"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn root_writes_nowhere_where_others_could_rename() {
        if !user::is_root() {
            return; // An ordinary user writes where that user alone can.
        }
        let dir = tempfile::tempdir().unwrap();
        let (above, lnddir) = (dir.path().join("above"), dir.path().join("above/lnd"));
        fs::create_dir_all(&lnddir).unwrap();
        for (mode, is_refused) in [(0o755, false), (0o757, true), (0o1777, false)] {
            fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
            for path in [&lnddir, &above.join("new")] {
                let refused = hold_own(path, None).err().map(|e| e.code());
                assert_eq!(refused, is_refused.then_some(NOT_MINE), "{} {mode:o}", path.display());
            }
        }
    }
}
