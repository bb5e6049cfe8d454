//! One error for the whole program: a code, what the user is told, and what only the log is told.

use std::fmt;

/// The exit code that an error ends the process with. The numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Refused, or an audit found something.
    Refused = 1,
    /// Bad usage or bad input.
    Usage = 2,
    /// The machine lacks something, which the message names.
    Lacking = 3,
    /// Verification failed; nothing was installed.
    Unverified = 4,
}

/// A stable name for one way of failing: `E-AREA-NNN`, never reused, with the exit code that it means.
///
/// Each room declares its own codes as constants; a test holds them unique over the whole source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The `E-AREA-NNN` text.
    pub id: &'static str,
    /// How the process ends.
    pub exit: Exit,
}

impl Code {
    /// A refusal (exit 1).
    pub const fn refused(id: &'static str) -> Self {
        Self { id, exit: Exit::Refused }
    }
    /// Bad usage or input (exit 2).
    pub const fn usage(id: &'static str) -> Self {
        Self { id, exit: Exit::Usage }
    }
    /// Something that the machine lacks (exit 3).
    pub const fn lacking(id: &'static str) -> Self {
        Self { id, exit: Exit::Lacking }
    }
    /// A verification that failed (exit 4).
    pub const fn unverified(id: &'static str) -> Self {
        Self { id, exit: Exit::Unverified }
    }
}

/// What went wrong: one line of cause, one of hint, a code. Never holds a secret.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    cause: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its one line of cause, written for the user.
    pub fn new(code: Code, cause: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, cause: plain(&cause.into()), hint: None, source: None }))
    }

    /// Adds the one line that says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(plain(&hint.into()));
        self
    }

    /// Adds a hint where there is none yet.
    #[must_use]
    pub fn hint_if_none(self, hint: &str) -> Self {
        if self.0.hint.is_none() { self.hint(hint) } else { self }
    }

    /// Adds the underlying error, which only the verbose log shows.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The one line of cause.
    pub fn cause(&self) -> &str {
        &self.0.cause
    }

    /// The one line of hint, where there is one.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// One line whatever it quotes: control characters, which could steer a terminal, are shown as escapes.
pub fn plain(text: &str) -> String {
    text.chars().map(show).collect()
}

/// The same of many lines: their ends and tabs stay.
pub fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c.to_string() } else { show(c) }).collect()
}

fn show(c: char) -> String {
    match c {
        // Those that serde_json leaves as they are, in a form that is JSON's too.
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        _ if c.is_control() => c.escape_default().to_string(),
        _ => c.to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.0.cause, self.0.code.id)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    #[test]
    fn what_an_error_quotes_cannot_steer_the_terminal() {
        let error = Error::new(Code::usage("E-TEST-001"), "said \x1b[2J\nroot#").hint("\x07");
        assert_eq!((error.cause(), error.advice()), ("said \\u{1b}[2J\\nroot#", Some("\\u{7}")));
    }

    #[test]
    fn what_a_log_says_keeps_its_lines_and_cannot_steer_the_terminal() {
        assert_eq!(plain_lines("a\tb\n\x1b]0;x\x07\r\u{9b}2J\n"), "a\tb\n\\u{1b}]0;x\\u{7}\\r\\u009b2J\n");
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                sources(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }

    #[test]
    fn every_code_is_defined_once_and_has_the_shape_of_one() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut seen = BTreeMap::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let is_id = |part: &&str| part.starts_with("E-");
            for id in text.split('"').skip(1).step_by(2).filter(is_id) {
                let parts: Vec<_> = id.split('-').collect();
                assert!(matches!(parts[..], ["E", _, number] if number.len() == 3), "{id} in {}", file.display());
                assert_eq!(seen.insert(id.to_owned(), file.clone()), None, "{id} stands twice");
            }
        }
        assert!(seen.len() > 50, "the sources were read");
    }
}
