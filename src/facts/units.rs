//! What systemd reads of a unit besides lsm's own files, and what of a running unit is older than they are.

use super::State;
use crate::host::program::Program;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where lsm's units are, and where an operator's commands put what they say of a unit (systemd.unit(5)): systemctl edit,
/// set-property, mask, link.
pub const FOLDERS: [&str; 4] =
    ["/etc/systemd/system.control", "/run/systemd/system.control", "/etc/systemd/system", "/run/systemd/system"];
/// The kinds of unit that lsm has.
const KINDS: [&str; 2] = ["service", "socket"];

/// A file that says something of units: a unit, a mask, a drop-in, or a link that stands for a folder of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitFile {
    /// Where it is.
    pub path: PathBuf,
    /// The name that its units have: the whole, a template's, a beginning, or that of their kind alone.
    name: String,
    /// It adds to a unit instead of being one.
    is_drop_in: bool,
}

impl UnitFile {
    /// True where it says something of `unit` and not of every unit of its kind.
    pub fn is_of(&self, unit: &str) -> bool {
        let (mut names, beginnings) = names_of(unit);
        if self.is_drop_in {
            names.extend(beginnings);
        }
        names.contains(&self.name)
    }

    /// True where it says something of every unit of one of lsm's kinds.
    pub fn is_general(&self) -> bool {
        KINDS.contains(&self.name.as_str())
    }
}

/// The names under which systemd looks for a unit, and those under which it looks for drop-ins besides: `a-@.service.d`
/// is for every `a-b@c.service`, `a-.service.d` for that and every `a-b.service`.
fn names_of(unit: &str) -> (Vec<String>, Vec<String>) {
    let (stem, kind) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let (prefix, instances) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, vec![format!("@{instance}"), "@".to_owned()]),
        None => (stem, vec![String::new()]),
    };
    let of = |prefix: &str| instances.iter().map(|i| format!("{prefix}{i}.{kind}")).collect::<Vec<_>>();
    let beginnings = prefix.match_indices('-').map(|(hyphen, _)| &prefix[..=hyphen]);
    // Without the instance, too.
    let beginnings = beginnings.flat_map(|beginning| [of(beginning), vec![format!("{beginning}.{kind}")]].concat());
    (of(prefix), beginnings.collect())
}

/// All such files of units whose name begins with `lsm`, and those of every unit of a kind.
pub fn files() -> Vec<UnitFile> {
    let mut found: Vec<UnitFile> = FOLDERS.iter().flat_map(|folder| files_in(Path::new(folder))).collect();
    found.sort();
    found
}

fn files_in(folder: &Path) -> Vec<UnitFile> {
    let mut found = Vec::new();
    for path in list(folder) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (name, is_drop_in) = name.strip_suffix(".d").map_or((name, false), |name| (name, true));
        let is_general = is_drop_in && KINDS.contains(&name);
        if !is_general && !name.starts_with("lsm") {
            continue;
        }
        let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        let name = name.to_owned();
        let file = |path| UnitFile { path, name: name.clone(), is_drop_in };
        if is_drop_in && !is_link {
            // systemd reads no others in it.
            found
                .extend(list(&path).into_iter().filter(|path| has_ending(path, &["conf"]) && !path.is_dir()).map(file));
        } else if is_drop_in || has_ending(&path, &KINDS) {
            found.push(file(path));
        }
    }
    found
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// What systemd has of each of `units`, and whether their files changed since it read them. Asked once for all; nothing
/// where it cannot be asked.
pub fn states<'a>(units: &BTreeSet<&'a str>) -> Vec<(&'a str, State, bool)> {
    if units.is_empty() {
        return Vec::new();
    }
    let properties = "--property=LoadState,ActiveState,NeedDaemonReload";
    let asked = Program::new("systemctl").args(["show", properties]).args(units).run().unwrap_or_default();
    let said = String::from_utf8_lossy(&asked);
    // In the order in which they were asked for, with an empty line in between.
    let is_unread = |one: &str| one.lines().any(|line| line == "NeedDaemonReload=yes");
    units.iter().zip(said.split("\n\n")).map(|(unit, one)| (*unit, State::parse(one), is_unread(one))).collect()
}

/// True where the main process of `unit` runs another file than the one that is at `program` now; not where it cannot be
/// seen, as by other users than root.
pub fn runs_other(unit: &str, program: &Path) -> bool {
    let Some(pid) = main_pid(unit) else { return false };
    // Through the link to the file itself, whatever has its name by now (proc_pid_exe(5)).
    let running = std::fs::metadata(format!("/proc/{pid}/exe"));
    running.is_ok_and(|r| std::fs::metadata(program).is_ok_and(|p| (p.dev(), p.ino()) != (r.dev(), r.ino())))
}

/// The main process of `unit`, where it runs.
pub fn main_pid(unit: &str) -> Option<u32> {
    show(unit, "MainPID")?.parse().ok().filter(|pid| *pid != 0)
}

/// What `unit` says of itself (sd_notify(3), `STATUS=`).
pub fn status(unit: &str) -> Option<String> {
    show(unit, "StatusText")
}

fn show(unit: &str, property: &str) -> Option<String> {
    let asked = Program::new("systemctl").args(["show", "--value", &format!("--property={property}"), unit]).run();
    Some(String::from_utf8_lossy(&asked.ok()?).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_of(name: &str, is_drop_in: bool, unit: &str) -> bool {
        UnitFile { path: PathBuf::new(), name: name.to_owned(), is_drop_in }.is_of(unit)
    }

    #[test]
    fn a_file_is_of_the_units_that_systemd_takes_it_for() {
        let proxy = "lsm-proxy@signer.socket";
        let beginnings = ["lsm-@signer.socket", "lsm-@.socket", "lsm-.socket"].map(|name| (name, false));
        for (name, as_unit) in [(proxy, true), ("lsm-proxy@.socket", true)].into_iter().chain(beginnings) {
            assert!(is_of(name, true, proxy) && is_of(name, false, proxy) == as_unit, "{name}");
        }
        assert!(is_of("lsm-.service", true, "lsm-firewall.service"));
        for other in ["lsm-proxy@other.socket", "lsm-proxy@signer.service", "lsm@signer.socket", "socket"] {
            assert!(!is_of(other, true, proxy), "{other}");
        }
    }

    #[test]
    fn what_systemd_reads_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["lsm@a.service.d", "service.d", "other.service.d", "lsm@a.service.wants"] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("x.conf"), "").unwrap();
            std::fs::write(at(folder).join("x.conf.old"), "").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", at("lsm@b.service")).unwrap();
        std::os::unix::fs::symlink(at("service.d"), at("lsm@.service.d")).unwrap();
        std::fs::write(at("lsm@c.service~"), "").unwrap();
        let mut found = files_in(dir.path());
        found.sort();
        let names: Vec<_> = found.iter().map(|file| file.path.strip_prefix(dir.path()).unwrap()).collect();
        let wanted = ["lsm@.service.d", "lsm@a.service.d/x.conf", "lsm@b.service", "service.d/x.conf"];
        assert_eq!(names, wanted.map(Path::new));
        assert!(found[3].is_general() && !found[3].is_of("lsm@a.service"));
    }
}
