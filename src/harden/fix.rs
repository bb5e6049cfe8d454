//! What `lsm harden --fix` mends, and by which steps: a function from what was seen and found to a plan.
//!
//! A fix is undone like any other plan, so nothing is mended here whose undoing would be a guess: no package, no account,
//! no password, nothing that has to be shredded.

mod loose;

use super::kernel::{self, Wanted};
use super::{Finding, Report, Verdict, ssh, updates};
use crate::facts::audit::{Answer, Host, Needs, Unknown};
use crate::plan::{Access, Step};
use loose::{Loose, OF_LSM};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The last word at boot: systemd-sysctl reads all such files in the order of their names, /etc/sysctl.conf as 99-sysctl.conf
/// (sysctl.d(5)).
const SYSCTL: &str = "/etc/sysctl.d/99-zz-lsm.conf";
/// The first word: sshd takes the first value that it reads (sshd_config(5)).
const SSH: &str = "/etc/ssh/sshd_config.d/00-lsm.conf";
const SSH_CONFIG: &str = "/etc/ssh/sshd_config";
/// Debian's unit; elsewhere it is sshd.service.
const SSH_UNIT: &str = "/usr/lib/systemd/system/ssh.service";
/// Read after Debian's own 20auto-upgrades (apt.conf(5)).
const APT: &str = "/etc/apt/apt.conf.d/99-lsm.conf";
const PRELOAD: &str = "/etc/ld.so.preload";

const HEAD: &str = "# Written by lsm harden --fix; lsm rollback undoes the last one.\n";

pub(super) const NEEDS: Needs = Needs { texts: &[SYSCTL, SSH, SSH_CONFIG, SSH_UNIT], programs: &[] };

/// A setting of sshd's, and its value.
type Line = (&'static str, &'static str);

/// How a finding is mended.
enum How {
    /// By settings of the kernel.
    Kernel(&'static [Wanted]),
    /// By settings of sshd.
    Ssh(&'static [Line]),
    /// By taking from others what they may do with files and folders.
    Close(fn(&Host) -> Result<Vec<Loose>, Unknown>),
    /// By having apt's timers install what they download.
    Updates,
    /// By taking a file away.
    Remove(&'static str),
}

/// What mends the finding of one check.
struct Mend {
    id: &'static str,
    /// It can neither lock anybody out nor change how the kernel works: it is done without being named.
    safe: bool,
    how: How,
}

const fn safe(id: &'static str, how: How) -> Mend {
    Mend { id, safe: true, how }
}

const fn named(id: &'static str, how: How) -> Mend {
    Mend { id, safe: false, how }
}

const MENDS: &[Mend] = &[
    named("KERN-001", How::Kernel(&[Wanted::least(kernel::PTRACE, "1")])),
    named("KERN-002", How::Kernel(&[Wanted::exactly(kernel::SUID_DUMPABLE, "0")])),
    named("KERN-003", How::Kernel(&[Wanted::exactly(kernel::CORE_PATTERN, "core")])),
    named("KERN-004", How::Kernel(&[Wanted::least(kernel::KPTR, "1"), Wanted::least(kernel::DMESG, "1")])),
    // Not 1, from which there is no way back before the next boot.
    named("KERN-005", How::Kernel(&[Wanted::least(kernel::BPF, "2")])),
    named("KERN-006", How::Kernel(&[Wanted::least(kernel::PERF, "2")])),
    named("KERN-007", How::Kernel(&[Wanted::exactly(kernel::ASLR, "2")])),
    named("KERN-008", How::Kernel(&[Wanted::exactly(kernel::KEXEC, "1")])),
    named(
        "KERN-009",
        How::Kernel(&[
            Wanted::least(kernel::PROTECTED[0].0, "1"),
            Wanted::least(kernel::PROTECTED[1].0, "1"),
            Wanted::least(kernel::PROTECTED[2].0, "1"),
            Wanted::least(kernel::PROTECTED[3].0, "1"),
        ]),
    ),
    named(
        "KERN-018",
        How::Kernel(&[Wanted::exactly(kernel::USERNS, "0"), Wanted::exactly(kernel::USERNS_APPARMOR, "1")]),
    ),
    named("KERN-019", How::Kernel(&[Wanted::least(kernel::IO_URING, "2")])),
    named("KERN-020", How::Kernel(&[Wanted::exactly(kernel::SYSRQ, "176")])),
    named("KERN-021", How::Kernel(&[Wanted::least(kernel::BPF_JIT, "1")])),
    named("SSH-001", How::Ssh(&[("PermitRootLogin", "prohibit-password")])),
    named("SSH-002", How::Ssh(&[("PasswordAuthentication", "no"), ("KbdInteractiveAuthentication", "no")])),
    named("SSH-003", How::Ssh(&[("PermitEmptyPasswords", "no")])),
    named("SSH-004", How::Ssh(&[("DisableForwarding", "yes"), ("PermitTunnel", "no")])),
    named("SSH-006", How::Ssh(&[("MaxAuthTries", "4")])),
    named("SSH-007", How::Close(loose::ssh_keys)),
    named("SSH-009", How::Close(loose::host_keys)),
    named(
        "SSH-010",
        How::Ssh(&[
            ("StrictModes", "yes"),
            ("PermitUserEnvironment", "no"),
            ("HostbasedAuthentication", "no"),
            ("IgnoreRhosts", "yes"),
        ]),
    ),
    named("USER-010", How::Close(loose::sudo_rules)),
    safe("USER-013", How::Close(loose::homes)),
    safe("USER-017", How::Close(loose::accounts)),
    safe("SECR-001", How::Close(loose::secrets)),
    safe("SECR-002", How::Close(loose::above_secrets)),
    safe("SECR-008", How::Close(loose::bundles)),
    safe("SECR-009", How::Close(loose::credentials)),
    safe("BIN-001", How::Close(loose::lnd)),
    safe("BIN-002", How::Close(loose::own_rights)),
    named("BIN-005", How::Remove(PRELOAD)),
    safe("BIN-006", How::Close(loose::trusted)),
    safe("BIN-007", How::Close(loose::programs)),
    safe("CRON-001", How::Close(loose::cron_tables)),
    safe("CRON-004", How::Close(loose::cron_programs)),
    safe("CRON-005", How::Close(loose::timers)),
    safe("UNIT-007", How::Close(loose::units)),
    safe("UPD-001", How::Updates),
];

/// What `lsm install` brings back on a host that it was run on.
const OF_INSTALL: [&str; 9] =
    ["BIN-001", "BIN-003", "SECR-004", "SECR-005", "UNIT-001", "UNIT-002", "UNIT-003", "UNIT-004", "PROC-001"];

/// What is to be done about what was found.
#[derive(Debug, Default)]
pub struct Fixes {
    /// The steps.
    pub steps: Vec<Step>,
    /// The findings that they mend.
    pub mended: Vec<&'static str>,
    /// Those that could be mended, and are only when they are named.
    pub named_only: Vec<&'static str>,
    /// Those that `lsm install` mends.
    pub by_install: Vec<&'static str>,
    /// Those that nobody but the operator mends, each with how.
    pub by_hand: Vec<(&'static str, &'static str)>,
    /// Those that were named and are left as they are, each with what it is instead of a finding.
    pub untouched: Vec<(&'static str, &'static str)>,
    /// What the operator has to know before.
    pub warnings: Vec<String>,
}

/// What mends the findings of `report`, which is of `host`: those of `ids`, or where it has none, all that can be mended
/// without danger. What is waived is left as it is, and so is what could not be told.
pub fn fix(host: &Host, report: &Report, ids: &BTreeSet<String>) -> Fixes {
    let mut fixes = Fixes::default();
    let mut gathered = Gathered::default();
    let stands = |finding: &Finding| if finding.waived.is_some() { "waived" } else { finding.verdict.name() };
    let asked = report.findings.iter().filter(|finding| ids.contains(finding.id));
    fixes.untouched = asked.map(|finding| (finding.id, stands(finding))).filter(|(_, is)| *is != "fail").collect();
    let failed = |finding: &&Finding| matches!(finding.verdict, Verdict::Fail(_)) && finding.waived.is_none();
    for finding in report.findings.iter().filter(failed) {
        let is_named = ids.contains(finding.id);
        if !ids.is_empty() && !is_named {
            continue;
        }
        let mend = MENDS.iter().find(|mend| mend.id == finding.id);
        match mend.map(|mend| gathered.add(host, mend, is_named)) {
            Some(Added::All) => fixes.mended.push(finding.id),
            Some(Added::OnlyNamed) => fixes.named_only.push(finding.id),
            Some(Added::Nothing) | None if is_of_install(host, finding.id) => fixes.by_install.push(finding.id),
            Some(Added::Nothing) | None => fixes.by_hand.push((finding.id, finding.fix)),
        }
    }
    if gathered.ssh.contains_key("PasswordAuthentication") && !ssh::has_key(host, None) {
        let told =
            "no home of those who may become root holds a key to log in with: SSH will let nobody in by a password";
        fixes.warnings.push(told.to_owned());
    } else if gathered.ssh.contains_key("PermitRootLogin") && !ssh::has_key(host, Some("root")) {
        fixes
            .warnings
            .push("root's home holds no key to log in with: SSH will let no root in by a password".to_owned());
    }
    if gathered.undone_at_boot {
        let told = "apport sets these anew at every boot: systemctl disable --now apport.service, then again";
        fixes.warnings.push(told.to_owned());
    }
    fixes.steps = gathered.into_steps(host);
    fixes
}

fn is_of_install(host: &Host, id: &str) -> bool {
    let is_installed = host.signers.iter().any(|signer| matches!(signer.spec, Answer::Is(_)));
    // lnd's settings are lsm's to write; a wallet's password is not.
    is_installed && (OF_INSTALL.contains(&id) || (id.starts_with("LND-") && id != "LND-008"))
}

/// What came of adding a finding's mend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    All,
    OnlyNamed,
    Nothing,
}

/// What several mends want of the same files, put together.
#[derive(Default)]
struct Gathered {
    close: BTreeMap<PathBuf, (u32, bool)>,
    kernel: BTreeMap<PathBuf, String>,
    ssh: BTreeMap<String, String>,
    rest: Vec<Step>,
    /// Something else would change them back.
    undone_at_boot: bool,
}

impl Gathered {
    fn add(&mut self, host: &Host, mend: &Mend, is_named: bool) -> Added {
        if !mend.safe && !is_named {
            // Offered only where naming it would come to a step.
            let mut tried = Self::default();
            let came = tried.add(host, mend, true);
            self.undone_at_boot |= tried.undone_at_boot;
            return if came == Added::Nothing { came } else { Added::OnlyNamed };
        }
        match &mend.how {
            How::Kernel(wanted) if wanted.iter().any(|one| OF_APPORT.contains(&one.path)) && has_apport(host) => {
                self.undone_at_boot = true;
                Added::Nothing
            }
            How::Kernel(wanted) => {
                let missing = wanted.iter().filter(|one| one.is_missing(host));
                let found: Vec<_> = missing.map(|one| (one.path.into(), one.value.to_owned())).collect();
                added(&found, |found| self.kernel.extend(found))
            }
            How::Ssh(lines) => {
                let found: Vec<_> = lines.iter().filter(|_| reads_drop_ins(host)).copied().collect();
                added(&found, |lines| self.ssh.extend(lines.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned()))))
            }
            How::Close(find) => self.close(&find(host).unwrap_or_default(), is_named),
            How::Updates => added(&updates::enabling_steps(host, Path::new(APT)), |steps| self.rest.extend(steps)),
            How::Remove(path) => added(&[Step::Remove { path: path.into() }], |steps| self.rest.extend(steps)),
        }
    }

    /// Whose a file of others is, is not decided unasked.
    fn close(&mut self, all: &[Loose], is_named: bool) -> Added {
        let is_ours = |path: &Path| OF_LSM.iter().any(|folder| path.starts_with(folder));
        if !is_named && all.iter().any(|one| one.to_root && !is_ours(&one.path)) {
            return Added::OnlyNamed;
        }
        for Loose { path, mode, to_root } in all {
            let (all, root) = self.close.entry(path.clone()).or_insert((*mode, *to_root));
            (*all, *root) = (*all & mode, *root || *to_root);
        }
        if all.is_empty() { Added::Nothing } else { Added::All }
    }

    fn into_steps(self, host: &Host) -> Vec<Step> {
        let close = self.close.into_iter().map(|(path, (mode, to_root))| Step::Close { path, mode, to_root });
        let mut steps: Vec<Step> = close.chain(self.rest).collect();
        if !self.kernel.is_empty() {
            let names = self.kernel.iter().map(|(path, value)| (kernel::name(&path.to_string_lossy()), value.clone()));
            let text = merge(host, SYSCTL, '=', " = ", names.collect());
            steps.push(Step::Sysctl { file: SYSCTL.into(), text, settings: self.kernel.into_iter().collect() });
        }
        if !self.ssh.is_empty() {
            let text = merge(host, SSH, ' ', " ", self.ssh);
            steps.push(Step::Text { path: SSH.into(), access: Access::mode(0o644), text });
        }
        // Also where it stands already: a plan that was cut off may have ended before sshd read it.
        if steps.iter().any(|step| step.paths() == [Path::new(SSH)]) || matches!(host.text(SSH), Ok(Some(_))) {
            let unit = if matches!(host.text(SSH_UNIT), Ok(Some(_))) { "ssh.service" } else { "sshd.service" };
            let check = vec!["sshd".to_owned(), "-t".to_owned()];
            steps.push(Step::Reload { unit: unit.to_owned(), check, after: vec![SSH.into()] });
        }
        steps
    }
}

fn added<T: Clone>(found: &[T], add: impl FnOnce(Vec<T>)) -> Added {
    add(found.to_vec());
    if found.is_empty() { Added::Nothing } else { Added::All }
}

/// What apport sets when it starts (its own apport script), after systemd-sysctl has read the files.
const OF_APPORT: [&str; 2] = [kernel::SUID_DUMPABLE, kernel::CORE_PATTERN];

fn has_apport(host: &Host) -> bool {
    matches!(host.updates.wanted.get(), Ok(Some(wanted)) if wanted.contains("apport.service"))
}

/// True where sshd reads drop-ins, as Debian's settings have it.
fn reads_drop_ins(host: &Host) -> bool {
    let text = host.text(SSH_CONFIG).ok().flatten().unwrap_or_default();
    let is_of_folder = |line: &str| {
        let line = line.trim().to_ascii_lowercase();
        line.starts_with("include") && line.contains("sshd_config.d/")
    };
    text.lines().any(is_of_folder)
}

/// The settings of an earlier fix with those of this one, by name.
fn merge(host: &Host, path: &str, splits: char, joins: &str, new: BTreeMap<String, String>) -> String {
    let there = host.text(path).ok().flatten().unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.split_once(splits).filter(|_| !line.starts_with('#'))?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let mut all: BTreeMap<String, String> = there.lines().filter_map(line).collect();
    all.extend(new);
    all.iter().fold(HEAD.to_owned(), |text, (name, value)| format!("{text}{name}{joins}{value}\n"))
}

#[cfg(test)]
mod tests;
