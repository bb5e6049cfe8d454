//! A run of lsm that a test may end or disturb at any moment that its journal tells of.

use crate::lab::host::{Host, LSM_INSIDE};
use crate::lab::process::Done;
use crate::lab::trace::{self, Call, Fate};
use serde_json::Value;
use std::process::Command;

/// A moment of a run that changes the machine.
#[derive(Debug)]
pub enum Moment {
    /// A line of the journal is about to be written; nothing of it is in the file yet.
    Coming(Line),
    /// A line was written, and is about to be waited for.
    Written(Line),
    /// The step's n-th call, from 1, that changes a file or has to do with a program.
    Change(u32),
    /// A program is waited for, within a step or between two.
    Wait,
}

/// One line of the journal.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it tells: `begin`, `intent`, `done`, `seed-kept`...
    pub event: String,
    /// Of an intent, the step.
    pub step: Option<Value>,
}

impl Line {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let line: Value = serde_json::from_slice(bytes).ok()?;
        let step = line.get("what").cloned();
        Some(Self { event: line["event"].as_str()?.to_owned(), step })
    }
}

/// Runs lsm with these arguments in `host`. `decide` is asked at every moment; of each it is told the step that lsm is in,
/// by [`name`], from its intent to the line that says that it is done.
#[track_caller]
pub fn run(host: &Host, arguments: &[String], decide: impl FnMut(&str, &Moment) -> Fate + Send) -> Done {
    let mut command = host.command(LSM_INSIDE);
    command.args(arguments);
    run_command(&command, decide)
}

/// The same of a command that starts lsm otherwise.
#[track_caller]
pub fn run_command(command: &Command, mut decide: impl FnMut(&str, &Moment) -> Fate + Send) -> Done {
    let mut reader = Reader::default();
    trace::run(command, |call| match reader.read(call) {
        Some(moment) => {
            let fate = decide(&reader.step, &moment);
            reader.leave(&moment);
            fate
        }
        None => Fate::Go,
    })
}

/// What a step is called: its kind and what it is about.
pub fn name(step: &Value) -> String {
    let kind = step["kind"].as_str().unwrap_or("step");
    format!("{kind} {}", about(step).unwrap_or_default()).trim_end().to_owned()
}

/// The first path, unit or account that a step names.
fn about(step: &Value) -> Option<&str> {
    let own = ["path", "unit", "account", "filter", "folder", "file", "link"].iter().find_map(|key| step[key].as_str());
    own.or_else(|| ["to", "keep", "sealed", "plain"].iter().filter_map(|key| step.get(key)).find_map(about))
}

#[derive(Default)]
struct Reader {
    /// The journal's descriptor, once the first line was written.
    journal: Option<u64>,
    coming: Option<Line>,
    step: String,
    changes: u32,
}

impl Reader {
    fn read(&mut self, call: Call) -> Option<Moment> {
        if call.ends_a_line() {
            let line = self.coming.take()?;
            self.journal = Some(call.arguments[0]);
            self.enter(&line);
            return Some(Moment::Written(line));
        }
        if let Some((file, bytes)) = call.writes()
            && self.journal.is_none_or(|journal| journal == file)
            && let Some(line) = Line::parse(&bytes)
        {
            self.coming = Some(line.clone());
            return Some(Moment::Coming(line));
        }
        if call.waits() {
            return Some(Moment::Wait);
        }
        if self.step.is_empty() || !(call.changes_a_file() || call.is_about_a_program()) {
            return None;
        }
        self.changes += 1;
        Some(Moment::Change(self.changes))
    }

    fn enter(&mut self, line: &Line) {
        if let Some(step) = &line.step {
            (self.step, self.changes) = (name(step), 0);
        }
    }

    fn leave(&mut self, moment: &Moment) {
        if matches!(moment, Moment::Written(line) if ["done", "failed", "end"].contains(&line.event.as_str())) {
            self.step.clear();
        }
    }
}
