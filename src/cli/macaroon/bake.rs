//! `lsm macaroon bake`: a macaroon for the operator, on a root key of its own.

use super::list::{self, live_keys};
use crate::backend::{Layout, credentials};
use crate::cli::machine::{self, MachineArgs};
use crate::cli::{Common, strings};
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::plan::register::{self, Entry, Held};
use crate::plan::{self, History, Plan, Register};
use crate::signer::macaroon::{Caveat, Role};
use crate::spec::{Mode, Spec, parse_cidr};
use crate::ui::{self, say, terminal};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const EXISTS: Code = Code::usage("E-MAC-017");
const NO_ADDRESS: Code = Code::usage("E-MAC-018");
const BAD_NAME: Code = Code::usage("E-MAC-019");
const NO_TAPROOT: Code = Code::usage("E-MAC-020");
const OTHER_BAKE: Code = Code::refused("E-MAC-025");

/// Under which name the journal has these plans.
pub(in crate::cli) const VERB: &str = "macaroon bake";

/// The options of `lsm macaroon bake`.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("what").required(true).args(["role", "uri"])),
    after_help = "Roles: signer, the calls of a watch-only node and no more; monitor, whether lnd can sign and its version; \
    admin, everything.\n\n\
    Examples:\n  sudo lsm macaroon bake --role monitor --expires 90d\n  \
    sudo lsm macaroon bake --uri /lnrpc.Lightning/GetInfo --name dashboard --out /root/dashboard.macaroon"
)]
pub struct BakeArgs {
    /// What it is for
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// A call that it permits, as lsm macaroon permissions lists them; can be given again
    #[arg(long, value_name = "/PACKAGE.SERVICE/CALL")]
    uri: Vec<String>,
    /// With the role signer: taproot channels too. Its holder can compute private keys
    #[arg(long)]
    taproot_channels: bool,
    /// Good from this address or net alone; not in isolated mode, where lnd sees no addresses
    #[arg(long, value_name = "CIDR", value_parser = parse_cidr)]
    ip: Option<IpNet>,
    /// Good until then: 90d, 12h, 2027-01-31, or a time as in RFC 3339
    #[arg(long, value_name = "T")]
    expires: Option<String>,
    /// What to call it in lists [default: the role]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The file to write, which must not be there yet [default: NAME.macaroon]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// A role, as it is named on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    Signer,
    Monitor,
    Admin,
}

/// Runs it.
pub(super) fn run(args: &BakeArgs, common: &Common) -> Result<()> {
    let (role, name, now) = (args.role()?, args.name()?, OffsetDateTime::now_utc());
    let until = args.expires.as_deref().map(|text| Caveat::parse_end(text, now)).transpose()?;
    let caveats = strings(&until.into_iter().chain(args.ip.map(Caveat::From)).collect::<Vec<_>>());
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.macaroon")));
    let out = machine::absolute(&out)?;
    let made = register::seconds(now);
    let entry = Entry { root_key: 0, name, held: Held::Operator, made, caveats, role };
    let look = |spec: &Spec, history: &History| {
        let begun = history.unended_step("bake").filter(|_| history.was_cut_off(VERB));
        let entry = match begun {
            Some(step) => {
                let entry = go_on(step, &entry, &out)?;
                let layout = Layout::of(spec);
                if layout.is_ours() {
                    live_keys(&layout)?;
                }
                entry
            }
            None => {
                args.check(spec, &out)?;
                Entry { root_key: find_key(spec, &entry)?, ..entry.clone() }
            }
        };
        // The file is whole where it is there, and then all was done.
        let is_baked = begun.is_some() && file::is_there(&out)?;
        let steps = if is_baked { vec![] } else { credentials::bake_steps(spec, entry.clone(), &out) };
        Ok((Plan { steps }, entry))
    };
    if !args.machine.dry_run {
        warn(&entry.role);
    }
    if let Some((entry, _)) = machine::change(VERB, &args.machine, common, look)? {
        tell(&entry, &out, now);
    }
    Ok(())
}

impl BakeArgs {
    fn role(&self) -> Result<Role> {
        if self.taproot_channels && !matches!(self.role, Some(RoleArg::Signer)) {
            return Err(Error::new(NO_TAPROOT, "--taproot-channels is for --role signer alone"));
        }
        Ok(match self.role {
            Some(RoleArg::Signer) => Role::signer(self.taproot_channels),
            Some(RoleArg::Monitor) => Role::Monitor,
            Some(RoleArg::Admin) => Role::Admin,
            // As `macaroon show` and lncli print them, too.
            None => {
                Role::Calls(self.uri.iter().map(|uri| uri.strip_prefix("uri:").unwrap_or(uri).to_owned()).collect())
            }
        })
    }

    /// A name is part of a file's name, and of what lists show.
    fn name(&self) -> Result<String> {
        let name = match (&self.name, self.role) {
            (Some(name), _) => name.clone(),
            (None, Some(role)) => role.to_possible_value().map(|role| role.get_name().to_owned()).unwrap_or_default(),
            (None, None) => "calls".to_owned(),
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_part) {
            return Err(Error::new(BAD_NAME, format!("{name:?} is no name for a macaroon"))
                .hint("letters, digits, and - _ . inside, at most 64"));
        }
        Ok(name)
    }

    fn check(&self, spec: &Spec, out: &Path) -> Result<()> {
        if self.ip.is_some() && spec.mode == Mode::Isolated && spec.docker.is_none() {
            let cause = "in isolated mode lnd sees no addresses: a macaroon with --ip would be refused always";
            return Err(Error::new(NO_ADDRESS, cause).hint("the allowlist says who may connect: lsm allow list"));
        }
        if file::is_there(out)? {
            return Err(Error::new(EXISTS, format!("there is something at {} already", out.display()))
                .hint("it is left as it is; name another file with --out"));
        }
        Ok(())
    }
}

/// What an earlier try was about to bake, which is what is asked for now: lnd may have made its root key, and its end was
/// counted from then.
fn go_on(step: &Value, wanted: &Entry, out: &Path) -> Result<Entry> {
    let begun = serde_json::from_value::<Entry>(step["entry"].clone()).ok();
    let is_address = |caveat: &&String| !caveat.starts_with("time-before ");
    let is_same = |begun: &Entry| {
        (&begun.name, &begun.role, begun.caveats.len()) == (&wanted.name, &wanted.role, wanted.caveats.len())
            && begun.caveats.iter().filter(is_address).eq(wanted.caveats.iter().filter(is_address))
            // Asked for later, the same span ends later. Times are written alike, and so in the order of their texts.
            && begun.caveats.iter().zip(&wanted.caveats).all(|(begun, wanted)| is_address(&begun) || begun <= wanted)
    };
    begun.filter(|begun| step["out"] == json!(out) && is_same(begun)).ok_or_else(|| {
        let place = step["out"].as_str().unwrap_or_default();
        Error::new(
            OTHER_BAKE,
            format!("the bake of another macaroon was cut off: {} to {place}", step["entry"]["name"]),
        )
        .hint("finish it with the options that it had; or undo it with: lsm rollback")
    })
}

/// A root key that nothing hangs on, once lnd knows every call that is to be permitted; as far as the register tells where lnd
/// cannot be asked, for a dry run.
fn find_key(spec: &Spec, entry: &Entry) -> Result<u64> {
    let layout = Layout::of(spec);
    let register = Register::read(&layout.register())?;
    if !layout.is_ours() {
        return Ok(register.free_key(&[]));
    }
    let live = live_keys(&layout)?;
    entry.role.permissions(&plan::open_as_admin(&layout.door())?.calls()?)?;
    Ok(register.free_key(&live))
}

fn warn(role: &Role) {
    match role {
        Role::Admin => terminal::ask_about(
            "warning: whoever holds an admin macaroon has every right over the signer, its keys too",
        ),
        Role::SignerTaproot => terminal::ask_about(
            "warning: whoever holds this macaroon can compute private keys of the signer (MuSig2); see SECURITY.md",
        ),
        _ => {}
    }
}

fn tell(entry: &Entry, out: &Path, now: OffsetDateTime) {
    if ui::voice().json {
        let mut object = list::to_json(entry);
        object["path"] = json!(out);
        say!("{object}");
        return;
    }
    say!("macaroon   {} (0600), on root key {}", out.display(), entry.root_key);
    say!("is         {}", list::describe(entry, now));
    say!("permits    see lsm macaroon show {}", out.display());
    say!("revoke it  lsm macaroon revoke {}", entry.root_key);
}
