//! The guard's part of a signer: its folder, its unit, and the macaroon with which lnd takes it.

use super::{Build, LSM, drop_in, folder, parent, text, unit_path, wants};
use crate::error::Result;
use crate::plan::step::Step;
use crate::render::unit::{GUARD_UNIT, GUARDED_DROP_IN, render_guard_drop_in};
use crate::signer::middleware::CREDENTIAL;
use crate::spec::Guard;
use std::path::PathBuf;

impl Build<'_> {
    /// Root's folder for it, its own in that, and that of its socket, where it has any.
    pub(super) fn guard_folders(&self) -> Vec<PathBuf> {
        let all = [self.layout.guard(), self.layout.guard_own(), self.layout.guard_run()];
        if self.spec.guard.is_on() { all.into() } else { vec![] }
    }

    /// Its unit and drop-in, and the proxy of one that enforces. Where there is no guard any more they lie idle, and mean nothing.
    pub(super) fn guard_units(&self) -> Result<Vec<Step>> {
        if !self.spec.guard.is_on() {
            return Ok(vec![]);
        }
        let (name, body) = GUARD_UNIT;
        let place = drop_in(&self.layout.guard_service());
        let said = render_guard_drop_in(self.spec, LSM, &self.platform, &self.credentials(&[CREDENTIAL]))?;
        let mut steps =
            vec![text(&unit_path(name), body.to_owned()), folder(parent(&place), 0o755), text(&place, said)];
        if self.spec.guard == Guard::Enforce {
            let place = drop_in(&self.layout.proxy_service());
            steps.extend([folder(parent(&place), 0o755), text(&place, GUARDED_DROP_IN.to_owned())]);
        }
        Ok(steps)
    }

    /// Its macaroon, which only an lnd bakes that does not hold it for mandatory.
    pub(super) fn guard_macaroon(&self) -> Result<Option<Step>> {
        if !self.spec.guard.is_on() {
            return Ok(None);
        }
        Ok(Some(Step::GuardMacaroon {
            runner: self.runner()?,
            door: self.layout.door(),
            password: self.layout.keep("wallet-password", self.spec.sealed),
            keep: self.layout.keep(CREDENTIAL, self.spec.sealed),
            unit: self.layout.service(),
        }))
    }

    /// It is asked by lnd, or runs no more. What has lnd started anew, `after`, has the plan wait here until lnd asks it: before
    /// that lnd does not answer lsm either.
    pub(super) fn guard_service(&self, after: &[PathBuf]) -> Step {
        let unit = self.layout.guard_service();
        let link = wants(&self.layout.service(), &unit);
        if !self.spec.guard.is_on() {
            return Step::Retire { unit, link };
        }
        let own = [unit_path(GUARD_UNIT.0), drop_in(&unit), self.layout.guard_own()];
        let after = own.into_iter().chain(after.iter().cloned()).collect();
        Step::Service { unit, link, after, anew: true, with: vec![], program: Some(LSM.into()) }
    }
}
