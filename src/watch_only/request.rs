//! What `watch-only init` is asked for.

use super::conf::Flavour;
use crate::bundle::Bundle;
use crate::engine::Object;
use crate::host::file::Access;
use crate::host::user::Owner;
use crate::signer::channel::Endpoint;
use crate::spec::Network;
use std::path::PathBuf;

/// What to make of which machine.
#[derive(Debug)]
pub struct InitRequest {
    /// The signer's bundle.
    pub bundle: Bundle,
    /// lnd's folder; made where it is not there.
    pub lnddir: PathBuf,
    /// Where the signer answers, where not as the bundle says.
    pub signer_host: Option<Endpoint>,
    /// Who reads the settings.
    pub flavour: Flavour,
    /// What starts lnd; without it, a running lnd is waited for.
    pub lnd: Option<Start>,
    /// The settings file, where it is not in the folder.
    pub conf: Option<PathBuf>,
    /// The network, where the bundle does not say.
    pub network: Option<Network>,
    /// How many addresses in a row without a coin a new wallet looks at before it gives up, where not as the bundle says.
    pub recovery_window: Option<u32>,
    /// Whose lnd it is, where not of the user who runs lsm.
    pub owner: Option<Owner>,
    /// The folder has a wallet with private keys, which lnd is to purge: they are the signer's alone from then on. Only
    /// where the seed was verified; cannot be undone.
    pub migrate: bool,
}

/// What starts lnd.
#[derive(Debug, Clone)]
pub enum Start {
    /// A program, as a process of this user.
    Program(PathBuf),
    /// A container.
    Container {
        /// Its engine and name.
        object: Object,
        /// What it is made of, in the API's JSON.
        body: String,
    },
}

impl InitRequest {
    pub(super) fn access(&self, mode: u32) -> Access {
        Access { mode, owner: self.owner }
    }

    /// The settings file; where a link is in its place, what that leads to.
    pub(super) fn conf_path(&self) -> PathBuf {
        let path = self.conf.clone().unwrap_or_else(|| self.lnddir.join(self.flavour.file_name()));
        if path.is_symlink() { path.canonicalize().unwrap_or(path) } else { path }
    }
}
