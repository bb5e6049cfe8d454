//! What `watch-only init` writes into lnd's folder: looked at, told by a dry run, written, and put back where the wallet is another's.

use super::CREDENTIALS;
use super::conf::{Conf, Settings};
use super::import::import;
use super::request::InitRequest;
use crate::error::Result;
use crate::host::file::{self, Access};
use crate::secret::Secret;
use crate::signer::channel::Endpoint;
use crate::spec::Network;
use crate::ui;
use serde::Serialize;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const PASSWORD_FILE: &str = "wallet-password.txt";

/// One thing that `init` changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// lnd's folder is made.
    Folder {
        /// Where.
        path: PathBuf,
    },
    /// The bundle is put beside lnd's data.
    Bundle {
        /// The folder that it goes into.
        folder: PathBuf,
    },
    /// A password is made for the watch-only wallet.
    Password {
        /// Its file.
        path: PathBuf,
    },
    /// lsm's block is written into lnd's settings.
    Settings {
        /// Their file.
        path: PathBuf,
        /// What the block says.
        lines: Vec<String>,
    },
    /// lnd purges the private keys of its wallet.
    Purge,
    /// lnd is started.
    Start {
        /// The program, or the container.
        lnd: String,
    },
    /// lnd makes its watch-only wallet.
    Wallet,
}

impl Change {
    /// What it does, in the words of the dry run.
    pub fn describe(&self) -> String {
        match self {
            Self::Folder { path } => format!("make the folder {} (0700)", path.display()),
            Self::Bundle { folder } => format!("put the bundle into {} (0700)", folder.display()),
            Self::Password { path } => format!("make the wallet's password, 0600, in {}", path.display()),
            Self::Settings { path, .. } => format!("write lsm's block into {}:", path.display()),
            Self::Purge => "purge the wallet's private keys for good, if each is seen to be the signer's".to_owned(),
            Self::Start { lnd } => format!("start {lnd} and leave it running"),
            Self::Wallet => "make the watch-only wallet from the bundle".to_owned(),
        }
    }

    /// The lines of a text that it writes.
    pub fn lines(&self) -> &[String] {
        if let Self::Settings { lines, .. } = self { lines } else { &[] }
    }
}

/// The places in lnd's folder: as they are, and as they are to be.
pub(super) struct Place {
    /// The operator's own settings.
    pub(super) conf: Conf,
    /// The settings file.
    pub(super) path: PathBuf,
    /// The file with the wallet's password, where there is one or is to be one.
    pub(super) password: Option<PathBuf>,
    /// lnd has a wallet there, as far as can be seen.
    pub(super) has_wallet: bool,
    /// The settings that are there.
    had: Option<(String, Access)>,
    /// The settings that are to be there.
    wanted: String,
    /// The password's file, where it is to be made.
    new_password: Option<PathBuf>,
    had_bundle: bool,
}

impl Place {
    /// Looks at them, and says what they are to be: with `migrate`, settings by which lnd purges its wallet's private keys.
    pub(super) fn look(request: &InitRequest, signer: &Endpoint, network: Network, migrate: bool) -> Result<Self> {
        let lnddir = &request.lnddir;
        let path = request.conf_path();
        let had = match file::access_of(&path)? {
            Some(access) => Some((file::read_text(&path)?, access)),
            None => None,
        };
        let conf = Conf::parse(had.as_ref().map_or("", |(text, _)| text.as_str()), request.flavour)?;
        let has_wallet = has_wallet(&conf, lnddir, network);
        let own_password = conf.path("wallet-unlock-password-file");
        let made_password = own_password.is_none().then(|| lnddir.join(PASSWORD_FILE));
        // A wallet that somebody unlocks by hand has a password that lsm does not know: another one would lock it out.
        let made_password = made_password.filter(|path| path.exists() || !has_wallet);
        let credentials = lnddir.join(CREDENTIALS);
        let password_file = made_password.as_deref();
        let settings = Settings { signer, credentials: &credentials, password_file, network, migrate };
        let wanted = conf.render(&settings)?;
        let new_password = made_password.clone().filter(|path| !path.exists());
        let (password, had_bundle) = (own_password.or(made_password), file::is_there(&credentials)?);
        Ok(Self { conf, path, password, has_wallet, had, wanted, new_password, had_bundle })
    }

    /// What is to be written, in this order.
    pub(super) fn changes(&self, request: &InitRequest) -> Result<Vec<Change>> {
        let (lnddir, folder) = (&request.lnddir, request.lnddir.join(CREDENTIALS));
        let mut changes = Vec::new();
        if !file::is_there(lnddir)? {
            changes.push(Change::Folder { path: lnddir.clone() });
        }
        if !request.bundle.is_in(&folder, request.owner)? {
            changes.push(Change::Bundle { folder });
        }
        changes.extend(self.new_password.clone().map(|path| Change::Password { path }));
        if self.had.as_ref().is_none_or(|(text, _)| *text != self.wanted) {
            changes.push(Change::Settings { path: self.path.clone(), lines: Conf::block_in(&self.wanted) });
        }
        Ok(changes)
    }

    /// Writes credentials, password and settings.
    pub(super) fn write(&self, request: &InitRequest, network: Network) -> Result<()> {
        for change in self.changes(request)? {
            match change {
                Change::Folder { path } => file::make_folder(&path, request.access(0o700))?,
                Change::Bundle { .. } => import(&request.bundle, &request.lnddir, request.owner).map(drop)?,
                Change::Password { path } => {
                    file::create(&path, Secret::generate_password().expose(), request.access(0o600))?;
                }
                Change::Settings { path, .. } => {
                    let access = self.had.as_ref().map_or(request.access(0o600), |(_, access)| *access);
                    file::replace(&path, self.wanted.as_bytes(), access)?;
                }
                // lnd's own, once it runs with what is written here.
                Change::Purge | Change::Start { .. } | Change::Wallet => {}
            }
        }
        if self.conf.lacks_chain() && network != Network::Regtest {
            ui::note(&format!("note: {} does not choose bitcoin.node; lnd takes btcd then", self.path.display()));
        }
        Ok(())
    }

    /// The wallet's password, as lnd reads its file: without the line's end.
    pub(super) fn read_password(&self) -> Result<Secret> {
        let path = self.password.as_deref().unwrap_or(Path::new(PASSWORD_FILE));
        let mut bytes = Zeroizing::new(file::read(path, 4096)?);
        while bytes.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
            bytes.pop();
        }
        Ok(Secret::new(std::mem::take(&mut *bytes)))
    }

    /// Puts back the settings that were there, but for one by which an earlier call would have had lnd purge its keys, and takes away a
    /// bundle that was not. What somebody else wrote meanwhile stays: false then.
    pub(super) fn put_back(&self, lnddir: &Path) -> Result<bool> {
        if file::read_text(&self.path)? != self.wanted {
            return Ok(false);
        }
        match &self.had {
            Some((text, access)) => file::replace(&self.path, Conf::without_purge(text).as_bytes(), *access)?,
            None => file::remove(&self.path).map(drop)?,
        }
        if !self.had_bundle {
            file::remove_tree(&lnddir.join(CREDENTIALS))?;
        }
        Ok(true)
    }
}

/// True where lnd has a wallet there: `wallet.db`, or with sqlite `chain.sqlite` (lnd's config_builder.go).
fn has_wallet(conf: &Conf, lnddir: &Path, network: Network) -> bool {
    let data = conf.path("datadir").unwrap_or_else(|| lnddir.join("data"));
    let folder = data.join("chain/bitcoin").join(network.name());
    ["wallet.db", "chain.sqlite"].iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch_only::conf::Flavour;
    use std::fs;

    #[test]
    fn what_was_there_is_put_back_unless_somebody_wrote_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bundle) = (dir.path().join("lnd.conf"), dir.path().join(CREDENTIALS));
        let place = |had: Option<&str>, had_bundle| Place {
            conf: Conf::parse("", Flavour::Lnd).unwrap(),
            path: path.clone(),
            password: None,
            new_password: None,
            has_wallet: true,
            had: had.map(|text| (text.to_owned(), Access::mode(0o600))),
            wanted: "lsm's".to_owned(),
            had_bundle,
        };
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::create_dir_all(&bundle).unwrap();
        };
        for (had, had_bundle) in [(None, false), (Some("mine"), false), (Some("mine"), true)] {
            write("lsm's");
            assert!(place(had, had_bundle).put_back(dir.path()).unwrap());
            assert_eq!((fs::read_to_string(&path).ok().as_deref(), bundle.exists()), (had, had_bundle));
        }
        // An interrupted migration's line would purge the keys at the next start.
        write("lsm's");
        let purging = "mine\n    lnd.remotesigner.migrate-wallet-to-watch-only = 1\nmore\n";
        assert!(place(Some(purging), true).put_back(dir.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\nmore\n");
        write("mine, of now");
        assert!(!place(Some("mine"), false).put_back(dir.path()).unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), bundle.exists()), ("mine, of now", true));
    }
}
