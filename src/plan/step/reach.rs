//! What each step reaches: the paths that say whether it is done, the users and units it speaks of, all that it may change.

use crate::bundle;
use crate::engine::Object;
use crate::host::account::Accounts;
use crate::host::credential::Keep;
use crate::plan::prior::{RootKey, Thing, Wallet};
use crate::plan::step::{Runner, SeedSink, Step};
use crate::release::Installed;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Step {
    /// The folder that a bundle goes into, in plain text.
    pub fn exports_to(&self) -> Option<&Path> {
        match self {
            Self::Bundle { folder, encrypt_to: None, .. } => Some(folder),
            Self::Refresh { bundle, .. } | Self::Rotate { bundle, .. } => bundle.exports_to(),
            _ => None,
        }
    }

    /// Every path that says whether the step is done, and that it may change.
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Folder { path, .. } | Self::Text { path, .. } | Self::Lsm { path, .. } => vec![path.clone()],
            Self::Tighten { path, .. } | Self::Remove { path } => vec![path.clone()],
            Self::Release { folder, .. } => vec![folder.join("lnd"), folder.join("lncli")],
            Self::Users { file, .. } => vec![file.clone()],
            Self::Folders { file, folders, .. } => [file].into_iter().chain(folders).cloned().collect(),
            Self::Password { keep, .. } | Self::GuardMacaroon { keep, .. } => vec![keep.path().to_owned()],
            Self::Certificate { path, key, .. } => vec![path.clone(), key.path().to_owned()],
            // Not the database: it is lnd's to fill, and says nothing that the receipt does not.
            Self::Wallet { receipt, seed, .. } => [receipt.clone()].into_iter().chain(seed.file().cloned()).collect(),
            Self::Adopt { receipt, .. } => vec![receipt.clone()],
            Self::Firewall { link, file, .. } => vec![link.clone(), file.clone()],
            Self::Service { link, .. } | Self::Retire { link, .. } => vec![link.clone()],
            Self::Start { process, .. } => vec![process.pid_file.clone()],
            Self::Bundle { folder, .. } => vec![folder.join("bundle.json")],
            Self::Snapshot { database, .. } => vec![database.swap.clone()],
            Self::ChangePassword { place, aside, .. } => vec![place.path().to_owned(), aside.path().to_owned()],
            Self::Sysctl { file, .. } => vec![file.clone()],
            // Derived from what was just seen of them.
            Self::Close { .. } | Self::Reload { .. } => vec![],
            Self::Refresh { bundle, .. } | Self::Rotate { bundle, .. } => bundle.paths(),
            Self::Bake { register, out, .. } => vec![register.clone(), out.clone()],
            Self::Switch { path, key, next, next_key } => {
                vec![path.clone(), key.path().to_owned(), next.clone(), next_key.path().to_owned()]
            }
            Self::Revoke { .. } | Self::RenewRootKeys { .. } | Self::Sign { .. } => vec![],
            Self::Discard { folders, .. } => folders.clone(),
            Self::Prove { .. } | Self::ReloadUnits { .. } | Self::Cut { .. } | Self::Restore { .. } => vec![],
            // What an engine holds has no path.
            Self::Image { .. } | Self::Network { .. } | Self::Volume { .. } | Self::Container { .. } => vec![],
        }
    }

    /// What of an engine's it speaks of.
    pub fn object(&self) -> Option<Object> {
        match self {
            Self::Image { engine, image } => Some(image.object(engine)),
            Self::Network { object, .. } | Self::Volume { object } | Self::Container { object, .. } => {
                Some(object.clone())
            }
            _ => None,
        }
    }

    /// All that it may change, so that it can be undone: a folder before what comes into it.
    pub fn touches(&self) -> Vec<Thing> {
        match self {
            Self::Folder { path, whole: true, .. } => vec![Thing::Tree(path.clone())],
            Self::Folder { .. } | Self::Text { .. } | Self::Lsm { .. } | Self::Remove { .. } => plain(self.paths()),
            Self::Release { folder, .. } => plain(Installed::files(folder)),
            Self::Users { file, names, .. } => {
                let accounts = names.iter().map(|name| Thing::Account(name.clone()));
                plain([file.clone()].into_iter().chain(Accounts::default().backups()))
                    .into_iter()
                    .chain(accounts)
                    .collect()
            }
            Self::Folders { file, folders, .. } => {
                let above = folders.iter().filter_map(|folder| folder.parent()).map(Path::to_owned);
                let own = folders.iter().cloned().map(Thing::Tree);
                plain([file.clone()].into_iter().chain(above.collect::<BTreeSet<_>>())).into_iter().chain(own).collect()
            }
            Self::Password { keep, .. } => vec![kept(keep)],
            Self::GuardMacaroon { runner, keep, unit, .. } => {
                // Sealed or not: other root keys ask for another one, and no older one is ever of use again.
                let kept = Thing::Secret(keep.path().to_owned());
                [kept, Thing::Unit(unit.clone())].into_iter().chain(runner.touches()).collect()
            }
            Self::Certificate { path, key, .. } => plain([path.clone(), key.path().to_owned()]),
            Self::Firewall { unit, link, file, .. } => {
                let ours = [Thing::Path(file.clone()), Thing::Filter(file.clone()), Thing::Unit(unit.clone())];
                with_folder(link).into_iter().chain(ours).collect()
            }
            Self::Service { unit, link, .. } | Self::Retire { unit, link } => {
                let stamp = stamp(unit).iter().flat_map(|stamp| with_folder(stamp)).collect::<Vec<_>>();
                with_folder(link).into_iter().chain(stamp).chain([Thing::Unit(unit.clone())]).collect()
            }
            Self::Wallet { .. } => self.wallet(),
            // The copy goes with the folder that it is in, or stays with the wallet.
            Self::Adopt { container, .. } => container.iter().cloned().map(Thing::Object).collect(),
            Self::Start { .. } => plain(self.paths()),
            Self::Image { .. } | Self::Network { .. } | Self::Volume { .. } | Self::Container { .. } => {
                self.object().into_iter().map(Thing::Object).collect()
            }
            Self::Bundle { folder, given, register, .. } => {
                let files = if *given {
                    vec![Thing::Given(folder.clone())]
                } else {
                    plain([folder.clone()].into_iter().chain(bundle::files(folder)))
                };
                // Where its macaroon gets another root key.
                plain(register.clone()).into_iter().chain(files).collect()
            }
            Self::Restore { to } => vec![to.thing()],
            Self::Close { path, .. } => vec![Thing::Rights(path.clone())],
            // The file last: undone backwards it goes first, or a boot in between would set what it says.
            Self::Sysctl { file, settings, .. } => {
                let live = settings.iter().map(|(setting, _)| Thing::Setting(setting.clone()));
                live.chain(with_folder(file)).collect()
            }
            Self::Reload { unit, .. } => vec![Thing::Reader(unit.clone())],
            Self::Snapshot { database, stops, .. } => {
                let stopped = [database.filled_by()].into_iter().chain(stops.iter().cloned().map(Thing::Unit));
                let copied = [Thing::Tree(database.copy.clone()), Thing::Database(database.clone())];
                copied.into_iter().chain(stopped).collect()
            }
            Self::ChangePassword { runner, place, aside, database, .. } => {
                [kept(place), kept(aside), database.filled_by()].into_iter().chain(runner.touches()).collect()
            }
            Self::Refresh { bundle, .. } => bundle.touches(),
            Self::Rotate { bundle, root_key, .. } => {
                let door = if let Self::Bundle { door, .. } = &**bundle { Some(door) } else { None };
                let key = door.map(|door| Thing::RootKey(RootKey { door: door.clone(), id: *root_key }));
                bundle.touches().into_iter().chain(key).collect()
            }
            Self::Bake { door, register, entry, out } => {
                let key = RootKey { door: door.clone(), id: entry.root_key };
                vec![Thing::Path(register.clone()), Thing::Given(out.clone()), Thing::RootKey(key)]
            }
            Self::Revoke { door, root_key } => {
                vec![Thing::RootKey(RootKey { door: door.clone(), id: *root_key })]
            }
            Self::RenewRootKeys { runner, unit, container, port, guard, .. } => {
                let served = container.clone().map_or_else(|| Thing::Unit(unit.clone()), Thing::Object);
                let gate = port.unit.iter().filter(|gate| *gate != unit).cloned().map(Thing::Unit);
                // Its macaroon cannot come back: the root key that it hung on is gone.
                let guard = guard.as_ref().map(|guard| Thing::Unit(guard.unit.clone()));
                runner.touches().into_iter().chain([served]).chain(gate).chain(guard).collect()
            }
            Self::Switch { .. } => plain(self.paths()),
            // What is discarded is older than all that an undoing goes back to.
            Self::Prove { .. } | Self::Sign { .. } | Self::Discard { .. } | Self::ReloadUnits { .. } => vec![],
            // What lsm gave it gives again: no undoing loosens it.
            Self::Tighten { .. } | Self::Cut { .. } => vec![],
        }
    }

    fn wallet(&self) -> Vec<Thing> {
        let Self::Wallet { runner, password, seed, data, database, receipt, account, volume, .. } = self else {
            return vec![];
        };
        let mut things = vec![Thing::Wallet(Wallet {
            data: data.clone(),
            database: database.clone(),
            password: password.path().to_owned(),
            receipt: receipt.clone(),
            account: account.clone(),
            volume: volume.clone(),
            adopted: *seed == SeedSink::Adopted,
        })];
        things.extend(seed.file().cloned().map(Thing::Given));
        things.extend(runner.touches());
        things.push(Thing::Path(receipt.clone()));
        things
    }

    /// The users that it speaks of.
    pub fn users(&self) -> Vec<&str> {
        match self {
            Self::Folder { access, .. } | Self::Text { access, .. } | Self::Tighten { access, .. } => {
                [&access.owner, &access.group].into_iter().flatten().map(String::as_str).collect()
            }
            Self::Users { names, .. } => names.iter().map(String::as_str).collect(),
            _ => vec![],
        }
    }

    /// The unit that it starts, and the others that it speaks of.
    pub fn units(&self) -> Vec<&str> {
        let with = match self {
            Self::Service { with, .. } => with.as_slice(),
            Self::ReloadUnits { of, .. } => of,
            _ => &[],
        };
        self.unit().into_iter().chain(with.iter().map(String::as_str)).collect()
    }

    /// The unit that it starts or stops, or that it is about.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Self::Firewall { unit, .. }
            | Self::Service { unit, .. }
            | Self::Retire { unit, .. }
            | Self::Cut { unit, .. } => Some(unit),
            _ => None,
        }
    }
}

impl Step {
    /// True of a step that leaves `unit` running, with what its files say.
    pub fn leaves_running(&self, of: &str) -> bool {
        matches!(self, Self::Wallet { runner: Runner::Unit { unit, stays: true, .. }, .. } if unit == of)
    }
}

impl Runner {
    /// True where lnd goes on as the signer.
    pub fn stays(&self) -> bool {
        matches!(self, Self::Unit { stays: true, .. })
    }

    /// What is there as long as it runs, and goes with it.
    fn touches(&self) -> Vec<Thing> {
        match self {
            Self::Unit { unit, files, .. } => {
                let files = files.iter().flat_map(|(path, _)| with_folder(path));
                files.chain([Thing::Unit(unit.clone())]).collect()
            }
            Self::Container { object, .. } => vec![Thing::Object(object.clone())],
            Self::Process(_) => vec![],
        }
    }
}

fn plain(paths: impl IntoIterator<Item = PathBuf>) -> Vec<Thing> {
    paths.into_iter().map(Thing::Path).collect()
}

/// The file of a password.
fn kept(keep: &Keep) -> Thing {
    let path = keep.path().to_owned();
    if keep.is_sealed() { Thing::Path(path) } else { Thing::Secret(path) }
}

/// The file by which systemd knows when a timer ran last (systemd.timer(5), `Persistent=`; systemd's timer.c).
fn stamp(unit: &str) -> Option<PathBuf> {
    unit.ends_with(".timer").then(|| format!("/var/lib/systemd/timers/stamp-{unit}").into())
}

/// A file or link, after the folder that it may be the first in.
fn with_folder(path: &Path) -> Vec<Thing> {
    plain(path.parent().map(Path::to_owned).into_iter().chain([path.to_owned()]))
}
