//! `watch-only init`: credentials, settings, wallet, proof; run again it finds everything done.

use super::conf::{Conf, Flavour, Settings};
use super::import::{compare_identity, hold_own, hold_same_signer, hold_way, import};
use super::request::InitRequest;
use super::started::{SERVE_PATIENCE, Started, UNLOCK_NOW, await_lnd};
use super::{CREDENTIALS, Local, Proof, check, choose_host, migrate, prove};
use crate::error::{Code, Error, Result};
use crate::host::file::{self};
use crate::secret::Secret;
use crate::signer::channel::Endpoint;
use crate::signer::wallet::State;
use crate::signer::{self};
use crate::spec::Network;
use crate::ui::{self, progress::Progress};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

const NO_FOLDER: Code = Code::usage("E-WATCH-022");
const LITD: Code = Code::usage("E-WATCH-023");
const SYNCING: Code = Code::refused("E-WATCH-024");

const PASSWORD_FILE: &str = "wallet-password.txt";

/// The look-ahead that lncli proposes too (lnd's cmd/commands/cmd_create.go): a bundle outlives its first watch-only machine.
const RECOVERY_WINDOW: u32 = 2500;

/// How long lnd may take to unlock its wallet by itself.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(20);

/// A watch-only node whose signer signs.
#[derive(Debug)]
pub struct Ready {
    /// The network.
    pub network: Network,
    /// Where the signer answers.
    pub signer: Endpoint,
    /// Where the watch-only node answers.
    pub endpoint: Endpoint,
    /// The settings file.
    pub conf: PathBuf,
    /// The wallet is new; otherwise it was there and is the bundle's.
    pub created: bool,
    /// Its private keys were purged.
    pub migrated: bool,
    /// The signature that was proved.
    pub proof: Proof,
    /// The number of the process that was started, and still runs.
    pub pid: Option<u32>,
}

/// Makes the lnd of a folder the watch-only node of the bundle's signer, and proves a signature.
///
/// # Errors
/// Where the signer does not sign (then nothing is changed), the settings are another network's, the folder holds
/// another wallet, or lnd does not come up. An lnd that this call started is stopped again.
pub fn init(mut request: InitRequest) -> Result<Ready> {
    let network = request.bundle.settle_network(request.network)?;
    request.lnddir = std::path::absolute(&request.lnddir)
        .map_err(|e| Error::new(NO_FOLDER, format!("{:?} is no folder's name: {e}", request.lnddir)))?;
    // Before an lnd is started there, too.
    hold_own(&request.lnddir, request.owner)?;
    hold_way(&request.conf_path(), request.owner)?;
    let signer = choose_host(request.signer_host.as_ref(), &request.bundle)?;
    if request.flavour == Flavour::Litd && request.lnd.is_some() {
        return Err(Error::new(LITD, "--lnd starts lnd, not litd").hint("leave --lnd out and start litd yourself"));
    }
    request.bundle.check_use(OffsetDateTime::now_utc())?;
    refuse_other_wallet(&request, network)?;
    // Before anything is written: with a signer that does not sign, lnd would not even start.
    check::check_signer(&request.bundle, &signer)?;
    let migrated = request.migrate && migrate::has_the_signers_keys(&request, network)?;
    let place = prepare(&request, &signer, network, migrated)?;
    let local = Local::new(&request.lnddir, &place.conf, network);
    let mut lnd = match &request.lnd {
        Some(how) if local.node().and_then(|n| n.state()).is_err() => Some(Started::begin(how, &request, &place.path)?),
        _ => None,
    };
    let raised = raise(&request, &local, &place, lnd.as_mut());
    if migrated {
        // Done, or not: no later start is to purge anything.
        prepare(&request, &signer, network, false)?;
    }
    match raised {
        Ok((created, proof)) => {
            let pid = lnd.and_then(|lnd| lnd.pid());
            Ok(Ready { network, signer, endpoint: local.endpoint, conf: place.path, created, migrated, proof, pid })
        }
        Err(fault) => {
            if let Some(lnd) = &mut lnd {
                // The first fault is the one worth telling.
                let _ = lnd.stop();
            }
            Err(fault)
        }
    }
}

/// Refuses a folder that is another signer's, as far as can be told before anything is written.
fn refuse_other_wallet(request: &InitRequest, network: Network) -> Result<()> {
    hold_same_signer(&request.bundle, &request.lnddir)?;
    let path = request.conf_path();
    let text = if path.exists() { file::read_text(&path)? } else { String::new() };
    let local = Local::new(&request.lnddir, &Conf::parse(&text, request.flavour)?, network);
    match local.node_with_macaroon().and_then(|node| node.info()) {
        Ok(info) => compare_identity(&info.identity_pubkey, &request.bundle).and_then(|()| {
            let node = local.node_with_macaroon()?;
            if request.migrate { migrate::refuse_running(&local) } else { migrate::refuse_keys(&node) }
        }),
        // Not running, or without a wallet: it is compared again once it runs.
        Err(_) => Ok(()),
    }
}

struct Place {
    conf: Conf,
    path: PathBuf,
    password: Option<PathBuf>,
}

/// Writes credentials, password and settings.
fn prepare(request: &InitRequest, signer: &Endpoint, network: Network, migrate: bool) -> Result<Place> {
    let lnddir = &request.lnddir;
    let path = request.conf_path();
    let (text, access) = match file::access_of(&path)? {
        Some(access) => (file::read_text(&path)?, access),
        None => (String::new(), request.access(0o600)),
    };
    let conf = Conf::parse(&text, request.flavour)?;
    let own_password = conf.path("wallet-unlock-password-file");
    let made_password = own_password.is_none().then(|| lnddir.join(PASSWORD_FILE));
    // A wallet that somebody unlocks by hand has a password that lsm does not know: another one would lock it out.
    let made_password = made_password.filter(|path| path.exists() || !has_wallet(&conf, lnddir, network));
    let credentials = lnddir.join(CREDENTIALS);
    let password_file = made_password.as_deref();
    let settings = Settings { signer, credentials: &credentials, password_file, network, migrate };
    let rendered = conf.render(&settings)?;
    if file::access_of(lnddir)?.is_none() {
        file::make_folder(lnddir, request.access(0o700))?;
    }
    import(&request.bundle, lnddir, request.owner)?;
    if let Some(path) = made_password.as_deref().filter(|p| !p.exists()) {
        file::create(path, Secret::generate_password().expose(), request.access(0o600))?;
    }
    if rendered != text {
        file::replace(&path, rendered.as_bytes(), access)?;
    }
    if conf.lacks_chain() && network != Network::Regtest {
        ui::note(&format!("note: {} does not choose bitcoin.node; lnd takes btcd then", path.display()));
    }
    Ok(Place { conf, path, password: own_password.or(made_password) })
}

/// True where lnd has a wallet there: `wallet.db`, or with sqlite `chain.sqlite` (lnd's config_builder.go).
fn has_wallet(conf: &Conf, lnddir: &Path, network: Network) -> bool {
    let data = conf.path("datadir").unwrap_or_else(|| lnddir.join("data"));
    let folder = data.join("chain/bitcoin").join(network.name());
    ["wallet.db", "chain.sqlite"].iter().any(|name| folder.join(name).exists())
}

/// Waits for lnd, gives it the wallet where it has none, and proves a signature.
fn raise(request: &InitRequest, local: &Local, place: &Place, lnd: Option<&mut Started>) -> Result<(bool, Proof)> {
    let progress = Progress::new("watch-only node", None);
    let unlocks_itself = lnd.is_some();
    let (node, state) = await_lnd(local, lnd)?;
    progress.say("wallet");
    let created = state == State::Absent;
    if created {
        let about = &request.bundle.about;
        let password = read_password(place)?;
        let window = request.recovery_window.or(about.recovery_window).unwrap_or(RECOVERY_WINDOW);
        node.init_watch_only(&password, &request.bundle.accounts, about.birthday, window)?;
    } else if state == State::Locked && place.password.is_none() {
        let locked = || {
            let told = format!("the wallet of {} is locked, and lsm has no password for it", local.endpoint);
            Error::new(signer::LOCKED, told).hint("unlock it with lncli unlock, and run this again")
        };
        // One that lsm started ends with it: nobody could unlock it afterwards.
        if !unlocks_itself {
            return Err(locked());
        }
        ui::note(UNLOCK_NOW);
        node.wait_for(|state| state != State::Locked, SERVE_PATIENCE).map_err(|_| locked())?;
    } else if state == State::Locked && !unlocks_itself {
        // With the settings in place lnd is unlocking by itself, and two at once fail on the database's lock; but an lnd
        // that was started before they were written waits for somebody.
        if node.wait_for(|s| s != State::Locked, UNLOCK_PATIENCE).is_err() {
            node.unlock(&read_password(place)?)?;
        }
    }
    progress.say("start");
    node.wait_for(|s| s == State::Active, SERVE_PATIENCE).map_err(|e| {
        if e.code() != signer::NOT_READY {
            return e;
        }
        Error::new(SYNCING, format!("the wallet is made, but {}", e.cause()))
            .hint("once lnd has caught up with its chain: lsm watch-only check --lnddir ...")
    })?;
    let node = local.node_with_macaroon()?;
    compare_identity(&node.info()?.identity_pubkey, &request.bundle)?;
    migrate::refuse_keys(&node)?;
    progress.say("proof");
    Ok((created, prove(&node, request.bundle.identity_pubkey())?))
}

fn read_password(place: &Place) -> Result<Secret> {
    let path = place.password.as_deref().unwrap_or(Path::new(PASSWORD_FILE));
    let mut bytes = zeroize::Zeroizing::new(file::read(path, 4096)?);
    // As lnd reads its file: without the line's end.
    while bytes.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        bytes.pop();
    }
    Ok(Secret::new(bytes.to_vec()))
}
