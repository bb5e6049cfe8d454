//! The lnd of the other machine: started where it is to be, and waited for.

use super::request::Start;
use super::{Local, PID_FILE};
use crate::engine::{Engine, Object};
use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::process;
use crate::host::program::{self, Program};
use crate::signer::wallet::State;
use crate::signer::{self, Node};
use crate::ui;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

const LND_DIED: Code = Code::refused("E-WATCH-021");

const LOG: &str = "lsm-lnd.log";

/// How long a running lnd is waited for: the operator may have to start it by hand.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long lnd may take from an open wallet to serving; with a chain to catch up with it takes longer, and says so.
pub(super) const SERVE_PATIENCE: Duration = Duration::from_secs(90);
/// What is said while an lnd that lsm started waits for its password.
pub(super) const UNLOCK_NOW: &str = "unlock the wallet now, unless lnd does so by itself: lncli unlock";
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// The lnd that was started. Dropping it does not stop it.
pub(super) enum Started {
    Process { child: Child, log: PathBuf },
    Container(Object),
}

impl Started {
    pub(super) fn begin(how: &Start, lnddir: &Path, conf: &Path) -> Result<Self> {
        match how {
            // Whoever ends lsm meanwhile finds its number.
            Start::Program(lnd) => process::hold_interrupt(|| {
                let log = lnddir.join(LOG);
                let child = Program::new(lnd)
                    .arg(format!("--lnddir={}", lnddir.display()))
                    .arg(format!("--configfile={}", conf.display()))
                    .env("HOME", lnddir)
                    .start(file::append(&log, 0o600)?)?;
                let number = format!("{}\n", child.id());
                let mut started = Self::Process { child, log };
                let kept = file::replace(&lnddir.join(PID_FILE), number.as_bytes(), Access::mode(0o600));
                kept.inspect_err(|_| {
                    // Nobody would find it later. Why its number is not kept is the fault worth telling.
                    let _ = started.stop();
                })?;
                Ok(started)
            }),
            Start::Container { object, body } => {
                let engine = Engine::open(&object.engine)?;
                engine.replace(&object.name, body, None)?;
                engine.start(&object.name)?;
                Ok(Self::Container(object.clone()))
            }
        }
    }

    /// How it ended, and where its log is; nothing while it runs.
    fn end(&mut self) -> Option<(String, String)> {
        match self {
            Self::Process { child, log } => {
                let status = child.try_wait().ok().flatten()?;
                Some((format!("({status}): {}", last_line(log)), log.display().to_string()))
            }
            Self::Container(object) => {
                let engine = Engine::open(&object.engine).ok().filter(|engine| !engine.runs(&object.name))?;
                let said = engine.last_words(&object.name).unwrap_or_default();
                Some((format!("in its container: {said}"), format!("docker logs {}", object.name)))
            }
        }
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        match self {
            Self::Process { child, .. } => program::stop(child, STOP_PATIENCE).map(drop),
            Self::Container(object) => Engine::open(&object.engine)?.stop(&object.name),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process { child, .. } => Some(child.id()),
            Self::Container(_) => None,
        }
    }
}

/// Waits until lnd serves its wallet's state, whatever that is.
pub(super) fn await_lnd(local: &Local, mut lnd: Option<&mut Started>) -> Result<(Node, State)> {
    let end = Instant::now() + START_PATIENCE;
    let mut told = false;
    loop {
        let fault = match local.node().and_then(|node| node.state().map(|state| (node, state))) {
            Ok((node, state)) if state != State::Starting => return Ok((node, state)),
            Ok(_) => Error::new(signer::NOT_READY, format!("lnd at {} is still starting", local.endpoint)),
            Err(fault) => fault,
        };
        // Looked at after the call: a container costs its engine a question.
        if let Some((how, log)) = lnd.as_mut().and_then(|lnd| lnd.end()) {
            return Err(Error::new(LND_DIED, format!("lnd ended {how}")).hint(format!("its log is {log}")));
        }
        if lnd.is_none() && !told {
            ui::note(&format!("waiting for lnd at {}: start it now", local.endpoint));
            told = true;
        }
        if Instant::now() >= end {
            return Err(fault);
        }
        std::thread::sleep(POLL);
    }
}

/// The last line of lnd's log that tells an error, else the last one.
fn last_line(log: &Path) -> String {
    let text = file::read_text(log).unwrap_or_default();
    let lines = || text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let found = lines().find(|l| l.contains("[ERR]") || l.contains("[CRT]")).or_else(|| lines().next());
    found.unwrap_or("it printed no reason").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn what_was_started_ends_where_its_number_cannot_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        // Written by another process: this one may not have a program open to write when it starts it.
        let script = "printf '#!/bin/sh\nwhile :; do sleep 1; done\n' >lnd && chmod 755 lnd";
        assert!(Command::new("sh").args(["-c", script]).current_dir(dir.path()).status().unwrap().success());
        let how = Start::Program(dir.path().join("lnd"));
        let begin = || Started::begin(&how, dir.path(), &dir.path().join("lnd.conf"));
        let runs = || {
            let folder = dir.path().as_os_str().as_bytes();
            let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
            lines.flatten().any(|line| line.windows(folder.len()).any(|part| part == folder))
        };
        let mut started = begin().unwrap();
        assert!(runs());
        started.stop().unwrap();
        let number = dir.path().join(PID_FILE);
        fs::remove_file(&number).unwrap();
        fs::create_dir(&number).unwrap();
        assert!(begin().is_err_and(|fault| fault.cause().contains(PID_FILE)));
        assert!(!runs());
    }
}
