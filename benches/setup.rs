//! How long it takes to make a signer, against the same lnd asked for the same by hand, what the tenth one costs, and what a trial
//! in containers takes against one without.
//!
//! `cargo bench --bench setup [-- ROUNDS]`, as root, with the lab that `tests/run` builds. Each round has a host of its own,
//! and begins with the other of the two. The floor is lnd alone, unpacked before: started, its wallet made, macaroon and
//! accounts asked for, each as soon as it answers. lsm verifies and unpacks the archive besides, makes user, units and
//! filter, seals the password, writes the seed, fences lnd in, and proves the bundle.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

#[allow(dead_code, reason = "a bench uses its own part")]
mod bare;
#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod lab;
#[path = "../tests/node/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod node;
#[allow(dead_code, reason = "a bench uses its own part")]
mod report;
#[path = "../tests/stage/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod stage;

use bare::Bare;
use lab::LSM;
use lab::host::Debian;
use report::median;
use serde_json::Value;
use stage::{BUNDLE, Stage};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Rounds, unless others are asked for.
const ROUNDS: usize = 7;
/// Where the lnd listens that lsm does not install.
const BARE: u16 = 10_015;
/// The port of the second signer; that of the next is one more.
const SECOND: u16 = 10_020;
const SIGNERS: u16 = 10;
/// What runs both sides of a trial.
const TRIALS: [&str; 2] = ["foreground", "docker"];
/// How often lsm's own start is measured.
const STARTS: usize = 200;

/// What one round gave, in seconds.
struct Round {
    floor: f64,
    /// From the command to its end.
    install: f64,
    /// From lnd's first line in the log to the bundle.
    from_lnds_start: f64,
}

/// A time of a round.
type Time = fn(&Round) -> f64;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let mut measured = Vec::new();
    for round in 0..rounds {
        let Some(stage) = Stage::boot("setup") else { return };
        let floor_first = round % 2 == 0;
        let before = floor_first.then(|| floor(&stage));
        let (install, from_lnds_start) = install(&stage);
        measured.push(Round { floor: before.unwrap_or_else(|| floor(&stage)), install, from_lnds_start });
        eprintln!("round {} of {rounds}", round + 1);
    }
    let of = |value: Time| median(measured.iter().map(value));
    let ratio = |value: Time| median(measured.iter().map(|round| value(round) / round.floor));
    let mut table = format!(
        "Medians of {rounds} rounds, each on a Debian host of its own. A ratio is the median of the ratios within each round.\n\n\
         Wanted: at most 1.1 of the floor from lnd's first start to the bundle, at most 1.3 from nothing.\n\n\
         | what | time | of the floor |\n| --- | --- | --- |\n"
    );
    let rows: [(&str, Time); 3] = [
        ("the floor: lnd alone, the same calls by hand", |round| round.floor),
        ("`lsm install`, from lnd's first start to the bundle", |round| round.from_lnds_start),
        ("`lsm install` from nothing: archive verified, host made ready, signature proved", |round| round.install),
    ];
    for (what, value) in rows {
        table += &format!("| {what} | {:.2} s | {:.2} |\n", of(value), ratio(value));
    }
    let Some((first, tenth)) = first_and_tenth() else { return };
    table += &format!(
        "\n| signers on one host | `lsm install` | its lnd's own memory |\n| --- | --- | --- |\n{first}{tenth}"
    );
    table += &trials(rounds).unwrap_or_default();
    let (own, true_) = (start_of(&[LSM, "--version"]), start_of(&["/bin/true"]));
    table +=
        &format!("\n`lsm --version` takes {own:.2} ms where `/bin/true` takes {true_:.2} ms (medians of {STARTS}).\n");
    report::write("Making a signer", &table);
}

/// lnd by itself: seconds from its start to the last answer.
fn floor(stage: &Stage) -> f64 {
    let plain =
        format!("mkdir -p /srv/plain && tar -xzf {} -C /srv/plain --strip-components=1", stage.archive_inside());
    stage.host.sh(&plain).ok();
    let start = Instant::now();
    let bare = Bare::start(stage, "/srv/plain/lnd", "bare", BARE, false);
    let taken = start.elapsed().as_secs_f64();
    drop(bare);
    taken
}

/// lsm: seconds from the command to its end, and from lnd's first word to the bundle's last file.
fn install(stage: &Stage) -> (f64, f64) {
    let start = Instant::now();
    stage.install(&[]).ok();
    let taken = start.elapsed().as_secs_f64();
    let said = stage.host.journal(&["-u", "lsm@signer", "-o", "json"]);
    let first: Value = serde_json::from_str(said.lines().next().expect("lnd said something")).expect("JSON");
    let first = first["__REALTIME_TIMESTAMP"].as_str().and_then(|micros| micros.parse().ok()).expect("a time");
    let bundle = stage.host.path(BUNDLE);
    let written = fs::metadata(&bundle).and_then(|meta| meta.modified()).expect("a bundle");
    let from_lnds_start =
        written.duration_since(SystemTime::UNIX_EPOCH + Duration::from_micros(first)).expect("after it");
    (taken, from_lnds_start.as_secs_f64())
}

/// A row each for the first signer of a host and for the tenth.
fn first_and_tenth() -> Option<(String, String)> {
    let stage = Stage::boot("setup")?;
    let mut rows = Vec::new();
    for number in 1..=SIGNERS {
        let name = if number == 1 { "signer".to_owned() } else { format!("signer{number}") };
        let mut arguments = stage.arguments();
        if number > 1 {
            arguments
                .retain(|argument| !["--listen", "--seed-out", "--bundle-out"].iter().any(|a| argument.starts_with(a)));
            arguments.push(format!("--instance={name}"));
            arguments.push(format!("--listen={}:{}", stage.host.v4, SECOND + number));
            arguments.push(format!("--seed-out=/root/out/seed{number}"));
            arguments.push(format!("--bundle-out=/root/out/bundle{number}"));
        }
        let start = Instant::now();
        stage.install_with(&arguments, &[]).ok();
        let taken = start.elapsed().as_secs_f64();
        rows.push(format!("| {number} | {taken:.2} s | {} MiB |\n", private_memory(&stage, &name)));
        eprintln!("signer {number} of {SIGNERS}");
    }
    Some((rows.remove(0), rows.pop().expect("ten")))
}

/// A row each for a trial of two processes and for one of two containers, with lnd there already.
fn trials(rounds: usize) -> Option<String> {
    let stage = Stage::boot_of(Debian::Docker, "trials")?;
    let archive = stage.archive_inside();
    let name = archive.rsplit('/').next().expect("a name").trim_end_matches(".tar.gz");
    let cache = format!("/var/cache/lsm/archive/{name}");
    stage.host.sh(&format!("mkdir -p {cache} && cp {archive} {cache}/")).ok();
    let mut taken = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..TRIALS.len() {
            let which = (round + turn) % TRIALS.len();
            let start = Instant::now();
            stage.host.lsm(["trial", "--backend", TRIALS[which]]).ok();
            taken[which].push(start.elapsed().as_secs_f64());
        }
        eprintln!("trial {} of {rounds}", round + 1);
    }
    let mut table =
        "\n| `lsm trial`, lnd built before | time | of the foreground's |\n| --- | --- | --- |\n".to_owned();
    for (backend, times) in TRIALS.iter().zip(&taken) {
        let ratio = median(times.iter().zip(&taken[0]).map(|(own, first)| own / first));
        table += &format!("| {backend} | {:.2} s | {ratio:.2} |\n", median(times.iter().copied()));
    }
    Some(table)
}

/// What `name`'s lnd has for itself alone, in MiB: its program's pages are everybody's.
fn private_memory(stage: &Stage, name: &str) -> u64 {
    let pid = stage.host.run(["systemctl", "show", "--value", "--property=MainPID", &format!("lsm@{name}")]).ok();
    let rollup = fs::read_to_string(stage.host.path(&format!("/proc/{}/smaps_rollup", pid.trim()))).expect("lnd runs");
    let value = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)).expect("a line of smaps_rollup");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    (value("Private_Clean:") + value("Private_Dirty:")) >> 10
}

/// The median time of a program from start to end, in milliseconds.
fn start_of(words: &[&str]) -> f64 {
    let one = || {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let status = command.status().expect("it starts");
        assert!(status.success(), "{words:?}: {status}");
        start.elapsed().as_secs_f64() * 1e3
    };
    median((0..STARTS).map(|_| one()))
}
