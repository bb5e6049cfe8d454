//! What is there before and after a step: enough to put it back, and to see whether somebody else changed it since.

mod path;
mod thing;

pub use path::{AtPath, Role, Was};
pub use thing::{Database, RootKey, Thing, Wallet};

use crate::engine::{Engine, Kind, Object};
use crate::error::{Code, Result};
use crate::facts::{self, State};
use crate::host::account::Accounts;
use crate::host::kept::Kept;
use crate::host::program::Program;
use crate::host::rights::Rights;
use crate::host::sysctl;
use crate::plan::door::open_as_admin;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const CANNOT_SEE: Code = Code::refused("E-PLAN-040");

/// The largest file that is handed on, in bytes: an lsm, an lnd.
const LARGEST: u64 = 1 << 30;

/// The name of lsm's table, as nft(8) wants it.
pub const TABLE: [&str; 3] = ["table", "inet", "lsm"];

/// What a thing was, or is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prior {
    /// At a path.
    Path(AtPath),
    /// Of a unit.
    Unit {
        /// Its name.
        unit: String,
        /// It ran.
        active: bool,
    },
    /// Of a user.
    Account {
        /// Its name.
        account: String,
        /// It was there.
        exists: bool,
        /// The files that have a line of it: one that was being made or removed is in some of them. Older journals do not say.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<String>,
        /// Under which name its lines are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// Of the packet filter.
    Filter {
        /// The file that loads it.
        filter: PathBuf,
        /// It was loaded.
        loaded: bool,
    },
    /// Of who may do what with a file or folder.
    Rights {
        /// Where it is.
        rights_of: PathBuf,
        /// Its mode, owner and what gives more; none where it was not there.
        rights: Option<Rights>,
    },
    /// Of a setting of the kernel.
    Setting {
        /// Its file below /proc/sys.
        setting: PathBuf,
        /// Its value; none where this kernel has no such one.
        value: Option<String>,
    },
    /// Of a unit that reads settings: it is only named, and reads them again.
    Reader {
        /// The unit.
        reader: String,
    },
    /// Of what an engine holds.
    Object {
        /// What and where.
        held: Object,
        /// It was there.
        exists: bool,
        /// An image's number, or the hash of what a container was made from.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        mark: String,
        /// A container that ran.
        #[serde(default)]
        runs: bool,
        /// Under which name it is kept from what a container was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// Of a wallet: it is only named.
    Wallet {
        /// Its parts.
        wallet: Wallet,
    },
    /// Of a database: as the copy has it.
    Database {
        /// Its parts.
        database: Database,
    },
    /// Of a key that macaroons hang on.
    RootKey {
        /// Whose and which.
        root_key: RootKey,
        /// It was there. One that has gone cannot be brought back.
        exists: bool,
    },
}

impl Prior {
    /// There was no folder at `path`, which is lsm's with all that is in it.
    pub fn no_tree(path: &Path) -> Self {
        Self::Path(AtPath::absent(path, Role::Tree))
    }

    /// There was nothing at `path`.
    pub fn nothing_at(path: &Path) -> Self {
        Self::Path(AtPath::absent(path, Role::Plain))
    }

    /// What `thing` is now, without keeping anything.
    ///
    /// # Errors
    /// Where it cannot be seen.
    pub fn observe(thing: &Thing) -> Result<Self> {
        Self::of(thing, None)
    }

    /// What `thing` is now, with the bytes that are needed to put it back kept in `kept`.
    ///
    /// # Errors
    /// Where it cannot be seen or kept.
    pub fn capture(thing: &Thing, kept: &Kept) -> Result<Self> {
        Self::of(thing, Some(kept))
    }

    fn of(thing: &Thing, kept: Option<&Kept>) -> Result<Self> {
        Ok(match thing {
            Thing::Path(path) => Self::Path(AtPath::of(path, Role::Plain, kept)?),
            Thing::Secret(path) => Self::Path(AtPath::of(path, Role::Secret, kept)?),
            Thing::Tree(path) => Self::Path(AtPath::of(path, Role::Tree, kept)?),
            Thing::Given(path) => Self::Path(AtPath::of(path, Role::Given, None)?),
            Thing::Unit(unit) => {
                // One that fails again and again is not to be started again, which no rollback could wait for.
                let active = matches!(facts::state(unit)?, State::Active | State::Starting);
                Self::Unit { unit: unit.clone(), active }
            }
            Thing::Account(name) => {
                let lines = Accounts::default().find(name)?;
                let (exists, files) = (!lines.is_empty(), lines.files());
                let kept = kept.filter(|_| exists).map(|kept| kept.keep_bytes(&lines.render()?)).transpose()?;
                Self::Account { account: name.clone(), exists, files, kept }
            }
            Thing::Filter(file) => Self::Filter { filter: file.clone(), loaded: is_loaded()? },
            Thing::Rights(path) => Self::Rights { rights_of: path.clone(), rights: Rights::read(path)? },
            Thing::Setting(path) => Self::Setting { setting: path.clone(), value: sysctl::read(path)? },
            Thing::Reader(unit) => Self::Reader { reader: unit.clone() },
            Thing::Object(object) => Self::of_object(object, kept)?,
            Thing::Wallet(wallet) => Self::Wallet { wallet: wallet.clone() },
            Thing::Database(database) => Self::Database { database: database.clone() },
            Thing::RootKey(key) => {
                let exists = open_as_admin(&key.door)?.root_key_ids()?.contains(&key.id);
                Self::RootKey { root_key: key.clone(), exists }
            }
        })
    }

    fn of_object(object: &Object, kept: Option<&Kept>) -> Result<Self> {
        let engine = Engine::open(&object.engine)?;
        let found = engine.find(object.object, &object.name)?;
        let body = match object.object {
            _ if kept.is_none() || found.is_none() => None,
            Kind::Container => engine.body_of(&object.name)?,
            Kind::Image => engine.recipe_of(&object.name)?,
            // A network is made again from its name, a volume not at all.
            Kind::Network | Kind::Volume => None,
        };
        let (exists, kept) = (found.is_some(), kept.zip(body).map(|(kept, body)| kept.keep_bytes(&body)).transpose()?);
        let (mark, runs) = found.map(|found| (found.mark, found.runs)).unwrap_or_default();
        Ok(Self::Object { held: object.clone(), exists, mark, runs, kept })
    }

    /// Whose state this is.
    pub fn thing(&self) -> Thing {
        match self {
            Self::Path(at) => {
                let path = at.path.clone();
                match at.role {
                    Role::Plain => Thing::Path(path),
                    Role::Secret => Thing::Secret(path),
                    Role::Tree => Thing::Tree(path),
                    Role::Given => Thing::Given(path),
                }
            }
            Self::Unit { unit, .. } => Thing::Unit(unit.clone()),
            Self::Account { account, .. } => Thing::Account(account.clone()),
            Self::Filter { filter, .. } => Thing::Filter(filter.clone()),
            Self::Rights { rights_of, .. } => Thing::Rights(rights_of.clone()),
            Self::Setting { setting, .. } => Thing::Setting(setting.clone()),
            Self::Reader { reader } => Thing::Reader(reader.clone()),
            Self::Object { held, .. } => Thing::Object(held.clone()),
            Self::Wallet { wallet } => Thing::Wallet(wallet.clone()),
            Self::Database { database } => Thing::Database(database.clone()),
            Self::RootKey { root_key, .. } => Thing::RootKey(root_key.clone()),
        }
    }

    /// True where both say the same of one thing; what was kept of it, and what was not looked at, does not count.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a.is_same(b),
            (
                Self::Account { account: a, exists: was, files: in_then, .. },
                Self::Account { account: b, exists: is, files: in_now, .. },
            ) => a == b && was == is && (in_then == in_now || in_then.is_empty() || in_now.is_empty()),
            (
                Self::Object { held: a, exists: was, mark: from, runs: ran, .. },
                Self::Object { held: b, exists: is, mark: of, runs, .. },
            ) => (a, was, from, ran) == (b, is, of, runs),
            (a, b) => a == b,
        }
    }

    /// True where nothing of it is there, and the next boot makes it again as long as any file asks for that: a unit, the
    /// packet filter, a folder of tmpfiles.d(5).
    pub(super) fn comes_back(&self) -> bool {
        match self {
            Self::Unit { active, .. } => !active,
            Self::Filter { loaded, .. } => !loaded,
            Self::Path(AtPath { path, was: Was::Absent, role, .. }) => *role == Role::Tree || path.starts_with("/run"),
            _ => false,
        }
    }

    /// The files that change with it, as far as lsm writes them itself.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            // What is in lnd's folder is lnd's.
            Self::Path(AtPath { path, role, .. }) if *role != Role::Tree => vec![path.clone()],
            Self::Account { .. } => Accounts::default().files().into(),
            _ => vec![],
        }
    }

    /// The name under which bytes of it are kept.
    pub fn kept(&self) -> Option<&str> {
        match self {
            Self::Path(at) => at.kept.as_deref(),
            Self::Account { kept, .. } | Self::Object { kept, .. } => kept.as_deref(),
            _ => None,
        }
    }

    /// The same with its bytes in another place.
    ///
    /// # Errors
    /// Where they cannot be copied.
    pub(super) fn moved(&self, from: &Kept, to: &Kept) -> Result<Self> {
        let mut moved = self.clone();
        if let Self::Path(AtPath { kept: Some(name), .. })
        | Self::Account { kept: Some(name), .. }
        | Self::Object { kept: Some(name), .. } = &mut moved
        {
            *name = to.keep_bytes(&from.read(name, LARGEST)?)?;
        }
        Ok(moved)
    }

    /// What putting it back does, in the words of a plan.
    pub fn describe(&self) -> String {
        match self {
            Self::Path(at) => {
                let path = at.path.display();
                match at.was {
                    Was::Absent => format!("remove {path}"),
                    Was::File => format!("put {path} back as it was"),
                    Was::Folder => format!("give the folder {path} its mode and owner back"),
                    Was::Link => format!("put the link {path} back"),
                    Was::Other => format!("leave {path}"),
                }
            }
            Self::Unit { unit, active: true } => format!("start {unit}"),
            Self::Unit { unit, active: false } => format!("stop {unit}"),
            Self::Account { account, exists: true, .. } => format!("put the user {account} back"),
            Self::Account { account, exists: false, .. } => format!("remove the user {account}"),
            Self::Filter { loaded: true, filter } => format!("load {} again", filter.display()),
            Self::Filter { loaded: false, .. } => "unload the packet filter's table".to_owned(),
            Self::Rights { rights_of, .. } => format!("give {} its mode and owner back", rights_of.display()),
            Self::Setting { setting, value } => {
                format!("set {} to {} again", setting.display(), value.as_deref().unwrap_or("nothing"))
            }
            Self::Object { held, exists: false, .. } => format!("remove {held}"),
            Self::Object { held, .. } => format!("put {held} back as it was"),
            Self::Reader { reader } => format!("have {reader} read its settings again"),
            Self::RootKey { root_key, .. } => format!("delete root key {}: its macaroon is refused then", root_key.id),
            Self::Wallet { wallet } => format!("leave the wallet {}", wallet.database.display()),
            Self::Database { database: Database { data, copy, .. } } => {
                format!("put lnd's database {} back from {}", data.display(), copy.display())
            }
        }
    }
}

/// True where lsm's table is loaded: of all tables, since nft(8) says of one that is not there no more than that it failed.
///
/// # Errors
/// Where that cannot be looked at.
pub(super) fn is_loaded() -> Result<bool> {
    if crate::host::program::find("nft").is_none() {
        return Ok(false);
    }
    let said = Program::new("nft").args(["list", "tables"]).run()?;
    Ok(String::from_utf8_lossy(&said).lines().any(|line| line.split_whitespace().eq(TABLE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::file;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_password_is_known_again_by_its_file_whatever_number_that_has() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (place, aside) = (at("password"), at("password.aside"));
        std::fs::write(&place, "old").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&aside, "new").unwrap();
        let database = Database {
            data: at("data"),
            copy: at("copy"),
            unit: String::new(),
            container: None,
            swap: aside.clone(),
            swapped: Database::mark(&place).unwrap(),
            password: Some(place.clone()),
        };
        assert!(!database.is_given_over());
        file::exchange(&place, &aside).unwrap();
        assert!(database.is_given_over());
        // As on a file system that gives out other numbers: the same files under other ones.
        for path in [&place, &aside] {
            let (other, was) = (path.with_extension("other"), path.symlink_metadata().unwrap());
            std::fs::copy(path, &other).unwrap();
            let times = std::fs::FileTimes::new().set_modified(was.modified().unwrap());
            std::fs::File::options().write(true).open(&other).unwrap().set_times(times).unwrap();
            std::fs::rename(&other, path).unwrap();
            assert_ne!(path.symlink_metadata().unwrap().ino(), was.ino());
        }
        assert!(database.is_given_over());
        file::exchange(&place, &aside).unwrap();
        assert!(!database.is_given_over());
    }

    #[test]
    fn an_account_that_was_being_removed_is_not_the_one_that_was_there() {
        let account = |files: &[&str]| Prior::Account {
            account: "lsm-a".into(),
            exists: true,
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            kept: None,
        };
        let whole = account(&["group", "passwd", "shadow"]);
        assert!(whole.is_same(&whole) && !whole.is_same(&account(&["shadow"])));
        assert!(whole.is_same(&account(&[])), "an older journal does not say");
    }
}
