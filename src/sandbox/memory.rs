//! What this process holds stays in its memory: no core dump, no debugger, no swap.

use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// Forbids core dumps and tracing by the same user (prctl(2), PR_SET_DUMPABLE), and keeps root's lsm out of swap
/// (mlockall(2)); another user's lsm may not lock that much.
///
/// Best effort: a kernel that refuses one of these gives no reason to refuse the user's work.
pub fn seal() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = set_dumpable(false);
    // Once memory is locked, an allocation beyond this limit fails: at once where root's rights are partial, and later
    // in a process that gives them up. So without the limit, or not at all.
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        // Pages are locked when they are first touched, so that a large mapping costs nothing.
        let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
        let _ = mlockall(flags | MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT));
    }
}

/// Takes back what [`seal`] holds in memory, and the right to it, before this process becomes another program.
pub fn release() {
    let _ = munlockall();
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0);
}
