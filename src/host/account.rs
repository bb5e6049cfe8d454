//! Accounts as the system keeps them: taken away and put back, line by line, under the lock that every such tool takes.
//!
//! There is no counterpart to systemd-sysusers(8) that removes a user, and userdel(8), cut off between its four files,
//! does not find the rest again.

use crate::error::{Code, Error, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, cannot_write};
use crate::host::xattrs;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCKED: Code = Code::refused("E-HOST-070");
const BAD_LINES: Code = Code::refused("E-HOST-071");

/// passwd(5), group(5), shadow(5), gshadow(5).
const FILES: [&str; 4] = ["passwd", "group", "shadow", "gshadow"];
/// As long as glibc's lckpwdf(3) waits.
const PATIENCE: Duration = Duration::from_secs(15);
/// Ten thousands of users.
const LIMIT: u64 = 16 << 20;

/// The lines of one user and of its group, by the files that they stand in.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lines(BTreeMap<String, String>);

impl Lines {
    /// True where there is no such user, and nothing left of one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files that have a line: all four, but where somebody is making or removing the user.
    pub fn files(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The lines as bytes, to be given to [`Accounts::put`].
    ///
    /// # Errors
    /// Where they cannot be written as JSON.
    pub fn render(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::new(BAD_LINES, "an account has no text").because(e))
    }
}

/// The accounts below one folder, `/etc` but in tests.
#[derive(Debug)]
pub struct Accounts {
    folder: PathBuf,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { folder: "/etc".into() }
    }
}

impl Accounts {
    /// Where tools keep passwd(5) and group(5) as they were before their last change. Not the other two: what would be kept of
    /// those are passwords' hashes, and nothing of lsm's needs them back.
    pub fn backups(&self) -> [PathBuf; 2] {
        ["passwd-", "group-"].map(|name| self.folder.join(name))
    }

    /// The files themselves.
    pub fn files(&self) -> [PathBuf; 4] {
        FILES.map(|name| self.folder.join(name))
    }

    /// The lines of the user `name` and of its group.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn find(&self, name: &str) -> Result<Lines> {
        let mut found = BTreeMap::new();
        for file in FILES {
            let text = self.read(file)?.unwrap_or_default();
            if let Some(line) = text.lines().find(|line| is_of(line, name)) {
                found.insert(file.to_owned(), line.to_owned());
            }
        }
        Ok(Lines(found))
    }

    /// Puts back the [`Lines::render`] of `name`; what has that name now gives way.
    ///
    /// # Errors
    /// Where the files cannot be locked or written.
    pub fn put(&self, name: &str, lines: &[u8]) -> Result<()> {
        let bad = |e| Error::new(BAD_LINES, format!("what was kept of the user {name} cannot be read")).because(e);
        let lines: Lines = serde_json::from_slice(lines).map_err(bad)?;
        self.change(name, &lines.0)
    }

    /// Takes the user `name` and its group away. None of its processes may run.
    ///
    /// # Errors
    /// Where the files cannot be locked or written.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.change(name, &BTreeMap::new())
    }

    /// Makes sure that what systemd-sysusers(8) did is on the disk: it syncs files, not their folder.
    ///
    /// # Errors
    /// Where that fails.
    pub fn sync(&self) -> Result<()> {
        file::sync_folder(&self.folder)
    }

    /// Removes what systemd-sysusers(8) leaves beside the files where the power is cut: `.#NAME` and six characters, as
    /// mkostemp(3) draws them. Under the lock nobody is at work on any.
    ///
    /// # Errors
    /// Where the files cannot be locked, or one cannot be removed.
    pub fn clear_left(&self) -> Result<()> {
        let _lock = self.lock()?;
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let random =
                |name: &str| FILES.iter().find_map(|file| name.strip_prefix(".#")?.strip_prefix(file)?.len().into());
            if name.to_str().and_then(random) == Some(6) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                file::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn change(&self, name: &str, lines: &BTreeMap<String, String>) -> Result<()> {
        let _lock = self.lock()?;
        for file in FILES {
            let Some(text) = self.read(file)? else { continue };
            let mut new: String = text.split_inclusive('\n').filter(|line| !is_of(line, name)).collect();
            if let Some(line) = lines.get(file) {
                // Whoever edits by hand may leave the last line without its end.
                if !new.is_empty() && !new.ends_with('\n') {
                    new.push('\n');
                }
                new.push_str(line);
                new.push('\n');
            }
            if new != text {
                self.write(file, &new)?;
            }
        }
        Ok(())
    }

    fn read(&self, file: &str) -> Result<Option<String>> {
        let path = self.folder.join(file);
        if !file::is_there(&path)? {
            return Ok(None);
        }
        // Lossless: what is not UTF-8 is nobody's that lsm made, and is not to be spoilt.
        let text = String::from_utf8(file::read(&path, LIMIT)?);
        text.map(Some).map_err(|_| Error::new(BAD_LINES, format!("{} is not UTF-8 text", path.display())))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        let Some(access) = file::access_of(&path)? else { return Ok(()) };
        let mut draft = Draft::begin(&path, access)?;
        xattrs::write(draft.file(), &path, &xattrs::read(&path)?)?;
        draft.write_all(text.as_bytes()).map_err(|e| cannot_write(&path, &e))?;
        draft.keep(Durable::Yes)
    }

    /// The lock of lckpwdf(3), as glibc takes it; nobody else changes these files meanwhile.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join(".pwd.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(|e| cannot_write(&path, &e))?;
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
                Ok(_) => return Ok(file),
                Err(Errno::EACCES | Errno::EAGAIN) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(e) => {
                    return Err(Error::new(LOCKED, format!("the accounts are locked: {e}"))
                        .hint(format!("another tool changes users; see: fuser {}", shown(&path))));
                }
            }
        }
    }
}

fn is_of(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(first, _)| first == name)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn an_account_goes_and_comes_back_and_the_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts { folder: dir.path().to_owned() };
        let texts = [
            ("passwd", "root:x:0:0::/root:/bin/sh\nlsm-a:x:9:9::/:/no\nlsm-ab:x:8:8::/:/no\n"),
            ("group", "root:x:0:lsm-a\nlsm-ab:x:8:\nlsm-a:x:9:\n"),
            ("shadow", "lsm-a:!:1::::::\n"),
        ];
        for (name, text) in texts {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let kept = accounts.find("lsm-a").unwrap();
        assert_eq!(kept.files(), ["group", "passwd", "shadow"]);
        accounts.remove("lsm-a").unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("passwd"), "root:x:0:0::/root:/bin/sh\nlsm-ab:x:8:8::/:/no\n");
        assert_eq!(read("group"), "root:x:0:lsm-a\nlsm-ab:x:8:\n");
        assert_eq!(read("shadow"), "");
        assert_eq!(fs::metadata(dir.path().join("shadow")).unwrap().mode() & 0o777, 0o640);
        assert!(accounts.find("lsm-a").unwrap().is_empty() && !accounts.find("lsm-ab").unwrap().is_empty());
        accounts.put("lsm-a", &kept.render().unwrap()).unwrap();
        accounts.put("lsm-a", &kept.render().unwrap()).unwrap();
        assert!(accounts.find("lsm-a").unwrap() == kept);
        assert_eq!(read("passwd").matches("lsm-a:").count(), 1);
        assert!(!dir.path().join("gshadow").exists());
        // A last line without its end stays the other account's.
        accounts.remove("lsm-a").unwrap();
        fs::write(dir.path().join("group"), "root:x:0:\nusers:x:100:").unwrap();
        accounts.put("lsm-a", &kept.render().unwrap()).unwrap();
        assert_eq!(read("group"), "root:x:0:\nusers:x:100:\nlsm-a:x:9:\n");
    }

    #[test]
    fn what_a_power_cut_left_of_a_new_user_goes_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let left = [".#passwdXj4ZfT", ".#groupEQTdc6", ".#shadowRthHeG", ".#gshadowsbz9PI"];
        let others = ["passwd", "shadow-", ".#passwd", ".#hostsXj4ZfT", ".#passwdXj4ZfTq", "#passwdXj4ZfT"];
        left.iter().chain(&others).for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        Accounts { folder: dir.path().to_owned() }.clear_left().unwrap();
        assert!(left.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
