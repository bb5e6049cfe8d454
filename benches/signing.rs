//! How fast a sandboxed lnd signs, against a bare one on the same host, measured in turns.
//!
//! `cargo bench --bench signing [-- ROUNDS]`, as root, with the lab that `tests/run` builds. One host has four signers with
//! the same settings: a bare lnd, one started by `lsm launch` alone, and two that lsm installed, in host mode and isolated.
//! A peer in a network of its own calls each over one connection, eight calls under way at a time: a routing node's lnd
//! has one connection to its signer, and its signature pool (lnwallet.SigPool) works on as many as it has processors.
//! A round measures each signer with each kind of call; every round begins with another signer.
//!
//! It is measured twice. First everything may use every processor: then the caller and, before an isolated lnd, the proxy
//! take from lnd what they need themselves. Then each lnd has the first processor and all else the second, as on a machine
//! that has a processor to spare, with its callers elsewhere.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

mod bare;
#[path = "../tests/caller/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod caller;
#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod lab;
#[allow(dead_code, reason = "a bench uses its own part")]
mod load;
#[path = "../tests/node/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod node;
mod report;
#[path = "../tests/stage/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod stage;

use bare::Bare;
use caller::{Client, Kind, Port};
use load::{SLICE, Slice, install_beside, slice};
use lsm::bundle::Bundle;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use report::median;
use stage::Stage;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Calls under way at a time.
const AT_ONCE: usize = 8;
/// Rounds, unless others are asked for.
const ROUNDS: usize = 12;
/// Where the others listen.
const HOST_MODE: u16 = 10_013;
const LAUNCHED: u16 = 10_014;
const BARE: u16 = 10_015;
/// The names of the four, the one that the others are held against first.
const NAMES: [&str; 4] = ["bare lnd", "`lsm launch` alone", "host mode", "isolated"];

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let Some(stage) = Stage::boot("signing") else { return };
    stage.install(&["--taproot-channels"]).ok();
    let isolated = stage.bundle();
    let host_mode = install_beside(&stage, HOST_MODE, &["--mode=host", "--taproot-channels"]);
    let lnd = format!("/usr/local/lib/lsm/lnd/{}/lnd", stage.release.version);
    let launched = Bare::start(&stage, &lnd, "launched", LAUNCHED, true);
    let bare = Bare::start(&stage, &lnd, "bare", BARE, false);
    let rounds = asked.unwrap_or(ROUNDS);
    let (shared, apart) = stage.host.allowed().inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let at = |port: u16| SocketAddr::new(stage.host.v4.parse().unwrap(), port);
            let of_bare = |bare: &Bare, port| {
                Client::new(&Port::new(at(port), &bare.certificate), None, &bare.macaroon, &bare.identity)
            };
            let of_bundle = |bundle: &Bundle, port| {
                Client::new(&Port::new(at(port), &bundle.certificate), None, &bundle.macaroon, bundle.identity_pubkey())
            };
            let clients = [
                of_bare(&bare, BARE),
                of_bare(&launched, LAUNCHED),
                of_bundle(&host_mode, HOST_MODE),
                of_bundle(&isolated, stage::PORT),
            ];
            warm_up(&clients).await;
            let shared = measure(&clients, rounds).await;
            keep_apart();
            (shared, measure(&clients, rounds).await)
        })
    });
    let version = &stage.release.version;
    report::write("Signing in the sandbox", &table(&shared, rounds, version));
    report::write("Signing in the sandbox, lnd on a processor of its own", &table(&apart, rounds, version));
}

/// The first call dials, and the first of a kind opens parts of the wallet.
async fn warm_up(clients: &[Client; 4]) {
    for client in clients {
        for kind in Kind::ALL {
            client.sign(kind).await.expect("a signature");
        }
    }
}

/// Gives every lnd the first processor, and the second to the proxy and to this process.
fn keep_apart() {
    let own = std::process::id();
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let processor = match name.trim_end() {
            "lnd" => 0,
            // The kernel cuts names off.
            "systemd-socket-" => 1,
            _ if process.file_name().to_str() == Some(&own.to_string()) => 1,
            _ => continue,
        };
        let mut set = CpuSet::new();
        set.set(processor).expect("a processor");
        // A thread that ended meanwhile needs none.
        for thread in std::fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let id = thread.file_name().to_string_lossy().parse().expect("a number");
            let _ = sched_setaffinity(Pid::from_raw(id), &set);
        }
    }
}

/// All slices: of each kind, of each client, of each round.
async fn measure(clients: &[Client; 4], rounds: usize) -> Vec<[Vec<Slice>; 4]> {
    let mut slices: Vec<[Vec<Slice>; 4]> = Kind::ALL.map(|_| Default::default()).into();
    for round in 0..rounds {
        for (of_kind, kind) in slices.iter_mut().zip(Kind::ALL) {
            for turn in 0..clients.len() {
                let which = (round + turn) % clients.len();
                of_kind[which].push(slice(&clients[which], kind, AT_ONCE).await);
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    slices
}

fn table(slices: &[[Vec<Slice>; 4]], rounds: usize, version: &str) -> String {
    let mut table = format!(
        "lnd {version} on one host, called from another network over one connection, {AT_ONCE} calls under way at a time; \
         medians of {rounds} rounds of {:.1} s each. A ratio is the median of the ratios within each round.\n\n",
        SLICE.as_secs_f64()
    );
    table += "| call | signer | per second | of the bare lnd's | p99 | of the bare lnd's |\n";
    table += "| --- | --- | --- | --- | --- | --- |\n";
    for (of_kind, kind) in slices.iter().zip(Kind::ALL) {
        for (of_one, name) in of_kind.iter().zip(NAMES) {
            let ratio = |of: fn(&Slice) -> f64| median(of_one.iter().zip(&of_kind[0]).map(|(a, b)| of(a) / of(b)));
            let (rate, p99) = (median(of_one.iter().map(|s| s.rate)), median(of_one.iter().map(|s| s.p99)));
            let (rates, p99s) = (ratio(|s| s.rate), ratio(|s| s.p99));
            let (kind, p99) = (kind.name(), p99 * 1000.0);
            let _ = writeln!(table, "| {kind} | {name} | {rate:.0} | {rates:.3} | {p99:.2} ms | {p99s:.3} |");
        }
    }
    table
}
