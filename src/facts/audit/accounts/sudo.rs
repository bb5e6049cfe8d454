//! Who may become whom: the rules of sudo(8) and doas(1), as far as they can be told line by line.

use crate::facts::audit::{Answer, Place, Unknown, names};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SUDOERS: &str = "/etc/sudoers";
const DOAS: &str = "/etc/doas.conf";
/// No file of rules is near this, in bytes.
const LIMIT: u64 = 1 << 20;
/// sudo itself includes files 128 deep (sudoers(5)); no host has more of them.
const FILES: usize = 128;

/// What is known of who may become whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sudo {
    /// The rules that say something of note.
    pub rules: Vec<Rule>,
    /// The files with rules and the ways there, of that what more users than root can change.
    pub loose: Vec<Place>,
}

/// A rule that says something of note. Its commands are left where they are: one may have a secret in its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The file and the line where it begins.
    pub place: String,
    /// What it begins with: who it is for.
    pub who: String,
    /// No password is asked for.
    pub unasked: bool,
    /// The users of an lnd that it names.
    pub names: Vec<String>,
}

/// Reads the rules, and what in them names one of `users`; absent where no file of rules is here.
pub(super) fn gather(users: &[String]) -> Answer<Sudo> {
    Answer::told(read(users))
}

fn read(users: &[String]) -> Result<Option<Sudo>, Unknown> {
    let mut sudo = Sudo::default();
    let mut left = vec![PathBuf::from(DOAS), PathBuf::from(SUDOERS)];
    let (mut seen, mut ways) = (BTreeSet::new(), Vec::new());
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > FILES {
            return Err(Unknown::new(format!("{SUDOERS} includes more than {FILES} files")));
        }
        let Some(bytes) = Answer::of_file(&path, || file::read_named(&path, LIMIT)).take()? else { continue };
        for (number, line) in logical(&String::from_utf8_lossy(&bytes)) {
            sudo.rules.extend(rule(&line, users, || format!("{}:{number}", path.display())));
            match included(&line, &path) {
                Some(Included::File(path)) => left.push(path),
                Some(Included::Folder(folder)) => {
                    let inside = names(&folder).take()?.unwrap_or_default();
                    left.extend(inside.into_iter().filter(|path| is_read(path)));
                    ways.push(folder);
                }
                None => {}
            }
        }
        ways.push(path);
    }
    for path in &ways {
        sudo.loose.extend(Place::open_way(path).take()?.unwrap_or_default());
    }
    sudo.rules.sort_by(|a, b| a.place.cmp(&b.place));
    sudo.loose.sort_by(|a, b| a.path.cmp(&b.path));
    sudo.loose.dedup();
    Ok((!ways.is_empty()).then_some(sudo))
}

/// Lines with what continues them, each with its number, without those that are comments: after `#` comes neither a number
/// nor an include (sudoers(5)). A comment behind a rule stays: where it begins depends on quotes.
fn logical(text: &str) -> Vec<(usize, String)> {
    let is_comment = |line: &str| {
        let after = line.trim_start().strip_prefix('#');
        after.is_some_and(|after| !after.starts_with("include") && !after.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match all.last_mut() {
            Some((_, last)) if goes_on => last.push_str(part),
            _ => all.push((index + 1, part.to_owned())),
        }
        goes_on = more;
    }
    all.retain(|(_, line)| !line.trim().is_empty());
    all
}

/// What a line includes.
#[derive(Debug, PartialEq, Eq)]
enum Included {
    File(PathBuf),
    Folder(PathBuf),
}

fn included(line: &str, from: &Path) -> Option<Included> {
    let (word, rest) = line.trim().split_once(char::is_whitespace)?;
    let path = from.parent()?.join(path(rest.trim().trim_matches('"')));
    match word {
        "@include" | "#include" => Some(Included::File(path)),
        "@includedir" | "#includedir" => Some(Included::Folder(path)),
        _ => None,
    }
}

/// A path as sudo reads it: `%h` is the host's name up to its first dot, and what follows a backslash is itself (sudoers(5)).
fn path(text: &str) -> String {
    let mut path = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => path.extend(letters.next()),
            '%' if letters.as_str().starts_with('h') => {
                letters.next();
                path.push_str(&own_name());
            }
            other => path.push(other),
        }
    }
    path
}

fn own_name() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// sudo leaves out what packages and editors leave behind (sudoers(5)).
fn is_read(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.to_string_lossy().contains('.') && !name.to_string_lossy().ends_with('~'))
}

/// What a line says of note.
fn rule(line: &str, users: &[String], place: impl Fn() -> String) -> Option<Rule> {
    let is_of_name = |c: char| c.is_alphanumeric() || "-_!$.@#".contains(c);
    let words: Vec<&str> = line.split(|c| !is_of_name(c)).filter(|word| !word.is_empty()).collect();
    let says = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    let unasked = says(&["NOPASSWD", "!authenticate", "exempt_group", "nopass"]);
    let named = users.iter().filter(|user| says(&[user.as_str()])).cloned();
    let names: Vec<String> = named.collect::<BTreeSet<_>>().into_iter().collect();
    let who = line.split_whitespace().next().unwrap_or_default();
    // root may do all of it anyway.
    let matters = (unasked || !names.is_empty()) && who != "root";
    matters.then(|| Rule { place: place(), who: who.to_owned(), unasked, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# NOPASSWD\na ALL = \\\n  NOPASSWD: ALL\n#1000 ALL=ALL\n#includedir /d\n\n  @include x\n";
        let wanted = [(2, "a ALL =   NOPASSWD: ALL"), (4, "#1000 ALL=ALL"), (5, "#includedir /d"), (7, "  @include x")];
        let lines = logical(text);
        assert_eq!(lines.iter().map(|(n, line)| (*n, line.as_str())).collect::<Vec<_>>(), wanted);
        assert_eq!(included(&lines[3].1, Path::new("/etc/sudoers")), Some(Included::File("/etc/x".into())));
        let own = format!("/etc/a b/sudoers.{}", own_name());
        let read = included(r"@include /etc/a\ b/sudoers.%h", Path::new("/etc/sudoers"));
        assert_eq!(read, Some(Included::File(own.into())));
    }

    #[test]
    fn what_a_rule_says_of_note_is_told() {
        let users = ["lsm-a", "#61"].map(str::to_owned);
        for (line, unasked, names) in [
            ("a ALL=(ALL) NOPASSWD: ALL", true, &[][..]),
            ("a ALL=(ALL) NOPASSWD:/bin/ls", true, &[]),
            ("Defaults:a !authenticate", true, &[]),
            ("Defaults !authenticate", true, &[]),
            ("permit nopass :wheel", true, &[]),
            ("a ALL=(lsm-a) /bin/sh", false, &["lsm-a"]),
            ("a ALL=(#61) /bin/sh", false, &["#61"]),
            ("Runas_Alias X = b,lsm-a", false, &["lsm-a"]),
            ("lsm-a ALL=(ALL:ALL) NOPASSWD: ALL", true, &["lsm-a"]),
        ] {
            let rule = rule(line, &users, String::new).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (rule.unasked, rule.names),
                (unasked, names.iter().map(|n| (*n).to_owned()).collect()),
                "{line}"
            );
        }
        for line in ["a ALL=(ALL:ALL) ALL", "a ALL=(lsm-ab) ALL", "root ALL=(ALL) NOPASSWD: ALL", "Defaults env_reset"]
        {
            assert_eq!(rule(line, &users, String::new), None, "{line}");
        }
    }
}
