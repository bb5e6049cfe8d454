//! What the sandbox costs at a program's start: `lsm launch` against bubblewrap, side by side.
//!
//! `cargo bench --bench launch`: needs `bwrap` (Debian's package bubblewrap). `LSM_BENCH_STATIC=FILE` names a static lsm to
//! be measured too, as `tests/run` builds it.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

#[allow(dead_code, reason = "a bench uses its own part")]
mod report;

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LSM: &str = env!("CARGO_BIN_EXE_lsm");
/// Of each command, in turns, so that a disturbance meets all of them.
const ROUNDS: usize = 1000;
/// Not counted: what is read for the first time.
const WARM_UP: usize = 20;

/// What is measured; the first is what the others are held against.
fn commands() -> Vec<(String, Vec<String>)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let bwrap = "bwrap --ro-bind / / --unshare-all --dev /dev --proc /proc true";
    let mut all = vec![(format!("`{bwrap}`"), words(bwrap))];
    all.push(("`lsm launch -- /bin/true`".to_owned(), words(&format!("{LSM} launch -- /bin/true"))));
    if let Ok(lsm) = std::env::var("LSM_BENCH_STATIC") {
        all.push(("the same with a static lsm".to_owned(), words(&format!("{lsm} launch -- /bin/true"))));
    }
    all.push(("`/bin/true` alone".to_owned(), words("/bin/true")));
    all
}

fn time(words: &[String]) -> Duration {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    let taken = start.elapsed();
    assert!(status.success(), "{words:?}: {status}");
    taken
}

fn main() {
    if Command::new("bwrap").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("there is no bwrap; get it with: apt-get install bubblewrap");
        return;
    }
    let commands = commands();
    let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(ROUNDS); commands.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((_, words), times) in commands.iter().zip(&mut times) {
            let taken = time(words);
            if round >= WARM_UP {
                times.push(taken);
            }
        }
    }
    let at = |times: &[Duration], share: f64| report::quantile(times.iter().map(Duration::as_secs_f64), share) * 1e3;
    let plain = at(&times[0], 0.5);
    let mut table = format!("{ROUNDS} rounds, in turns; from the start to the end of the process.\n\n");
    table += "| what | median | p99 | of bwrap's median |\n| --- | --- | --- | --- |\n";
    for ((name, _), times) in commands.iter().zip(&times) {
        let (median, p99) = (at(times, 0.5), at(times, 0.99));
        let _ = writeln!(table, "| {name} | {median:.2} ms | {p99:.2} ms | {:.2} |", median / plain);
    }
    report::write("Launching", &table);
}
