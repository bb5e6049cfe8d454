//! Users, groups, and what makes one of them more than itself.

mod passwd;
mod polkit;
mod sudo;

pub use passwd::{Group, Password, User};
pub use sudo::{Rule, Sudo};

use super::{Answer, Place, Signer};
use crate::host::{file, user};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files that say who is who (passwd(5), shadow(5), group(5), gshadow(5)).
const FILES: &[&str] = &["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"];

/// Groups whose members are root, or can make themselves root: by asking, through a daemon of root's, or through the disk,
/// memory and password hashes.
pub const POWERS: &[&str] = &[
    "root",
    "sudo",
    "wheel",
    "admin",
    "docker",
    "lxd",
    "incus",
    "incus-admin",
    "libvirt",
    "kvm",
    "disk",
    "kmem",
    "shadow",
    "adm",
];

/// Where sshd looks for keys that let a user in, and rsh and sshd for hosts that do, below a home.
const KEYS: &[&str] = &[".ssh/authorized_keys", ".ssh/authorized_keys2", ".rhosts", ".shosts"];

/// Users, groups, and what makes one of them more than itself. Names of another directory (LDAP) are not in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accounts {
    /// The users.
    pub users: Answer<Vec<User>>,
    /// The groups.
    pub groups: Answer<Vec<Group>>,
    /// Of what kind the passwords in /etc/shadow are, by user.
    pub passwords: Answer<BTreeMap<String, Password>>,
    /// How the files of users, groups and passwords lie.
    pub files: Vec<Answer<Place>>,
    /// The homes of lnd's users, of root, and of who can become root.
    pub homes: Vec<Home>,
    /// Who may become whom; absent where nothing of the kind is here.
    pub sudo: Answer<Sudo>,
    /// Files of polkit(8) that let somebody manage units unasked; absent where there is no polkit.
    pub polkit: Answer<Vec<PathBuf>>,
}

/// A user's home.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Home {
    /// The user.
    pub user: String,
    /// The user's number.
    pub uid: u32,
    /// The folder, as in the list of users.
    pub path: PathBuf,
    /// Of the way there, what more users than root can change.
    pub way: Answer<Vec<Place>>,
    /// The files there that let somebody in who has a key, each as [`Home::way`].
    pub keys: BTreeMap<PathBuf, Answer<Vec<Place>>>,
    /// One of them has a key that lets its owner do more than one forced command.
    #[serde(default)]
    pub logs_in: bool,
}

/// No list of keys is near this, in bytes.
const LIST: u64 = 1 << 20;
/// What the names of kinds of keys have in them, those of security keys too (`sk-ssh-`).
const KINDS: [&str; 2] = ["ssh-", "ecdsa-"];

impl Accounts {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        let (users, groups, passwords) = (passwd::users(), passwd::groups(), passwd::passwords());
        let names: Vec<&str> = signers.iter().filter_map(|signer| signer.user.as_deref()).collect();
        let mut whole = Self {
            files: FILES.iter().map(|path| Place::follow(Path::new(path))).collect(),
            homes: Vec::new(),
            sudo: sudo::gather(&called(&users, &names)),
            polkit: polkit::gather(),
            users,
            groups,
            passwords,
        };
        whole.homes = whole.of_interest(&names).into_iter().map(Home::look).collect();
        whole
    }

    /// lnd's users, root, and who is in a group of [`POWERS`]; none where the users cannot be read.
    fn of_interest(&self, names: &[&str]) -> Vec<&User> {
        let Answer::Is(users) = &self.users else { return Vec::new() };
        let powers: BTreeSet<&str> = match &self.groups {
            Answer::Is(groups) => {
                let groups = groups.iter().filter(|group| POWERS.contains(&group.name.as_str()));
                groups.flat_map(|group| &group.members).map(String::as_str).collect()
            }
            _ => BTreeSet::new(),
        };
        let wanted =
            |user: &&User| user.uid == 0 || names.contains(&user.name.as_str()) || powers.contains(user.name.as_str());
        users.iter().filter(wanted).collect()
    }

    /// The user of this name: the first, as everybody who looks for it gets it.
    ///
    /// # Errors
    /// Where the users cannot be read.
    pub fn user(&self, name: &str) -> Result<Option<&User>, super::Unknown> {
        Ok(self.users.need("/etc/passwd")?.iter().find(|user| user.name == name))
    }

    /// Of what kind the user's password is.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn password(&self, user: &User) -> Result<Password, super::Unknown> {
        if user.password != Password::Shadowed {
            return Ok(user.password);
        }
        // Whoever has none anywhere cannot enter one (shadow(5)), and there an x is no hash.
        let kind = self.passwords.get()?.and_then(|all| all.get(&user.name)).copied();
        Ok(kind.filter(|kind| *kind != Password::Shadowed).unwrap_or(Password::Locked))
    }
}

/// The name and home of the user with this number: as in the list of users, else as the system's library has it from
/// somewhere else (nsswitch.conf(5)), which waits for a list that cannot be read.
pub(super) fn of_uid(uid: u32) -> Option<(String, PathBuf)> {
    match passwd::users() {
        Answer::Is(users) => {
            let own = users.into_iter().find(|user| user.uid == uid).map(|user| (user.name, user.home));
            own.or_else(|| user::of_uid(uid))
        }
        Answer::Absent => user::of_uid(uid),
        Answer::Unknown(_) => None,
    }
}

/// The number of the user of this name, as [`of_uid`].
pub(super) fn uid_of(name: &str) -> Option<u32> {
    let elsewhere = || user::find(name).ok()?.map(|owner| owner.uid);
    match passwd::users() {
        Answer::Is(users) => users.into_iter().find(|user| user.name == name).map(|user| user.uid).or_else(elsewhere),
        Answer::Absent => elsewhere(),
        Answer::Unknown(_) => None,
    }
}

/// What a rule of sudo can call these users: their names and, for all but root, `#` and their numbers (sudoers(5)).
fn called(users: &Answer<Vec<User>>, names: &[&str]) -> Vec<String> {
    let users = match users {
        Answer::Is(users) => &users[..],
        _ => &[],
    };
    let numbers = users.iter().filter(|user| user.uid != 0 && names.contains(&user.name.as_str()));
    names.iter().map(|name| (*name).to_owned()).chain(numbers.map(|user| format!("#{}", user.uid))).collect()
}

impl Home {
    fn look(user: &User) -> Self {
        let paths = KEYS.iter().map(|name| user.home.join(name));
        let keys = paths.map(|path| (Place::open_way(&path), path)).filter(|(way, _)| *way != Answer::Absent);
        Self {
            user: user.name.clone(),
            uid: user.uid,
            path: user.home.clone(),
            way: Place::open_way(&user.home),
            keys: keys.map(|(way, path)| (path, way)).collect(),
            logs_in: KEYS.iter().any(|name| logs_in(&user.home.join(name))),
        }
    }
}

/// True of a list of keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT) with one for which no command is forced. An empty list is there on
/// many a host, and cloud images have one for root that only refuses.
fn logs_in(list: &Path) -> bool {
    let Ok(bytes) = file::read_plain(list, LIST) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let is_key = |line: &str| KINDS.iter().any(|kind| line.contains(kind)) && !line.contains("command=\"");
    text.lines().map(str::trim).any(|line| !line.starts_with('#') && is_key(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_lets_in_by_a_key_that_no_command_is_forced_for() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("authorized_keys");
        assert!(!logs_in(&list));
        for (text, wanted) in [
            ("", false),
            ("# ssh-ed25519 AAAA\n", false),
            ("no-pty,command=\"echo log in as another\" ssh-ed25519 AAAA a\n", false),
            ("\nssh-ed25519 AAAA a\n", true),
            ("from=\"10.0.0.1\" sk-ecdsa-sha2-nistp256@openssh.com AAAA\n", true),
        ] {
            std::fs::write(&list, text).unwrap();
            assert_eq!(logs_in(&list), wanted, "{text}");
        }
    }
}
