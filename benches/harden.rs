//! What an audit costs: `lsm harden` against Lynis, on one host with a signer.
//!
//! `cargo bench --bench harden [-- ROUNDS]`, as root, with the lab that `tests/run` builds, and with Debian's package lynis
//! to be had by apt-get; it is unpacked inside the host, which is thrown away.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod lab;
#[allow(dead_code, reason = "a bench uses its own part")]
mod report;
#[path = "../tests/stage/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod stage;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use stage::Stage;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Of each, in turns.
const ROUNDS: usize = 7;
/// The argument with which this program runs one command and says what it took.
const MEASURE: &str = "measure";
/// Its audit.
const LYNIS: &str = "lynis audit system --quick --quiet --no-colors";
/// What it writes at the end of one, inside.
const LYNIS_REPORT: &str = "/var/log/lynis-report.dat";

/// What one run took, with all that it started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cost {
    /// Seconds from start to end.
    wall: f64,
    /// Seconds of processor time.
    cpu: f64,
    /// KiB of the largest process.
    peak: i64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(MEASURE) {
        return measure(&arguments.collect::<Vec<_>>());
    }
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let Some(stage) = Stage::boot("bench-harden") else { return };
    if let Err(why) = unpack_lynis(&stage) {
        println!("there is no lynis: {why}");
        return;
    }
    stage.install(&[]).ok();
    let commands = [("`lynis audit system --quick`", LYNIS), ("`lsm harden`", "/root/lsm harden")];
    let mut costs = [Vec::new(), Vec::new()];
    // One of each before: what is read for the first time does not count.
    for round in 0..=rounds {
        for ((_, script), costs) in commands.iter().zip(&mut costs) {
            let cost = run(&stage, script);
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    report::write("Auditing a host", &table(&commands.map(|(name, _)| name), &costs, rounds));
}

/// Runs the command, and says what it took as JSON. A process of its own, since the kernel counts all children of one.
fn measure(words: &[String]) {
    let start = Instant::now();
    // It ends with 1 where it finds something.
    let quiet = || Stdio::null();
    Command::new(&words[0]).args(&words[1..]).stdin(quiet()).stdout(quiet()).stderr(quiet()).status().expect(&words[0]);
    let wall = start.elapsed().as_secs_f64();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let cost = Cost { wall, cpu: seconds(used.user_time()) + seconds(used.system_time()), peak: used.max_rss() };
    println!("{}", serde_json::to_string(&cost).expect("numbers"));
}

fn run(stage: &Stage, script: &str) -> Cost {
    let itself = std::env::current_exe().expect("a program");
    let inside = stage.host.command("sh");
    let mut command = Command::new(itself);
    command.arg(MEASURE).arg(inside.get_program()).args(inside.get_args()).args(["-c", script]);
    let done = lab::process::run(command).ok();
    serde_json::from_str(&done).unwrap_or_else(|e| panic!("{e}: {done}"))
}

/// Lynis is a folder of shell scripts: nothing of it has to be installed.
fn unpack_lynis(stage: &Stage) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let got = Command::new("apt-get").args(["download", "lynis"]).current_dir(folder.path()).output();
    let got = got.map_err(|e| e.to_string())?;
    let package = std::fs::read_dir(folder.path()).map_err(|e| e.to_string())?.flatten().next();
    let package = package.ok_or_else(|| String::from_utf8_lossy(&got.stderr).into_owned())?;
    stage.host.copy_in(&package.path(), "/root/lynis.deb", 0o644);
    // Its /lib would take the place of the host's, which is a link.
    stage.host.sh("dpkg-deb -x /root/lynis.deb /opt/lynis && cd /opt/lynis && cp -r usr etc /").ok();
    // It goes through.
    stage.host.sh(&format!("{LYNIS}; grep -q ^hardening_index= {LYNIS_REPORT}")).ok();
    Ok(())
}

fn table(names: &[&str; 2], costs: &[Vec<Cost>; 2], rounds: usize) -> String {
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| report::median(costs.iter().map(of));
    let mut table = format!(
        "Medians of {rounds} rounds on one Debian host with a signer, with all the programs that each starts.\n\n\
         | what | time | of Lynis's | processor time | peak memory |\n| --- | --- | --- | --- | --- |\n"
    );
    let plain = median(&costs[0], |cost| cost.wall);
    for (name, costs) in names.iter().zip(costs) {
        let (wall, cpu) = (median(costs, |cost| cost.wall), median(costs, |cost| cost.cpu));
        let peak = median(costs, |cost| cost.peak as f64) / 1024.0;
        let share = if wall == plain { "1".to_owned() } else { format!("1/{:.0}", plain / wall) };
        let _ = writeln!(table, "| {name} | {:.0} ms | {share} | {:.0} ms | {peak:.0} MiB |", wall * 1e3, cpu * 1e3);
    }
    table
}
