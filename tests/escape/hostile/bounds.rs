//! Taking all there is: processes, threads, memory, descriptors, the disk.

use crate::sys::{append, c, open, sleep, sys};
use crate::{FOLDER, RESULT};

const THREAD: usize = 0x0005_0f00; // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM

/// Takes as much as is given, says how much that was, and stays.
pub fn exhaust(what: &str) {
    // On a full disk the result's first block has to be there already.
    _ = append(RESULT, &format!("begin {what}\n"));
    let mut count = 0_usize;
    let spare = sys!(MMAP, 0, 16 << 20, 3, 0x22, -1_isize, 0).unwrap_or(0);
    let errno = loop {
        let more = match what {
            "processes" => sys!(FORK).map(|child| if child == 0 { rest() }),
            "threads" => thread(),
            "memory" => memory(),
            "descriptors" => open(FOLDER, 0).map(drop),
            "disk" => disk(),
            _ => Err(0),
        };
        match more {
            Ok(()) => count += 1,
            Err(errno) => break errno,
        }
        // Enough to see that nothing holds it; of memory no more than the machine of the test can spare.
        if count == if what == "memory" { 200 } else { 100_000 } {
            break 0;
        }
    };
    // Where memory or descriptors are what ran out, some has to be given back for this to be said.
    _ = sys!(MUNMAP, spare, 16 << 20);
    _ = sys!(CLOSE, 3);
    _ = append(RESULT, &format!("took {count}, then {errno}\nend\n"));
    rest();
}

fn rest() {
    loop {
        sleep(1000);
    }
}

/// A thread that only sleeps: made by hand, on a stack of its own.
fn thread() -> Result<(), i32> {
    let stack = sys!(MMAP, 0, 4096, 3, 0x22, -1_isize, 0)? + 4096;
    let mut answer = crate::nr::CLONE as isize;
    // SAFETY: the new thread runs nothing but the loop that follows, which touches its own stack.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 3f",
            // nanosleep, for as long as there is.
            "push 0", "push 999999999", "2: mov rdi, rsp", "xor esi, esi", "mov eax, 35", "syscall", "jmp 2b", "3:",
            inlateout("rax") answer, in("rdi") THREAD, in("rsi") stack, in("rdx") 0, in("r10") 0, in("r8") 0,
            lateout("rcx") _, lateout("r11") _);
    }
    if answer < 0 { Err(-answer as i32) } else { Ok(()) }
}

/// 16 MiB more, every page of it there (MAP_POPULATE, mmap(2)).
fn memory() -> Result<(), i32> {
    sys!(MMAP, 0, 16 << 20, 3, 0x8022, -1_isize, 0).map(drop)
}

/// 64 KiB more in a file of its own.
fn disk() -> Result<(), i32> {
    let file = sys!(OPENAT, crate::sys::HERE, c(&format!("{FOLDER}/full")).as_ptr(), 0o1 | 0o100 | 0o2000, 0o600)?;
    // Down to the last byte.
    let bytes = [1_u8; 1 << 16];
    let mut written = 0;
    while let Ok(more) = sys!(WRITE, file, bytes.as_ptr(), bytes.len() - written) {
        written += more;
        if written == bytes.len() {
            break;
        }
    }
    let written = written == bytes.len();
    _ = sys!(CLOSE, file);
    if written { Ok(()) } else { Err(28) }
}
