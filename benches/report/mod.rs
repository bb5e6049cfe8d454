//! docs/performance.md: a table for every bench, each written anew by the run that measured it; and what is told of many times.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");

/// The value that `share` of all values, at least one, are not above: 0.5 is the median.
pub fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * share) as usize]
}

/// The median of values, at least one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// Prints a table, and puts it into the document in place of the one with this title.
pub fn write(title: &str, table: &str) {
    let out = |command: &mut Command| {
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().map(|o| o.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let date = out(Command::new("date").args(["-u", "+%F"]));
    let commit = out(Command::new("git").args(["describe", "--always", "--dirty=, changed"]));
    // Of the machine: a bench may have bound itself to one of them.
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
    let text = format!("{title}\n\n{date}, commit {commit}, {cpus} processors.\n\n{table}");
    println!("{text}");
    let before = fs::read_to_string(DOCUMENT).unwrap_or_default();
    let mut parts: Vec<&str> = before.split("\n## ").skip(1).filter(|part| !part.starts_with(title)).collect();
    parts.push(&text);
    parts.sort_by_key(|part| std::cmp::Reverse(part.lines().next()));
    let parts: Vec<_> = parts.iter().map(|part| format!("\n## {}\n", part.trim_end())).collect();
    let head = "# Performance\n\nWritten by `cargo bench`, as root: a part or more for each file in benches/, which says what it \
        measures and what it needs, and how\nit is asked for more: the build from source is measured only where that is asked for.\n";
    fs::write(PathBuf::from(DOCUMENT), head.to_owned() + &parts.concat()).unwrap();
}
