//! What the user sees: progress and tables on standard error, results on standard output, JSON where asked.

pub mod log;
pub mod progress;
pub mod terminal;

use std::sync::OnceLock;

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
