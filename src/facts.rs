//! One read-only look at the machine, shared by planner and audit.

pub mod audit;
pub mod filter;
pub mod running;
pub mod units;

use crate::engine::Object;
use crate::error::Result;
use crate::host::{file, program, user, xattrs};
use crate::sandbox::elf;
use crate::signer::certificate::Certificate;
use crate::spec::San;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// This user may not look.
    Hidden,
    /// A file, with its permission bits, owner and group by number, and hash where it could be read.
    File {
        /// Permission bits.
        mode: u32,
        /// Owner's number.
        uid: u32,
        /// Group's number.
        gid: u32,
        /// SHA-256 in hex; `None` where this user may not read it.
        sha256: Option<String>,
    },
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
        /// Owner's number.
        uid: u32,
        /// Group's number.
        gid: u32,
    },
    /// A link, a socket or something else.
    Other,
}

/// What the machine is.
#[derive(Debug, Clone)]
pub struct Facts {
    /// lsm runs as root.
    pub root: bool,
    /// systemd is the running init (sd_booted(3): /run/systemd/system is there), with its major version.
    pub systemd: Option<u32>,
    /// The ELF interpreter and the libraries that lsm needs to run; none where it is static.
    pub libraries: Vec<PathBuf>,
    /// Programs that a plan may need and that are there.
    pub programs: BTreeSet<&'static str>,
    /// /etc/hosts names localhost; lnd cannot start without it.
    pub localhost: bool,
    /// Bytes free for an unprivileged user where signers live.
    pub space: u64,
    /// What is at each path that the plan touches.
    pub seen: BTreeMap<PathBuf, Seen>,
    /// Units that are active, of those asked about.
    pub active: BTreeSet<String>,
    /// Units whose files changed since systemd read them, of those asked about.
    pub unread: BTreeSet<String>,
    /// Units whose main process is not the program that it should be, of those asked about.
    pub stale: BTreeSet<String>,
    /// What is said of units beside lsm's own files, or by them.
    pub unit_files: Vec<units::UnitFile>,
    /// The live packet filter is what is wanted; `None` where that cannot be told.
    pub filter: Option<bool>,
    /// What a container engine holds as it is wanted, of what was asked about.
    pub held: BTreeSet<Object>,
    /// The files that say that another has lnd's database, of those asked about.
    pub given_over: BTreeSet<PathBuf>,
    /// The folders with the signer's bundle as it is now to be, of those asked about.
    pub bundles: BTreeSet<PathBuf>,
    /// Folders that could have a default ACL and have none, of those asked about.
    pub open: BTreeSet<PathBuf>,
    /// Numbers of users and groups by name, of those asked about.
    pub users: BTreeMap<String, u32>,
    /// Groups by name.
    pub groups: BTreeMap<String, u32>,
    /// Who owns what lsm writes without naming an owner: root where a plan is for root.
    pub owner: u32,
    /// What the certificates among the paths are valid for, of those that are within their dates.
    pub certificates: BTreeMap<PathBuf, Vec<San>>,
}

/// The programs that a plan may need.
const PROGRAMS: [&str; 5] = ["nft", "systemctl", "systemd-creds", "systemd-sysusers", "systemd-tmpfiles"];

impl Facts {
    /// Looks at the machine as a whole; [`Facts::observe`] adds what a plan touches.
    pub fn gather() -> Self {
        Self {
            root: user::is_root(),
            systemd: systemd_version(),
            libraries: libraries(),
            programs: PROGRAMS.into_iter().filter(|name| program::find(name).is_some()).collect(),
            localhost: names_localhost(&file::read_text(Path::new("/etc/hosts")).unwrap_or_default()),
            space: free_space(Path::new("/var/lib")),
            seen: BTreeMap::new(),
            active: BTreeSet::new(),
            unread: BTreeSet::new(),
            stale: BTreeSet::new(),
            unit_files: units::files(),
            filter: None,
            held: BTreeSet::new(),
            given_over: BTreeSet::new(),
            bundles: BTreeSet::new(),
            open: BTreeSet::new(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            owner: 0,
            certificates: BTreeMap::new(),
        }
    }

    /// Adds what is at `paths`, who `names` are and which of `units` are active.
    #[must_use]
    pub fn observe<'a>(
        mut self,
        paths: impl IntoIterator<Item = &'a PathBuf>,
        names: impl IntoIterator<Item = &'a str>,
        units: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        for path in paths {
            if path.extension().is_some_and(|ending| ending == "cert")
                && let Some(certificate) =
                    file::read(path, 1 << 16).ok().and_then(|pem| Certificate::parse_pem(&pem).ok())
                && certificate.validity().1 > OffsetDateTime::now_utc()
            {
                self.certificates.insert(path.to_owned(), certificate.names().to_vec());
            }
            self.seen.entry(path.to_owned()).or_insert_with(|| look(path));
        }
        for name in names {
            if let Ok(Some(owner)) = user::find(name) {
                self.users.insert(name.to_owned(), owner.uid);
            }
            if let Ok(Some(gid)) = user::find_group(name) {
                self.groups.insert(name.to_owned(), gid);
            }
        }
        let units: BTreeSet<&str> = units.into_iter().filter(|_| self.systemd.is_some()).collect();
        for (unit, state, is_unread) in units::states(&units) {
            self.active.extend(state.is_active().then(|| unit.to_owned()));
            self.unread.extend(is_unread.then(|| unit.to_owned()));
        }
        self
    }

    /// Adds which of `folders` have no default ACL.
    pub fn observe_closed(&mut self, folders: &[PathBuf]) {
        let open = folders.iter().filter(|folder| xattrs::is_without(folder, "system.posix_acl_default"));
        self.open.extend(open.cloned());
    }

    /// What is at `path`; nothing where it was not asked about.
    pub fn at(&self, path: &Path) -> &Seen {
        self.seen.get(path).unwrap_or(&Seen::Absent)
    }
}

/// Looks at one path, without following a link at its end.
pub fn look(path: &Path) -> Seen {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Seen::Hidden,
        Err(_) => return Seen::Absent,
    };
    let (mode, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
    match meta.file_type() {
        t if t.is_file() => Seen::File { mode, uid, gid, sha256: hash(path) },
        t if t.is_dir() => Seen::Folder { mode, uid, gid },
        _ => Seen::Other,
    }
}

/// The SHA-256 of a plain file in hex, where it can be read.
pub fn hash(path: &Path) -> Option<String> {
    hash_of(file::open_plain(path).ok()?)
}

/// As [`hash`], of a file of at most `limit` bytes: to read a hole without an end takes as long as its end is far.
pub fn hash_within(path: &Path, limit: u64) -> Option<String> {
    let file = file::open_plain(path).ok()?;
    if file.metadata().ok()?.len() > limit { None } else { hash_of(file.take(limit)) }
}

/// The SHA-256 of the running program in hex: of the bytes that run, whatever has its name by now.
pub fn hash_self() -> Option<String> {
    hash_of(File::open("/proc/self/exe").ok()?)
}

/// The SHA-256 in hex of the program that runs as process `pid`, of at most `limit` bytes.
pub fn hash_running(pid: u32, limit: u64) -> Option<String> {
    let file = File::open(format!("/proc/{pid}/exe")).ok()?;
    if file.metadata().ok()?.len() > limit { None } else { hash_of(file.take(limit)) }
}

fn hash_of(file: impl Read) -> Option<String> {
    let mut hasher = Sha256::new();
    // Large reads: of an lnd there are many.
    std::io::copy(&mut BufReader::with_capacity(1 << 17, file), &mut hasher).ok()?;
    Some(hex::encode(hasher.finalize()))
}

/// True where something listens on `address` already, or on its port at every address.
pub fn is_taken(address: SocketAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let Ok(tried) = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None) else { return false };
    // Connections of before that have ended do not count.
    let _ = setsockopt(&tried, sockopt::ReuseAddr, &true);
    // Bound and never listened on: for no moment can anybody connect.
    bind(tried.as_raw_fd(), &SockaddrStorage::from(address)) == Err(Errno::EADDRINUSE)
}

/// What the dynamic linker answers for the running lsm (ld.so(8), `LD_TRACE_LOADED_OBJECTS`): nothing of lsm runs.
pub fn libraries() -> Vec<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    let interpreter = File::open(itself).ok().and_then(|file| elf::interpreter(&file, itself).ok()?);
    if interpreter.is_none() {
        return Vec::new();
    }
    let listed = program::Program::new(itself).env("LD_TRACE_LOADED_OBJECTS", "1").run().unwrap_or_default();
    parse_libraries(&String::from_utf8_lossy(&listed))
}

/// The paths in lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0a)`; the kernel's own has none.
fn parse_libraries(listed: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect();
    paths.sort();
    paths
}

fn systemd_version() -> Option<u32> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let out = program::Program::new("systemctl").arg("--version").run().ok()?;
    let text = String::from_utf8(out).ok()?;
    // "systemd 252 (252.38-1~deb12u1)"
    text.split_whitespace().nth(1)?.split('.').next()?.parse().ok()
}

/// True where systemd says that `unit` is active. For reports alone: a systemd that cannot be asked has said nothing.
pub fn is_active(unit: &str) -> bool {
    state(unit).is_ok_and(State::is_active)
}

/// What systemd has of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does not run it, and could not: there is no such unit, or half of its files is gone.
    Unknown,
    /// It does not run it.
    Inactive,
    /// It stops it.
    Stopping,
    /// It has ended by itself, and systemd starts it again and again.
    Failing,
    /// It starts it.
    Starting,
    /// It runs it.
    Active,
}

impl State {
    /// True of a unit that systemd runs.
    pub fn is_active(self) -> bool {
        self == Self::Active
    }

    /// True of one of which something runs, or is about to.
    pub fn is_up(self) -> bool {
        !matches!(self, Self::Unknown | Self::Inactive)
    }

    /// Reads what `systemctl show` says of one unit.
    fn parse(said: &str) -> Self {
        let value = |property: &str| {
            let mut all = said.lines().filter_map(|line| line.split_once('='));
            all.find(|(name, _)| *name == property).map_or("", |(_, value)| value)
        };
        let of = |values: &[&str]| values.contains(&value("ActiveState"));
        let again = !["", "0"].contains(&value("NRestarts"));
        if of(&["active", "reloading", "refreshing"]) {
            Self::Active
        } else if of(&["deactivating"]) {
            Self::Stopping
        } else if !of(&["inactive", "failed"]) {
            // One that takes its time to fail is seldom seen while it waits for its next start.
            let waits = ["auto-restart", "auto-restart-queued"].contains(&value("SubState"));
            if again || waits { Self::Failing } else { Self::Starting }
        } else if value("LoadState") != "loaded" {
            Self::Unknown
        } else if !value("Job").is_empty() {
            // It waits for its turn, as between the two halves of a restart.
            if of(&["failed"]) && again { Self::Failing } else { Self::Starting }
        } else {
            Self::Inactive
        }
    }
}

/// What systemd has of `unit` (systemctl(1), `ActiveState`, `SubState`, `NRestarts` and `Job`).
///
/// # Errors
/// Where it cannot be asked: what is not known is not to be taken for stopped.
pub fn state(unit: &str) -> Result<State> {
    let properties = "--property=LoadState,ActiveState,SubState,NRestarts,Job";
    let asked = program::Program::new("systemctl").args(["show", properties, unit]).run()?;
    Ok(State::parse(&String::from_utf8_lossy(&asked)))
}

/// True where systemd filters by address what `unit`, which is active, receives. It counts with the same eBPF programs: a
/// unit that has no count has no filter (systemd.resource-control(5), `IPAccounting=` and `IPAddressAllow=`).
pub fn filters_addresses(unit: &str) -> bool {
    let asked = program::Program::new("systemctl").args(["show", "--property=IPIngressBytes", "--value", unit]).run();
    asked.is_ok_and(|said| is_count(&String::from_utf8_lossy(&said)))
}

/// `[no data]`, or from an older systemctl the largest number, stands for no count.
fn is_count(said: &str) -> bool {
    said.trim().parse().is_ok_and(|bytes: u64| bytes != u64::MAX)
}

fn names_localhost(hosts: &str) -> bool {
    let content = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    content.flat_map(|line| line.split_whitespace().skip(1)).any(|name| name == "localhost")
}

/// Bytes free for an unprivileged user at `path`; none where that cannot be told.
pub fn free_space(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |s| s.blocks_available() * s.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_counts_only_as_a_name_outside_comments() {
        assert!(names_localhost("127.0.0.1\tlocalhost\n"));
        assert!(names_localhost("::1 ip6-loopback localhost # x"));
        assert!(!names_localhost("# 127.0.0.1 localhost\n127.0.0.1 localhost.localdomain\n"));
    }

    #[test]
    fn the_linkers_list_is_read_and_names_what_is_there() {
        let listed =
            "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/libm.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n\tx => not found\n";
        assert_eq!(parse_libraries(listed), [PathBuf::from("/lib/libm.so.6"), "/lib64/ld.so.2".into()]);
        assert!(libraries().iter().all(|path| path.is_file()));
    }

    #[test]
    fn a_count_is_told_from_none() {
        assert!(is_count("0\n") && is_count("4096\n"));
        assert!(!is_count("[no data]\n") && !is_count("18446744073709551615\n") && !is_count(""));
    }

    #[test]
    fn a_taken_port_is_seen() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        assert!(is_taken(address));
        drop(holder);
        assert!(!is_taken(address));
    }
}
