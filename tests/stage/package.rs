//! The Debian package, made of an lsm that was built.

use crate::lab::{self, process};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian calls this machine's processor.
pub const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Its file name.
pub fn name() -> String {
    format!("lsm-signer_{}_{ARCH}.deb", env!("CARGO_PKG_VERSION"))
}

/// Whether these programs are here; said as a skip where one is not.
#[track_caller]
pub fn has(programs: &[&str]) -> bool {
    let lacking = programs.iter().find(|program| lsm::host::program::find(program).is_none());
    if let Some(program) = lacking {
        lab::skip(&format!("this machine has no {program}"));
    }
    lacking.is_none()
}

/// Makes it in `folder` of the lsm under test; `None`, said as a skip, where this machine cannot.
#[track_caller]
pub fn make(folder: &Path) -> Option<PathBuf> {
    has(&["dpkg-deb", "git", "strip", "jq"]).then(|| make_of(&strip(folder), folder))
}

/// The lsm under test in `folder`, without what debuggers need, as it is handed out.
#[track_caller]
pub fn strip(folder: &Path) -> PathBuf {
    let program = folder.join("lsm");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&program).arg(lab::LSM);
    process::run(strip).ok();
    program
}

/// Makes it in `folder` of this program.
#[track_caller]
pub fn make_of(program: &Path, folder: &Path) -> PathBuf {
    let mut make = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/deb"));
    make.arg(program).arg(ARCH).arg(folder).arg(lab::LSM);
    process::run(make).ok();
    folder.join(name())
}
