//! A host as it is at one moment: files, accounts, units, packet filter, kernel settings, mounts; and what differs later.

use super::host::Host;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Mutex;

/// What is not looked at, each with the reason. Times are never compared.
const PASSED_OVER: &[&str] = &[
    // The kernel's; its settings, mounts and filter are asked for by name.
    "/proc",
    "/sys",
    "/dev",
    // Written by systemd and its journal as they run.
    "/var/log",
    "/var/lib/systemd/timers",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/catalog",
    "/var/lib/systemd/linger",
    "/etc/.updated",
    "/var/.updated",
    // Caches may be emptied by anybody at any time (hier(7)).
    "/var/cache",
    // The lock of every tool that changes accounts (lckpwdf(3)).
    "/etc/.pwd.lock",
    // What systemd-sysusers(8) leaves of shadow(5) and gshadow(5) as they were: lsm keeps no hash of a password, to bring it back.
    "/etc/shadow-",
    "/etc/gshadow-",
];
/// Of /run, which is systemd's, what is an administrator's or lsm's.
const LOOKED_AT_IN_RUN: &[&str] =
    &["/run/lsm", "/run/systemd/system", "/run/systemd/transient", "/run/sysusers.d", "/run/tmpfiles.d"];
/// These are compared line by line: each is an account.
const ACCOUNTS: &[&str] = &["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];
/// Settings that change by themselves.
const LIVELY_SETTINGS: &[&str] = &[
    "dentry-state",
    "file-nr",
    "inode-nr",
    "inode-state",
    "random",
    "ns_last_pid",
    "pty.nr",
    "nf_conntrack_count",
    "cpu_scaling",
];

/// What a host is: each thing by name, and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

/// Hashes of files, by what changes with every write: device, inode, size, and both times.
static HASHES: Mutex<Option<HashMap<[i64; 7], String>>> = Mutex::new(None);

impl Snapshot {
    /// Looks at a running host.
    #[track_caller]
    pub fn of(host: &Host) -> Self {
        let mut seen = BTreeMap::new();
        walk(&host.path("/"), Path::new("/"), &mut seen);
        accounts(host, &mut seen);
        units(host, &mut seen);
        seen.insert("filter".into(), filter(host));
        settings(host, &mut seen);
        mounts(host, &mut seen);
        Self(seen)
    }

    /// What differs from `self` in `now`, a line each, but for the things whose name `may_differ`.
    pub fn differences(&self, now: &Self, may_differ: impl Fn(&str) -> bool) -> Vec<String> {
        let names = self.0.keys().chain(now.0.keys().filter(|name| !self.0.contains_key(*name)));
        let differs = names.filter(|name| self.0.get(*name) != now.0.get(*name) && !may_differ(name));
        let shown = |state: Option<&String>| state.map_or("nothing", String::as_str).to_owned();
        differs.map(|name| format!("{name}: was {}, is {}", shown(self.0.get(name)), shown(now.0.get(name)))).collect()
    }
}

fn walk(root: &Path, inside: &Path, seen: &mut BTreeMap<String, String>) {
    let outside = root.join(inside.strip_prefix("/").expect("a whole path"));
    let Ok(meta) = fs::symlink_metadata(&outside) else { return };
    let name = inside.to_string_lossy();
    if is_passed_over(&name) {
        return;
    }
    if !ACCOUNTS.contains(&name.as_ref()) {
        seen.insert(format!("file {name}"), state(&outside, &meta));
    }
    if meta.is_dir() {
        for entry in fs::read_dir(&outside).into_iter().flatten().flatten() {
            walk(root, &inside.join(entry.file_name()), seen);
        }
    }
}

fn is_passed_over(name: &str) -> bool {
    let below = |list: &[&str]| list.iter().any(|path| Path::new(name).starts_with(path));
    // Of a running service with PrivateTmp=, and of one whose start was cut off while PrivateDevices= was made ready.
    let private = ["/tmp/systemd-private-", "/var/tmp/systemd-private-", "/tmp/namespace-dev-"]
        .iter()
        .any(|start| name.starts_with(start));
    let in_run = name.starts_with("/run/") && !below(LOOKED_AT_IN_RUN) && name != "/run/systemd";
    private || in_run || below(PASSED_OVER)
}

fn state(path: &Path, meta: &Metadata) -> String {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        // Of the kernel's view a sparse or compressed file's blocks are no content.
        format!("file of {} bytes, {}", meta.len(), hash(path, meta))
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap_or_default().display())
    } else if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        format!("special file {:x}", meta.rdev())
    };
    let mut attributes: Vec<String> =
        xattr::list(path).into_iter().flatten().map(|name| attribute(path, &name)).collect();
    attributes.sort();
    format!("{what} {:04o} {}:{} {attributes:?}", meta.mode() & 0o7777, meta.uid(), meta.gid())
}

/// An extended attribute with its value; ACLs are such.
fn attribute(path: &Path, name: &std::ffi::OsStr) -> String {
    let value = xattr::get(path, name).ok().flatten().unwrap_or_default();
    format!("{}={}", String::from_utf8_lossy(name.as_bytes()), hex::encode(value))
}

fn hash(path: &Path, meta: &Metadata) -> String {
    let key = [
        meta.dev().cast_signed(),
        meta.ino().cast_signed(),
        meta.len().cast_signed(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ];
    if let Some(known) = HASHES.lock().expect("nobody panicked").get_or_insert_default().get(&key) {
        return known.clone();
    }
    let made = hex::encode(Sha256::digest(fs::read(path).unwrap_or_default()));
    HASHES.lock().expect("nobody panicked").get_or_insert_default().insert(key, made.clone());
    made
}

fn accounts(host: &Host, seen: &mut BTreeMap<String, String>) {
    for file in ACCOUNTS {
        let text = fs::read_to_string(host.path(file)).unwrap_or_default();
        for line in text.lines() {
            let (name, rest) = line.split_once(':').unwrap_or((line, ""));
            seen.insert(format!("account {name} in {file}"), rest.to_owned());
        }
        let meta = fs::symlink_metadata(host.path(file)).expect("every host has it");
        seen.insert(format!("file {file}"), format!("{:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid()));
    }
}

fn units(host: &Host, seen: &mut BTreeMap<String, String>) {
    let mut ask = |what: &str, line: &str, columns: usize| {
        for line in host.sh(&format!("systemctl --no-legend --plain --no-pager {line}")).ok().lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let state: Vec<&str> = words.take(columns).collect();
            // Once something was in a slice, or was ordered by this target, systemd holds it active until the next boot.
            // A service's credentials are mounted while it runs.
            if name.ends_with(".slice") || name == "network-pre.target" || name.starts_with("run-credentials-") {
                continue;
            }
            seen.insert(format!("{what} {name}"), state.join(" "));
        }
    };
    ask("unit file", "list-unit-files", 2);
    // Of what is done at its own hour, or by whoever comes in, the state is none of lsm's.
    let steady = "list-units --state=active --type=service,socket,target,mount,path,timer | grep -v '^user\\|^systemd-tmpfiles-clean\\|^dpkg-db\\|^apt-'";
    ask("active unit", steady, 2);
    ask("failed unit", "list-units --state=failed", 3);
    ask("unit of lsm", "list-units --all 'lsm*' '*lsm*'", 3);
}

/// The rules. Who is connected at this moment stands among them (nft(8), dynamic sets).
fn filter(host: &Host) -> String {
    let rules = host.run(["nft", "--stateless", "list", "ruleset"]).ok();
    rules
        .lines()
        .filter(|line| !line.trim_start().starts_with("elements = ") || !line.contains(" ct count "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn settings(host: &Host, seen: &mut BTreeMap<String, String>) {
    // What cannot be read is said on standard error.
    for line in host.sh("sysctl -a 2>/dev/null").stdout.lines() {
        if let Some((name, value)) = line.split_once(" = ")
            // The others are of the machine that the container is on.
            && ["net.", "kernel.core", "kernel.yama", "fs.suid", "fs.protected", "vm.swap"].iter().any(|s| name.starts_with(s))
            && !LIVELY_SETTINGS.iter().any(|lively| name.contains(lively))
        {
            seen.insert(format!("setting {name}"), value.to_owned());
        }
    }
}

fn mounts(host: &Host, seen: &mut BTreeMap<String, String>) {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", host.leader())).expect("the host runs");
    for line in table.lines() {
        // Mount id, parent, device, root, point, options, tags, "-", type, source, options (proc_pid_mountinfo(5)).
        let words: Vec<&str> = line.split(' ').collect();
        let kind = words.iter().skip_while(|word| **word != "-").nth(1).unwrap_or(&"");
        // A running service's credentials.
        if !words[4].starts_with("/run/credentials") {
            seen.insert(format!("mount {}", words[4]), format!("{kind} {}", words[5]));
        }
    }
}

/// What stays once a wallet was made, and what was handed to the operator.
pub fn is_kept_with_a_wallet(name: &str) -> bool {
    let files = [
        // Handed to the operator.
        "/root/out",
        // The wallet, the journal, and the folders that they are in.
        "/var/lib/lsm/signer",
        "/var/lib/lsm/journal",
        "/etc/lsm/signer/wallet.toml",
        "/etc/credstore.encrypted/lsm-signer.wallet-password",
        // systemd's own key, under which every sealed password of the host is sealed (systemd-creds(1)).
        "/var/lib/systemd/credential.secret",
    ];
    let folders = ["/var/lib/lsm", "/etc/lsm", "/etc/lsm/signer", "/etc/credstore.encrypted"];
    match name.strip_prefix("file ") {
        Some(path) => files.iter().any(|file| Path::new(path).starts_with(file)) || folders.contains(&path),
        None => name.starts_with("account lsm-signer "),
    }
}

/// What stays where no wallet was made: systemd's own key, and what was handed to the operator.
pub fn is_kept_without_a_wallet(name: &str) -> bool {
    name == "file /var/lib/systemd/credential.secret" || name.starts_with("file /root/out")
}
