//! What is looked at besides lsm's own texts, each time: strangers' unit files, and the access of what lsm made.

use super::{Build, FIREWALL_UNIT, LND_MODE, RELEASES};
use crate::bundle;
use crate::facts::units::UnitFile;
use crate::plan::step::{Access, LNCLI_MODE, Step};
use crate::signer::middleware::CREDENTIAL;
use crate::spec::Mode;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Build<'_> {
    /// The units of this signer, and those that it shares.
    pub(super) fn unit_names(&self) -> Vec<String> {
        let mut units = vec![self.layout.service(), FIREWALL_UNIT.to_owned()];
        if self.spec.mode == Mode::Isolated {
            units.extend([self.layout.socket(), self.layout.proxy_service()]);
        }
        units.extend(self.spec.guard.is_on().then(|| self.layout.guard_service()));
        units
    }

    /// Has `steps` take away what none of them writes and what says something of these units all the same, a mask too.
    /// With it, nothing that lsm's own files say of the sandbox need hold any more.
    pub(super) fn clear_units(&self, steps: &mut Vec<Step>) {
        let (units, ours) = (self.unit_names(), steps.iter().flat_map(Step::paths).collect::<BTreeSet<_>>());
        let is_strange = |file: &&UnitFile| !ours.contains(&file.path) && units.iter().any(|unit| file.is_of(unit));
        let strange: Vec<&UnitFile> = self.unit_files.iter().filter(is_strange).collect();
        let Some(reload) = steps.iter().position(|step| matches!(step, Step::ReloadUnits { .. })) else { return };
        for step in &mut steps[reload..] {
            let names: Vec<String> = step.units().into_iter().map(str::to_owned).collect();
            let is_felt = |file: &&&UnitFile| names.iter().any(|unit| file.is_of(unit));
            match step {
                Step::ReloadUnits { after, of } if !of.is_empty() => {
                    after.extend(strange.iter().map(|file| file.path.clone()))
                }
                Step::Firewall { after, .. } | Step::Service { after, .. } => {
                    after.extend(strange.iter().filter(is_felt).map(|file| file.path.clone()));
                }
                _ => {}
            }
        }
        steps.splice(reload..reload, strange.into_iter().map(|file| Step::Remove { path: file.path.clone() }));
    }

    /// The access of what `steps` make and then do not look at again.
    pub(super) fn accesses(&self, steps: &[Step]) -> Vec<Step> {
        let texts = steps.iter().filter_map(|step| match step {
            Step::Text { path, access, .. } => Some((path.clone(), access.clone())),
            Step::Users { file, .. } | Step::Folders { file, .. } => Some((file.clone(), Access::mode(0o644))),
            _ => None,
        });
        let user = self.layout.user();
        let (data, journal, receipt) = (self.layout.data(), self.layout.journal(), self.layout.receipt());
        let socket = Access { group: Some(self.layout.proxy_user()), ..Access::owned(0o2750, &user) };
        let lnd = Path::new(RELEASES).join(&self.release.version);
        let mut accesses: Vec<(PathBuf, Access)> = texts.collect();
        accesses.extend([
            (PathBuf::from("/var/lib/lsm"), Access::mode(0o711)),
            (data, Access::owned(0o700, &user)),
            ("/run/lsm".into(), Access::mode(0o755)),
            (self.run(""), socket),
            (self.run("-admin"), Access::owned(0o700, &user)),
            (self.run("-gate"), Access::mode(0o755)),
            (super::parent(&journal).to_owned(), Access::mode(0o700)),
            (journal, Access::mode(0o600)),
            (lnd.join("lnd"), Access::mode(LND_MODE)),
            (lnd.join("lncli"), Access::mode(LNCLI_MODE)),
            (self.layout.door().certificate, Access::mode(0o644)),
            (receipt, Access::mode(0o644)),
            (self.layout.register(), Access::mode(0o644)),
            (self.layout.next_certificate(), Access::mode(0o644)),
            (self.layout.next_key(self.spec.sealed).path().to_owned(), Access::mode(0o600)),
        ]);
        for what in ["wallet-password", "tls-key", CREDENTIAL] {
            accesses.push((self.layout.keep(what, self.spec.sealed).path().to_owned(), Access::mode(0o600)));
        }
        if self.spec.guard.is_on() {
            accesses.push((self.layout.guard(), Access::mode(0o755)));
            accesses.push((self.layout.guard_own(), Access::owned(0o700, self.layout.guard_user())));
        }
        // Not a bundle elsewhere: that one is the operator's, who may have given it to another user.
        let bundle = self.layout.bundle();
        accesses.extend(bundle::files(&bundle).into_iter().map(|file| (file, Access::mode(0o600))));
        accesses.push((bundle, Access::mode(0o700)));
        accesses.into_iter().map(|(path, access)| Step::Tighten { path, access }).collect()
    }
}
