//! The lists of users, groups and passwords (passwd(5), group(5), shadow(5)): of a password its kind alone is kept.

use crate::facts::audit::Answer;
use crate::host::file;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No list of a signer host's users is near this, in bytes.
const LIMIT: u64 = 4 << 20;
/// The length of a hash of traditional DES (crypt(5)).
const DES: usize = 13;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The kind of what stands in the password's place.
    pub password: Password,
    /// The number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// The home folder.
    pub home: PathBuf,
    /// The login shell; empty means /bin/sh.
    pub shell: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The number.
    pub gid: u32,
    /// The names of those who are in it beside those whose primary group it is.
    pub members: Vec<String>,
}

/// Of what kind a password is (crypt(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Password {
    /// It is in /etc/shadow.
    Shadowed,
    /// None is asked for.
    Empty,
    /// None fits.
    Locked,
    /// A hash of DES: eight characters count.
    Des,
    /// A hash of MD5, or of MD4.
    Md5,
    /// A hash that takes its time.
    Strong,
}

impl Password {
    fn of(field: &str) -> Self {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
        let starts = |all: &[&str]| all.iter().any(|prefix| field.starts_with(prefix));
        match field {
            "" => Self::Empty,
            "x" => Self::Shadowed,
            _ if starts(&["$1$", "$md5", "$3$"]) => Self::Md5,
            _ if starts(&["$"]) => Self::Strong,
            _ if starts(&["_"]) => Self::Des,
            _ if field.len() == DES && field.bytes().all(is_letter) => Self::Des,
            _ => Self::Locked,
        }
    }
}

pub(super) fn users() -> Answer<Vec<User>> {
    read("/etc/passwd").map(|text| lines(&text).filter_map(|line| user(&line)).collect())
}

pub(super) fn groups() -> Answer<Vec<Group>> {
    read("/etc/group").map(|text| lines(&text).filter_map(|line| group(&line)).collect())
}

pub(super) fn passwords() -> Answer<BTreeMap<String, Password>> {
    let kind =
        |fields: &Vec<&[u8]>| Some((text(fields.first()?), Password::of(&String::from_utf8_lossy(fields.get(1)?))));
    read("/etc/shadow").map(|text| lines(&text).filter_map(|line| kind(&line)).collect())
}

/// The text is kept as a secret is: it may hold hashes.
fn read(path: &str) -> Answer<Secret> {
    let path = Path::new(path);
    Answer::of_file(path, || file::read_named(path, LIMIT).map(Secret::new))
}

/// The fields of each line that the C library takes for an entry (glibc, nss/nss_files/files-parse.c): blanks before it do not
/// count, and neither comments nor lines of the old NIS are one.
fn lines(text: &Secret) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = text.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    let entries = lines.filter(|line| line.first().is_some_and(|first| !b"#+-".contains(first)));
    entries.map(|line| line.split(|byte| *byte == b':').collect())
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// A number as the C library reads it (strtoul(3)): blanks and a sign may be before it, and one that is too large is the largest.
fn number(field: &[u8]) -> Option<u32> {
    let field = field.trim_ascii_start();
    let (is_negative, digits) = match field.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, field),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u32::MAX);
    Some(if is_negative && number != 0 { u32::MAX } else { number })
}

/// What is missing at the end is empty.
fn user(fields: &[&[u8]]) -> Option<User> {
    let [name, password, uid, gid, rest @ ..] = fields else { return None };
    let home = rest.get(1).copied().unwrap_or_default();
    let shell = rest.get(2..).unwrap_or_default().join(&b':');
    Some(User {
        name: text(name),
        password: Password::of(&String::from_utf8_lossy(password)),
        uid: number(uid)?,
        gid: number(gid)?,
        home: PathBuf::from(OsStr::from_bytes(home)),
        shell: text(&shell),
    })
}

fn group(fields: &[&[u8]]) -> Option<Group> {
    let [name, _, gid, rest @ ..] = fields else { return None };
    let members = rest.first().copied().unwrap_or_default().split(|byte| *byte == b',');
    let members = members.map(|name| text(name.trim_ascii_start())).filter(|name| !name.is_empty()).collect();
    Some(Group { name: text(name), gid: number(gid)?, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_password_its_kind_is_kept() {
        for (field, wanted) in [
            ("", Password::Empty),
            ("x", Password::Shadowed),
            ("*", Password::Locked),
            ("!", Password::Locked),
            ("!*", Password::Locked),
            ("!$6$salt$hash", Password::Locked),
            ("rqXexS6ZhobKA", Password::Des),
            ("_J9..CCCCXBrJUJV154M", Password::Des),
            ("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", Password::Md5),
            ("$3$$8846f7eaee8fb117ad06bdd830b7586c", Password::Md5),
            ("$5$s$h", Password::Strong),
            ("$6$s$h", Password::Strong),
            ("$y$j9T$s$h", Password::Strong),
            ("$2b$05$h", Password::Strong),
        ] {
            assert_eq!(Password::of(field), wanted, "{field:?}");
        }
    }

    #[test]
    fn lists_are_read_line_by_line_and_what_is_no_entry_is_left_out() {
        let text =
            b"root:x:0:0:r:/root:/bin/sh\n\n# x\n+::::::\n+x::0:0:::\nbad:x:0x:0::/:\nbad:x::0::/:\nbad:x:0\n".to_vec();
        let text = Secret::new(text);
        let users: Vec<User> = lines(&text).filter_map(|line| user(&line)).collect();
        assert_eq!(users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["root"]);
        // All of these are root to the C library, and need no password.
        for line in [
            "toor::0:0::/root",
            "toor::0:0",
            "toor:: 0:0::/root:/bin/sh",
            "  toor::-0:+0::/root:/bin/sh:x",
            "toor::000:0:x:/:",
            "\ttoor::0:0:::",
        ] {
            let text = Secret::new(line.as_bytes().to_vec());
            let users: Vec<User> = lines(&text).filter_map(|line| user(&line)).collect();
            let [one] = &users[..] else { panic!("{line}: {users:?}") };
            assert_eq!((one.name.as_str(), one.uid, one.gid, one.password), ("toor", 0, 0, Password::Empty), "{line}");
        }
        let text = Secret::new(b"\xff::0:0::/:\nfar:x:4294967296:-1::/:/\n".to_vec());
        let users: Vec<User> = lines(&text).filter_map(|line| user(&line)).collect();
        assert_eq!(users.iter().map(|user| (user.uid, user.gid)).collect::<Vec<_>>(), [(0, 0), (u32::MAX, u32::MAX)]);
        let text = Secret::new(b"sudo:x:27:a, b\nlsm:!:9:\nshort:x:8\n".to_vec());
        let groups: Vec<Group> = lines(&text).filter_map(|line| group(&line)).collect();
        assert_eq!(groups[0].members, ["a", "b"]);
        assert!(groups[1].members.is_empty() && groups[2].gid == 8);
    }
}
