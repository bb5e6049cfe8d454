//! Parses the command line, dispatches, and turns an error into an exit code.

use clap::Parser;
use lsm::cli::{self, Cli};
use lsm::error::Error;
use lsm::sandbox::memory;
use lsm::ui::say;
use std::error::Error as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    memory::seal();
    let (json, verbose) = (cli.common.json, cli.common.verbose);
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            tell(&error, json, verbose);
            ExitCode::from(error.code().exit as u8)
        }
    }
}

/// Tells the user: one line of cause, one of hint. With `--json` an object on standard output.
fn tell(error: &Error, json: bool, verbose: u8) {
    if json {
        let object =
            serde_json::json!({"error": {"code": error.code().id, "cause": error.cause(), "hint": error.advice()}});
        say!("{object}");
        return;
    }
    eprintln!("error: {error}");
    if let Some(hint) = error.advice() {
        eprintln!("hint: {hint}");
    }
    if let (true, Some(source)) = (verbose > 0, error.source()) {
        eprintln!("because: {source}");
    }
}
