//! `lsm release`: known versions of lnd, fetched, built from source, verified.

use crate::cli::machine::MachineArgs;
use crate::cli::update;
use crate::error::{Exit, Result};
use crate::host::draft::Durable;
use crate::release::known;
use crate::release::pins::{Arch, Origin, Pin, Release};
use crate::release::quorum::{Counted, parse_needed};
use crate::release::witness::{self, Word};
use crate::release::{self, Archive, Installed, Provenance, Verified};
use crate::spec::Places;
use crate::ui::{self, say};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) const QUORUM_HELP: &str = "How many good signatures of lnd's signers there have to be; without it, what \
    trust.toml says (5), and too few are told and do not stop a pinned archive";

/// What `lsm release` does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Name the versions of lnd that lsm knows, newest first
    #[command(after_help = "Examples:\n  lsm release list\n  lsm release list --json")]
    List,
    /// Download the official archive with lnd's signatures, and verify them; the folder can be taken to another machine
    #[command(after_help = "Examples:\n  lsm release fetch v0.21.3-beta --out /media/stick/lnd\n  \
        lsm release fetch v0.21.3-beta --out . --quorum 7\n\n\
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
        #[arg(long, value_name = "N", value_parser = parse_needed, help = QUORUM_HELP)]
        quorum: Option<usize>,
    },
    /// Build the official archive from source, bit for bit; needs no Go, no git and no root
    #[command(after_help = "Examples:\n  lsm release build v0.21.3-beta\n  \
        GOPROXY=https://proxy.example lsm release build v0.21.3-beta --arch arm64 --out /srv/lnd\n\n\
        Environment:\n  GOPROXY    the Go module proxies to ask [default: https://proxy.golang.org]\n  \
        LSM_CACHE  the folder for downloads and build caches, empty at first: it is lsm's alone")]
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
    /// Hold an archive against the pinned hashes, and in a folder also the signatures beside it
    #[command(after_help = "Examples:\n  lsm release verify lnd-linux-amd64-v0.21.3-beta.tar.gz\n  \
        lsm release verify /srv/lnd --unpack ./lnd\n  \
        lsm release verify --all v0.21.3-beta")]
    Verify {
        /// The archive, or a folder that holds one
        #[arg(value_name = "FILE|DIR", required_unless_present = "all")]
        path: Option<PathBuf>,
        /// Put lnd and lncli into this folder
        #[arg(long, value_name = "DIR", conflicts_with = "all")]
        unpack: Option<PathBuf>,
        /// Ask all three witnesses for this version: the pin, lnd's signers, and a build from source on this machine
        #[arg(long, value_name = "VERSION", conflicts_with = "path")]
        all: Option<String>,
        /// With --all, the processor it is for [default: this machine's]
        #[arg(long, value_name = "ARCH", requires = "all", conflicts_with = "path")]
        arch: Option<Arch>,
        #[arg(long, value_name = "N", value_parser = parse_needed, help = QUORUM_HELP)]
        quorum: Option<usize>,
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
pub fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::List => list()?,
        Verb::Fetch { version, out, arch, quorum } => {
            show(&release::fetch(known::find(&version)?, arch_or_ours(arch)?, &out, quorum)?);
        }
        Verb::Build { version, arch, out } => {
            let (release, arch) = (known::find(&version)?, arch_or_ours(arch)?);
            show(&release::build(release, arch, &release::default_cache()?, &out)?);
        }
        Verb::Verify { path: None, all, arch, quorum, .. } => {
            return testify(&all.unwrap_or_default(), arch_or_ours(arch)?, quorum);
        }
        Verb::Verify { path: Some(path), unpack, quorum, .. } => {
            let archive = match unpack {
                Some(folder) => release::verify_and_unpack(&path, quorum, &folder, Durable::No)?,
                None => release::verify(&path, quorum)?,
            };
            show(&archive);
        }
        Verb::Update { file, machine } => update::run(&file, &machine)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// All three witnesses; where one could not be had, the machine lacks something.
fn testify(version: &str, arch: Arch, quorum: Option<usize>) -> Result<ExitCode> {
    let testimony = witness::testify(known::find(version)?, arch, &release::default_cache()?, quorum)?;
    let missing = testimony.missing();
    if ui::voice().json {
        say!("{}", json!(testimony));
    } else {
        say!("lnd {} for {}: sha256 {}", testimony.version, testimony.arch, testimony.sha256);
        for (name, word) in testimony.words() {
            match word {
                Word::Given(provenance) => say!("{name:8} agrees: {}", in_words(provenance)),
                Word::Missing(why) => say!("{name:8} MISSING: {why}"),
            }
        }
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    ui::note(&format!("not all witnesses could be had: {} missing", missing.join(", ")));
    Ok(ExitCode::from(Exit::Lacking as u8))
}

fn arch_or_ours(arch: Option<Arch>) -> Result<Arch> {
    arch.map_or_else(Arch::of_this_machine, Ok)
}

fn list() -> Result<()> {
    let policy = known::in_force()?;
    if ui::voice().json {
        let (counter, releases, updates) = (policy.counter(), policy.releases(), policy.updates());
        let installed = installed()?;
        say!("{}", json!({"releases": releases, "counter": counter, "updates": updates, "installed": installed}));
        return Ok(());
    }
    for release in policy.releases() {
        let archs: Vec<_> = release.archive.iter().map(|(arch, pin)| told(*arch, pin)).collect();
        let status = json!(release.status);
        let reason = release.reason.as_deref().unwrap_or_default();
        say!("{:14} {:17} {:11} {reason}", release.version, status.as_str().unwrap_or_default(), archs.join(","));
    }
    for lnd in installed()? {
        say!("installed {} on {}", lnd.version, lnd.at);
        lnd.provenance.iter().for_each(|provenance| say!("  {}", in_words(provenance)));
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

/// What is unpacked on this host for its signers.
fn installed() -> Result<Vec<Installed>> {
    let folder = |release: &Release| Installed::read(&Places::MACHINE.releases().join(&release.version)).transpose();
    known::all()?.iter().filter_map(folder).collect()
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
        say!("{}", in_words(provenance));
    }
}

/// How lsm knows, on one line.
pub(super) fn in_words(provenance: &Provenance) -> String {
    match provenance {
        Provenance::Pin { origin: Origin::Shipped, .. } => "its hash is pinned in this lsm".to_owned(),
        Provenance::Pin { origin: Origin::Update(counter), .. } => format!("its hash is pinned by update {counter}"),
        Provenance::Quorum(quorum) => {
            let signers: Vec<_> = quorum.signatures.iter().map(signer).collect();
            format!("signed by {} (at least {}): {}", signers.len(), quorum.needed, signers.join(", "))
        }
        Provenance::SourceBuild { lnd_module, go, proved, .. } => {
            let proved = if proved.is_empty() { "" } else { ", proved by the Go checksum database" };
            format!("built here with Go {go} from {lnd_module}{proved}")
        }
        Provenance::Image { reference } => format!("its programs were in the image {reference}"),
        Provenance::Download { url } => format!("downloaded from {url}"),
    }
}

fn signer(counted: &Counted) -> String {
    let day = counted.made.get(..10).unwrap_or(&counted.made);
    let expired = if counted.key_expired { ", key expired since" } else { "" };
    let added = if counted.added { ", added by the operator" } else { "" };
    format!("{} ({day}{expired}{added})", counted.name)
}
