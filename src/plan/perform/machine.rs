//! What steps need besides themselves.

use crate::plan::event::About;
use crate::release::{Archive, Verified};
use crate::secret::Secret;
use crate::signer::wallet::Seed;
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What steps need besides themselves.
#[derive(Default)]
pub struct Machine<'a> {
    /// The verified lnd that a plan with a release step unpacks.
    pub archive: Option<&'a Verified<Archive>>,
    /// What the plan is about.
    pub about: About,
    /// What the operator gave for the wallet's seed.
    pub seed: GivenSeed,
    /// What the steps of an upgrade find out, for it to tell.
    pub told: RefCell<Told>,
}

/// What the operator gave for a seed, and no plan or journal ever holds.
#[derive(Debug, Default)]
pub struct GivenSeed {
    /// The words to restore from.
    pub words: Option<Seed>,
    /// What a new seed is to be enciphered with.
    pub passphrase: Option<Secret>,
}

/// What the steps of an upgrade find out.
#[derive(Debug, Default)]
pub struct Told {
    /// When the signer was stopped.
    pub(super) stopped: Option<Instant>,
    /// How long nothing was signed, where this lsm saw all of it.
    pub gap: Option<Duration>,
    /// The accounts that the watch-only side lacks.
    pub accounts: Vec<String>,
    /// The folder of a bundle that was exported again.
    pub bundle: Option<PathBuf>,
}
