//! `lsm wallet verify-seed`: whether 24 words bring back this signer's keys.

use super::require_wallet;
use crate::backend::native::Wishes;
use crate::backend::{Layout, verify};
use crate::bundle::Bundle;
use crate::cli::seed::{PassphraseArgs, WordsArgs};
use crate::cli::{Common, rights};
use crate::error::{Code, Error, Result};
use crate::host::{process, user};
use crate::plan::{self, History};
use crate::signer::accounts::Accounts;
use crate::spec::{Network, Places, Spec};
use crate::ui::progress::Progress;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

const NOT_ROOT: Code = Code::lacking("E-WALLET-040");
const OTHER_WALLET: Code = Code::unverified("E-WALLET-041");
const OTHER_NETWORK: Code = Code::unverified("E-WALLET-042");
const NO_LND: Code = Code::lacking("E-WALLET-043");

/// The options of `lsm wallet verify-seed`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    words: WordsArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// The network on which the words have to give the keys [default: the signer's, or the bundle's]
    #[arg(long, value_name = "NETWORK")]
    network: Option<Network>,
    /// Hold them against the keys of this bundle instead of this host's signer
    #[arg(long, value_name = "DIR|FILE")]
    bundle: Option<String>,
    /// The lnd that restores them [default: the signer's]
    #[arg(long, value_name = "PATH")]
    lnd: Option<PathBuf>,
}

/// The keys that the words have to give.
struct Wanted {
    network: Network,
    lnd: PathBuf,
    keys: Keys,
    /// Where they are from, in words.
    from: String,
}

enum Keys {
    All(Box<Accounts>),
    /// The receipt's, where nothing else says more.
    Identity(String),
}

/// Runs it.
///
/// # Errors
/// Where they are not this signer's words; or what is needed to tell is not there.
pub(super) fn run(options: &Options, common: &Common) -> Result<()> {
    if !user::is_root() {
        return Err(Error::new(NOT_ROOT, "restoring a seed in memory needs root").hint("run it with sudo"));
    }
    let wanted = match &options.bundle {
        Some(bundle) => Wanted::of_bundle(bundle, options, common)?,
        None => Wanted::of_signer(options, common)?,
    };
    if let Some(network) = options.network.filter(|network| *network != wanted.network) {
        return Err(Error::new(OTHER_NETWORK, format!("{} is for {}, not for {network}", wanted.from, wanted.network)));
    }
    process::on_interrupt(terminal::restore)?;
    let seed = options.words.read(&options.passphrase)?;
    let shown = Progress::new("verifying the seed", None);
    let restored = verify::restore_accounts(&wanted.lnd, wanted.network, &seed, &shown)?;
    drop(shown);
    wanted.hold(&restored)?;
    wanted.tell(&restored);
    Ok(())
}

impl Wanted {
    fn of_bundle(bundle: &str, options: &Options, common: &Common) -> Result<Self> {
        let mut read = Bundle::read(bundle)?;
        let network = read.settle_network(options.network)?;
        let installed = rights::installed(&common.instance).ok();
        let lnd = lnd(options, installed.as_ref())?;
        Ok(Self {
            network,
            lnd,
            from: format!("the bundle of {}", read.identity_pubkey()),
            keys: Keys::All(Box::new(read.accounts)),
        })
    }

    fn of_signer(options: &Options, common: &Common) -> Result<Self> {
        let spec = rights::installed(&common.instance)?;
        require_wallet(&spec)?;
        let (keys, from) = keys(&spec)?;
        Ok(Self { network: spec.network, lnd: lnd(options, Some(&spec))?, keys, from })
    }

    /// Holds what was restored to what is wanted.
    fn hold(&self, restored: &Accounts) -> Result<()> {
        let no = |why: &str| {
            Error::new(OTHER_WALLET, format!("no: these words are a seed, and not the one of {}", self.from)).hint(why)
        };
        let is = restored.identity_pubkey();
        match &self.keys {
            Keys::Identity(identity) if identity == is => Ok(()),
            // The signer may have accounts that were made since.
            Keys::All(accounts) if accounts.identity_pubkey() == is && accounts.added_since(restored).is_ok() => Ok(()),
            _ => Err(no("another passphrase gives other keys too, and so does another network")),
        }
    }

    fn tell(&self, restored: &Accounts) {
        let identity = restored.identity_pubkey();
        let compared = if matches!(self.keys, Keys::All(_)) { restored.count() } else { 0 };
        if ui::voice().json {
            let object = json!({
                "verified": true, "network": self.network, "identity_pubkey": identity, "accounts": compared,
                "compared_with": self.from,
            });
            say!("{object}");
            return;
        }
        say!("yes        these words bring back the keys of {}", self.from);
        say!("identity   {identity}");
        match compared {
            0 => say!("accounts   not compared: neither the signer nor a bundle could tell them"),
            all => say!("accounts   {all}, each with the same public key"),
        }
    }
}

/// What the running signer says, else its bundle, else its receipt.
fn keys(spec: &Spec) -> Result<(Keys, String)> {
    let layout = Layout::of(spec);
    if let Ok(accounts) = plan::open_as_admin(&layout.door()).and_then(|node| node.accounts()) {
        return Ok((Keys::All(Box::new(accounts)), format!("the running signer {}", spec.instance)));
    }
    let folder = Wishes::standing(&layout, &History::read(&layout.journal())?)?.bundle;
    let receipt = plan::read_receipt(&layout.receipt())?;
    // By now another signer's may be in that folder.
    let is_own = |bundle: &Bundle| bundle.identity_pubkey() == receipt.identity_pubkey;
    if let Some(bundle) = Bundle::read(&folder.to_string_lossy()).ok().filter(is_own) {
        return Ok((Keys::All(Box::new(bundle.accounts)), format!("the bundle in {}", folder.display())));
    }
    Ok((Keys::Identity(receipt.identity_pubkey), format!("the receipt of the signer {}", spec.instance)))
}

fn lnd(options: &Options, spec: Option<&Spec>) -> Result<PathBuf> {
    let own = spec.map(|spec| Places::of(spec).releases().join(&spec.release).join("lnd"));
    let found = options.lnd.clone().or(own).filter(|lnd| lnd.is_file());
    found
        .ok_or_else(|| Error::new(NO_LND, "there is no lnd to restore the words with").hint("name one with --lnd PATH"))
}
