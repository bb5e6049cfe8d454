//! Macaroons for the operator, the bundle's on another root key, and other root keys for all of them.

use super::service::wait_until_active;
use super::wallet::{Running, read_receipt};
use super::{bundle, guard, outside, service};
use crate::bundle::Bundle;
use crate::engine::{Engine, Object};
use crate::error::{Code, Error, Result};
use crate::host::beneath;
use crate::host::credential::Keep;
use crate::host::file::{self, Access};
use crate::host::process;
use crate::plan::door::{open, open_as_admin, read_certificate};
use crate::plan::register::{self, Entry, Held, Register};
use crate::plan::step::{Door, Guarded, Port, Runner, Step};
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use crate::signer::wallet::State;
use crate::signer::{self, Node};
use std::path::Path;
use time::OffsetDateTime;

const TAKEN: Code = Code::refused("E-MAC-014");
const STILL_GOOD: Code = Code::unverified("E-MAC-015");

/// A macaroon has some hundred bytes.
const LARGEST: u64 = 1 << 16;

/// Bakes a macaroon and writes it to a new file. It is registered first: what could be in somebody's hands has a name.
pub(super) fn bake(door: &Door, register: &Path, entry: &Entry, out: &Path) -> Result<()> {
    let admin = open_as_admin(door)?;
    let permissions = entry.role.permissions(&admin.calls()?)?;
    let known = Register::read(register)?;
    // It is there where an earlier try was cut off, and lnd may have made its root key by then.
    if known.find(entry.root_key).is_none() {
        if admin.root_key_ids()?.contains(&entry.root_key) {
            return Err(Error::new(TAKEN, format!("somebody else has made root key {} since", entry.root_key))
                .hint("run it again: it takes another one"));
        }
        file::replace(register, known.with(entry.clone()).render()?.as_bytes(), Access::mode(0o644))?;
    }
    let mut macaroon = admin.bake(&permissions, entry.root_key)?;
    for caveat in &entry.caveats {
        macaroon = macaroon.narrowed(caveat)?;
    }
    file::create(out, macaroon.expose(), Access::mode(0o600))
}

/// Exports the bundle that `step` speaks of, over lnd's socket; where a `port` is given its macaroon has to sign through that.
/// Without taproot channels earlier macaroons with MuSig2 are revoked.
pub(super) fn export(step: &Step, port: Option<&Port>) -> Result<()> {
    let Step::Bundle { folder, encrypt_to, door, receipt, hosts, taproot_channels, register, next, .. } = step else {
        return Ok(());
    };
    let least = || port.map_or_else(|| open(door), |port| dial(door, port));
    let next = match next {
        Some(next) if file::is_there(next)? => Some(read_certificate(next)?),
        _ => None,
    };
    let (admin, earlier) = (open_as_admin(door)?, Bundle::read(&folder.to_string_lossy()).ok());
    let (register, root_key) = settle_key(&admin, register.as_deref(), *taproot_channels)?;
    let terms =
        bundle::Terms { receipt: &read_receipt(receipt)?, hosts, taproot_channels: *taproot_channels, root_key, next };
    let bundle = bundle::export(&admin, least, read_certificate(&door.certificate)?, terms, earlier)?;
    match encrypt_to {
        Some(recipient) => bundle.write_encrypted(folder, &recipient.parse()?)?,
        None => bundle.write(folder)?,
    }
    if *taproot_channels { Ok(()) } else { bundle::revoke_taproot(&admin, &register) }
}

/// The register at `place`, and the root key in it that the bundle's macaroon hangs on: one of its own where an earlier bundle's
/// is to be revoked, or was, as after a role that changed in a rotation. It is registered before anything hangs on it.
fn settle_key(admin: &Node, place: Option<&Path>, taproot_channels: bool) -> Result<(Register, u64)> {
    let register = place.map_or_else(|| Ok(Register::default()), Register::read)?;
    if let Some(root_key) = register.bundle_key(taproot_channels) {
        return Ok((register, root_key));
    }
    let root_key = register.free_key(&admin.root_key_ids()?);
    let now = register::seconds(OffsetDateTime::now_utc());
    let register = register.with(Entry::of_bundle(taproot_channels, root_key, Held::Bundle, now));
    if let Some(place) = place {
        file::replace(place, register.render()?.as_bytes(), Access::mode(0o644))?;
    }
    Ok((register, root_key))
}

fn dial(door: &Door, port: &Port) -> Result<Node> {
    let endpoint: Endpoint = port.host.parse()?;
    Ok(Node::at(endpoint, port.address, &read_certificate(&door.certificate)?))
}

/// What other root keys take.
pub(super) struct Renewal<'a> {
    pub(super) runner: &'a Runner,
    pub(super) door: &'a Door,
    pub(super) password: &'a Keep,
    pub(super) unit: &'a str,
    pub(super) container: Option<&'a Object>,
    pub(super) port: &'a Port,
    pub(super) guard: Option<&'a Guarded>,
}

/// Stops lnd, has it replace its root keys while its wallet is locked, starts it, and holds it to what that is for: the old
/// admin macaroon is refused, and a signature comes through the port. Nothing that is good hangs on any key but lnd's own then.
pub(super) fn renew_root_keys(work: &Renewal<'_>) -> Result<()> {
    // It is not there where an earlier try was cut off.
    let old = beneath::read(&work.door.macaroon, LARGEST).ok().map(Macaroon::parse).transpose()?;
    let replaced = replace_root_keys(work);
    process::yield_to_interrupt();
    // Also where that failed: whatever root keys lnd has by now, nobody is served by one that does not run.
    let serves = start_again(work);
    replaced.and(serves)?;
    if let Some(old) = old {
        match open(work.door)?.with_macaroon(&old).root_key_ids() {
            Err(e) if e.code() == signer::MACAROON_REFUSED => {}
            Err(e) => return Err(e),
            Ok(_) => return Err(Error::new(STILL_GOOD, "lnd still accepts the old admin macaroon")),
        }
    }
    open_as_admin(work.door)?.delete_root_keys_but(&[0, register::GUARD])?;
    outside::sign_unless_frozen(work.door, work.port)
}

fn replace_root_keys(work: &Renewal<'_>) -> Result<()> {
    match work.container {
        Some(object) => Engine::open(&object.engine)?.stop(&object.name)?,
        None => service::systemctl("stop", work.unit)?,
    }
    let (running, node) = Running::locked(work.runner, work.door)?;
    let admin = node.renew_root_keys(&work.password.load()?)?;
    service::wait(&node, work.runner, |state| state == State::Active)?;
    if let Some(guarded) = work.guard {
        // lnd writes none to the disk before its next start.
        guard::replace(&node.with_macaroon(&admin), &guarded.keep)?;
    }
    running.end()
}

fn start_again(work: &Renewal<'_>) -> Result<()> {
    match work.container {
        Some(object) => {
            Engine::open(&object.engine)?.start(&object.name)?;
            wait_until_active(work.door, &Runner::Container { object: object.clone(), body: String::new() })?;
        }
        None => service::systemctl("start", work.unit)?,
    }
    // lnd wants it; this waits until lnd asks it.
    work.guard.map_or(Ok(()), |guarded| service::systemctl("start", &guarded.unit))
}
