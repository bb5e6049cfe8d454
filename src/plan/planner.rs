//! From the steps that a backend wants and the facts to those that are still to be done. Pure: it changes nothing.

use crate::bundle::Bundle;
use crate::engine::{Engine, Image, Object};
use crate::error::Result;
use crate::facts::{Facts, Seen, filter, units};
use crate::host::file;
use crate::plan::door::read_certificate;
use crate::plan::perform::read_receipt;
use crate::plan::register::Register;
use crate::plan::step::{Access, Step, hash_text};
use crate::signer::certificate::Certificate;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The steps that are to be done, in order; none where the machine is as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// True where nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Adds to `facts` all that `steps` speak of.
pub fn observe(facts: Facts, steps: &[Step]) -> Facts {
    let paths: Vec<PathBuf> = steps.iter().flat_map(Step::paths).collect();
    let users = steps.iter().flat_map(Step::users);
    let mut facts = facts.observe(&paths, users, steps.iter().flat_map(Step::units));
    for step in steps {
        match step {
            Step::Firewall { text, .. } => facts.filter = filter::is_live(text),
            Step::Folders { closed, .. } => facts.observe_closed(closed),
            Step::Image { .. } | Step::Network { .. } | Step::Volume { .. } | Step::Container { .. }
                if is_held(step) =>
            {
                facts.held.extend(step.object());
            }
            Step::Snapshot { database, .. } if database.is_given_over() => {
                facts.given_over.insert(database.swap.clone());
            }
            Step::Bundle { folder, .. } if is_exported(step).unwrap_or(false) => {
                facts.bundles.insert(folder.clone());
            }
            Step::Service { unit, program: Some(program), .. } if units::runs_other(unit, program) => {
                facts.stale.insert(unit.clone());
            }
            _ => {}
        }
    }
    facts
}

/// True where the engine holds what the step makes; not where it cannot be asked, which the step itself will say.
fn is_held(step: &Step) -> bool {
    if let Step::Network { object, bounds } = step {
        return Engine::open(&object.engine)
            .and_then(|engine| engine.holds_network(&object.name, bounds))
            .unwrap_or(false);
    }
    let look = |object: Object| Engine::open(&object.engine).ok()?.find(object.object, &object.name).ok()?;
    let Some(found) = step.object().and_then(look) else { return false };
    let is_of = |image: &Image, number: &String| image.numbers().is_ok_and(|numbers| numbers.contains(number));
    match step {
        Step::Image { image, .. } => is_of(image, &found.mark),
        Step::Container { body, image, .. } => {
            found.runs && found.mark == hash_text(body) && is_of(image, &found.image)
        }
        _ => true,
    }
}

/// True where the folder has this signer's bundle, with what it would be exported with now: one of before a rotation or a renewal
/// is dead, or about to be, and what is there may be another signer's.
///
/// # Errors
/// Where there is none that reads, or what it is held against does not.
fn is_exported(step: &Step) -> Result<bool> {
    let Step::Bundle { folder, door, receipt, hosts, taproot_channels, register, next, .. } = step else {
        return Ok(false);
    };
    let bundle = Bundle::read(&folder.to_string_lossy())?;
    let register = register.as_deref().map_or_else(|| Ok(Register::default()), Register::read)?;
    let root_key = register.bundle_key(*taproot_channels).map(|key| key.to_string());
    let mut pins = vec![read_certificate(&door.certificate)?];
    if let Some(next) = next
        && file::is_there(next)?
    {
        pins.push(read_certificate(next)?);
    }
    let shown = |pins: &[Certificate]| pins.iter().map(Certificate::fingerprint).collect::<Vec<_>>();
    let answers_at: Vec<String> = bundle.about.rpchost.iter().map(ToString::to_string).collect();
    Ok(bundle.identity_pubkey() == read_receipt(receipt)?.identity_pubkey
        && root_key.as_deref() == Some(bundle.macaroon.root_key_id())
        && shown(&bundle.pins()) == shown(&pins)
        && answers_at == *hosts)
}

/// Keeps of `wanted` what `facts` do not show to be done.
///
/// `unfinished` says that an earlier plan was cut off: then everything that follows from a changed file is done again,
/// since the change may have been the last thing that happened.
pub fn make_plan(wanted: Vec<Step>, facts: &Facts, unfinished: bool) -> Plan {
    let judge = Judge { facts, unfinished, finished: is_finished(&wanted, facts) };
    let mut steps: Vec<Step> = Vec::new();
    for mut step in wanted {
        let changed: Vec<PathBuf> = steps.iter().flat_map(|step| judge.changes(step)).collect();
        if !judge.is_done(&step, &changed) {
            let is_left = |unit: &str| steps.iter().any(|before| before.leaves_running(unit));
            let runs = matches!(&step, Step::Service { unit, after, .. }
                if judge.runs(&step, after, &changed) || is_left(unit));
            if let Step::Service { anew, .. } = &mut step {
                *anew = !runs;
            }
            steps.push(step);
        }
    }
    Plan { steps }
}

/// The last service is enabled after everything else: where its link is, the rest was done.
fn is_finished(wanted: &[Step], facts: &Facts) -> bool {
    let last = wanted.iter().rev().find_map(|step| match step {
        Step::Service { link, .. } => Some(link),
        _ => None,
    });
    last.is_some_and(|link| *facts.at(link) == Seen::Other)
}

struct Judge<'a> {
    facts: &'a Facts,
    unfinished: bool,
    finished: bool,
}

impl Judge<'_> {
    /// The paths whose change is felt by what uses them.
    fn changes(&self, step: &Step) -> Vec<PathBuf> {
        match step {
            // How a program runs depends on its mode (prctl(2), PR_SET_DUMPABLE); what is read or entered is the same.
            Step::Tighten { path, access } => {
                let is_program = matches!(self.facts.at(path), Seen::File { .. }) && access.mode & 0o111 != 0;
                if is_program { vec![path.clone()] } else { vec![] }
            }
            // Who uses one that is there goes on using it.
            Step::Folders { folders, .. } => folders.iter().filter(|path| !self.is_there(path)).cloned().collect(),
            _ => step.paths(),
        }
    }

    fn is_done(&self, step: &Step, changed: &[PathBuf]) -> bool {
        match step {
            Step::Folder { path, access, .. } => self.is_folder(path, access),
            // Not its access: a step of its own gives that back, and nobody has to read the file again.
            Step::Text { path, text, .. } => self.is_content(path, &hash_text(text)),
            Step::Lsm { path, sha256 } => self.is_file(path, &Access::mode(0o755), sha256),
            Step::Release { folder, lnd_sha256, lncli_sha256, .. } => {
                // Not the modes: a step of their own gives them back without the archive.
                [("lnd", lnd_sha256), ("lncli", lncli_sha256)].into_iter().all(|(name, pinned)| {
                    let path = folder.join(name);
                    pinned.as_ref().map_or_else(|| self.is_there(&path), |pin| self.is_content(&path, pin))
                })
            }
            Step::Users { file, text, names } => {
                names.iter().all(|name| self.facts.users.contains_key(name)) && self.is_content(file, &hash_text(text))
            }
            Step::Folders { file, text, folders, closed } => {
                self.is_content(file, &hash_text(text))
                    && folders.iter().all(|path| self.is_there(path))
                    && !closed.iter().any(|path| self.facts.open.contains(path))
                    && !self.unfinished
            }
            // What is made anew is made with its access.
            Step::Tighten { path, .. } if changed.contains(path) => true,
            Step::Tighten { path, access } => match self.facts.at(path) {
                Seen::Folder { .. } => self.is_folder(path, access),
                Seen::File { mode, uid, gid, .. } => self.is_access(access, *mode, *uid, *gid),
                Seen::Absent | Seen::Hidden => true,
                Seen::Other => false,
            },
            Step::Remove { path } => *self.facts.at(path) == Seen::Absent,
            Step::Password { keep, .. } | Step::GuardMacaroon { keep, .. } => self.is_there(keep.path()),
            Step::Certificate { path, key, names } => {
                !changed.contains(path)
                    && self.is_there(key.path())
                    && self.facts.certificates.get(path).is_some_and(|there| there == names)
            }
            Step::ReloadUnits { after, of } => {
                !of.iter().any(|unit| self.facts.unread.contains(unit)) && !self.follows(after, changed)
            }
            Step::Firewall { link, file, text, after, .. } => {
                self.is_file(file, &Access::mode(0o644), &hash_text(text))
                    && self.facts.filter != Some(false)
                    && self.is_enabled(link)
                    && self.runs(step, after, changed)
            }
            Step::Service { link, after, .. } => self.is_enabled(link) && self.runs(step, after, changed),
            Step::Cut { unit, after, .. } => !self.facts.active.contains(unit) || !self.follows(after, changed),
            Step::Adopt { receipt, .. } | Step::Wallet { receipt, .. } => self.is_there(receipt),
            Step::Retire { link, unit } => *self.facts.at(link) == Seen::Absent && !self.facts.active.contains(unit),
            Step::Start { .. } | Step::Restore { .. } | Step::ChangePassword { .. } => false,
            Step::Network { .. } | Step::Volume { .. } => self.is_held(step),
            Step::Image { image, .. } => {
                let programs: Vec<PathBuf> = image.programs.iter().map(|(path, ..)| path.clone()).collect();
                self.is_held(step) && !self.follows(&programs, changed)
            }
            Step::Container { after, .. } => self.is_held(step) && !self.follows(after, changed),
            // They come of a finding, and are there because of it.
            Step::Close { .. } | Step::Sysctl { .. } => false,
            Step::Reload { after, .. } => !self.follows(after, changed),
            // The other lnd may have it already: the copy that was made before stays the one to go back to.
            Step::Snapshot { database, .. } => self.facts.given_over.contains(&database.swap),
            Step::Prove { after, .. }
            | Step::Refresh { after, .. }
            | Step::Rotate { after, .. }
            | Step::Sign { after, .. } => !self.follows(after, changed),
            // They come of what lnd was asked, and are there because of it.
            Step::Bake { .. } | Step::Revoke { .. } | Step::RenewRootKeys { .. } => false,
            // The next one may be made by this very plan.
            Step::Switch { next, next_key, .. } => {
                !self.is_there(next) && !self.is_there(next_key.path()) && !changed.contains(next)
            }
            Step::Discard { folders, .. } => {
                folders.iter().all(|folder| *self.facts.at(folder) == Seen::Absent && !changed.contains(folder))
            }
            Step::Bundle { folder, handed, after, .. } => {
                (*handed || self.is_exported(folder)) && !self.follows(after, changed)
            }
        }
    }

    fn is_held(&self, step: &Step) -> bool {
        step.object().is_some_and(|object| self.facts.held.contains(&object))
    }

    fn is_exported(&self, folder: &Path) -> bool {
        match self.facts.at(&folder.join("bundle.json")) {
            // Who may not read it.
            Seen::Hidden | Seen::File { sha256: None, .. } => self.finished,
            _ => self.facts.bundles.contains(folder),
        }
    }

    fn is_enabled(&self, link: &Path) -> bool {
        *self.facts.at(link) == Seen::Other
    }

    /// True where the step's unit is active, with what its files say now.
    fn runs(&self, step: &Step, after: &[PathBuf], changed: &[PathBuf]) -> bool {
        let is_active = step.unit().is_some_and(|unit| self.facts.active.contains(unit));
        let is_old = |unit: &&str| self.facts.unread.contains(*unit) || self.facts.stale.contains(*unit);
        is_active && !step.units().iter().any(is_old) && !self.follows(after, changed)
    }

    fn is_there(&self, path: &Path) -> bool {
        match self.facts.at(path) {
            Seen::Absent => false,
            Seen::Hidden => self.finished,
            _ => true,
        }
    }

    fn is_file(&self, path: &Path, access: &Access, wanted: &str) -> bool {
        let is_access = match self.facts.at(path) {
            Seen::File { mode, uid, gid, .. } => self.is_access(access, *mode, *uid, *gid),
            _ => true,
        };
        is_access && self.is_content(path, wanted)
    }

    fn is_content(&self, path: &Path, wanted: &str) -> bool {
        match self.facts.at(path) {
            Seen::File { sha256, .. } => sha256.as_ref().map_or(self.finished, |there| there == wanted),
            Seen::Hidden => self.finished,
            _ => false,
        }
    }

    fn is_folder(&self, path: &Path, access: &Access) -> bool {
        match self.facts.at(path) {
            Seen::Folder { mode, uid, gid } => self.is_access(access, *mode, *uid, *gid),
            Seen::Hidden => self.finished,
            _ => false,
        }
    }

    fn is_access(&self, access: &Access, mode: u32, uid: u32, gid: u32) -> bool {
        let is_owner = match &access.owner {
            None => self.facts.owner == uid,
            Some(name) => {
                let group = access.group.as_ref().unwrap_or(name);
                self.facts.users.get(name) == Some(&uid) && self.facts.groups.get(group) == Some(&gid)
            }
        };
        is_owner && mode == access.mode
    }

    fn follows(&self, after: &[PathBuf], changed: &[PathBuf]) -> bool {
        self.unfinished || after.iter().any(|path| changed.contains(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::Door;

    /// A bundle in `folder`, which nobody was handed yet.
    fn export(folder: &Path) -> Step {
        Step::Bundle {
            folder: folder.to_owned(),
            given: true,
            handed: false,
            encrypt_to: None,
            door: Door { socket: "/s".into(), certificate: "/c".into(), macaroon: "/m".into() },
            receipt: folder.join("wallet.toml"),
            hosts: vec![],
            taproot_channels: false,
            register: None,
            next: None,
            after: vec![],
        }
    }

    #[test]
    fn what_has_a_bundles_name_is_not_yet_the_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let plan = |facts: &Facts| make_plan(vec![export(folder.path())], facts, false);
        let look = || observe(Facts::gather(), &[export(folder.path())]);
        assert!(!plan(&look()).is_empty(), "there is none");
        // An earlier one, another signer's, or none at all.
        std::fs::write(folder.path().join("bundle.json"), "{}").unwrap();
        let mut facts = look();
        assert!(!plan(&facts).is_empty());
        facts.bundles.insert(folder.path().to_owned());
        assert!(plan(&facts).is_empty());
    }
}
