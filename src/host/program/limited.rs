//! Waiting for a program and for all that it prints, for so long and no longer.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read, Result};
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// How often it is looked at whether a program has ended that prints nothing any more.
const LOOK: Duration = Duration::from_millis(5);

/// What a program left: its end, its standard output and its standard error, of those that are piped.
pub(super) type Left = (ExitStatus, Vec<u8>, Vec<u8>);

/// Waits until `child` has ended. One that takes longer than `limit` is killed, and the error's kind is
/// [`ErrorKind::TimedOut`].
///
/// # Errors
/// That, and where it cannot be waited for.
pub(super) fn wait(mut child: Child, limit: Duration) -> Result<Left> {
    let waited = collect(&mut child, Instant::now() + limit);
    if waited.is_err() {
        // One that ended just now is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
    waited
}

fn collect(child: &mut Child, end: Instant) -> Result<Left> {
    let mut out = Stream::of(child.stdout.take())?;
    let mut err = Stream::of(child.stderr.take())?;
    while out.is_open() || err.is_open() {
        let mut waiting: Vec<PollFd<'_>> = [out.waiting(), err.waiting()].into_iter().flatten().collect();
        let left = end.saturating_duration_since(Instant::now());
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if left.is_zero() || poll(&mut waiting, patience)? == 0 {
            return Err(ErrorKind::TimedOut.into());
        }
        out.read()?;
        err.read()?;
    }
    loop {
        match child.try_wait()? {
            Some(status) => return Ok((status, out.bytes, err.bytes)),
            None if Instant::now() >= end => return Err(ErrorKind::TimedOut.into()),
            None => std::thread::sleep(LOOK),
        }
    }
}

/// A pipe that is read when there is something in it.
struct Stream<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + AsFd> Stream<P> {
    fn of(pipe: Option<P>) -> Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        // Room for a secret, which is then in one place alone.
        Ok(Self { pipe, bytes: Vec::with_capacity(1 << 12) })
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    fn waiting(&self) -> Option<PollFd<'_>> {
        self.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    fn read(&mut self) -> Result<()> {
        let (Some(pipe), mut some) = (&mut self.pipe, [0; 1 << 14]) else { return Ok(()) };
        match pipe.read(&mut some) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.bytes.extend_from_slice(&some[..length]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
        // What a program prints may be a secret.
        some.zeroize();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn start(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn all_that_a_program_prints_arrives_before_its_end() {
        let script = "head -c 300000 /dev/zero; echo e >&2; sleep 0.1; echo o; exit 3";
        let (status, out, err) = wait(start(script), Duration::from_secs(60)).unwrap();
        assert_eq!((status.code(), out.len(), err), (Some(3), 300_002, b"e\n".to_vec()));
    }

    #[test]
    fn one_that_does_not_end_is_killed_whether_it_prints_or_not() {
        for script in ["exec sleep 600", "exec sleep 600 >&- 2>&-", "exec yes"] {
            let child = start(script);
            let folder = std::path::PathBuf::from(format!("/proc/{}", child.id()));
            let waited = wait(child, Duration::from_millis(300));
            assert_eq!(waited.unwrap_err().kind(), ErrorKind::TimedOut, "{script}");
            assert!(!folder.exists(), "{script}");
        }
    }
}
