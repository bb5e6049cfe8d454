//! Disks: what of lnd's memory and files reaches them, and who could read it there.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Device, Folder, Host, Needs, Signer, Swap, Unknown};

/// What is mounted at boot (fstab(5)).
const FSTAB: &str = "/etc/fstab";
/// What the kernel can go to sleep to (Documentation/admin-guide/pm/sleep-states.rst).
const SLEEP: &str = "/sys/power/state";
/// What is mounted where, as lsm sees it (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Where everybody may write.
const SHARED: [&str; 2] = ["/tmp", "/dev/shm"];
/// What has to be free, in percent: lnd stops where it cannot write.
const LEAST_FREE: u64 = 10;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[FSTAB, SLEEP, MOUNTS], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "DISK-001",
        title: "lnd's memory is never swapped out in the clear",
        why: "lnd's memory holds the seed; swap writes it to a disk, where it stays",
        mend: "swapoff -a and no swap in /etc/fstab, or MemorySwapMax=0 in lnd's unit, or swap on dm-crypt",
        judge: Judge::Signer(swapped),
    },
    Check {
        id: "DISK-002",
        title: "The host cannot hibernate",
        why: "hibernation writes all memory to a disk, the seed too, whatever limit lnd has for swap",
        mend: "boot with nohibernate on the kernel's command line",
        judge: Judge::Host(hibernation),
    },
    Check {
        id: "DISK-003",
        title: "lnd's folder is on an encrypted disk",
        why: "whoever gets the disk, or its provider's copy, gets the wallet, and the sealed password with what opens it",
        mend: "set the host up again with LUKS, and move the signer there",
        judge: Judge::Signer(encrypted),
    },
    Check {
        id: "DISK-004",
        title: "Folders for everybody hold no setuid program and no device",
        why: "what anybody can put there must not make anybody root",
        mend: "mount /tmp and /dev/shm with nosuid,nodev (systemctl enable tmp.mount, or /etc/fstab)",
        judge: Judge::Host(shared_folders),
    },
    Check {
        id: "DISK-005",
        title: "lnd's file system has room",
        why: "a signer that cannot write its database stops, and the node that waits for it closes channels late",
        mend: "make room: journalctl --vacuum-size=200M, apt-get clean, or a larger disk",
        judge: Judge::Signer(room),
    },
    Check {
        id: "DISK-006",
        title: "No core dump of lnd lies on a disk",
        why: "a core dump of lnd is its memory, with the seed; one of the kernel is all memory",
        mend: "see why it died, then: shred -u FILE; where others could read it, take the keys for stolen",
        judge: Judge::Host(cores),
    },
];

fn swapped(host: &Host, signer: &Signer) -> Judged {
    let process = signer.process.get().ok().flatten();
    let limit = process.and_then(|process| process.bounds.get("memory.swap.max"));
    if limit == Some(&Answer::Is("0".to_owned())) {
        return Ok(Verdict::Pass("lnd's memory.swap.max is 0".to_owned()));
    }
    let swaps = host.disks.swaps.get()?.map_or(&[][..], Vec::as_slice);
    if swaps.is_empty() {
        let at_boot = at_boot(host.text(FSTAB)?.unwrap_or_default());
        return Ok(match at_boot[..] {
            [] => Verdict::Pass("no swap".to_owned()),
            _ => Verdict::Warn(format!("no swap is on, but {FSTAB} brings {} back at boot", few(&at_boot))),
        });
    }
    let all = sort(swaps)?;
    Ok(match (all.open.is_empty(), all.in_memory.is_empty()) {
        (false, _) => Verdict::Fail(format!("swap in the clear: {}", few(&all.open))),
        (true, false) => Verdict::Warn(format!("swap that is kept in memory: {}", few(&all.in_memory))),
        (true, true) => Verdict::Pass(format!("encrypted: {}", few(&all.encrypted))),
    })
}

/// Swap areas by what becomes of what is written to them.
#[derive(Default)]
struct Sorted {
    open: Vec<String>,
    in_memory: Vec<String>,
    encrypted: Vec<String>,
}

/// One that is open decides, even where another cannot be seen.
fn sort(swaps: &[Swap]) -> Result<Sorted, Unknown> {
    let mut sorted = Sorted::default();
    let mut unknown = None;
    for swap in swaps {
        match swap.on.need("device below the swap") {
            Ok(device) if device.is_encrypted() => sorted.encrypted.push(device.shown()),
            Ok(device) if device.in_memory => sorted.in_memory.push(device.shown()),
            Ok(device) => sorted.open.push(format!("{} ({})", swap.name, device.shown())),
            Err(why) => unknown = unknown.or(Some(why)),
        }
    }
    match unknown {
        Some(why) if sorted.open.is_empty() => Err(why),
        _ => Ok(sorted),
    }
}

/// Swap areas that a boot turns on.
fn at_boot(fstab: &str) -> Vec<&str> {
    let of_line = |line: &str| -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_auto = words.get(3).is_none_or(|options| options.split(',').all(|option| option != "noauto"));
        !line.trim_start().starts_with('#') && words.get(2) == Some(&"swap") && is_auto
    };
    fstab.lines().filter(|line| of_line(line)).filter_map(|line| line.split_whitespace().next()).collect()
}

fn hibernation(host: &Host) -> Judged {
    let states = host.text(SLEEP)?.unwrap_or_default().trim();
    if !states.split_whitespace().any(|state| state == "disk") {
        return Ok(Verdict::Pass("the kernel offers no hibernation".to_owned()));
    }
    let swaps = host.disks.swaps.get()?.map_or(&[][..], Vec::as_slice);
    let seen = format!("{SLEEP}: {states}");
    if swaps.is_empty() {
        return Ok(Verdict::Warn(format!("{seen}; there is no swap to hibernate to")));
    }
    let open = sort(swaps)?.open;
    Ok(if open.is_empty() {
        Verdict::Warn(format!("{seen}; the swap is encrypted or in memory"))
    } else {
        Verdict::Fail(format!("{seen}; to {}", few(&open)))
    })
}

/// The file system of a signer's folder, and that of its data where that is elsewhere; nothing where there is no such folder.
fn folders<'a>(host: &'a Host, signer: &Signer) -> [Result<Option<&'a Folder>, Unknown>; 2] {
    [&host.disks.folders, &host.disks.data].map(|all| all.get(&signer.name).unwrap_or(&Answer::Absent).get())
}

fn encrypted(host: &Host, signer: &Signer) -> Judged {
    let devices = folders(host, signer)
        .map(|folder| folder?.map(|folder| folder.on.need("device below lnd's folder")).transpose());
    // One in the clear decides, even where the other cannot be seen.
    let is_open = |device: &&&Device| !device.in_memory && !device.is_encrypted();
    if let Some(device) = devices.iter().flatten().flatten().find(is_open) {
        return Ok(Verdict::Fail(device.shown()));
    }
    let [folder, data] = devices;
    let devices: Vec<&Device> = [folder?, data?].into_iter().flatten().collect();
    Ok(match (devices.iter().find(|device| !device.in_memory), devices.first()) {
        (Some(device), _) => Verdict::Pass(device.shown()),
        (None, Some(device)) => Verdict::NotApplicable(format!("lnd's folder is on {}, in memory", device.name)),
        (None, None) => no_folder(),
    })
}

fn room(host: &Host, signer: &Signer) -> Judged {
    let folders = folders(host, signer);
    let mut scarce = Vec::new();
    for folder in folders.iter().flatten().flatten() {
        for (what, free) in [("space", &folder.space), ("inodes", &folder.inodes)] {
            if let Some(free) = free.get()?.filter(|free| **free < LEAST_FREE) {
                scarce.push(format!("{free}% of {what} free"));
            }
        }
    }
    if !scarce.is_empty() {
        return Ok(Verdict::none(scarce, ""));
    }
    let [folder, data] = folders;
    Ok(match (folder?, data?) {
        (None, None) => no_folder(),
        _ => Verdict::Pass(format!("at least {LEAST_FREE}% of space and inodes free")),
    })
}

fn no_folder() -> Verdict {
    Verdict::NotApplicable("lnd has no folder yet".to_owned())
}

fn shared_folders(host: &Host) -> Judged {
    let mounts = host.text(MOUNTS)?.ok_or_else(|| Unknown::new(format!("there is no {MOUNTS}")))?;
    let mut wrong = Vec::new();
    for path in SHARED {
        match options(mounts, path) {
            Some(options) => {
                let lacks = ["nosuid", "nodev"].into_iter().filter(|wanted| !options.contains(wanted));
                wrong.extend(lacks.map(|option| format!("{path} without {option}")));
            }
            None => wrong.push(format!("{path} is no mount of its own")),
        }
    }
    Ok(Verdict::none(wrong, format!("nosuid,nodev: {}", SHARED.join(" "))))
}

/// The options of the mount at `point`: of several the last, which is on top.
fn options<'a>(mounts: &'a str, point: &str) -> Option<Vec<&'a str>> {
    let words = |line: &'a str| line.split(' ').collect::<Vec<_>>();
    let at = mounts.lines().map(words).rfind(|words| words.get(4) == Some(&point))?;
    Some(at.get(5)?.split(',').collect())
}

fn cores(host: &Host) -> Judged {
    let found = host.disks.cores.get()?.map_or(&[][..], Vec::as_slice);
    Ok(Verdict::none(found.iter().map(|path| path.display()), "none where they are put"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::tests::recorded;

    fn swap(name: &str, made_by: Option<&str>, in_memory: bool) -> Swap {
        let made_by = made_by.map(str::to_owned);
        let device = Device { name: name.to_owned(), made_by, in_memory, below: Vec::new() };
        Swap { name: format!("/dev/{name}"), on: Answer::Is(device) }
    }

    #[test]
    fn one_open_swap_decides_and_one_unseen_is_no_pass() {
        let (crypt, zram, open) =
            (swap("dm-0", Some("CRYPT-PLAIN"), false), swap("zram0", None, true), swap("sda2", None, false));
        let unseen = Swap { name: "/x".into(), on: Answer::Unknown("unseen".into()) };
        let counts = |swaps: &[Swap]| sort(swaps).map(|all| (all.open.len(), all.in_memory.len(), all.encrypted.len()));
        assert_eq!(counts(&[crypt.clone(), zram, open.clone()]), Ok((1, 1, 1)));
        assert_eq!(counts(&[unseen.clone(), open]), Ok((1, 0, 0)));
        assert_eq!(counts(&[unseen, crypt]), Err(Unknown::new("unseen")));
    }

    #[test]
    fn what_comes_back_at_boot_is_read_as_mount_reads_it() {
        let fstab = "# /dev/old none swap sw 0 0\n/dev/sda1 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n\
            /dev/sdb none swap sw,noauto 0 0\nUUID=1\tnone\tswap\n";
        assert_eq!(at_boot(fstab), ["/swapfile", "UUID=1"]);
        assert!(at_boot("").is_empty());
    }

    #[test]
    fn the_mount_on_top_counts() {
        let mounts =
            "1 0 0:1 / /tmp rw,nosuid,nodev - tmpfs x rw\n2 1 0:2 / /tmp rw - tmpfs x rw\n3 0 0:3 / /tmpx ro - a b rw";
        assert_eq!(options(mounts, "/tmp"), Some(vec!["rw"]));
        assert_eq!(options(mounts, "/dev/shm"), None);
        assert_eq!(options("garbage", "/tmp"), None);
    }

    #[test]
    fn the_wallets_own_disk_counts_as_that_of_lnds_folder() {
        let mut host = recorded();
        let signer = host.signers[0].clone();
        let on = |made_by: Option<&str>, in_memory, free| {
            let device =
                Device { name: "x".to_owned(), made_by: made_by.map(str::to_owned), in_memory, below: Vec::new() };
            Answer::Is(Folder { on: Answer::Is(device), space: Answer::Is(free), inodes: Answer::Absent })
        };
        let luks = || on(Some("CRYPT-LUKS2"), false, 50);
        let unseen = || Answer::Unknown("no".to_owned());
        for (folder, data, verdicts) in [
            (luks(), Answer::Absent, ["pass", "pass"]),
            (luks(), on(None, false, 5), ["fail", "fail"]),
            (luks(), unseen(), ["error", "error"]),
            (on(None, false, 5), unseen(), ["fail", "fail"]),
            (on(None, true, 50), luks(), ["pass", "pass"]),
            (on(None, true, 50), Answer::Absent, ["na", "pass"]),
            (Answer::Absent, Answer::Absent, ["na", "na"]),
        ] {
            host.disks.folders.insert(signer.name.clone(), folder);
            host.disks.data.insert(signer.name.clone(), data);
            let told = [encrypted(&host, &signer), room(&host, &signer)];
            let told = told.map(|judged| judged.map_or("error", |verdict| verdict.name()));
            assert_eq!(told, verdicts, "{:?}", host.disks);
        }
    }
}
