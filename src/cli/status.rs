//! `lsm status`: what is true of the running signer; it succeeds only where lnd can sign.

use crate::backend::{Layout, control, native};
use crate::cli::cert;
use crate::cli::release::in_words;
use crate::cli::{Common, install, machine};
use crate::error::{Code, Error, Exit, Result};
use crate::facts::{self, units::UnitFile};
use crate::plan::{self, History, Register, Step};
use crate::release::Installed;
use crate::release::pins;
use crate::sandbox::landlock::Interface;
use crate::signer::wallet::State;
use crate::spec::{Instance, Spec};
use crate::ui::{self, say};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::OffsetDateTime;

const NOT_INSTALLED: Code = Code::refused("E-STATUS-001");

/// Runs it. Needs root, or the proxy's group: nobody else may enter the socket's folder.
///
/// # Errors
/// Where there is no such signer.
pub fn run(common: &Common) -> Result<ExitCode> {
    let layout = Layout::new(&common.instance);
    let cut_off = History::read(&layout.journal()).ok().as_ref().and_then(machine::describe_cut_off);
    let spec = native::read_spec(&layout.spec()).map_err(|e| {
        let begun = cut_off.as_ref().map(|what| format!("; {what}")).unwrap_or_default();
        Error::new(NOT_INSTALLED, format!("this host has no signer called {}{begun}", common.instance))
            .hint("make one with: lsm install --network NETWORK")
            .because(e)
    })?;
    let layout = Layout::of(&spec);
    let state = plan::open(&layout.door()).and_then(|node| node.state());
    let signs = matches!(state, Ok(State::Active));
    let why = match &state {
        Ok(State::Active) => None,
        Ok(state) => Some(format!("lnd is {}", state.words())),
        Err(e) => Some(e.to_string()),
    };
    let port_is_open = control::is_open(&spec);
    // A unit that is not active has no filter, and no port either.
    let unit_filters =
        (port_is_open && spec.docker.is_none()).then(|| facts::filters_addresses(&layout.public_unit(&spec)));
    // What is told of lnd's past must not keep anybody from learning whether it signs.
    let lnd = Installed::read(&Path::new(native::RELEASES).join(&spec.release)).unwrap_or_else(|e| {
        ui::note(&format!("where lnd came from cannot be told: {e}"));
        None
    });
    let (judgement, reason) = judge(&spec.release);
    let landlock = Interface::of_kernel();
    let receipt = plan::read_receipt(&layout.receipt()).ok();
    let (certificate, now) = (cert::read(&layout.door().certificate).ok(), OffsetDateTime::now_utc());
    let next = cert::read_next(&layout).unwrap_or_default();
    let register = Register::read(&layout.register()).unwrap_or_default();
    let retiring: Vec<u64> = register.retiring().iter().map(|entry| entry.root_key).collect();
    let drift = Drift::look(&spec);
    let filtered = facts::is_active("lsm-firewall.service") && drift.filter != Some(false);
    if ui::voice().json {
        let object = json!({
            "instance": spec.instance, "network": spec.network, "release": spec.release, "signs": signs,
            "listen": spec.listen, "allow": spec.allow, "port_open": port_is_open, "filtered": filtered,
            "unit_filters": unit_filters,
            "certificate": certificate.map(|certificate| cert::to_json(&certificate, now)),
            "next_certificate": next.map(|next| cert::to_json(&next, now)),
            "retiring_root_keys": retiring,
            "identity_pubkey": receipt.map(|r| r.identity_pubkey),
            "landlock": {
                "abi": landlock.number(), "missing": landlock.missing(), "required": spec.require_landlock,
            },
            "drift": drift.steps, "drift_unknown": drift.unknown, "general_drop_ins": drift.general,
            "cut_off": cut_off,
            "why": why, "judgement": judgement, "judgement_reason": reason, "lnd": lnd,
        });
        say!("{object}");
    } else {
        let yes = |is: bool| if is { "yes" } else { "NO" };
        say!("signer     {} on {}, lnd {}", spec.instance, spec.network, spec.release);
        if let Some(reason) = reason {
            say!("judgement  {judgement}: {reason}");
        }
        say!("can sign   {}{}", yes(signs), why.map(|why| format!(": {why}")).unwrap_or_default());
        say!("port open  {} ({})", yes(port_is_open), spec.listen);
        let twice = match unit_filters {
            Some(true) => ", and once more by the unit",
            Some(false) => "; not by the unit: systemd has no eBPF for control groups here",
            None => "",
        };
        say!("filtered   {}{twice}", yes(filtered));
        say!("sandbox    {landlock}");
        if let Some(certificate) = certificate {
            say!("TLS until  {}", cert::describe_end(&certificate, now));
        }
        if let Some(next) = next {
            say!(
                "renewal    {} is in the bundle; once the other side has that: lsm cert renew --finish",
                next.fingerprint()
            );
        }
        if !retiring.is_empty() {
            say!("rotation   once the other side has the new macaroon: lsm macaroon rotate --finish");
        }
        if let Some(what) = cut_off {
            say!("unfinished {what}");
        }
        drift.show(&spec);
        if let Some(receipt) = receipt {
            say!("identity   {}", receipt.identity_pubkey);
        }
        if let Some(lnd) = lnd {
            say!("lnd is     the archive with sha256 {}, verified {}", lnd.sha256, lnd.at);
            lnd.provenance.iter().for_each(|provenance| say!("           {}", in_words(provenance)));
        }
    }
    Ok(if signs { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) })
}

/// How the machine differs from what is wanted of this signer.
struct Drift {
    /// What `lsm install` would do, in its own words; `None` where that cannot be told.
    steps: Option<Vec<String>>,
    /// Why it cannot be told, or not in full.
    unknown: Option<String>,
    /// The live packet filter is what is wanted; `None` where that cannot be told.
    filter: Option<bool>,
    /// Drop-ins for every unit: they say something of the signer's too, and are not lsm's to take away.
    general: Vec<PathBuf>,
}

impl Drift {
    fn look(spec: &Spec) -> Self {
        let (plan, facts) = match install::drift(spec.clone()) {
            Ok(seen) => seen,
            Err(e) => return Self { steps: None, unknown: Some(e.to_string()), filter: None, general: vec![] },
        };
        let unknown = match facts.filter {
            _ if !facts.root => Some("only root sees the packet filter and what is secret".to_owned()),
            None => Some("the packet filter that is wanted cannot be tried beside the live one".to_owned()),
            Some(_) => None,
        };
        let general = facts.unit_files.into_iter().filter(UnitFile::is_general).map(|file| file.path).collect();
        let steps = plan.steps.iter().map(Step::describe).collect();
        Self { steps: Some(steps), unknown, filter: facts.filter, general }
    }

    fn show(&self, spec: &Spec) {
        let because = self.unknown.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.steps.as_deref() {
            None => say!("as wanted  cannot be told{because}"),
            Some([]) if self.unknown.is_some() => say!("as wanted  as far as can be seen{because}"),
            Some([]) => say!("as wanted  yes"),
            Some(steps) => {
                for (place, step) in steps.iter().enumerate() {
                    say!("{}  {step}", if place == 0 { "as wanted  NO:" } else { "              " });
                }
                let instance = if spec.instance == Instance::default() {
                    String::new()
                } else {
                    format!(" --instance {}", spec.instance)
                };
                say!("           put it right with: sudo lsm install --network {}{instance}", spec.network);
            }
        }
        for path in &self.general {
            say!("besides    {} is for every unit, this signer's too; lsm leaves it there", path.display());
        }
    }
}

/// What the policy in force says of the installed lnd now, which may have become stricter since; and why. A policy that
/// cannot be read is no reason not to tell whether lnd signs.
fn judge(version: &str) -> (String, Option<String>) {
    match pins::find(version) {
        Ok(release) => (json!(release.status).as_str().unwrap_or_default().to_owned(), release.reason.clone()),
        Err(e) if e.code().exit == Exit::Refused => ("refused".to_owned(), Some(e.cause().to_owned())),
        Err(e) => ("unknown".to_owned(), Some(e.cause().to_owned())),
    }
}
