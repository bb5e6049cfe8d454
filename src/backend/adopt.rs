//! An lnd that was a signer before lsm: where its database is, and what else of it the new signer needs.

use crate::engine::{Engine, Kind, Object, find_socket};
use crate::error::{Code, Error, Result};
use crate::host::process;
use crate::plan::History;
use crate::plan::prior::Prior;
use crate::spec::Network;
use std::path::{Path, PathBuf};

const NO_CONTAINER: Code = Code::usage("E-ADOPT-001");
const NO_WALLET: Code = Code::usage("E-ADOPT-002");
const NO_PASSWORD: Code = Code::usage("E-ADOPT-004");
const IN_PLACE: Code = Code::refused("E-ADOPT-005");
const OWN_WALLET: Code = Code::refused("E-ADOPT-006");

/// Where lnd keeps a network's wallet in its folder (lnd's config.go, `defaultChainSubDirname`).
const CHAINS: &str = "data/chain/bitcoin";
/// The wallet in bolt and in SQLite (lnd's config_builder.go).
const BOLT: &str = "wallet.db";
const SQLITE: &str = "chain.sqlite";
/// Where the shell scripts before lsm kept the wallet's password.
const PASSWORD: &str = "wallet-password.txt";

/// Such an lnd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its folder, on this host.
    pub from: PathBuf,
    /// The container that it runs in.
    pub container: Option<Object>,
    /// Its database is SQLite's.
    pub sqlite: bool,
    /// The file of its wallet's password, where there is one.
    pub password: Option<PathBuf>,
}

impl Adoption {
    /// The lnd in the folder `what`, or in the container of that name.
    ///
    /// # Errors
    /// Where there is none, it has no wallet of this network, or a process other than a container's has it open.
    pub fn find(what: &str, network: Network) -> Result<Self> {
        let (folders, container) = if what.contains('/') {
            (vec![PathBuf::from(what)], None)
        } else {
            // Who means a folder is not helped by what is said of engines and containers.
            let meant = |e: Error| {
                if Path::new(what).is_dir() { e.hint(format!("write ./{what} for the folder of that name")) } else { e }
            };
            let container =
                Object { engine: find_socket().map_err(meant)?, object: Kind::Container, name: what.to_owned() };
            (mounted(&container).map_err(meant)?, Some(container))
        };
        let wallet = |folder: &&PathBuf| file_of(folder, network).is_some();
        let Some(from) = folders.iter().find(wallet) else {
            return Err(no_wallet(what, &folders, network));
        };
        let from = from.canonicalize().unwrap_or_else(|_| from.clone());
        if container.is_none() {
            process::hold_unused(&from)?;
        }
        let sqlite = file_of(&from, network) == Some(SQLITE);
        let password = Some(from.join(PASSWORD)).filter(|path| path.is_file());
        Ok(Self { from, container, sqlite, password })
    }

    /// Holds that the signer whose lnd will have its folder in `data` can take it over with the password in `password`.
    ///
    /// # Errors
    /// Where nobody knows the password, or the folder is that one already.
    pub fn check(&self, data: &Path, password: Option<&Path>) -> Result<()> {
        if self.from == data {
            let cause = format!("{} is where the new signer would have its own database", data.display());
            return Err(Error::new(IN_PLACE, cause).hint("give the new signer a name of its own with --instance"));
        }
        if password.is_none() {
            let cause = format!("there is no {}", self.from.join(PASSWORD).display());
            return Err(Error::new(NO_PASSWORD, cause).hint("name the wallet's password with --password-file"));
        }
        Ok(())
    }
}

/// Holds that the wallet of this receipt came from an older lnd: `--adopt` named once more asks for nothing new.
///
/// # Errors
/// Where lsm made it.
pub fn hold_adopted(history: &History, receipt: &Path) -> Result<()> {
    if history.began_with(|first| matches!(first, Prior::Wallet { wallet } if wallet.adopted)) {
        return Ok(());
    }
    let cause = format!("the signer has a wallet of its own, whose receipt is {}", receipt.display());
    Err(Error::new(OWN_WALLET, cause).hint("it is kept; give the one that takes another over a name with --instance"))
}

/// The folders of this host that a container has.
fn mounted(container: &Object) -> Result<Vec<PathBuf>> {
    let found = Engine::open(&container.engine)?.inspect(&container.name)?.ok_or_else(|| {
        Error::new(NO_CONTAINER, format!("there is no container {}", container.name))
            .hint("name one of docker ps -a, or lnd's folder with a / in it")
    })?;
    Ok(found.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.source).map(PathBuf::from).collect())
}

/// True where lnd has a wallet of any network in its folder.
pub(super) fn has_wallet(folder: &Path) -> bool {
    Network::ALL.into_iter().any(|network| file_of(folder, network).is_some())
}

fn file_of(folder: &Path, network: Network) -> Option<&'static str> {
    let place = folder.join(CHAINS).join(network.name());
    [BOLT, SQLITE].into_iter().find(|name| place.join(name).is_file())
}

fn no_wallet(what: &str, folders: &[PathBuf], network: Network) -> Error {
    let others =
        Network::ALL.into_iter().filter(|other| folders.iter().any(|folder| file_of(folder, *other).is_some()));
    let others: Vec<String> = others.map(|other| other.to_string()).collect();
    let hint = match others.as_slice() {
        [] => format!("lnd's folder is the one that has {CHAINS}/{network} in it"),
        found => format!("it has one of: {}", found.join(", ")),
    };
    Error::new(NO_WALLET, format!("{what} has no wallet of {network}")).hint(hint)
}
