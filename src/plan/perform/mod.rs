//! How each step is performed. Every one can be done again without harm.

mod bundle;
mod certificate;
mod guard;
mod least;
mod macaroon;
mod machine;
mod outside;
mod password;
mod remote;
mod restore;
mod service;
mod upgrade;
mod wallet;

use crate::engine::{Engine, Object};
use crate::error::{Code, Error, Result};
use crate::host::account::Accounts;
use crate::host::credential::Keep;
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access as FileAccess};
use crate::host::program::Program;
use crate::host::rights::Rights;
use crate::host::snapshot;
use crate::host::sysctl;
use crate::host::user::{self, Owner};
use crate::plan::door::open_as_admin;
use crate::plan::event::Event;
use crate::plan::journal::Journal;
use crate::plan::step::{Access, LNCLI_MODE, Runner, Step, hash_text};
use crate::release::Installed;
use crate::secret::Secret;
use crate::ui;
use crate::ui::progress::Progress;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

pub use certificate::make as make_certificate;
pub use machine::{GivenSeed, Machine, Told};
pub use outside::prove_outside;
pub use remote::{Remote, export_remote};
pub use service::{systemctl, wait_until_active};
pub use upgrade::check_snapshot;
pub use wallet::{Receipt, read_receipt, stop};

const NO_USER: Code = Code::lacking("E-PLAN-010");
const NO_ARCHIVE: Code = Code::refused("E-PLAN-011");
const OTHER_ARCHIVE: Code = Code::refused("E-PLAN-014");
const NO_SELF: Code = Code::lacking("E-PLAN-013");
const BAD_PASSWORD: Code = Code::usage("E-PLAN-012");

/// lnd's shortest wallet password, in bytes (walletunlocker/service.go, `ValidatePassword`).
const SHORTEST_PASSWORD: usize = 8;

/// The longest file of one that is read, in bytes; lnd knows no limit.
const LONGEST_PASSWORD: u64 = 4096;

pub(super) fn perform(step: &Step, journal: &mut Journal, machine: &Machine<'_>, shown: &Progress) -> Result<()> {
    match step {
        Step::Folder { path, access, .. } => file::make_folder(path, resolve(access)?),
        Step::Text { path, access, text } => file::replace(path, text.as_bytes(), resolve(access)?),
        Step::Lsm { path, .. } => copy_self(path),
        Step::Release { version, folder, lnd_mode, .. } => unpack(version, folder, *lnd_mode, journal, machine),
        Step::Users { file, text, .. } => {
            write_list(file, text)?;
            Program::new("systemd-sysusers").arg(file).run()?;
            Accounts::default().sync()
        }
        Step::Folders { file, text, .. } => {
            write_list(file, text)?;
            Program::new("systemd-tmpfiles").arg("--create").arg(file).run().map(drop)
        }
        Step::Tighten { path, access } => file::tighten(path, resolve(access)?),
        Step::Close { path, mode, to_root } => close(path, *mode, *to_root),
        Step::Sysctl { file, text, settings } => set_kernel(file, text, settings),
        Step::Reload { unit, check, .. } => service::reload(unit, check),
        Step::Remove { path } => file::remove(path).map(drop),
        Step::Password { keep, from } => keep_password(keep, from.as_deref()),
        Step::Certificate { path, key, names } => certificate::make(path, key, names),
        Step::ReloadUnits { after, .. } => service::reload_units(after.iter().map(PathBuf::as_path)),
        Step::Firewall { unit, file, text, .. } => service::load(unit, file, text),
        Step::Cut { address, peers, .. } => service::cut(*address, peers),
        Step::Service { unit, link, anew, .. } => service::run(unit, link, *anew),
        Step::Retire { unit, .. } => service::retire(unit),
        Step::Restore { to } => restore::restore(to, journal.kept()),
        Step::Start { process, door } => {
            service::start(process)?;
            wait_until_active(door, &Runner::Process(process.clone()))
        }
        Step::Image { engine, image } => Engine::open(engine)?.load(image),
        Step::Network { object, bounds } => Engine::open(&object.engine)?.make_network(&object.name, bounds),
        Step::Volume { object } => Engine::open(&object.engine)?.make_volume(&object.name),
        Step::Container { object, body, door, .. } => {
            let engine = Engine::open(&object.engine)?;
            engine.replace(&object.name, body, Some(&hash_text(body)))?;
            engine.start(&object.name)?;
            wait_until_active(door, &Runner::Container { object: object.clone(), body: String::new() })
        }
        Step::Adopt { from, container, to, owner, .. } => {
            if let Some(object) = container {
                Engine::open(&object.engine)?.stop(&object.name)?;
            }
            let owner = user::find(owner)?.ok_or_else(|| Error::new(NO_USER, format!("there is no user {owner}")))?;
            snapshot::copy(from, &from.join("data"), to, owner)?;
            // An engine gives a volume to its user while there is nothing in it.
            file::tighten(to.parent().unwrap_or(to), FileAccess::owned(0o700, owner))
        }
        Step::Wallet { runner, door, password, seed, data, database, receipt, network, .. } => {
            let work = wallet::Work { runner, door, password, seed, data, database, receipt, network: *network };
            wallet::create(&work, journal, machine, shown)
        }
        Step::Snapshot { database, door, bundle, .. } => upgrade::snapshot(database, door, bundle, machine),
        Step::ChangePassword { runner, door, place, aside, database, receipt } => {
            let work = password::Work { runner, door, place, aside, database, receipt };
            password::change(&work, shown)
        }
        Step::Prove { version, door, port, copy, .. } => upgrade::prove(version, door, copy, port, machine),
        Step::Refresh { bundle, copy, .. } => {
            if let Step::Bundle { folder, door, taproot_channels, .. } = &**bundle
                && upgrade::asks_for_others(door, copy, *taproot_channels)?
            {
                perform(bundle, journal, machine, shown)?;
                machine.told.borrow_mut().bundle = Some(folder.clone());
            }
            Ok(())
        }
        Step::Discard { folders, objects } => {
            folders.iter().try_for_each(|folder| file::clear(folder))?;
            let remove = |object: &Object| Engine::open(&object.engine)?.remove(object.object, &object.name);
            objects.iter().try_for_each(remove)
        }
        Step::Bundle { .. } => macaroon::export(step, None),
        Step::Rotate { bundle, port, .. } => macaroon::export(bundle, Some(port)),
        Step::Bake { door, register, entry, out } => macaroon::bake(door, register, entry, out),
        // One that is not there is as good as deleted.
        Step::Revoke { door, root_key } => open_as_admin(door)?.delete_root_key(*root_key).map(drop),
        Step::RenewRootKeys { runner, door, password, unit, container, port, guard } => {
            let (container, guard) = (container.as_ref(), guard.as_ref());
            macaroon::renew_root_keys(&macaroon::Renewal { runner, door, password, unit, container, port, guard })
        }
        Step::GuardMacaroon { runner, door, password, keep, unit } => {
            let work = guard::Work { runner, door, password, keep, unit };
            guard::bake(&work, shown)
        }
        Step::Switch { path, key, next, next_key } => certificate::switch(path, key, next, next_key),
        Step::Sign { door, port, .. } => outside::sign_unless_frozen(door, port),
    }
}

/// Gives no more than `mode`, whatever was changed since it was looked at.
fn close(path: &Path, mode: u32, to_root: bool) -> Result<()> {
    let Some(mut rights) = Rights::read(path)? else { return Ok(()) };
    rights.mode &= mode;
    rights.attributes.clear();
    if to_root {
        // What somebody else made would run as root.
        rights.mode &= !0o6000;
        (rights.uid, rights.gid) = (Owner::ROOT.uid, Owner::ROOT.gid);
    }
    rights.give(path)
}

/// What the kernel does not take now it takes at the next boot: the file stands.
fn set_kernel(file: &Path, text: &str, settings: &[(PathBuf, String)]) -> Result<()> {
    file::make_folders(file.parent().unwrap_or(Path::new("/")))?;
    file::replace(file, text.as_bytes(), resolve(&Access::mode(0o644))?)?;
    for (setting, value) in settings {
        if let Err(e) = sysctl::write(setting, value) {
            ui::note(&format!("{}; it takes effect at the next boot", e.cause()));
        }
    }
    Ok(())
}

fn resolve(access: &Access) -> Result<FileAccess> {
    let Some(name) = &access.owner else {
        let mine = FileAccess::mode(access.mode);
        // Somebody may have given away what is root's.
        return Ok(if user::is_root() { FileAccess::owned(access.mode, Owner::ROOT) } else { mine });
    };
    let unknown = |what: &str, name: &str| Error::new(NO_USER, format!("there is no {what} {name}"));
    let mut owner = user::find(name)?.ok_or_else(|| unknown("user", name))?;
    if let Some(name) = &access.group {
        owner.gid = user::find_group(name)?.ok_or_else(|| unknown("group", name))?;
    }
    Ok(FileAccess::owned(access.mode, owner))
}

/// What systemd makes users or folders of, now and at every boot: for everybody to read.
fn write_list(file: &Path, text: &str) -> Result<()> {
    file::replace(file, text.as_bytes(), resolve(&Access::mode(0o644))?)
}

fn unpack(version: &str, folder: &Path, lnd_mode: u32, journal: &mut Journal, machine: &Machine<'_>) -> Result<()> {
    let archive = machine.archive.ok_or_else(|| Error::new(NO_ARCHIVE, "there is no verified lnd to unpack"))?;
    // It was verified before the plan was made for good; what is wanted may be another version by now.
    let had = &archive.release().version;
    if had != version {
        let cause = format!("the verified archive is lnd {had}, and {version} is wanted by now");
        return Err(Error::new(OTHER_ARCHIVE, cause).hint("another lsm changed what is wanted; run it again"));
    }
    let installed = Installed::now(archive);
    journal.write(Event::Evidence { archive: json!(installed) })?;
    file::make_folder(folder, FileAccess::mode(0o755))?;
    // First, since the step counts as done by the programs alone: a power cut must not leave them without.
    installed.keep(folder)?;
    archive.unpack(folder, [lnd_mode, LNCLI_MODE], Durable::Yes)
}

/// The running program, not the file of its name: that may have been replaced since.
fn copy_self(path: &Path) -> Result<()> {
    let cannot = |e: std::io::Error| Error::new(NO_SELF, format!("cannot copy lsm: {e}"));
    let mut draft = Draft::begin(path, FileAccess::mode(0o755))?;
    let mut running = File::open("/proc/self/exe").map_err(cannot)?;
    std::io::copy(&mut running, &mut draft).map_err(cannot)?;
    draft.keep(Durable::Yes)
}

fn keep_password(keep: &Keep, from: Option<&Path>) -> Result<()> {
    let password = match from {
        None => Secret::generate_password(),
        Some(path) => read_password(path)?,
    };
    keep_secret(keep, password)
}

/// Stores a secret, and says so where less opens it than this machine could ask for.
fn keep_secret(keep: &Keep, secret: Secret) -> Result<()> {
    if let Some(why) = keep.store(secret)? {
        let why = std::error::Error::source(&why).map_or_else(|| why.cause().to_owned(), ToString::to_string);
        ui::note(&format!(
            "{} is sealed to the host's key alone: the TPM cannot be used ({why})",
            keep.path().display()
        ));
    }
    Ok(())
}

/// Reads the operator's own password: one line, its end not counted.
///
/// # Errors
/// Where it cannot be read, lnd would refuse it, or would read another one: of the file that unlocks the wallet lnd takes
/// every carriage return and line feed off the end (lnd.go, `bytes.TrimRight`).
pub fn read_password(path: &Path) -> Result<Secret> {
    let bytes = Secret::new(file::read(path, LONGEST_PASSWORD)?);
    let line = bytes.expose().strip_suffix(b"\n").unwrap_or(bytes.expose());
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() < SHORTEST_PASSWORD || line.contains(&b'\n') || line.ends_with(b"\r") {
        return Err(Error::new(
            BAD_PASSWORD,
            format!("the password in {} is not one line of 8 bytes or more", path.display()),
        ));
    }
    Ok(Secret::new(line.to_vec()))
}
