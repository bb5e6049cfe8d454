//! The lab: real hosts, a real network between them, the real lnd and a real chain, for the integration tests.

pub mod btcd;
pub mod disk;
pub mod host;
pub mod lnd;
pub mod net;
pub mod nobody;
pub mod process;
mod site;
pub mod snapshot;
pub mod trace;
pub mod vm;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The `lsm` under test.
pub const LSM: &str = env!("CARGO_BIN_EXE_lsm");

/// Says that this test cannot run here; the test then returns. `tests/run` counts these lines.
#[track_caller]
pub fn skip(reason: &str) {
    let place = std::panic::Location::caller();
    let thread = std::thread::current();
    // With one test thread libtest runs tests on the main thread, which then names no test.
    match thread.name().filter(|name| *name != "main") {
        Some(test) => println!("SKIP {test}: {reason}"),
        None => println!("SKIP {}:{}: {reason}", place.file(), place.line()),
    }
}

/// The folder that `tests/run` keeps its built things in.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("lsm-tests")
}

/// Where lsm keeps what it fetched and built from source: the tests of that go on from there.
pub fn release_cache() -> PathBuf {
    let named = std::env::var_os("LSM_TEST_CACHE").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("release"))
}

/// Asks `poll` every 50 ms until it gives something.
///
/// # Panics
/// After `limit`, naming `what`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
