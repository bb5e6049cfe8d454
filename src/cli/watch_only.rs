//! `lsm watch-only`: set up the watch-only machine's lnd from a bundle, or find out why its signer does not sign.

use crate::cli::bundle::KeyArg;
use crate::cli::machine::MachineArgs;
use crate::cli::seed::recovery_window;
use crate::error::Result;
use crate::signer::channel::Endpoint;
use crate::spec::Network;
use crate::ui::{self, say, terminal};
use crate::watch_only::conf::Flavour;
use crate::watch_only::request::Start;
use crate::watch_only::{self, Change, CheckRequest, Checked, InitRequest, Ready};
use clap::{ArgGroup, Args, Subcommand};
use std::path::{Path, PathBuf};

/// What to do on the watch-only machine.
#[derive(Debug, Subcommand)]
pub enum WatchOnlyVerb {
    /// Write lnd's settings, create its watch-only wallet, prove a signature; run again it finds everything done
    Init(InitArgs),
    /// Name the first layer at fault between here and the signer, or prove a signature
    Check(CheckArgs),
}

/// `watch-only init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lsm watch-only init --bundle credentials-bundle --lnddir ~/.lnd\n  lsm watch-only init --bundle - --lnddir ~/.lnd --signer-host 10.0.0.7:10012 --lnd /usr/local/bin/lnd < pasted.txt\n  lsm watch-only init --bundle credentials-bundle --lnddir ~/.lnd --dry-run"
)]
pub struct InitArgs {
    /// The signer's bundle: its folder, its archive, its base64 text, or - for standard input
    #[arg(long, value_name = "DIR|FILE|BASE64|-")]
    bundle: String,
    /// lnd's folder; made where it is not there
    #[arg(long, value_name = "DIR")]
    lnddir: PathBuf,
    #[command(flatten)]
    key: KeyArg,
    /// Where the signer answers, where not as the bundle says
    #[arg(long, value_name = "HOST:PORT")]
    signer_host: Option<Endpoint>,
    /// Who reads the settings: lnd or litd
    #[arg(long = "for", value_name = "lnd|litd", default_value = "lnd")]
    flavour: Flavour,
    /// Start this lnd and leave it running; without it a running one is waited for
    #[arg(long, value_name = "PATH")]
    lnd: Option<PathBuf>,
    /// The settings file; in lnd's folder unless named
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// The network, where the bundle does not say
    #[arg(long)]
    network: Option<Network>,
    /// How many addresses in a row without a coin the new wallet looks at before it gives up; 2500, where the bundle does not
    /// say
    #[arg(long, value_name = "N", value_parser = recovery_window())]
    recovery_window: Option<u32>,
    /// Turn lnd's own wallet, which has the signer's seed, into a watch-only one: its private keys are purged for good.
    /// lnd must not run; it is started as it is first, and every key compared with the signer's. It asks
    /// first, unless --yes is given
    #[arg(long, requires_all = ["seed_verified", "lnd"])]
    migrate: bool,
    /// For --migrate: the 24 words were tried, and lsm wallet verify-seed said yes; without them nothing brings keys back
    #[arg(long, requires = "migrate")]
    seed_verified: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// `watch-only check`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("where").required(true).multiple(true).args(["bundle", "lnddir"])),
    after_help = "Examples:\n  lsm watch-only check --lnddir ~/.lnd\n  lsm watch-only check --bundle credentials-bundle"
)]
pub struct CheckArgs {
    /// The signer's bundle; else the one that init put into lnd's folder
    #[arg(long, value_name = "DIR|FILE|BASE64|-")]
    bundle: Option<String>,
    #[command(flatten)]
    key: KeyArg,
    /// lnd's folder, to prove a signature through the watch-only node too
    #[arg(long, value_name = "DIR")]
    lnddir: Option<PathBuf>,
    /// Where the signer answers, where not as the settings or the bundle say
    #[arg(long, value_name = "HOST:PORT")]
    signer_host: Option<Endpoint>,
    /// Who reads the settings: lnd or litd
    #[arg(long = "for", value_name = "lnd|litd", default_value = "lnd")]
    flavour: Flavour,
    /// The settings file; in lnd's folder unless named
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// The network, where the bundle does not say
    #[arg(long)]
    network: Option<Network>,
}

/// Runs `lsm watch-only`.
pub(super) fn run(verb: WatchOnlyVerb) -> Result<()> {
    match verb {
        WatchOnlyVerb::Init(args) => init(args),
        WatchOnlyVerb::Check(args) => {
            print_checked(&watch_only::check(CheckRequest {
                bundle: args.bundle.as_deref().map(|source| args.key.read(source)).transpose()?,
                lnddir: args.lnddir,
                conf: args.conf,
                flavour: args.flavour,
                signer_host: args.signer_host,
                network: args.network,
            })?);
            Ok(())
        }
    }
}

fn init(args: InitArgs) -> Result<()> {
    let lnddir = args.lnddir.clone();
    let request = InitRequest {
        bundle: args.key.read(&args.bundle)?,
        lnddir: args.lnddir,
        signer_host: args.signer_host,
        flavour: args.flavour,
        lnd: args.lnd.map(Start::Program),
        conf: args.conf,
        network: args.network,
        recovery_window: args.recovery_window,
        owner: None,
        migrate: args.migrate,
    };
    if args.machine.dry_run {
        print_plan(&watch_only::plan(request)?);
        return Ok(());
    }
    if args.migrate && !args.machine.yes {
        let place = lnddir.display();
        terminal::confirm(&format!(
            "The private keys of the wallet in {place} are purged for good, if each is seen to be the signer's. Go on?"
        ))?;
    }
    print_ready(&watch_only::init(request)?, &lnddir);
    Ok(())
}

fn print_plan(changes: &[Change]) {
    if ui::voice().json {
        say!("{}", serde_json::json!({"steps": changes}));
        return;
    }
    if changes.is_empty() {
        say!("nothing to do: the node is as wanted");
    }
    for change in changes {
        say!("{}", change.describe());
        change.lines().iter().for_each(|line| say!("  {line}"));
    }
}

fn print_ready(ready: &Ready, lnddir: &Path) {
    let pid = ready.pid;
    if ui::voice().json {
        let object = serde_json::json!({
            "network": ready.network,
            "signer": ready.signer.to_string(),
            "endpoint": ready.endpoint.to_string(),
            "conf": ready.conf,
            "created": ready.created,
            "migrated": ready.migrated,
            "proof": ready.proof,
            "pid": pid,
        });
        say!("{object}");
        return;
    }
    let wallet = match (ready.created, ready.migrated) {
        (true, _) => "created from the bundle",
        (_, true) => "its private keys are purged; it is the bundle's",
        _ => "was there, and is the bundle's",
    };
    say!("settings   {}", ready.conf.display());
    say!("wallet     {wallet} ({})", ready.network);
    say!("signature  proved: {} signed through {}", ready.signer, ready.endpoint);
    say!("identity   {}", ready.proof.identity_pubkey);
    if let Some(pid) = pid {
        say!("lnd        runs as process {pid}; stop it with: kill {pid}");
        say!("           its log is {}", lnddir.join("logs").display());
    }
    say!("restart    lnd ends when its signer is away for long: run it under a service with Restart=always");
}

fn print_checked(checked: &Checked) {
    if let Some(warning) = &checked.warning {
        ui::note(&format!("note: {warning}"));
    }
    if ui::voice().json {
        let object = serde_json::json!({
            "signer": checked.signer.to_string(),
            "at_signer": checked.at_signer,
            "through_node": checked.through_node,
            "warning": checked.warning,
        });
        say!("{object}");
        return;
    }
    say!("signer     {} signs; identity {}", checked.signer, checked.at_signer.identity_pubkey);
    if checked.through_node.is_some() {
        say!("this node  signs through it");
    }
}
