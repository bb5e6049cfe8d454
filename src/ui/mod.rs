//! What the user sees: progress and tables on standard error, results on standard output, JSON where asked.

pub mod log;
pub mod progress;
pub mod terminal;

use crate::error::{self, Code, Error, Result};
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

const CUT_SHORT: Code = Code::lacking("E-UI-003");

/// Why something of what was printed did not arrive.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// How much is said, decided once by the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Voice {
    /// Results as one JSON object on standard output, and nothing else there.
    pub json: bool,
    /// No progress and no notes.
    pub quiet: bool,
}

static VOICE: OnceLock<Voice> = OnceLock::new();

/// Sets how much is said, for the whole process; later calls change nothing.
pub fn set_voice(voice: Voice) {
    let _ = VOICE.set(voice);
}

/// How much is said.
pub fn voice() -> Voice {
    VOICE.get().copied().unwrap_or_default()
}

/// A line for the person at the terminal, on standard error; silent with `--quiet`.
pub fn note(text: &str) {
    if !voice().quiet {
        eprintln!("{text}");
    }
}

/// Prints one line of result on standard output, as `println!` does, through [`print_line`].
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::ui::print_line(&format!($($part)*)) };
}
pub use say;

/// Prints one line of result on standard output. Control characters in it are shown as escapes; a reader that went away
/// (`lsm ... | head -1`) is no fault, and [`hold_printed`] tells of others.
pub fn print_line(text: &str) {
    // The work is done: who does not want to read its result does not undo it.
    if let Err(e) = writeln!(std::io::stdout(), "{}", error::plain(text))
        && e.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(e);
    }
}

/// Holds that all that was printed has arrived.
///
/// # Errors
/// Where some of it has not: it goes to a file on a full disk, say.
pub fn hold_printed() -> Result<()> {
    LOST.get().map_or(Ok(()), |e| {
        Err(Error::new(CUT_SHORT, format!("what was printed is not whole: {e}")).hint("what was to be done is done"))
    })
}
