//! `lsm rollback` and `lsm uninstall`: the journal read backwards.

use crate::backend::{Layout, native};
use crate::cli::machine::{self, MachineArgs, consent, open_journal, show_plan};
use crate::cli::{Common, verbs};
use crate::error::{Code, Error, Result};
use crate::facts::{self, Seen};
use crate::host::file;
use crate::plan::history::ROLLBACK;
use crate::plan::prior::{Prior, Thing};
use crate::plan::undo::{self, Undo};
use crate::plan::{self, History, Journal, Machine, Step};
use crate::spec::Instance;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::Path;

const NOT_ROOT: Code = Code::lacking("E-UNDO-001");
const NOT_NAMED: Code = Code::usage("E-UNDO-002");
const TWO_PASSWORDS: Code = Code::refused("E-UNDO-003");

/// Under which name the journal has these plans.
const UNINSTALL: &str = "uninstall";

/// The options of `lsm rollback`.
#[derive(Debug, Args)]
#[command(
    after_help = "A wallet that was made stays, with its user and its password; so do files that were written to \
    --seed-out\nand --bundle-out, and whatever somebody else changed since.\n\n\
    Examples:\n  sudo lsm rollback\n  sudo lsm rollback --dry-run"
)]
pub struct RollbackOptions {
    #[command(flatten)]
    machine: MachineArgs,
}

/// The options of `lsm uninstall`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm uninstall\n  sudo lsm uninstall --purge --confirm signer --yes")]
pub struct UninstallOptions {
    /// Remove the wallet too. Without its 24 words nobody can bring it back
    #[arg(long)]
    purge: bool,
    /// The signer's name once more, for --purge
    #[arg(long, value_name = "NAME", requires = "purge")]
    confirm: Option<Instance>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs `lsm rollback`.
///
/// # Errors
/// Where something cannot be put back; run again, it goes on.
pub fn rollback(options: &RollbackOptions, common: &Common) -> Result<()> {
    let layout = Layout::new(&common.instance);
    let find = |history: &History| {
        if verbs::revoked_last(history) {
            ui::note("what was revoked stays revoked");
            return Ok(None);
        }
        let stays = native::stays(&layout, native::spec_before(&layout, history).as_ref())?;
        undo::undo_last(history, &stays)
    };
    let history = read_journal(&layout)?;
    if history.is_past_return() {
        terminal::ask_about("what lnd's root keys of before were is lost: no macaroon on them is good again");
    }
    let Some(undo) = find(&history)? else { return nothing(&layout, &history, &common.instance, &options.machine) };
    if options.machine.dry_run {
        if undo.plan.is_empty() {
            return nothing(&layout, &history, &common.instance, &options.machine);
        }
        show_plan(&undo.plan);
        return Ok(());
    }
    require_rights(&layout)?;
    let agreed = consent(&options.machine, &undo.plan)?;
    let mut journal = open_journal(&layout)?;
    let undo = find(journal.history())?.ok_or_else(machine::changed_meanwhile)?;
    agreed.hold(&undo.plan)?;
    plan::apply_all(&undo.plan, ROLLBACK, &mut journal, &Machine::default()).map_err(go_on("rollback"))?;
    end(undo, journal, &layout)
}

/// Runs `lsm uninstall`.
///
/// # Errors
/// Where something cannot be put back; run again, it goes on.
pub fn uninstall(options: &UninstallOptions, common: &Common) -> Result<()> {
    let there = native::read_spec(&Layout::new(&common.instance).spec());
    let layout = there.map_or_else(|_| Layout::new(&common.instance), |spec| Layout::of(&spec));
    let find = |history: &History| {
        let stays = plan::undo::Stays { purge: options.purge, ..native::stays(&layout, None)? };
        undo::undo_all(history, &stays)
    };
    let history = read_journal(&layout)?;
    options.hold_password(&history)?;
    let undo = find(&history)?;
    if options.machine.dry_run {
        if undo.plan.is_empty() {
            return nothing(&layout, &history, &common.instance, &options.machine);
        }
        show_plan(&undo.plan);
        return Ok(());
    }
    if undo.plan.is_empty() && undo.shared.is_empty() && undo.foreign.is_empty() {
        return nothing(&layout, &history, &common.instance, &options.machine);
    }
    require_rights(&layout)?;
    options.confirm(&common.instance, &layout)?;
    let agreed = consent(&options.machine, &undo.plan)?;
    let mut journal = open_journal(&layout)?;
    options.hold_password(journal.history())?;
    if journal.history().unfinished().is_some_and(|record| record.verb != ROLLBACK) {
        // Whatever was cut off, everything goes.
        ui::note("a plan was cut off before its end: what it did goes with the rest");
    }
    let undo = find(journal.history())?;
    agreed.hold(&undo.plan)?;
    if !undo.plan.is_empty() {
        plan::apply_all(&undo.plan, UNINSTALL, &mut journal, &Machine::default()).map_err(go_on("uninstall"))?;
    }
    if let Some(heir) = native::heir(&layout)? {
        journal.hand_on(&heir, &undo.shared)?;
    }
    end(undo, journal, &layout)
}

impl UninstallOptions {
    /// With the wallet, once its name was given.
    pub(super) fn purge(confirm: Option<Instance>, machine: MachineArgs) -> Self {
        Self { purge: true, confirm, machine }
    }

    /// Holds that a wallet which stays does so with its password, and not with the other one of a change that was cut off.
    fn hold_password(&self, history: &History) -> Result<()> {
        if self.purge || !undo::is_between_passwords(history) {
            return Ok(());
        }
        Err(Error::new(
            TWO_PASSWORDS,
            "a change of the wallet's password was cut off: which one opens it is not settled",
        )
        .hint("finish it with: lsm wallet change-password; or undo it with: lsm rollback"))
    }

    fn confirm(&self, instance: &Instance, layout: &Layout) -> Result<()> {
        if !self.purge || self.confirm.as_ref() == Some(instance) {
            return Ok(());
        }
        if let Some(other) = &self.confirm {
            return Err(Error::new(NOT_NAMED, format!("--confirm {other} is not the signer {instance}")));
        }
        if self.machine.yes || !terminal::is_there() {
            return Err(Error::new(NOT_NAMED, "this removes the wallet for good")
                .hint(format!("say which: --confirm {instance}")));
        }
        terminal::ask_about(&format!(
            "The wallet goes for good: {}. Have its 24 words at hand (lsm wallet verify-seed proves them), and a bundle: lsm \
             bundle export",
            layout.data().display()
        ));
        terminal::confirm_name("", instance.as_str())
    }
}

/// The journal. Whoever may not read it cannot be told what there is to undo, not even by a dry run: least of all that there is
/// nothing.
fn read_journal(layout: &Layout) -> Result<History> {
    match facts::look(&layout.journal()) {
        Seen::Hidden | Seen::File { sha256: None, .. } => Err(not_root()),
        _ => History::read(&layout.journal()),
    }
}

fn require_rights(layout: &Layout) -> Result<()> {
    if layout.is_ours() { Ok(()) } else { Err(not_root()) }
}

fn not_root() -> Error {
    Error::new(NOT_ROOT, "undoing needs root, who alone reads the journal").hint("run it with sudo")
}

fn go_on(verb: &'static str) -> impl Fn(Error) -> Error {
    move |e| e.hint_if_none(&format!("mend it and run it again: lsm {verb} goes on where it stopped"))
}

/// Where there is nothing to undo; a journal that answers for nothing goes.
fn nothing(layout: &Layout, history: &History, instance: &Instance, machine: &MachineArgs) -> Result<()> {
    // A name that was mistyped must not read as a signer that is gone.
    let is_known = !history.is_empty() || file::is_there(&layout.spec())?;
    if !machine.dry_run
        && layout.is_ours()
        && file::is_there(&layout.journal())?
        && undo::left_over(history)?.is_empty()
    {
        let journal = open_journal(layout)?;
        // Until the lock was taken another lsm may have done something.
        if undo::left_over(journal.history())?.is_empty() {
            machine::retire(journal, layout)?;
        }
    }
    if ui::voice().json {
        say!("{}", if machine.dry_run { json!({"steps": []}) } else { json!({"changed": false}) });
    } else if is_known {
        say!("nothing to undo");
    } else {
        say!("nothing to undo: this host has no signer called {instance}");
    }
    Ok(())
}

/// Says what stays, forgets what is somebody else's, and takes the journal away where it answers for nothing.
fn end(undo: Undo, mut journal: Journal, layout: &Layout) -> Result<()> {
    let foreign: Vec<_> = undo.foreign.iter().map(|prior| shown(&prior.thing())).collect();
    journal.let_go(&undo.foreign)?;
    let left: Vec<_> = undo.missed()?.iter().map(shown).collect();
    let wallet = undo.wallet.as_ref().map(|wallet| wallet.database.clone());
    // It was handed out, and is not lsm's to remove; that it is of no use to a wallet here has to be said.
    let seed = if wallet.is_none() { journal.history().seed_file().map(Path::to_owned) } else { None };
    if undo::left_over(journal.history())?.is_empty() {
        machine::retire(journal, layout)?;
    }
    if ui::voice().json {
        say!(
            "{}",
            json!({
                "changed": !undo.plan.is_empty(), "kept": foreign, "left": left, "wallet": wallet, "seed": seed,
                "lost": undo.lost,
            })
        );
        return Ok(());
    }
    say!("done       {} steps", undo.plan.steps.len());
    for step in &undo.plan.steps {
        if let Step::Restore { to: Prior::RootKey { root_key, .. } } = step {
            let id = root_key.id;
            say!("revoked    what hangs on root key {id}; where that is the macaroon of a bundle: lsm bundle export");
        }
    }
    for lost in &undo.lost {
        say!("lost       {lost}");
    }
    for kept in foreign.iter() {
        say!("kept       {kept}: somebody else changed it");
    }
    for folder in left {
        say!("kept       {folder}: there is something in it that is not lsm's");
    }
    if let Some(seed) = seed {
        say!(
            "kept       {}: a seed of no wallet on this host; shred -u it, unless a wallet is to come from it",
            seed.display()
        );
    }
    if let Some(wallet) = wallet {
        say!("wallet     {} stays, with its user and its password", wallet.display());
    }
    Ok(())
}

fn shown(thing: &Thing) -> String {
    match thing {
        Thing::Path(path)
        | Thing::Secret(path)
        | Thing::Tree(path)
        | Thing::Given(path)
        | Thing::Filter(path)
        | Thing::Rights(path)
        | Thing::Setting(path) => path.display().to_string(),
        Thing::Unit(name) | Thing::Account(name) | Thing::Reader(name) => name.clone(),
        Thing::Wallet(wallet) => wallet.database.display().to_string(),
        Thing::Object(object) => object.to_string(),
        Thing::Database(database) => database.data.display().to_string(),
        Thing::RootKey(key) => format!("root key {}", key.id),
    }
}
