//! The running lnd: what the kernel lets it do, whatever its unit says.

use super::{Area, Check, Judge, Judged, Verdict};
use crate::facts::audit::{Host, Needs, Process, Signer, Unknown};

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[Check {
    id: "PROC-003",
    title: "lnd cannot gain rights, calls a filtered kernel and has no capability",
    why: "whoever takes over lnd has what lnd has: with these three, next to nothing",
    mend: "lsm install; or NoNewPrivileges=yes, SystemCallFilter= and CapabilityBoundingSet= in its unit",
    judge: Judge::Signer(sealed),
}];

fn sealed(_: &Host, signer: &Signer) -> Judged {
    let Some(process) = signer.process.get()? else { return Ok(not_running()) };
    let wanted = [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000")];
    let mut wrong = Vec::new();
    for (name, value) in wanted {
        let is = status(process, name)?;
        if is != value {
            wrong.push(format!("{name} is {is}, not {value}"));
        }
    }
    Ok(Verdict::none(wrong, "NoNewPrivs 1, Seccomp 2, CapEff 0"))
}

/// A line of the process's status.
fn status<'a>(process: &'a Process, name: &str) -> Result<&'a str, Unknown> {
    process
        .status(name)
        .ok_or_else(|| Unknown::new(format!("the kernel does not show {name} of process {}", process.pid)))
}

/// What nobody can look at that does not run.
fn not_running() -> Verdict {
    Verdict::NotApplicable("lnd does not run".to_owned())
}
