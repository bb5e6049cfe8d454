//! The launch policy: what a program may reach, as a file.

use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::sandbox::limits::Limits;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const BAD_POLICY: Code = Code::usage("E-SANDBOX-011");

/// The only thing that an entry may begin with besides `/`: where systemd puts a unit's secrets (systemd.exec(5)).
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY";

/// What a program may reach besides itself. Nothing, unless said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Files, or folders with all below, that may be read.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// Files, or folders with all below, that may be read, written, made and removed.
    #[serde(default)]
    pub write: Vec<PathBuf>,
    /// TCP ports that may be listened on. Without one there is no TCP.
    #[serde(default)]
    pub listen: Vec<u16>,
    /// The unix socket that the program makes: what an earlier one left there is removed.
    pub socket: Option<PathBuf>,
    /// What it makes is its group's too, as far as the caller's umask lets it.
    #[serde(default)]
    pub group: bool,
    /// It has a database of SQLite's, which makes some calls of its own.
    #[serde(default)]
    pub sqlite: bool,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
}

impl Policy {
    /// Reads the policy at `path`.
    ///
    /// # Errors
    /// Where it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
        let text = file::read_named(path, 1 << 16)?;
        let bad =
            |e: &dyn std::fmt::Display| Error::new(BAD_POLICY, format!("{} is no launch policy: {e}", path.display()));
        let text = String::from_utf8(text).map_err(|_| bad(&"it is not UTF-8 text"))?;
        Self::parse(&text, credentials).map_err(|e| {
            let error = bad(&e);
            error.hint(
                "it holds read, write and listen (lists), socket, and a table limits; `lsm install` writes it anew",
            )
        })
    }

    fn parse(text: &str, credentials: Option<OsString>) -> std::result::Result<Self, String> {
        // toml's own text shows the line over several; one line is what an error has.
        let mut policy: Self = toml::from_str(text).map_err(|e| match e.span() {
            Some(span) => format!("line {}: {}", text[..span.start].lines().count().max(1), e.message()),
            None => e.message().to_owned(),
        })?;
        policy.read = expand(policy.read, credentials.as_deref())?;
        policy.write = expand(policy.write, credentials.as_deref())?;
        check_absolute(policy.socket.iter())?;
        if policy.listen.contains(&0) {
            // To the kernel that means any port that is free.
            return Err("0 is no port".to_owned());
        }
        Ok(policy)
    }
}

/// The entries with `$CREDENTIALS_DIRECTORY` replaced; without such a folder those that name it are left out.
fn expand(entries: Vec<PathBuf>, credentials: Option<&std::ffi::OsStr>) -> std::result::Result<Vec<PathBuf>, String> {
    let mut expanded = Vec::new();
    for entry in entries {
        if let Ok(rest) = entry.strip_prefix(CREDENTIALS) {
            expanded.extend(credentials.map(|folder| Path::new(folder).join(rest)));
        } else {
            expanded.push(entry);
        }
    }
    check_absolute(expanded.iter()).map(|()| expanded)
}

fn check_absolute<'a>(mut paths: impl Iterator<Item = &'a PathBuf>) -> std::result::Result<(), String> {
    match paths.find(|path| !path.is_absolute()) {
        Some(path) => Err(format!("{} is no absolute path", path.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Policy, String> {
        Policy::parse(text, Some("/run/credentials/x".into()))
    }

    #[test]
    fn a_whole_policy_is_read() {
        let policy = parse(
            "read = [\"/etc/a\", \"$CREDENTIALS_DIRECTORY\", \"$CREDENTIALS_DIRECTORY/b\"]\nwrite = [\"/var/c\"]\n\
            listen = [10012]\nsocket = \"/run/d.sock\"\n[limits]\nfiles = 1\nprocesses = 2\nmemory = 3\nfile-size = 4\n",
        );
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let limits = Limits { files: Some(1), processes: Some(2), memory: Some(3), file_size: Some(4) };
        let wanted = Policy {
            read: paths(&["/etc/a", "/run/credentials/x", "/run/credentials/x/b"]),
            write: paths(&["/var/c"]),
            listen: vec![10012],
            group: false,
            sqlite: false,
            socket: Some("/run/d.sock".into()),
            limits,
        };
        assert_eq!(policy.unwrap(), wanted);
        assert_eq!(parse("").unwrap(), Policy::default());
        let without = Policy::parse("read = [\"/a\", \"$CREDENTIALS_DIRECTORY/b\"]", None).unwrap();
        assert_eq!(without.read, paths(&["/a"]));
    }

    #[test]
    fn what_is_not_known_or_not_whole_is_refused() {
        for bad in [
            "reads = []",
            "read = [\"etc\"]",
            "read = [\"$HOME/x\"]",
            "read = [\"$CREDENTIALS_DIRECTORY_X\"]",
            "write = \"/a\"",
            "listen = [0]",
            "listen = [65536]",
            "socket = \"a\"",
            "socket = \"$CREDENTIALS_DIRECTORY/a\"",
            "[limits]\nseconds = 1",
            "[limits]\nfiles = -1",
        ] {
            let refused = parse(bad).unwrap_err();
            assert!(!refused.contains('\n'), "{refused}");
        }
    }
}
