//! `lsm release`: known versions of lnd, fetched, built from source, verified.

use crate::cli::{MachineArgs, update};
use crate::error::Result;
use crate::host::draft::Durable;
use crate::host::file;
use crate::release::pins::{self, Arch, Origin, Pin};
use crate::release::{self, Archive, Provenance, Verified};
use crate::ui::{self, say};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// What `lsm release` does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Name the versions of lnd that lsm knows, newest first
    List,
    /// Download the official archive and verify it
    #[command(after_help = "Example:\n  lsm release fetch v0.21.3-beta --out .\n\n\
        Environment:\n  LSM_RELEASE_BASE  another place with lnd's release files [default: lnd's on GitHub]\n  \
        SSL_CERT_FILE     the root certificates to trust instead of the system's")]
    Fetch {
        /// The version, as lnd's tag names it
        version: String,
        /// The folder to leave the archive in
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The processor it is for [default: this machine's]
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Build the official archive from source, bit for bit; needs no Go, no git and no root
    #[command(after_help = "Examples:\n  lsm release build v0.21.3-beta\n  \
        GOPROXY=https://proxy.example lsm release build v0.21.3-beta --arch arm64 --out /srv/lnd\n\n\
        Environment:\n  GOPROXY    the Go module proxies to ask [default: https://proxy.golang.org]\n  \
        LSM_CACHE  the folder for downloads and build caches")]
    Build {
        /// The version, as lnd's tag names it
        version: String,
        /// The processor to build for [default: this machine's]
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
        /// The folder to leave the archive in
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Hold an archive against the pinned hashes
    #[command(after_help = "Examples:\n  lsm release verify lnd-linux-amd64-v0.21.3-beta.tar.gz\n  \
        lsm release verify /srv/lnd --unpack /tmp/lnd")]
    Verify {
        /// The archive, or a folder that holds one
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
        /// Put lnd and lncli into this folder
        #[arg(long, value_name = "DIR")]
        unpack: Option<PathBuf>,
    },
    /// Accept newer pins and judgements that are signed; what is pinned stays, no judgement becomes milder
    #[command(after_help = "Examples:\n  lsm release update releases.toml --dry-run\n  \
        sudo lsm release update releases.toml --yes\n\n\
        The signature is FILE.minisig. What came by an update is never installed by its pin alone.\n\n\
        Environment:\n  LSM_POLICY  the folder of whom you trust; accepted updates are kept there")]
    Update {
        /// The update
        file: PathBuf,
        #[command(flatten)]
        machine: MachineArgs,
    },
}

/// Runs it.
///
/// # Errors
/// What the release room ends with.
pub fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::List => list()?,
        Verb::Fetch { version, out, arch } => {
            show(&release::fetch(pins::find(&version)?, arch_or_ours(arch)?, &out)?);
        }
        Verb::Build { version, arch, out } => {
            let (release, arch) = (pins::find(&version)?, arch_or_ours(arch)?);
            show(&release::build(release, arch, &release::default_cache()?, &out)?);
        }
        Verb::Verify { path, unpack } => {
            let archive = release::verify(&path)?;
            if let Some(folder) = unpack {
                file::make_folders(&folder)?;
                archive.unpack(&folder, Durable::No)?;
            }
            show(&archive);
        }
        Verb::Update { file, machine } => update::run(&file, &machine)?,
    }
    Ok(())
}

fn arch_or_ours(arch: Option<Arch>) -> Result<Arch> {
    arch.map_or_else(Arch::of_this_machine, Ok)
}

fn list() -> Result<()> {
    let policy = pins::in_force()?;
    if ui::voice().json {
        let (counter, releases, updates) = (policy.counter(), policy.releases(), policy.updates());
        say!("{}", json!({"releases": releases, "counter": counter, "updates": updates}));
        return Ok(());
    }
    for release in policy.releases() {
        let archs: Vec<_> = release.archive.iter().map(|(arch, pin)| told(*arch, pin)).collect();
        let status = json!(release.status);
        let reason = release.reason.as_deref().unwrap_or_default();
        say!("{:14} {:17} {:11} {reason}", release.version, status.as_str().unwrap_or_default(), archs.join(","));
    }
    for update in policy.updates() {
        let fate = match (update.superseded, update.expired) {
            (true, _) => "superseded by this lsm: its judgements alone are used",
            (_, true) => "expired: nothing is installed by its pins, its judgements stay",
            (false, false) => "in force",
        };
        say!("update {} of key {}, expires {}: {fate}", update.counter, update.key, update.expires);
    }
    Ok(())
}

/// A processor, and by which update it was pinned.
fn told(arch: Arch, pin: &Pin) -> String {
    match (pin.origin, pin.expired) {
        (Origin::Shipped, _) => arch.to_string(),
        (Origin::Update(counter), false) => format!("{arch} (update {counter})"),
        (Origin::Update(counter), true) => format!("{arch} (update {counter}, expired)"),
    }
}

fn show(archive: &Verified<Archive>) {
    if ui::voice().json {
        say!("{}", json!(**archive));
        return;
    }
    say!("{} is lnd {} for {}", archive.path().display(), archive.release().version, archive.arch());
    say!("sha256 {}", archive.sha256());
    for provenance in archive.provenance() {
        match provenance {
            Provenance::Pin { .. } => say!("it is the pinned archive"),
            Provenance::SourceBuild { lnd_module, go, .. } => say!("built here with Go {go} from {lnd_module}"),
            Provenance::Download { url } => say!("downloaded from {url}"),
        }
    }
}
