//! Signers under load: a second one beside the first, and what one of them gives in a slice of time.

use crate::caller::{Client, Kind};
use crate::report::quantile;
use crate::stage::Stage;
use lsm::bundle::Bundle;
use std::time::{Duration, Instant};

/// How long one kind of call is measured at one signer in one round.
pub const SLICE: Duration = Duration::from_millis(1500);

/// What one slice gave.
#[derive(Clone, Copy)]
pub struct Slice {
    /// Calls, or sessions, a second.
    pub rate: f64,
    /// The latency that half stay below, in seconds.
    pub p50: f64,
    /// The latency that 99 of 100 stay below, in seconds.
    pub p99: f64,
}

impl Slice {
    /// Of how long each call in it has `taken`, and how long it lasted, in seconds.
    pub fn of(taken: &[f64], lasted: f64) -> Self {
        let of = |share| quantile(taken.iter().copied(), share);
        Self { rate: taken.len() as f64 / lasted, p50: of(0.5), p99: of(0.99) }
    }
}

/// Has `at_once` calls of a kind under way for a slice.
pub async fn slice(client: &Client, kind: Kind, at_once: usize) -> Slice {
    let start = Instant::now();
    let one = |client: Client| async move {
        let mut taken = Vec::new();
        while start.elapsed() < SLICE {
            let asked = Instant::now();
            client.ask(kind).await.expect("a signature");
            taken.push(asked.elapsed().as_secs_f64());
        }
        taken
    };
    let all: Vec<_> = (0..at_once).map(|_| tokio::spawn(one(client.clone()))).collect();
    let mut taken = Vec::new();
    for one in all {
        taken.extend(one.await.expect("no panic"));
    }
    Slice::of(&taken, start.elapsed().as_secs_f64())
}

/// Installs a second signer beside the first, on this port and with `more` arguments, and gives its bundle.
pub fn install_beside(stage: &Stage, port: u16, more: &[&str]) -> Bundle {
    let mut arguments = vec!["install".to_owned(), "--network=regtest".into(), "--instance=open".into()];
    arguments.extend(stage.source());
    arguments.extend([format!("--listen={}:{port}", stage.host.v4), "--allow=10.77.0.3".into()]);
    arguments.extend(["--seed-out=/root/out/open-seed", "--bundle-out=/root/out/open"].map(str::to_owned));
    stage.install_with(&arguments, more).ok();
    Bundle::read(&stage.host.path("/root/out/open").to_string_lossy()).expect("the bundle can be read")
}
