//! `lsm macaroon`: what a macaroon lets its holder do, and making, replacing and revoking those of this signer.

pub(super) mod bake;
mod list;
pub(super) mod revoke;
pub(super) mod rotate;

use crate::backend::Layout;
use crate::cli::rights::installed;
use crate::cli::{Common, strings};
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::plan::{self, Register};
use crate::signer::macaroon::{Macaroon, Permission, SIGNER_URIS, TAPROOT_URIS};
use crate::ui::{self, say};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::Path;
use time::OffsetDateTime;

const NO_INPUT: Code = Code::usage("E-MAC-010");

/// lnd's admin macaroon has some 300 bytes; one that names every call, some 10,000.
const LARGEST: u64 = 1 << 20;

/// What to do with a macaroon.
#[derive(Debug, Subcommand)]
pub enum MacaroonVerb {
    /// Make a macaroon that permits what a role needs, or chosen calls, and can be revoked alone
    Bake(bake::BakeArgs),
    /// Give the bundle a new macaroon; the old one is revoked once the other side has switched (--finish)
    Rotate(rotate::RotateArgs),
    /// Revoke macaroons, each by its root key; or every macaroon there is, after an admin one leaked (--admin)
    Revoke(revoke::RevokeArgs),
    /// List the macaroons of this signer that lsm knows of, and the root keys that somebody else made
    #[command(after_help = "Example:\n  sudo lsm macaroon list")]
    List,
    /// Say what a macaroon permits, under which conditions, and what its holder could do; nothing of it is shown
    Show(ShowArgs),
    /// List every call that this signer offers, which of them a watch-only node needs, and what else permits each
    #[command(after_help = "Example:\n  sudo lsm macaroon permissions")]
    Permissions,
}

/// `macaroon show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lsm macaroon show ~/.lnd/signer-credentials/admin.macaroon\n  \
    lsm macaroon show - < pasted-hex.txt")]
pub struct ShowArgs {
    /// Its file, or - for standard input: lnd's bytes, or the same in hex
    #[arg(value_name = "FILE|-")]
    macaroon: String,
}

/// Runs `lsm macaroon`.
pub(super) fn run(verb: &MacaroonVerb, common: &Common) -> Result<()> {
    match verb {
        MacaroonVerb::Bake(args) => bake::run(args, common),
        MacaroonVerb::Rotate(args) => rotate::run(args, common),
        MacaroonVerb::Revoke(args) => revoke::run(args, common),
        MacaroonVerb::List => list::run(common),
        MacaroonVerb::Show(args) => show(args, common),
        MacaroonVerb::Permissions => permissions(common),
    }
}

fn show(args: &ShowArgs, common: &Common) -> Result<()> {
    let macaroon = Macaroon::parse_either(read(&args.macaroon)?)?;
    let now = OffsetDateTime::now_utc();
    // Of another signer's macaroon it may say the wrong thing, and says so; without a register there is nothing to say.
    let register = Register::read(&Layout::new(&common.instance).register()).unwrap_or_default();
    let known = macaroon.root_key_id().parse().ok().and_then(|key| register.find(key));
    if ui::voice().json {
        let mut object = to_json(&macaroon, now);
        object["registered"] = json!(known.map(list::to_json));
        say!("{object}");
    } else {
        print(&macaroon, now);
        if let Some(known) = known {
            say!("{:12} if it is of this host's {}: {}", "known as", common.instance, list::describe(known, now));
        }
    }
    Ok(())
}

fn permissions(common: &Common) -> Result<()> {
    let layout = Layout::of(&installed(&common.instance)?);
    let hint = if layout.is_ours() { "start it with: lsm start" } else { "run it with sudo: it asks lnd as its admin" };
    let ask = || plan::open_as_admin(&layout.door())?.calls();
    let calls = ask().map_err(|e| e.hint_if_none(hint))?;
    if ui::voice().json {
        let call = |(uri, permissions): (&String, &Vec<Permission>)| json!({"uri": uri, "needed_by": needed_by(uri), "permitted_by": strings(permissions)});
        say!("{}", json!({"instance": common.instance, "calls": calls.iter().map(call).collect::<Vec<_>>()}));
        return Ok(());
    }
    for (uri, permissions) in &calls {
        say!("{:11} {uri:58} {}", needed_by(uri).unwrap_or_default(), strings(permissions).join(", "));
    }
    Ok(())
}

/// Who on the other side calls it.
fn needed_by(uri: &str) -> Option<&'static str> {
    if SIGNER_URIS.contains(&uri) {
        return Some("watch-only");
    }
    TAPROOT_URIS.contains(&uri).then_some("taproot")
}

/// Never from the command line itself, which other users can read.
fn read(source: &str) -> Result<Vec<u8>> {
    if source != "-" {
        return file::read_named(Path::new(source), LARGEST);
    }
    let mut bytes =
        file::read_input(LARGEST).map_err(|e| Error::new(NO_INPUT, "cannot read standard input").because(e))?;
    Ok(std::mem::take(&mut bytes))
}

/// What is in it, but for what is secret, for programs.
pub(super) fn contents(macaroon: &Macaroon) -> serde_json::Value {
    json!({
        "root_key_id": macaroon.root_key_id(),
        "permissions": strings(macaroon.permissions()),
        "caveats": macaroon.caveats(),
    })
}

/// The same, and what it comes to.
fn to_json(macaroon: &Macaroon, now: OffsetDateTime) -> serde_json::Value {
    let (fit, mut object) = (macaroon.fit(), contents(macaroon));
    object["conditions"] = json!(macaroon.conditions(now));
    object["powers"] = json!(holder_can(macaroon));
    object["watch_only"] = json!({ "missing": fit.missing, "taproot": fit.taproot, "more": strings(&fit.more) });
    object
}

/// What its holder could do; nothing only where all that it permits is known to read.
fn holder_can(macaroon: &Macaroon) -> Vec<String> {
    let unjudged = strings(&macaroon.unjudged());
    let of_those =
        (!unjudged.is_empty()).then(|| format!("make these calls, which lsm does not judge: {}", unjudged.join(", ")));
    strings(&macaroon.powers()).into_iter().chain(of_those).collect()
}

fn print(macaroon: &Macaroon, now: OffsetDateTime) {
    lines("root key", &[macaroon.root_key_id()], "");
    lines("permits", macaroon.permissions(), "nothing");
    lines("if", &macaroon.conditions(now), "always");
    lines("holder can", &holder_can(macaroon), "change nothing and sign nothing");
    let fit = macaroon.fit();
    let mut words = Vec::new();
    if fit.missing.is_empty() {
        words.push("enough for a watch-only node".to_owned());
    } else {
        words.push(format!("too little for a watch-only node: {}", fit.missing.join(", ")));
    }
    if !fit.taproot.is_empty() {
        words.push("has MuSig2, which taproot channels alone need".to_owned());
    }
    if !fit.more.is_empty() {
        words.push(format!("{} permissions that no watch-only node needs", fit.more.len()));
    }
    lines("fit", &words, "");
}

/// One a line, the first behind its name.
fn lines<T: ToString>(name: &str, items: &[T], none: &str) {
    let items = if items.is_empty() { vec![none.to_owned()] } else { strings(items) };
    for (i, item) in items.iter().enumerate() {
        say!("{:12} {item}", if i == 0 { name } else { "" });
    }
}
