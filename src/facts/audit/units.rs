//! What systemd has of the signers, now and after a reboot.

use super::{Answer, Signer};
use crate::facts;
use crate::host::program::{self, Program};
use crate::spec::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of each unit (org.freedesktop.systemd1(5)). Never what it executes or its environment: there may be a
/// secret in them.
const PROPERTIES: &str = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,Requires,\
    After,Restart,User,DynamicUser,NoNewPrivileges,CapabilityBoundingSet,AmbientCapabilities,ProtectSystem,ProtectHome,\
    PrivateTmp,PrivateDevices,PrivateUsers,PrivateNetwork,PrivateIPC,ProtectProc,ProtectClock,ProtectControlGroups,\
    ProtectHostname,ProtectKernelLogs,ProtectKernelModules,ProtectKernelTunables,RestrictNamespaces,RestrictRealtime,\
    RestrictSUIDSGID,LockPersonality,MemoryDenyWriteExecute,SystemCallFilter,SystemCallArchitectures,\
    RestrictAddressFamilies,IPAddressDeny,IPAddressAllow";

/// What loads the packet filter.
const FIREWALL: &str = "lsm-firewall.service";
/// No unit has so many bytes.
const TEXT: u64 = 1 << 20;

/// What systemd has of the signers, now and after a reboot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Units {
    /// What systemd shows of the unit of each signer and of those that lsm adds to one, by their names. Absent where systemd
    /// does not run.
    pub shown: Answer<BTreeMap<String, Unit>>,
    /// How each file that systemd has read of them lies there.
    pub files: BTreeMap<PathBuf, Answer<UnitFile>>,
}

/// What systemd shows of a unit, by the names of the properties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit(BTreeMap<String, String>);

/// A file of a unit, or a drop-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFile {
    /// Permission bits.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// SHA-256 in hex, where it can be read.
    pub sha256: Option<String>,
}

impl Unit {
    /// The value of a property; empty where this systemd has no such one.
    pub fn is(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    /// The words of a property's value.
    pub fn words(&self, property: &str) -> impl Iterator<Item = &str> {
        self.is(property).split_whitespace()
    }

    /// False of a unit that systemd has no file of.
    pub fn exists(&self) -> bool {
        self.is("LoadState") != "not-found"
    }

    /// Its own file and its drop-ins. A path with a space in it comes in parts, and those are not found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.words("FragmentPath").chain(self.words("DropInPaths")).map(Path::new)
    }
}

impl Units {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        let names: BTreeSet<String> = signers.iter().flat_map(names_of).collect();
        let shown = show(&names);
        let units = shown.get().ok().flatten();
        let paths = units.into_iter().flat_map(BTreeMap::values).flat_map(Unit::files);
        let files = paths.map(|path| (path.to_owned(), look(path))).collect();
        Self { shown, files }
    }
}

/// The unit of the signer, which one in a container has none of, and where it is lsm's, those of its filter, its guard and, unless lnd has the port itself, its port.
pub fn names_of(signer: &Signer) -> Vec<String> {
    if signer.docker().is_some() {
        return vec![FIREWALL.to_owned()];
    }
    let Some(name) = signer.name.split(", ").next().filter(|name| name.ends_with(".service")) else {
        return Vec::new();
    };
    let mut names = vec![name.to_owned()];
    if let Some(instance) = instance_of(signer) {
        names.push(FIREWALL.to_owned());
        if !matches!(&signer.spec, Answer::Is(spec) if spec.mode == Mode::Host) {
            names.extend(["socket", "service"].map(|kind| format!("lsm-proxy@{instance}.{kind}")));
        }
        if matches!(&signer.spec, Answer::Is(spec) if spec.guard.is_on()) {
            names.push(format!("lsm-guard@{instance}.service"));
        }
    }
    names
}

/// The instance of a signer that lsm installed.
pub fn instance_of(signer: &Signer) -> Option<&str> {
    let is_own = signer.spec != Answer::Absent;
    signer.name.strip_prefix("lsm@").and_then(|rest| rest.strip_suffix(".service")).filter(|_| is_own)
}

/// All of them at once: starting systemctl costs more than all that it answers.
fn show(names: &BTreeSet<String>) -> Answer<BTreeMap<String, Unit>> {
    if !Path::new("/run/systemd/system").is_dir() || program::find("systemctl").is_none() {
        return Answer::Absent;
    }
    if names.is_empty() {
        return Answer::Is(BTreeMap::new());
    }
    let asked = Program::new("systemctl").args(["show", "--property", PROPERTIES, "--"]).args(names).within(PATIENCE);
    match asked.run() {
        Ok(said) => Answer::Is(parse(&String::from_utf8_lossy(&said))),
        Err(e) => Answer::Unknown(e.cause().to_owned()),
    }
}

/// `Name=value` lines, an empty line between two units.
fn parse(said: &str) -> BTreeMap<String, Unit> {
    let of_lines = |block: &str| {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        Unit(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    said.split("\n\n").map(of_lines).map(|unit| (unit.is("Id").to_owned(), unit)).collect()
}

fn look(path: &Path) -> Answer<UnitFile> {
    match path.metadata() {
        Ok(meta) => Answer::Is(UnitFile {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            sha256: facts::hash_within(path, TEXT),
        }),
        Err(e) => Answer::failed(path, &e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_read_unit_by_unit() {
        let said = "Id=a.service\nUser=x\nDropInPaths=/a /b\nFragmentPath=/c\n\nId=b.socket\nLoadState=not-found\n";
        let units = parse(said);
        let a = &units["a.service"];
        assert_eq!((a.is("User"), a.is("Restart"), a.exists()), ("x", "", true));
        assert_eq!(a.files().collect::<Vec<_>>(), ["/c", "/a", "/b"].map(Path::new));
        assert!(!units["b.socket"].exists());
    }
}
