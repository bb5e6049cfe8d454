//! Fences around a program that lsm starts.

pub mod seccomp;
