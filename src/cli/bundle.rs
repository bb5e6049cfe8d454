//! `lsm bundle`: show what a bundle holds, or put it where a watch-only lnd finds it.

use crate::age::Recipient;
use crate::backend::{Layout, native, preflight};
use crate::bundle::{self, Bundle};
use crate::cli::machine::{self, MachineArgs};
use crate::cli::rights::{installed, require_rights};
use crate::cli::{Common, cert, macaroon, strings};
use crate::error::{Code, Error, Result};
use crate::plan::{self, Machine, Plan, Remote, Step};
use crate::secret::Secret;
use crate::signer::channel::Endpoint;
use crate::spec::{Network, Spec};
use crate::ui::{self, say};
use crate::watch_only;
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const NOT_PRINTED: Code = Code::refused("E-BUNDLE-023");

/// Under which name the journal has these plans.
pub(super) const EXPORT: &str = "bundle export";

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub enum BundleVerb {
    /// Export the signer's bundle anew; where nothing changed it is the same, byte for byte
    Export(ExportArgs),
    /// Show what a bundle holds and permits; no secret is shown
    Show(ShowArgs),
    /// Check a bundle and put it into a watch-only lnd's folder
    Import(ImportArgs),
}

/// `bundle export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm bundle export --out ./bundle --yes\n  \
    lsm bundle export --rpcserver 10.0.0.5:10012 --tlscertpath ./tls.cert --macaroonpath ./admin.macaroon --out ./bundle\n  \
    sudo lsm bundle export --encrypt-to age1... --out ./bundle --yes")]
pub struct ExportArgs {
    /// The folder [default: the signer's own, which install names]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Export from the signer that answers there, which lsm need not have installed
    #[arg(long, value_name = "HOST:PORT", requires_all = ["tlscertpath", "macaroonpath", "out"], conflicts_with = "dry_run")]
    rpcserver: Option<Endpoint>,
    /// Its certificate
    #[arg(long, value_name = "FILE", requires = "rpcserver")]
    tlscertpath: Option<PathBuf>,
    /// A macaroon that may bake and list accounts, such as its admin.macaroon; the bundle gets the least one
    #[arg(long, value_name = "FILE", requires = "rpcserver")]
    macaroonpath: Option<PathBuf>,
    /// Write one file, encrypted to this age recipient (age1...), and nothing else
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Option<String>,
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
    #[command(flatten)]
    key: KeyArg,
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
    #[command(flatten)]
    key: KeyArg,
    /// The network, where the bundle does not say
    #[arg(long)]
    network: Option<Network>,
}

/// What opens an encrypted bundle.
#[derive(Debug, Args)]
pub struct KeyArg {
    /// The file of the age key that the bundle is encrypted to
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl KeyArg {
    /// Reads the bundle, encrypted or not.
    ///
    /// # Errors
    /// As [`Bundle::read_with`].
    pub(super) fn read(&self, source: &str) -> Result<Bundle> {
        Bundle::read_with(source, self.identity.as_deref())
    }
}

/// Runs `lsm bundle`.
pub(super) fn run(verb: BundleVerb, common: &Common) -> Result<()> {
    match verb {
        BundleVerb::Export(args) => export(&args, common),
        BundleVerb::Show(args) => show(&args),
        BundleVerb::Import(args) => import(&args),
    }
}

impl ExportArgs {
    /// The signer elsewhere, where one is named.
    fn remote(&self) -> Option<Remote> {
        let (rpcserver, certificate) = (self.rpcserver.clone()?, self.tlscertpath.clone()?);
        Some(Remote { rpcserver, certificate, macaroon: self.macaroonpath.clone()? })
    }

    /// To whom it is encrypted. Read here, since what reads the command line would repeat it, and it may be a key.
    fn recipient(&self) -> Result<Option<Recipient>> {
        self.encrypt_to.as_deref().map(str::parse).transpose()
    }
}

/// Nothing of this machine's is changed but the folder that was named, as by a copy.
fn export_from(remote: &Remote, args: &ExportArgs) -> Result<()> {
    let out = machine::absolute(args.out.as_deref().unwrap_or(Path::new(".")))?;
    let recipient = args.recipient()?;
    if recipient.is_none() {
        bundle::check_folder(&out, None)?;
    }
    let bundle = plan::export_remote(remote, &out)?;
    recipient.map_or_else(|| bundle.write(&out), |recipient| bundle.write_encrypted(&out, &recipient))?;
    // An encrypted one cannot be looked into, and each export of one bakes anew: who is to revoke it has to know.
    tell_exported(&out, Some(bundle.macaroon.root_key_id()));
    Ok(())
}

/// `root_key` is that of the macaroon, where no register of lsm's has it.
fn tell_exported(out: &Path, root_key: Option<&str>) {
    if ui::voice().json {
        let mut told = serde_json::json!({"bundle": out});
        if let Some(root_key) = root_key {
            told["root_key_id"] = root_key.into();
        }
        say!("{told}");
        return;
    }
    say!("bundle     {}", out.display());
    if let Some(root_key) = root_key {
        say!("root key   {root_key}, which lncli deletemacaroonid revokes");
    }
}

fn export(args: &ExportArgs, common: &Common) -> Result<()> {
    if let Some(remote) = args.remote() {
        return export_from(&remote, args);
    }
    let recipient = args.recipient()?;
    let look = || -> Result<(Spec, PathBuf, Plan)> {
        let spec = installed(&common.instance)?;
        let out = args.out.as_deref().map_or_else(|| Ok(Layout::of(&spec).bundle()), machine::absolute)?;
        let mut steps = native::bundle_steps(&spec, &out, false);
        match &recipient {
            Some(recipient) => steps = steps.into_iter().map(|step| encrypted(step, recipient)).collect(),
            None => preflight::check_bundle(&out, &Layout::of(&spec))?,
        }
        Ok((spec, out, Plan { steps }))
    };
    let (spec, _, plan) = look()?;
    if args.machine.dry_run {
        machine::show_plan(&plan);
        return Ok(());
    }
    let layout = Layout::of(&spec);
    require_rights(&layout)?;
    let agreed = machine::consent(&args.machine, &plan)?;
    let mut journal = machine::open_journal(&layout)?;
    // Until the lock was taken another lsm may have changed what the bundle is to permit.
    let (spec, out, plan) = look()?;
    machine::admit(journal.history(), EXPORT)?;
    agreed.hold(&plan)?;
    let stays = native::stays(&layout, Some(&spec))?;
    plan::carry_out(&plan, EXPORT, &mut journal, &Machine::default(), &stays)?;
    tell_exported(&out, None);
    Ok(())
}

/// The same for somebody's eyes alone: nothing is written that is not encrypted, and what is written is theirs.
fn encrypted(mut step: Step, recipient: &Recipient) -> Step {
    if let Step::Bundle { encrypt_to, given, .. } = &mut step {
        (*encrypt_to, *given) = (Some(recipient.to_string()), true);
    }
    step
}

fn show(args: &ShowArgs) -> Result<()> {
    let mut bundle = args.key.read(&args.bundle)?;
    if args.network.is_some() || args.base64 {
        bundle.settle_network(args.network)?;
    }
    if args.base64 {
        print_secret(&bundle.to_base64()?)?;
    } else if ui::voice().json {
        say!("{}", to_json(&bundle));
    } else {
        print(&bundle);
    }
    Ok(())
}

/// Prints what is wanted whole or not at all, past the buffer of standard output, which nobody wipes.
fn print_secret(text: &Secret) -> Result<()> {
    let written = io::stdout().as_fd().try_clone_to_owned().and_then(|out| File::from(out).write_all(text.expose()));
    match written {
        // A closed pipe is the reader's choice.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(NOT_PRINTED, format!("the bundle was not printed whole: {e}"))
                .hint("what there is of it is of no use"))
        }
        _ => Ok(()),
    }
}

fn import(args: &ImportArgs) -> Result<()> {
    let mut bundle = args.key.read(&args.bundle)?;
    bundle.settle_network(args.network)?;
    let folder = watch_only::import(&bundle, &args.lnddir, None)?;
    if ui::voice().json {
        say!("{}", serde_json::json!({"folder": folder, "identity_pubkey": bundle.identity_pubkey()}));
    } else {
        say!("imported into {}", folder.display());
        // A bundle of the scripts does not say where its signer answers.
        let host = if bundle.about.rpchost.is_empty() { " --signer-host HOST:PORT" } else { "" };
        say!("next: lsm watch-only init --bundle {} --lnddir {}{host}", folder.display(), args.lnddir.display());
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
        "next_certificate": bundle.next.as_ref().map(cert::contents),
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
    let network = about.network.map_or_else(|| "some test network (not said)".to_owned(), |n| n.to_string());
    say!("network      {network}");
    say!("lnd          {}", about.lnd_version.as_deref().unwrap_or("unknown"));
    say!("identity     {}", bundle.identity_pubkey());
    say!("birthday     {birthday}");
    say!("answers at   {}", list(strings(&about.rpchost)));
    say!("accounts     {}", bundle.accounts.count());
    for (name, certificate) in [("certificate", Some(&bundle.certificate)), ("and next", bundle.next.as_ref())] {
        let Some(certificate) = certificate else { continue };
        let (from, to) = certificate.validity();
        say!("{name:12} {}", certificate.fingerprint());
        say!("  valid for  {}", list(strings(certificate.names())));
        say!("  valid      {} to {}", day(from), day(to));
    }
    say!("macaroon     root key {}", bundle.macaroon.root_key_id());
    say!("  permits    {}", list(strings(bundle.macaroon.permissions())));
    say!("  if         {}", list(bundle.macaroon.caveats().to_vec()));
}
