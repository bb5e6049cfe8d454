//! The accepted updates, kept one after the other in the operator's folder and verified anew at each start.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::lock::Lock;
use crate::release::policy::Policy;
use crate::release::trust::{Trust, hold_own};
use crate::release::update::{self, Signed};
use crate::ui;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const BROKEN: Code = Code::unverified("E-UPDATE-020");
const CANNOT_LIST: Code = Code::lacking("E-UPDATE-021");

/// What is known with the updates kept in `folder`, at the time `now`.
///
/// # Errors
/// Where a kept update cannot be read, somebody else could have written it, or it does not hold any more.
pub(super) fn load(folder: &Path, trust: &Trust, now: OffsetDateTime) -> Result<Policy> {
    fold(Policy::shipped(), folder, trust, now)
}

fn fold(shipped: Policy, folder: &Path, trust: &Trust, now: OffsetDateTime) -> Result<Policy> {
    update::check_trust(&shipped, trust)?;
    let (mut policy, newest_shipped) = (shipped.clone(), shipped.counter);
    for kept in Kept::list(&updates_in(folder))? {
        let signed = kept.read()?;
        match update::recall(&signed, &policy, newest_shipped, trust, now) {
            Ok(after) if after.updates.last().is_some_and(|u| u.counter == kept.counter) => policy = after,
            Ok(_) => return Err(broken(&kept.path, "it has another counter than its name says")),
            // The shipped policy is newer and speaks in its place.
            Err(_) if kept.counter <= newest_shipped => {}
            Err(e) => return Err(broken(&kept.path, e.cause()).because(e)),
        }
    }
    Ok(policy)
}

/// Keeps an update among the accepted ones of `folder`. Another lsm may be at it: it is judged again, alone.
///
/// # Errors
/// Where it may not be accepted, or cannot be written.
pub fn keep(folder: &Path, signed: &Signed, now: OffsetDateTime) -> Result<()> {
    let updates = updates_in(folder);
    make_open_folder(folder)?;
    hold_own(folder)?;
    make_open_folder(&updates)?;
    hold_own(&updates)?;
    let _lock = Lock::take(&updates.join(".lock"), || ui::note("waiting for another lsm"))?;
    let trust = Trust::load(folder)?;
    let policy = load(folder, &trust, now)?;
    if policy.kept(signed).is_some() {
        return Ok(());
    }
    let judged = update::judge(signed, &policy, &trust, now)?;
    let place = place_of(folder, judged.accepted.counter);
    // A signature without its text is nothing; the text makes it one.
    file::replace(&signature_of(&place), &signed.signature, Access::mode(0o644))?;
    file::create(&place, &signed.text, Access::mode(0o644))
}

/// Where the update with this counter is kept.
pub fn place_of(folder: &Path, counter: u64) -> PathBuf {
    updates_in(folder).join(format!("{counter:08}.toml"))
}

fn updates_in(folder: &Path) -> PathBuf {
    folder.join("updates")
}

fn signature_of(place: &Path) -> PathBuf {
    place.with_extension("toml.minisig")
}

/// A folder that is there keeps its access: it is the operator's.
fn make_open_folder(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), file::make_folders)?;
    file::make_folder(path, Access::mode(0o755))
}

/// One kept update, not yet read.
struct Kept {
    counter: u64,
    path: PathBuf,
}

impl Kept {
    /// All of a folder, in the order of their counters; none where there is no such folder.
    fn list(folder: &Path) -> Result<Vec<Self>> {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        hold_own(folder)?;
        let cannot = |e: std::io::Error| Error::new(CANNOT_LIST, format!("cannot read {}: {e}", folder.display()));
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // The lock, signatures, and what a write that was cut off left behind.
            let Some(number) = name.strip_suffix(".toml").filter(|_| !name.starts_with('.')) else { continue };
            let digits = number.len() == 8 && number.bytes().all(|b| b.is_ascii_digit());
            match number.parse() {
                Ok(counter) if digits => all.push(Self { counter, path }),
                _ => return Err(broken(&path, "its name is not eight digits")),
            }
        }
        all.sort_by_key(|kept| kept.counter);
        Ok(all)
    }

    fn read(&self) -> Result<Signed> {
        hold_own(&self.path)?;
        let signature = signature_of(&self.path);
        if !signature.exists() {
            return Err(broken(&self.path, "its signature is missing"));
        }
        hold_own(&signature)?;
        Signed::read(&self.path)
    }
}

fn broken(path: &Path, why: &str) -> Error {
    let shown = path.display();
    Error::new(BROKEN, format!("the accepted update {shown} does not hold any more: {why}"))
        .hint(format!("if it should be gone: rm {shown} {shown}.minisig; then give the newest to lsm release update"))
}
