//! The three witnesses for a release, asked independently of each other: the pin, lnd's own signers, a build from source.

use crate::error::{Exit, Result};
use crate::release::cache;
use crate::release::download::{self, Fetcher};
use crate::release::pins::{Arch, Release};
use crate::release::quorum::papers::Papers;
use crate::release::source::{NO_SOURCE, build};
use crate::release::trust;
use crate::release::verified::Provenance;
use crate::ui;
use serde::Serialize;
use std::path::Path;

/// What one witness says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The archive with the pinned hash is the real one.
    Given(Provenance),
    /// Nothing: it could not be had.
    Missing(String),
}

/// What the three say of one archive. They agree: had one contradicted, there would be no testimony.
#[derive(Debug, Serialize)]
pub struct Testimony {
    /// The version.
    pub version: String,
    /// The processor.
    pub arch: Arch,
    /// The archive's SHA-256, in hexadecimal.
    pub sha256: String,
    /// The pin.
    pub pin: Word,
    /// lnd's signers.
    pub quorum: Word,
    /// A build from source on this machine.
    pub build: Word,
}

impl Testimony {
    /// Every witness with its name.
    pub fn words(&self) -> [(&'static str, &Word); 3] {
        [("pin", &self.pin), ("quorum", &self.quorum), ("build", &self.build)]
    }

    /// The names of those that could not be had.
    pub fn missing(&self) -> Vec<&'static str> {
        self.words().into_iter().filter(|(_, word)| matches!(word, Word::Missing(_))).map(|(name, _)| name).collect()
    }
}

/// Asks all three witnesses for `release` on `arch`. The build works in `cache`; `needed` is as in
/// [`verify`](super::verify).
///
/// # Errors
/// Where a witness contradicts the pin, or there is no pin to hold the others against.
pub fn testify(release: &Release, arch: Arch, cache: &Path, needed: Option<usize>) -> Result<Testimony> {
    let pin = release.pin(arch)?;
    let quorum = word(ask_signers(release, arch, needed), "quorum")?;
    let folder = cache::place_of(cache, release, arch);
    let built = build(release, arch, cache, &folder).map(|archive| {
        let is_build = |p: &&Provenance| matches!(p, Provenance::SourceBuild { .. });
        archive.provenance().iter().find(is_build).cloned().expect("a build says that it is one")
    });
    Ok(Testimony {
        version: release.version.clone(),
        arch,
        sha256: pin.sha256.clone(),
        pin: Word::Given(Provenance::of_pin(pin)),
        quorum,
        build: word(built, "build")?,
    })
}

fn ask_signers(release: &Release, arch: Arch, needed: Option<usize>) -> Result<Provenance> {
    let trust = trust::in_force()?;
    let papers = Papers::fetch(&Fetcher::https_only()?, &download::mirrors()?, release, trust)?;
    papers.hold(release, arch, needed).map(Provenance::Quorum)
}

/// A witness that the machine cannot have is missing; one that says something else ends it all.
fn word(said: Result<Provenance>, name: &str) -> Result<Word> {
    match said {
        Ok(provenance) => Ok(Word::Given(provenance)),
        Err(e) if e.code().exit == Exit::Lacking || e.code() == NO_SOURCE => {
            ui::note(&format!("the {name} could not be had: {e}"));
            Ok(Word::Missing(e.cause().to_owned()))
        }
        Err(e) => Err(e),
    }
}
