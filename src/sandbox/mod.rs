//! Fences around a program that lsm starts, and around parts of lsm itself.

pub mod capabilities;
pub mod landlock;
pub mod memory;
pub mod seccomp;
