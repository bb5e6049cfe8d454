//! What `sshd -T` does not tell: settings that hold for some connections alone, and how the host's keys lie.

use super::{Answer, Place, Unknown, names};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FOLDER: &str = "/etc/ssh";
/// No settings file is near this, in bytes.
const LIMIT: u64 = 1 << 20;
/// sshd includes files 16 deep (servconf.c, SERVCONF_MAX_DEPTH).
const DEPTH: usize = 16;

/// What `sshd -T` does not tell of the SSH server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ssh {
    /// Settings in `Match` blocks; absent where there is no settings file.
    pub conditional: Answer<Vec<Conditional>>,
    /// How the private keys of the host lie.
    pub host_keys: Answer<Vec<Place>>,
}

/// A setting that holds where a condition does (sshd_config(5), Match).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditional {
    /// The condition, as it stands.
    pub condition: String,
    /// The setting's name in small letters.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Ssh {
    pub(super) fn gather() -> Self {
        let mut settings = Vec::new();
        let there = read(&Path::new(FOLDER).join("sshd_config"), None, DEPTH, &mut settings);
        let conditional = Answer::told(there.map(|there| there.then_some(settings)));
        Self { conditional, host_keys: Answer::told(host_keys()) }
    }
}

/// The keys in sshd's own folder; absent where there is no such folder.
fn host_keys() -> Result<Option<Vec<Place>>, Unknown> {
    let is_key = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with("_key")
    };
    let Some(inside) = names(Path::new(FOLDER)).take()? else { return Ok(None) };
    let mut keys = Vec::new();
    for path in inside.into_iter().filter(is_key) {
        keys.extend(Place::follow(&path).take()?);
    }
    Ok(Some(keys))
}

/// Adds what stands in `Match` blocks of the file at `path`, which was included where `condition` holds; false where there
/// is no such file.
fn read(path: &Path, condition: Option<&str>, depth: usize, into: &mut Vec<Conditional>) -> Result<bool, Unknown> {
    if depth == 0 {
        return Err(Unknown::new(format!("{} includes itself", path.display())));
    }
    let Some(bytes) = Answer::of_file(path, || file::read_named(path, LIMIT)).take()? else { return Ok(false) };
    let outer = condition.map(str::to_owned);
    let mut condition = outer.clone();
    for (name, value) in String::from_utf8_lossy(&bytes).lines().filter_map(setting) {
        match (name.as_str(), &condition) {
            ("match", _) if value.eq_ignore_ascii_case("all") => condition.clone_from(&outer),
            ("match", _) => condition = Some(value),
            ("include", _) => {
                for pattern in value.split_whitespace() {
                    for path in matching(pattern)? {
                        read(&path, condition.as_deref(), depth - 1, into)?;
                    }
                }
            }
            (_, Some(condition)) => into.push(Conditional { condition: condition.clone(), name, value }),
            (_, None) => {}
        }
    }
    Ok(true)
}

/// `name value` or `name=value`; a name in small letters, a value without its quotes.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (name, value) = line.split_once(|c: char| c.is_whitespace() || c == '=')?;
    let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == '=').replace('"', "");
    (!name.starts_with('#')).then(|| (name.to_ascii_lowercase(), value))
}

/// The files that an include names: a path below sshd's folder unless it is absolute, with `*` in its last part.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, Unknown> {
    let unknown = || Unknown::new(format!("lsm does not know what sshd includes by {pattern}"));
    let path = Path::new(FOLDER).join(pattern);
    let (folder, name) = (path.parent().ok_or_else(unknown)?, path.file_name().ok_or_else(unknown)?.to_string_lossy());
    if folder.to_string_lossy().contains(['*', '?', '[']) || name.contains(['?', '[']) {
        return Err(unknown());
    }
    let fits = |path: &PathBuf| path.file_name().is_some_and(|file| fits(&file.to_string_lossy(), &name));
    Ok(names(folder).take()?.unwrap_or_default().into_iter().filter(fits).collect())
}

/// Whether `name` is what `pattern` says, where `*` is any text; a name that begins with a dot is hidden (glob(7)).
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(name) = name.strip_prefix(first).filter(|_| !first.is_empty() || !name.starts_with('.')) else {
        return false;
    };
    let Some(mut name) = name.strip_suffix(last) else { return false };
    for part in middle.split('*') {
        let Some((_, after)) = name.split_once(part).or(part.is_empty().then_some(("", name))) else { return false };
        name = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_some_alone_is_told_with_its_condition() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("more.conf"), "PermitRootLogin yes\n").unwrap();
        std::fs::write(at("none.txt"), "Match all\nX11Forwarding yes\n").unwrap();
        let include = format!("Include {}/*.conf", dir.path().display());
        let text = format!(
            "UsePAM yes\n{include}\nMatch User \"b\"\n# x y\n\tPasswordAuthentication=yes\n{include}\nmatch all\nA b\n"
        );
        std::fs::write(at("main"), text).unwrap();
        let mut found = Vec::new();
        assert_eq!(read(&at("main"), None, 3, &mut found), Ok(true));
        let found: Vec<_> = found.iter().map(|c| (c.condition.as_str(), c.name.as_str(), c.value.as_str())).collect();
        assert_eq!(found, [("User b", "passwordauthentication", "yes"), ("User b", "permitrootlogin", "yes")]);
        assert_eq!(read(&at("missing"), None, 2, &mut Vec::new()), Ok(false));
        std::fs::write(at("more.conf"), include).unwrap();
        assert!(read(&at("main"), None, 2, &mut Vec::new()).is_err(), "it includes itself");
    }

    #[test]
    fn a_pattern_fits_as_a_shell_has_it() {
        for (name, pattern, wanted) in [
            ("a.conf", "*.conf", true),
            (".a.conf", "*.conf", false),
            ("a.conf~", "*.conf", false),
            ("50-a.conf", "50-*", true),
            ("abcde", "a*c*e", true),
            ("abde", "a*c*e", false),
            ("a", "a", true),
        ] {
            assert_eq!(fits(name, pattern), wanted, "{name} {pattern}");
        }
    }
}
