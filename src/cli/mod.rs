//! The command line: one file a verb turns arguments into a Spec or a call, and a result into text or JSON.

mod allow;
mod bundle;
mod cert;
mod control;
mod guard;
mod harden;
mod install;
mod launch;
mod lnd;
mod macaroon;
mod machine;
mod man;
mod ready;
mod release;
mod rights;
mod seed;
mod status;
mod trial;
mod undo;
mod unpack;
mod update;
mod upgrade;
mod verbs;
mod wallet;
mod watch;
mod watch_only;

use crate::error::Result;
use crate::spec::Instance;
use crate::ui;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Turns a bare Linux host into a Lightning remote signer, and keeps it one.
#[derive(Debug, Parser)]
#[command(name = "lsm", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// What every verb understands.
    #[command(flatten)]
    pub common: Common,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Print the result as one JSON object on standard output
    #[arg(long, global = true, help_heading = "Every verb")]
    pub json: bool,
    /// Which signer on this host
    #[arg(long, global = true, value_name = "NAME", default_value_t, help_heading = "Every verb")]
    pub instance: Instance,
    /// Say nothing but the result
    #[arg(short, long, global = true, help_heading = "Every verb")]
    pub quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Every verb")]
    pub verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show it all in a minute: a signer and a watch-only node on regtest; no root, nothing installed
    Trial(trial::Options),
    /// Known versions of lnd: list, fetch, build from source, verify
    #[command(
        subcommand,
        after_help = "Examples:\n  lsm release list\n  lsm release fetch v0.21.3-beta --out /media/stick/lnd"
    )]
    Release(release::Verb),
    /// Turn this host into a signer; run again, bring it back to what is wanted
    Install(Box<install::Options>),
    /// Put another version of lnd under the signer; where it does not sign as the old one did, the old one comes back
    Upgrade(upgrade::Options),
    /// Take a signer away: this host as it was before; the wallet stays, with its user and its password
    Uninstall(undo::UninstallOptions),
    /// Undo the last change: a finished one, or one that was cut off
    Rollback(undo::RollbackOptions),
    /// Export, show or import a signer's credentials bundle
    #[command(
        subcommand,
        after_help = "Examples:\n  sudo lsm bundle export --out ./bundle\n  lsm bundle show --bundle ./bundle"
    )]
    Bundle(bundle::BundleVerb),
    /// The wallet's seed and password: create, restore, verify a backup, change the password, unlock
    #[command(subcommand, after_help = "Examples:\n  sudo lsm wallet create\n  sudo lsm wallet verify-seed")]
    Wallet(wallet::WalletVerb),
    /// The signer's macaroons: bake, rotate, revoke, and what a macaroon lets its holder do
    #[command(subcommand, after_help = "Examples:\n  sudo lsm macaroon list\n  sudo lsm macaroon rotate")]
    Macaroon(macaroon::MacaroonVerb),
    /// The certificate that the watch-only side pins
    #[command(subcommand, after_help = "Examples:\n  lsm cert show\n  sudo lsm cert renew")]
    Cert(cert::CertVerb),
    /// The watch-only machine's side: an lnd whose signer signs
    #[command(
        subcommand,
        after_help = "Examples:\n  lsm watch-only init --bundle credentials-bundle --lnddir ~/.lnd\n  lsm watch-only check --lnddir ~/.lnd"
    )]
    WatchOnly(watch_only::WatchOnlyVerb),
    /// Who may connect to the signer's port: changed while it runs, with no gap for those who stay
    #[command(subcommand, after_help = "Examples:\n  lsm allow list\n  sudo lsm allow add 10.0.0.7")]
    Allow(allow::AllowVerb),
    /// The guard: what it passed and refused, whether it enforces; freeze the signer at once
    #[command(subcommand, after_help = "Examples:\n  sudo lsm guard status\n  sudo lsm guard freeze")]
    Guard(guard::GuardVerb),
    /// Start the signer, and open its port once it can sign
    Start(control::StartOptions),
    /// Stop the signer, and close its port
    Stop(control::StopOptions),
    /// Start the signer anew; its port stays, and callers wait
    Restart(control::RestartOptions),
    /// Show what lnd, the port and the packet filter logged
    Logs(control::LogsOptions),
    /// Audit this host: whether it is fit to hold keys, with the evidence; exits 1 where it is not
    Harden(harden::Options),
    /// Tell what is true of the running signer; exits 0 only where it can sign
    Status(status::Options),
    /// Print the completions for a shell
    #[command(after_help = "Examples:\n  lsm completions bash | sudo tee /etc/bash_completion.d/lsm >/dev/null\n  \
        lsm completions zsh | sudo tee /usr/local/share/zsh/site-functions/_lsm >/dev/null\n  \
        lsm completions fish >~/.config/fish/completions/lsm.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of a verb
    Man(man::Options),
    /// Audit this host, and tell what changed since the last time
    #[command(hide = true)]
    HardenWatch,
    /// Wait until the signer can sign
    #[command(hide = true)]
    Ready(ready::Options),
    /// Unpack a release's archive from one pipe into another
    #[command(hide = true)]
    UnpackArchive,
    /// Give up every right, then become a program
    #[command(hide = true)]
    Launch(launch::Options),
}

/// Each in words, for a program to read.
fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Runs what the command line asks for, and says how the process ends.
///
/// # Errors
/// Whatever the verb ends with.
pub fn run(cli: Cli) -> Result<ExitCode> {
    ui::log::begin(cli.common.verbose);
    let is_json = match &cli.verb {
        Verb::Install(options) => options.is_json(),
        Verb::Harden(options) => options.is_json(),
        _ => false,
    };
    let json = cli.common.json || is_json;
    ui::set_voice(ui::Voice { json, quiet: cli.common.quiet });
    match cli.verb {
        Verb::Status(options) => return status::run(&options, &cli.common),
        Verb::Harden(options) => return harden::run(&options, &cli.common),
        Verb::Trial(options) => trial::run(&options)?,
        Verb::Release(verb) => return release::run(verb),
        Verb::Install(options) => install::run(&options, &cli.common)?,
        Verb::Upgrade(options) => upgrade::run(&options, &cli.common)?,
        Verb::Uninstall(options) => undo::uninstall(&options, &cli.common)?,
        Verb::Rollback(options) => undo::rollback(&options, &cli.common)?,
        Verb::Bundle(verb) => bundle::run(verb, &cli.common)?,
        Verb::Wallet(verb) => wallet::run(verb, &cli.common)?,
        Verb::Cert(verb) => cert::run(&verb, &cli.common)?,
        Verb::Macaroon(verb) => macaroon::run(&verb, &cli.common)?,
        Verb::Allow(verb) => allow::run(verb, &cli.common)?,
        Verb::Guard(verb) => return guard::run(verb, &cli.common),
        Verb::Start(options) => control::start(&options, &cli.common)?,
        Verb::Stop(options) => control::stop(&options, &cli.common)?,
        Verb::Restart(options) => control::restart(&options, &cli.common)?,
        Verb::Logs(options) => control::logs(&options, &cli.common)?,
        Verb::WatchOnly(verb) => watch_only::run(verb)?,
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lsm", &mut text);
            man::print(&text)?;
        }
        Verb::Man(options) => man::run(&options)?,
        Verb::HardenWatch => watch::run(&cli.common)?,
        Verb::Ready(options) => ready::run(&options, &cli.common)?,
        Verb::UnpackArchive => unpack::run()?,
        Verb::Launch(options) => match launch::run(options)? {},
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn every_verb_that_is_shown_has_examples() {
        let mut whole = Cli::command();
        whole.build();
        let mut waiting: Vec<Command> = whole.get_subcommands().cloned().collect();
        let mut seen = 0;
        while let Some(verb) = waiting.pop() {
            // The parser's own one.
            if verb.is_hide_set() || verb.get_name() == "help" {
                continue;
            }
            let after = verb.get_after_help().or(verb.get_after_long_help()).map(ToString::to_string);
            assert!(after.is_some_and(|after| after.contains("Example")), "{}", verb.get_name());
            waiting.extend(verb.get_subcommands().cloned());
            seen += 1;
        }
        assert!(seen > 45, "{seen}");
    }
}
