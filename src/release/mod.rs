//! A verified lnd: pinned releases, fetched or built from source, and never handed out unless the hash is the pinned one.

pub mod cache;
mod download;
mod installed;
pub mod known;
mod pack;
pub mod pins;
pub mod policy;
pub mod quorum;
mod source;
pub mod trust;
mod unpack;
mod verified;
pub mod witness;

pub use cache::default_cache;
pub use installed::Installed;
pub use pack::{from_image, take_back};
pub use policy::chain::{keep as keep_update, place_of as place_of_update};
pub use policy::merge::Change;
pub use source::build;
pub use unpack::set_unpacker;
pub use unpack::unpacker::serve as serve_unpacking;
pub use verified::{Archive, Provenance, Verified, verify, verify_and_unpack};

use crate::error::{Exit, Result};
use crate::host::draft::Draft;
use crate::host::file::{self, Access};
use crate::ui;
use download::Fetcher;
use pins::{Arch, Release};
use quorum::papers::Papers;
use std::path::Path;

/// Verifies `path` and demands that it is the archive of `release` for `arch`.
///
/// # Errors
/// As [`verify`], and where it is another release's.
pub fn verify_as(path: &Path, release: &Release, arch: Arch, needed: Option<usize>) -> Result<Verified<Archive>> {
    Verified::expect(path, release, arch, needed)
}

/// Downloads the official archive of `release` for `arch`, with the manifest and the signatures on it, into the folder
/// `out`, which [`verify`] reads on a machine without a network. `needed` is as there.
///
/// # Errors
/// Where the archive cannot be reached, is not the pinned one, or a signature is bad: nothing of it is then left in `out`.
/// Missing signatures are told, and no fault unless they are needed.
pub fn fetch(release: &Release, arch: Arch, out: &Path, needed: Option<usize>) -> Result<Verified<Archive>> {
    let pinned = &release.live_pin(arch)?.sha256;
    let (mirrors, fetcher) = (download::mirrors()?, Fetcher::https_only()?);
    let name = release.archive_file(arch);
    let mut draft = Draft::begin(&out.join(&name), Access::mode(0o644))?;
    let (path, title) = (format!("{}/{name}", release.version), format!("fetching lnd {}", release.version));
    let url = fetcher.fetch_pinned(&mirrors, &path, pinned, &title, unpack::ARCHIVE_LIMIT, &mut draft)?;
    let papers = match Papers::fetch(&fetcher, &mirrors, release, trust::in_force()?) {
        Ok(papers) => Some(papers),
        Err(e) if e.code().exit == Exit::Lacking => {
            ui::note(&format!("no signed manifest of lnd {}: {e}", release.version));
            None
        }
        Err(e) => return Err(e),
    };
    let archive = Verified::hold(draft, Some(pinned.clone()), release, arch, |archive| {
        Ok(archive.believe(papers.as_ref(), needed)?.because_of(Provenance::Download { url }))
    })?;
    if let Some(papers) = papers {
        papers.keep(out, release)?;
    }
    Ok(archive)
}

/// The official archive of `release` for `arch`: the copy in `cache`, else a download, else a build from source; on
/// standard error it says which way it goes, and why. `needed` is as in [`verify`]; no build replaces signatures that are
/// needed.
///
/// # Errors
/// Where `cache` is somebody else's folder, none of the three gives it, or a download is not what it has to be: then nothing is
/// built either.
pub fn obtain(release: &Release, arch: Arch, cache: &Path, needed: Option<usize>) -> Result<Verified<Archive>> {
    release.live_pin(arch)?;
    cache::claim(cache)?;
    let folder = cache::place_of(cache, release, arch);
    if let Some(archive) = kept(&folder, release, arch, needed)? {
        return Ok(archive);
    }
    match fetch(release, arch, &folder, needed) {
        Err(e) if e.code().exit == Exit::Lacking && needed.is_none() => {
            ui::note(&format!("no official archive of lnd {}: {e}", release.version));
            ui::note("building it from source instead; the first time takes some minutes");
            build(release, arch, cache, &folder)
        }
        done => done,
    }
}

/// The archive that an earlier download or build left in `folder`. One that is false is thrown away; one that is only
/// lacking something, like the signatures that are needed now, stays for those who do not need that.
fn kept(folder: &Path, release: &Release, arch: Arch, needed: Option<usize>) -> Result<Option<Verified<Archive>>> {
    if !folder.join(release.archive_file(arch)).exists() {
        return Ok(None);
    }
    match Verified::expect(folder, release, arch, needed) {
        Ok(archive) => Ok(Some(archive)),
        Err(e) if e.code().exit == Exit::Unverified => {
            ui::note(&format!("the kept archive is thrown away: {e}"));
            file::remove_tree(folder)?;
            Ok(None)
        }
        Err(e) if e.code().exit == Exit::Lacking => {
            ui::note(&format!("the kept archive is not used: {e}"));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_archive_is_thrown_away_only_where_it_is_false() {
        let cache = tempfile::tempdir().unwrap();
        let (release, folder) = (known::find("v0.21.3-beta").unwrap(), cache.path().join("kept"));
        let archive = folder.join(format!("{}.tar.gz", release.archive_name(Arch::Amd64)));
        let kept = || kept(&folder, release, Arch::Amd64, None).map(|kept| kept.is_some());
        assert!(!kept().unwrap());
        // A build that failed leaves its folder empty.
        std::fs::create_dir(&folder).unwrap();
        assert!(!kept().unwrap());
        // No plain file: whoever put it there, it is not lsm's to throw away.
        std::fs::create_dir(&archive).unwrap();
        assert!(kept().unwrap_err().code().exit == Exit::Usage && archive.exists());
        std::fs::write(folder.join("lnd-linux-other.tar.gz"), b"").unwrap();
        assert_eq!(kept().unwrap_err().code().exit, Exit::Usage);
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&archive, b"false").unwrap();
        assert!(!kept().unwrap() && !folder.exists());
    }
}
