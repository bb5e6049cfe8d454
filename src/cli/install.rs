//! `lsm install`: from a bare host to a running signer with its bundle; run again it converges.

mod tell;

use crate::backend::adopt::{self, Adoption};
use crate::backend::native::Wishes;
use crate::backend::preflight;
use crate::backend::{self, Layout, docker, native};
use crate::cli::Common;
use crate::cli::lnd::{Cache, LndArgs};
use crate::cli::machine::{self, Interrupt, MachineArgs, NO_OVERLAP, absolute, consent, open_journal, show_plan};
use crate::cli::seed::{Made, SeedArgs};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::{beneath, program};
use crate::plan::prior::Prior;
use crate::plan::{self, About, GivenSeed, History, Machine, Plan, SeedSink, Step};
use crate::release::known;
use crate::release::pins::{Arch, Release, numbers};
use crate::sandbox::landlock::Interface;
use crate::spec::docker::parse_container;
use crate::spec::{Guard, Instance, Mode, Network, Places, San, Spec, parse_cidr};
use crate::ui::{self, say, terminal};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

const NO_SEED_SINK: Code = Code::usage("E-INSTALL-006");
const TWO_FORMATS: Code = Code::usage("E-INSTALL-019");
const OTHER_NETWORK: Code = Code::refused("E-INSTALL-009");
const OTHER_VERSION: Code = Code::refused("E-INSTALL-016");
const OTHER_BACKEND: Code = Code::refused("E-INSTALL-017");
const OTHER_RISK: Code = Code::usage("E-INSTALL-020");
const BAD_LISTEN: Code = Code::usage("E-INSTALL-021");
const NONE_AND_SOME: Code = Code::usage("E-INSTALL-022");

/// The options of `lsm install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm install --network mainnet --listen 10.0.0.5:10012 --allow 10.0.0.7\n  \
    sudo lsm install --network regtest --seed-out ./seed.txt --bundle-out ./bundle --yes\n  \
    sudo lsm install --network mainnet --restore --birthday 2024-05-17\n  \
    lsm install --network mainnet --dry-run")]
pub struct Options {
    /// The bitcoin network
    #[arg(long, value_name = "NETWORK")]
    network: Network,
    /// What runs the signer: systemd, or a container engine [default: the one that does; native]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// The container's name [default: litd-signer]
    #[arg(long, value_name = "NAME", value_parser = parse_container)]
    container: Option<String>,
    /// The version of lnd [default: the one that is installed or last had the wallet, or the newest pinned one]
    #[arg(long, value_name = "V")]
    release: Option<String>,
    #[command(flatten)]
    lnd: LndArgs,
    #[arg(long, value_name = "IP:PORT", value_parser = parse_listen,
        help = format!("Where the signer answers [default: {}]", Spec::DEFAULT_LISTEN))]
    listen: Option<SocketAddr>,
    /// Who may connect: an address or CIDR, more than once if need be, or none [default: who was allowed before; nobody]
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Allow>,
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
    /// Have a guard judge every call before lnd answers it: observe writes down what it would refuse, enforce refuses it
    /// [default: as before; off]
    #[arg(long, value_enum)]
    guard: Option<GuardArg>,
    /// Let lnd start only where the kernel's Landlock has this version of its interface or a newer one; 0: any, or none
    #[arg(long, value_name = "N")]
    require_landlock: Option<u32>,
    #[command(flatten)]
    seed: SeedArgs,
    /// Take the wallet's password from this file instead of making one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Take over the wallet of an lnd that was a signer before: its folder, with a / in it (./lnd), or the name of its
    /// container. Its database is copied; nothing of its own is changed, and it is stopped where it runs in a container
    #[arg(long, value_name = "DIR|CONTAINER", conflicts_with_all = ["seed_out", "seed_age", "restore"])]
    adopt: Option<String>,
    /// Write the bundle to this folder
    #[arg(long, value_name = "DIR")]
    bundle_out: Option<PathBuf>,
    /// What to print: the result, or the container as a compose file, with nothing done
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Make everything but the wallet, and open no port
    #[arg(long, conflicts_with_all = ["seed_out", "seed_age", "restore", "seed_file"])]
    no_wallet: bool,
    /// Where a step fails, leave what was done before it, for the same command to go on with
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What making a wallet on a signer that is there is told besides its seed.
#[derive(Debug, Args)]
pub(super) struct WalletArgs {
    /// Write the bundle to this folder
    #[arg(long, value_name = "DIR")]
    bundle_out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// One `--allow`: an entry of the list, or `none`.
#[derive(Debug, Clone, Copy)]
struct Allow(Option<IpNet>);

impl FromStr for Allow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" { Ok(Self(None)) } else { parse_cidr(text).map(|net| Self(Some(net))) }
    }
}

/// Where the signer answers, of `--listen`.
fn parse_listen(text: &str) -> Result<SocketAddr> {
    text.parse()
        .map_err(|_| Error::new(BAD_LISTEN, format!("{text:?} is no address with a port")).hint("as in 10.0.0.2:10012"))
}

/// The list that the `--allow`s of one command line make.
fn allowed(entries: &[Allow]) -> Result<Vec<IpNet>> {
    if entries.len() > 1 && entries.iter().any(|entry| entry.0.is_none()) {
        return Err(Error::new(NONE_AND_SOME, "--allow none stands beside others")
            .hint("give none alone to let nobody connect, or leave it out"));
    }
    Ok(entries.iter().filter_map(|entry| entry.0).collect())
}

/// A risk that is accepted of another version than `wanted` is a slip: it would be written down, and count for nothing.
fn hold_risk(accepted: Option<&str>, wanted: &str) -> Result<()> {
    let Some(other) = accepted.filter(|accepted| *accepted != wanted) else { return Ok(()) };
    Err(Error::new(OTHER_RISK, format!("--accept-risk is of lnd {other}, and lnd {wanted} is to be installed"))
        .hint(format!("choose that one with --release {other}, or leave --accept-risk out")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    Native,
    Docker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Compose,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GuardArg {
    Off,
    Observe,
    Enforce,
}

impl GuardArg {
    fn guard(self) -> Guard {
        match self {
            Self::Off => Guard::Off,
            Self::Observe => Guard::Observe,
            Self::Enforce => Guard::Enforce,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Bad input, a machine that lacks something, a failed verification: before anything was changed. Later, that of the
/// step that failed.
pub fn run(options: &Options, common: &Common) -> Result<()> {
    if options.format == Format::Compose {
        return print_compose(options, &common.instance);
    }
    let look = Look::take(options, &common.instance)?;
    if options.machine.dry_run {
        show_plan(&look.plan);
        return Ok(());
    }
    machine::admit(&look.history, VERB)?;
    look.check(options)?;
    if look.plan.is_empty() {
        return tell::finish(&look, false);
    }
    if let Some(what) = machine::describe_cut_off(&look.history) {
        ui::note(&format!("{what}: going on"));
    }
    if !options.machine.yes {
        terminal::require()?;
    }
    let cache = Cache::look()?;
    let interrupt = Interrupt::arm(options.lnd.when_interrupted(&look.spec))?;
    let seed = if look.needs_seed() { options.seed.given(&look.wishes.seed)? } else { GivenSeed::default() };
    let archive = options.lnd.obtain(&look.spec, look.release, &look.plan)?;
    if look.replaces_certificate() {
        terminal::ask_about(&format!(
            "warning: another certificate takes the place of the one in force, and {NO_OVERLAP}; where the names stay, lsm cert \
             renew has both good for a while"
        ));
    }
    let agreed = consent(&options.machine, &look.plan)?;
    let mut journal = open_journal(&look.layout)?;
    // Until the lock was taken another lsm may have been at work, on this signer or on one that shares its filter.
    let look = Look::take(options, &common.instance)?;
    agreed.hold(&look.plan)?;
    look.check(options)?;
    machine::admit(journal.history(), VERB)?;
    interrupt.stop_lnd_of(&look.plan);
    let mut stays = native::stays(&look.layout, native::read_spec(&look.layout.spec()).ok().as_ref())?;
    let machine = Machine {
        archive: archive.as_ref(),
        seed,
        about: About {
            release: Some(look.spec.release.clone()),
            accepted_risk: options.lnd.accept_risk.clone(),
            made: cache.made()?,
        },
        ..Machine::default()
    };
    // What was fetched or built is of use to the next try.
    stays.shared.extend(cache.parts().iter().map(Prior::thing));
    if options.keep_going {
        plan::apply(&look.plan, VERB, &mut journal, &machine)
            .map_err(|e| e.hint_if_none("mend it and run the same command again: it goes on where it stopped"))?;
    } else {
        plan::carry_out(&look.plan, VERB, &mut journal, &machine, &stays)?;
    }
    tell::finish(&look, true)
}

fn print_compose(options: &Options, instance: &Instance) -> Result<()> {
    if ui::voice().json {
        return Err(Error::new(TWO_FORMATS, "--format compose is not JSON").hint("give either --json or --format"));
    }
    let spec = options.spec(instance)?;
    let layout = Layout::of(&spec);
    let facts = layout.look();
    let wishes = Wishes::standing(&layout, &History::read(&layout.journal())?)?;
    let text = docker::compose(&spec, known::find(&spec.release)?, Arch::of_this_machine()?, &wishes, &facts)?;
    text.lines().for_each(|line| say!("{line}"));
    Ok(())
}

/// Under which name the journal has these plans.
const VERB: &str = "install";

/// What is wanted, what is there, and what follows.
struct Look {
    spec: Spec,
    release: &'static Release,
    layout: Layout,
    wishes: Wishes,
    facts: Facts,
    history: History,
    plan: Plan,
}

impl Look {
    fn take(options: &Options, instance: &Instance) -> Result<Self> {
        let mut spec = options.spec(instance)?;
        let layout = Layout::of(&spec);
        let facts = layout.look();
        let history = History::read(&layout.journal())?;
        let there = native::read_spec(&layout.spec()).ok().map(|there| there.release);
        // An uninstall leaves the wallet, of which the last lnd alone is known to be able to read it.
        let has_wallet = layout.receipt().exists();
        let last = history.release().filter(|_| has_wallet);
        if let (None, None, Some(last)) = (&there, &options.release, last.filter(|last| can_return(last))) {
            last.clone_into(&mut spec.release);
        }
        if there.as_ref() != Some(&spec.release) {
            let had = there.as_deref().or(last);
            known::find(&spec.release)?.admit(had, options.lnd.accept_risk.as_deref())?;
            hold_version(there.as_deref().filter(|_| has_wallet), last, &spec.release)?;
        }
        hold_risk(options.lnd.accept_risk.as_deref(), &spec.release)?;
        if options.adopt.is_some() && has_wallet {
            adopt::hold_adopted(&history, &layout.receipt())?;
        }
        let mut wishes = options.wishes(Wishes::standing(&layout, &history)?, &layout)?;
        if wishes.adopt.is_none()
            && let Some(sink) = options.seed.settle(instance, &history, how_far(&layout, &spec))?
        {
            wishes.seed = sink;
        }
        Self::at(spec, wishes, facts, history)
    }

    fn at(spec: Spec, wishes: Wishes, facts: Facts, history: History) -> Result<Self> {
        let (release, layout) = (known::find(&spec.release)?, Layout::of(&spec));
        let wanted = backend::steps(&spec, release, Arch::of_this_machine()?, &wishes, &facts)?;
        let facts = plan::observe(facts, &wanted);
        let plan = plan::make_plan(wanted, &facts, history.was_cut_off(VERB));
        Ok(Self { spec, release, layout, wishes, facts, history, plan })
    }

    fn makes_wallet(&self) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Step::Wallet { .. }))
    }

    /// True where lnd will be told of a seed.
    fn needs_seed(&self) -> bool {
        self.makes_wallet() && self.wishes.adopt.is_none() && how_far(&self.layout, &self.spec) == Made::No
    }

    /// True where a watch-only side may have pinned the certificate that goes.
    fn replaces_certificate(&self) -> bool {
        let in_force = self.layout.door().certificate;
        let replaces = |step: &Step| matches!(step, Step::Certificate { path, .. } if *path == in_force);
        self.layout.receipt().exists() && in_force.exists() && self.plan.steps.iter().any(replaces)
    }

    fn check(&self, options: &Options) -> Result<()> {
        preflight::check_machine(&self.spec, &self.facts, self.history.was_cut_off(VERB))?;
        Interface::of_kernel().require(self.spec.require_landlock.unwrap_or(0))?;
        preflight::check_plan(&self.plan, &self.spec, &self.wishes, &self.history)?;
        options.lnd.check(&self.spec, self.release, &self.plan)?;
        if self.makes_wallet() && self.wishes.seed == SeedSink::Terminal && !terminal::is_there() {
            return Err(Error::new(NO_SEED_SINK, "there is no terminal to show the new wallet's seed on")
                .hint("have it written to a file with --seed-out FILE, or encrypted with --seed-age RECIPIENT"));
        }
        Ok(())
    }
}

/// What `lsm install` with no further option would do to the signer that is there, and the facts that say so.
///
/// # Errors
/// Where that cannot be told: its lnd is known no more, another signer's spec cannot be read.
pub(super) fn drift(spec: Spec) -> Result<(Plan, Facts)> {
    let layout = Layout::of(&spec);
    let history = History::read(&layout.journal())?;
    let wishes = Wishes::standing(&layout, &history)?;
    Look::at(spec, wishes, layout.look(), history).map(|look| (look.plan, look.facts))
}

/// Another lnd on a wallet that is there takes more than new files: of the signer that has lnd `there`, or, where there is none,
/// of the one that was uninstalled with lnd `last`.
fn hold_version(there: Option<&str>, last: Option<&str>, wanted: &str) -> Result<()> {
    if let Some(there) = there {
        return Err(Error::new(OTHER_VERSION, format!("the signer has lnd {there}, and a wallet"))
            .hint(format!("take it to the other lnd with: lsm upgrade {wanted}")));
    }
    let Some(last) = last.filter(|last| numbers(last) < numbers(wanted) && can_return(last)) else { return Ok(()) };
    let risk = if known::find(last)?.admit(None, None).is_ok() { "" } else { &format!(" --accept-risk {last}") };
    Err(Error::new(
        OTHER_VERSION,
        format!("lnd {last} had the wallet that was kept, and an install makes no copy of that"),
    )
    .hint(format!("bring it back with --release {last}{risk}, and then: lsm upgrade {wanted}")))
}

/// Whether lnd `last` can be installed still; where it cannot, its wallet must not be stuck.
fn can_return(last: &str) -> bool {
    let release = known::find(last).and_then(|release| release.admit(None, Some(last)).map(|()| release));
    release.and_then(|release| release.live_pin(Arch::of_this_machine()?)).is_ok()
}

/// Whether there is a wallet, as far as this user can see.
fn how_far(layout: &Layout, spec: &Spec) -> Made {
    if layout.receipt().exists() {
        return Made::Whole;
    }
    let begun = beneath::is_there(&layout.data(), &layout.database(spec)).unwrap_or(false);
    if begun { Made::Begun } else { Made::No }
}

impl Options {
    /// Those of an install that brings the signer `spec`, which is there, to its wallet.
    pub(super) fn of_wallet(spec: &Spec, seed: SeedArgs, wallet: WalletArgs) -> Self {
        let WalletArgs { bundle_out, machine } = wallet;
        Self {
            network: spec.network,
            backend: None,
            container: None,
            release: None,
            lnd: LndArgs::default(),
            listen: None,
            allow: Vec::new(),
            san: Vec::new(),
            mode: None,
            taproot_channels: None,
            guard: None,
            require_landlock: None,
            seed,
            password_file: None,
            adopt: None,
            bundle_out,
            format: Format::Text,
            no_wallet: false,
            keep_going: false,
            machine,
        }
    }

    /// True where the result is to be JSON, as with `--json`.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// What was wanted before, where there is a signer, with what is given now.
    fn spec(&self, instance: &Instance) -> Result<Spec> {
        let path = Layout::new(instance).spec();
        let mut spec = if path.exists() {
            native::read_spec(&path)?
        } else {
            let mut spec = Spec::new(instance, self.network, &known::newest()?.version);
            spec.sealed = program::find("systemd-creds").is_some();
            spec.sqlite = self.adoption()?.is_some_and(|adoption| adoption.sqlite);
            if self.backend == Some(Backend::Docker) {
                spec.docker =
                    Some(docker::settle(instance, self.container.clone(), &native::read_specs(&Places::MACHINE)?)?);
                spec.sealed = false;
            }
            spec
        };
        self.hold_backend(&spec)?;
        if spec.network != self.network {
            return Err(Error::new(OTHER_NETWORK, format!("the signer {instance} is for {}", spec.network))
                .hint("give a second signer a name of its own with --instance"));
        }
        spec.release = self.release.clone().unwrap_or(spec.release);
        spec.listen = self.listen.unwrap_or(spec.listen);
        spec.mode = self.mode.map_or(spec.mode, ModeArg::mode);
        if !self.allow.is_empty() {
            spec.allow = allowed(&self.allow)?;
        }
        if !self.san.is_empty() {
            spec.san.clone_from(&self.san);
        }
        spec.taproot_channels = self.taproot_channels.unwrap_or(spec.taproot_channels);
        spec.guard = self.guard.map_or(spec.guard, GuardArg::guard);
        if let Some(wanted) = self.require_landlock {
            spec.require_landlock = Some(wanted).filter(|wanted| *wanted > 0);
        }
        spec.checked()
    }

    /// A signer stays with what runs it: its wallet is there.
    fn hold_backend(&self, spec: &Spec) -> Result<()> {
        let is = if spec.docker.is_some() { Backend::Docker } else { Backend::Native };
        let named = spec.docker.as_ref().map(|docker| &docker.container);
        let what = match (self.backend, &self.container) {
            (Some(wanted), _) if wanted != is => format!("the signer {} runs otherwise", spec.instance),
            (_, Some(wanted)) if named != Some(wanted) => {
                format!("the signer {} is not in a container {wanted}", spec.instance)
            }
            _ => return Ok(()),
        };
        Err(Error::new(OTHER_BACKEND, what).hint("it stays what it is; give another signer a name with --instance"))
    }

    fn adoption(&self) -> Result<Option<Adoption>> {
        self.adopt.as_deref().map(|what| Adoption::find(what, self.network)).transpose()
    }

    /// What is wanted anyway, with what is given now.
    fn wishes(&self, mut wishes: Wishes, layout: &Layout) -> Result<Wishes> {
        // With the receipt it was done: the container that it came from may be the signer's own by now.
        if !layout.receipt().exists()
            && let Some(adoption) = self.adoption()?
        {
            wishes.seed = SeedSink::Adopted;
            wishes.password.clone_from(&adoption.password);
            wishes.adopt = Some(adoption);
        }
        if let Some(path) = &self.password_file {
            wishes.password = Some(absolute(path)?);
        }
        if let Some(path) = &wishes.password {
            plan::read_password(path)?;
        }
        if let Some(path) = &self.bundle_out {
            (wishes.bundle, wishes.handed) = (absolute(path)?, false);
        }
        if let Some(adoption) = &wishes.adopt {
            adoption.check(&layout.data(), wishes.password.as_deref())?;
        }
        wishes.no_wallet = self.no_wallet;
        Ok(wishes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_given_is_dropped_without_a_word() {
        let allow = |list: &[&str]| allowed(&list.iter().map(|entry| entry.parse().unwrap()).collect::<Vec<Allow>>());
        assert!(allow(&["none"]).unwrap().is_empty());
        assert_eq!(allow(&["10.0.0.1", "10.0.0.2"]).unwrap().len(), 2);
        assert_eq!(allow(&["none", "10.0.0.1"]).unwrap_err().code(), NONE_AND_SOME);
        hold_risk(None, "v0.21.3-beta").unwrap();
        hold_risk(Some("v0.20.0-beta"), "v0.20.0-beta").unwrap();
        assert_eq!(hold_risk(Some("v0.20.0-beta"), "v0.21.3-beta").unwrap_err().code(), OTHER_RISK);
        assert_eq!(parse_listen("10.0.0.5").unwrap_err().advice(), Some("as in 10.0.0.2:10012"));
    }

    #[test]
    fn a_kept_wallet_gets_a_newer_lnd_by_an_upgrade_alone() {
        let (old, new) = ("v0.20.0-beta", "v0.21.3-beta");
        let refused = hold_version(None, Some(old), new).unwrap_err();
        assert_eq!(refused.code(), OTHER_VERSION);
        let way = format!("bring it back with --release {old} --accept-risk {old}, and then: lsm upgrade {new}");
        assert_eq!(refused.advice(), Some(way.as_str()));
        assert_eq!(hold_version(Some(old), Some(old), new).unwrap_err().code(), OTHER_VERSION);
        // An older one was accepted by name; what cannot be had any more must not bury the wallet; the rest has none.
        for (last, wanted) in [(Some(new), old), (Some(old), old), (Some("v0.19.0-beta"), new), (None, new)] {
            hold_version(None, last, wanted).unwrap();
        }
    }
}
