//! `lsm install`: from a bare host to a running signer with its bundle; run again it converges.

use crate::backend::native::{self, Layout, Wishes};
use crate::cli::{Common, MachineArgs};
use crate::error::{Code, Error, Result};
use crate::facts::{self, Facts, Seen};
use crate::host::file::{self, Access};
use crate::plan::{self, Journal, Machine, Plan, SeedSink, Step, journal};
use crate::release::pins::{self, Arch, Release};
use crate::release::{self, Archive, Verified};
use crate::spec::{Instance, Mode, Network, San, Spec, parse_cidr};
use crate::ui::{self, terminal};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const NOT_ROOT: Code = Code::lacking("E-INSTALL-001");
const NO_SYSTEMD: Code = Code::lacking("E-INSTALL-002");
const NO_LOCALHOST: Code = Code::lacking("E-INSTALL-003");
const NO_SPACE: Code = Code::lacking("E-INSTALL-004");
const PORT_TAKEN: Code = Code::lacking("E-INSTALL-005");
const NO_SEED_SINK: Code = Code::usage("E-INSTALL-006");
const WALLET_EXISTS: Code = Code::refused("E-INSTALL-007");
const SEED_FILE_EXISTS: Code = Code::refused("E-INSTALL-008");
const OTHER_NETWORK: Code = Code::refused("E-INSTALL-009");
const OLD_SYSTEMD: Code = Code::lacking("E-INSTALL-010");

/// The oldest systemd whose units these are: Debian 12's.
const OLDEST_SYSTEMD: u32 = 252;
/// What lnd, its archive and its first years of logs and database take, in bytes.
const SPACE: u64 = 600 << 20;

/// The options of `lsm install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm install --network mainnet --listen 10.0.0.5:10012 --allow 10.0.0.7\n  \
    sudo lsm install --network regtest --seed-out ./seed.txt --bundle-out ./bundle --yes\n  \
    lsm install --network mainnet --dry-run")]
pub struct Options {
    /// The bitcoin network
    #[arg(long, value_name = "NETWORK")]
    network: Network,
    /// The version of lnd [default: the one that is installed, or the newest pinned one]
    #[arg(long, value_name = "V")]
    release: Option<String>,
    /// An archive of lnd, or a folder that holds one; its hash has to be the pinned one
    #[arg(long, value_name = "ARCHIVE|DIR", conflicts_with = "source")]
    from: Option<PathBuf>,
    /// Build lnd from source, without trying to download it
    #[arg(long)]
    source: bool,
    #[arg(long, value_name = "IP:PORT", help = format!("Where the signer answers [default: {}]", Spec::DEFAULT_LISTEN))]
    listen: Option<SocketAddr>,
    /// Who may connect: an address or CIDR; may be given more than once [default: nobody]
    #[arg(long, value_name = "CIDR", value_parser = parse_cidr)]
    allow: Vec<IpNet>,
    /// What else the watch-only side dials: a name or address for the certificate
    #[arg(long, value_name = "NAME|IP")]
    san: Vec<San>,
    /// How lnd meets the network: in an empty network of its own behind a proxy, or listening itself [default: isolated]
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Let the bundle's macaroon use MuSig2, which taproot channels need. Whoever holds it can then take private keys;
    /// =false revokes it
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    taproot_channels: Option<bool>,
    /// Write the new wallet's seed to this file (0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    seed_out: Option<PathBuf>,
    /// Take the wallet's password from this file instead of making one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Write the bundle to this folder
    #[arg(long, value_name = "DIR")]
    bundle_out: Option<PathBuf>,
    /// Make everything but the wallet, and open no port
    #[arg(long)]
    no_wallet: bool,
    /// Install this version in spite of its known fault
    #[arg(long, value_name = "V")]
    accept_risk: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Isolated,
    Host,
}

impl ModeArg {
    fn mode(self) -> Mode {
        match self {
            Self::Isolated => Mode::Isolated,
            Self::Host => Mode::Host,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Bad input, a machine that lacks something, a failed verification: before anything was changed. Later, that of the
/// step that failed.
pub fn run(options: &Options, common: &Common) -> Result<()> {
    let spec = options.spec(&common.instance)?;
    let release = pins::find(&spec.release)?;
    let installed =
        native::read_spec(&Layout::new(&spec.instance).spec()).is_ok_and(|there| there.release == spec.release);
    if !installed {
        release.admit(options.accept_risk.as_deref())?;
    }
    let layout = Layout::new(&spec.instance);
    let facts = Facts::gather();
    let wishes = options.wishes(&layout)?;
    let wanted = native::steps(&spec, release, Arch::of_this_machine()?, &wishes, &facts)?;
    let facts = plan::observe(facts, &wanted);
    let plan = plan::make_plan(wanted, &facts, journal::is_unfinished(&layout.journal()));
    if options.machine.dry_run {
        show_plan(&plan);
        return Ok(());
    }
    check_machine(&facts)?;
    check_input(options, &spec, &layout, &plan)?;
    if plan.is_empty() {
        return finish(&spec, &wishes, false);
    }
    if !options.machine.yes {
        terminal::require()?;
    }
    let archive = options.archive(&plan, release)?;
    consent(options, &plan)?;
    let mut journal = open_journal(&layout)?;
    // Between the first look and the lock another lsm may have been at work: look again.
    let wanted = native::steps(&spec, release, Arch::of_this_machine()?, &wishes, &facts)?;
    let facts = plan::observe(Facts::gather(), &wanted);
    let plan = plan::make_plan(wanted, &facts, journal.is_unfinished());
    check_input(options, &spec, &layout, &plan)?;
    plan::apply(&plan, "install", &mut journal, &Machine { archive: archive.as_ref() })
        .map_err(|e| e.hint_if_none("mend it and run the same command again: it goes on where it stopped"))?;
    finish(&spec, &wishes, true)
}

impl Options {
    /// What was wanted before, where there is a signer, with what is given now.
    fn spec(&self, instance: &Instance) -> Result<Spec> {
        let path = Layout::new(instance).spec();
        let mut spec = if path.exists() {
            native::read_spec(&path)?
        } else {
            Spec::new(instance, self.network, &pins::newest().version)
        };
        if spec.network != self.network {
            return Err(Error::new(OTHER_NETWORK, format!("the signer {instance} is for {}", spec.network))
                .hint("give a second signer a name of its own with --instance"));
        }
        spec.release = self.release.clone().unwrap_or(spec.release);
        spec.listen = self.listen.unwrap_or(spec.listen);
        spec.mode = self.mode.map_or(spec.mode, ModeArg::mode);
        if !self.allow.is_empty() {
            spec.allow = IpNet::aggregate(&self.allow);
        }
        if !self.san.is_empty() {
            spec.san.clone_from(&self.san);
        }
        spec.taproot_channels = self.taproot_channels.unwrap_or(spec.taproot_channels);
        Ok(spec)
    }

    fn wishes(&self, layout: &Layout) -> Result<Wishes> {
        if let Some(path) = &self.password_file {
            plan::read_password(path)?;
        }
        Ok(Wishes {
            seed: self.seed_out.as_deref().map_or(Ok(SeedSink::Terminal), |path| absolute(path).map(SeedSink::File))?,
            password: self.password_file.as_deref().map(absolute).transpose()?,
            bundle: self.bundle_out.as_deref().map_or_else(|| Ok(layout.bundle()), absolute)?,
            no_wallet: self.no_wallet,
            lsm_sha256: facts::hash(Path::new("/proc/self/exe")).unwrap_or_default(),
            others: native::read_specs()?,
        })
    }

    /// The verified lnd, where the plan unpacks one. Before any step: a bad archive changes nothing.
    fn archive(&self, plan: &Plan, release: &'static Release) -> Result<Option<Verified<Archive>>> {
        if !plan.steps.iter().any(|step| matches!(step, Step::Release { .. })) {
            return Ok(None);
        }
        let (arch, cache) = (Arch::of_this_machine()?, release::default_cache()?);
        let archive = match &self.from {
            Some(path) => release::verify_as(path, release, arch)?,
            None if self.source => release::build(release, arch, &cache, &cache)?,
            None => release::obtain(release, arch, &cache)?,
        };
        Ok(Some(archive))
    }
}

/// What the machine has to have, each named with what gets it.
fn check_machine(facts: &Facts) -> Result<()> {
    if !facts.root {
        return Err(
            Error::new(NOT_ROOT, "installing needs root").hint("run it with sudo, or look first with --dry-run")
        );
    }
    match facts.systemd {
        None => {
            return Err(Error::new(NO_SYSTEMD, "systemd does not run this machine")
                .hint("on a machine without systemd try: lsm trial"));
        }
        Some(version) if version < OLDEST_SYSTEMD => {
            return Err(Error::new(
                OLD_SYSTEMD,
                format!("systemd {version} is too old; it has to be {OLDEST_SYSTEMD} or newer"),
            )
            .hint("Debian 12 and Ubuntu 24.04 have it"));
        }
        Some(_) => {}
    }
    for program in ["nft", "systemctl", "systemd-sysusers", "systemd-tmpfiles"] {
        if !facts.programs.contains(program) {
            return Err(crate::host::program::missing(program));
        }
    }
    if !facts.localhost {
        return Err(Error::new(NO_LOCALHOST, "/etc/hosts does not name localhost, and lnd does not start without it")
            .hint("add a line to /etc/hosts: 127.0.0.1 localhost"));
    }
    if facts.space < SPACE {
        return Err(Error::new(
            NO_SPACE,
            format!("/var/lib has {} MiB free; it takes {} MiB", facts.space >> 20, SPACE >> 20),
        )
        .hint("free some space and run it again"));
    }
    Ok(())
}

/// What the plan must not run into: found out before it begins.
fn check_input(options: &Options, spec: &Spec, layout: &Layout, plan: &Plan) -> Result<()> {
    let binds = plan.steps.iter().any(|step| step.unit() == Some(layout.public_unit(spec).as_str()));
    let ours = facts::is_active(&layout.public_unit(spec));
    if binds && !ours && facts::is_taken(spec.listen) {
        return Err(Error::new(PORT_TAKEN, format!("something listens on {} already", spec.listen))
            .hint("find it with: ss -ltnp, or choose another with --listen"));
    }
    if !plan.steps.iter().any(|step| matches!(step, Step::Wallet { .. })) {
        return Ok(());
    }
    let unfinished = journal::is_unfinished(&layout.journal());
    if layout.database(spec).exists() && !unfinished {
        return Err(Error::new(
            WALLET_EXISTS,
            format!("there is a wallet already: {}", layout.database(spec).display()),
        )
        .hint("it is kept as it is; move its folder away, or install under another --instance"));
    }
    match &options.seed_out {
        Some(path) if facts::look(path) != Seen::Absent && !unfinished => {
            Err(Error::new(SEED_FILE_EXISTS, format!("{} is there already", path.display()))
                .hint("it is left as it is; name another file for the seed"))
        }
        None if !terminal::is_there() => {
            Err(Error::new(NO_SEED_SINK, "there is no terminal to show the new wallet's seed on")
                .hint("have it written to a file with --seed-out FILE"))
        }
        _ => Ok(()),
    }
}

fn consent(options: &Options, plan: &Plan) -> Result<()> {
    // Also where the option was given long ago and the bundle is exported again.
    if plan.steps.iter().any(|step| matches!(step, Step::Bundle { taproot_channels: true, .. })) {
        ui::note(
            "warning: with --taproot-channels whoever holds the bundle can compute private keys of the signer (MuSig2); see SECURITY.md",
        );
    }
    if options.machine.yes {
        return Ok(());
    }
    for step in &plan.steps {
        ui::note(&format!("  {}", step.describe()));
    }
    terminal::confirm(&format!("Do these {} steps?", plan.steps.len()))
}

pub(super) fn open_journal(layout: &Layout) -> Result<Journal> {
    let path = layout.journal();
    file::make_folder(Path::new("/var/lib/lsm"), Access::mode(0o711))?;
    file::make_folder(path.parent().unwrap_or(Path::new("/var/lib/lsm/journal")), Access::mode(0o700))?;
    Journal::open(&path)
}

pub(super) fn show_plan(plan: &Plan) {
    if ui::voice().json {
        println!("{}", json!(plan));
        return;
    }
    if plan.is_empty() {
        println!("nothing to do: the signer is as wanted");
    }
    for step in &plan.steps {
        println!("{}", step.describe());
    }
}

fn finish(spec: &Spec, wishes: &Wishes, changed: bool) -> Result<()> {
    let layout = Layout::new(&spec.instance);
    let identity = if wishes.no_wallet { None } else { Some(plan::read_receipt(&layout.receipt())?.identity_pubkey) };
    if ui::voice().json {
        let object = json!({
            "instance": spec.instance, "changed": changed, "listen": spec.listen, "network": spec.network,
            "release": spec.release, "identity_pubkey": identity, "bundle": wishes.bundle,
        });
        println!("{object}");
        return Ok(());
    }
    let Some(identity) = identity else {
        println!("the signer {} is installed, without a wallet", spec.instance);
        return Ok(());
    };
    if !changed {
        println!("nothing to do: the signer is as wanted");
    }
    println!("signer     {} on {}, lnd {}", spec.instance, spec.network, spec.release);
    println!("answers    {}, allowed: {}", spec.listen, allowed(spec));
    println!("identity   {identity}");
    println!("bundle     {}", wishes.bundle.display());
    println!(
        "next       copy the bundle to the watch-only machine, and there: lsm watch-only init --bundle DIR --lnddir DIR"
    );
    Ok(())
}

fn allowed(spec: &Spec) -> String {
    match spec.allow.as_slice() {
        [] => "nobody yet (--allow)".to_owned(),
        nets => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::new(NO_SEED_SINK, format!("{} is no path: {e}", path.display())))
}
