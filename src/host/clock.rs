//! The system's clock, as the kernel keeps it.

use nix::libc;

/// True where something on this machine keeps the clock right, as far as the kernel was told (adjtimex(2), `STA_UNSYNC`).
///
/// # Errors
/// Where the kernel does not tell.
pub fn is_synchronised() -> std::io::Result<bool> {
    // SAFETY: all zeros are a valid timex, a struct of numbers.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex(2) writes into the struct that it is given; with `modes` zero it changes nothing.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    if answer == -1 { Err(std::io::Error::last_os_error()) } else { Ok(state.status & libc::STA_UNSYNC == 0) }
}
