//! The terminal that results are shown on.

use nix::libc;
use std::io::IsTerminal;

/// How many columns the terminal has that standard output is; nothing where it is none, or does not say.
pub fn columns() -> Option<usize> {
    let output = std::io::stdout();
    if !output.is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ (ioctl_tty(2)) writes one winsize, which `size` is and outlives the call.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}
