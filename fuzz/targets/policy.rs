//! Fuzzes `cases::policy`.
#![no_main]

#[path = "../cases.rs"]
#[allow(dead_code, reason = "each target runs one case")]
mod cases;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cases::policy(data));
