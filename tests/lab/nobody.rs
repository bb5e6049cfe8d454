//! A user without any right, and `lsm` where that user may run it.

use super::{LSM, process};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The number of the user nobody, and of its group.
const NOBODY: u32 = 65_534;

/// A copy of the `lsm` under test that everybody may run. Dropped, it is gone.
pub struct Nobodys(TempDir);

impl Nobodys {
    /// Makes it: what cargo built may be in a folder that nobody else can enter.
    pub fn make() -> Self {
        let copy = Self(tempfile::tempdir_in("/tmp").expect("a folder"));
        process::copy_program(Path::new(LSM), &copy.0.path().join("lsm"));
        for path in [copy.0.path(), &copy.0.path().join("lsm")] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
        }
        copy
    }

    /// As [`as_nobody`].
    pub fn lsm(&self) -> Command {
        as_nobody(self.0.path().join("lsm"))
    }
}

/// A program that nobody runs where the tests are root's, and else whoever runs the tests: without a home.
pub fn as_nobody(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("HOME", "/nonexistent").env_remove("XDG_CACHE_HOME");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
