//! A running lnd, as the kernel shows it (proc(5)).

use crate::facts::audit::{Answer, Unknown, address};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No file of a process in /proc that is read is near this; only its sockets are many.
const LIMIT: u64 = 8 << 20;
/// What the kernel adds to the name of a program whose file is gone.
const DELETED: &str = " (deleted)";

/// What is read of a process, each whole.
const TEXTS: &[&str] = &["status", "limits", "mountinfo", "net/dev", "cgroup"];
/// What it listens on, where it has a network that leads anywhere: the kernel goes through all of the machine's
/// connections for each of them.
const SOCKETS: &[&str] = &["net/tcp", "net/tcp6"];
/// The state of a socket there that waits for somebody (include/net/tcp_states.h).
const LISTENS: &str = "0A";

/// What a process can have apart from the host.
const NAMESPACES: &[&str] = &["mnt", "user", "ipc"];
/// What a control group can limit that an audit asks for.
const BOUNDS: &[&str] = &["memory.max", "memory.swap.max", "pids.max"];

/// A running lnd.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: Option<u32>,
    /// The systemd unit that it runs in, from its control group.
    pub unit: Option<String>,
    /// Its program's file, where that can be seen.
    pub exe: Answer<PathBuf>,
    /// That file is gone, or is another one by now.
    pub deleted: bool,
    /// It sees other network interfaces than the host's first process.
    pub own_network: Answer<bool>,
    /// Which of `NAMESPACES` it has for itself, by their names (namespaces(7)).
    pub namespaces: BTreeMap<String, Answer<bool>>,
    /// The limits that hold for its control group, by the names of their files: the least of it and those above it, a
    /// number or `max`. Absent where nothing counts that.
    pub bounds: BTreeMap<String, Answer<String>>,
    /// Names of processes of its user outside of its control group, each once; not of root's, which are many.
    pub companions: Answer<Vec<String>>,
    /// What stands in its files in /proc, by their names there.
    pub texts: BTreeMap<String, Answer<String>>,
    /// Names of what it has in its environment.
    pub environment: Answer<Vec<String>>,
    /// Its arguments, where they can be seen. Here alone, since one may be a secret.
    #[serde(skip)]
    arguments: Option<Vec<String>>,
}

impl Process {
    /// Its arguments, without its name. Nobody sees those of one that has only just begun, or has ended; in facts from a file
    /// there are none.
    pub(super) fn arguments(&self) -> Result<&[String], Unknown> {
        self.arguments.as_deref().ok_or_else(|| Unknown::new("the arguments of lnd cannot be seen"))
    }

    /// Its program's file, as the list of who holds which socket has it: without a word of whether it is gone.
    ///
    /// # Errors
    /// Where it cannot be seen.
    pub fn program(&self) -> Result<&Path, Unknown> {
        let exe = self.exe.need("program of lnd's")?;
        let there = exe.to_str().and_then(|text| text.strip_suffix(DELETED));
        Ok(there.map_or(exe.as_path(), Path::new))
    }

    /// Where somebody waits for TCP connections in a network of its own, each with its user's number; nobody in a network
    /// that leads nowhere.
    ///
    /// # Errors
    /// Where that cannot be seen.
    pub fn listeners(&self) -> Result<Vec<(SocketAddr, Option<u32>)>, Unknown> {
        let mut found = Vec::new();
        for table in SOCKETS {
            // Where the network leads nowhere, or the kernel has no IPv6, there is none.
            let table = self.texts.get(*table).map_or(Ok(None), Answer::get)?;
            found.extend(table.into_iter().flat_map(|table| table.lines()).filter_map(listener));
        }
        Ok(found)
    }

    /// A path of the process's, as lsm sees it: through the process's own root (proc_pid_root(5)).
    pub(super) fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        match fs::read_link(&root) {
            Ok(at) if at == Path::new("/") && !self.is_contained() => path.to_owned(),
            _ => root.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// A container has a file system of its own, at the root of which it sees itself too.
    pub fn is_contained(&self) -> bool {
        ["docker", "libpod", "containerd", "kubepods"].iter().any(|by| self.groups().contains(by))
    }

    /// The number of the container that Docker has it in, from its control group.
    pub fn container(&self) -> Option<&str> {
        let of_docker = self.groups().lines().filter(|line| line.contains("docker"));
        of_docker.flat_map(|line| line.split(|c: char| !c.is_ascii_hexdigit())).find(|part| part.len() == 64)
    }

    /// It is in a login session: `session-ID.scope` (pam_systemd(8)).
    pub fn is_of_session(&self) -> bool {
        self.groups().lines().any(in_session)
    }

    /// Its control groups; empty where they cannot be seen.
    fn groups(&self) -> &str {
        self.texts.get("cgroup").and_then(|text| text.get().ok()?).map_or("", String::as_str)
    }

    /// The value of a line `name: value` of its status.
    pub fn status(&self, name: &str) -> Option<&str> {
        let text = self.texts.get("status")?.get().ok()??;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }
}

/// Every process whose program is an lnd, by number.
pub(super) fn find() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter(|pid| is_lnd(*pid)).map(look).collect()
}

/// True unless there is no interface but loopback (proc_pid_net(5), dev).
fn leads_out(interfaces: &Answer<String>) -> bool {
    match interfaces {
        Answer::Is(table) => table.lines().filter_map(|line| line.split_once(':')).any(|(name, _)| name.trim() != "lo"),
        _ => true,
    }
}

/// By its file's name. Where that cannot be seen, or is lost with the mount that `ExecPaths=` made of a file that is gone,
/// by its own name or the one that it was started by: `lsm launch` starts a file without naming it.
fn is_lnd(pid: u32) -> bool {
    let lnd = Some(OsStr::new("lnd"));
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(exe) if exe.parent().is_some_and(|folder| folder != Path::new("/")) => named(&exe) == lnd,
        _ => {
            let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let started = line.split(|byte| *byte == 0).next().unwrap_or_default();
            name.trim_ascii() == b"lnd" || Path::new(OsStr::from_bytes(started)).file_name() == lnd
        }
    }
}

fn named(exe: &Path) -> Option<&OsStr> {
    let name = exe.file_name()?;
    Some(name.to_str().and_then(|text| text.strip_suffix(DELETED)).map_or(name, OsStr::new))
}

pub(super) fn look(pid: u32) -> Process {
    let at = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let read = |path: PathBuf| Answer::of_file(&path, || file::read_named(&path, LIMIT));
    let text = |name: &str| read(at(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let exe = link(&at("exe"));
    let deleted = matches!(&exe, Answer::Is(path) if path.to_string_lossy().ends_with(DELETED));
    let words = |bytes: Vec<u8>| -> Vec<String> {
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    let names = |all: Vec<String>| {
        all.into_iter().filter_map(|one| one.split_once('=').map(|(name, _)| name.to_owned())).collect()
    };
    let arguments = match read(at("cmdline")).map(words) {
        Answer::Is(words) if !words.is_empty() => Some(words.into_iter().skip(1).collect()),
        _ => None,
    };
    let mut texts: BTreeMap<String, Answer<String>> =
        TEXTS.iter().map(|name| ((*name).to_owned(), text(name))).collect();
    let own_network = is_apart(pid, "net");
    if own_network == Answer::Is(true) && leads_out(&texts["net/dev"]) {
        texts.extend(SOCKETS.iter().map(|name| ((*name).to_owned(), text(name))));
    }
    let mut process = Process {
        pid,
        uid: None,
        unit: None,
        exe,
        deleted,
        own_network,
        namespaces: NAMESPACES.iter().map(|name| ((*name).to_owned(), is_apart(pid, name))).collect(),
        bounds: BTreeMap::new(),
        companions: Answer::Absent,
        texts,
        environment: read(at("environ")).map(words).map(names),
        arguments,
    };
    process.uid = process.status("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let groups = process.groups().to_owned();
    process.unit = unit(&groups);
    let group = unified(&groups);
    process.bounds = BOUNDS.iter().map(|name| ((*name).to_owned(), bound(group, name))).collect();
    process.companions =
        process.uid.filter(|uid| *uid != 0).map_or(Answer::Absent, |uid| companions(pid, uid, &groups));
    process
}

pub(super) fn link(path: &Path) -> Answer<PathBuf> {
    fs::read_link(path).map_or_else(|e| Answer::failed(path, &e), Answer::Is)
}

/// Of a line such as `0: 00000000:2607 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 ...` (proc_pid_net(5)).
fn listener(line: &str) -> Option<(SocketAddr, Option<u32>)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, state) = (words.next()?, words.nth(1)?);
    (state == LISTENS).then_some((address(local)?, words.nth(3).and_then(|uid| uid.parse().ok())))
}

/// True where the process has another namespace of this kind than the host's first process.
fn is_apart(pid: u32, kind: &str) -> Answer<bool> {
    let of = |pid| link(Path::new(&format!("/proc/{pid}/ns/{kind}")));
    match (of(pid), of(1)) {
        (Answer::Is(its), Answer::Is(first)) => Answer::Is(its != first),
        (Answer::Is(_), unknown) | (unknown, _) => unknown.map(|_| false),
    }
}

/// The path of the one control group that systemd uses, without its slash; the older hierarchies have others (cgroups(7)).
fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least of what `file` says in the control group and in those above it: each of them holds.
fn bound(group: Option<&str>, file: &str) -> Answer<String> {
    let Some(group) = group else { return Answer::Absent };
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(group);
    let mut least = Answer::Absent;
    for folder in own.ancestors().take_while(|folder| folder.starts_with(root)) {
        let path = folder.join(file);
        match Answer::of_file(&path, || file::read_text(&path)) {
            Answer::Is(text) => least = Answer::Is(lesser(least, text.trim())),
            // The root has no such file.
            Answer::Absent => {}
            unknown @ Answer::Unknown(_) => return unknown,
        }
    }
    least
}

fn lesser(one: Answer<String>, other: &str) -> String {
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    match one {
        Answer::Is(one) if number(&one) <= number(other) => one,
        _ => other.to_owned(),
    }
}

/// Names of other processes that have `uid`, real, effective, saved or for files, and are in other control groups than
/// `groups`: they may send it signals, and without Yama or with capabilities look into it (ptrace(2)).
fn companions(pid: u32, uid: u32, groups: &str) -> Answer<Vec<String>> {
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(e) => return Answer::failed(Path::new("/proc"), &e),
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<String> =
        pids.filter(|other| *other != pid).filter_map(|pid| named_as(pid, uid, groups)).collect();
    found.sort();
    found.dedup();
    Answer::Is(found)
}

/// The name of the process where it has `uid` and is in another control group; one that ended meanwhile has none.
fn named_as(pid: u32, uid: u32, groups: &str) -> Option<String> {
    let status = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/status")).ok()?).into_owned();
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let has = of("Uid")?.split_whitespace().any(|one| one.parse() == Ok(uid));
    let apart = || fs::read(format!("/proc/{pid}/cgroup")).is_ok_and(|its| String::from_utf8_lossy(&its) != groups);
    (has && apart()).then(|| of("Name").unwrap_or_default().to_owned())
}

/// The unit in a process's control groups: the service that is in slices alone. What is below it somebody else names, as a user's
/// own systemd names units of its own.
fn unit(groups: &str) -> Option<String> {
    let of_line = |line: &str| {
        let path = line.splitn(3, ':').nth(2)?;
        let first = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
        first.ends_with(".service").then(|| first.to_owned())
    };
    groups.lines().find_map(of_line)
}

/// True of a control group at or below a login session's.
fn in_session(group: &str) -> bool {
    group.split('/').any(|part| part.starts_with("session-") && part.ends_with(".scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_told_from_the_control_group() {
        assert_eq!(unit("0::/system.slice/system-lsm.slice/lsm@a.service\n"), Some("lsm@a.service".to_owned()));
        assert_eq!(unit("1:name=systemd:/x\n0::/system.slice/lnd.service/sub\n"), Some("lnd.service".to_owned()));
        assert_eq!(unit("0::/user.slice/session-1.scope\n"), None);
        // Of a user's own systemd.
        let users = unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/lsm@a.service\n");
        assert_eq!(users, Some("user@1000.service".to_owned()));
        assert_eq!(unit("0::/docker/1234/system.slice/lsm@a.service\n"), None);
        for (group, wanted) in [
            ("0::/user.slice/user-1000.slice/session-c2.scope", true),
            ("0::/system.slice/session-x.service", false),
            ("0::/machine.slice/machine-a.scope/payload", false),
        ] {
            assert_eq!(in_session(group), wanted, "{group}");
        }
    }

    #[test]
    fn the_least_of_the_limits_holds() {
        assert_eq!(lesser(Answer::Absent, "max"), "max");
        assert_eq!(lesser(Answer::Is("max".into()), "5"), "5");
        assert_eq!(lesser(Answer::Is("5".into()), "max"), "5");
        assert_eq!(lesser(Answer::Is("5".into()), "0"), "0");
        assert_eq!(unified("1:name=systemd:/x\n0::/system.slice/lnd.service\n"), Some("system.slice/lnd.service"));
        assert_eq!(unified("1:name=systemd:/x\n"), None);
    }

    #[test]
    fn only_a_socket_that_waits_is_a_listeners() {
        let waits = "   0: 00000000:2607 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 2 0";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(listener(waits), Some((at("0.0.0.0:9735"), Some(1000))));
        assert_eq!(listener("   0: 0100007F:2607 00000000:0000 0A"), Some((at("127.0.0.1:9735"), None)));
        let v6 = "   0: 00000000000000000000000000000000:2607 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(listener(v6), Some((at("[::]:9735"), None)));
        assert_eq!(listener("   0: 0100007F:2607 0100007F:A0C4 01 00000000:00000000"), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn a_program_keeps_its_name_when_its_file_is_gone() {
        assert_eq!(named(Path::new("/a/lnd (deleted)")), Some(OsStr::new("lnd")));
        assert_eq!(named(Path::new("/a/lndx")), Some(OsStr::new("lndx")));
        assert_eq!(named(Path::new("/ (deleted)")), Some(OsStr::new("")));
    }
}
