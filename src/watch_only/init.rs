//! `watch-only init`: credentials, settings, wallet, proof; run again it finds everything done.

use super::conf::{Conf, Flavour};
use super::import::{OTHER_WALLET, compare_identity, hold_own, hold_same_signer, hold_way};
use super::place::{Change, Place};
use super::request::{InitRequest, Start};
use super::started::{SERVE_PATIENCE, Started, UNLOCK_NOW, await_lnd};
use super::{Local, Proof, check, choose_host, migrate, prove};
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::signer;
use crate::signer::channel::Endpoint;
use crate::signer::wallet::State;
use crate::spec::Network;
use crate::ui::{self, progress::Progress};
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;

const NO_FOLDER: Code = Code::usage("E-WATCH-022");
const LITD: Code = Code::usage("E-WATCH-023");
const SYNCING: Code = Code::refused("E-WATCH-024");

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

/// What [`init`] would change. Nothing is written or started; the signer is asked for a signature.
///
/// # Errors
/// As [`init`], as far as that can be told before anything is started.
pub fn plan(mut request: InitRequest) -> Result<Vec<Change>> {
    let (network, signer) = admit(&mut request)?;
    let place = Place::look(&request, &signer, network, false)?;
    let runs = if request.migrate {
        // It refuses one that runs.
        migrate::choose_lnd(&request, network).map(|_| false)?
    } else {
        Local::new(&request.lnddir, &place.conf, network).answers()
    };
    let mut changes = place.changes(&request)?;
    if request.migrate && place.has_wallet {
        changes.push(Change::Purge);
    }
    if let Some(how) = request.lnd.as_ref().filter(|_| !runs) {
        let lnd = match how {
            Start::Program(path) => path.display().to_string(),
            Start::Container { object, .. } => object.name.clone(),
        };
        changes.push(Change::Start { lnd });
    }
    if !place.has_wallet {
        changes.push(Change::Wallet);
    }
    Ok(changes)
}

/// Makes the lnd of a folder the watch-only node of the bundle's signer, and proves a signature.
///
/// # Errors
/// Where the signer does not sign, or the settings are another network's: then nothing is changed. Where the folder's wallet is
/// another one, or has private keys of its own: then the settings are put back. Where lnd does not come up. An lnd that this
/// call started is stopped again.
pub fn init(mut request: InitRequest) -> Result<Ready> {
    let (network, signer) = admit(&mut request)?;
    let migrated = request.migrate && migrate::has_the_signers_keys(&request, network)?;
    let place = Place::look(&request, &signer, network, migrated)?;
    place.write(&request, network)?;
    let local = Local::new(&request.lnddir, &place.conf, network);
    let mut lnd: Option<Started> = None;
    let raised = start(&request, &local, &place).and_then(|started| {
        lnd = started;
        raise(&request, &local, &place, lnd.as_mut())
    });
    let is_others = raised.as_ref().is_err_and(|fault| [OTHER_WALLET, migrate::HAS_KEYS].contains(&fault.code()));
    let settled = if is_others {
        place.put_back(&request.lnddir).map(|is_back| {
            if is_back && lnd.is_none() {
                ui::note("note: lnd's settings are what they were before; start it anew");
            }
        })
    } else if migrated {
        // Done, or not: no later start is to purge anything.
        Place::look(&request, &signer, network, false).and_then(|place| place.write(&request, network))
    } else {
        Ok(())
    };
    if let (Err(_), Err(also)) = (&raised, &settled) {
        ui::note(&format!("warning: the settings in {} stay as they are now: {also}", place.path.display()));
    }
    // The first fault is the one worth telling.
    match raised.and_then(|done| settled.map(|()| done)) {
        Ok((created, proof)) => {
            let pid = lnd.and_then(|lnd| lnd.pid());
            Ok(Ready { network, signer, endpoint: local.endpoint, conf: place.path, created, migrated, proof, pid })
        }
        Err(fault) => {
            if let Some(lnd) = &mut lnd {
                let _ = lnd.stop();
            }
            Err(fault)
        }
    }
}

/// Holds what has to hold before anything is written, and says for which network it is and where the signer answers.
fn admit(request: &mut InitRequest) -> Result<(Network, Endpoint)> {
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
    refuse_other_wallet(request, network)?;
    // With a signer that does not sign, lnd would not even start.
    check::check_signer(&request.bundle, &signer)?;
    Ok((network, signer))
}

/// Starts lnd, where lsm is to and none runs there.
fn start(request: &InitRequest, local: &Local, place: &Place) -> Result<Option<Started>> {
    let how = request.lnd.as_ref().filter(|_| !local.answers());
    how.map(|how| Started::begin(how, &request.lnddir, &place.path)).transpose()
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

/// Waits for lnd, gives it the wallet where it has none, and proves a signature.
fn raise(request: &InitRequest, local: &Local, place: &Place, lnd: Option<&mut Started>) -> Result<(bool, Proof)> {
    let progress = Progress::new("watch-only node", None);
    let unlocks_itself = lnd.is_some();
    let (node, state) = await_lnd(local, lnd)?;
    progress.say("wallet");
    let created = state == State::Absent;
    if created {
        let about = &request.bundle.about;
        let password = place.read_password()?;
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
            node.unlock(&place.read_password()?)?;
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
