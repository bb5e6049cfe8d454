//! systemd's timers and what they start, as the unit files say (systemd.timer(5), systemd.service(5)).

use super::{Job, Words, programs};
use crate::facts::audit::{Answer, Place, Unknown, names};
use crate::host::file;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where units are, those that hide others first (systemd.unit(5)).
const FOLDERS: &[&str] = &[
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];
/// No unit is near this, in bytes.
const LIMIT: u64 = 1 << 20;

/// Every timer that is not masked; nothing where there is none.
pub(super) fn gather(words: &Words) -> Result<Option<Vec<Job>>, Unknown> {
    let mut timers = BTreeMap::new();
    for folder in FOLDERS {
        for path in names(Path::new(folder)).take()?.unwrap_or_default() {
            if path.extension().is_some_and(|kind| kind == "timer") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                timers.entry(name).or_insert(path);
            }
        }
    }
    let mut jobs = Vec::new();
    for (name, path) in timers.into_iter().filter(|(_, path)| path.is_file()) {
        jobs.push(look(&name, path, words)?);
    }
    Ok((!jobs.is_empty()).then_some(jobs))
}

fn look(name: &str, path: PathBuf, words: &Words) -> Result<Job, Unknown> {
    let timer = read(&files(&format!("{name}.timer"))?)?;
    let unit = values(&timer, "Unit").last().map_or_else(|| format!("{name}.service"), |unit| (*unit).to_owned());
    let files = files(&unit)?;
    let text = read(&files)?;
    let user = values(&text, "User").last().filter(|user| !user.is_empty()).map_or("root", |user| user);
    let mut job = Job {
        user: Some(user.to_owned()),
        names: Vec::new(),
        way: Vec::new(),
        programs: Vec::new(),
        path: path.clone(),
    };
    for file in files.iter().chain([&path]) {
        job.way.extend(Place::open_way(file).take()?.unwrap_or_default());
    }
    for line in
        ["ExecStart", "ExecStartPre", "ExecStartPost", "ExecCondition"].iter().flat_map(|name| values(&text, name))
    {
        // What a leading sign changes is how it runs, not what (systemd.service(5), COMMAND LINES).
        let line = line.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        job.names.extend(words.within(line));
        if user == "root" {
            job.programs.extend(programs(line)?);
        }
    }
    job.names.sort();
    job.names.dedup();
    Ok(job)
}

/// A unit's file, and those that add to it.
fn files(unit: &str) -> Result<Vec<PathBuf>, Unknown> {
    let main = FOLDERS.iter().map(|folder| Path::new(folder).join(unit)).find(|path| path.is_file());
    let mut files: Vec<PathBuf> = main.into_iter().collect();
    for folder in FOLDERS {
        let inside = names(&Path::new(folder).join(format!("{unit}.d"))).take()?.unwrap_or_default();
        files.extend(
            inside.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "conf") && path.is_file()),
        );
    }
    Ok(files)
}

fn read(files: &[PathBuf]) -> Result<String, Unknown> {
    let mut whole = String::new();
    for path in files {
        let bytes = Answer::of_file(path, || file::read_named(path, LIMIT)).take()?.unwrap_or_default();
        whole.push_str(&String::from_utf8_lossy(&bytes).replace("\\\n", " "));
        whole.push('\n');
    }
    Ok(whole)
}

fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=').map(str::trim);
    text.lines().filter_map(value).collect()
}
