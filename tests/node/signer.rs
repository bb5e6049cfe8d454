//! A signer with a wallet, its owner's macaroon, and the bundle that its client gets.

use super::{Lnd, Pair};
use lsm::bundle::{About, Bundle};
use lsm::secret::Secret;
use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::macaroon::{self, Macaroon, Permission};
use lsm::signer::wallet::{Seed, State};
use lsm::spec::Network;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When its seed was made, as its bundle says.
pub const BIRTHDAY: u64 = 1_700_000_000;

pub struct Signer {
    pub lnd: Lnd,
    pub admin: Macaroon,
    pub bundle: PathBuf,
    pub password: Secret,
    pub seed: Seed,
}

/// Starts one in `folder`/signer, with its bundle in `folder`/bundle.
pub fn start_signer(version: &str, lnd: &Path, folder: &Path, pair: &Pair) -> Signer {
    let running = Lnd::start_signer(lnd, &folder.join("signer"), pair, &[]);
    let node = running.unix();
    node.wait_for(|s| s == State::Absent, Duration::from_secs(60)).unwrap();
    let (password, seed) = (Secret::generate_password(), node.gen_seed(None).unwrap());
    let admin = node.init_wallet(&password, &seed, true).unwrap();
    running.wait(State::Active);
    let signer = Signer { lnd: running, admin, bundle: folder.join("bundle"), password, seed };
    let permissions = macaroon::signer_permissions(false, &signer.owner().known_uris().unwrap()).unwrap();
    signer.write_bundle(version, &permissions, 5, &signer.lnd.certificate);
    signer
}

impl Signer {
    pub fn owner(&self) -> Node {
        self.lnd.unix().with_macaroon(&self.admin)
    }

    pub fn write_bundle(&self, version: &str, permissions: &[Permission], key: u64, certificate: &Certificate) {
        let about = About {
            lnd_version: Some(version.to_owned()),
            network: Some(Network::Regtest),
            birthday: BIRTHDAY,
            recovery_window: None,
            rpchost: vec![self.lnd.endpoint()],
        };
        let macaroon = self.owner().bake(permissions, key).unwrap();
        let accounts = self.owner().accounts().unwrap();
        Bundle::new(accounts, certificate.clone(), None, macaroon, about).unwrap().write(&self.bundle).unwrap();
    }

    pub fn bundle(&self) -> Bundle {
        Bundle::read(self.bundle.to_str().unwrap()).unwrap()
    }
}
