//! Users and groups by name, and the process's own identity.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const UNKNOWN: Code = Code::lacking("E-HOST-010");
const ALL_TAKEN: Code = Code::lacking("E-HOST-011");

/// The numbers that systemd keeps for users that exist only while something runs (systemd.exec(5), DynamicUser=).
const DYNAMIC: RangeInclusive<u32> = 61184..=65519;

/// Who owns a file: numbers, as the kernel keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// Root and its group.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// True where this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// True of root and of whoever runs lsm.
pub fn is_root_or_own(uid: u32) -> bool {
    uid == 0 || uid == own_uid()
}

/// The number of the user that this process runs as.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The folder that the environment names by this variable, where it names one by an absolute path.
pub fn named_folder(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A base folder of this user (XDG Base Directory Specification): the one that `variable` names, else `below_home` in the
/// home folder; nothing where there is no home either.
pub fn base_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    named_folder(variable).or_else(|| named_folder("HOME").map(|home| home.join(below_home)))
}

/// The name and the home folder of the user with this number, where there is one.
pub fn of_uid(uid: u32) -> Option<(String, PathBuf)> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    Some((user.name, user.dir))
}

/// The user with this number and its primary group; nobody's number stands for the group of the same number.
pub fn owner_of(uid: u32) -> Owner {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    Owner { uid, gid: user.map_or(uid, |user| user.gid.as_raw()) }
}

/// The uid and primary gid of user `name`, or `None` where there is none. A number stands for itself and the group of the
/// same number: nobody here need have it.
///
/// # Errors
/// Where the user database cannot be read.
pub fn find(name: &str) -> Result<Option<Owner>> {
    if let Ok(id) = name.parse() {
        return Ok(Some(Owner { uid: id, gid: id }));
    }
    let user = nix::unistd::User::from_name(name)
        .map_err(|e| Error::new(UNKNOWN, format!("cannot look up the user {name}: {e}")))?;
    Ok(user.map(|u| Owner { uid: u.uid.as_raw(), gid: u.gid.as_raw() }))
}

/// The gid of group `name`, or `None` where there is none. A number stands for itself.
///
/// # Errors
/// Where the group database cannot be read.
pub fn find_group(name: &str) -> Result<Option<u32>> {
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    let group = nix::unistd::Group::from_name(name)
        .map_err(|e| Error::new(UNKNOWN, format!("cannot look up the group {name}: {e}")))?;
    Ok(group.map(|g| g.gid.as_raw()))
}

/// True where a user or a group has the number `id`.
///
/// # Errors
/// Where the databases cannot be read.
pub fn is_taken(id: u32) -> Result<bool> {
    let cannot = |e| Error::new(UNKNOWN, format!("cannot look up the number {id}: {e}"));
    let user = nix::unistd::User::from_uid(id.into()).map_err(cannot)?;
    let group = nix::unistd::Group::from_gid(id.into()).map_err(cannot)?;
    Ok(user.is_some() || group.is_some())
}

/// The number, for user and group alike, of somebody who is nobody else and exists only while something runs.
///
/// # Errors
/// Where every such number is taken, or the databases cannot be read.
///
/// # Panics
/// Where the kernel gives no random bytes.
pub fn passing() -> Result<Owner> {
    for _ in 0..100 {
        let mut random = [0; 4];
        getrandom::fill(&mut random).expect("the kernel's random generator answers");
        let id = DYNAMIC.start() + u32::from_le_bytes(random) % (DYNAMIC.end() - DYNAMIC.start() + 1);
        if is_passing(id)? {
            return Ok(Owner { uid: id, gid: id });
        }
    }
    Err(Error::new(ALL_TAKEN, "every number for a passing user is taken"))
}

/// True of a number as [`passing`] gives them that nobody has.
///
/// # Errors
/// Where the databases cannot be read.
pub fn is_passing(id: u32) -> Result<bool> {
    // systemd notes there whom it gave a number for the time being.
    let lent = Path::new("/run/systemd/dynamic-uid").join(id.to_string()).exists();
    Ok(DYNAMIC.contains(&id) && !lent && !is_taken(id)?)
}

/// Turns this process, which is root's, into user `name` for good: groups, group, user, in this order.
///
/// # Errors
/// Where there is no such user or the kernel refuses.
pub fn become_user(name: &str) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let owner = find(name)?.ok_or_else(|| Error::new(UNKNOWN, format!("there is no user {name}")))?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let change = setgroups(&[]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    change.map_err(|e| Error::new(UNKNOWN, format!("cannot become {name}: {e}")))
}
