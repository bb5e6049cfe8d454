//! `lsm trial`: a signer and a watch-only node on regtest, a signature proved; no root, nothing installed.

use crate::backend::docker::trial::Trial;
use crate::backend::foreground::{self, Layout};
use crate::bundle::Bundle;
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::file::{self, Access};
use crate::host::process;
use crate::plan::{self, Journal, Machine, Plan, Step};
use crate::release::known;
use crate::release::pins::{Arch, Release};
use crate::release::{self, Archive, Verified};
use crate::spec::{Instance, Mode, Network, Spec};
use crate::ui::{self, progress::Progress, say};
use crate::watch_only::conf::Flavour;
use crate::watch_only::request::Start;
use crate::watch_only::{self, InitRequest, Ready};
use clap::{Args, ValueEnum};
use ipnet::Ipv4Net;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

const NO_HOME: Code = Code::lacking("E-TRIAL-001");
const NO_PORT: Code = Code::lacking("E-TRIAL-002");
const LONG_HOME: Code = Code::lacking("E-TRIAL-003");

/// The longest path of a unix socket (unix(7): `sun_path` holds 108 bytes with its end).
const LONGEST_SOCKET: usize = 107;

/// The options of `lsm trial`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything is below ~/.lnget/trial; nothing outside it is touched, but the cache that keeps the\n\
    verified lnd for the next time. With --backend docker the engine holds two containers, their network and an image\n\
    meanwhile.\n\nExamples:\n  lsm trial\n  lsm trial --keep\n  lsm trial --backend docker"
)]
pub struct Options {
    /// Where the two nodes run
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t)]
    backend: Backend,
    /// Leave both nodes running, and say how to stop them
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Backend {
    /// As processes of yours
    #[default]
    Foreground,
    /// In two containers, on a network that leads nowhere
    Docker,
}

/// Runs it.
///
/// # Errors
/// Where no verified lnd can be had, or one of the steps fails; the two nodes are then stopped.
pub fn run(options: &Options) -> Result<()> {
    let layout = Layout::new(&root()?);
    let docker = match options.backend {
        Backend::Foreground => None,
        Backend::Docker => Some(Trial::settle(&layout)?),
    };
    let stage = Stage { layout, docker, release: known::newest()? };
    stage.clear()?;
    let left = stage.clone();
    process::on_interrupt(move || {
        // The next trial takes away what cannot be taken away now.
        let _ = left.stop();
    })?;
    let nodes = Nodes { stage: &stage, keep: false };
    let places = stage.find_places()?;
    let archive = stage.raise_signer(&places)?;
    let ready = stage.raise_watch_only(&places)?;
    show(&stage, archive.as_ref(), &ready, options.keep);
    nodes.end(options.keep)
}

/// Where the nodes answer.
struct Places {
    signer: SocketAddr,
    watch_only: SocketAddr,
    /// Their own network's addresses, in containers.
    net: Option<Ipv4Net>,
}

/// What runs the nodes, and where their things are.
#[derive(Clone)]
struct Stage {
    layout: Layout,
    docker: Option<Trial>,
    release: &'static Release,
}

impl Stage {
    fn find_places(&self) -> Result<Places> {
        let Some(trial) = &self.docker else {
            return Ok(Places { signer: free_port()?, watch_only: free_port()?, net: None });
        };
        let (net, [signer, watch_only]) = trial.find_addresses()?;
        Ok(Places { signer, watch_only, net: Some(net) })
    }

    fn spec(&self, places: &Places) -> Spec {
        let defaults = Spec::new(&Instance::default(), Network::Regtest, &self.release.version);
        Spec { listen: places.signer, mode: Mode::Host, ..defaults }
    }

    /// The signer: the same steps, interpreter and journal as an install.
    fn raise_signer(&self, places: &Places) -> Result<Option<Verified<Archive>>> {
        let (arch, spec) = (Arch::of_this_machine()?, self.spec(places));
        let mut facts = Facts::gather();
        facts.owner = nix::unistd::geteuid().as_raw();
        let wanted = match (&self.docker, places.net) {
            (Some(trial), Some(net)) => trial.steps(&spec, self.release, arch, net, &facts)?,
            _ => foreground::steps(&spec, self.release, arch, &self.layout)?,
        };
        let plan = plan::make_plan(wanted.clone(), &plan::observe(facts, &wanted), false);
        let archive = if unpacks(&plan) {
            Some(release::obtain(self.release, arch, &release::default_cache()?, None)?)
        } else {
            None
        };
        let mut journal = Journal::open(&self.layout.journal())?;
        plan::apply(&plan, "trial", &mut journal, &Machine { archive: archive.as_ref(), ..Machine::default() })?;
        Ok(archive)
    }

    /// The watch-only node, which proves a signature of the signer.
    fn raise_watch_only(&self, places: &Places) -> Result<Ready> {
        let (folder, listen) = (self.layout.watch_only(), places.watch_only);
        let owner = self.docker.as_ref().and_then(Trial::file_owner);
        file::make_folder(&folder, Access { mode: 0o700, owner })?;
        let text = format!(
            "[Application Options]\nrpclisten={listen}\nnorest=true\nnolisten=true\nnobootstrap=true\n\
            tlsdisableautofill=true\ntlsextraip={}\n",
            listen.ip()
        );
        let conf = folder.join(Flavour::Lnd.file_name());
        file::replace(&conf, text.as_bytes(), Access { mode: 0o600, owner })?;
        let start = match &self.docker {
            None => Start::Program(self.layout.lnd(self.release).join("lnd")),
            Some(trial) => trial.watch_only(self.release, &Facts::gather(), &conf, listen.ip())?,
        };
        let _shown = Progress::new("creating the watch-only wallet from the bundle, and signing", None);
        watch_only::init(InitRequest {
            bundle: Bundle::read(&self.layout.bundle().display().to_string())?,
            lnddir: folder,
            signer_host: None,
            flavour: Flavour::Lnd,
            lnd: Some(start),
            conf: None,
            network: Some(Network::Regtest),
            recovery_window: None,
            owner,
            migrate: false,
        })
    }

    /// Both nodes, and what an interrupted trial may have left: whatever runs from the trial's own lnd, or in its containers.
    fn stop(&self) -> Result<()> {
        process::end_below(&self.layout.programs())?;
        self.docker.as_ref().map_or(Ok(()), Trial::stop)
    }

    /// Takes away what an earlier trial left, but not the verified lnd.
    fn clear(&self) -> Result<()> {
        self.stop()?;
        for folder in [self.layout.signer(), self.layout.watch_only(), self.layout.bundle(), self.layout.container()] {
            file::remove_tree(&folder)?;
        }
        file::remove(&self.layout.journal()).map(drop)
    }

    fn pids(&self) -> Vec<u32> {
        let lnd = self.layout.lnd(self.release).join("lnd");
        let files = [self.layout.signer_pid(), self.layout.watch_only_pid()];
        files.iter().filter_map(|file| process::find(file, &lnd)).collect()
    }
}

fn show(stage: &Stage, archive: Option<&Verified<Archive>>, ready: &Ready, keep: bool) {
    let (release, bundle) = (stage.release, stage.layout.bundle());
    let containers: Vec<String> = stage.docker.iter().flat_map(Trial::nodes).map(|node| node.name).collect();
    let kept = |any: Vec<String>| if keep { any } else { Vec::new() };
    if ui::voice().json {
        let object = json!({
            "release": release.version, "archive": archive.map(|a| &**a), "network": "regtest",
            "signer": ready.signer.to_string(), "watch_only": ready.endpoint.to_string(), "proof": ready.proof,
            "bundle": bundle, "pids": if keep { stage.pids() } else { Vec::new() }, "containers": kept(containers),
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
        let pids = || stage.pids().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let end = stage.docker.as_ref().map_or_else(|| format!("kill {}", pids()), Trial::end);
        say!("running     stop both with: {end}");
    }
}

/// The two nodes; stopped when they go out of sight, whatever happened.
struct Nodes<'a> {
    stage: &'a Stage,
    keep: bool,
}

impl Nodes<'_> {
    fn end(mut self, keep: bool) -> Result<()> {
        self.keep = true;
        if keep { Ok(()) } else { self.stage.stop() }
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        if !self.keep {
            // The error that brought us here is the one worth telling.
            let _ = self.stage.stop();
        }
    }
}

fn unpacks(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Release { .. }))
}

fn root() -> Result<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Error::new(NO_HOME, "there is no home folder for a trial").hint("set HOME"))?;
    let (parent, root) = (home.join(".lnget"), home.join(".lnget/trial"));
    if root.join("container/run/lnd.sock").as_os_str().len() > LONGEST_SOCKET {
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

/// A port of the loopback that nobody has. Where it can be it is none of those that the kernel gives to whoever dials out, which begin
/// with 32768 (ip(7), ip_local_port_range): somebody else might have it before lnd listens there.
fn free_port() -> Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let below = (0..100).find_map(|_| {
        let mut number = [0; 2];
        getrandom::fill(&mut number).ok()?;
        bind(20_000 + u16::from_ne_bytes(number) % 12_000).ok()
    });
    let bound = below.map_or_else(|| bind(0), Ok);
    bound.map_err(|e| Error::new(NO_PORT, format!("there is no free port on the loopback: {e}")))
}
