//! `lsm release`: known versions of lnd, fetched, built from source, verified.

use crate::error::Result;
use crate::host::draft::Durable;
use crate::release::pins::{self, Arch};
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
        Environment:\n  LSM_RELEASE_BASE        mirrors to ask instead, in this order: https addresses separated by commas\n  \
        HTTPS_PROXY, ALL_PROXY  the proxy to go through, for example socks5h://127.0.0.1:9050 for Tor\n  \
        SSL_CERT_FILE           the root certificates to trust instead of the system's")]
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
}

/// Runs it.
///
/// # Errors
/// What the release room ends with.
pub fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::List => list(),
        Verb::Fetch { version, out, arch } => {
            show(&release::fetch(pins::find(&version)?, arch_or_ours(arch)?, &out)?);
        }
        Verb::Build { version, arch, out } => {
            let (release, arch) = (pins::find(&version)?, arch_or_ours(arch)?);
            show(&release::build(release, arch, &release::default_cache()?, &out)?);
        }
        Verb::Verify { path, unpack } => {
            let archive = match unpack {
                Some(folder) => release::verify_and_unpack(&path, &folder, Durable::No)?,
                None => release::verify(&path)?,
            };
            show(&archive);
        }
    }
    Ok(())
}

fn arch_or_ours(arch: Option<Arch>) -> Result<Arch> {
    arch.map_or_else(Arch::of_this_machine, Ok)
}

fn list() {
    if ui::voice().json {
        say!("{}", json!({"releases": pins::all()}));
        return;
    }
    for release in pins::all() {
        let archs: Vec<_> = release.archive.keys().map(|a| a.name()).collect();
        let status = json!(release.status);
        let reason = release.reason.as_deref().unwrap_or_default();
        say!("{:14} {:17} {:11} {reason}", release.version, status.as_str().unwrap_or_default(), archs.join(","));
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
