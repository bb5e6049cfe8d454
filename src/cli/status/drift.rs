//! How the machine differs from what is wanted of a signer, told by `lsm status`.

use crate::cli::install;
use crate::facts::units::UnitFile;
use crate::plan::Step;
use crate::spec::{Instance, Places, Spec};
use crate::ui::say;
use std::path::PathBuf;

/// How the machine differs from what is wanted of this signer.
pub(super) struct Drift {
    /// What `lsm install` would do, in its own words; `None` where that cannot be told.
    pub(super) steps: Option<Vec<String>>,
    /// Why it cannot be told, or not in full.
    pub(super) unknown: Option<String>,
    /// The live packet filter is what is wanted; `None` where that cannot be told.
    pub(super) filter: Option<bool>,
    /// Drop-ins for every unit: they say something of the signer's too, and are not lsm's to take away.
    pub(super) general: Vec<PathBuf>,
}

impl Drift {
    pub(super) fn look(spec: &Spec) -> Self {
        let (plan, facts) = match install::drift(spec.clone()) {
            Ok(seen) => seen,
            Err(e) => return Self { steps: None, unknown: Some(e.to_string()), filter: None, general: vec![] },
        };
        let unknown = match facts.filter {
            // All of it is the user's own, and no packet filter.
            _ if Places::of(spec).are_users() => None,
            _ if !facts.root => Some("only root sees the packet filter and what is secret".to_owned()),
            None => Some("the packet filter that is wanted cannot be tried beside the live one".to_owned()),
            Some(_) => None,
        };
        let general = facts.unit_files.into_iter().filter(UnitFile::is_general).map(|file| file.path).collect();
        let steps = plan.steps.iter().map(Step::describe).collect();
        Self { steps: Some(steps), unknown, filter: facts.filter, general }
    }

    pub(super) fn show(&self, spec: &Spec) {
        let because = self.unknown.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.steps.as_deref() {
            None => say!("as wanted  cannot be told{because}"),
            Some([]) if self.unknown.is_some() => say!("as wanted  as far as can be seen{because}"),
            Some([]) => say!("as wanted  yes"),
            Some(steps) => {
                for (place, step) in steps.iter().enumerate() {
                    say!("{}  {step}", if place == 0 { "as wanted  NO:" } else { "              " });
                }
                say!("           put it right with: {}", install_again(spec));
            }
        }
        for path in &self.general {
            say!("besides    {} is for every unit, this signer's too; lsm leaves it there", path.display());
        }
    }
}

/// The command that makes the signer what is wanted.
pub(super) fn install_again(spec: &Spec) -> String {
    format!("{}lsm install --network {}{}", sudo(spec), spec.network, of_instance(&spec.instance))
}

/// What goes before a command that changes the signer.
pub(super) fn sudo(spec: &Spec) -> &'static str {
    if Places::of(spec).are_users() { "" } else { "sudo " }
}

/// What names the signer on the command line, where it has to be named.
pub(super) fn of_instance(instance: &Instance) -> String {
    if *instance == Instance::default() { String::new() } else { format!(" --instance {instance}") }
}
