//! Which signer of this host is meant, and whether who asks may change it.

use crate::backend::{Layout, native};
use crate::error::{Code, Error, Result};
use crate::host::{file, user};
use crate::spec::{Instance, Spec};

const NOT_INSTALLED: Code = Code::refused("E-CONTROL-001");
const NOT_ROOT: Code = Code::lacking("E-CONTROL-002");

/// The spec of a signer of this host.
///
/// # Errors
/// Where there is none of this name.
pub(super) fn installed(instance: &Instance) -> Result<Spec> {
    let path = Layout::new(instance).spec();
    if !file::is_there(&path)? {
        return Err(Error::new(NOT_INSTALLED, format!("this host has no signer called {instance}"))
            .hint("make one with: lsm install --network NETWORK, or name another with --instance"));
    }
    native::read_spec(&path)
}

/// Holds that root asks: what is the machine's is root's to change, whosever the signer is.
///
/// # Errors
/// Where it is somebody else.
pub(super) fn require_root() -> Result<()> {
    if user::is_root() {
        return Ok(());
    }
    // Also verbs that change nothing ask for it, and have no dry run.
    Err(Error::new(NOT_ROOT, "this needs root").hint("run it with sudo"))
}

/// Holds that who asks may change the signer of `layout`: root, or the user whose own it is.
///
/// # Errors
/// Where it is somebody else.
pub(super) fn require_rights(layout: &Layout) -> Result<()> {
    if layout.is_ours() {
        return Ok(());
    }
    Err(Error::new(NOT_ROOT, "changing a signer needs root").hint("run it with sudo, or look first with --dry-run"))
}
