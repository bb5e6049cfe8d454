//! Programs: a shell, the launcher, its own code in another coat.

use crate::sys::{HERE, Tried, append, c, open, plain, read, sys, write};
use crate::{Attempt, FOLDER, POLICY, RESULT, RUN, World, root, user};
use std::ffi::CString;

const SHELL: &str = "/bin/sh";
const O_PATH: usize = 0o10000000;
const EMPTY_PATH: usize = 0x1000;

pub const ALL: &[Attempt] = &[
    user("start a shell", "said", |w| start(SHELL, &shell(w))),
    user("start a shell through its descriptor", "said", |w| start_open(open(SHELL, O_PATH)?, &shell(w))),
    user("start a shell by the loader", "said", |w| {
        start("/lib64/ld-linux-x86-64.so.2", &[&["ld".into(), SHELL.into()], &shell(w)[1..]].concat())
    }),
    user("start a shell in a child", "said", |w| {
        let child = sys!(FORK)?;
        if child == 0 {
            _ = start(SHELL, &shell(w));
            crate::sys::exit(1);
        }
        crate::sys::child_ended(child)?;
        Err(crate::sys::NOTHING)
    }),
    user("start the launcher again", "said", |w| {
        start(w.get("lsm"), &launcher(w))
    }),
    user("start the launcher again through its descriptor", "said", |w| {
        start_open(open(w.get("lsm"), O_PATH)?, &launcher(w))
    }),
    user("start a setuid program", "file /root/escaped", |w| {
        let args = ["setuid", "ran", w.token(), "/root/escaped"].map(String::from);
        start(w.get("setuid"), &args)
    }),
    user("start a program from its own folder", "said", |w| made(w, FOLDER, start_path)),
    user("start a program from its own folder through its descriptor", "said", |w| made(w, FOLDER, start_through)),
    user("start a program from its socket's folder", "said", |w| made(w, RUN, start_path)),
    user("start a program from /tmp", "said", |w| made(w, "/tmp", start_path)),
    user("start a program from /tmp through its descriptor", "said", |w| made(w, "/tmp", start_through)),
    user("start a program from /dev/shm", "said", |w| made(w, "/dev/shm", start_path)),
    user("start a program in memory (memfd)", "said", |w| {
        let file = sys!(MEMFD_CREATE, c"x".as_ptr(), 0)?;
        write(file, &elf(&w.line(), result()?));
        start_open(file, &["x".into()])
    }),
    user("start a script by its first line", "said", |w| {
        let path = format!("{FOLDER}/script");
        append(&path, &format!("#!/bin/sh\necho 'done {}' >>{RESULT}\n", w.name))?;
        _ = sys!(CHMOD, c(&path).as_ptr(), 0o755);
        start(&path, &["script".into()])
    }),
    user("start its own program by its path", "said", |w| {
        start(w.get("program"), &["lnd", "ran", w.name, RESULT].map(String::from))
    }),
    root("become root", "said", |_| plain(sys!(SETUID, 0))),
];

fn shell(world: &World) -> Vec<String> {
    vec!["sh".into(), "-c".into(), format!("echo 'done {}' >>{RESULT}", world.name)]
}

/// The launcher's arguments, for it to start this program once more.
fn launcher(world: &World) -> Vec<String> {
    let how = ["lsm", "launch", "--policy", POLICY, "--", world.get("program")];
    [&how[..], &["ran", world.name, RESULT]].concat().into_iter().map(String::from).collect()
}

/// A pointer to each text, and the end.
fn pointers(texts: &[CString]) -> Vec<*const i8> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn start(path: &str, args: &[String]) -> Tried {
    let args: Vec<CString> = args.iter().map(|arg| c(arg)).collect();
    plain(sys!(EXECVE, c(path).as_ptr(), pointers(&args).as_ptr(), pointers(&[]).as_ptr()))
}

/// The call that the launcher itself ends with.
fn start_open(file: usize, args: &[String]) -> Tried {
    let args: Vec<CString> = args.iter().map(|arg| c(arg)).collect();
    plain(sys!(EXECVEAT, file, c"".as_ptr(), pointers(&args).as_ptr(), pointers(&[]).as_ptr(), EMPTY_PATH))
}

fn start_path(path: &str) -> Tried {
    start(path, &["x".into()])
}

fn start_through(path: &str) -> Tried {
    start_open(open(path, O_PATH)?, &["x".into()])
}

/// Makes a program in `folder` and starts it.
fn made(world: &World, folder: &str, start: fn(&str) -> Tried) -> Tried {
    let path = format!("{folder}/{}", world.token());
    let program = elf(&world.line(), result()?);
    let file = sys!(OPENAT, HERE, c(&path).as_ptr(), 0o1 | 0o100 | 0o1000, 0o755)?;
    write(file, &program);
    _ = sys!(CLOSE, file);
    // Whatever the umask took; refused under the launcher, which has to keep the program from starting all the same.
    _ = sys!(CHMOD, c(&path).as_ptr(), 0o755);
    let tried = start(&path);
    _ = read(&path);
    tried
}

/// The result, open for whoever is started next.
fn result() -> Result<usize, i32> {
    open(RESULT, 0o1 | 0o2000)
}

/// A whole program: writes `line` to the descriptor `to` and ends.
fn elf(line: &str, to: usize) -> Vec<u8> {
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf]; // mov eax, 1 (write); mov edi, to
    code.extend((to as u32).to_le_bytes());
    code.extend([0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba]); // lea rsi, [rip + 16]; mov edx, length
    code.extend((line.len() as u32).to_le_bytes());
    code.extend([0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // syscall; mov eax, 60 (exit); xor edi, edi; syscall
    code.extend(line.as_bytes());
    let base = 0x40_0000_u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend((base + 120).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend(0_u64.to_le_bytes());
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, 120 + code.len() as u64, 120 + code.len() as u64, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}
