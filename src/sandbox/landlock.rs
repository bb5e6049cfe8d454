//! Landlock: what of the file system and the network is closed to a thread, as far as the kernel knows how.

use crate::error::{Code, Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use serde::{Deserialize, Serialize};

const NOT_CLOSED: Code = Code::lacking("E-SANDBOX-003");

/// The newest interface whose rights are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// What is in force after [`close_all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    /// All of it.
    Whole,
    /// What this kernel knows: at least the file system.
    Part,
    /// Nothing: the kernel has no Landlock, or it is switched off.
    Nothing,
}

/// Closes every file, every TCP port, and signals and abstract sockets of others, to the calling thread and what it
/// starts. What it has open already stays open. A kernel without Landlock is no error.
///
/// # Errors
/// Where the kernel has it and refuses.
pub fn close_all() -> Result<Closed> {
    let done = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|e| Error::new(NOT_CLOSED, format!("cannot close the file system with Landlock: {e}")))?;
    Ok(match (done.landlock, done.ruleset) {
        (LandlockStatus::Available { .. }, RulesetStatus::FullyEnforced) => Closed::Whole,
        (LandlockStatus::Available { .. }, RulesetStatus::PartiallyEnforced) => Closed::Part,
        _ => Closed::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn no_file_can_be_opened_and_no_port_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        // Landlock holds a thread; the other tests stay free.
        let tried = std::thread::spawn(move || {
            let closed = close_all().unwrap();
            let refused = [
                std::fs::File::open("/etc/hostname").map(drop).err(),
                std::fs::read_dir("/").map(drop).err(),
                std::fs::File::create(new).map(drop).err(),
                TcpStream::connect(port).map(drop).err(),
            ];
            (closed, refused.map(|e| e.map(|e| e.kind())))
        });
        let (closed, refused) = tried.join().unwrap();
        match closed {
            Closed::Whole => assert_eq!(refused, [Some(ErrorKind::PermissionDenied); 4]),
            Closed::Part => assert_eq!(refused[..3], [Some(ErrorKind::PermissionDenied); 3]),
            Closed::Nothing => eprintln!("this kernel has no Landlock: nothing to test"),
        }
    }
}
