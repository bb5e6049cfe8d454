//! A block device with all that it lies on, as sysfs shows it.

use super::super::Answer;
use super::numbers;
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Deeper than any real storage is stacked.
const DEEPEST: u8 = 16;
/// Names and identifiers that the kernel gives are shorter.
const LINE: u64 = 4096;

/// What cryptsetup calls a device that ciphers (`dm_get_uuid`). It also names those so that only check integrity, CRYPT-VERITY
/// and CRYPT-INTEGRITY: what is on them can be read.
const CIPHERS: [&str; 7] =
    ["CRYPT-LUKS1", "CRYPT-LUKS2", "CRYPT-PLAIN", "CRYPT-LOOPAES", "CRYPT-TCRYPT", "CRYPT-BITLK", "CRYPT-FVAULT2"];

/// A block device with all that it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in the kernel.
    pub name: String,
    /// What made it where it is the device mapper's: the identifier's first two words, such as `CRYPT-LUKS2`.
    pub made_by: Option<String>,
    /// It is in memory and on no disk.
    pub in_memory: bool,
    /// What it lies on; nothing below a disk.
    pub below: Vec<Device>,
}

impl Device {
    fn in_memory(name: &str) -> Self {
        Self { name: name.to_owned(), made_by: None, in_memory: true, below: Vec::new() }
    }

    /// All that is written to it is enciphered before it comes to a disk.
    pub fn is_encrypted(&self) -> bool {
        let ciphers = self.made_by.as_deref().is_some_and(|by| CIPHERS.contains(&by));
        ciphers || (!self.below.is_empty() && self.below.iter().all(Self::is_encrypted))
    }

    /// The device with what it lies on, in short.
    pub fn shown(&self) -> String {
        let by = self.made_by.as_ref().map_or_else(String::new, |by| format!(" ({by})"));
        let below: Vec<String> = self.below.iter().map(Self::shown).collect();
        let on = if below.is_empty() { String::new() } else { format!(" on {}", below.join(" and ")) };
        format!("{}{by}{on}", self.name)
    }
}

/// The device with this number, which `path` is on. Some file systems have a number that is no device's: then their mount says
/// what they are on.
pub(super) fn find(device: u64, path: &Path) -> Answer<Device> {
    let at = block(device);
    if at.exists() {
        return told(read(&at, DEEPEST));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some((kind, source)) = mount_of(&mounts, &numbers(device), path) else {
        return Answer::Unknown(format!("no mount says what {} is on", path.display()));
    };
    match kind {
        "tmpfs" | "ramfs" => Answer::Is(Device::in_memory(kind)),
        "btrfs" => told(btrfs(Path::new(source))),
        _ => Answer::Unknown(format!("{} is on {kind}, and what that is on cannot be seen", path.display())),
    }
}

fn block(device: u64) -> PathBuf {
    Path::new("/sys/dev/block").join(numbers(device))
}

fn told(found: Result<Device, String>) -> Answer<Device> {
    found.map_or_else(Answer::Unknown, Answer::Is)
}

/// The type and the source of a file system, by its number, else by the deepest mount point above `path` (proc_pid_mountinfo(5)).
fn mount_of<'a>(mounts: &'a str, number: &str, path: &Path) -> Option<(&'a str, &'a str)> {
    let of_line = |line: &'a str| {
        let (mount, system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let mut system = system.split(' ');
        Some((*mount.get(2)?, *mount.get(4)?, system.next()?, system.next()?))
    };
    let all: Vec<_> = mounts.lines().filter_map(of_line).collect();
    let by_number = all.iter().find(|(its, ..)| *its == number);
    let above = all.iter().filter(|(_, point, ..)| path.starts_with(point)).max_by_key(|(_, point, ..)| point.len());
    by_number.or(above).map(|(_, _, kind, source)| (*kind, *source))
}

/// What a btrfs is on: all of its devices.
fn btrfs(source: &Path) -> Result<Device, String> {
    let meta = fs::metadata(source).map_err(|e| format!("cannot look at {}: {e}", source.display()))?;
    let one = fs::canonicalize(block(meta.rdev())).map_err(|e| format!("cannot look at {}: {e}", source.display()))?;
    let name = one.file_name().unwrap_or_default();
    let systems = fs::read_dir("/sys/fs/btrfs").map_err(|e| format!("cannot look at /sys/fs/btrfs: {e}"))?;
    let devices = systems.flatten().map(|system| system.path().join("devices")).find(|all| all.join(name).exists());
    let devices =
        devices.ok_or_else(|| format!("/sys/fs/btrfs does not say what the one on {} is on", source.display()))?;
    Ok(Device { name: "btrfs".to_owned(), made_by: None, in_memory: false, below: all_of(&devices, DEEPEST)? })
}

/// The device whose folder in sysfs is `at`.
fn read(at: &Path, depth: u8) -> Result<Device, String> {
    let depth = depth.checked_sub(1).ok_or_else(|| format!("{} is stacked too deep", at.display()))?;
    let at = fs::canonicalize(at).map_err(|e| format!("cannot look at {}: {e}", at.display()))?;
    let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let made_by = line(&at.join("dm/uuid"))?.map(|uuid| uuid.split('-').take(2).collect::<Vec<_>>().join("-"));
    let mut below = all_of(&at.join("slaves"), depth)?;
    let mut in_memory = name.starts_with("ram");
    if at.join("partition").exists() {
        let disk = at.parent().ok_or_else(|| format!("{name} is a part of nothing"))?;
        below.push(read(disk, depth)?);
    }
    if let Some(file) = line(&at.join("loop/backing_file"))? {
        below.push(beneath(Path::new(&file), depth)?);
    }
    if name.starts_with("zram") {
        match line(&at.join("backing_dev"))? {
            Some(device) if device != "none" => below.push(beneath(Path::new(&device), depth)?),
            _ => in_memory = true,
        }
    }
    Ok(Device { name, made_by, in_memory, below })
}

/// The device that the file `path` is on, or is.
fn beneath(path: &Path, depth: u8) -> Result<Device, String> {
    let meta = fs::metadata(path).map_err(|e| format!("cannot look at {}: {e}", path.display()))?;
    read(&block(if meta.rdev() == 0 { meta.dev() } else { meta.rdev() }), depth)
}

/// Every device that is named in a folder of sysfs. One that is left out could be the one in the clear.
fn all_of(folder: &Path, depth: u8) -> Result<Vec<Device>, String> {
    let cannot = |e| format!("cannot look at {}: {e}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(cannot(e)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(cannot)?;
    paths.sort();
    paths.iter().map(|path| read(path, depth)).collect()
}

/// What stands in a file of sysfs, where there is one and anything is in it.
fn line(path: &Path) -> Result<Option<String>, String> {
    match Answer::of_file(path, || file::read_named(path, LINE)) {
        Answer::Is(bytes) => {
            Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty()))
        }
        Answer::Absent => Ok(None),
        Answer::Unknown(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_enciphered_on_every_disk_is_encrypted() {
        let device = |by: Option<&str>, below: &[Device]| Device {
            name: "x".into(),
            made_by: by.map(str::to_owned),
            in_memory: false,
            below: below.to_vec(),
        };
        let (disk, luks) = (device(None, &[]), device(Some("CRYPT-LUKS2"), &[device(None, &[])]));
        for (device, encrypted) in [
            (disk.clone(), false),
            (luks.clone(), true),
            (device(Some("LVM-abc"), std::slice::from_ref(&luks)), true),
            (device(Some("LVM-abc"), &[luks.clone(), disk.clone()]), false),
            (device(Some("CRYPT-VERITY"), std::slice::from_ref(&disk)), false),
            (device(Some("CRYPT-INTEGRITY"), std::slice::from_ref(&luks)), true),
            (Device::in_memory("tmpfs"), false),
        ] {
            assert_eq!(device.is_encrypted(), encrypted, "{}", device.shown());
        }
    }

    #[test]
    fn layers_are_followed_down_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("sda/sda1/slaves")).unwrap();
        fs::write(at("sda/sda1/partition"), "1\n").unwrap();
        for (name, uuid, below) in
            [("dm-0", "CRYPT-LUKS2-0a1b-x\n", "../../sda/sda1"), ("dm-1", "LVM-abc\n", "../../dm-0")]
        {
            fs::create_dir_all(at(name).join("dm")).unwrap();
            fs::create_dir_all(at(name).join("slaves")).unwrap();
            fs::write(at(name).join("dm/uuid"), uuid).unwrap();
            symlink(below, at(name).join("slaves").join(Path::new(below).file_name().unwrap())).unwrap();
        }
        let found = read(&at("dm-1"), DEEPEST).unwrap();
        assert_eq!(found.shown(), "dm-1 (LVM-abc) on dm-0 (CRYPT-LUKS2) on sda1 on sda");
        assert!(found.is_encrypted());
        symlink("../../dm-1", at("dm-0/slaves/dm-1")).unwrap();
        assert!(read(&at("dm-1"), DEEPEST).unwrap_err().contains("too deep"), "a ring ends");
    }

    #[test]
    fn a_mount_is_found_by_number_or_by_place() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 /@ /var rw shared:1 - btrfs /dev/sdb rw\n";
        assert_eq!(mount_of(mounts, "0:40", Path::new("/x")), Some(("btrfs", "/dev/sdb")));
        assert_eq!(mount_of(mounts, "0:99", Path::new("/var/lib")), Some(("btrfs", "/dev/sdb")));
        assert_eq!(mount_of(mounts, "0:99", Path::new("/etc")), Some(("ext4", "/dev/sda1")));
        assert_eq!(mount_of("garbage", "0:99", Path::new("/etc")), None);
    }
}
