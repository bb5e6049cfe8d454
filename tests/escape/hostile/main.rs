//! A program that stands in lnd's place and tries to get out. Static, and of one thread: it forks only where it is told to.
//!
//! What it is to try stands in a file of lnd's own folder, and what came of it goes to another. An attempt that kills it
//! leaves a beginning without an end; started again, it goes on with the next.
#![no_main]

mod bounds;
mod exec;
mod files;
mod kernel;
mod memory;
mod network;
mod process;
mod sys;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use sys::{Tried, append, exit, nr, read};

/// A place that is another one inside a container, as whoever builds it says.
macro_rules! place {
    ($inside:literal, $native:literal) => {
        match option_env!($inside) {
            Some(path) => path,
            None => $native,
        }
    };
}

/// What it may write, and all that it may.
pub const FOLDER: &str = place!("HOSTILE_FOLDER", "/var/lib/lsm/signer");
const PLAN: &str = place!("HOSTILE_PLAN", "/var/lib/lsm/signer/escape.plan");
pub const RESULT: &str = place!("HOSTILE_RESULT", "/var/lib/lsm/signer/escape.result");
/// The folder of its socket.
pub const RUN: &str = place!("HOSTILE_RUN", "/run/lsm/signer");
/// Its settings, and what says what it may.
pub const CONF: &str = place!("HOSTILE_CONF", "/etc/lsm/signer-lnd.conf");
pub const POLICY: &str = place!("HOSTILE_POLICY", "/etc/lsm/signer-launch.toml");

/// One way out.
pub struct Attempt {
    name: &'static str,
    /// Who can do it where there is no sandbox: the same user, or root.
    who: &'static str,
    /// How it shows from outside: `said` (not at all), `secret` (the answer holds the token), `heard` (a server of the test
    /// got the attempt's name), `file PATH` (holds the token now), `ended KEY` (that process is gone), `hostname`.
    proof: &'static str,
    run: fn(&World) -> Tried,
}

/// An attempt that needs no rights.
pub const fn user(name: &'static str, proof: &'static str, run: fn(&World) -> Tried) -> Attempt {
    Attempt { name, who: "user", proof, run }
}

/// An attempt that needs root's rights.
pub const fn root(name: &'static str, proof: &'static str, run: fn(&World) -> Tried) -> Attempt {
    Attempt { name, who: "root", proof, run }
}

/// What it is told about the host, as an attacker would find out sooner or later.
pub struct World {
    /// The attempt that is made.
    pub name: &'static str,
    values: BTreeMap<String, String>,
}

impl World {
    /// A value of the plan.
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// A number of the plan.
    pub fn number(&self, key: &str) -> usize {
        self.get(key).parse().unwrap_or(0)
    }

    /// What proves who wrote a file.
    pub fn token(&self) -> &str {
        self.get("token")
    }

    /// What a program has to write into the result once it runs.
    pub fn line(&self) -> String {
        format!("done {}\n", self.name)
    }
}

const GROUPS: [(&str, &[Attempt]); 6] = [
    ("files", files::ALL),
    ("programs", exec::ALL),
    ("memory", memory::ALL),
    ("processes", process::ALL),
    ("kernel", kernel::ALL),
    ("network", network::ALL),
];

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, args: *const *const c_char) -> c_int {
    // SAFETY: C's contract for main.
    let args: Vec<String> = (0..count as usize)
        .map(|i| unsafe { CStr::from_ptr(*args.add(i)) }.to_string_lossy().into_owned())
        .collect();
    match args.get(1).map(String::as_str) {
        Some("list") => list(),
        Some("ran") => _ = append(&args[3], &format!("done {}\n", args[2])),
        Some("victim") => process::be_a_victim(&args[2]),
        Some("exhaust") => bounds::exhaust(&args[2]),
        _ => go_on(),
    }
    0
}

fn list() {
    let line = |group: &str, a: &Attempt| format!("{group}\t{}\t{}\t{}\n", a.who, a.proof, a.name);
    let lines: String = GROUPS.iter().flat_map(|(group, all)| all.iter().map(move |a| line(group, a))).collect();
    sys::write(1, lines.as_bytes());
}

/// Makes the attempts of the plan that have not begun yet.
fn go_on() {
    let plan = read(PLAN).unwrap_or_default();
    let plan = String::from_utf8_lossy(&plan);
    let begun = read(RESULT).unwrap_or_default();
    let begun = String::from_utf8_lossy(&begun);
    let pairs: Vec<(&str, &str)> = plan.lines().filter_map(|line| line.split_once(' ')).collect();
    let values: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    if let Some(what) = values.get("exhaust") {
        return bounds::exhaust(what);
    }
    for name in pairs.iter().filter(|(key, _)| *key == "try").map(|(_, name)| *name) {
        let begin = format!("begin {name}");
        if begun.lines().any(|line| line == begin) {
            continue;
        }
        let Some(attempt) = GROUPS.iter().flat_map(|(_, all)| *all).find(|a| a.name == name) else { continue };
        _ = append(RESULT, &format!("{begin}\n"));
        let world = World { name: attempt.name, values: values.clone() };
        if world.get("apart") == "yes" {
            sys::apart(|| end(attempt, &world));
        } else if end(attempt, &world) {
            // What worked may have changed this process: the next attempt is a new one's.
            exit(0);
        }
    }
    if !begun.lines().any(|line| line == "end") {
        _ = append(RESULT, "end\n");
    }
    // A service is started again where it ends.
    while values.contains_key("stay") {
        sys::sleep(1000);
    }
}

/// Makes one attempt and says what came of it; true where it worked.
fn end(attempt: &Attempt, world: &World) -> bool {
    let (line, worked) = match (attempt.run)(world) {
        Ok(said) => (format!("done {} | {said}\n", attempt.name), true),
        Err(errno) => (format!("refused {} | {errno}\n", attempt.name), false),
    };
    _ = append(RESULT, &line);
    worked
}
