//! How the system keeps itself up to date: what starts by itself for that, when it last did, and which kernels there are.

use super::{Answer, names};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the system keeps itself up to date.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Updates {
    /// Names of units that a boot starts by links in /etc/systemd/system, and that are not masked.
    pub wanted: Answer<BTreeSet<String>>,
    /// Names of units that are masked there: none of them can be enabled.
    #[serde(default)]
    pub masked: BTreeSet<String>,
    /// When each of `STAMPS` was last changed, in seconds since 1970, by its path; absent where there is none.
    pub stamps: BTreeMap<String, Answer<i64>>,
    /// The versions of the kernels that are installed.
    pub kernels: Answer<BTreeSet<String>>,
}

/// Files whose time is asked for.
pub const STAMPS: [&str; 7] = [APT_PROGRAM, APT_RAN, APT_LISTS[0], APT_LISTS[1], DNF_RAN[0], DNF_RAN[1], NOTIFIED];
/// What apt's timer starts; its settings outlive it.
pub const APT_PROGRAM: &str = "/usr/bin/unattended-upgrade";
/// When unattended-upgrades last ran to its end.
pub const APT_RAN: &str = "/var/lib/apt/periodic/unattended-upgrades-stamp";
/// When apt last fetched its lists by itself: as apt notes it, and as Ubuntu's update-notifier-common does besides.
pub const APT_LISTS: [&str; 2] = ["/var/lib/apt/periodic/update-stamp", "/var/lib/apt/periodic/update-success-stamp"];
/// When systemd last started dnf-automatic (systemd.timer(5), `Persistent=`).
pub const DNF_RAN: [&str; 2] =
    ["/var/lib/systemd/timers/stamp-dnf-automatic.timer", "/var/lib/systemd/timers/stamp-dnf-automatic-install.timer"];
/// How many updates wait, as update-notifier counted them.
pub const NOTIFIED: &str = "/var/lib/update-notifier/updates-available";

/// Where root says what starts, and what never does.
const UNITS: &str = "/etc/systemd/system";

impl Updates {
    pub(super) fn gather() -> Self {
        Self {
            wanted: wanted(Path::new(UNITS)),
            masked: masked(Path::new(UNITS)),
            stamps: STAMPS.iter().map(|path| ((*path).to_owned(), changed(Path::new(path)))).collect(),
            kernels: kernels(Path::new("/boot"), Path::new("/usr/lib/modules")),
        }
    }
}

fn changed(path: &Path) -> Answer<i64> {
    fs::metadata(path).map_or_else(|e| Answer::failed(path, &e), |meta| Answer::Is(meta.mtime()))
}

/// What targets want there (systemd.unit(5)): a link that leads nowhere starts nothing, nor does a unit that is masked.
fn wanted(folder: &Path) -> Answer<BTreeSet<String>> {
    let targets = match names(folder) {
        Answer::Is(paths) => paths,
        other => return other.map(|_| BTreeSet::new()),
    };
    let mut wanted = BTreeSet::new();
    for target in targets.iter().filter(|path| path.extension().is_some_and(|end| end == "wants")) {
        match names(target) {
            Answer::Is(links) => wanted.extend(links.iter().filter(|link| link.exists()).map(|link| name(link))),
            Answer::Absent => {}
            Answer::Unknown(why) => return Answer::Unknown(why),
        }
    }
    let masked = masked(folder);
    wanted.retain(|unit| !masked.contains(unit));
    Answer::Is(wanted)
}

fn masked(folder: &Path) -> BTreeSet<String> {
    let is_masked = |path: &&PathBuf| fs::canonicalize(path).is_ok_and(|to| to == Path::new("/dev/null"));
    let units = names(folder).take().ok().flatten().unwrap_or_default();
    units.iter().filter(is_masked).map(|path| name(path)).collect()
}

/// Debian's packages put a kernel into /boot, others next to its modules.
fn kernels(boot: &Path, modules: &Path) -> Answer<BTreeSet<String>> {
    let images: Answer<Vec<PathBuf>> = names(boot);
    let trees = names(modules);
    let version = |path: &PathBuf| name(path).strip_prefix("vmlinuz-").map(str::to_owned);
    let mut found = BTreeSet::new();
    match (&images, &trees) {
        (Answer::Unknown(why), _) | (_, Answer::Unknown(why)) => return Answer::Unknown(why.clone()),
        (Answer::Absent, Answer::Absent) => return Answer::Absent,
        _ => {}
    }
    if let Answer::Is(images) = images {
        found.extend(images.iter().filter_map(version));
    }
    if let Answer::Is(trees) = trees {
        found.extend(trees.iter().filter(|tree| tree.join("vmlinuz").exists()).map(|tree| name(tree)));
    }
    if found.is_empty() { Answer::Absent } else { Answer::Is(found) }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_boot_starts_what_is_linked_and_there_and_not_masked() {
        let dir = tempfile::tempdir().unwrap();
        let wants = dir.path().join("timers.target.wants");
        fs::create_dir(&wants).unwrap();
        fs::write(dir.path().join("there"), "").unwrap();
        for unit in ["a.timer", "masked.timer"] {
            symlink("../there", wants.join(unit)).unwrap();
        }
        symlink("/no/such", wants.join("gone.timer")).unwrap();
        symlink("/dev/null", dir.path().join("masked.timer")).unwrap();
        assert_eq!(wanted(dir.path()), Answer::Is(BTreeSet::from(["a.timer".to_owned()])));
        assert_eq!(masked(dir.path()), BTreeSet::from(["masked.timer".to_owned()]));
        assert_eq!(wanted(&dir.path().join("none")), Answer::Absent);
    }

    #[test]
    fn kernels_are_found_where_packages_put_them() {
        let dir = tempfile::tempdir().unwrap();
        let (boot, modules) = (dir.path().join("boot"), dir.path().join("modules"));
        assert_eq!(kernels(&boot, &modules), Answer::Absent);
        fs::create_dir_all(modules.join("5.14.0-1.el9.x86_64")).unwrap();
        fs::create_dir_all(modules.join("5.14.0-2.el9.x86_64")).unwrap();
        fs::write(modules.join("5.14.0-1.el9.x86_64/vmlinuz"), "").unwrap();
        fs::create_dir(&boot).unwrap();
        fs::write(boot.join("vmlinuz-6.1.0-28-amd64"), "").unwrap();
        fs::write(boot.join("initrd.img-6.1.0-29-amd64"), "").unwrap();
        let wanted = ["5.14.0-1.el9.x86_64", "6.1.0-28-amd64"].map(str::to_owned);
        assert_eq!(kernels(&boot, &modules), Answer::Is(BTreeSet::from(wanted)));
    }
}
