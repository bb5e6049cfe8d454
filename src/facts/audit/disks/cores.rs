//! Core dumps that lie on a host: those of an lnd, which hold its seed, and those of the kernel, which hold everything.

use super::super::{Answer, Process, Signer};
use super::{names, user};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where systemd-coredump(8) puts them.
const SYSTEMD: &str = "/var/lib/systemd/coredump";
/// Where apport and kdump put them.
const CRASH: &str = "/var/crash";

/// Every core dump of a signer, or of the kernel, where such things are put.
pub(super) fn find(signers: &[Signer]) -> Answer<Vec<PathBuf>> {
    let uids: BTreeSet<u32> = signers.iter().filter_map(uid).collect();
    let shared = [PathBuf::from(SYSTEMD), PathBuf::from(CRASH)].into_iter().chain(pattern_folder());
    let own = signers.iter().filter_map(|signer| Some(signer.here(signer.folder.as_deref()?)));
    let folders = shared.map(|folder| (folder, true)).chain(own.chain([PathBuf::from("/")]).map(|own| (own, false)));
    let found: Result<Vec<_>, String> = folders.map(|(folder, shared)| cores_in(&folder, shared, &uids)).collect();
    found.map_or_else(Answer::Unknown, |all| {
        Answer::Is(all.into_iter().flatten().collect::<BTreeSet<PathBuf>>().into_iter().collect())
    })
}

fn cores_in(folder: &Path, shared: bool, uids: &BTreeSet<u32>) -> Result<Vec<PathBuf>, String> {
    let mut paths = list(folder)?;
    if folder == Path::new(CRASH) {
        // A kernel's dump is in a folder with the time for a name (kdump-tools(5)).
        for below in paths.clone().iter().filter(|path| is_folder(path)) {
            paths.extend(list(below)?);
        }
    }
    Ok(paths.into_iter().filter(|path| is_core(path, shared, uids) && !is_folder(path)).collect())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    match names(folder) {
        Answer::Is(paths) => Ok(paths),
        Answer::Absent => Ok(Vec::new()),
        Answer::Unknown(why) => Err(why),
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn uid(signer: &Signer) -> Option<u32> {
    let of_process = signer.process.get().ok().flatten().and_then(|process: &Process| process.uid);
    of_process.or_else(|| Some(user::find(signer.user.as_deref()?).ok()??.uid)).filter(|uid| *uid != 0)
}

/// The folder that `kernel.core_pattern` names, where it names one (core(5)).
fn pattern_folder() -> Option<PathBuf> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
    let path = Path::new(pattern.trim_end());
    let folder = path.parent().filter(|folder| path.is_absolute() && !folder.to_string_lossy().contains('%'))?;
    Some(folder.to_owned())
}

/// By its name alone: nobody opens such a file. In a folder for everybody's dumps only those of an lnd count.
fn is_core(path: &Path, shared: bool, uids: &BTreeSet<u32>) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let words: Vec<&str> = name.split(['.', '-']).collect();
    let is_number = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = |uid: &str| uid.parse().is_ok_and(|uid| uids.contains(&uid));
    match words[..] {
        // The kernel's own name, with or without the process's number (core(5)).
        ["core"] => true,
        ["core", number] if is_number(&number) => true,
        // systemd-coredump's: the program's name, its user's number, the boot's, the process's, the time. An lnd that was
        // started from an open file has a number for a name.
        ["core", program, uid, _, ..] => program == "lnd" || is_ours(uid),
        // apport's: the program's path, its user's number.
        [.., uid, "crash"] => name.contains("_lnd.") || is_ours(uid),
        ["vmcore", ..] => true,
        ["dump", number] if is_number(&number) => shared,
        // Whatever else the administrator chose to call them.
        _ => {
            shared
                && words.contains(&"lnd")
                && words.iter().all(|word| ["lnd", "core"].contains(word) || is_number(word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_told_by_its_name() {
        let uids = BTreeSet::from([991]);
        for (name, shared, is) in [
            ("core", false, true),
            ("core.123", false, true),
            ("core.lnd.991.0a1b.77.1700000000000000.zst", true, true),
            ("core.6.991.0a1b.77.1700000000000000.zst", true, true),
            ("core.bash.1000.0a1b.77.1700000000000000.zst", true, false),
            ("_usr_local_lib_lsm_lnd_v0.21.3-beta_lnd.991.crash", true, true),
            ("_usr_bin_bash.1000.crash", true, false),
            ("dump.202611230000", true, true),
            ("lnd.conf", false, false),
            ("core.conf", false, false),
            ("lnd.4711", true, true),
            ("lnd.log", true, false),
            ("vmcore-dmesg.txt", true, true),
            ("tls.cert", false, false),
        ] {
            assert_eq!(is_core(&Path::new("/x").join(name), shared, &uids), is, "{name}");
        }
    }
}
