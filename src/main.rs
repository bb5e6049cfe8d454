//! Parses the command line, dispatches, and turns an error into an exit code.

use clap::Parser;
use lsm::cli::{self, Cli};
use lsm::error::{Code, Error};
use lsm::host::process;
use lsm::sandbox::memory;
use lsm::ui::{self, say};
use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

const BAD_ARGUMENTS: Code = Code::usage("E-CLI-002");
const NOT_TEXT: Code = Code::usage("E-CLI-004");

fn main() -> ExitCode {
    // What it names goes into journals and JSON.
    if let Some(other) = std::env::args_os().find(|argument| argument.to_str().is_none()) {
        let error = Error::new(NOT_TEXT, format!("{} is not UTF-8", other.display()));
        tell(&error.hint("give it another name"), asks_for_json(), 0);
        return ExitCode::from(NOT_TEXT.exit as u8);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(misuse) => return refuse(&misuse),
    };
    memory::seal();
    let verbose = cli.common.verbose;
    match cli::run(cli).and_then(|code| ui::hold_printed().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            process::yield_to_interrupt();
            tell(&error, ui::voice().json, verbose);
            ExitCode::from(error.code().exit as u8)
        }
    }
}

/// What a command line says of itself that was not read.
fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_format = |pair: &[OsString]| pair[0] == "--format" && pair[1] == "json";
    arguments.iter().any(|argument| argument == "--json" || argument == "--format=json")
        || arguments.windows(2).any(is_format)
}

/// A command line that makes no sense, which does not say how it wants to be told; or a wish for help.
fn refuse(misuse: &clap::Error) -> ExitCode {
    // What a value's own check says has a code and a hint of its own.
    let own = misuse.source().and_then(|source| source.downcast_ref::<Error>());
    let advice = own.and_then(Error::advice);
    if !misuse.use_stderr() || !asks_for_json() {
        if let Some(advice) = advice {
            // Where it cannot be told, nobody reads it.
            let _ = misuse.print();
            eprintln!("hint: {advice}");
            return ExitCode::from(BAD_ARGUMENTS.exit as u8);
        }
        misuse.exit();
    }
    let error = Error::new(own.map_or(BAD_ARGUMENTS, Error::code), cause_of(&misuse.to_string()));
    tell(&error.hint(advice.unwrap_or("lsm --help shows what there is")), true, 0);
    ExitCode::from(BAD_ARGUMENTS.exit as u8)
}

/// What the parser says is wrong, on one line: it names the options that are missing on lines of their own. How the verb is used
/// comes after that.
fn cause_of(told: &str) -> String {
    let is_cause = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let lines: Vec<&str> = told.lines().map(str::trim).take_while(is_cause).filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// Tells the user: one line of cause, one of hint; or in JSON an object on standard output.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_in_the_cause() {
        let misuse = Cli::try_parse_from(["lsm", "install"]).unwrap_err();
        let wanted = "the following required arguments were not provided: --network <NETWORK>";
        assert_eq!(cause_of(&misuse.to_string()), wanted);
    }
}
