//! Each lnd on a host: its process, what it was told to do, and what lsm knows of it.

mod process;
mod settings;

pub use process::Process;
pub use settings::Settings;

use super::accounts::of_uid;
use super::{Answer, Container};
use crate::host::file;
use crate::render::container::{CERTIFICATE, HOME, RUN};
use crate::spec::{Docker, Instance, Places, Spec};
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
    /// The container that it is in; absent where it is in none.
    #[serde(default = "no_container")]
    pub container: Answer<Container>,
}

const fn no_container() -> Answer<Container> {
    Answer::Absent
}

/// The engine's socket, where lsm was not told of another.
const ENGINE: &str = "/run/docker.sock";

/// The instance of lsm's that was asked for, where there is one, then every lnd that none of lsm's instances answers for.
pub(super) fn find(instance: &Instance, places: &Places) -> Vec<Signer> {
    let mut running: BTreeMap<String, Process> = BTreeMap::new();
    for process in process::find() {
        let name = process.unit.clone().unwrap_or_else(|| format!("process {}", process.pid));
        // Two in one unit are two signers.
        let taken = running.contains_key(&name);
        running.insert(if taken { format!("{name}, process {}", process.pid) } else { name }, process);
    }
    let own = read_spec(&places.spec(instance));
    let mut signers = Vec::new();
    match &own {
        Answer::Absent => {}
        Answer::Is(Spec { docker: Some(docker), .. }) => {
            let container = Container::look(&docker.engine, &docker.container);
            let process = take_contained(&mut running, docker, &container);
            signers.push(Signer::contained(own.clone(), docker, container, process));
        }
        _ => {
            let process = running.remove(&unit_of(instance.as_str()));
            signers.push(Signer::installed(instance, own.clone(), process));
        }
    }
    let others = other_containers(instance, places);
    let is_of_lsm = |name: &str, process: &Process| {
        let other = name.strip_prefix("lsm@").and_then(|rest| rest.strip_suffix(".service"));
        let is_contained = || others.iter().any(|docker| process.is_contained() && process.uid == Some(docker.uid));
        other.is_some_and(|other| other.parse().is_ok_and(|other| Places::MACHINE.spec(&other).exists()))
            || is_contained()
    };
    signers.extend(running.into_iter().filter(|(name, p)| !is_of_lsm(name, p)).map(|(name, p)| Signer::found(name, p)));
    signers
}

fn read_spec(place: &Path) -> Answer<Spec> {
    let own = Answer::of_file(place, || file::read_text(place)).map(|text| toml::from_str::<Spec>(&text));
    match own {
        Answer::Is(Ok(spec)) => Answer::Is(spec),
        Answer::Is(Err(_)) => Answer::Unknown(format!("{} is no signer's spec", place.display())),
        Answer::Absent => Answer::Absent,
        Answer::Unknown(why) => Answer::Unknown(why),
    }
}

/// The process of an lnd in its container; where the engine does not tell which that is, the one of its user.
fn take_contained(
    running: &mut BTreeMap<String, Process>,
    docker: &Docker,
    container: &Answer<Container>,
) -> Option<Process> {
    let is_it = |process: &Process| match container {
        Answer::Is(container) => process.container() == Some(&container.id),
        Answer::Absent => false,
        Answer::Unknown(_) => process.is_contained() && process.uid == Some(docker.uid),
    };
    let name = running.iter().find(|(_, process)| is_it(process)).map(|(name, _)| name.clone())?;
    running.remove(&name)
}

/// What lsm's other instances have in containers.
fn other_containers(instance: &Instance, places: &Places) -> Vec<Docker> {
    let Answer::Is(files) = super::names(&places.settings()) else { return Vec::new() };
    let own = places.spec(instance);
    let others = files.iter().filter(|path| **path != own && path.extension().is_some_and(|kind| kind == "toml"));
    let specs = others.filter_map(|path| read_spec(path).take().ok().flatten());
    specs.filter_map(|spec| spec.docker).collect()
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
            container: Answer::Absent,
        }
    }

    fn contained(spec: Answer<Spec>, docker: &Docker, container: Answer<Container>, process: Option<Process>) -> Self {
        let arguments = process.as_ref().map(|process| process.arguments()).unwrap_or_default();
        Self {
            name: format!("container {}", docker.container),
            spec,
            settings: settings::read(&docker.folder.join("signer-lnd.conf"), &arguments),
            folder: Some(docker.data.clone()),
            user: of_uid(docker.uid).map(|(name, _)| name),
            process: process.map_or(Answer::Absent, Answer::Is),
            container,
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
        let container = process.container().map_or(Answer::Absent, |id| Container::look(Path::new(ENGINE), id));
        let name = match &container {
            Answer::Is(container) => format!("container {}", container.name),
            _ => name,
        };
        Self { name, spec: Answer::Absent, settings, folder, user, process: Answer::Is(process), container }
    }

    /// What lsm was told of its container; nothing where lsm made none.
    pub fn docker(&self) -> Option<&Docker> {
        match &self.spec {
            Answer::Is(spec) => spec.docker.as_ref(),
            _ => None,
        }
    }

    /// Where its folder or its program is on this host. Of a container that lsm made both are named so already.
    pub fn here(&self, path: &Path) -> PathBuf {
        if self.docker().is_some() { path.to_owned() } else { self.outside(path) }
    }

    /// The same of a container of lsm's that its engine tells nothing of.
    fn mounted(&self, path: &Path) -> Option<PathBuf> {
        let (Answer::Is(spec), Some(docker)) = (&self.spec, self.docker()) else { return None };
        let certificate = Places::of(spec).settings().join(spec.instance.as_str()).join("tls.cert");
        let places = [(RUN, docker.folder.join("run")), (HOME, docker.data.clone()), (CERTIFICATE, certificate)];
        places.into_iter().find_map(|(inside, here)| match path.strip_prefix(inside) {
            Ok(rest) if rest.as_os_str().is_empty() => Some(here),
            rest => rest.ok().map(|rest| here.join(rest)),
        })
    }

    /// A path as lnd has it, as this host has it: a container's lnd has another root, and the host's files in it.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let mounted = self.container.get().ok().flatten().and_then(|container| container.outside(path));
        if let Some(mounted) = mounted.or_else(|| self.mounted(path)) {
            return mounted;
        }
        match &self.process {
            Answer::Is(process) => process.sees(path),
            _ => path.to_owned(),
        }
    }
}
