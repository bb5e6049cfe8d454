//! Which lnd a verb brings to the machine, and from where: what `lsm install` and `lsm upgrade` have in common.

use crate::backend::docker;
use crate::cli::release::QUORUM_HELP;
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::plan::prior::Prior;
use crate::plan::{Plan, Step};
use crate::release::pins::{Arch, Release};
use crate::release::quorum::parse_needed;
use crate::release::{self, Archive, Installed, Provenance, Verified, cache};
use crate::spec::docker::Reference;
use crate::spec::{Places, Spec};
use clap::Args;
use std::path::{Path, PathBuf};

const FEWER_SIGNED: Code = Code::unverified("E-INSTALL-014");
const NO_ENGINE: Code = Code::usage("E-INSTALL-018");

/// Where lnd comes from, and what is asked of it.
#[derive(Debug, Clone, Default, Args)]
pub struct LndArgs {
    /// An archive of lnd, or a folder as `lsm release fetch` makes it; verified again, without any network
    #[arg(long, value_name = "ARCHIVE|DIR", conflicts_with = "source")]
    from: Option<PathBuf>,
    /// Build lnd from source, without trying to download it
    #[arg(long)]
    source: bool,
    /// Take lnd's programs out of this image of a registry's, by its digest; they have to be the pinned release's
    #[arg(long, value_name = "REF@sha256:...", conflicts_with_all = ["from", "source", "quorum"])]
    image: Option<Reference>,
    /// Take this version in spite of its known fault, or though a newer one is installed; the journal keeps it
    #[arg(long, value_name = "V")]
    pub accept_risk: Option<String>,
    #[arg(long, value_name = "N", conflicts_with = "source", value_parser = parse_needed, help = QUORUM_HELP)]
    quorum: Option<usize>,
}

impl LndArgs {
    /// Holds an lnd that `plan` finds unpacked to the quorum that is asked for, and that only a container's is out of an image.
    pub(super) fn check(&self, spec: &Spec, release: &Release, plan: &Plan) -> Result<()> {
        if self.image.is_some() && spec.docker.is_none() {
            return Err(Error::new(NO_ENGINE, format!("--image needs an engine, and {} has none", spec.instance))
                .hint("with --backend docker a new signer has one"));
        }
        match self.quorum {
            Some(needed) if !unpacks(plan) => {
                hold_quorum(&Places::of(spec).releases().join(&release.version), &release.version, needed)
            }
            _ => Ok(()),
        }
    }

    /// The verified lnd, where the plan unpacks one. Before any step: a bad archive changes nothing.
    pub(super) fn obtain(&self, spec: &Spec, release: &Release, plan: &Plan) -> Result<Option<Verified<Archive>>> {
        if !unpacks(plan) {
            return Ok(None);
        }
        // Also where it was installed before it was refused.
        release.admit(None, Some(&release.version))?;
        let (arch, cache) = (Arch::of_this_machine()?, release::default_cache()?);
        if let Some(docker) = spec.docker.as_ref().filter(|_| self.image.is_some()) {
            docker::take_back(docker, &cache)?;
        }
        let archive = match &self.from {
            Some(path) => release::verify_as(path, release, arch, self.quorum)?,
            None if let (Some(image), Some(docker)) = (&self.image, &spec.docker) => {
                docker::lnd_of(docker, image, release, arch, &cache)?
            }
            None if self.source => release::build(release, arch, &cache, &cache::place_of(&cache, release, arch))?,
            None => release::obtain(release, arch, &cache, self.quorum)?,
        };
        Ok(Some(archive))
    }

    /// What is to be done where lsm is interrupted in [`LndArgs::obtain`]: an image that was pulled for it goes again.
    pub(super) fn when_interrupted(&self, spec: &Spec) -> impl FnOnce() + Send + use<> {
        let docker = spec.docker.clone().filter(|_| self.image.is_some());
        move || {
            if let (Some(docker), Ok(cache)) = (docker, release::default_cache()) {
                // The next run takes it away too.
                let _ = docker::take_back(&docker, &cache);
            }
        }
    }
}

/// The cache, before lnd is obtained by way of it.
pub(super) struct Cache {
    path: PathBuf,
    was_there: bool,
}

impl Cache {
    /// Looks whether it is there.
    pub(super) fn look() -> Result<Self> {
        let path = release::default_cache()?;
        Ok(Self { was_there: file::is_there(&path)?, path })
    }

    /// What lsm makes in it, each as it was before: what else comes into it is somebody else's, and stays.
    pub(super) fn parts(&self) -> Vec<Prior> {
        let folders = cache::FOLDERS.iter().map(|name| Prior::no_tree(&self.path.join(name)));
        let files = cache::FILES.iter().map(|name| Prior::nothing_at(&self.path.join(name)));
        [Prior::nothing_at(&self.path)].into_iter().chain(folders).chain(files).collect()
    }

    /// The same, where obtaining lnd made it.
    pub(super) fn made(&self) -> Result<Vec<Prior>> {
        Ok(if self.was_there || !file::is_there(&self.path)? { vec![] } else { self.parts() })
    }
}

fn unpacks(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Release { .. }))
}

/// What is unpacked already is not verified again: then what was found at that time must be enough.
fn hold_quorum(folder: &Path, version: &str, needed: usize) -> Result<()> {
    let provenance = Installed::read(folder)?.map(|lnd| lnd.provenance).unwrap_or_default();
    let counted = provenance.iter().map(|p| if let Provenance::Quorum(q) = p { q.signatures.len() } else { 0 });
    let had = counted.max().unwrap_or_default();
    if had >= needed {
        return Ok(());
    }
    let cause =
        format!("lnd {version} is installed, and {had} of {needed} needed signatures were good when it was unpacked");
    Err(Error::new(FEWER_SIGNED, cause)
        .hint(format!("have it verified and unpacked again: move {} away and run the same command", folder.display())))
}
