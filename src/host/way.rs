//! The way to a place: who besides root and the running user could change what is there, or put something else in its place.

use crate::host::user;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Only the owner of what is in such a folder may rename or remove it (inode(7)).
const STICKY: u32 = 0o1000;

/// The links on the way that are followed (path_resolution(7)).
const LINKS: usize = 40;

/// What others can change of `path`: the place itself, or a folder or link on the way to it. It need not be there yet; nothing
/// where all of it is closed to them.
pub fn open_to_others(path: &Path) -> Option<PathBuf> {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let own = std::fs::metadata(path).map_or(true, |about| is_own(&about));
    let is_closed = |about: Metadata| is_own(&about) || user::is_root_or_own(about.uid()) && about.mode() & STICKY != 0;
    let is_foreign = |part: &&Path| std::fs::symlink_metadata(part).is_ok_and(|about| !is_closed(about));
    let mut ways = std::iter::successors(Some(path.to_owned()), |path| follow(path)).take(LINKS);
    let way = || ways.find_map(|path| path.ancestors().find(is_foreign).map(Path::to_owned));
    Some(path.to_owned()).filter(|_| !own).or_else(way)
}

/// The path with the first link on it followed; none where it has none.
fn follow(path: &Path) -> Option<PathBuf> {
    let parts: Vec<&Path> = path.ancestors().collect();
    let link = parts.into_iter().rev().find(|part| part.is_symlink())?;
    let to = link.parent()?.join(std::fs::read_link(link).ok()?);
    let after = path.strip_prefix(link).ok()?;
    Some(if after.as_os_str().is_empty() { to } else { to.join(after) })
}

/// Whether nobody but root and the running user can change what this is of. The user's own group counts as the user: where a umask
/// lets it write, it has nobody else in it.
fn is_own(about: &Metadata) -> bool {
    let others = if about.gid() == nix::unistd::getegid().as_raw() { 0o002 } else { 0o022 };
    user::is_root_or_own(about.uid()) && (about.is_symlink() || about.mode() & others == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn who_may_write_on_the_way_could_lead_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (above, link) = (dir.path().join("above"), dir.path().join("link"));
        let (place, new) = (above.join("place"), above.join("new"));
        fs::create_dir_all(&place).unwrap();
        symlink(&place, &link).unwrap();
        let allow = |folder: &Path, mode| fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        let found = || [&place, &link, &new].map(|path| open_to_others(path));
        for (mode, is_open) in [(0o755, false), (0o757, true), (0o1777, false)] {
            allow(&above, mode);
            assert_eq!(found(), [(); 3].map(|()| is_open.then(|| above.clone())), "{mode:o}");
        }
        // What is to be written into is to be its owner's alone.
        allow(&place, 0o1777);
        assert_eq!(found(), [Some(place.clone()), Some(link.clone()), None]);
        // A link that leads over a folder of somebody else's.
        allow(&place, 0o755);
        let (between, over) = (above.join("link"), dir.path().join("over"));
        symlink(dir.path(), &between).unwrap();
        symlink(between.join("place"), &over).unwrap();
        fs::create_dir(dir.path().join("place")).unwrap();
        assert_eq!(open_to_others(&over), None);
        allow(&above, 0o757);
        assert_eq!(open_to_others(&over), Some(above.clone()));
        if user::is_root() {
            allow(&above, 0o775);
            assert_eq!(found(), [None, None, None], "root's own group");
            chown(&above, None, Some(1)).unwrap();
            assert_eq!(found(), [(); 3].map(|()| Some(above.clone())), "another group");
        }
    }
}
