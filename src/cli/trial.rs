//! `lsm trial`: a signer and a watch-only node on regtest, a signature proved; no root, nothing installed.

use crate::backend::foreground::{self, Layout};
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::file::{self, Access};
use crate::host::process;
use crate::plan::{self, Journal, Machine, Plan, Step};
use crate::release::pins::{self, Arch, Release};
use crate::release::{self, Archive, Verified};
use crate::spec::{Instance, Mode, Network, Spec};
use crate::ui::{self, progress::Progress, say};
use crate::watch_only::conf::Flavour;
use crate::watch_only::{self, InitRequest, Ready};
use clap::Args;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

const NO_HOME: Code = Code::lacking("E-TRIAL-001");
const NO_PORT: Code = Code::lacking("E-TRIAL-002");
const LONG_HOME: Code = Code::lacking("E-TRIAL-003");

/// The longest path of a unix socket (unix(7): `sun_path` holds 108 bytes with its end).
const LONGEST_SOCKET: usize = 107;

/// The options of `lsm trial`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything is below ~/.lnget/trial; nothing outside it is touched, but the cache that keeps the\n\
    verified lnd for the next time.\n\nExamples:\n  lsm trial\n  lsm trial --keep"
)]
pub struct Options {
    /// Where the signer runs
    #[arg(long, value_name = "BACKEND", default_value = "foreground", value_parser = ["foreground"])]
    backend: String,
    /// Leave both nodes running, and say how to stop them
    #[arg(long)]
    keep: bool,
}

/// Runs it.
///
/// # Errors
/// Where no verified lnd can be had, or one of the steps fails; the two nodes are then stopped.
pub fn run(options: &Options) -> Result<()> {
    let root = root()?;
    let layout = Layout::new(&root);
    let release = pins::newest()?;
    clear(&layout)?;
    let left = layout.clone();
    process::on_interrupt(move || {
        // The next trial takes away what cannot be taken away now.
        let _ = stop(&left);
    })?;
    let nodes = Nodes { layout: &layout, keep: false };
    let spec = spec(release)?;
    let archive = raise_signer(&spec, release, &layout)?;
    let bundle = layout.bundle();
    let ready = raise_watch_only(&spec, release, &layout)?;
    show(&layout, release, archive.as_ref(), &bundle, &ready, options.keep);
    nodes.end(options.keep)
}

/// The signer: the same steps, interpreter and journal as an install.
fn raise_signer(spec: &Spec, release: &'static Release, layout: &Layout) -> Result<Option<Verified<Archive>>> {
    let arch = Arch::of_this_machine()?;
    let wanted = foreground::steps(spec, release, arch, layout)?;
    let mut facts = Facts::gather();
    facts.owner = nix::unistd::geteuid().as_raw();
    let plan = plan::make_plan(wanted.clone(), &plan::observe(facts, &wanted), false);
    let archive =
        if unpacks(&plan) { Some(release::obtain(release, arch, &release::default_cache()?, None)?) } else { None };
    let mut journal = Journal::open(&layout.journal())?;
    plan::apply(&plan, "trial", &mut journal, &Machine { archive: archive.as_ref(), ..Machine::default() })?;
    Ok(archive)
}

/// The watch-only node, which proves a signature of the signer.
fn raise_watch_only(spec: &Spec, release: &Release, layout: &Layout) -> Result<Ready> {
    let folder = layout.watch_only();
    let listen = free_port()?;
    file::make_folder(&folder, Access::mode(0o700))?;
    let conf = format!(
        "[Application Options]\nrpclisten={listen}\nnorest=true\nnolisten=true\nnobootstrap=true\ntlsdisableautofill=true\n\
        tlsextraip={}\n",
        listen.ip()
    );
    file::replace(&folder.join(Flavour::Lnd.file_name()), conf.as_bytes(), Access::mode(0o600))?;
    let shown = Progress::new("creating the watch-only wallet from the bundle, and signing", None);
    let ready = watch_only::init(InitRequest {
        bundle: Bundle::read(&layout.bundle().display().to_string())?,
        lnddir: folder,
        signer_host: None,
        flavour: Flavour::Lnd,
        lnd: Some(layout.lnd(release).join("lnd")),
        conf: None,
        network: Some(spec.network),
    })?;
    drop(shown);
    Ok(ready)
}

fn spec(release: &Release) -> Result<Spec> {
    let defaults = Spec::new(&Instance::default(), Network::Regtest, &release.version);
    Ok(Spec { listen: free_port()?, mode: Mode::Host, ..defaults })
}

fn show(
    layout: &Layout,
    release: &Release,
    archive: Option<&Verified<Archive>>,
    bundle: &Path,
    ready: &Ready,
    keep: bool,
) {
    let pids: Vec<u32> =
        [layout.signer_pid(), layout.watch_only_pid()].iter().filter_map(|p| running(p, layout, release)).collect();
    if ui::voice().json {
        let object = json!({
            "release": release.version, "archive": archive.map(|a| &**a), "network": "regtest",
            "signer": ready.signer.to_string(), "watch_only": ready.endpoint.to_string(), "proof": ready.proof,
            "bundle": bundle, "pids": if keep { pids } else { Vec::new() },
        });
        say!("{object}");
        return;
    }
    say!("lnd         {}, its hash is the pinned one", release.version);
    say!("signer      {}, holds the keys, no chain, no peers", ready.signer);
    say!("watch-only  {}, holds no key; its wallet was made from the bundle", ready.endpoint);
    say!("signed      {:?}", ready.proof.message);
    say!("signature   {}", ready.proof.signature);
    say!("proved      it is by {}, which the bundle's accounts derive", ready.proof.identity_pubkey);
    say!("bundle      {}", bundle.display());
    if keep {
        let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        say!("running     stop both with: kill {pids}");
    }
}

/// The two nodes; stopped when they go out of sight, whatever happened.
struct Nodes<'a> {
    layout: &'a Layout,
    keep: bool,
}

impl Nodes<'_> {
    fn end(mut self, keep: bool) -> Result<()> {
        self.keep = true;
        if keep { Ok(()) } else { stop(self.layout) }
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        if !self.keep {
            // The error that brought us here is the one worth telling.
            let _ = stop(self.layout);
        }
    }
}

/// Both nodes, and what an interrupted trial may have left: whatever runs from the trial's own lnd.
fn stop(layout: &Layout) -> Result<()> {
    process::end_below(&layout.programs())
}

fn running(pid_file: &Path, layout: &Layout, release: &Release) -> Option<u32> {
    process::find(pid_file, &layout.lnd(release).join("lnd"))
}

/// Takes away what an earlier trial left, but not the verified lnd.
fn clear(layout: &Layout) -> Result<()> {
    stop(layout)?;
    for folder in [layout.signer(), layout.watch_only(), layout.bundle()] {
        file::remove_tree(&folder)?;
    }
    file::remove(&layout.journal()).map(drop)
}

fn unpacks(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Release { .. }))
}

fn root() -> Result<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Error::new(NO_HOME, "there is no home folder for a trial").hint("set HOME"))?;
    let (parent, root) = (home.join(".lnget"), home.join(".lnget/trial"));
    if root.join("signer/lnd.sock").as_os_str().len() > LONGEST_SOCKET {
        return Err(Error::new(LONG_HOME, format!("{} is too long a path for a unix socket", root.display()))
            .hint("set HOME to a folder with a shorter name"));
    }
    if !parent.is_dir() {
        file::make_folder(&parent, Access::mode(0o700))?;
    }
    file::make_folder(&root, Access::mode(0o700))?;
    // As the kernel names the programs that run from it.
    root.canonicalize().map_err(|e| Error::new(NO_HOME, format!("cannot use {}: {e}", root.display())))
}

/// A port of the loopback that nobody has: the kernel names one, and it is free again at once.
fn free_port() -> Result<SocketAddr> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|e| Error::new(NO_PORT, format!("there is no free port on the loopback: {e}")))
}
