//! The guard: hears every call that reaches the signer's lnd, and says which are not answered.
//!
//! lnd asks it as its RPC middleware (lnd's rpcperms/interceptor.go). With `rpcmiddleware.addmandatory` lnd answers nobody while
//! the guard is not there: it fails closed.

pub mod approval;
pub mod budget;
pub mod clock;
pub mod daemon;
pub mod destination;
pub mod entry;
pub mod freeze;
pub mod judge;
pub mod log;
pub mod policy;
pub mod proxy;
pub mod rates;
pub mod refusal;
pub mod replay;
pub mod request;
pub mod session;
pub mod signed;
pub mod spend;
pub mod wallet;
pub mod word;

use crate::error::{Code, Result};
use crate::host::file;
use crate::signer::{Node, proof};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const NO_ACCOUNTS: Code = Code::lacking("E-GUARD-003");
const NO_ROOM: Code = Code::lacking("E-GUARD-004");

/// What the status that it tells systemd begins with: that it is asked, and that it refuses whatever it is asked, and why.
const ASKED: &str = "asked by lnd, ";
const REFUSES_ALL: &str = "refuses every signature: ";
/// What else it says of a policy that does not read, and why.
const NO_COIN: &str = "no coin leaves the wallet: ";

/// What it says besides before each thing that the operator has to know.
const WARNS: &str = "; warning: ";

/// What the guard that told systemd `status` warns of.
pub fn warnings(status: &str) -> Vec<&str> {
    let before = status.split_once(NO_COIN).map_or(status, |(before, _)| before.trim_end_matches("; "));
    before.split(WARNS).skip(1).collect()
}

/// Why the guard that told systemd `status` refuses every signature, where it does.
pub fn trouble(status: &str) -> Option<&str> {
    status.strip_prefix(REFUSES_ALL)
}

/// Why the guard that told systemd `status` lets no coin of the wallet leave, where it does not.
pub fn no_coin(status: &str) -> Option<&str> {
    status.split_once(NO_COIN).map(|(_, why)| why)
}

/// True where the operator has frozen the signer: the file is there, or it cannot be told that it is not.
pub fn frozen(flag: &Path) -> bool {
    file::is_there(flag).unwrap_or(true)
}

/// A minute, in milliseconds.
pub const MINUTE: u64 = 60 * 1000;
/// An hour, likewise.
pub const HOUR: u64 = 60 * MINUTE;
/// A day, likewise.
pub const DAY: u64 = 24 * HOUR;

/// The time, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// How the log names a message, a policy and the line before.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What a refusal begins with, as the caller is told it.
const SAYS: &str = "lsm guard: ";

/// Asks `node` for a signature that the guard has to refuse: over random bytes, by a key that nothing hangs on. True where it
/// was refused by the guard.
///
/// # Errors
/// Where lnd was not asked, or refused for another reason.
pub fn canary(node: &Node) -> Result<bool> {
    match node.sign_with_key(UNUSED, 0, proof::new_message().as_bytes()) {
        Ok(_) => Ok(false),
        Err(e) if e.cause().contains(SAYS) => Ok(true),
        Err(e) => Err(e),
    }
}

/// A key family that lnd derives and has no use for (keychain/derivation.go).
const UNUSED: i32 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_tells_systemd_is_read_as_it_was_said() {
        let all = format!("{ASKED}enforces{WARNS}one; or another{WARNS}two; {NO_COIN}it is gone; to go on: x");
        assert_eq!(warnings(&all), ["one; or another", "two"]);
        assert_eq!((no_coin(&all), trouble(&all)), (Some("it is gone; to go on: x"), None));
        assert_eq!(warnings(&format!("{ASKED}observes")), [""; 0]);
    }
}
