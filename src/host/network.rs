//! Work done in a network of its own: what is loaded there reaches nobody, and is gone with it.

use crate::error::{Code, Error, Result};
use nix::sched::{CloneFlags, unshare};

const NO_NETWORK: Code = Code::lacking("E-HOST-075");

/// Does `work` on a thread whose network is a new and empty one (network_namespaces(7)). The programs that it starts are in
/// it too.
///
/// # Errors
/// Where this process may not make one, which takes root.
pub fn in_empty_network<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::new(NO_NETWORK, format!("cannot make a network of its own: {e}")))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::program::Program;
    use std::net::TcpListener;

    #[test]
    fn nothing_of_the_machines_network_is_in_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let list = || Program::new("cat").arg("/proc/thread-self/net/tcp").run().unwrap();
        match in_empty_network(list) {
            Ok(inside) => {
                assert_eq!(String::from_utf8(inside).unwrap().lines().count(), 1, "only the heading");
                assert!(list().split(|byte| *byte == b'\n').count() > 2);
            }
            Err(e) => assert!(!crate::host::user::is_root(), "{e}"),
        }
        drop(holder);
    }
}
