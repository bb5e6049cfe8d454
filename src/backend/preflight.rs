//! What a native install must not run into, found out before anything is changed.

use crate::backend::native::{Wishes, read_spec, read_specs};
use crate::backend::{Layout, control, docker};
use crate::bundle::{self, Bundle};
use crate::engine::Object;
use crate::error::{Code, Error, Result};
use crate::facts::{self, Facts, Seen};
use crate::host::{beneath, program};
use crate::plan::prior::{Prior, Was};
use crate::plan::{self, History, Plan, Step};
use crate::spec::Spec;
use std::net::SocketAddr;
use std::path::Path;

const NOT_ROOT: Code = Code::lacking("E-INSTALL-001");
const NO_SYSTEMD: Code = Code::lacking("E-INSTALL-002");
const NO_LOCALHOST: Code = Code::lacking("E-INSTALL-003");
const NO_SPACE: Code = Code::lacking("E-INSTALL-004");
const PORT_TAKEN: Code = Code::lacking("E-INSTALL-005");
const WALLET_EXISTS: Code = Code::refused("E-INSTALL-007");
const SEED_FILE_EXISTS: Code = Code::refused("E-INSTALL-008");
const OLD_SYSTEMD: Code = Code::lacking("E-INSTALL-010");
const PASSWORD_LOST: Code = Code::refused("E-INSTALL-011");
const NO_FOLDER: Code = Code::usage("E-INSTALL-012");
const OTHERS_BUNDLE: Code = Code::refused("E-BUNDLE-030");
const LNDS_FOLDER: Code = Code::usage("E-INSTALL-015");

/// The oldest systemd whose units these are: Debian 12's.
const OLDEST_SYSTEMD: u32 = 252;
/// What lnd, its archive and its first years of logs and database take, in bytes.
const SPACE: u64 = 600 << 20;

/// What the machine has to have, each named with what gets it. Where a plan `goes_on` that was cut off, the room was asked
/// for when it began, and some of it is taken by what it left.
///
/// # Errors
/// The first thing that it lacks.
pub fn check_machine(spec: &Spec, facts: &Facts, goes_on: bool) -> Result<()> {
    let layout = Layout::of(spec);
    if !layout.is_ours() {
        // A signer that is there stays with what runs it, and the verbs for it have no --backend.
        let is_new = spec.docker.is_none() && !layout.spec().exists();
        let otherwise = if is_new { "; lsm install --backend docker asks its engine alone" } else { "" };
        return Err(Error::new(NOT_ROOT, "this needs root")
            .hint(format!("run it with sudo, or look first with --dry-run{otherwise}")));
    }
    if !layout.places().are_users() {
        check_systemd(facts)?;
        // A container has users, folders and names of its own.
        let by_systemd = ["systemd-sysusers", "systemd-tmpfiles"].into_iter().filter(|_| spec.docker.is_none());
        for name in ["nft", "systemctl"].into_iter().chain(by_systemd) {
            if !facts.programs.contains(name) {
                return Err(program::missing(name));
            }
        }
    }
    if !facts.localhost && spec.docker.is_none() {
        return Err(Error::new(NO_LOCALHOST, "/etc/hosts does not name localhost, and lnd does not start without it")
            .hint("add a line to /etc/hosts: 127.0.0.1 localhost"));
    }
    if facts.space < SPACE && !goes_on {
        let place = layout.places().state();
        let cause = format!("{} has {} MiB free; it takes {} MiB", place.display(), facts.space >> 20, SPACE >> 20);
        return Err(Error::new(NO_SPACE, cause).hint("free some space and run it again"));
    }
    Ok(())
}

/// Holds that a systemd runs the machine that knows what lsm's units say.
///
/// # Errors
/// Where none does, or one that is too old.
pub fn check_systemd(facts: &Facts) -> Result<()> {
    let Some(systemd) = facts.systemd else {
        return Err(Error::new(NO_SYSTEMD, "systemd does not run this machine")
            .hint("on a machine without systemd try: lsm trial"));
    };
    if systemd < OLDEST_SYSTEMD {
        let cause = format!("systemd {systemd} is too old; it has to be {OLDEST_SYSTEMD} or newer");
        return Err(Error::new(OLD_SYSTEMD, cause).hint("Debian 12 and Ubuntu 24.04 have it"));
    }
    Ok(())
}

/// Holds that `path`, which the operator named for root to read or write, is in no folder that a signer's lnd fills.
///
/// # Errors
/// Where it is, by its name or through a link on the way.
pub fn check_place(path: &Path) -> Result<()> {
    let real = path.parent().and_then(|folder| folder.canonicalize().ok());
    let is_lnds = |path: &Path| {
        path.starts_with("/run/lsm") || path.starts_with("/var/lib/lsm") && !path.starts_with("/var/lib/lsm/bundle")
    };
    if is_lnds(path) || real.is_some_and(|real| is_lnds(&real)) {
        return Err(Error::new(LNDS_FOLDER, format!("{} is where signers keep their own", path.display()))
            .hint("name a place that root alone can write to"));
    }
    Ok(())
}

/// What `plan` would run into.
///
/// # Errors
/// A taken port, a wallet that is there, a password that is gone, a seed file that is there, a missing folder.
pub fn check_plan(plan: &Plan, spec: &Spec, wishes: &Wishes, history: &History) -> Result<()> {
    let layout = Layout::of(spec);
    if let Some(docker) = &spec.docker {
        let adopted = wishes.adopt.as_ref().and_then(|adoption| adoption.container.as_ref());
        docker::check(spec, docker, adopted)?;
        let made = |volume: &Object| {
            history.began_with(|first| matches!(first, Prior::Object { held, exists: false, .. } if held == volume))
        };
        docker::check_volume(docker, |volume| layout.receipt().exists() || made(volume))?;
        let wrote = |path: &Path| {
            history.began_with(|first| matches!(first, Prior::Path(at) if at.path == path && at.was == Was::Absent))
        };
        // What an older signer has there gives way to what takes it over, and comes back with it; not another password.
        let password = layout.keep("wallet-password", spec.sealed);
        let taken_over = |path: &Path| {
            let named = wishes.password.as_deref() == Some(path);
            wishes
                .adopt
                .as_ref()
                .is_some_and(|older| path != password.path() || named || older.password.as_deref() == Some(path))
        };
        docker::check_files(spec, |path| layout.receipt().exists() || wrote(path) || taken_over(path))?;
    }
    // An lnd in a container that is taken over stops before anything listens.
    if wishes.adopt.as_ref().is_none_or(|adoption| adoption.container.is_none()) {
        check_port(plan, spec, &layout)?;
    }
    let makes_wallet = plan.steps.iter().any(|step| matches!(step, Step::Wallet { .. }));
    let makes_password = plan.steps.iter().any(|step| matches!(step, Step::Password { .. }));
    let has_wallet = (makes_wallet || makes_password) && beneath::is_there(&layout.data(), &layout.database(spec))?;
    if makes_wallet && has_wallet && !history.kept_seed() && wishes.adopt.is_none() {
        let cause = format!("there is a wallet already: {}", layout.database(spec).display());
        return Err(Error::new(WALLET_EXISTS, cause)
            .hint("it is kept as it is; move its folder away, or install under another --instance"));
    }
    if makes_password && (has_wallet && wishes.adopt.is_none() || layout.receipt().exists()) {
        return Err(Error::new(PASSWORD_LOST, "the sealed password of this signer's wallet is gone")
            .hint("put it back from a backup; a new password would not open the wallet"));
    }
    if plan.steps.iter().any(|step| matches!(step, Step::Bundle { .. })) {
        // The plan makes the folder of its own place itself.
        if wishes.bundle != layout.bundle() {
            check_parent(&wishes.bundle)?;
        }
        check_bundle(&wishes.bundle, &layout)?;
    }
    if !makes_wallet {
        return Ok(());
    }
    let Some(path) = wishes.seed.file() else { return Ok(()) };
    check_parent(path)?;
    // A wallet that an earlier run began has its seed in that file; a new seed takes only a seed's place.
    if !has_wallet && facts::look(path) != Seen::Absent && !history.is_unused_seed(path) {
        return Err(Error::new(SEED_FILE_EXISTS, format!("{} is there already", path.display()))
            .hint("it is left as it is; name another file for the seed"));
    }
    Ok(())
}

/// Holds that the bundle of the signer of `layout` may go into `folder`: nobody else uses it, and it has no other signer's, which
/// whoever looks for that there would miss. Before there is a wallet to tell by, others are those of this host: what is left of
/// an earlier wallet gives its place away.
///
/// # Errors
/// Where it may not, or the folder or another signer's spec cannot be read.
pub fn check_bundle(folder: &Path, layout: &Layout) -> Result<()> {
    bundle::check_folder(folder, None)?;
    let Ok(there) = Bundle::read(&folder.to_string_lossy()) else { return Ok(()) };
    let is_of = |layout: &Layout| {
        plan::read_receipt(&layout.receipt()).map(|receipt| receipt.identity_pubkey == there.identity_pubkey())
    };
    let is_others = match is_of(layout) {
        Ok(is_own) => !is_own,
        Err(_) => read_specs(layout.places())?.iter().any(|other| is_of(&Layout::of(other)).unwrap_or(false)),
    };
    if !is_others {
        return Ok(());
    }
    let cause = format!("{} has the bundle of another signer, {}", folder.display(), there.identity_pubkey());
    Err(Error::new(OTHERS_BUNDLE, cause).hint("it is left as it is: name another folder, or move it away"))
}

fn check_port(plan: &Plan, spec: &Spec, layout: &Layout) -> Result<()> {
    let public = layout.public_unit(spec);
    let binds = |step: &Step| step.unit() == Some(&public) || matches!(step, Step::Container { .. });
    let binds = plan.steps.iter().any(binds);
    // This signer's own port: in either mode, one of its units holds it, and gives it up before it takes it again. Every
    // address of the host is this one too.
    let is_every = |address: SocketAddr| address.ip().is_unspecified();
    let was_there = read_spec(&layout.spec()).is_ok_and(|there| {
        let overlap = there.listen.ip() == spec.listen.ip() || is_every(there.listen) || is_every(spec.listen);
        there.listen.port() == spec.listen.port() && overlap
    });
    let holds = |unit: &String| facts::is_active(unit);
    let ours = was_there && (control::is_open(spec) || [layout.socket(), layout.service()].iter().any(holds));
    if binds && !ours && facts::is_taken(spec.listen) {
        return Err(Error::new(PORT_TAKEN, format!("something listens on {} already", spec.listen))
            .hint("find it with: ss -ltnp, or choose another with --listen"));
    }
    Ok(())
}

/// Holds that the folder for `path` is there.
fn check_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if folder.is_dir() => Ok(()),
        folder => {
            let folder = folder.unwrap_or(path).display();
            Err(Error::new(NO_FOLDER, format!("there is no folder {folder}"))
                .hint(format!("make it: mkdir -p {folder}")))
        }
    }
}
