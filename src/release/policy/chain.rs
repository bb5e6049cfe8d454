//! The accepted updates, kept one after the other in the operator's folder and verified anew at each start.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::lock::Lock;
use crate::release::policy::Policy;
use crate::release::policy::judge;
use crate::release::policy::signed::Signed;
use crate::release::trust::{Trust, hold_own};
use crate::ui;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const BROKEN: Code = Code::unverified("E-UPDATE-020");
const CANNOT_LIST: Code = Code::lacking("E-UPDATE-021");

/// What is known with the updates kept in `folder`, at the time `now`.
///
/// # Errors
/// Where a kept update cannot be read, somebody else could have written it, or it does not hold any more.
pub(in crate::release) fn load(folder: &Path, trust: &Trust, now: OffsetDateTime) -> Result<Policy> {
    fold(Policy::shipped(), folder, trust, now)
}

fn fold(shipped: Policy, folder: &Path, trust: &Trust, now: OffsetDateTime) -> Result<Policy> {
    judge::check_trust(&shipped, trust)?;
    let (mut policy, newest_shipped) = (shipped.clone(), shipped.counter);
    for kept in Kept::list(&updates_in(folder))? {
        let signed = kept.read()?;
        match judge::recall(&signed, &policy, newest_shipped, trust, now) {
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
    let judged = judge::judge(signed, &policy, &trust, now)?;
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
        if !file::is_there(folder)? {
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
        if !file::is_there(&signature)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::pins::{Arch, Origin, Status};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use minisign::KeyPair;
    use time::Duration;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-12-01 12:00 UTC);

    fn trust_in(key: &KeyPair) -> Trust {
        let mut trust = Trust::shipped();
        trust.update_keys.push(key.pk.to_base64());
        trust
    }

    fn id(key: &KeyPair) -> String {
        format!("{:016X}", u64::from_le_bytes(key.pk.keynum().try_into().unwrap()))
    }

    fn sign(key: &KeyPair, counter: u64, expires: &str, rest: &str) -> Signed {
        let text = format!("counter = {counter}\nexpires = \"{expires}\"\nkey = \"{}\"\n{rest}", id(key)).into_bytes();
        let signature = minisign::sign(None, &key.sk, std::io::Cursor::new(&text), None, None).unwrap();
        Signed { text, signature: signature.into_string().into_bytes() }
    }

    /// lnd 0.22.0, built with a Go of its own, takes the place of 0.21.3.
    fn newer_release() -> String {
        let module = format!("h1:{}", STANDARD.encode([1; 32]));
        format!(
            "[toolchain.\"1.27.0\"]\namd64 = \"{module}\"\n\
             [[release]]\nversion = \"v0.21.3-beta\"\nstatus = \"outdated\"\npinned = \"2026-11-22\"\nreason = \"x\"\n\
             [[release]]\nversion = \"v0.22.0-beta\"\nstatus = \"current\"\npinned = \"2026-11-23\"\n\
             [release.source]\ngo = \"1.27.0\"\ncommit = \"{}\"\ntime = 1\nmodule = \"{module}\"\n\
             [release.archive.amd64]\nsha256 = \"{}\"\n",
            "ab".repeat(20),
            "ab".repeat(32),
        )
    }

    fn lay(folder: &Path, counter: u64, signed: &Signed) {
        let place = place_of(folder, counter);
        make_open_folder(&updates_in(folder)).unwrap();
        file::replace(&place, &signed.text, Access::mode(0o644)).unwrap();
        file::replace(&signature_of(&place), &signed.signature, Access::mode(0o644)).unwrap();
    }

    #[test]
    fn the_pins_of_an_expired_update_end_and_its_judgements_stay() {
        let (dir, key) = (tempfile::tempdir().unwrap(), KeyPair::generate_unencrypted_keypair().unwrap());
        let trust = trust_in(&key);
        lay(dir.path(), 2, &sign(&key, 2, "2026-12-31", &newer_release()));
        let at = |now| load(dir.path(), &trust, now).unwrap();
        let policy = at(datetime!(2026-12-31 23:59:59 UTC));
        assert_eq!(policy.newest().unwrap().version, "v0.22.0-beta");
        policy.newest().unwrap().live_pin(Arch::Amd64).unwrap();
        let later = datetime!(2027-01-01 00:00 UTC);
        let policy = at(later);
        assert_eq!(policy.newest().unwrap_err().code().id, "E-RELEASE-008");
        assert_eq!(policy.find("v0.21.3-beta").unwrap().status, Status::Outdated);
        let release = policy.find("v0.22.0-beta").unwrap();
        assert_eq!(release.pin(Arch::Amd64).unwrap().origin, Origin::Update(2));
        assert_eq!(release.live_pin(Arch::Amd64).unwrap_err().code().id, "E-RELEASE-006");
        assert_eq!(release.source.as_ref().unwrap().hold_live().unwrap_err().code().id, "E-RELEASE-006");
        assert!(policy.toolchain("1.27.0", Arch::Amd64).unwrap().expired);
        // The next one says the same again, and its own time counts.
        lay(dir.path(), 3, &sign(&key, 3, "2027-02-01", &newer_release()));
        let policy = at(later);
        let release = policy.newest().unwrap();
        assert_eq!(release.live_pin(Arch::Amd64).unwrap().origin, Origin::Update(3));
        release.source.as_ref().unwrap().hold_live().unwrap();
        assert!(!policy.toolchain("1.27.0", Arch::Amd64).unwrap().expired);
    }

    #[test]
    fn updates_that_cannot_be_seen_are_not_taken_for_none() {
        let (dir, trust) = (tempfile::tempdir().unwrap(), Trust::shipped());
        load(dir.path(), &trust, NOW).unwrap();
        std::os::unix::fs::symlink("nowhere", updates_in(dir.path())).unwrap();
        assert_eq!(load(dir.path(), &trust, NOW).unwrap_err().code().id, "E-TRUST-002");
    }

    #[test]
    fn a_newer_lsm_speaks_in_place_of_the_updates_before_it() {
        let [key, next] = std::array::from_fn(|_| KeyPair::generate_unencrypted_keypair().unwrap());
        let dir = tempfile::tempdir().unwrap();
        // A version that the newer lsm has with another tail is no reason to forget the rest.
        let tail =
            "[[release]]\nversion = \"v0.21.0-rc1\"\nstatus = \"refused\"\npinned = \"2026-11-23\"\nreason = \"x\"\n";
        let adds = format!("keys.add = [{:?}]\n{}{tail}", next.pk.to_base64(), newer_release());
        lay(dir.path(), 2, &sign(&key, 2, "2026-12-31", &adds));
        let newer = Policy { counter: 9, ..Policy::shipped() };
        let policy = fold(newer.clone(), dir.path(), &trust_in(&key), NOW).unwrap();
        assert!(policy.find("v0.22.0-beta").is_err(), "a superseded update pins nothing");
        let stricter = policy.find("v0.21.3-beta").unwrap();
        assert_eq!((stricter.status, stricter.judged), (Status::Outdated, Origin::Update(2)));
        assert_eq!((policy.counter, policy.updates[0].superseded), (9, true));
        // The key that it added goes on signing; the counter to be above is the shipped one.
        for (counter, code) in [(3, Some("E-UPDATE-007")), (9, Some("E-UPDATE-007")), (10, None)] {
            let judged = judge::judge(&sign(&next, counter, "2026-12-31", ""), &policy, &trust_in(&key), NOW);
            assert_eq!(judged.err().map(|e| e.code().id), code, "{counter}");
        }
        // Where the newer lsm revoked its key it says nothing more; an older lsm stops there.
        let mut revoked = trust_in(&key);
        revoked.revoked.push(id(&key));
        let policy = fold(newer, dir.path(), &revoked, NOW).unwrap();
        assert_eq!(policy.find("v0.21.3-beta").unwrap().status, Status::Current);
        assert!(policy.updates.is_empty());
        assert_eq!(load(dir.path(), &revoked, NOW).unwrap_err().code(), BROKEN);
    }

    #[test]
    fn a_higher_oldest_refuses_what_was_known() {
        let (dir, key) = (tempfile::tempdir().unwrap(), KeyPair::generate_unencrypted_keypair().unwrap());
        lay(dir.path(), 2, &sign(&key, 2, "2026-12-31", "oldest = { version = [0, 21, 1], reason = \"gone\" }\n"));
        // Superseded or not: it is stricter.
        for counter in [1, 9] {
            let shipped = Policy { counter, ..Policy::shipped() };
            let policy = fold(shipped, dir.path(), &trust_in(&key), NOW + Duration::days(100)).unwrap();
            let status = |v: &str| policy.find(v).unwrap().status;
            assert_eq!(status("v0.21.0-beta"), Status::Refused);
            assert_eq!(status("v0.21.1-beta"), Status::NeedsAcceptRisk);
            assert_eq!(policy.find("v0.20.9-beta").unwrap_err().code().id, "E-RELEASE-004");
        }
    }
}
