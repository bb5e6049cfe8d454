//! Root's rights, given up for good.

use crate::error::{Code, Error, Result};
use caps::{CapSet, Capability};

const NOT_DROPPED: Code = Code::lacking("E-SANDBOX-002");

/// Takes every capability from the calling thread, in all five sets, and sets no_new_privs: nothing that it runs gets
/// any back. A thread that may not empty its bounding set keeps it, which no_new_privs makes worth nothing.
///
/// # Errors
/// Where the kernel refuses, or one is left.
pub fn drop_all() -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::new(NOT_DROPPED, format!("cannot give up root's rights: {e}"));
    nix::sys::prctl::set_no_new_privs().map_err(|e| failed(&e))?;
    let has = |set| caps::read(None, set).map_err(|e| failed(&e));
    caps::clear(None, CapSet::Ambient).map_err(|e| failed(&e))?;
    if has(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).map_err(|e| failed(&e))?;
    }
    // In this order: what is effective must also be permitted.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        // Where a unit left none, its filter does not know capset(2) either.
        if !has(set)?.is_empty() {
            caps::clear(None, set).map_err(|e| failed(&e))?;
        }
    }
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        if let Some(left) = has(set)?.iter().next() {
            return Err(failed(&format!("{left} stays")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_is_left_in_any_set() {
        // Capabilities are a thread's own; the other tests keep theirs.
        let status = std::thread::spawn(|| {
            drop_all().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        let mut names = vec!["CapInh", "CapPrm", "CapEff", "CapAmb"];
        if crate::host::user::is_root() {
            names.push("CapBnd");
        }
        for name in names {
            assert!(status.contains(&format!("{name}:\t0000000000000000\n")), "{name} {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}
