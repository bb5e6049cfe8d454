//! A verified lnd: pinned releases, fetched or built from source, and never handed out unless the hash is the pinned one.

mod build;
mod chain;
mod download;
mod gomodule;
mod merge;
pub mod minisign;
pub mod pins;
mod policy;
mod stamp;
pub mod trust;
pub mod update;
mod verified;
mod workshop;

pub use build::build;
pub use chain::{keep as keep_update, place_of as place_of_update};
pub use merge::Change;
pub use verified::{Archive, Provenance, Verified, verify};

use crate::error::{Code, Error, Result};
use crate::host::draft::Draft;
use crate::host::file::Access;
use crate::host::{file, user};
use crate::ui;
use pins::{Arch, Release};
use std::path::{Path, PathBuf};

const NO_CACHE: Code = Code::lacking("E-RELEASE-040");

/// Official archives are 30 to 50 MiB.
const ARCHIVE_LIMIT: u64 = 128 << 20;

/// The folder in which lsm keeps what can be had again: for root `/var/cache/lsm`, else `$XDG_CACHE_HOME/lsm` or
/// `~/.cache/lsm`. `LSM_CACHE` names another.
///
/// # Errors
/// Where the user has no home folder.
pub fn default_cache() -> Result<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(cache) = named("LSM_CACHE") {
        return Ok(cache);
    }
    if user::is_root() {
        return Ok("/var/cache/lsm".into());
    }
    let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    cache.map(|c| c.join("lsm")).ok_or_else(|| {
        Error::new(NO_CACHE, "there is no folder to keep downloads in")
            .hint("set HOME or LSM_CACHE to a folder of yours")
    })
}

/// Verifies `path` and demands that it is the archive of `release` for `arch`.
///
/// # Errors
/// As [`verify`], and where it is another release's.
pub fn verify_as(path: &Path, release: &Release, arch: Arch) -> Result<Verified<Archive>> {
    Verified::expect(path, release, arch)
}

/// Downloads the official archive of `release` for `arch` into the folder `out`.
///
/// # Errors
/// Where it cannot be reached, or is not the pinned one: it is then not left in `out`.
pub fn fetch(release: &Release, arch: Arch, out: &Path) -> Result<Verified<Archive>> {
    release.live_pin(arch)?;
    file::make_folders(out)?;
    let url = download::official_url(release, arch);
    let place = out.join(format!("{}.tar.gz", release.archive_name(arch)));
    let mut draft = Draft::begin(&place, Access::mode(0o644))?;
    let title = format!("fetching lnd {}", release.version);
    download::Fetcher::new()?.fetch(&url, &title, ARCHIVE_LIMIT, &mut draft)?;
    let archive = Verified::hold(draft, release, arch)?;
    Ok(archive.because_of(Provenance::Download { url }))
}

/// The official archive of `release` for `arch`: the copy in `cache`, else a download, else a build from source. Each
/// must have the pinned hash; on standard error it says which way it goes, and why.
///
/// # Errors
/// Where none of the three gives it.
pub fn obtain(release: &Release, arch: Arch, cache: &Path) -> Result<Verified<Archive>> {
    release.live_pin(arch)?;
    let folder = cache.join("archive");
    let kept = folder.join(format!("{}.tar.gz", release.archive_name(arch)));
    if kept.exists() {
        match Verified::expect(&kept, release, arch) {
            Ok(archive) => return Ok(archive),
            Err(e) => {
                ui::note(&format!("the kept archive is thrown away: {e}"));
                file::remove(&kept)?;
            }
        }
    }
    match fetch(release, arch, &folder) {
        Ok(archive) => Ok(archive),
        Err(e) => {
            ui::note(&format!("no official archive of lnd {}: {e}", release.version));
            ui::note("building it from source instead; the first time takes some minutes");
            build(release, arch, cache, &folder)
        }
    }
}
