//! Fences around a program that lsm starts.

pub mod memory;
pub mod seccomp;
