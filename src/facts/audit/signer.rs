//! Each lnd on a host: its process, what it was told to do, and what lsm knows of it.

mod process;
mod settings;

pub use process::Process;
pub use settings::Settings;

use super::Answer;
use super::accounts::of_uid;
use crate::host::file;
use crate::spec::{Instance, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One lnd: under a unit of lsm's, or however else it came to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signer {
    /// How it is called: its systemd unit, or what else holds the process.
    pub name: String,
    /// What lsm was asked to make of it; absent where lsm did not install it.
    pub spec: Answer<Spec>,
    /// Its process; absent where it does not run.
    pub process: Answer<Process>,
    /// What it was told by its settings file and its arguments.
    pub settings: Answer<Settings>,
    /// Its folder, where the wallet is.
    pub folder: Option<PathBuf>,
    /// The user that it runs as, where that user has a name.
    pub user: Option<String>,
}

/// The instance of lsm's that was asked for, where there is one, then every lnd that none of lsm's instances answers for.
pub(super) fn find(instance: &Instance) -> Vec<Signer> {
    let mut running: BTreeMap<String, Process> = BTreeMap::new();
    for process in process::find() {
        let name = process.unit.clone().unwrap_or_else(|| format!("process {}", process.pid));
        // Two in one unit are two signers.
        let taken = running.contains_key(&name);
        running.insert(if taken { format!("{name}, process {}", process.pid) } else { name }, process);
    }
    let place = place_of(instance.as_str());
    let own = Answer::of_file(&place, || file::read_text(&place)).map(|text| toml::from_str::<Spec>(&text));
    let unit = unit_of(instance.as_str());
    let mut signers = Vec::new();
    let spec = match own {
        Answer::Is(Ok(spec)) => Answer::Is(spec),
        Answer::Is(Err(_)) => Answer::Unknown(format!("{} is no signer's spec", place.display())),
        Answer::Absent => Answer::Absent,
        Answer::Unknown(why) => Answer::Unknown(why),
    };
    if spec != Answer::Absent {
        signers.push(Signer::installed(instance, spec, running.remove(&unit)));
    }
    let is_of_lsm = |name: &str| {
        let other = name.strip_prefix("lsm@").and_then(|rest| rest.strip_suffix(".service"));
        other.is_some_and(|other| place_of(other).exists())
    };
    signers.extend(running.into_iter().filter(|(name, _)| !is_of_lsm(name)).map(|(name, p)| Signer::found(name, p)));
    signers
}

fn place_of(instance: &str) -> PathBuf {
    format!("/etc/lsm/{instance}.toml").into()
}

fn unit_of(instance: &str) -> String {
    format!("lsm@{instance}.service")
}

impl Signer {
    fn installed(instance: &Instance, spec: Answer<Spec>, process: Option<Process>) -> Self {
        let conf: PathBuf = format!("/etc/lsm/{instance}-lnd.conf").into();
        let arguments = process.as_ref().map(|process| process.arguments()).unwrap_or_default();
        Self {
            name: unit_of(instance.as_str()),
            spec,
            settings: settings::read(&conf, &arguments),
            folder: Some(format!("/var/lib/lsm/{instance}").into()),
            user: Some(format!("lsm-{instance}")),
            process: process.map_or(Answer::Absent, Answer::Is),
        }
    }

    fn found(name: String, process: Process) -> Self {
        let (user, home) = process.uid.and_then(of_uid).unzip();
        let arguments = process.arguments();
        let folder = settings::folder(&arguments, home.as_deref());
        let conf = settings::conf(&arguments, folder.as_deref());
        let settings = match conf {
            Some(conf) => settings::read(&process.sees(&conf), &arguments),
            None => Answer::Unknown("its arguments name no settings file, and its user has no home".to_owned()),
        };
        Self { name, spec: Answer::Absent, settings, folder, user, process: Answer::Is(process) }
    }

    /// A path of the signer's as this host has it: a container's lnd has another root.
    pub fn outside(&self, path: &Path) -> PathBuf {
        match &self.process {
            Answer::Is(process) => process.sees(path),
            _ => path.to_owned(),
        }
    }
}
