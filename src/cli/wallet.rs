//! `lsm wallet`: the wallet's seed and password, from the first day to a restored machine.

mod password;
mod unlock;
mod verify;

use crate::backend::Layout;
use crate::cli::install::{self, WalletArgs};
use crate::cli::seed::{OriginArgs, PassphraseArgs, SeedArgs, SinkArgs, WordsArgs};
use crate::cli::{Common, rights};
use crate::error::{Code, Error, Result};
use crate::spec::Spec;
use clap::{Args, Subcommand};

const HAS_WALLET: Code = Code::refused("E-WALLET-030");
const NO_WALLET: Code = Code::refused("E-WALLET-031");

/// What to do with the wallet.
#[derive(Debug, Subcommand)]
pub enum WalletVerb {
    /// Make the wallet of a signer that was installed without one
    #[command(
        after_help = "Examples:\n  sudo lsm wallet create\n  sudo lsm wallet create --seed-out ./seed.txt --yes\n  \
        sudo lsm wallet create --seed-passphrase --seed-age age1..."
    )]
    Create(CreateOptions),
    /// Restore the wallet of a signer that was installed without one, from its 24 words
    #[command(after_help = "Examples:\n  sudo lsm wallet restore --birthday 2024-05-17\n  \
        age --decrypt --identity key.txt seed.age | sudo lsm wallet restore --seed-file - --yes")]
    Restore(RestoreOptions),
    /// Tell whether 24 words are this signer's seed; a throw-away lnd restores them in memory, and nothing is left of it
    #[command(
        after_help = "It exits 0 where they are, and 4 where they are not. Nothing is written, and the signer goes on \
        signing.\n\nExamples:\n  sudo lsm wallet verify-seed\n  \
        age --decrypt --identity key.txt seed.age | sudo lsm wallet verify-seed --seed-file -\n  \
        sudo lsm wallet verify-seed --bundle ./bundle --lnd /usr/local/bin/lnd"
    )]
    VerifySeed(verify::Options),
    /// Give the wallet another password: lnd's and the kept one change together or not at all
    #[command(
        after_help = "The signer stops for some seconds. One signing call in that time ends a watch-only lnd, so its \
        unit needs\nRestart=always. Nobody has to know the password: without --password-file lsm makes one.\n\n\
        Examples:\n  sudo lsm wallet change-password\n  sudo lsm wallet change-password --password-file ./new --yes\n  \
        lsm wallet change-password --dry-run"
    )]
    ChangePassword(password::Options),
    /// Open the wallet of an lnd that came up locked
    #[command(after_help = "Examples:\n  sudo lsm wallet unlock\n  sudo lsm wallet unlock --password-file ./password")]
    Unlock(unlock::Options),
}

/// The options of `lsm wallet create`.
#[derive(Debug, Args)]
pub struct CreateOptions {
    #[command(flatten)]
    sink: SinkArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    wallet: WalletArgs,
}

/// The options of `lsm wallet restore`.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    #[command(flatten)]
    words: WordsArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    wallet: WalletArgs,
}

/// Runs `lsm wallet`.
///
/// # Errors
/// Where there is no such signer, what is given is no seed or password, or a step fails.
pub(super) fn run(verb: WalletVerb, common: &Common) -> Result<()> {
    match verb {
        WalletVerb::Create(CreateOptions { sink, passphrase, wallet }) => {
            make(SeedArgs { sink, passphrase, ..SeedArgs::default() }, wallet, common)
        }
        WalletVerb::Restore(RestoreOptions { words, passphrase, origin, wallet }) => {
            make(SeedArgs { restore: true, words, passphrase, origin, ..SeedArgs::default() }, wallet, common)
        }
        WalletVerb::VerifySeed(options) => verify::run(&options, common),
        WalletVerb::ChangePassword(options) => password::run(&options, common),
        WalletVerb::Unlock(options) => unlock::run(&options, common),
    }
}

/// What an install of the signer that is there would do now.
fn make(seed: SeedArgs, wallet: WalletArgs, common: &Common) -> Result<()> {
    let spec = rights::installed(&common.instance)?;
    if Layout::of(&spec).receipt().exists() {
        return Err(Error::new(HAS_WALLET, format!("the signer {} has a wallet", spec.instance))
            .hint("it is kept as it is; whether words are its own tells: lsm wallet verify-seed"));
    }
    install::run(&install::Options::of_wallet(&spec, seed, wallet), common)
}

/// Holds that the signer has its wallet.
fn require_wallet(spec: &Spec) -> Result<()> {
    if Layout::of(spec).receipt().exists() {
        return Ok(());
    }
    Err(Error::new(NO_WALLET, format!("the signer {} has no wallet yet", spec.instance))
        .hint("make it with: lsm wallet create; or restore it with: lsm wallet restore"))
}
