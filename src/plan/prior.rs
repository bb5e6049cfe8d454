//! What is there before and after a step: enough to put it back, and to see whether somebody else changed it since.

use crate::engine::{Engine, Kind, Object};
use crate::error::{Code, Error, Result};
use crate::facts::{self, Seen, look};
use crate::host::account::Accounts;
use crate::host::beneath;
use crate::host::file;
use crate::host::kept::Kept;
use crate::host::program::Program;
use crate::host::rights::Rights;
use crate::host::sysctl;
use crate::host::xattrs::{self, Attributes};
use crate::plan::perform::open_as_admin;
use crate::plan::register;
use crate::plan::step::Door;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const CANNOT_SEE: Code = Code::refused("E-PLAN-040");

/// The largest file that is handed on, in bytes: an lsm, an lnd.
const LARGEST: u64 = 1 << 30;

/// The name of lsm's table, as nft(8) wants it.
pub const TABLE: [&str; 3] = ["table", "inet", "lsm"];

/// Something that a step may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A file, folder or link.
    Path(PathBuf),
    /// The same with a secret in it that could be guessed: the journal has no hash of it.
    Secret(PathBuf),
    /// A folder that is lsm's with all that is in it: where it was absent it goes as a whole.
    Tree(PathBuf),
    /// A file or folder that is handed to the operator: it is never taken back.
    Given(PathBuf),
    /// A unit: it runs or not. What enables it is a path.
    Unit(String),
    /// A user with its group.
    Account(String),
    /// lsm's table in the packet filter, which this file loads.
    Filter(PathBuf),
    /// Who may do what with a file or folder, whatever is in it.
    Rights(PathBuf),
    /// A setting of the running kernel, a file below /proc/sys.
    Setting(PathBuf),
    /// A unit that has read its settings, whether it runs or not.
    Reader(String),
    /// What a container engine holds.
    Object(Object),
    /// A wallet, and what is worth nothing without it.
    Wallet(Wallet),
    /// lnd's database, of which there is a copy to go back to.
    Database(Database),
    /// A key of lnd's that macaroons hang on.
    RootKey(RootKey),
}

/// A key of lnd's that macaroons hang on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RootKey {
    /// How its lnd is reached.
    pub door: Door,
    /// Its number.
    pub id: u64,
}

/// A wallet and all that must stay as long as it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wallet {
    /// lnd's own folder.
    pub data: PathBuf,
    /// Its wallet database: once this is there, a wallet was made.
    pub database: PathBuf,
    /// Its password's place.
    pub password: PathBuf,
    /// Its receipt.
    pub receipt: PathBuf,
    /// The user who owns it.
    pub account: Option<String>,
    /// The engine's volume that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Object>,
    /// It is the copy of one that stays where it was, and is worth something once its receipt says that it opens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl Wallet {
    /// True where a wallet was made, or lnd was about to.
    ///
    /// # Errors
    /// Where that cannot be seen.
    pub fn is_made(&self) -> Result<bool> {
        if self.adopted { file::is_there(&self.receipt) } else { beneath::is_there(&self.data, &self.database) }
    }

    /// The register of its macaroons, whose root keys are in its database.
    pub fn register(&self) -> PathBuf {
        self.receipt.with_file_name(register::FILE)
    }

    /// True of what stays with it.
    pub fn holds(&self, thing: &Thing) -> bool {
        match thing {
            Thing::Path(path) | Thing::Secret(path) | Thing::Tree(path) => {
                [&self.data, &self.password, &self.receipt].iter().any(|kept| kept.starts_with(path))
            }
            Thing::Account(name) => self.account.as_ref() == Some(name),
            Thing::Object(object) => self.volume.as_ref() == Some(object),
            _ => false,
        }
    }
}

/// lnd's database before another lnd may have changed it for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Database {
    /// The folder that holds all of it.
    pub data: PathBuf,
    /// The folder of its copy.
    pub copy: PathBuf,
    /// The unit that fills it, or the name of the container.
    pub unit: String,
    /// The container that fills it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Object>,
    /// The file that says which lnd the unit starts.
    pub swap: PathBuf,
    /// That file's hash where it says the other one, or [`Database::mark`]: only then the database may be another than the
    /// copy.
    pub swapped: String,
    /// Where the password is kept that opens it, where that is what changes: the file above is then the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PathBuf>,
}

impl Database {
    /// True where the other lnd may have had the database.
    pub fn is_given_over(&self) -> bool {
        let is = if self.password.is_some() { Self::mark(&self.swap) } else { facts::hash(&self.swap) };
        is.as_ref() == Some(&self.swapped)
    }

    /// What tells the file of one password from that of the other: when it was written, which it keeps when they change places.
    /// Not its hash: a password that somebody chose could be guessed from that. Nor its number: there are file systems that give
    /// it another one after the next boot.
    pub fn mark(path: &Path) -> Option<String> {
        let meta = std::fs::symlink_metadata(path).ok()?;
        Some(format!("written {}.{:09}", meta.mtime(), meta.mtime_nsec()))
    }

    /// The place of the password and that of the other one: they change places with each other.
    pub(super) fn passwords(&self) -> Option<[&Path; 2]> {
        self.password.as_deref().map(|place| [place, self.swap.as_path()])
    }

    /// What fills it.
    pub fn filled_by(&self) -> Thing {
        self.container.as_ref().map_or_else(|| Thing::Unit(self.unit.clone()), |object| Thing::Object(object.clone()))
    }

    /// The folder above lnd's own, which is root's.
    pub fn home(&self) -> &Path {
        self.data.parent().and_then(Path::parent).unwrap_or(Path::new("/"))
    }
}

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

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtPath {
    /// The path.
    pub path: PathBuf,
    /// What it is.
    pub was: Was,
    /// How undo treats it.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// A file's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// Extended attributes, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Under which name a file's bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// The kinds of what is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Was {
    /// Nothing.
    Absent,
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket or something else that cannot be kept.
    Other,
}

/// How undo treats a path, as [`Thing`] has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Put back.
    #[default]
    Plain,
    /// Put back; never hashed.
    Secret,
    /// Taken away whole.
    Tree,
    /// Left to the operator.
    Given,
}

impl Role {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
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
            Thing::Unit(unit) => Self::Unit { unit: unit.clone(), active: facts::state(unit)?.is_active() },
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

impl AtPath {
    fn absent(path: &Path, role: Role) -> Self {
        Self {
            path: path.to_owned(),
            was: Was::Absent,
            role,
            mode: None,
            uid: None,
            gid: None,
            sha256: None,
            target: None,
            attributes: BTreeMap::new(),
            kept: None,
        }
    }

    fn of(path: &Path, role: Role, kept: Option<&Kept>) -> Result<Self> {
        let mut at = Self::absent(path, role);
        match look(path) {
            Seen::Absent => return Ok(at),
            Seen::Hidden => return Err(Error::new(CANNOT_SEE, format!("cannot see {}", path.display()))),
            Seen::File { mode, uid, gid, sha256 } => {
                (at.was, at.mode, at.uid, at.gid) = (Was::File, Some(mode), Some(uid), Some(gid));
                at.sha256 = sha256.filter(|_| role != Role::Secret);
                at.kept = kept.map(|kept| kept.keep_file(path)).transpose()?;
            }
            Seen::Folder { mode, uid, gid } => {
                (at.was, at.mode, at.uid, at.gid) = (Was::Folder, Some(mode), Some(uid), Some(gid));
            }
            Seen::Other => {
                at.target = std::fs::read_link(path).ok();
                at.was = if at.target.is_some() { Was::Link } else { Was::Other };
                return Ok(at);
            }
        }
        at.attributes = xattrs::read(path)?.into_iter().map(|(name, value)| (name, hex::encode(value))).collect();
        Ok(at)
    }

    fn is_same(&self, other: &Self) -> bool {
        // A secret has no hash, and an older journal none of these: what is not known is no difference.
        let same_hash = self.sha256.is_none() || other.sha256.is_none() || self.sha256 == other.sha256;
        (&self.path, self.was, self.mode, self.uid, self.gid, &self.target, &self.attributes)
            == (&other.path, other.was, other.mode, other.uid, other.gid, &other.target, &other.attributes)
            && same_hash
    }

    /// The attributes as they are to be set.
    pub(super) fn attributes(&self) -> Attributes {
        let decoded = |(name, value): (&String, &String)| Some((name.clone(), hex::decode(value).ok()?));
        self.attributes.iter().filter_map(decoded).collect()
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
