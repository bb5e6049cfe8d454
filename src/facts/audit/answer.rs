//! What the machine answered: something, that there is nothing, or that it does not tell.

use crate::error::Result;
use crate::host::user;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

/// What the machine answered to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<T> {
    /// This.
    Is(T),
    /// There is no such thing.
    Absent,
    /// It does not tell, because of this.
    Unknown(String),
}

/// Why something cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(String);

impl Unknown {
    /// For this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> Answer<T> {
    /// The answer; nothing where there is no such thing.
    ///
    /// # Errors
    /// Where the machine does not tell.
    pub fn get(&self) -> Result<Option<&T>, Unknown> {
        match self {
            Self::Is(value) => Ok(Some(value)),
            Self::Absent => Ok(None),
            Self::Unknown(why) => Err(Unknown(why.clone())),
        }
    }

    /// The answer, where there has to be one: `what` is missing otherwise.
    ///
    /// # Errors
    /// Where the machine does not tell, or there is none.
    pub fn need(&self, what: &str) -> Result<&T, Unknown> {
        self.get()?.ok_or_else(|| Unknown(format!("there is no {what}")))
    }

    /// The answer itself; nothing where there is no such thing.
    ///
    /// # Errors
    /// Where the machine does not tell.
    pub fn take(self) -> Result<Option<T>, Unknown> {
        match self {
            Self::Is(value) => Ok(Some(value)),
            Self::Absent => Ok(None),
            Self::Unknown(why) => Err(Unknown(why)),
        }
    }

    /// What came of several answers, put together with `?`.
    pub fn told(result: Result<Option<T>, Unknown>) -> Self {
        match result {
            Ok(Some(value)) => Self::Is(value),
            Ok(None) => Self::Absent,
            Err(Unknown(why)) => Self::Unknown(why),
        }
    }

    /// That there is none: what facts that were written down by an older lsm do not say.
    pub const fn absent() -> Self {
        Self::Absent
    }

    /// The answer with something made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answer<U> {
        self.and_then(|value| Answer::Is(make(value)))
    }

    /// The answer to the next question, which `ask` asks of what was answered.
    pub fn and_then<U>(self, ask: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Self::Is(value) => ask(value),
            Self::Absent => Answer::Absent,
            Self::Unknown(why) => Answer::Unknown(why),
        }
    }

    /// What `read` makes of what is at `path`.
    pub fn of_file(path: &Path, read: impl FnOnce() -> Result<T>) -> Self {
        match std::fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Self::Absent,
            Err(e) => Self::failed(path, &e),
            Ok(_) => read().map_or_else(|e| Self::Unknown(only_root(e.cause())), Self::Is),
        }
    }

    /// The answer where looking at `path` failed.
    pub fn failed(path: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Absent,
            _ => Self::Unknown(only_root(&format!("cannot look at {}: {error}", path.display()))),
        }
    }
}

/// Whoever is not root is told that root could see more.
fn only_root(why: &str) -> String {
    if user::is_root() { why.to_owned() } else { format!("{why}; run it as root") }
}
