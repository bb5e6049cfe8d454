//! `lsm harden`: what the audit finds, as text or JSON, and an exit code that a pipeline can trust.

use crate::cli::Common;
use crate::error::{Exit, Result};
use crate::facts::audit::Host;
use crate::harden::{self, Choice, Finding, Report, Severity, Verdict};
use crate::host::file::{self, Access};
use crate::ui::{self, say};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// How the findings are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal: what to do first, then the rest
    Text,
    /// One object, as docs/harden.md has it
    Json,
}

/// Options of `lsm harden`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo lsm harden                          what is wrong with this host, first things first
  sudo lsm harden -v                       and what is right with it
  sudo lsm harden --fail-on critical       for a pipeline: exit 1 only where keys are in danger
  sudo lsm harden --record host.json       write down what would be judged ...
  lsm harden --facts host.json             ... and judge it elsewhere")]
pub struct Options {
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
    /// How the findings are told
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode> {
    let choice = Choice::new(&options.only, &options.skip)?;
    let host = match &options.facts {
        Some(path) => Host::parse(path)?,
        None => harden::look(&common.instance),
    };
    if let Some(path) = &options.record {
        file::create(path, host.render()?.as_bytes(), Access::mode(0o600))?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = harden::judge(&host, &choice);
    if common.json || options.format == Format::Json {
        say!("{}", json!(report));
    } else {
        show(&report, common.verbose > 0);
    }
    let found = report.findings.iter().any(|finding| finding.reaches(options.fail_on));
    Ok(if found { ExitCode::from(Exit::Refused as u8) } else { ExitCode::SUCCESS })
}

fn show(report: &Report, all: bool) {
    for finding in report.first() {
        say!("{:5} {:8} {}  {}", finding.verdict.name(), finding.severity.name(), finding.id, finding.title);
        say!("      seen     {}", finding.evidence);
        say!("      why      {}", finding.why);
        say!("      mend     {}", finding.fix);
    }
    let quiet = |finding: &&Finding| matches!(finding.verdict, Verdict::Pass(_) | Verdict::NotApplicable(_));
    for finding in report.findings.iter().filter(quiet).filter(|_| all) {
        say!("{:5} {:8} {}  {}: {}", finding.verdict.name(), "", finding.id, finding.title, finding.evidence);
    }
    let count = |name: &str| report.findings.iter().filter(|finding| finding.verdict.name() == name).count();
    let counts = ["fail", "error", "warn", "pass", "na"].map(|name| format!("{} {name}", count(name)));
    say!("grade {:?}: {}", report.grade, counts.join(", "));
    if !all && !ui::voice().quiet {
        ui::note("what passed: lsm harden -v");
    }
}
