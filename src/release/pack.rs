//! lnd's programs, however they came here, as the archive that lnd's release script makes of them: kept if it is the pinned one.

use crate::archive::{self, Member};
use crate::error::{Code, Error, Result};
use crate::host::draft::Draft;
use crate::host::file::{self, Access};
use crate::release::cache;
use crate::release::pins::{Arch, Release};
use crate::release::unpack::{self, PROGRAMS};
use crate::release::verified::{Archive, Provenance, Verified};
use crate::ui;
use crate::ui::progress::Progress;
use std::path::Path;

const UNREADABLE: Code = Code::lacking("E-RELEASE-066");
const OTHER_PROGRAMS: Code = Code::unverified("E-RELEASE-067");

/// Packs the programs in the folder `from`, and leaves the archive in the folder `out`, once `believe` has said what speaks for
/// it and that this is enough.
pub(super) fn pack(
    from: &Path,
    release: &Release,
    arch: Arch,
    out: &Path,
    believe: impl FnOnce(Verified<Archive>) -> Result<Verified<Archive>>,
) -> Result<Verified<Archive>> {
    let name = release.archive_name(arch);
    let progress = Progress::new("packing", None);
    let mut programs =
        PROGRAMS.map(|name| file::open_plain(&from.join(name))).into_iter().collect::<Result<Vec<_>>>()?;
    let mut members = Vec::new();
    for (name, from) in PROGRAMS.into_iter().zip(&mut programs) {
        let size = from.metadata().map_err(|e| Error::new(UNREADABLE, format!("cannot read {name}: {e}")))?.len();
        members.push(Member { name, size, from });
    }
    let mut draft = Draft::begin(&out.join(release.archive_file(arch)), Access::mode(0o644))?;
    archive::pack(&name, members, &mut draft)?;
    progress.say("checking");
    let archive = Verified::hold(draft, None, release, arch, believe)?;
    ui::note(&format!("{name}.tar.gz has the pinned sha256"));
    Ok(archive)
}

/// The official archive of `release` for `arch`, made anew of the programs in the image `reference`, which `take` puts into the
/// folder `apart`; the archive stays in `cache`. An image is believed nothing: its programs have the pinned bytes, or
/// are thrown away.
///
/// # Errors
/// Where they have not, and what `take` ends with; nothing is then kept.
pub fn from_image(
    reference: &str,
    release: &Release,
    arch: Arch,
    cache: &Path,
    apart: &Path,
    take: impl FnOnce(&[&str], &Path) -> Result<()>,
) -> Result<Verified<Archive>> {
    let pin = release.live_pin(arch)?;
    let out = cache::place_of(cache, release, arch);
    cache::claim(cache)?;
    file::remove_tree(apart)?;
    file::make_folder(apart, Access::mode(0o700))?;
    let packed = take(&PROGRAMS, apart).and_then(|()| {
        for (name, pinned) in PROGRAMS.into_iter().zip([&pin.lnd, &pin.lncli]) {
            // Where it is not pinned by itself, the archive's hash says the same a little later.
            let Some(pinned) = pinned else { continue };
            let taken = file::open_plain(&apart.join(name)).and_then(|program| unpack::hash(&program));
            let found = taken.map(|(sha256, _)| sha256).unwrap_or_default();
            if found != *pinned {
                let cause = format!("the {name} in {reference} is not that of lnd {}: sha256 {found}", release.version);
                return Err(Error::new(OTHER_PROGRAMS, cause).hint(format!(
                    "pinned is {pinned}; nothing of it was kept: leave --image out, or name an image of lnd's own archive"
                )));
            }
        }
        file::make_folders(&out)?;
        let provenance = Provenance::Image { reference: reference.to_owned() };
        // No witness of its own: it is the pin alone that says so.
        pack(apart, release, arch, &out, |archive| archive.because_of(provenance).not_alone())
    });
    file::remove_tree(apart)?;
    packed
}

/// Has `back` take back what [`from_image`] began in `cache` with the folder `apart` and was cut off in, where it was: it is
/// given that folder.
///
/// # Errors
/// Those of `back`, and where the cache is somebody else's folder, or that one cannot be removed.
pub fn take_back(cache: &Path, apart: &Path, back: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if !file::is_there(apart)? {
        return Ok(());
    }
    cache::hold(cache)?;
    back(apart)?;
    file::remove_tree(apart).map(drop)
}
