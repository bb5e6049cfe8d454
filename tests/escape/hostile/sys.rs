//! System calls as the kernel takes them: no C library stands between an attempt and what is to refuse it.

use std::arch::asm;
use std::ffi::CString;

/// What an attempt comes to: what it learned, or the kernel's error number.
pub type Tried = Result<String, i32>;

/// Not an error of the kernel's: the attempt went through and brought nothing.
pub const NOTHING: i32 = 1000;

/// The numbers of x86_64 (asm/unistd_64.h).
#[rustfmt::skip]
pub mod nr {
    macro_rules! numbers { ($($name:ident = $number:literal;)*) => { $(pub const $name: usize = $number;)* } }
    numbers! {
        READ = 0; WRITE = 1; CLOSE = 3; MMAP = 9; MPROTECT = 10; MUNMAP = 11; IOCTL = 16; SHMGET = 29; SHMAT = 30;
        NANOSLEEP = 35; GETPID = 39; SOCKET = 41; CONNECT = 42; SENDTO = 44; SENDMSG = 46; BIND = 49;
        LISTEN = 50; GETSOCKNAME = 51; SOCKETPAIR = 53; SETSOCKOPT = 54; CLONE = 56; FORK = 57; EXECVE = 59; WAIT4 = 61;
        KILL = 62; LINK = 86; SYMLINK = 88; CHMOD = 90; PTRACE = 101; SYSLOG = 103; SETUID = 105; PERSONALITY = 135;
        SETPRIORITY = 141; SCHED_SETSCHEDULER = 144; MLOCK = 149; PIVOT_ROOT = 155; ADJTIMEX = 159;
        SETRLIMIT = 160; CHROOT = 161; ACCT = 163; SETTIMEOFDAY = 164; MOUNT = 165; SWAPON = 167; REBOOT = 169;
        SETHOSTNAME = 170; IOPERM = 173; INIT_MODULE = 175; QUOTACTL = 179; SETXATTR = 188; SCHED_SETAFFINITY = 203;
        MQ_OPEN = 240; KEXEC_LOAD = 246; ADD_KEY = 248; ACCEPT4 = 288; KEYCTL = 250; INOTIFY_ADD_WATCH = 254; OPENAT = 257;
        MKNODAT = 259; UNSHARE = 272; INOTIFY_INIT1 = 294; PERF_EVENT_OPEN = 298; FANOTIFY_INIT = 300;
        PRLIMIT64 = 302; NAME_TO_HANDLE_AT = 303; OPEN_BY_HANDLE_AT = 304; SETNS = 308; PROCESS_VM_READV = 310;
        PROCESS_VM_WRITEV = 311; KCMP = 312; MEMFD_CREATE = 319; BPF = 321; EXECVEAT = 322;
        USERFAULTFD = 323; PKEY_MPROTECT = 329; PIDFD_SEND_SIGNAL = 424; IO_URING_SETUP = 425; OPEN_TREE = 428;
        FSOPEN = 430; PIDFD_OPEN = 434; CLONE3 = 435; PIDFD_GETFD = 438; EXIT_GROUP = 231; GETDENTS64 = 217;
    }
}

/// Makes a system call with up to six arguments.
pub fn call(number: usize, args: &[usize]) -> Result<usize, i32> {
    let arg = |i: usize| args.get(i).copied().unwrap_or(0);
    let mut answer = number as isize;
    // SAFETY: the kernel checks what it is given; what it writes to is the caller's.
    unsafe {
        asm!("syscall", inlateout("rax") answer, in("rdi") arg(0), in("rsi") arg(1), in("rdx") arg(2), in("r10") arg(3),
            in("r8") arg(4), in("r9") arg(5), lateout("rcx") _, lateout("r11") _);
    }
    if (-4095..0).contains(&answer) { Err(-answer as i32) } else { Ok(answer as usize) }
}

macro_rules! sys {
    ($number:ident $(, $arg:expr)* $(,)?) => { crate::sys::call(crate::nr::$number, &[$($arg as usize),*]) };
}
pub(crate) use sys;

/// `AT_FDCWD`.
pub const HERE: isize = -100;

/// A path or text as the kernel takes it.
pub fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Opens a file with these flags (fcntl.h).
pub fn open(path: &str, flags: usize) -> Result<usize, i32> {
    sys!(OPENAT, HERE, c(path).as_ptr(), flags, 0o644)
}

/// Reads at most 64 KiB of a file.
pub fn read(path: &str) -> Result<Vec<u8>, i32> {
    let file = open(path, 0)?;
    let text = read_from(file);
    _ = sys!(CLOSE, file);
    text
}

/// Reads at most 64 KiB of what is open.
pub fn read_from(file: usize) -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0; 1 << 16];
    let mut len = 0;
    while len < bytes.len() {
        match sys!(READ, file, bytes[len..].as_mut_ptr(), bytes.len() - len)? {
            0 => break,
            more => len += more,
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes to what is open.
pub fn write(file: usize, bytes: &[u8]) -> bool {
    sys!(WRITE, file, bytes.as_ptr(), bytes.len()) == Ok(bytes.len())
}

/// Appends a text to a file, which is made where it is not there.
pub fn append(path: &str, text: &str) -> Result<(), i32> {
    let file = open(path, 0o1 | 0o100 | 0o2000)?;
    let written = write(file, text.as_bytes());
    _ = sys!(CLOSE, file);
    if written { Ok(()) } else { Err(NOTHING) }
}

/// Sleeps.
pub fn sleep(milliseconds: usize) {
    let time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    _ = sys!(NANOSLEEP, time.as_ptr(), 0);
}

/// Ends the process.
pub fn exit(code: usize) -> ! {
    loop {
        _ = sys!(EXIT_GROUP, code);
    }
}

/// Runs `work` in a child and waits for its end, however that comes.
pub fn apart(work: impl FnOnce() -> bool) {
    match sys!(FORK) {
        Ok(0) => {
            work();
            exit(0)
        }
        Ok(child) => _ = sys!(WAIT4, child, 0, 0, 0),
        Err(_) => {}
    }
}

/// A parent's part after a fork: waits for the child.
pub fn child_ended(child: usize) -> Tried {
    if child == 0 {
        exit(0);
    }
    sys!(WAIT4, child, 0, 0, 0)?;
    Ok(String::new())
}

/// A call that brings nothing but its success.
pub fn plain(answer: Result<usize, i32>) -> Tried {
    answer.map(|_| String::new())
}
