//! Fences around a program that lsm starts, around parts of lsm itself, and around what lsm becomes.

pub mod calls;
pub mod capabilities;
pub mod elf;
pub mod landlock;
pub mod launch;
pub mod limits;
pub mod memory;
pub mod policy;
pub mod seccomp;
