//! The search for words of a seed that were left somewhere: in a file, a log, a swap device.

use crate::lab::host::Host;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The paths inside `host` of every file, and the names of the machine's swap, that hold three of `words` in a row, with up
/// to three other bytes between two of them.
///
/// # Panics
/// Where the search cannot be made.
#[track_caller]
pub fn find_words(host: &Host, words: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    // In a file: an argument could be found by the search itself.
    let patterns = folder.path().join("patterns");
    let threes: Vec<String> = words.windows(3).map(|three| three.join("[^a-z]{1,3}")).collect();
    fs::write(&patterns, threes.join("\n")).expect("the patterns are written");
    let root = host.path("/");
    // proc_swaps(5): a heading, then one a line.
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["-rlzaE", "--devices=skip", "--exclude-dir=proc", "--exclude-dir=sys", "-f"]);
    let done = grep.arg(&patterns).arg(&root).output().expect("grep runs");
    let mut found = String::from_utf8_lossy(&done.stdout).into_owned();
    for swap in swaps {
        let mut grep = Command::new("grep");
        let grep = grep.env("LC_ALL", "C").args(["-lzaE", "-f"]).arg(&patterns).arg(swap);
        found.push_str(&String::from_utf8_lossy(&grep.output().expect("grep runs").stdout));
    }
    let inside = |line: &str| {
        let below = Path::new(line).strip_prefix(&root);
        below.map_or_else(|_| line.to_owned(), |below| Path::new("/").join(below).display().to_string())
    };
    found.lines().map(inside).collect()
}
