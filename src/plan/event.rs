//! What the journal says, line by line.

use crate::plan::prior::Prior;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The schema.
    pub v: u32,
    /// When, in seconds since 1970.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a plan is about, besides its steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct About {
    /// The version of lnd that the signer has at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The version of lnd whose risk the operator accepted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_risk: Option<String>,
    /// What the verb made before its first step, and was not there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Prior>,
}

/// What a line says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A plan begins.
    Begin {
        /// The verb that made it.
        verb: String,
        /// How many steps it has.
        steps: usize,
        /// What it is about.
        #[serde(flatten)]
        about: About,
    },
    /// An lnd is about to be unpacked: what it is and how lsm knows.
    Evidence {
        /// Version, processor, hash, provenance and time, as they are kept beside it.
        archive: Value,
    },
    /// A step is about to be done.
    Intent {
        /// Its place in the plan, from 0.
        step: usize,
        /// The step itself; texts stand as hashes, secrets as references.
        what: Value,
        /// What everything was that it may change.
        prior: Vec<Prior>,
    },
    /// The seed is about to be written to a file: only a file with this hash may ever be replaced by another seed.
    SeedWriting {
        /// The file.
        file: PathBuf,
        /// The hash of what is written; 24 random words cannot be guessed from it.
        sha256: String,
    },
    /// The seed was written down (or shown and confirmed): from here on the wallet may be made with it.
    SeedKept {
        /// The file that holds it, if one does.
        file: Option<PathBuf>,
    },
    /// A step is done.
    Done {
        /// Its place.
        step: usize,
        /// What everything is now that it may have changed.
        #[serde(default)]
        left: Vec<Prior>,
    },
    /// A step failed.
    Failed {
        /// Its place.
        step: usize,
        /// The error's code.
        code: String,
    },
    /// Every step is done.
    End,
    /// What another signer's journal knew of a thing that both need, handed on when that signer went.
    Inherit {
        /// Since when it is lsm's, in seconds since 1970.
        since: u64,
        /// What was there before.
        prior: Prior,
    },
    /// A thing that lsm no longer answers for: somebody else changed it.
    LetGo {
        /// What it was before lsm.
        prior: Prior,
    },
}
