//! What systemd-coredump(8) is told to keep of a dump (coredump.conf(5)).

use crate::facts::audit::{Answer, Unknown, names, read};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where its settings are, what counts most first.
const FOLDERS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];
const FILE: &str = "coredump.conf";

/// Its settings by their names.
pub(super) fn settings() -> Answer<BTreeMap<String, String>> {
    Answer::told(settings_in(&FOLDERS.map(PathBuf::from)).map(Some))
}

/// The first main file alone is read, then drop-ins in the order of their names; of two by one name the one in the folder that
/// counts more. What is read last holds.
fn settings_in(folders: &[PathBuf]) -> Result<BTreeMap<String, String>, Unknown> {
    let main = folders.iter().map(|folder| folder.join(FILE)).find(|path| path.exists());
    let mut drop_ins = BTreeMap::new();
    for folder in folders {
        let inside = names(&folder.join(format!("{FILE}.d"))).take()?.unwrap_or_default();
        for path in inside.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "conf")) {
            drop_ins.entry(path.file_name().map(ToOwned::to_owned)).or_insert(path);
        }
    }
    let mut settings = BTreeMap::new();
    for path in main.into_iter().chain(drop_ins.into_values()) {
        settings.extend(parse(&text(&path)?));
    }
    Ok(settings)
}

/// Of a file that is masked, nothing.
fn text(path: &Path) -> Result<String, Unknown> {
    if fs::canonicalize(path).is_ok_and(|real| real == Path::new("/dev/null")) {
        return Ok(String::new());
    }
    Ok(read(path).take()?.unwrap_or_default())
}

fn parse(text: &str) -> Vec<(String, String)> {
    let (mut is_own, mut found) = (false, Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            is_own = line == "[Coredump]";
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_own) {
            found.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_holds_in_systemds_order() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["etc", "run", "lib"].map(|name| dir.path().join(name));
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let is = |name: &str| settings_in(&folders).unwrap().get(name).cloned();
        assert_eq!(is("Storage"), None);
        write("lib/coredump.conf", "[Coredump]\nStorage=journal\nCompress=no\n");
        assert_eq!(is("Storage").as_deref(), Some("journal"));
        // It hides the other main file whole.
        write("etc/coredump.conf", "[Other]\nStorage=journal\n[Coredump]\nStorage = none\n#Storage=journal\n");
        assert_eq!((is("Storage").as_deref(), is("Compress")), (Some("none"), None));
        write("lib/coredump.conf.d/50-a.conf", "[Coredump]\nProcessSizeMax=0\nStorage=external\n");
        write("run/coredump.conf.d/40-b.conf", "[Coredump]\nProcessSizeMax=1G\n");
        write("etc/coredump.conf.d/60-c.conf.old", "[Coredump]\nProcessSizeMax=2G\n");
        assert_eq!(is("ProcessSizeMax").as_deref(), Some("0"), "by names, whatever their folders");
        assert_eq!(is("Storage").as_deref(), Some("external"));
        // It is read in the place of the one by its name, or masks it.
        write("etc/coredump.conf.d/50-a.conf", "[Coredump]\nStorage=none\n");
        assert_eq!(is("ProcessSizeMax").as_deref(), Some("1G"));
        std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/coredump.conf.d/40-b.conf")).unwrap();
        assert_eq!(is("ProcessSizeMax"), None);
        fs::create_dir(dir.path().join("etc/coredump.conf.d/70-d.conf")).unwrap();
        assert!(settings_in(&folders).is_err(), "what cannot be read is not nothing");
    }
}
