//! What a guard costs: a signer with one that enforces, against the same signer without, measured in turns.
//!
//! `cargo bench --bench guard [-- ROUNDS]`, as root, with the lab that `tests/run` builds. One host has two isolated signers with
//! the same settings, one of them with a guard. A peer in a network of its own calls each over one connection, one call at a time
//! and eight at a time. A round measures each signer with each kind of call; every other round begins with the other signer.
//!
//! The guard writes each call down, and what lnd signed leaves it once that is on the disk: the table names the disk, and how long
//! one sync of one entry takes there.
//!
//! What a node notices of that: two watch-only nodes, each with a channel and a signer of its own, one of these with a guard, pay and
//! are paid in turns. How long a payment took is what the nodes themselves say.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

#[path = "../tests/caller/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod caller;
#[path = "../tests/channel_life/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench uses its own part")]
mod channel_life;
#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod lab;
mod load;
mod report;
#[path = "../tests/stage/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod stage;

use caller::{Client, Kind, Port};
use channel_life::signer::Made;
use channel_life::{Kind as Signer, life, with_signer};
use lab::btcd::Chain;
use lab::lnd::{Node, RELEASES};
use load::{SLICE, Slice, install_beside, slice};
use lsm::bundle::Bundle;
use report::{median, quantile};
use serde_json::Value;
use stage::Stage;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Calls under way at a time.
const AT_ONCE: [usize; 2] = [1, 8];
/// Rounds, unless others are asked for.
const ROUNDS: usize = 12;
/// Where the one without a guard listens.
const UNGUARDED: u16 = 10_013;
/// The one that the other is held against first.
const NAMES: [&str; 2] = ["without", "enforces"];
const KINDS: [Kind; 2] = [Kind::Message, Kind::Psbt];
/// How many payments are under way at a time, and how long they are made in one round.
const PAID_AT_ONCE: [usize; 2] = [1, 4];
const PAYING: Duration = Duration::from_secs(5);
/// More than a channel takes, with nothing that payments are held to.
const POLICY: &str = "[coins]\nper-transaction = 3000000\nper-day = 60000000\n";
/// How long a line of the guard's log is, in bytes.
const LINE: usize = 270;

/// All slices of one kind, so many at a time: those of each signer.
type Pair = [Vec<Slice>; 2];
/// A kind by its name, how many at a time, and what was measured.
type Row = (&'static str, usize, Pair);

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let Some(stage) = Stage::boot("guarded") else { return };
    stage.install(&["--guard=enforce"]).ok();
    let (guarded, unguarded) = (stage.bundle(), install_beside(&stage, UNGUARDED, &[]));
    let rounds = asked.unwrap_or(ROUNDS);
    let mut rows = stage.host.allowed().inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let of = |bundle: &Bundle, port: u16| {
                let at = SocketAddr::new(stage.host.v4.parse().expect("an address"), port);
                Client::new(&Port::new(at, &bundle.certificate), None, &bundle.macaroon, bundle.identity_pubkey())
            };
            let clients = [of(&unguarded, UNGUARDED), of(&guarded, stage::PORT)];
            for client in &clients {
                // The first call dials, and the first of a kind opens parts of the wallet.
                for kind in KINDS {
                    client.sign(kind).await.expect("a signature");
                }
            }
            measure(&clients, rounds).await
        })
    });
    let disk = describe_disk(&stage.host.path("/var/lib/lsm/guard/signer/log"));
    let version = stage.release.version.clone();
    drop(stage);
    rows.extend(pay(rounds));
    report::write("Signing with a guard", &table(&rows, rounds, &version, &disk));
}

/// Of each kind, one at a time and eight.
async fn measure(clients: &[Client; 2], rounds: usize) -> Vec<Row> {
    let each = KINDS.into_iter().flat_map(|kind| AT_ONCE.map(|at_once| (kind, at_once, Pair::default())));
    let mut pairs: Vec<_> = each.collect();
    for round in 0..rounds {
        for (kind, at_once, pair) in &mut pairs {
            for which in turns(round) {
                pair[which].push(slice(&clients[which], *kind, *at_once).await);
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    pairs.into_iter().map(|(kind, at_once, pair)| (kind.name(), at_once, pair)).collect()
}

/// Both signers, each first in every other round.
fn turns(round: usize) -> [usize; 2] {
    [round % 2, (round + 1) % 2]
}

/// Payments by two nodes, one after the other and four at a time.
fn pay(rounds: usize) -> Vec<Row> {
    let mut rows: Vec<_> = PAID_AT_ONCE.map(|at_once| ("payment", at_once, Pair::default())).into();
    with_signer(RELEASES[0], false, Signer::Plain, |without, bob, chain, _| {
        let without = Payers::open(without, bob, chain);
        with_signer(RELEASES[0], false, Signer::Guarded, |guarded, bob, chain, _| {
            guarded.signer.host.sh(&format!("printf '{POLICY}' >/etc/lsm/signer-guard.toml")).ok();
            let payers = [&without, &Payers::open(guarded, bob, chain)];
            for round in 0..rounds {
                for (_, at_once, pair) in &mut rows {
                    for which in turns(round) {
                        pair[which].push(payers[which].pay(*at_once));
                    }
                }
                eprintln!("round {} of {rounds}", round + 1);
            }
        });
    });
    rows
}

/// A node whose signer is measured, and whom it has a channel with.
struct Payers<'a>([&'a Node<'a>; 2]);

impl<'a> Payers<'a> {
    fn open(made: &'a Made<'_>, bob: &'a Node<'_>, chain: &Chain<'_>) -> Self {
        life::receive(&made.watch_only, bob, chain);
        let identity = life::connect(&made.watch_only, bob);
        life::open(&made.watch_only, bob, chain, &identity, false);
        Self([&made.watch_only, bob])
    }

    /// Has `at_once` payments under way for a while, each back after one there.
    fn pay(&self, at_once: usize) -> Slice {
        let before = self.0.map(last_payment);
        let start = Instant::now();
        std::thread::scope(|threads| {
            for first in 0..at_once {
                threads.spawn(move || {
                    for number in first.. {
                        if start.elapsed() >= PAYING {
                            break;
                        }
                        life::pay(self.0[number % 2], self.0[(number + 1) % 2]);
                    }
                });
            }
        });
        let lasted = start.elapsed().as_secs_f64();
        let taken: Vec<f64> = self.0.iter().zip(before).flat_map(|(node, before)| durations(node, &before)).collect();
        Slice::of(&taken, lasted)
    }
}

/// The number of the last payment that a node made.
fn last_payment(node: &Node<'_>) -> String {
    node.json(["listpayments", "--max_payments=1"])["last_index_offset"].as_str().expect("a number").to_owned()
}

/// How long each payment after that one took, in seconds.
fn durations(node: &Node<'_>, after: &str) -> Vec<f64> {
    let line = ["listpayments", "--paginate_forwards", "--max_payments=100000", "--index_offset", after];
    let payments = node.json(line);
    let number = |of: &Value| of.as_str().and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds");
    let of_one = |payment: &Value| {
        let way = payment["htlcs"].as_array().and_then(|ways| ways.last()).expect("a way");
        (number(&way["resolve_time_ns"]) - number(&way["attempt_time_ns"])) as f64 / 1e9
    };
    payments["payments"].as_array().expect("payments").iter().map(of_one).collect()
}

/// What the guard's log is on, and how long one sync of one entry takes there.
fn describe_disk(folder: &Path) -> String {
    let said = Command::new("findmnt").args(["-nro", "SOURCE,FSTYPE", "-T"]).arg(folder).output();
    let mounted = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
    let path = folder.join("trial");
    let mut file = File::create(&path).expect("a file");
    let mut taken = Vec::new();
    for _ in 0..200 {
        file.write_all(&[b'x'; LINE]).expect("it is written");
        let began = Instant::now();
        file.sync_data().expect("it is synced");
        taken.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path).expect("it goes");
    let of = |share| quantile(taken.iter().copied(), share);
    format!("{mounted}; a sync of one entry takes {:.2} ms there, one in a hundred {:.2} ms", of(0.5), of(0.99))
}

fn table(rows: &[Row], rounds: usize, version: &str, disk: &str) -> String {
    let mut table = format!(
        "lnd {version}, two isolated signers on one host, called from another network over one connection; medians of {rounds} \
         rounds of {:.1} s each, of payments {} s. A ratio is the median of the ratios within each round. The guard's log is on {disk}.\n\n\
         Wanted of each ratio: at least 0.95 per second, at most 1.05 for p50 and 1.15 for p99.\n\n",
        SLICE.as_secs_f64(),
        PAYING.as_secs()
    );
    table += "| call | at a time | guard | per second | ratio | p50 | ratio | p99 | ratio |\n";
    table += "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for (kind, at_once, pair) in rows {
        for (of_one, name) in pair.iter().zip(NAMES) {
            let of = |of: fn(&Slice) -> f64| {
                (median(of_one.iter().map(of)), median(of_one.iter().zip(&pair[0]).map(|(a, b)| of(a) / of(b))))
            };
            let ((rate, rates), (p50, p50s), (p99, p99s)) = (of(|s| s.rate), of(|s| s.p50), of(|s| s.p99));
            let (p50, p99) = (p50 * 1000.0, p99 * 1000.0);
            let _ = writeln!(
                table,
                "| {kind} | {at_once} | {name} | {rate:.0} | {rates:.3} | {p50:.2} ms | {p50s:.3} | {p99:.2} ms | {p99s:.3} |"
            );
        }
    }
    table
}
