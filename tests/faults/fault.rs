//! The faults: lsm killed at some place of a step, a call that fails, a program that is missing or hangs.

use super::cut::{self, Moment};
use crate::lab::host::Host;
use crate::lab::process::Done;
use crate::lab::trace::Fate;
use nix::errno::Errno;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Where in a step lsm is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The journal has the intent, nothing was done.
    Before,
    /// Something was done: at this call, from 1, of those that change something, or after the last.
    During(u32),
    /// All was done, and the journal does not say so.
    After,
    /// The journal says so, and lsm does not go on.
    Told,
}

/// What befalls one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// lsm is killed.
    Kill(Place),
    /// The first call that changes something fails.
    Error(Errno),
    /// The program that the step needs is not there.
    Missing,
    /// It never ends.
    Hanging,
}

impl Place {
    /// True where this moment is it. A step that has no such moment has its end.
    pub fn is(self, moment: &Moment) -> bool {
        match (self, moment) {
            (Self::Before, Moment::Written(line)) => line.event == "intent" || line.event == "done",
            (Self::During(at), Moment::Change(n)) => *n == at,
            (Self::During(_) | Self::After, Moment::Coming(line)) => line.event == "done",
            (_, Moment::Written(line)) => line.event == "done",
            _ => false,
        }
    }
}

impl Fault {
    /// True where it can befall the step of this name, in which so many calls change something.
    pub fn befalls(self, step: &str, changes: u32) -> bool {
        match self {
            Self::Kill(_) => true,
            Self::Error(_) => changes > 0,
            Self::Missing | Self::Hanging => program_of(step).is_some(),
        }
    }

    /// Runs lsm with these arguments, and lets this befall its step number `nth`, from 0. `at_kill` is called where lsm is
    /// about to be killed.
    #[track_caller]
    pub fn run(self, host: &Host, arguments: &[String], nth: usize, at_kill: impl FnMut() + Send) -> Done {
        match self {
            Self::Kill(place) => kill(host, arguments, nth, place, at_kill),
            Self::Error(errno) => fail(host, arguments, nth, errno),
            Self::Missing | Self::Hanging => disable(host, arguments, nth, self == Self::Hanging),
        }
    }
}

fn kill(host: &Host, arguments: &[String], nth: usize, place: Place, mut at_kill: impl FnMut() + Send) -> Done {
    let mut begun = 0;
    cut::run(host, arguments, |step, moment| {
        begun += usize::from(is_intent(moment));
        if begun == nth + 1 && !step.is_empty() && place.is(moment) {
            at_kill();
            return Fate::Kill;
        }
        Fate::Go
    })
}

fn fail(host: &Host, arguments: &[String], nth: usize, errno: Errno) -> Done {
    let (mut begun, mut failed) = (0, false);
    cut::run(host, arguments, |step, moment| {
        begun += usize::from(is_intent(moment));
        let is_it = begun == nth + 1 && !step.is_empty() && matches!(moment, Moment::Change(_));
        if is_it && !std::mem::replace(&mut failed, true) { Fate::Fail(errno) } else { Fate::Go }
    })
}

fn disable(host: &Host, arguments: &[String], nth: usize, hangs: bool) -> Done {
    let (mut begun, mut disabled) = (0, None);
    cut::run(host, arguments, |step, moment| {
        begun += usize::from(is_intent(moment));
        if begun == nth + 1 && is_intent(moment) {
            let program = program_of(step).expect("a step that needs a program");
            disabled = Some(Disabled::new(host, program, hangs));
        }
        // Nobody waits for five minutes: the kernel says that they have passed.
        if hangs && disabled.is_some() && matches!(moment, Moment::Wait) { Fate::TimeOut } else { Fate::Go }
    })
}

fn is_intent(moment: &Moment) -> bool {
    matches!(moment, Moment::Written(line) if line.event == "intent")
}

/// The program that a step of this name needs most.
fn program_of(step: &str) -> Option<&'static str> {
    let kind = step.split(' ').next().unwrap_or_default();
    let about = step.strip_prefix("restore ").unwrap_or_default();
    Some(match kind {
        "users" => "/usr/bin/systemd-sysusers",
        "folders" => "/usr/bin/systemd-tmpfiles",
        "password" | "certificate" => "/usr/bin/systemd-creds",
        "firewall" => "/usr/sbin/nft",
        "reload-units" | "service" | "wallet" | "retire" | "snapshot" | "change-password" | "renew-root-keys" => {
            "/usr/bin/systemctl"
        }
        "restore" if about.ends_with(".service") && !about.starts_with('/') => "/usr/bin/systemctl",
        _ => return None,
    })
}

/// A program that is put back when this is dropped.
struct Disabled<'a> {
    host: &'a Host,
    program: &'static str,
}

impl<'a> Disabled<'a> {
    fn new(host: &'a Host, program: &'static str, hangs: bool) -> Self {
        let path = host.path(program);
        fs::rename(&path, path.with_extension("away")).expect("the program can be moved away");
        if hangs {
            fs::write(&path, "#!/bin/sh\nexec sleep 1000000\n").expect("another takes its place");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
        }
        Self { host, program }
    }
}

impl Drop for Disabled<'_> {
    fn drop(&mut self) {
        let path = self.host.path(self.program);
        fs::rename(path.with_extension("away"), path).expect("the program can be put back");
    }
}
