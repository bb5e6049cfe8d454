//! `lsm start`, `stop`, `restart` and `logs`: systemd's own, with what a signer's operator has to know.

use crate::backend::{Layout, control};
use crate::cli::machine::{self, GAP, MachineArgs};
use crate::cli::rights::{installed, require_rights};
use crate::cli::undo::{self, UninstallOptions};
use crate::cli::{Common, verbs};
use crate::error::{Code, Error, Result};
use crate::plan::History;
use crate::spec::{Instance, Spec};
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;

const ENDLESS: Code = Code::usage("E-CONTROL-003");

/// `lsm start`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo lsm start")]
pub struct StartOptions {
    #[command(flatten)]
    machine: MachineArgs,
}

/// `lsm stop`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm stop --yes\n  sudo lsm stop --clean --confirm signer --yes")]
pub struct StopOptions {
    /// Remove the signer too, its wallet included, as lsm uninstall --purge does
    #[arg(long)]
    clean: bool,
    /// The signer's name once more, for --clean
    #[arg(long, value_name = "NAME", requires = "clean")]
    confirm: Option<Instance>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// `lsm restart`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo lsm restart")]
pub struct RestartOptions {
    #[command(flatten)]
    machine: MachineArgs,
}

/// `lsm logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm logs -f\n  sudo lsm logs --lines 1000")]
pub struct LogsOptions {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: u32,
}

/// Runs `lsm start`.
///
/// # Errors
/// Where there is no such signer, or it does not get to sign.
pub(super) fn start(options: &StartOptions, common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    let work = Work { verb: "start", warning: None, done: control::is_up(&spec) };
    work.run(&spec, &options.machine, control::start)
}

/// Runs `lsm stop`.
///
/// # Errors
/// Where there is no such signer, or it does not stop.
pub(super) fn stop(options: &StopOptions, common: &Common) -> Result<()> {
    if options.clean {
        return undo::uninstall(&UninstallOptions::purge(options.confirm.clone(), options.machine.clone()), common);
    }
    let spec = installed(&common.instance)?;
    let done = control::is_down(&spec);
    Work { verb: "stop", warning: Some(GAP), done }.run(&spec, &options.machine, control::stop)
}

/// Runs `lsm restart`.
///
/// # Errors
/// As [`start`].
pub(super) fn restart(options: &RestartOptions, common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    Work { verb: "restart", warning: Some(GAP), done: false }.run(&spec, &options.machine, control::restart)
}

/// Runs `lsm logs`.
///
/// # Errors
/// Where there is no such signer, or its log cannot be shown.
pub(super) fn logs(options: &LogsOptions, common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    if !ui::voice().json {
        return control::show_log(&spec, options.lines, options.follow);
    }
    if options.follow {
        return Err(Error::new(ENDLESS, "--json is one object, and --follow has no end")
            .hint("leave one out; journalctl --output=json follows line by line"));
    }
    let entries = control::read_log(&spec, options.lines)?;
    say!("{}", json!({"instance": spec.instance, "entries": entries}));
    Ok(())
}

/// One of the three verbs on one signer.
struct Work {
    verb: &'static str,
    warning: Option<&'static str>,
    done: bool,
}

impl Work {
    fn run(&self, spec: &Spec, args: &MachineArgs, work: fn(&Spec) -> Result<()>) -> Result<()> {
        if args.dry_run {
            show(self.verb, &if self.done { vec![] } else { control::parts(spec) });
            return Ok(());
        }
        if !self.done {
            let layout = Layout::of(spec);
            require_rights(&layout)?;
            if let Some(warning) = self.warning {
                terminal::ask_about(&format!("warning: {warning}"));
            }
            if !args.yes {
                terminal::confirm(&format!("{} the signer {}?", capital(self.verb), spec.instance))?;
            }
            // Holds the lock: not while another lsm changes this signer.
            let journal = machine::open_journal(&layout)?;
            match self.verb {
                "stop" => {}
                "start" => admit_for_lnd(journal.history(), self.verb)?,
                verb => machine::admit(journal.history(), verb)?,
            }
            work(spec)?;
        }
        self.tell(spec);
        Ok(())
    }

    fn tell(&self, spec: &Spec) {
        let up = control::is_up(spec);
        if ui::voice().json {
            say!("{}", json!({"instance": spec.instance, "changed": !self.done, "running": up}));
        } else if up {
            say!("the signer {} can sign and answers at {}", spec.instance, spec.listen);
        } else {
            say!("the signer {} is stopped and its port shut", spec.instance);
        }
    }
}

/// What a dry run of `verb` shows: on which of the signer's parts it would act.
pub(super) fn show(verb: &str, parts: &[String]) {
    if ui::voice().json {
        let step = |part| json!({"kind": verb, "unit": part});
        say!("{}", json!({"steps": parts.iter().map(step).collect::<Vec<_>>()}));
        return;
    }
    if parts.is_empty() {
        say!("nothing to do: the signer is as wanted");
    }
    parts.iter().for_each(|part| say!("{verb} {part}"));
}

/// Holds that no plan was cut off, but for one that may need a running lnd to go on, or back: `verb` gives it one.
pub(super) fn admit_for_lnd(history: &History, verb: &str) -> Result<()> {
    if verbs::asks_lnd(history) { Ok(()) } else { machine::admit(history, verb) }
}

fn capital(verb: &str) -> String {
    verb[..1].to_ascii_uppercase() + &verb[1..]
}
