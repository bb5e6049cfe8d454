//! A person at a terminal: what lsm shows there, and what is typed.

use super::Stage;
use crate::lab::host::{Host, LSM_INSIDE};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

/// The other end of a terminal that a program runs on.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    child: Child,
    shown: String,
    /// Up to where what was shown has been looked at.
    seen: usize,
}

impl Terminal {
    /// Starts lsm with these arguments on a terminal of its own.
    #[track_caller]
    pub fn start(stage: &Stage, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let line = std::iter::once(OsString::from(LSM_INSIDE));
        Self::open(&stage.host, line.chain(arguments.into_iter().map(|argument| argument.as_ref().to_owned())))
    }

    /// Starts a program inside on a terminal of its own.
    #[track_caller]
    pub fn open(host: &Host, line: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let pair = openpty(None, None).expect("a terminal");
        // What goes on running after the program must not hold the terminal open.
        for end in [pair.master.as_fd(), pair.slave.as_fd()] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        }
        let mut command = host.command("setsid");
        command.args(["--ctty", "--wait"]).args(line).env("TERM", "xterm");
        let end = || Stdio::from(pair.slave.try_clone().expect("a descriptor is left"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        Self { master: pair.master.into(), slave: pair.slave, child, shown: String::new(), seen: 0 }
    }

    /// Reads until `text` is shown, and gives all since the last time.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(found) = self.shown[self.seen..].find(text) {
                let end = self.seen + found + text.len();
                let new = self.shown[self.seen..end].to_owned();
                self.seen = end;
                return new;
            }
            let mut bytes = [0; 4096];
            assert!(self.child.try_wait().expect("a child").is_none(), "ended before {text:?}: {}", self.shown);
            let got = self.master.read(&mut bytes).expect("the terminal is open");
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..got]));
        }
    }

    /// Reads until one of `texts` is shown, and gives all since the last time; nothing where the program ended before.
    pub fn expect_one(&mut self, texts: &[&str]) -> Option<String> {
        loop {
            let new = &self.shown[self.seen..];
            if let Some(end) = texts.iter().filter_map(|text| new.find(text).map(|at| at + text.len())).min() {
                let new = new[..end].to_owned();
                self.seen += end;
                return Some(new);
            }
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, 100_u8).expect("a terminal") > 0 {
                let mut bytes = [0; 4096];
                let got = self.master.read(&mut bytes).expect("the terminal is open");
                self.shown.push_str(&String::from_utf8_lossy(&bytes[..got]));
            } else if self.child.try_wait().expect("a child").is_some() {
                return None;
            }
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.master.write_all(format!("{line}\n").as_bytes()).expect("the terminal is open");
    }

    /// Types Ctrl-C.
    pub fn interrupt(&mut self) {
        self.master.write_all(b"\x03").expect("the terminal is open");
    }

    /// True where what is typed is shown.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.slave).expect("a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    /// Goes on to the end: the exit code, and all that was shown.
    pub fn end(mut self) -> (i32, String) {
        drop(self.slave);
        let mut rest = Vec::new();
        // The last end of a terminal closes with an error, not with nothing.
        let _ = self.master.read_to_end(&mut rest);
        let code = self.child.wait().expect("a child").code().expect("an exit code");
        (code, self.shown + &String::from_utf8_lossy(&rest))
    }
}
