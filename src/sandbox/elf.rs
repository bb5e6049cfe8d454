//! What kind of program a file is (elf(5)): static, or one that an interpreter loads.

use crate::error::{Code, Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const NO_PROGRAM: Code = Code::usage("E-SANDBOX-010");

/// `ELFCLASS64`, `ELFDATA2LSB`: every machine that lsm is for.
const HEAD: &[u8] = b"\x7fELF\x02\x01";
const HEADER_SIZE: usize = 64;
/// The size of an entry of the program header table.
const ENTRY_SIZE: usize = 56;
/// `PT_INTERP`: the entry that names the interpreter.
const INTERPRETER: u32 = 3;
/// `PATH_MAX` of linux/limits.h.
const LONGEST_PATH: u64 = 4096;

/// The interpreter of a dynamic program; `None` for a static one. `path` is for the error alone.
///
/// # Errors
/// Where the file is no program of a 64-bit machine.
pub fn interpreter(file: &File, path: &Path) -> Result<Option<PathBuf>> {
    let broken = || Error::new(NO_PROGRAM, format!("{} is no ELF program", path.display()));
    let mut header = [0; HEADER_SIZE];
    let read = file.read_at(&mut header, 0).map_err(|e| broken().because(e))?;
    if header.starts_with(b"#!") {
        return Err(Error::new(NO_PROGRAM, format!("{} is a script", path.display()))
            .hint("its interpreter would have to be let in too, which can do anything; name a program"));
    }
    if read < HEADER_SIZE || !header.starts_with(HEAD) {
        return Err(broken());
    }
    let (table, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(size) != ENTRY_SIZE {
        return Err(broken());
    }
    for number in 0..u64::from(count) {
        let mut entry = [0; ENTRY_SIZE];
        let at = table.checked_add(number * ENTRY_SIZE as u64).ok_or_else(broken)?;
        file.read_exact_at(&mut entry, at).map_err(|e| broken().because(e))?;
        if u32_at(&entry, 0) == INTERPRETER {
            let (at, size) = (u64_at(&entry, 8), u64_at(&entry, 32));
            if !(2..=LONGEST_PATH).contains(&size) {
                return Err(broken());
            }
            let mut name = vec![0; size as usize];
            file.read_exact_at(&mut name, at).map_err(|e| broken().because(e))?;
            name.truncate(name.iter().position(|byte| *byte == 0).ok_or_else(broken)?);
            return Ok(Some(OsString::from_vec(name).into()));
        }
    }
    Ok(None)
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from[at..at + N].try_into().expect("inside a header whose size is known")
}

fn u16_at(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(from, at))
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(from, at))
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(from, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<Option<PathBuf>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, bytes).unwrap();
        interpreter(&File::open(&path).unwrap(), &path)
    }

    #[test]
    fn a_dynamic_program_names_its_interpreter() {
        let path = Path::new("/bin/sh");
        let found = interpreter(&File::open(path).unwrap(), path).unwrap().unwrap();
        assert!(found.is_absolute() && found.is_file(), "{}", found.display());
    }

    #[test]
    fn a_program_without_that_entry_is_static() {
        let mut program = [HEAD, &[0; HEADER_SIZE + ENTRY_SIZE - HEAD.len()]].concat();
        (program[32], program[54], program[56]) = (HEADER_SIZE as u8, ENTRY_SIZE as u8, 1);
        assert_eq!(of(&program).unwrap(), None);
        program[HEADER_SIZE] = INTERPRETER as u8;
        assert_eq!(of(&program).unwrap_err().code(), NO_PROGRAM, "a name of no length");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x01", &[0; 200], &[HEAD, &[255; 300]].concat()] {
            assert_eq!(of(bytes).unwrap_err().code(), NO_PROGRAM);
        }
        assert!(of(b"#!/bin/sh\n").unwrap_err().cause().ends_with("is a script"));
    }
}
