//! Jobs: what runs by itself and touches what is lnd's.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Job, Needs, Place, Unknown};

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "CRON-001",
        title: "Only root writes what cron runs as root",
        why: "whoever writes such a table or script is root at the next minute or day",
        mend: "chown root:root and chmod go-w the file or folder",
        judge: Judge::Host(tables),
    },
    Check {
        id: "CRON-002",
        title: "No job touches an lnd",
        why: "a job that nobody watches copies wallets and macaroons to where they are less well kept",
        mend: "read the job; remove it, or name it in a waiver with who needs it",
        judge: Judge::Host(touching),
    },
    Check {
        id: "CRON-003",
        title: "lnd's user has no jobs",
        why: "lnd makes none: a job of its user is how somebody who got in stays, outside of lnd's sandbox",
        mend: "crontab -r -u USER, atrm NUMBER",
        judge: Judge::Host(of_lnd),
    },
    Check {
        id: "CRON-004",
        title: "Only root writes the programs that cron runs as root",
        why: "whoever writes such a program is root at its next run",
        mend: "chown root:root and chmod go-w the program and the folders above it",
        judge: Judge::Host(programs),
    },
    Check {
        id: "CRON-005",
        title: "Only root writes what systemd's timers run as root",
        why: "whoever writes such a unit or program is root when its timer ends",
        mend: "chown root:root and chmod go-w the unit or program and the folders above it",
        judge: Judge::Host(timers),
    },
];

fn no_cron() -> Verdict {
    Verdict::NotApplicable("this host has no table and no folder of cron's".to_owned())
}

fn cron(host: &Host) -> Result<Option<&[Job]>, Unknown> {
    Ok(host.jobs.cron.get()?.map(Vec::as_slice))
}

/// What others than root can change, each once.
fn loose<'a>(all: impl Iterator<Item = &'a Place>) -> Vec<String> {
    let mut told: Vec<String> = all.filter(|place| place.is_open_to_others(0)).map(ToString::to_string).collect();
    told.sort();
    told.dedup();
    told
}

fn tables(host: &Host) -> Judged {
    let Some(jobs) = cron(host)? else { return Ok(no_cron()) };
    let of_root = jobs.iter().filter(|job| job.user.as_deref().is_none_or(|user| user == "root"));
    Ok(Verdict::none(loose(of_root.flat_map(|job| &job.way)), "root alone can change them"))
}

fn touching(host: &Host) -> Judged {
    let (cron, timers) = (host.jobs.cron.get()?, host.jobs.timers.get()?);
    let all = cron.into_iter().chain(timers).flatten();
    let others = all.filter(|job| !job.names.is_empty() && !is_of_lnd(host, job));
    let told = others.map(|job| format!("{} names {}", job.path.display(), few(&job.names)));
    Ok(Verdict::none(told, "no job names lnd, its folder or its user"))
}

/// Whether the job is of an lnd's own user, root aside.
fn is_of_lnd(host: &Host, job: &Job) -> bool {
    let users = host.signers.iter().filter_map(|signer| signer.user.as_deref()).filter(|user| *user != "root");
    job.user.as_deref().is_some_and(|user| users.into_iter().any(|of_lnd| of_lnd == user))
}

fn of_lnd(host: &Host) -> Judged {
    if host.signers.is_empty() {
        return Ok(Verdict::NotApplicable("no lnd is on this host".to_owned()));
    }
    let (cron, timers) = (host.jobs.cron.get()?, host.jobs.timers.get()?);
    let own = cron.into_iter().chain(timers).flatten().filter(|job| is_of_lnd(host, job));
    Ok(Verdict::none(own.map(|job| job.path.display()), "it has none"))
}

fn programs(host: &Host) -> Judged {
    let Some(jobs) = cron(host)? else { return Ok(no_cron()) };
    Ok(Verdict::none(loose(jobs.iter().flat_map(|job| &job.programs)), "root alone can change them"))
}

fn timers(host: &Host) -> Judged {
    let Some(timers) = host.jobs.timers.get()? else {
        return Ok(Verdict::NotApplicable("this host has no timers of systemd's".to_owned()));
    };
    let all = timers.iter().flat_map(|job| job.way.iter().chain(&job.programs));
    Ok(Verdict::none(loose(all), format!("{} timers; root alone can change what they run", timers.len())))
}
