//! What lnd's memory and files can come to lie on, down to the disk, and what of a dead lnd lies there already.

use super::{Answer, Signer, names, unescape};
use crate::host::{file, user};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod coredump;
mod cores;
mod device;

pub use device::Device;

/// What lnd's memory and files can come to lie on, and what of a dead lnd lies there already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disks {
    /// Where memory is swapped out to (proc_swaps(5)).
    pub swaps: Answer<Vec<Swap>>,
    /// What each signer's folder is on, by the signer's name; absent where there is no such folder.
    pub folders: BTreeMap<String, Answer<Folder>>,
    /// The same of the folder of its data; absent where that is in its own.
    #[serde(default)]
    pub data: BTreeMap<String, Answer<Folder>>,
    /// Core dumps of an lnd, and of the kernel, which hold all memory.
    pub cores: Answer<Vec<PathBuf>>,
    /// What systemd-coredump(8) is told to keep of a dump, by the settings' names. Where nothing tells it, it keeps all.
    #[serde(default = "Answer::absent")]
    pub coredump: Answer<BTreeMap<String, String>>,
}

/// Where memory is swapped out to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Swap {
    /// The device or file.
    pub name: String,
    /// What it is on.
    pub on: Answer<Device>,
}

/// What a signer's folder is on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Folder {
    /// The device.
    pub on: Answer<Device>,
    /// How much of the file system's space is free to users, in percent.
    pub space: Answer<u64>,
    /// How many of its inodes are free to users, in percent; absent where it has no fixed number of them.
    pub inodes: Answer<u64>,
}

impl Disks {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        let folder = |signer: &Signer| match &signer.folder {
            Some(folder) => signer.made(look(&signer.here(folder))),
            None => Answer::Unknown("where its folder is, nothing says".to_owned()),
        };
        let data = |signer: &Signer| signer.data.clone().and_then(|data| signer.made(look(&data)));
        Self {
            swaps: swaps(),
            folders: signers.iter().map(|signer| (signer.name.clone(), folder(signer))).collect(),
            data: signers.iter().map(|signer| (signer.name.clone(), data(signer))).collect(),
            cores: cores::find(signers),
            coredump: coredump::settings(),
        }
    }
}

fn swaps() -> Answer<Vec<Swap>> {
    let path = Path::new("/proc/swaps");
    Answer::of_file(path, || file::read_text(path)).map(|text| parse_swaps(&text).into_iter().map(swap).collect())
}

/// The names in /proc/swaps, as they are.
fn parse_swaps(text: &str) -> Vec<String> {
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.map(|name| unescape(name).to_string_lossy().into_owned()).collect()
}

fn swap(name: String) -> Swap {
    let path = Path::new(&name);
    let on = match fs::metadata(path) {
        Ok(meta) if meta.rdev() != 0 => device::find(meta.rdev(), path),
        Ok(meta) => device::find(meta.dev(), path),
        // It is in use all the same.
        Err(e) => Answer::Unknown(format!("cannot look at the swap {name}: {e}")),
    };
    Swap { name, on }
}

fn look(path: &Path) -> Answer<Folder> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) => return Answer::failed(path, &e),
    };
    let (space, inodes) = match statvfs(path) {
        Ok(room) => (
            free(room.blocks().saturating_sub(room.blocks_free()), room.blocks_available()),
            free(room.files().saturating_sub(room.files_free()), room.files_available()),
        ),
        Err(e) => {
            let why = Answer::Unknown(format!("cannot tell how full {} is: {e}", path.display()));
            (why.clone(), why)
        }
    };
    Answer::Is(Folder { on: device::find(meta.dev(), path), space, inodes })
}

/// Percent, as df counts it: what is left of what users can have. A file system that has neither counts nothing.
fn free(used: u64, available: u64) -> Answer<u64> {
    match used.saturating_add(available) {
        0 => Answer::Absent,
        all => Answer::Is(u64::try_from(u128::from(available) * 100 / u128::from(all)).unwrap_or(100)),
    }
}

/// Numbers of a device, as in /sys/dev/block.
fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

#[cfg(test)]
mod tests {
    use super::super::signer::running;
    use super::*;

    #[test]
    fn swaps_are_told_by_name() {
        let text = "Filename\tType\tSize\n/dev/dm-0 partition 1 0 -2\n/a\\040b file 1 0 -3\n";
        assert_eq!(parse_swaps(text), ["/dev/dm-0", "/a b"]);
        assert!(parse_swaps("Filename\tType\n").is_empty() && parse_swaps("").is_empty());
    }

    #[test]
    fn what_is_free_is_counted_as_users_can_have_it() {
        assert_eq!(free(0, 0), Answer::Absent);
        assert_eq!(free(91, 9), Answer::Is(9));
        assert_eq!(free(u64::MAX, u64::MAX), Answer::Is(100));
        assert_eq!(free(1, 0), Answer::Is(0));
    }

    #[test]
    fn the_disk_of_the_wallet_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (here, none) = (dir.path().to_owned(), dir.path().join("none"));
        let look = |folder: &Path, data| Disks::gather(&[Signer { data, ..running(folder) }]);
        let disks = look(&here, Answer::Is(here.clone()));
        assert!(matches!((&disks.folders["lnd"], &disks.data["lnd"]), (Answer::Is(_), Answer::Is(_))), "{disks:?}");
        let disks = look(&here, Answer::Absent);
        assert!(matches!(disks.data["lnd"], Answer::Absent), "{disks:?}");
        let disks = look(&none, Answer::Is(none.clone()));
        let is_unknown = |seen: &Answer<Folder>| matches!(seen, Answer::Unknown(_));
        assert!(is_unknown(&disks.folders["lnd"]) && is_unknown(&disks.data["lnd"]), "{disks:?}");
    }
}
