//! `lsm bundle`: show what a bundle holds, or put it where a watch-only lnd finds it.

use crate::backend::{Layout, native};
use crate::bundle::Bundle;
use crate::cli::machine::{self, MachineArgs};
use crate::cli::{Common, cert, macaroon, strings};
use crate::error::Result;
use crate::plan::{self, Machine, Plan};
use crate::spec::Network;
use crate::ui::{self, say};
use crate::watch_only::CREDENTIALS;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use time::OffsetDateTime;

/// Under which name the journal has these plans.
const EXPORT: &str = "bundle export";

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub enum BundleVerb {
    /// Export the signer's bundle anew, with a new macaroon beside the old ones
    Export(ExportArgs),
    /// Show what a bundle holds and permits; no secret is shown
    Show(ShowArgs),
    /// Check a bundle and put it into a watch-only lnd's folder
    Import(ImportArgs),
}

/// `bundle export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo lsm bundle export --out ./bundle --yes")]
pub struct ExportArgs {
    /// The folder [default: the signer's own, which install names]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// `bundle show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lsm bundle show --bundle credentials-bundle\n  lsm bundle show --bundle - < pasted.txt"
)]
pub struct ShowArgs {
    /// Its folder, its archive, its base64 text, or - for standard input
    #[arg(long, value_name = "DIR|FILE|BASE64|-", default_value = "credentials-bundle")]
    bundle: String,
    /// Print the archive in base64, for copying. This is a secret: whoever has it can ask for signatures
    #[arg(long, conflicts_with = "json")]
    base64: bool,
    /// The network, where the bundle does not say
    #[arg(long)]
    network: Option<Network>,
}

/// `bundle import`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lsm bundle import --bundle credentials-bundle.tar.gz.b64 --lnddir ~/.lnd")]
pub struct ImportArgs {
    /// Its folder, its archive, its base64 text, or - for standard input
    #[arg(long, value_name = "DIR|FILE|BASE64|-")]
    bundle: String,
    /// lnd's folder; the bundle goes into signer-credentials in it
    #[arg(long, value_name = "DIR")]
    lnddir: PathBuf,
    /// The network, where the bundle does not say
    #[arg(long)]
    network: Option<Network>,
}

/// Runs `lsm bundle`.
pub(super) fn run(verb: BundleVerb, common: &Common) -> Result<()> {
    match verb {
        BundleVerb::Export(args) => export(&args, common),
        BundleVerb::Show(args) => show(&args),
        BundleVerb::Import(args) => import(&args),
    }
}

fn export(args: &ExportArgs, common: &Common) -> Result<()> {
    let spec = native::read_spec(&Layout::new(&common.instance).spec())?;
    let layout = Layout::of(&spec);
    let out = args.out.as_deref().map_or_else(|| Ok(layout.bundle()), machine::absolute)?;
    let plan = Plan { steps: native::bundle_steps(&spec, &out, false) };
    if args.machine.dry_run {
        machine::show_plan(&plan);
        return Ok(());
    }
    machine::consent(&args.machine, &plan)?;
    let mut journal = machine::open_journal(&layout)?;
    machine::admit(journal.history(), EXPORT)?;
    let stays = native::stays(&common.instance, Some(&spec))?;
    plan::carry_out(&plan, EXPORT, &mut journal, &Machine::default(), &stays)?;
    if ui::voice().json {
        say!("{}", serde_json::json!({"bundle": out}));
    } else {
        say!("bundle     {}", out.display());
    }
    Ok(())
}

fn show(args: &ShowArgs) -> Result<()> {
    let mut bundle = Bundle::read(&args.bundle)?;
    if args.network.is_some() || args.base64 {
        bundle.settle_network(args.network)?;
    }
    if args.base64 {
        let text = bundle.to_base64()?;
        // A closed pipe is the reader's choice.
        let _ = std::io::stdout().write_all(text.expose());
    } else if ui::voice().json {
        say!("{}", to_json(&bundle));
    } else {
        print(&bundle);
    }
    Ok(())
}

fn import(args: &ImportArgs) -> Result<()> {
    let mut bundle = Bundle::read(&args.bundle)?;
    bundle.settle_network(args.network)?;
    let folder = args.lnddir.join(CREDENTIALS);
    bundle.write_members(&folder, None)?;
    if ui::voice().json {
        say!("{}", serde_json::json!({"folder": folder, "identity_pubkey": bundle.identity_pubkey()}));
    } else {
        say!("imported into {}", folder.display());
        say!("next: lsm watch-only init --bundle {} --lnddir {}", folder.display(), args.lnddir.display());
    }
    Ok(())
}

fn to_json(bundle: &Bundle) -> serde_json::Value {
    let hashes: serde_json::Map<_, _> = bundle.hashes().into_iter().map(|(n, h)| (n.to_owned(), h.into())).collect();
    serde_json::json!({
        "network": bundle.about.network,
        "lnd_version": bundle.about.lnd_version,
        "birthday": bundle.about.birthday, "recovery_window": bundle.about.recovery_window,
        "identity_pubkey": bundle.identity_pubkey(),
        "rpchost": strings(&bundle.about.rpchost),
        "accounts": bundle.accounts.count(),
        "certificate": cert::contents(&bundle.certificate),
        "macaroon": macaroon::contents(&bundle.macaroon),
        "sha256": hashes,
    })
}

fn print(bundle: &Bundle) {
    let about = &bundle.about;
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let day = |at: OffsetDateTime| at.date().to_string();
    let birthday = match OffsetDateTime::from_unix_timestamp(about.birthday.try_into().unwrap_or(0)) {
        Ok(at) if about.birthday > 0 => day(at),
        _ => "unknown: a watch-only node will scan the whole chain".to_owned(),
    };
    let (from, to) = bundle.certificate.validity();
    let network = about.network.map_or_else(|| "some test network (not said)".to_owned(), |n| n.to_string());
    say!("network      {network}");
    say!("lnd          {}", about.lnd_version.as_deref().unwrap_or("unknown"));
    say!("identity     {}", bundle.identity_pubkey());
    say!("birthday     {birthday}");
    say!("answers at   {}", list(strings(&about.rpchost)));
    say!("accounts     {}", bundle.accounts.count());
    say!("certificate  {}", bundle.certificate.fingerprint());
    say!("  valid for  {}", list(strings(bundle.certificate.names())));
    say!("  valid      {} to {}", day(from), day(to));
    say!("macaroon     root key {}", bundle.macaroon.root_key_id());
    say!("  permits    {}", list(strings(bundle.macaroon.permissions())));
    say!("  if         {}", list(bundle.macaroon.caveats().to_vec()));
}
