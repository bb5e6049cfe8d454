//! How much a confined process may use up.

use crate::error::{Code, Error, Result};
use nix::sys::resource::{Resource, setrlimit};
use serde::Deserialize;

const NO_LIMIT: Code = Code::lacking("E-SANDBOX-005");

/// Limits for good, soft and hard alike (getrlimit(2)); what is not named stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Open descriptors.
    pub files: Option<u64>,
    /// Processes and threads of the user.
    pub processes: Option<u64>,
    /// Memory that holds data, in bytes.
    pub memory: Option<u64>,
    /// The size of any file that is written, in bytes.
    pub file_size: Option<u64>,
}

impl Limits {
    /// Puts them in force, and forbids core dumps.
    ///
    /// # Errors
    /// Where the kernel refuses: a limit that is higher than the one in force needs root's rights.
    pub fn enforce(&self) -> Result<()> {
        let wanted = [
            ("core dumps", Resource::RLIMIT_CORE, Some(0)),
            ("files", Resource::RLIMIT_NOFILE, self.files),
            ("processes", Resource::RLIMIT_NPROC, self.processes),
            ("memory", Resource::RLIMIT_DATA, self.memory),
            ("file-size", Resource::RLIMIT_FSIZE, self.file_size),
        ];
        for (name, resource, limit) in wanted {
            let Some(limit) = limit else { continue };
            set(name, resource, limit)?;
        }
        Ok(())
    }
}

/// Ends this process after so many `seconds` of one processor.
///
/// # Errors
/// Where the kernel refuses.
pub fn limit_time(seconds: u64) -> Result<()> {
    set("processor time", Resource::RLIMIT_CPU, seconds)
}

fn set(name: &str, resource: Resource, limit: u64) -> Result<()> {
    setrlimit(resource, limit, limit)
        .map_err(|e| Error::new(NO_LIMIT, format!("cannot limit what a process uses ({name}: {limit}): {e}")))
}
