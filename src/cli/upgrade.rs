//! `lsm upgrade`: another version of lnd under the signer, held to what the old one was; else the old one comes back.

use crate::backend::native::Wishes;
use crate::backend::preflight;
use crate::backend::{self, Layout, docker, native};
use crate::cli::Common;
use crate::cli::lnd::{Cache, LndArgs};
use crate::cli::machine::{self, Interrupt, MachineArgs, consent, open_journal, show_plan};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::file;
use crate::plan::prior::Prior;
use crate::plan::{self, About, History, Machine, Plan, Step, Told};
use crate::release::known;
use crate::release::pins::{Arch, Release};
use crate::sandbox::landlock::Interface;
use crate::spec::{Guard, Instance, Spec};
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::{Value, json};

const NOT_INSTALLED: Code = Code::refused("E-UPGRADE-001");
const NO_WALLET: Code = Code::refused("E-UPGRADE-002");
const OTHER_UPGRADE: Code = Code::refused("E-UPGRADE-003");
const IS_FROZEN: Code = Code::refused("E-UPGRADE-004");

/// Under which name the journal has these plans.
const VERB: &str = "upgrade";

/// The options of `lsm upgrade`.
#[derive(Debug, Args)]
#[command(
    after_help = "The signer stops for some seconds. One signing call in that time ends a watch-only lnd, so its unit \
    needs\nRestart=always; open MuSig2 sessions are lost.\n\n\
    Examples:\n  sudo lsm upgrade v0.21.3-beta\n  sudo lsm upgrade v0.21.3-beta --from /media/stick/lnd --yes\n  \
    lsm upgrade v0.21.3-beta --dry-run"
)]
pub struct Options {
    /// The version of lnd
    #[arg(value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    lnd: LndArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs it.
///
/// # Errors
/// Bad input, a machine that lacks something, a failed verification: before anything was changed. Later, that of the
/// step that failed: then the old lnd runs again on the old database.
pub fn run(options: &Options, common: &Common) -> Result<()> {
    let look = Look::take(options, &common.instance)?;
    if options.machine.dry_run {
        show_plan(&look.plan);
        // Only who may change the signer sees enough of it to tell.
        if look.layout.is_ours()
            && let Err(e) = look.check(options)
        {
            ui::note(&format!("as things are it would be refused: {}", e.cause()));
        }
        return Ok(());
    }
    look.check(options)?;
    if look.plan.is_empty() {
        finish(&look, None);
        return Ok(());
    }
    machine::admit(&History::read(&look.layout.journal())?, VERB)?;
    if !options.machine.yes {
        terminal::require()?;
    }
    let cache = Cache::look()?;
    let interrupt = Interrupt::arm(options.lnd.when_interrupted(&look.there))?;
    let archive = options.lnd.obtain(&look.there, look.release, &look.plan)?;
    let agreed = consent(&options.machine, &look.plan)?;
    let mut journal = open_journal(&look.layout)?;
    let look = Look::take(options, &common.instance)?;
    agreed.hold(&look.plan)?;
    look.check(options)?;
    machine::admit(journal.history(), VERB)?;
    interrupt.stop_lnd_of(&look.plan);
    let mut stays = native::stays(&look.layout, Some(&look.there))?;
    let machine = Machine {
        archive: archive.as_ref(),
        about: About {
            release: Some(look.release.version.clone()),
            accepted_risk: options.lnd.accept_risk.clone(),
            made: cache.made()?,
        },
        ..Machine::default()
    };
    // What was fetched or built is of use to the next try.
    stays.shared.extend(cache.parts().iter().map(Prior::thing));
    plan::carry_out(&look.plan, VERB, &mut journal, &machine, &stays)?;
    finish(&look, Some(&machine.told.take()));
    Ok(())
}

/// What is wanted, what is there, and what follows.
struct Look {
    release: &'static Release,
    layout: Layout,
    /// The spec of now.
    there: Spec,
    /// The version that the database is of.
    from: String,
    facts: Facts,
    /// The same upgrade was cut off.
    goes_on: bool,
    plan: Plan,
}

impl Look {
    fn take(options: &Options, instance: &Instance) -> Result<Self> {
        let path = Layout::new(instance).spec();
        if !file::is_there(&path)? {
            return Err(Error::new(NOT_INSTALLED, format!("this host has no signer called {instance}"))
                .hint("make one with: lsm install --network NETWORK"));
        }
        let there = native::read_spec(&path)?;
        let (release, layout) = (known::find(&options.version)?, Layout::of(&there));
        let facts = layout.look();
        let history = History::read(&layout.journal())?;
        let goes_on = history.was_cut_off(VERB);
        let begun = history.unended_step("snapshot").filter(|_| goes_on);
        let said = |what: &str| begun.and_then(|step| step[what].as_str()).map(str::to_owned);
        if let Some(other) = said("to").filter(|other| *other != release.version) {
            return Err(Error::new(OTHER_UPGRADE, format!("an upgrade to {other} was cut off"))
                .hint(format!("finish it with: lsm upgrade {other}; or undo it with: lsm rollback")));
        }
        let from = said("from").unwrap_or_else(|| there.release.clone());
        let mut look = Self { release, layout, there, from, facts, goes_on, plan: Plan { steps: Vec::new() } };
        if look.from != release.version {
            release.admit(Some(&look.from), options.lnd.accept_risk.as_deref())?;
            look.plan(&history, begun)?;
        }
        Ok(look)
    }

    fn plan(&mut self, history: &History, begun: Option<&Value>) -> Result<()> {
        if !self.layout.receipt().exists() {
            return Err(Error::new(NO_WALLET, "the signer has no wallet yet")
                .hint(format!("there is nothing to take along: lsm install --release {}", self.release.version)));
        }
        let spec = Spec { release: self.release.version.clone(), ..self.there.clone() };
        let wishes = Wishes::for_export(&self.layout, history)?;
        let arch = Arch::of_this_machine()?;
        let wanted = backend::upgrade_steps(&spec, &self.from, self.release, arch, &wishes, &self.facts)?;
        hold_same(&wanted, begun)?;
        self.facts = plan::observe(self.facts.clone(), &wanted);
        self.plan = plan::make_plan(wanted, &self.facts, self.goes_on);
        Ok(())
    }

    fn check(&self, options: &Options) -> Result<()> {
        preflight::check_machine(&self.there, &self.facts, self.goes_on)?;
        docker::hold_own(&self.there)?;
        if self.there.guard == Guard::Enforce && file::is_there(&self.layout.frozen())? {
            return Err(Error::new(IS_FROZEN, "the signer is frozen: whether another lnd signs could not be seen")
                .hint("first: sudo lsm guard thaw"));
        }
        Interface::of_kernel().require(self.there.require_landlock.unwrap_or(0))?;
        options.lnd.check(&self.there, self.release, &self.plan)?;
        for step in &self.plan.steps {
            if let Step::Snapshot { database, .. } = step {
                plan::check_snapshot(database)?;
            }
        }
        Ok(())
    }
}

/// Holds that an upgrade which was cut off would say the same of what starts the new lnd: by that it is known whether the new
/// one may have had the database, whose copy must not be made again then.
fn hold_same(wanted: &[Step], begun: Option<&Value>) -> Result<()> {
    let Some(begun) = begun.and_then(|step| step["database"]["swapped"].as_str()) else { return Ok(()) };
    let is_same = |step: &Step| !matches!(step, Step::Snapshot { database, .. } if database.swapped != begun);
    if wanted.iter().all(is_same) {
        return Ok(());
    }
    Err(Error::new(OTHER_UPGRADE, "the upgrade that was cut off meant another lsm, or other settings: it cannot go on")
        .hint("undo it with: lsm rollback; then run it again"))
}

/// Tells what was found out; nothing was, where there was nothing to do.
fn finish(look: &Look, told: Option<&Told>) {
    let (from, to) = (&look.from, &look.release.version);
    let nothing = Told::default();
    let Told { gap, accounts, bundle, .. } = told.unwrap_or(&nothing);
    let gap = gap.map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
    if ui::voice().json {
        let object = json!({
            "from": from, "to": to, "changed": told.is_some(), "bundle_changed": bundle.is_some(), "bundle": bundle,
            "accounts_changed": accounts, "gap_ms": gap,
        });
        say!("{object}");
        return;
    }
    if told.is_none() {
        say!("nothing to do: the signer has lnd {to}");
        return;
    }
    say!("signer     {}: lnd {from} -> {to}; it signed through its port", look.there.instance);
    if let Some(gap) = gap {
        say!("gap        {gap} ms without a signature");
    }
    if accounts.is_empty() {
        say!("accounts   the same: the watch-only side has nothing to import");
    }
    for account in accounts {
        say!("accounts   new, the watch-only side has to import it: {account}");
    }
    match bundle {
        None => say!("bundle     as it was, and good"),
        Some(folder) => say!(
            "bundle     exported again to {}: the new lnd has more calls; on the watch-only machine: lsm bundle import",
            folder.display()
        ),
    }
    say!("next       lsm rollback goes back to {from} and its database, until the next change");
}
