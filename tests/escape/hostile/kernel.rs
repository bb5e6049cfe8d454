//! The kernel's rarer doors, and the host's settings that belong to all.
//!
//! As root some of these would change the machine that the test runs on: each asks for what is so already.

use crate::sys::{HERE, Tried, c, open, plain, sys};
use crate::{Attempt, World, root, user};

const AT_RECURSIVE_CLONE: usize = 0x8001;

pub const ALL: &[Attempt] = &[
    root("load a program into the kernel (bpf)", "said", |_| {
        // BPF_MAP_CREATE of an array with one entry.
        plain(sys!(BPF, 0, [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0].as_ptr(), 48))
    }),
    root("measure the kernel (perf_event_open)", "said", |_| {
        let mut event = [0_u32; 32];
        (event[0], event[1]) = (1, 128);
        plain(sys!(PERF_EVENT_OPEN, event.as_ptr(), 0, -1_isize, -1_isize, 0))
    }),
    user("keep a key in the kernel", "said", |_| {
        plain(sys!(ADD_KEY, c"user".as_ptr(), c"escaped".as_ptr(), c"x".as_ptr(), 1, -3_isize))
    }),
    user("read the kernel's keys of its session", "said", |_| plain(sys!(KEYCTL, 0, -3_isize, 1))),
    user("make calls past the filter (io_uring)", "said", |_| plain(sys!(IO_URING_SETUP, 1, [0_u32; 30].as_ptr()))),
    root("stop the kernel in the middle (userfaultfd)", "said", |_| plain(sys!(USERFAULTFD, 0))),
    root("replace the kernel (kexec)", "said", |_| plain(sys!(KEXEC_LOAD, 0, 0, 0, 0))),
    root("load a kernel module", "said", |_| plain(sys!(INIT_MODULE, c"".as_ptr(), 0, c"".as_ptr()))),
    root("change what a reboot does", "said", |_| plain(sys!(REBOOT, 0xfee1_dead_usize, 672_274_793, 0, 0))),
    root("take a file as swap", "said", |_| plain(sys!(SWAPON, c"/srv/board".as_ptr(), 0))),
    root("keep account of all processes", "said", |_| {
        sys!(ACCT, c"/srv/board".as_ptr())?;
        plain(sys!(ACCT, 0))
    }),
    root("read the quotas of a file system", "said", |_| plain(sys!(QUOTACTL, 0x80_0001 << 8, 0, 0, 0))),
    root("read the kernel's log", "said", |_| {
        let mut text = [0_u8; 64];
        plain(sys!(SYSLOG, 3, text.as_mut_ptr(), text.len()))
    }),
    root("set the clock's zone", "said", |_| plain(sys!(SETTIMEOFDAY, 0, [0_u32; 2].as_ptr()))),
    root("set the clock's rate", "said", |_| {
        // ADJ_OFFSET_SINGLESHOT by nothing.
        let mut change = [0_usize; 26];
        change[0] = 0x8001;
        plain(sys!(ADJTIMEX, change.as_mut_ptr()))
    }),
    root("rename the host", "hostname", |w| {
        plain(sys!(SETHOSTNAME, c(w.token()).as_ptr(), w.token().len()))
    }),
    root("mount a file system", "said", |_| {
        plain(sys!(MOUNT, c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, 0))
    }),
    root("mount a file system (fsopen)", "said", |_| plain(sys!(FSOPEN, c"tmpfs".as_ptr(), 0))),
    root("copy a tree of mounts (open_tree)", "said", |_| plain(sys!(OPEN_TREE, HERE, c"/".as_ptr(), AT_RECURSIVE_CLONE))),
    root("mount the host's root below itself", "said", |_| {
        plain(sys!(MOUNT, c"/".as_ptr(), c"/mnt".as_ptr(), 0, 0x1000, 0))
    }),
    root("change its root folder", "said", |_| plain(sys!(CHROOT, c"/srv".as_ptr()))),
    root("change the root of the mounts", "said", |_| plain(sys!(PIVOT_ROOT, c"/".as_ptr(), c"/mnt".as_ptr()))),
    root("reach the processor's ports", "said", |_| plain(sys!(IOPERM, 0x80, 1, 1))),
    user("open a terminal", "said", |_| open("/dev/ptmx", 0o2 | 0o400).map(|_| String::new())),
    root("type into a terminal", "said", |_| {
        let terminal = open("/dev/ptmx", 0o2 | 0o400)?;
        sys!(IOCTL, terminal, 0x4004_5431, [0_u32].as_ptr())?;
        // TIOCGPTPEER, TIOCSTI.
        let peer = sys!(IOCTL, terminal, 0x5441, 0o2 | 0o400)?;
        plain(sys!(IOCTL, peer, 0x5412, c"x".as_ptr()))
    }),
    user("keep a message queue for others", "said", queue),
];

fn queue(world: &World) -> Tried {
    plain(sys!(MQ_OPEN, c(world.token()).as_ptr(), 0o2 | 0o100, 0o666, 0))
}
