//! lsm's own log, on standard error, where `-v` asks for it.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins logging: nothing, with one `-v` what is done, with two every program that is run.
pub fn begin(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // lsm's lines alone: a library that logs its traffic would log credentials.
    let ours = Targets::new().with_target("lsm", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().with_target(false);
    // A second call, in a test say, changes nothing.
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}
