//! `lsm guard check` and `replay`: the operator's policy in words, and tried on what was asked before.

use super::{guarded, known, read_log};
use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::rights::require_root;
use crate::error::{Code, Error, Exit, Result};
use crate::guard::clock::in_words;
use crate::guard::entry::Verdict;
use crate::guard::policy::{EXAMPLE, Policy};
use crate::guard::replay;
use crate::guard::{HOUR, now};
use crate::host::file;
use crate::spec::{Network, Spec};
use crate::ui::{self, say};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NO_POLICY: Code = Code::usage("E-GUARD-026");
const OTHER_NETWORK: Code = Code::usage("E-GUARD-023");

/// `lsm guard check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// This policy instead of the signer's
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print a policy to begin with instead
    #[arg(long, conflicts_with = "file")]
    example: bool,
}

/// `lsm guard replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// This policy instead of the signer's
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many hours back
    #[arg(long, value_name = "N", default_value_t = 24)]
    hours: u64,
}

/// Says what a policy lets pass.
///
/// # Errors
/// Where it does not read, or names an address of another network.
pub(super) fn check(args: &CheckArgs, common: &Common) -> Result<()> {
    if args.example {
        if ui::voice().json {
            say!("{}", json!({"policy": EXAMPLE}));
        } else {
            EXAMPLE.lines().for_each(|line| say!("{line}"));
        }
        return Ok(());
    }
    let (path, policy) = match &args.file {
        // It may be for a signer that is not there yet, or elsewhere.
        Some(path) => (path.clone(), read_named(path)?),
        None => read_own(&guarded(common)?)?,
    };
    let (rules, there) = (policy.explain(), file::is_there(&path)?);
    // A file that is gone or empty is not taken for a wish.
    let warning = (policy == Policy::default()).then_some(
        "a guard that had rules before takes this for a file that was lost, and lets no coin of the wallet leave \
         (no-policy); to go on without any limit: unlimited = true",
    );
    if ui::voice().json {
        say!(
            "{}",
            json!({"file": path, "there": there, "limits": warning.is_none(), "rules": rules, "warning": warning})
        );
        return Ok(());
    }
    if let Some(warning) = warning {
        let file = path.display();
        let why = if there { format!("{file} names no limit") } else { format!("there is no {file}") };
        say!("nothing is limited: {why}");
        say!("{warning}");
        return Ok(());
    }
    rules.iter().for_each(|rule| say!("- {rule}"));
    Ok(())
}

/// The policy in a file that was named, which has to be there.
fn read_named(path: &Path) -> Result<Policy> {
    if file::is_there(path)? {
        return Policy::read(path);
    }
    Err(Error::new(NO_POLICY, format!("there is no {}", path.display())))
}

/// The signer's own, held to its network too.
fn read_own(spec: &Spec) -> Result<(PathBuf, Policy)> {
    let path = Layout::of(spec).guard_policy();
    let policy = Policy::read(&path)?;
    hold_network(&policy, spec.network)?;
    Ok((path, policy))
}

fn hold_network(policy: &Policy, network: Network) -> Result<()> {
    match known(network).and_then(|network| policy.free.foreign_to(network)) {
        None => Ok(()),
        Some(address) => Err(Error::new(OTHER_NETWORK, format!("{address} is no address of {network}"))
            .hint("the guard compares scripts, which are the same on every network: was another address meant?")),
    }
}

/// Tries a policy on what was asked before.
///
/// # Errors
/// Where it does not read, or the log cannot be read.
pub(super) fn replay(args: &ReplayArgs, common: &Common) -> Result<ExitCode> {
    let spec = guarded(common)?;
    require_root()?;
    let (path, policy) = match &args.file {
        Some(path) => {
            let policy = read_named(path)?;
            hold_network(&policy, spec.network)?;
            (path.clone(), policy)
        }
        None => read_own(&spec)?,
    };
    let entries = read_log(&Layout::of(&spec))?;
    let since = now().saturating_sub(args.hours.saturating_mul(HOUR));
    let tried = replay::replay(&entries, since, &policy);
    tell(&path, args.hours, &tried);
    Ok(if tried.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) })
}

fn tell(path: &Path, hours: u64, tried: &replay::Replayed) {
    if ui::voice().json {
        let refused = tried.refused.iter().map(|(entry, refusal)| {
            json!({
                "id": entry.id, "at": entry.at, "call": entry.call, "rule": refusal.rule.name(), "why": refusal.why,
                "was": entry.verdict,
            })
        });
        say!(
            "{}",
            json!({
                "file": path, "hours": hours, "judged": tried.judged, "others": tried.others,
                "passed_now": tried.passed_now, "refused": refused.collect::<Vec<_>>(),
            })
        );
        return;
    }
    for (entry, refusal) in &tried.refused {
        let was = if entry.verdict == Verdict::Passed { "was passed" } else { "was refused as well" };
        say!("{:>6} {} {}: {refusal}; {was}", entry.id, in_words(entry.at), entry.call);
    }
    say!(
        "of {} calls in the last {hours} hours {} would be refused; {} that were refused would pass; of {} others no limit says \
         anything",
        tried.judged,
        tried.refused.len(),
        tried.passed_now,
        tried.others
    );
}
