//! The lists of users, groups and passwords (passwd(5), group(5), shadow(5)): of a password its kind alone is kept.

use crate::facts::audit::Answer;
use crate::host::file;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    let kind = |fields: &Vec<&str>| Some(((*fields.first()?).to_owned(), Password::of(fields.get(1)?)));
    read("/etc/shadow").map(|text| lines(&text).filter_map(|line| kind(&line)).collect())
}

/// The text is kept as a secret is: it may hold hashes.
fn read(path: &str) -> Answer<Secret> {
    let path = Path::new(path);
    Answer::of_file(path, || file::read_named(path, LIMIT).map(Secret::new))
}

/// The fields of each line. A line that is no text is nobody's who can be named.
fn lines(text: &Secret) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.expose().split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter(|line| !line.is_empty()).map(|line| line.split(':').collect())
}

fn user(fields: &[&str]) -> Option<User> {
    let [name, password, uid, gid, _, home, shell] = fields else { return None };
    Some(User {
        name: (*name).to_owned(),
        password: Password::of(password),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
        shell: (*shell).to_owned(),
    })
}

fn group(fields: &[&str]) -> Option<Group> {
    let [name, _, gid, members] = fields else { return None };
    let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Some(Group { name: (*name).to_owned(), gid: gid.parse().ok()?, members })
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
            Secret::new(b"root:x:0:0:r:/root:/bin/sh\n\n# x\n+::::::\n\xff:x:1:1::/:\nbad:x:-1:0::/:/\n".to_vec());
        let users: Vec<User> = lines(&text).filter_map(|line| user(&line)).collect();
        assert_eq!(users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["root"]);
        let text = Secret::new(b"sudo:x:27:a,b\nlsm:!:9:\n".to_vec());
        let groups: Vec<Group> = lines(&text).filter_map(|line| group(&line)).collect();
        assert_eq!(groups[0].members, ["a", "b"]);
        assert!(groups[1].members.is_empty());
    }
}
