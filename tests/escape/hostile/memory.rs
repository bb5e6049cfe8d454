//! Memory: code that was not there when the program started.

use crate::sys::{HERE, NOTHING, Tried, c, open, plain, sys, write};
use crate::{Attempt, FOLDER, user};
use std::arch::asm;

const PAGE: usize = 4096;
const READ_WRITE: usize = 3;
const READ_EXECUTE: usize = 5;
const ALL_THREE: usize = 7;
const PRIVATE: usize = 2;
const ANONYMOUS: usize = 0x20;
const READ_IMPLIES_EXEC: usize = 0x0040_0000;
const SHM_EXEC: usize = 0o100000;

/// mov eax, 77; ret
const CODE: [u8; 6] = [0xb8, 77, 0, 0, 0, 0xc3];

pub const ALL: &[Attempt] = &[
    user("run code in memory that is writable and executable", "said", |_| run(map(ALL_THREE)?)),
    user("make memory that it wrote executable", "said", |_| {
        let page = map(READ_WRITE)?;
        put(page);
        sys!(MPROTECT, page, PAGE, READ_EXECUTE)?;
        enter(page)
    }),
    user("make memory that it wrote executable, with a protection key", "said", |_| {
        let page = map(READ_WRITE)?;
        put(page);
        sys!(PKEY_MPROTECT, page, PAGE, READ_EXECUTE, -1_isize)?;
        enter(page)
    }),
    user("make its own code writable", "said", |_| plain(sys!(MPROTECT, own_code(), PAGE, ALL_THREE))),
    user("write over its own code through /proc/self/mem", "said", |_| {
        let memory = open("/proc/self/mem", 2)?;
        let page = own_code();
        let byte = [0_u8; 1];
        // pread and pwrite of what is there already.
        crate::sys::call(17, &[memory, byte.as_ptr() as usize, 1, page])?;
        plain(crate::sys::call(18, &[memory, byte.as_ptr() as usize, 1, page]))
    }),
    user("map a file that it wrote as code", "said", |_| {
        let path = format!("{FOLDER}/code");
        let file = sys!(OPENAT, HERE, c(&path).as_ptr(), 0o2 | 0o100 | 0o1000, 0o755)?;
        write(file, &page());
        enter(sys!(MMAP, 0, PAGE, READ_EXECUTE, PRIVATE, file, 0)?)
    }),
    user("map a file of the system as code", "said", |_| {
        let file = open("/bin/sh", 0)?;
        plain(sys!(MMAP, 0, PAGE, READ_EXECUTE, PRIVATE, file, 0))
    }),
    user("map a memory file (memfd) as code", "said", |_| {
        let file = sys!(MEMFD_CREATE, c"x".as_ptr(), 0)?;
        write(file, &page());
        enter(sys!(MMAP, 0, PAGE, READ_EXECUTE, PRIVATE, file, 0)?)
    }),
    user("attach shared memory as code", "said", |_| {
        let segment = sys!(SHMGET, 0, PAGE, 0o1700)?;
        plain(sys!(SHMAT, segment, 0, SHM_EXEC))
    }),
    user("have everything readable be executable (personality)", "said", |_| {
        sys!(PERSONALITY, READ_IMPLIES_EXEC)?;
        run(map(READ_WRITE)?)
    }),
    user("make a call of a 32-bit program", "said", |_| {
        let answer: isize;
        // SAFETY: getpid(2) by the door of i386; rbx, which it reads no argument from, stays.
        unsafe { asm!("int 0x80", inlateout("rax") 20_isize => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
        if answer > 0 { Ok(String::new()) } else { Err(-answer as i32) }
    }),
    user("make a call of an x32 program", "said", |_| plain(crate::sys::call(0x4000_0000 | 39, &[]))),
];

fn map(rights: usize) -> Result<usize, i32> {
    sys!(MMAP, 0, PAGE, rights, PRIVATE | ANONYMOUS, -1_isize, 0)
}

/// A page that begins with the code.
fn page() -> Vec<u8> {
    let mut page = CODE.to_vec();
    page.resize(PAGE, 0x90);
    page
}

fn put(page: usize) {
    // SAFETY: a page that was just mapped to be written.
    unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), page as *mut u8, CODE.len()) };
}

fn run(page: usize) -> Tried {
    put(page);
    enter(page)
}

fn enter(page: usize) -> Tried {
    // SAFETY: the code is there and keeps to C's calling convention; where it may not run, the process ends, which is
    // an outcome of the attempt.
    let code: extern "C" fn() -> i32 = unsafe { std::mem::transmute(page) };
    if code() == 77 { Ok(String::new()) } else { Err(NOTHING) }
}

/// The page of this program's code.
fn own_code() -> usize {
    enter as *const () as usize & !(PAGE - 1)
}
