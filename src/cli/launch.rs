//! `lsm launch` (hidden): the sandbox, then the program; what units and the trial start lnd with.

use crate::error::Result;
use crate::sandbox::launch::Launch;
use crate::ui;
use clap::Args;
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;

/// The options of `lsm launch`.
#[derive(Debug, Args)]
pub struct Options {
    /// What the program may reach; without it, itself alone
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Refuse a kernel whose Landlock is older than this version of its interface
    #[arg(long, value_name = "N")]
    require_landlock: Option<u32>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs it; what comes back is an error.
///
/// # Errors
/// As [`Launch::run`].
pub fn run(options: Options) -> Result<Infallible> {
    let Options { policy, require_landlock, command } = options;
    Launch { policy, require_landlock, command }.run(|kernel| ui::note(&format!("sandbox: {kernel}")))
}
