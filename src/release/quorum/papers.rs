//! The papers of a release: lnd's manifest and the signatures on it, as a folder holds them or the mirrors have them.

use crate::error::{Code, Error, Exit, Result};
use crate::host::file::{self, Access};
use crate::release::download::Fetcher;
use crate::release::pins::{Arch, Release};
use crate::release::quorum::manifest;
use crate::release::quorum::openpgp;
use crate::release::quorum::{self, Quorum};
use crate::release::trust::{self, Trust};
use crate::ui;
use crate::ui::progress::Progress;
use std::path::{Path, PathBuf};

const DISAGREE: Code = Code::unverified("E-PAPERS-001");
const NOT_LISTED: Code = Code::unverified("E-PAPERS-002");
const NO_PAPERS: Code = Code::lacking("E-PAPERS-003");
const TOO_MANY: Code = Code::usage("E-PAPERS-004");

const MANIFEST_LIMIT: u64 = manifest::LIMIT as u64;
const SIGNATURE_LIMIT: u64 = openpgp::LIMIT as u64;
/// More signature files than anybody has signers.
const MOST_SIGNATURES: usize = 100;

/// A manifest and its signatures. Nothing in them was verified yet.
pub(in crate::release) struct Papers {
    manifest: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Papers {
    /// Reads them from `folder`; nothing where it holds no manifest of `release`.
    ///
    /// # Errors
    /// Where a file cannot be read, or there are absurdly many.
    pub(in crate::release) fn read(folder: &Path, release: &Release) -> Result<Option<Self>> {
        let path = folder.join(manifest::file_name(&release.version));
        if !file::is_there(&path)? {
            return Ok(None);
        }
        let manifest = file::read_plain(&path, MANIFEST_LIMIT)?;
        let cannot = |e: std::io::Error| Error::new(NO_PAPERS, format!("cannot read {}: {e}", folder.display()));
        // A signature over another version's manifest says nothing of this one.
        let (ending, mut names) = (format!("-{}.sig", release.version), Vec::new());
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("manifest-") && name.ends_with(&ending) {
                names.push((name, entry.path()));
            }
        }
        if names.len() > MOST_SIGNATURES {
            return Err(Error::new(TOO_MANY, format!("{} holds {} signatures", folder.display(), names.len())));
        }
        names.sort();
        let read = |(name, path): (String, PathBuf)| Ok((name, file::read_plain(&path, SIGNATURE_LIMIT)?));
        Ok(Some(Self { manifest, signatures: names.into_iter().map(read).collect::<Result<_>>()? }))
    }

    /// Fetches them. A signature that cannot be fetched is a missing one, never a bad one.
    ///
    /// # Errors
    /// Where the manifest cannot be had.
    pub(in crate::release) fn fetch(
        fetcher: &Fetcher,
        mirrors: &[String],
        release: &Release,
        trust: &Trust,
    ) -> Result<Self> {
        let place = |name: &str| format!("{}/{name}", release.version);
        let name = manifest::file_name(&release.version);
        let manifest = fetcher.fetch_small(mirrors, &place(&name), MANIFEST_LIMIT)?;
        let manifest = manifest.ok_or_else(|| Error::new(NO_PAPERS, format!("no mirror has {name}")))?;
        let names = quorum::signature_names(trust, &release.version);
        let progress = Progress::new("fetching signatures", Some(names.len() as u64));
        let mut signatures = Vec::new();
        for (done, name) in names.into_iter().enumerate() {
            progress.say(&name);
            match fetcher.fetch_small(mirrors, &place(&name), SIGNATURE_LIMIT) {
                Ok(Some(bytes)) => signatures.push((name, bytes)),
                Ok(None) => tracing::debug!(name, "not signed"),
                // What a server does to its transfers may break the verification too, and that must not go unnoticed.
                Err(e) if e.code().exit == Exit::Unverified => return Err(e),
                Err(e) => ui::note(&format!("{name} could not be had: {e}")),
            }
            progress.set(done as u64 + 1);
        }
        Ok(Self { manifest, signatures })
    }

    /// Counts the signatures, at least `needed` (or as many as the trust in force asks for), and holds the manifest
    /// against the pin of `release` for `arch`.
    ///
    /// # Errors
    /// Where a signature of a pinned signer is bad, there are too few good ones, or manifest and pin disagree.
    pub(in crate::release) fn hold(&self, release: &Release, arch: Arch, needed: Option<usize>) -> Result<Quorum> {
        let trust = trust::in_force()?;
        let needed = needed.unwrap_or(trust.quorum);
        let (manifest, quorum) = quorum::hold(&self.manifest, &self.signatures, release, trust, needed)?;
        let (pin, name, archive) = (release.pin(arch)?, release.archive_name(arch), release.archive_file(arch));
        let listed = manifest.sha256_of(&archive);
        let listed =
            listed.ok_or_else(|| Error::new(NOT_LISTED, format!("the signed manifest does not list {archive}")))?;
        agree(&archive, &pin.sha256, listed)?;
        for (program, pinned) in [("lnd", &pin.lnd), ("lncli", &pin.lncli)] {
            let path = format!("{name}/{program}");
            if let (Some(pinned), Some(listed)) = (pinned, manifest.sha256_of(&path)) {
                agree(&path, pinned, listed)?;
            }
        }
        Ok(quorum)
    }

    /// Writes them into `folder`, which must exist.
    ///
    /// # Errors
    /// Where that fails.
    pub(in crate::release) fn keep(&self, folder: &Path, release: &Release) -> Result<()> {
        let access = Access::mode(0o644);
        for (name, bytes) in &self.signatures {
            file::replace(&folder.join(name), bytes, access)?;
        }
        file::replace(&folder.join(manifest::file_name(&release.version)), &self.manifest, access)
    }
}

fn agree(what: &str, pinned: &str, listed: &str) -> Result<()> {
    if pinned == listed {
        return Ok(());
    }
    let cause = format!("the witnesses disagree on {what}: pinned is {pinned}, the signed manifest has {listed}");
    Err(Error::new(DISAGREE, cause).hint("do not install it; one of the two was forged or is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::known;

    #[test]
    fn a_manifest_that_is_a_link_to_nowhere_is_no_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let release = known::find("v0.21.3-beta").unwrap();
        assert!(Papers::read(dir.path(), release).unwrap().is_none());
        let manifest = dir.path().join(manifest::file_name(&release.version));
        std::os::unix::fs::symlink("nowhere", manifest).unwrap();
        assert_eq!(Papers::read(dir.path(), release).err().unwrap().code().id, "E-HOST-006");
    }
}
