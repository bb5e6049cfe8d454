//! A signer's container is started and stopped, and its log shown, by its engine.

use super::container;
use super::settle::not_ours;
use crate::backend::Layout;
use crate::backend::control::Entry;
use crate::engine::Engine;
use crate::error::Result;
use crate::plan::{self, Runner};
use crate::spec::Spec;
use crate::spec::docker::Docker;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The engine, where no other container than the signer's has its name.
fn open(docker: &Docker) -> Result<Engine> {
    let engine = Engine::open(&docker.engine)?;
    if engine.has_other(&docker.container, &docker.data)? { Err(not_ours(docker)) } else { Ok(engine) }
}

/// True where the container runs; not where its engine cannot be asked.
pub fn runs(docker: &Docker) -> bool {
    open(docker).is_ok_and(|engine| engine.runs(&docker.container))
}

/// The number of the container's first process, lnd, where it runs.
pub fn pid(docker: &Docker) -> Option<u32> {
    let found = open(docker).ok()?.inspect(&docker.container).ok()??;
    found.state?.pid?.try_into().ok().filter(|pid| *pid != 0)
}

/// Starts the container and waits until its lnd can sign.
///
/// # Errors
/// Where it does not get there: the hint names the log. Here and below: where the container of its name is not the signer's.
pub fn start(spec: &Spec, docker: &Docker) -> Result<()> {
    open(docker)?.start(&docker.container)?;
    let runner = Runner::Container { object: container(docker), body: String::new() };
    plan::wait_until_active(&Layout::of(spec).door(), &runner)
}

/// Stops the container; its port is shut from then on, also after a restart of the engine.
///
/// # Errors
/// Where it does not stop.
pub fn stop(docker: &Docker) -> Result<()> {
    open(docker)?.stop(&docker.container)
}

/// Shows the container's log, and with `follow` what comes.
///
/// # Errors
/// Where the engine cannot show it.
pub fn show_log(docker: &Docker, lines: u32, follow: bool) -> Result<()> {
    open(docker)?.show_log(&docker.container, lines, follow)
}

/// The last `lines` of the container's log.
///
/// # Errors
/// As [`show_log`].
pub fn read_log(docker: &Docker, lines: u32) -> Result<Vec<Entry>> {
    let mut said = Vec::new();
    open(docker)?.read_log(&docker.container, lines, false, true, &mut |piece| {
        said.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(String::from_utf8_lossy(&said).lines().filter_map(|line| parse_entry(&docker.container, line)).collect())
}

/// A line as the engine gives it: when, and what was said.
fn parse_entry(container: &str, line: &str) -> Option<Entry> {
    let (at, message) = line.split_once(' ')?;
    let at = OffsetDateTime::parse(at, &Rfc3339).ok()?.unix_timestamp_nanos() / 1000;
    Some(Entry { at: at.try_into().ok()?, unit: container.to_owned(), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_when_and_what() {
        let entry = parse_entry("litd-signer", "1970-01-01T00:00:01.000007123Z [INF] LTND: Active chain").unwrap();
        assert_eq!((entry.at, entry.message.as_str()), (1_000_007, "[INF] LTND: Active chain"));
        assert_eq!(parse_entry("litd-signer", "no time"), None);
    }
}
