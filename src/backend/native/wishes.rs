//! What an install wants besides the spec.

use super::{Layout, read_specs};
use crate::backend::adopt::Adoption;
use crate::error::Result;
use crate::facts::{self, Seen};
use crate::plan::{History, SeedSink, Step};
use crate::spec::Spec;
use std::path::{Path, PathBuf};

/// What an install wants besides the spec.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Where a new wallet's seed goes.
    pub seed: SeedSink,
    /// The operator's own password for the wallet.
    pub password: Option<PathBuf>,
    /// Where the bundle goes.
    pub bundle: PathBuf,
    /// One was handed to the operator before, and none was asked for now.
    pub handed: bool,
    /// The lnd whose wallet is taken over, where one is.
    pub adopt: Option<Adoption>,
    /// Leave the wallet, and what needs one, for later.
    pub no_wallet: bool,
    /// The hash of the running lsm.
    pub lsm_sha256: String,
    /// The other signers of this host, for the one packet filter.
    pub others: Vec<Spec>,
}

impl Wishes {
    /// What an install with no option wants of the signer `layout`, whose journal says `history`.
    ///
    /// # Errors
    /// As [`read_specs`].
    pub fn standing(layout: &Layout, history: &History) -> Result<Self> {
        let handed = history.handed_bundle();
        Ok(Self {
            seed: SeedSink::Terminal,
            password: None,
            // Who may not read the journal does not know, and has nothing to complain of.
            handed: handed.is_some() || facts::look(&layout.journal()) == Seen::Hidden,
            bundle: handed.unwrap_or_else(|| layout.bundle()),
            adopt: None,
            no_wallet: false,
            lsm_sha256: facts::hash_self().unwrap_or_default(),
            others: read_specs(layout.places())?,
        })
    }

    /// The same where a bundle is certain to be exported: where the operator has taken the last one away with its folder, the
    /// next one goes to its own place.
    ///
    /// # Errors
    /// As [`read_specs`].
    pub fn for_export(layout: &Layout, history: &History) -> Result<Self> {
        let mut wishes = Self::standing(layout, history)?;
        if wishes.handed && !wishes.bundle.parent().is_some_and(Path::is_dir) {
            (wishes.bundle, wishes.handed) = (layout.bundle(), false);
        }
        Ok(wishes)
    }

    /// The step that brings an older lnd's database to the signer `spec`, where one is taken over.
    pub(in crate::backend) fn adopt_step(&self, spec: &Spec) -> Option<Step> {
        let (adoption, layout) = (self.adopt.as_ref()?, Layout::of(spec));
        Some(Step::Adopt {
            from: adoption.from.clone(),
            container: adoption.container.clone(),
            to: layout.data().join("data"),
            owner: layout.user(),
            receipt: layout.receipt(),
        })
    }
}
