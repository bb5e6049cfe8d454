//! What is true of a signer now, gathered for `lsm status`.

use super::drift::{Drift, install_again, of_instance, sudo};
use super::signature::Signature;
use crate::backend::{Layout, control};
use crate::bundle::Bundle;
use crate::cli::{cert, machine};
use crate::error::Exit;
use crate::facts::{
    self,
    running::{self, Fence},
};
use crate::guard::freeze::{Frozen, IN_SHORT};
use crate::guard::{self, now};
use crate::host::file;
use crate::plan::{self, History, Register};
use crate::release::Installed;
use crate::release::known;
use crate::sandbox::landlock::Interface;
use crate::signer::certificate::{Certificate, Urgency};
use crate::signer::wallet::State;
use crate::spec::docker::PORT;
use crate::spec::{Guard, Places, Spec};
use crate::ui;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use time::OffsetDateTime;

/// The bundle that was exported last, where lsm may look at it.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    pub(super) folder: PathBuf,
    /// When its macaroon was written, in seconds since 1970.
    pub(super) at: i64,
    pub(super) root_key_id: String,
    /// Its certificate is the one that the signer presents.
    pub(super) current: bool,
}

/// What is true of a signer now.
pub(super) struct Status {
    pub(super) spec: Spec,
    pub(super) now: OffsetDateTime,
    pub(super) state: Option<State>,
    /// Why it cannot sign.
    pub(super) why: Option<String>,
    /// The guard runs, where there is one.
    pub(super) guard_runs: Option<bool>,
    /// Why it lets nothing be signed, where it is asked.
    guard_trouble: Option<String>,
    /// What it warns of.
    pub(super) guard_warnings: Vec<String>,
    /// The operator has frozen what it lets be signed.
    pub(super) frozen: Option<Frozen>,
    pub(super) port_open: bool,
    pub(super) filtered: bool,
    pub(super) unit_filters: Option<bool>,
    pub(super) fence: Option<Fence>,
    pub(super) landlock: Interface,
    /// Who is connected, and how often; nothing where that cannot be seen.
    pub(super) connected: Option<BTreeMap<IpAddr, u32>>,
    pub(super) certificate: Option<Certificate>,
    /// The one that is about to take its place.
    pub(super) next_certificate: Option<Certificate>,
    /// The root keys of earlier bundles' macaroons that are still good.
    pub(super) retiring: Vec<u64>,
    pub(super) exported: Option<Exported>,
    /// The last signature that anybody saw.
    pub(super) last_signature: Option<Signature>,
    pub(super) identity_pubkey: Option<String>,
    pub(super) judgement: String,
    pub(super) judgement_reason: Option<String>,
    pub(super) lnd: Option<Installed>,
    pub(super) cut_off: Option<String>,
    pub(super) drift: Drift,
}

impl Status {
    /// Looks at the signer `spec`. What cannot be told keeps nothing else from being told.
    pub(super) fn look(spec: Spec, history: Option<&History>) -> Self {
        let layout = Layout::of(&spec);
        let asked = plan::open(&layout.door()).and_then(|node| node.state());
        let guard_runs = spec.guard.is_on().then(|| facts::is_active(&layout.guard_service()));
        let frozen = spec.guard.is_on().then(|| Frozen::look(&layout.frozen())).flatten();
        let said = guard_runs.and_then(|_| facts::units::status(&layout.guard_service())).unwrap_or_default();
        let guard_trouble = guard_trouble(&spec, guard_runs, frozen, &said);
        let why = match &asked {
            Ok(State::Active) => guard_trouble.clone(),
            Ok(state) => Some(format!("lnd is {}", state.words())),
            Err(e) => Some(e.to_string()),
        };
        let port_open = control::is_open(&spec);
        // A unit that is not active has no filter, and no port either.
        let unit_filters =
            (port_open && spec.docker.is_none()).then(|| facts::filters_addresses(&layout.public_unit(&spec)));
        let lnd = Installed::read(&layout.places().releases().join(&spec.release)).unwrap_or_else(|e| {
            ui::note(&format!("where lnd came from cannot be told: {e}"));
            None
        });
        let (judgement, judgement_reason) = judge(&spec.release);
        let drift = Drift::look(&spec);
        let certificate = cert::read(&layout.door().certificate).ok();
        let (pid, register) = (control::pid(&spec), Register::read(&layout.register()).unwrap_or_default());
        Self {
            now: OffsetDateTime::now_utc(),
            state: asked.ok(),
            why,
            guard_runs,
            guard_trouble,
            guard_warnings: guard::warnings(&said).into_iter().map(str::to_owned).collect(),
            frozen,
            port_open,
            filtered: !layout.places().are_users()
                && facts::is_active("lsm-firewall.service")
                && drift.filter != Some(false),
            unit_filters,
            fence: pid.and_then(Fence::look),
            landlock: Interface::of_kernel(),
            connected: who_is_connected(&spec, pid),
            exported: exported(&layout, history, certificate.as_ref()),
            last_signature: Signature::look(&spec, &layout, history),
            certificate,
            next_certificate: cert::read_next(&layout).unwrap_or_default(),
            retiring: register.retiring().iter().map(|entry| entry.root_key).collect(),
            identity_pubkey: plan::read_receipt(&layout.receipt()).ok().map(|receipt| receipt.identity_pubkey),
            judgement,
            judgement_reason,
            lnd,
            cut_off: history.and_then(machine::describe_cut_off),
            drift,
            spec,
        }
    }

    /// It can sign now.
    pub(super) fn signs(&self) -> bool {
        self.state == Some(State::Active) && self.guard_trouble.is_none()
    }

    /// The certificate ends soon.
    fn wants_renewal(&self) -> bool {
        let end = self.certificate.as_ref().map(|certificate| certificate.validity().1.unix_timestamp());
        end.is_some_and(|end| Urgency::of(end, self.now.unix_timestamp()).is_some())
    }

    /// The one thing to do next, the gravest first; nothing where all is well.
    pub(super) fn next(&self) -> Option<String> {
        let (sudo, of) = (sudo(&self.spec), of_instance(&self.spec.instance));
        if self.cut_off.is_some() {
            return Some(format!("finish what was cut off, or undo it: {sudo}lsm rollback{of}"));
        }
        if self.identity_pubkey.is_none() {
            return Some(format!("make the wallet: {}", install_again(&self.spec)));
        }
        if !self.signs() || !self.port_open {
            return Some(format!("{sudo}lsm start{of}; what is wrong: {sudo}lsm logs{of}"));
        }
        if self.drift.steps.as_ref().is_some_and(|steps| !steps.is_empty()) {
            return Some(format!("put right what was changed: {}", install_again(&self.spec)));
        }
        if self.next_certificate.is_some() {
            return Some(format!("once the other side has the new bundle: {sudo}lsm cert renew --finish{of}"));
        }
        if !self.retiring.is_empty() {
            return Some(format!("once the other side has the new bundle: {sudo}lsm macaroon rotate --finish{of}"));
        }
        if self.wants_renewal() {
            return Some(format!("renew the certificate: {sudo}lsm cert renew{of}"));
        }
        if matches!(self.judgement.as_str(), "refused" | "needs-accept-risk") {
            return Some(format!("another version of lnd: lsm release list, then {sudo}lsm upgrade V{of}"));
        }
        if self.spec.allow.is_empty() && !Places::of(&self.spec).are_users() {
            return Some(format!("let the watch-only machine in: {sudo}lsm allow add ADDRESS{of}"));
        }
        match &self.exported {
            Some(exported) if !exported.current => {
                Some(format!("export the bundle anew, the certificate is another one: {sudo}lsm bundle export{of}"))
            }
            _ => None,
        }
    }
}

/// Why a guard that enforces, and `runs` or not, lets nothing be signed, which told systemd `said`. Without it lnd answers nobody.
fn guard_trouble(spec: &Spec, runs: Option<bool>, frozen: Option<Frozen>, said: &str) -> Option<String> {
    if spec.guard != Guard::Enforce {
        return None;
    }
    if runs != Some(true) {
        return Some("its guard does not run".to_owned());
    }
    if let Some(frozen) = frozen {
        return Some(format!(
            "the operator has frozen it {}: {IN_SHORT}; lsm guard thaw ends it; then restart the watch-only lnd",
            frozen.describe(now())
        ));
    }
    guard::trouble(said).map(|why| format!("its guard refuses every signature: {why}"))
}

/// In a container the door is its own, behind the engine's published port.
fn who_is_connected(spec: &Spec, pid: Option<u32>) -> Option<BTreeMap<IpAddr, u32>> {
    if spec.docker.is_none() {
        return running::connected(spec.listen, None);
    }
    running::connected(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT), Some(pid?))
}

/// Where the journal says that it went, or the signer's own place.
fn exported(layout: &Layout, history: Option<&History>, certificate: Option<&Certificate>) -> Option<Exported> {
    let folder = history.and_then(History::handed_bundle).unwrap_or_else(|| layout.bundle());
    let bundle = Bundle::read(&folder.to_string_lossy()).ok()?;
    let [_, _, macaroon, _] = Bundle::members_in(&folder);
    let at = file::modified(&macaroon)?.unix_timestamp();
    let current = certificate == Some(&bundle.certificate);
    Some(Exported { at, root_key_id: bundle.macaroon.root_key_id().to_owned(), current, folder })
}

/// What the policy in force says of the installed lnd now, which may have become stricter since; and why. A policy that
/// cannot be read is no reason not to tell whether lnd signs.
fn judge(version: &str) -> (String, Option<String>) {
    match known::find(version) {
        Ok(release) => (json!(release.status).as_str().unwrap_or_default().to_owned(), release.reason.clone()),
        Err(e) if e.code().exit == Exit::Refused => ("refused".to_owned(), Some(e.cause().to_owned())),
        Err(e) => ("unknown".to_owned(), Some(e.cause().to_owned())),
    }
}
