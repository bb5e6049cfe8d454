//! `lsm man`: the manual page, from the same definitions as the help.

use crate::cli::Cli;
use crate::error::{Code, Error, Result};
use clap::CommandFactory;

const CANNOT_PRINT: Code = Code::lacking("E-CLI-001");

/// Prints lsm.1 (roff) to standard output.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run() -> Result<()> {
    let page = clap_mangen::Man::new(Cli::command());
    page.render(&mut std::io::stdout()).map_err(|e| Error::new(CANNOT_PRINT, format!("cannot print the page: {e}")))
}
