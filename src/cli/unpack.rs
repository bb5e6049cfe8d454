//! `lsm unpack-archive` (hidden): what lsm starts to have an archive unpacked by a process without rights.

use crate::error::Result;
use crate::release;

/// Runs it.
///
/// # Errors
/// Where nobody listens.
pub fn run() -> Result<()> {
    release::serve_unpacking()
}
