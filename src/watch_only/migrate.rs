//! A node that had its private keys itself: they are the signer's too, or nothing is purged.

use super::Local;
use super::conf::Conf;
use super::import::compare_identity;
use super::request::{InitRequest, Start};
use super::started::{SERVE_PATIENCE, Started, UNLOCK_NOW, await_lnd};
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::signer::Node;
use crate::signer::wallet::State;
use crate::spec::Network;
use crate::ui;

pub(super) const HAS_KEYS: Code = Code::refused("E-WATCH-027");
const RUNS: Code = Code::refused("E-WATCH-028");
const NO_PROGRAM: Code = Code::usage("E-WATCH-029");

/// Refuses a wallet that holds private keys: lnd would only warn, and leave them where they are.
pub(super) fn refuse_keys(node: &Node) -> Result<()> {
    if !node.holds_keys()? {
        return Ok(());
    }
    Err(Error::new(HAS_KEYS, "this node's wallet holds private keys of its own, the signer's").hint(
        "once lsm wallet verify-seed has said yes on the signer: stop this lnd, and add --migrate --seed-verified --lnd PATH",
    ))
}

/// Refuses an lnd that runs: it would have to be started anew with other settings, twice.
pub(super) fn refuse_running(local: &Local) -> Result<()> {
    Err(Error::new(RUNS, format!("an lnd runs at {}", local.endpoint))
        .hint("stop it, and its unit, first: lsm starts it itself"))
}

/// By what lsm starts the folder's lnd, and where that answers then.
///
/// # Errors
/// Where it is to start none, where it has no settings, and where one runs there.
pub(super) fn choose_lnd(request: &InitRequest, network: Network) -> Result<(&Start, Local)> {
    let no_program =
        || Error::new(NO_PROGRAM, "to migrate a wallet lsm has to start lnd itself").hint("name it: --lnd PATH");
    let how = request.lnd.as_ref().ok_or_else(no_program)?;
    let conf = Conf::parse(&file::read_text(&request.conf_path())?, request.flavour)?;
    let local = Local::new(&request.lnddir, &conf, network);
    if local.answers() {
        refuse_running(&local)?;
    }
    Ok((how, local))
}

/// Starts the folder's lnd as it is, with its own settings and keys, and holds that each of its keys is the signer's. True
/// where it has any; then it can be started to purge them. It does not run afterwards.
///
/// # Errors
/// As [`choose_lnd`]. Where a key is not the signer's, or lnd does not come up: nothing was changed then.
pub(super) fn has_the_signers_keys(request: &InitRequest, network: Network) -> Result<bool> {
    let (how, local) = choose_lnd(request, network)?;
    let mut lnd = Started::begin(how, &request.lnddir, &request.conf_path())?;
    let compared = compare(request, &local, &mut lnd);
    let stopped = lnd.stop();
    compared.and_then(|has_keys| stopped.map(|()| has_keys))
}

fn compare(request: &InitRequest, local: &Local, lnd: &mut Started) -> Result<bool> {
    let (node, state) = await_lnd(local, Some(lnd))?;
    if state == State::Locked {
        ui::note(UNLOCK_NOW);
    }
    node.wait_for(|state| state == State::Active, SERVE_PATIENCE)?;
    let node = local.node_with_macaroon()?;
    compare_identity(&node.info()?.identity_pubkey, &request.bundle)?;
    if !node.holds_keys()? {
        return Ok(false);
    }
    // Each account of this wallet is one of the signer's, with the same key.
    request.bundle.accounts.added_since(&node.accounts()?)?;
    Ok(true)
}
