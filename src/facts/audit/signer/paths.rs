//! Paths as lnd reads them: `~`, variables and its working folder are lnd's own to put in.

use super::process::{Process, link};
use crate::facts::audit::{Answer, Unknown};
use crate::host::file;
use std::path::{Component, Path, PathBuf};

/// No environment is near this.
const LIMIT: u64 = 8 << 20;

/// What the paths of an lnd hang on. Each is asked for only where a path needs it.
pub(super) struct Paths<'a> {
    /// Its process; nothing where it does not run.
    pub(super) process: Option<&'a Process>,
    /// Its user's home, as the list of users has it.
    pub(super) listed: &'a dyn Fn() -> Option<PathBuf>,
}

impl Paths<'_> {
    /// lnd's folder, where it is told of none (btcutil, AppDataDir).
    pub(super) fn usual(&self) -> Result<PathBuf, Unknown> {
        Ok(self.home()?.join(".lnd"))
    }

    /// The path that lnd makes of what it is told (config.go, CleanAndExpandPath), as lnd sees it.
    pub(super) fn read(&self, told: &str) -> Result<PathBuf, Unknown> {
        let path = PathBuf::from(expand(told, || self.home(), |name| variable(self.running()?, name))?);
        Ok(clean(&if path.is_absolute() { path } else { working_folder(self.running()?)?.join(path) }))
    }

    /// As the list of users has it, else the environment (os/user, Current). A container has another list, and a variable
    /// that its engine made of that.
    fn home(&self) -> Result<PathBuf, Unknown> {
        let told = || variable(self.process?, "HOME").ok().flatten().filter(|home| !home.is_empty()).map(PathBuf::from);
        let is_contained = self.process.is_some_and(Process::is_contained);
        let home = if is_contained { told().or_else(self.listed) } else { (self.listed)().or_else(told) };
        home.ok_or_else(|| Unknown::new("the home of lnd's user cannot be told"))
    }

    fn running(&self) -> Result<&Process, Unknown> {
        self.process.ok_or_else(|| Unknown::new("lnd does not run, and a path of its settings hangs on its process"))
    }
}

/// The one variable that a path needs: nothing of an environment is kept but for what a path has of it. Go takes the first of two
/// by one name.
fn variable(process: &Process, name: &str) -> Result<Option<String>, Unknown> {
    let path = PathBuf::from(format!("/proc/{}/environ", process.pid));
    let read = Answer::of_file(&path, || file::read_named(&path, LIMIT));
    let value = |one: &[u8]| {
        let value = one.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    Ok(read.need("environment of lnd's")?.split(|byte| *byte == 0).find_map(value))
}

fn working_folder(process: &Process) -> Result<PathBuf, Unknown> {
    let of = |name: &str| link(Path::new(&format!("/proc/{}/{name}", process.pid)));
    let (folder, root) = (of("cwd"), of("root"));
    let (folder, root) = (folder.need("process of lnd's")?, root.need("process of lnd's")?);
    // Both are told from here: what is below its root is below / for lnd.
    Ok(Path::new("/").join(folder.strip_prefix(root).unwrap_or(folder)))
}

/// With the home for a `~` at the beginning, and variables for `$NAME` and `${NAME}`; one that is not set is empty
/// (os.ExpandEnv).
fn expand(
    told: &str,
    home: impl FnOnce() -> Result<PathBuf, Unknown>,
    variable: impl Fn(&str) -> Result<Option<String>, Unknown>,
) -> Result<String, Unknown> {
    let path = match told.strip_prefix('~') {
        Some(rest) => format!("{}{rest}", home()?.display()),
        None => told.to_owned(),
    };
    let mut parts = path.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let named = name_in(part).ok_or_else(|| Unknown::new(format!("which path lnd reads {told} as cannot be told")));
        let (name, rest) = named?;
        whole += &variable(name)?.unwrap_or_default();
        whole += rest;
    }
    Ok(whole)
}

/// The name at the beginning of what follows a `$`, and what comes after it.
fn name_in(part: &str) -> Option<(&str, &str)> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = match part.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => part.split_at(part.find(|c: char| !is_of_name(c)).unwrap_or(part.len())),
    };
    let is_name = name.chars().all(is_of_name) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some((name, rest))
}

/// Without `.` and `..`, whatever is there (filepath.Clean).
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::super::process::look;
    use super::*;

    #[test]
    fn a_path_is_read_as_lnd_reads_it() {
        let variable = |name: &str| match name {
            "DATA" => Ok(Some("/srv/x".to_owned())),
            "HIDDEN" => Err(Unknown::new("no")),
            _ => Ok(None),
        };
        for (told, wanted) in [
            ("~/.lnd-x", Some("/home/a/.lnd-x")),
            ("~", Some("/home/a")),
            ("/srv/~", Some("/srv/~")),
            ("$DATA/lnd", Some("/srv/x/lnd")),
            ("${DATA}2/$DATA", Some("/srv/x2//srv/x")),
            ("/a$NONE/b", Some("/a/b")),
            ("", Some("")),
            ("$HIDDEN/x", None),
            // A shell's own, which lnd has none of.
            ("/a$1", None),
            ("/a$", None),
            ("/a${DATA", None),
            ("/a${}", None),
        ] {
            let read = expand(told, || Ok("/home/a".into()), variable);
            assert_eq!(read.ok().as_deref(), wanted, "{told}");
        }
        assert_eq!(clean(Path::new("/a/./b/../../../c")), Path::new("/c"));
    }

    #[test]
    fn what_a_path_hangs_on_is_asked_of_the_process() {
        let listed = || Some(PathBuf::from("/home/a"));
        let resting = Paths { process: None, listed: &listed };
        assert_eq!(resting.usual(), Ok("/home/a/.lnd".into()));
        assert_eq!(resting.read("~/../x"), Ok("/home/x".into()));
        assert!(resting.read("x").is_err() && resting.read("$PATH/x").is_err());
        let homeless = Paths { process: None, listed: &|| None };
        assert!(homeless.usual().is_err() && homeless.read("~/x").is_err());
        let own = look(std::process::id());
        let running = Paths { process: Some(&own), listed: &listed };
        assert_eq!(running.read("x"), Ok(std::env::current_dir().unwrap().join("x")));
        assert_eq!(variable(&own, "PATH"), Ok(std::env::var("PATH").ok()));
        assert_eq!(variable(&own, "PAT"), Ok(None));
    }
}
