//! What the audit knows of a host: read once, changing nothing, and judged here or, from a file, on another machine.
//!
//! Nothing in it is secret: of a file that holds a secret there is how it lies there, never what is in it.

mod accounts;
mod answer;
mod binaries;
mod certificate;
mod container;
mod disks;
mod jobs;
mod machine;
mod network;
mod place;
mod secrets;
mod signer;
mod ssh;
mod units;
mod updates;

pub use accounts::{Accounts, Group, Home, POWERS, Password, Rule, Sudo, User};
pub use answer::{Answer, Unknown};
pub use binaries::{Binaries, Judged, Lnd, Vouched};
pub use certificate::{Certificate, Certificates};
pub use container::{Bridge, Container, Health, Image, Limits, Log, Mount, Other, Profile, Rights};
pub use disks::{Device, Disks, Folder, Swap};
pub use jobs::{Job, Jobs};
pub use machine::Machine;
pub(in crate::facts) use network::address;
pub use network::{Holder, Network, Protocol, Socket};
pub use place::{Kind, Place};
pub use secrets::{Credential, Found, Kept, Secrets, Strewn};
pub use signer::{Process, Settings, Signer};
pub use ssh::{Conditional, Ssh};
pub use units::{Unit, UnitFile, Units, instance_of, names_of};
pub use updates::{APT_LISTS, APT_PROGRAM, APT_RAN, DNF_RAN, NOTIFIED, Updates};

use crate::error::{Code, Error, Result};
use crate::host::{file, program::Program, user};
use crate::spec::{Instance, Places};
use container::Engines;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::Duration;
use time::OffsetDateTime;

const NO_FACTS: Code = Code::usage("E-AUDIT-001");

/// The shape of what [`Host`] is written as.
const SCHEMA: u32 = 1;
/// No text that is looked at is near this, 10,000 listening sockets neither.
const TEXT: u64 = 8 << 20;
/// Facts are texts, some hundred of them.
const FACTS: u64 = 64 << 20;
/// The audit waits for no program longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be read of a host, beside what is always read.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Files that are read whole, by their paths. None may hold a secret.
    pub texts: &'static [&'static str],
    /// Binaries, each with its arguments, whose output is wanted. None may change anything or print a secret.
    pub programs: &'static [&'static [&'static str]],
}

/// What the audit knows of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// The shape of this.
    pub schema: u32,
    /// When it was read, in seconds since 1970.
    pub taken: i64,
    /// It was read by root.
    pub root: bool,
    /// What stands in text files, by their paths.
    pub texts: BTreeMap<String, Answer<String>>,
    /// What programs printed, by their command lines.
    pub programs: BTreeMap<String, Answer<String>>,
    /// The signers: the instance of lsm's that was asked for, its others, and every further lnd that runs.
    pub signers: Vec<Signer>,
    /// What only the running kernel tells.
    pub machine: Machine,
    /// What lnd's memory and files can come to lie on.
    pub disks: Disks,
    /// How the system keeps itself up to date.
    pub updates: Updates,
    /// Users, groups, and what makes one of them more than itself.
    pub accounts: Accounts,
    /// The SSH server's conditional settings and keys.
    pub ssh: Ssh,
    /// What runs by itself.
    pub jobs: Jobs,
    /// How secrets lie on the host.
    pub secrets: Secrets,
    /// What each signer shows to those who connect.
    pub certificates: Certificates,
    /// The programs that hold the keys.
    pub binaries: Binaries,
    /// Sockets and the live packet filter.
    pub network: Network,
    /// What systemd has of the signers.
    pub units: Units,
    /// The files that lsm answers for, each with the SHA-256 in hex that it had when lsm left it; absent where lsm did
    /// nothing here. Not from here: lsm's journal tells.
    pub left: Answer<BTreeMap<PathBuf, String>>,
}

impl Host {
    /// Reads this host: what `needs` name, and the signer `instance`, which is in these places.
    pub fn gather(needs: &[Needs], instance: &Instance, places: &Places) -> Self {
        let (taken, root, engines) = (OffsetDateTime::now_utc().unix_timestamp(), user::is_root(), Engines::new());
        let signers = signer::find(instance, places, &engines);
        let all = &signers[..];
        let (ssh, jobs) = (Ssh::gather(), Jobs::gather(all));
        let (machine, disks, updates) = (Machine::gather(), Disks::gather(all), Updates::gather());
        // Waiting for programs takes most of the time: all of them at once.
        let (texts, programs, accounts, secrets, binaries, network, units) = std::thread::scope(|threads| {
            let lines = needs.iter().flat_map(|need| need.programs);
            let programs: Vec<_> = lines.map(|line| threads.spawn(|| (line.join(" "), ask(line)))).collect();
            let secrets = threads.spawn(|| Secrets::gather(all));
            let binaries = threads.spawn(|| Binaries::gather(all));
            let network = threads.spawn(|| Network::gather(all, &engines));
            let units = threads.spawn(|| Units::gather(all));
            let texts = needs.iter().flat_map(|need| need.texts);
            let texts = texts.map(|path| ((*path).to_owned(), read(Path::new(path)))).collect();
            let accounts = Accounts::gather(all);
            let programs = programs.into_iter().map(joined).collect();
            (texts, programs, accounts, joined(secrets), joined(binaries), joined(network), joined(units))
        });
        let certificates = certificate::gather(all);
        Self {
            schema: SCHEMA,
            taken,
            root,
            texts,
            programs,
            signers,
            machine,
            disks,
            updates,
            accounts,
            ssh,
            jobs,
            secrets,
            certificates,
            binaries,
            network,
            units,
            left: Answer::Absent,
        }
    }

    /// Facts that were written down on a host.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no facts that this lsm knows how to judge.
    pub fn parse(path: &Path) -> Result<Self> {
        let no = |why: String| Error::new(NO_FACTS, format!("{} holds no facts of a host: {why}", path.display()));
        let hint = "write them on the host with: lsm harden --record FILE";
        let host: Self =
            serde_json::from_slice(&file::read_named(path, FACTS)?).map_err(|e| no(e.to_string()).hint(hint))?;
        if host.schema != SCHEMA {
            return Err(no(format!("they are of schema {}, not {SCHEMA}", host.schema)).hint(hint));
        }
        Ok(host)
    }

    /// The facts as a file that [`Host::parse`] reads.
    ///
    /// # Errors
    /// Where they cannot be written as JSON.
    pub fn render(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|e| Error::new(NO_FACTS, "the facts cannot be written").because(e))
    }

    /// What stands in a text file that an area of checks named; nothing where there is no such file.
    ///
    /// # Errors
    /// Where that could not be read.
    pub fn text(&self, path: &str) -> Result<Option<&str>, Unknown> {
        self.texts.get(path).unwrap_or(&Answer::Absent).get().map(|text| text.map(String::as_str))
    }

    /// The whole number in a file, as sysctl settings are; nothing where there is no such file.
    ///
    /// # Errors
    /// Where that could not be read, or is no number.
    pub fn number(&self, path: &str) -> Result<Option<i64>, Unknown> {
        let parse = |text: &str| text.trim().parse().map_err(|_| Unknown::new(format!("{path} holds no number")));
        self.text(path)?.map(parse).transpose()
    }

    /// What a program printed that an area of checks named by its whole command line; nothing where there is no such
    /// program.
    ///
    /// # Errors
    /// Where it failed, or took too long.
    pub fn printed(&self, line: &str) -> Result<Option<&str>, Unknown> {
        self.programs.get(line).unwrap_or(&Answer::Absent).get().map(|text| text.map(String::as_str))
    }
}

/// What a thread came to.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Reads a text file, waiting for nothing: a pipe, a device or something huge in its place is told.
fn read(path: &Path) -> Answer<String> {
    Answer::of_file(path, || file::read_named(path, TEXT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What is in a folder, by path, sorted.
fn names(folder: &Path) -> Answer<Vec<PathBuf>> {
    /// No folder that is looked through holds so many.
    const MOST: usize = 4096;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => return Answer::failed(folder, &e),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().take(MOST + 1).map(|entry| entry.path()).collect();
    if paths.len() > MOST {
        return Answer::Unknown(format!("{} holds more than {MOST} files", folder.display()));
    }
    paths.sort();
    Answer::Is(paths)
}

fn ask(line: &[&str]) -> Answer<String> {
    let Some((name, args)) = line.split_first() else { return Answer::Absent };
    if crate::host::program::find(name).is_none() {
        return Answer::Absent;
    }
    let ran = Program::new(name).args(args).within(PATIENCE).run();
    ran.map_or_else(
        |e| Answer::Unknown(e.cause().to_owned()),
        |out| Answer::Is(String::from_utf8_lossy(&out).into_owned()),
    )
}

/// A path in one of the kernel's tables, where blanks and backslashes are written in octal (proc_pid_mountinfo(5), proc_swaps(5)).
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}
