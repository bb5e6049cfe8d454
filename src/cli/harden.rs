//! `lsm harden`: what the audit finds, in the form that is wanted, and an exit code that a pipeline can trust.

mod fix;

use crate::cli::machine::MachineArgs;
use crate::cli::{Common, watch};
use crate::error::{Code, Error, Exit, Result};
use crate::facts::audit::Host;
use crate::harden::{self, About, Baseline, Choice, Report, Severity, Waivers};
use crate::host::file::{self, Access};
use crate::host::terminal;
use crate::ui::{self, say};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

const TWO_FORMATS: Code = Code::usage("E-HARDEN-005");
const NO_CHANGE: Code = Code::usage("E-HARDEN-006");

/// How the findings are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal: what to do first, then the rest
    Text,
    /// One object, as docs/schemas/harden.json has it
    Json,
    /// SARIF 2.1.0, for a code scanning service
    Sarif,
    /// One page that needs nothing else, for an auditor
    Html,
}

/// Options of `lsm harden`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo lsm harden                          what is wrong with this host, first things first
  sudo lsm harden -v                       and what is right with it
  sudo lsm harden --fail-on critical       for a pipeline: exit 1 only where keys are in danger
  sudo lsm harden --waivers waivers.toml   findings that somebody answers for until a day do not count
  sudo lsm harden --json >before.json      keep a report ...
  sudo lsm harden --baseline before.json   ... and exit 1 only where something is new or worse
  sudo lsm harden --format html >host.html one page for an auditor
  lsm harden --fix --dry-run               what could be mended, and how
  sudo lsm harden --fix                    mend all that neither locks you out nor changes the kernel
  sudo lsm harden --fix KERN-001,SSH-002   mend these; lsm rollback undoes it
  sudo lsm harden --watch                  every day from now on; what changes is in the log
  sudo lsm harden --record host.json       write down what would be judged ...
  lsm harden --facts host.json             ... and judge it elsewhere")]
pub struct Options {
    /// Mend what is found, then look again: all that is safe to mend, or the named ones
    #[arg(long, value_name = "ID", value_delimiter = ',', num_args = 0..=1, conflicts_with_all = ["facts", "record"])]
    fix: Option<Vec<String>>,
    /// Run these checks alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these checks out
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    skip: Vec<String>,
    /// Exit with 1 where a finding is at least so grave
    #[arg(long, value_name = "SEVERITY", default_value = "high")]
    fail_on: Severity,
    /// Judge the host that these facts were written down on
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    facts: Option<PathBuf>,
    /// Write down the facts of this host instead of judging them; they hold no secret
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Findings that somebody answers for until a day: TOML, [[waiver]] with id, owner, reason and expires
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    waivers: Option<PathBuf>,
    /// Tell what changed since this earlier output of --json; only what is new, worse or seen otherwise makes it exit 1
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    baseline: Option<PathBuf>,
    /// Have it run every day and after each boot, and log what changed
    #[arg(long, conflicts_with_all = ["only", "skip", "fail_on", "facts", "record", "waivers", "baseline", "format", "fix"])]
    watch: bool,
    #[command(flatten)]
    machine: MachineArgs,
    /// How the findings are told [default: text, or json with --json]
    #[arg(long, value_enum, conflicts_with = "record")]
    format: Option<Format>,
}

impl Options {
    /// True where the report is JSON, as its faults are then.
    pub(super) fn is_json(&self) -> bool {
        self.format == Some(Format::Json)
    }
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode> {
    if options.watch {
        return watch::turn_on(&options.machine, common).map(|()| ExitCode::SUCCESS);
    }
    let is_change = options.machine.dry_run || options.machine.yes;
    if is_change && options.fix.is_none() {
        let hint = "--dry-run and --yes go with --fix and --watch";
        return Err(Error::new(NO_CHANGE, "an audit alone changes nothing").hint(hint));
    }
    let format = format(options, common)?;
    let choice = Choice::new(&options.only, &options.skip)?;
    // What the user named is read first: a mistake in it is told before any work.
    let waivers = options.waivers.as_deref().map(Waivers::read).transpose()?.unwrap_or_default();
    let baseline = options.baseline.as_deref().map(Baseline::read).transpose()?;
    let judge = |host: &Host| {
        let judged = harden::judge(host, &choice).waive(&waivers, host.taken);
        match &baseline {
            Some(baseline) => judged.compare(baseline),
            None => judged,
        }
    };
    if let Some(ids) = &options.fix {
        let ids = Choice::new(ids, &[])?.only;
        return match fix::run(&ids, &options.machine, judge, common)? {
            Some((host, report)) => end(&host, &report, options, format, common),
            None => Ok(ExitCode::SUCCESS),
        };
    }
    let host = match &options.facts {
        Some(path) => Host::parse(path)?,
        None => harden::look(&common.instance),
    };
    if let Some(path) = &options.record {
        file::create(path, host.render()?.as_bytes(), Access::mode(0o600))?;
        if common.json {
            say!("{}", json!({"record": path}));
        }
        return Ok(ExitCode::SUCCESS);
    }
    end(&host, &judge(&host), options, format, common)
}

/// Shows what was found, and says by the exit code whether that is too much.
fn end(host: &Host, report: &Report, options: &Options, format: Format, common: &Common) -> Result<ExitCode> {
    show(report, &About::new(host), format, common.verbose > 0)?;
    let found = report.reaches(options.fail_on);
    Ok(if found { ExitCode::from(Exit::Refused as u8) } else { ExitCode::SUCCESS })
}

fn format(options: &Options, common: &Common) -> Result<Format> {
    match options.format {
        Some(format) if common.json && format != Format::Json => {
            Err(Error::new(TWO_FORMATS, "--json is a format of its own").hint("give either --json or --format"))
        }
        Some(format) => Ok(format),
        None if common.json => Ok(Format::Json),
        None => Ok(Format::Text),
    }
}

fn show(report: &Report, about: &About, format: Format, all: bool) -> Result<()> {
    match format {
        Format::Json => say!("{}", json!(report)),
        Format::Sarif => say!("{}", harden::render_sarif(report)),
        Format::Html => harden::render_page(report, about)?.lines().for_each(|line| say!("{line}")),
        Format::Text => {
            harden::render_text(report, about, all, terminal::columns()).iter().for_each(|line| say!("{line}"));
            if !all {
                ui::note("what passed: lsm harden -v");
            }
        }
    }
    Ok(())
}
