//! The bundle of a signer that is elsewhere, or that lsm did not install: asked over its port with a macaroon that may bake.

use super::least;
use crate::bundle::{About, Bundle};
use crate::error::{Error, Result};
use crate::host::file;
use crate::plan::door::read_certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::{Macaroon, signer_permissions};
use crate::signer::{NOT_PERMITTED, Node};
use std::path::{Path, PathBuf};

/// A macaroon has a few hundred bytes, one that names every call some ten thousand.
const LARGEST_MACAROON: u64 = 1 << 20;
/// The first root key for its bundle's macaroon that no lsm takes where it installs: others may hang on the lower ones.
const FIRST: u64 = 3;

/// Where a signer answers, and with what it is asked.
#[derive(Debug)]
pub struct Remote {
    /// Its address, as the watch-only side dials it.
    pub rpcserver: Endpoint,
    /// The file of its certificate.
    pub certificate: PathBuf,
    /// The file of a macaroon that may bake others and list the accounts, such as lnd's admin one. It goes nowhere else.
    pub macaroon: PathBuf,
}

/// Puts the signer's bundle together, with a least macaroon of its own. What lnd does not tell, when the seed was made, is
/// taken from the bundle of the same wallet that is in `folder`, where there is one.
///
/// # Errors
/// The first layer between here and the signer that fails; where the macaroon may not bake.
pub fn export_remote(remote: &Remote, folder: &Path) -> Result<Bundle> {
    let certificate = read_certificate(&remote.certificate)?;
    let macaroon = Macaroon::parse_either(file::read_named(&remote.macaroon, LARGEST_MACAROON)?)?;
    let open = || Ok(Node::new(remote.rpcserver.clone(), &certificate));
    let admin = open()?.with_macaroon(&macaroon);
    admin.probe()?;
    let told = admin.info().map_err(ask_for_more)?;
    let earlier = Bundle::read(&folder.to_string_lossy()).ok();
    let earlier = earlier.filter(|earlier| earlier.identity_pubkey() == told.identity_pubkey);
    let about = About {
        lnd_version: Some(told.version),
        network: Some(told.network.parse()?),
        birthday: earlier.as_ref().map_or(0, |earlier| earlier.about.birthday),
        recovery_window: earlier.as_ref().and_then(|earlier| earlier.about.recovery_window),
        rpchost: vec![remote.rpcserver.clone()],
    };
    let permissions = signer_permissions(false, &admin.known_uris().map_err(ask_for_more)?)?;
    let live = admin.root_key_ids().map_err(ask_for_more)?;
    // That of the bundle before, where its macaroon is what is wanted and still good; else one of its own, so that it can be revoked
    // alone: nothing wider hangs on it, as on lnd's own number 0.
    let had = earlier.as_ref().map(|earlier| &earlier.macaroon).filter(|had| had.permissions() == permissions);
    let had = had.and_then(|had| had.root_key_id().parse().ok());
    let free = (FIRST..).find(|key| !live.contains(key)).unwrap_or(FIRST);
    let root_key = had.filter(|key| *key >= FIRST && live.contains(key)).unwrap_or(free);
    let wanted = least::Wanted { permissions: &permissions, root_key, identity_pubkey: &told.identity_pubkey };
    let least = least::obtain(&admin, open, earlier, &wanted).map_err(|e| {
        if !live.contains(&root_key) {
            // What was baked and does not sign is no use to anybody. The first fault is the one worth telling.
            let _ = admin.delete_root_key(root_key);
        }
        ask_for_more(e)
    })?;
    Bundle::new(admin.accounts().map_err(ask_for_more)?, certificate.clone(), None, least, about)
}

/// A macaroon that signs, such as the one of a bundle, is not one that bakes.
fn ask_for_more(e: Error) -> Error {
    if e.code() != NOT_PERMITTED {
        return e;
    }
    e.hint("an export bakes a macaroon of its own: name the signer's admin.macaroon")
}
