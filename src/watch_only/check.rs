//! `watch-only check`: the first layer between this machine and the signer that is at fault, or a proved signature.

use super::conf::{Conf, Flavour};
use super::{CREDENTIALS, Local, Proof, choose_host, prove, prove_at_signer};
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::signer::channel::Endpoint;
use crate::signer::wallet::State;
use crate::signer::{self, Node};
use crate::spec::Network;
use std::path::PathBuf;
use std::time::Duration;

const NOTHING_TO_CHECK: Code = Code::usage("E-WATCH-030");
/// The signer signs, and the lnd in front of it does not answer.
const NO_LND: Code = Code::refused("E-WATCH-031");

/// What to check. At least one of the bundle and the folder.
#[derive(Debug)]
pub struct CheckRequest {
    /// The bundle; else the one that `init` put into the folder.
    pub bundle: Option<Bundle>,
    /// The folder of the watch-only lnd, to prove a signature through it too.
    pub lnddir: Option<PathBuf>,
    /// Its settings file, where it is not in the folder.
    pub conf: Option<PathBuf>,
    /// Who reads the settings.
    pub flavour: Flavour,
    /// Where the signer answers, where not as the settings or the bundle say.
    pub signer_host: Option<Endpoint>,
    /// The network, where the bundle does not say.
    pub network: Option<Network>,
}

/// Everything is in order.
#[derive(Debug)]
pub struct Checked {
    /// Where the signer answers.
    pub signer: Endpoint,
    /// The signature that the signer made.
    pub at_signer: Proof,
    /// The signature that came through the watch-only node, where its folder was named.
    pub through_node: Option<Proof>,
    /// What is no fault but worth knowing.
    pub warning: Option<String>,
}

/// Goes from layer to layer, and proves a signature at the signer and, where its folder is named, through the watch-only node.
///
/// # Errors
/// The first layer at fault, each with its own code: no route, refused, silent, no TLS, another certificate, its dates,
/// its names, no HTTP/2, no wallet, locked wallet, macaroon refused, not permitted, another version, no valid signature; no
/// watch-only node.
pub fn check(request: CheckRequest) -> Result<Checked> {
    let mut bundle = match (request.bundle, &request.lnddir) {
        (Some(bundle), _) => bundle,
        (None, Some(lnddir)) => Bundle::read(&lnddir.join(CREDENTIALS).to_string_lossy())?,
        (None, None) => {
            return Err(Error::new(NOTHING_TO_CHECK, "there is nothing to check").hint("name --bundle or --lnddir"));
        }
    };
    let conf = match &request.lnddir {
        Some(lnddir) => {
            Some(read_conf(&request.conf.unwrap_or(lnddir.join(request.flavour.file_name())), request.flavour)?)
        }
        None => None,
    };
    let asked = request.signer_host.or_else(|| conf.as_ref()?.1.clone());
    let signer = choose_host(asked.as_ref(), &bundle)?;
    let at_signer = check_signer(&bundle, &signer)?;
    let mut checked = Checked { signer, at_signer, through_node: None, warning: None };
    if let (Some(lnddir), Some((conf, _))) = (&request.lnddir, conf) {
        let network = bundle.settle_network(request.network.or(conf.network()))?;
        check_node(&bundle, &Local::new(lnddir, &conf, network), &mut checked)?;
    }
    Ok(checked)
}

/// Goes through the layers between here and the signer, up to a proved signature.
///
/// # Errors
/// As [`check`].
pub fn check_signer(bundle: &Bundle, signer: &Endpoint) -> Result<Proof> {
    let node = Node::new(signer.clone(), &bundle.pins()).with_macaroon(&bundle.macaroon);
    node.probe()?;
    // A moment's patience: a signer that restarts is not at fault.
    node.wait_for(|s| s == State::Active, Duration::from_secs(3))?;
    prove_at_signer(&node, bundle.identity_pubkey())
}

/// Proves a signature through the local node.
fn check_node(bundle: &Bundle, local: &Local, checked: &mut Checked) -> Result<()> {
    let state = local.node().and_then(|node| node.state()).map_err(|e| {
        Error::new(NO_LND, format!("the signer {} signs, and no lnd answers at {}", checked.signer, local.endpoint))
            .hint("start lnd, or look into its log; to check the signer alone name --bundle and no --lnddir")
            .because(e)
    })?;
    if state != State::Active {
        return Err(Error::new(
            signer::NOT_READY,
            format!("the watch-only lnd at {} does not serve yet", local.endpoint),
        )
        .hint("its wallet is locked or absent, or it catches up with its chain: look into its log"));
    }
    let node = local.node_with_macaroon()?;
    let version = node.info()?.version;
    // No fault: the bundle may be older than the signer's last upgrade, and most calls are the same.
    if let Some(theirs) = bundle.about.lnd_version.as_deref().filter(|theirs| series(theirs) < series(&version)) {
        checked.warning = Some(format!("this lnd is {version}, the signer was {theirs}: upgrade the signer first"));
    }
    checked.through_node = Some(prove(&node, bundle.identity_pubkey())?);
    Ok(())
}

/// `(0, 21)` of `v0.21.3-beta`.
fn series(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The operator's settings, and the signer's address that lsm's block or they themselves name.
fn read_conf(path: &std::path::Path, flavour: Flavour) -> Result<(Conf, Option<Endpoint>)> {
    let text = file::read_text(path)?;
    let signer = Conf::last(&text, flavour, "remotesigner.rpchost").and_then(|host| host.parse().ok());
    Ok((Conf::parse(&text, flavour)?, signer))
}
