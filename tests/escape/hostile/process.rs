//! Other processes: of the same user, of others, the first one.

use crate::files::one_line;
use crate::sys::{NOTHING, Tried, child_ended, open, plain, sys};
use crate::{Attempt, World, root, user};

const SIGTERM: usize = 15;
/// Has systemd log as usual, which it does already (systemd(1), SIGRTMIN+23).
const LOG_AS_USUAL: usize = 34 + 23;
const PTRACE_SEIZE: usize = 0x4206;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;
const CLONE_NEWNS: usize = 0x0002_0000;
const SIGCHLD: usize = 17;
/// The key of the victim's shared memory.
const KEY: usize = 0x1f5a;

pub const ALL: &[Attempt] = &[
    user("make a process (fork)", "said", |_| child_ended(sys!(FORK)?)),
    user("make a process (clone)", "said", |_| child_ended(sys!(CLONE, SIGCHLD, 0, 0, 0, 0)?)),
    user("make a process (clone3)", "said", |_| clone3(0)),
    user("trace another process", "said", |w| plain(sys!(PTRACE, PTRACE_SEIZE, w.number("victim"), 0, 0))),
    user("have itself traced", "said", |_| plain(sys!(PTRACE, 0, 0, 0, 0))),
    user("read another process's memory (/proc/PID/mem)", "secret", |w| {
        let memory = open(&format!("/proc/{}/mem", w.get("victim")), 0)?;
        let mut bytes = [0_u8; 64];
        crate::sys::call(17, &[memory, bytes.as_mut_ptr() as usize, 64, stack(w)?])?;
        Ok(one_line(&bytes))
    }),
    user("read another process's memory (process_vm_readv)", "secret", |w| {
        let mut bytes = [0_u8; 64];
        let (own, theirs) = ([bytes.as_mut_ptr() as usize, 64], [stack(w)?, 64]);
        sys!(PROCESS_VM_READV, w.number("victim"), own.as_ptr(), 1, theirs.as_ptr(), 1, 0)?;
        Ok(one_line(&bytes))
    }),
    user("write another process's memory (process_vm_writev)", "said", |w| {
        let mut bytes = [0_u8; 1];
        let (own, theirs) = ([bytes.as_mut_ptr() as usize, 1], [stack(w)?, 1]);
        sys!(PROCESS_VM_READV, w.number("victim"), own.as_ptr(), 1, theirs.as_ptr(), 1, 0)?;
        plain(sys!(PROCESS_VM_WRITEV, w.number("victim"), own.as_ptr(), 1, theirs.as_ptr(), 1, 0))
    }),
    user("end another process of its user", "ended prey", |w| plain(sys!(KILL, w.number("prey"), SIGTERM))),
    user("end another process of its user (pidfd)", "ended quarry", |w| {
        let process = sys!(PIDFD_OPEN, w.number("quarry"), 0)?;
        plain(sys!(PIDFD_SEND_SIGNAL, process, SIGTERM, 0, 0))
    }),
    root("end a process of another user", "ended stranger", |w| plain(sys!(KILL, w.number("stranger"), SIGTERM))),
    root("signal the first process", "said", |_| plain(sys!(KILL, 1, LOG_AS_USUAL))),
    user("take a descriptor from another process", "said", |w| {
        let process = sys!(PIDFD_OPEN, w.number("victim"), 0)?;
        plain(sys!(PIDFD_GETFD, process, 0, 0))
    }),
    user("compare itself with another process (kcmp)", "said", |w| {
        plain(sys!(KCMP, sys!(GETPID)?, w.number("victim"), 1, 0, 0))
    }),
    user("read another process's shared memory", "secret", |_| {
        let page = sys!(SHMAT, sys!(SHMGET, KEY, 64, 0)?, 0, 0o10000)?;
        // SAFETY: the segment was attached, and is one page at least.
        Ok(one_line(unsafe { std::slice::from_raw_parts(page as *const u8, 64) }))
    }),
    user("change another process's limits", "said", |w| {
        plain(sys!(PRLIMIT64, w.number("victim"), 7, [64_usize, 64].as_ptr(), 0))
    }),
    user("bind another process to one processor", "said", |w| {
        plain(sys!(SCHED_SETAFFINITY, w.number("victim"), 8, [1_usize].as_ptr()))
    }),
    root("raise its limit of descriptors", "said", |_| raise(7)),
    root("raise its limit of processes", "said", |_| raise(6)),
    user("allow itself a core dump", "said", |_| raise(4)),
    root("run before all others (real time)", "said", |_| plain(sys!(SCHED_SETSCHEDULER, 0, 1, [1_u32].as_ptr()))),
    root("run before all others (priority)", "said", |_| plain(sys!(SETPRIORITY, 0, 0, -20_isize))),
    root("keep memory from being swapped", "said", |_| {
        let size = 64 << 20;
        let memory = sys!(MMAP, 0, size, 3, 0x22, -1_isize, 0)?;
        plain(sys!(MLOCK, memory, size))
    }),
    user("become another user in a namespace (unshare)", "said", |_| plain(sys!(UNSHARE, CLONE_NEWUSER))),
    user("become another user in a namespace (clone)", "said", |_| {
        child_ended(sys!(CLONE, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)?)
    }),
    user("become another user in a namespace (clone3)", "said", |_| clone3(CLONE_NEWUSER)),
    root("make a network of its own", "said", |_| plain(sys!(UNSHARE, CLONE_NEWNET))),
    root("make a tree of mounts of its own", "said", |_| plain(sys!(UNSHARE, CLONE_NEWNS))),
    root("enter the first process's network", "said", |_| enter("/proc/1/ns/net")),
    root("enter the first process's tree of mounts", "said", |_| enter("/proc/1/ns/mnt")),
];

/// Where the victim keeps its token: the address is its own first argument's, as /proc/PID/stat and luck would tell.
fn stack(world: &World) -> Result<usize, i32> {
    match world.number("address") {
        0 => Err(NOTHING),
        address => Ok(address),
    }
}

fn clone3(flags: usize) -> Tried {
    let mut args = [0_usize; 11];
    args[0] = flags;
    args[4] = SIGCHLD;
    child_ended(sys!(CLONE3, args.as_ptr(), 88)?)
}

/// Raises a limit to what its hard one allows, and the hard one by one where that was reached.
fn raise(resource: usize) -> Tried {
    let mut limit = [0_usize; 2];
    sys!(PRLIMIT64, 0, resource, 0, limit.as_mut_ptr())?;
    let wanted = match (resource, limit[1]) {
        (4, usize::MAX) => [usize::MAX; 2],
        (_, usize::MAX) => return Err(NOTHING),
        (_, hard) => [hard.saturating_add(1); 2],
    };
    plain(sys!(SETRLIMIT, resource, wanted.as_ptr()))
}

fn enter(space: &str) -> Tried {
    plain(sys!(SETNS, open(space, 0)?, 0))
}

/// A process with a secret in its environment, its memory and a shared segment. It says where, and stays.
pub fn be_a_victim(token: &str) {
    let secret = format!("{token:<64}").into_bytes();
    if let Ok(segment) = sys!(SHMGET, KEY, 64, 0o1000 | 0o666) {
        if let Ok(page) = sys!(SHMAT, segment, 0, 0) {
            // SAFETY: the segment was attached, and is one page at least.
            unsafe { std::ptr::copy_nonoverlapping(secret.as_ptr(), page as *mut u8, 64) };
        }
    }
    crate::sys::write(1, format!("{}\n", secret.as_ptr() as usize).as_bytes());
    loop {
        crate::sys::sleep(1000);
    }
}
