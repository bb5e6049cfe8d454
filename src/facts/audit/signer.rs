//! Each lnd on a host: its process, what it was told to do, and what lsm knows of it.

mod paths;
mod process;
mod settings;

pub use process::Process;
pub use settings::Settings;

use super::accounts::{of_uid, uid_of};
use super::container::{Engines, USUAL};
use super::{Answer, Container, names};
use crate::host::file;
use crate::render::container::{CERTIFICATE, HOME, RUN};
use crate::spec::{Docker, Instance, Places, Spec};
use paths::Paths;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// Where the wallet is on this host, where its settings put it outside of that folder.
    #[serde(default = "Answer::absent")]
    pub data: Answer<PathBuf>,
    /// The user that it runs as, where that user has a name.
    pub user: Option<String>,
    /// The container that it is in; absent where it is in none.
    #[serde(default = "Answer::absent")]
    pub container: Answer<Container>,
    /// It is another of lsm's instances than the one that was asked for, which has a journal of its own.
    #[serde(default)]
    pub other: bool,
}

/// The instance of lsm's that was asked for, where there is one, its others, running or not, then every further lnd that runs.
pub(super) fn find(instance: &Instance, places: &Places, engines: &Engines) -> Vec<Signer> {
    let mut running = process::find();
    let asked = places.spec(instance);
    let (mut files, mut unseen) = (vec![asked.clone()], None);
    for folder in BTreeSet::from([places.settings(), Places::MACHINE.settings()]) {
        match names(&folder) {
            Answer::Is(all) => files.extend(all.into_iter().filter(|file| *file != asked)),
            Answer::Absent => {}
            Answer::Unknown(why) => unseen = Some(why),
        }
    }
    let mut signers = Vec::new();
    for file in files {
        let Some(instance) = instance_in(&file) else { continue };
        let spec = read_spec(&file);
        if spec != Answer::Absent {
            signers.push(Signer { other: file != asked, ..Signer::of_lsm(&instance, spec, &mut running, engines) });
        }
    }
    signers.extend(unseen.map(Signer::unseen));
    let mut found: Vec<Signer> = running.into_iter().map(|process| Signer::found(process, engines)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    signers.extend(found);
    tell_apart(&mut signers);
    signers
}

/// Whose spec a file is: launch policies, the guard's and the waivers have names that no instance has.
fn instance_in(file: &Path) -> Option<Instance> {
    file.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()
}

/// Two in one unit or container are two signers, and what is known of each goes by its name.
fn tell_apart(signers: &mut [Signer]) {
    let mut taken = BTreeSet::new();
    for (at, signer) in signers.iter_mut().enumerate() {
        if taken.contains(&signer.name) {
            let which = match &signer.process {
                Answer::Is(process) => format!("process {}", process.pid),
                _ => format!("number {}", at + 1),
            };
            signer.name = format!("{}, {which}", signer.name);
        }
        taken.insert(signer.name.clone());
    }
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

/// Takes the first process that `is_it` of those that run.
fn take(running: &mut Vec<Process>, is_it: impl Fn(&Process) -> bool) -> Option<Process> {
    let at = running.iter().position(is_it)?;
    Some(running.remove(at))
}

/// The process of an lnd in its container; where the engine does not tell which that is, the one of its user.
fn take_contained(running: &mut Vec<Process>, docker: &Docker, container: &Answer<Container>) -> Option<Process> {
    take(running, |process| match container {
        Answer::Is(container) => process.container() == Some(&container.id),
        Answer::Absent => false,
        Answer::Unknown(_) => process.is_contained() && process.uid == Some(docker.uid),
    })
}

impl Signer {
    fn of_lsm(instance: &Instance, spec: Answer<Spec>, running: &mut Vec<Process>, engines: &Engines) -> Self {
        if let Answer::Is(Spec { docker: Some(docker), .. }) = &spec {
            let container = engines.look(&docker.engine, &docker.container);
            let process = take_contained(running, docker, &container);
            return Self::contained(spec.clone(), docker, container, process);
        }
        let unit = format!("lsm@{instance}.service");
        let process = take(running, |process| process.unit.as_deref() == Some(unit.as_str()));
        Self::installed(instance, unit, spec, process)
    }

    fn installed(instance: &Instance, unit: String, spec: Answer<Spec>, process: Option<Process>) -> Self {
        let user = format!("lsm-{instance}");
        let listed = || uid_of(&user).and_then(of_uid).map(|(_, home)| home);
        let conf = format!("/etc/lsm/{instance}-lnd.conf");
        let (settings, data) = told(Path::new(&conf), &Paths { process: process.as_ref(), listed: &listed });
        let signer = Self {
            name: unit,
            spec,
            settings,
            folder: Some(format!("/var/lib/lsm/{instance}").into()),
            data: Answer::Absent,
            user: Some(user),
            process: process.map_or(Answer::Absent, Answer::Is),
            container: Answer::Absent,
            other: false,
        };
        signer.with_data(data)
    }

    fn contained(spec: Answer<Spec>, docker: &Docker, container: Answer<Container>, process: Option<Process>) -> Self {
        let own = of_uid(docker.uid);
        let listed = || own.clone().map(|(_, home)| home);
        let conf = docker.folder.join("signer-lnd.conf");
        let (settings, data) = told(&conf, &Paths { process: process.as_ref(), listed: &listed });
        let signer = Self {
            name: format!("container {}", docker.container),
            spec,
            settings,
            folder: Some(docker.data.clone()),
            data: Answer::Absent,
            user: own.map(|(name, _)| name),
            process: process.map_or(Answer::Absent, Answer::Is),
            container,
            other: false,
        };
        signer.with_data(data)
    }

    fn found(process: Process, engines: &Engines) -> Self {
        let (user, home) = process.uid.and_then(of_uid).unzip();
        let listed = || home.clone();
        let paths = Paths { process: Some(&process), listed: &listed };
        let told = process.arguments().map(settings::from_arguments);
        let conf = told.as_ref().map_err(Clone::clone).and_then(|told| Ok((settings::conf(told, &paths)?, told)));
        let settings = match conf {
            Ok(((conf, is_named), told)) => settings::read(&process.sees(&conf), is_named, told, &paths),
            Err(why) => Answer::Unknown(why.to_string()),
        };
        let folder = told.and_then(|told| settings::folder(&settings, &told, &paths)).ok();
        let data = settings::data(&settings, &paths);
        let container = process.container().map_or(Answer::Absent, |id| engines.look(Path::new(USUAL), id));
        let name = match &container {
            Answer::Is(container) => format!("container {}", container.name),
            _ => process.unit.clone().unwrap_or_else(|| format!("process {}", process.pid)),
        };
        let signer = Self {
            name,
            spec: Answer::Absent,
            settings,
            folder,
            data: Answer::Absent,
            user,
            process: Answer::Is(process),
            container,
            other: false,
        };
        signer.with_data(data)
    }

    /// Those of lsm's instances whose specs nobody can list.
    fn unseen(why: String) -> Self {
        Self {
            name: "lsm's other signers".to_owned(),
            spec: Answer::Unknown(why.clone()),
            process: Answer::Unknown(why.clone()),
            settings: Answer::Unknown(why.clone()),
            folder: None,
            data: Answer::Unknown(why.clone()),
            user: None,
            container: Answer::Unknown(why),
            other: true,
        }
    }

    /// With where its data is, as lnd sees that: what is in its folder is looked at there.
    fn with_data(mut self, data: Answer<PathBuf>) -> Self {
        let folder = self.folder.as_deref().map(|folder| self.here(folder));
        self.data = match data.map(|data| self.outside(&data)) {
            Answer::Is(data) if folder.as_ref().is_some_and(|folder| data.starts_with(folder)) => Answer::Absent,
            data => data,
        };
        self
    }

    /// What was seen at a place that lnd makes when it starts: while it runs, what is not there is somewhere else.
    pub(super) fn made<T>(&self, seen: Answer<T>) -> Answer<T> {
        match (seen, &self.process) {
            (Answer::Absent, Answer::Is(_)) => {
                Answer::Unknown("lnd runs, and its folder is not where it is said to be".to_owned())
            }
            (seen, _) => seen,
        }
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

/// What an lnd of lsm's was told, and where its data is as it sees that: its unit or container names the file.
fn told(conf: &Path, paths: &Paths<'_>) -> (Answer<Settings>, Answer<PathBuf>) {
    let settings = match paths.process.map_or(Ok(&[][..]), Process::arguments) {
        Ok(arguments) => settings::read(conf, true, &settings::from_arguments(arguments), paths),
        Err(why) => Answer::Unknown(why.to_string()),
    };
    let data = settings::data(&settings, paths);
    (settings, data)
}

#[cfg(test)]
pub(super) use tests::running;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Network;
    use std::fs;
    use std::process::{Command, Stdio};

    /// An lnd that runs, and has this folder.
    pub fn running(folder: &Path) -> Signer {
        Signer {
            name: "lnd".to_owned(),
            spec: Answer::Absent,
            process: Answer::Is(process::look(std::process::id())),
            settings: Answer::Is(Settings::default()),
            folder: Some(folder.to_owned()),
            data: Answer::Absent,
            user: None,
            container: Answer::Absent,
            other: false,
        }
    }

    #[test]
    fn every_instance_of_lsms_is_found_and_the_one_that_was_asked_for_comes_first() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::below_home(home.path());
        fs::create_dir_all(places.settings()).unwrap();
        for name in ["second", "signer"] {
            let spec = Spec::new(&name.parse().unwrap(), Network::Regtest, "v0.21.3-beta");
            fs::write(places.spec(&spec.instance), toml::to_string(&spec).unwrap()).unwrap();
        }
        for other in ["third.toml", "signer-launch.toml", "waivers.toml", "fourth.conf"] {
            fs::write(places.settings().join(other), "x = 1\n").unwrap();
        }
        let of_test = ["lsm@second.service", "lsm@signer.service", "lsm@third.service"];
        let mut found = find(&"signer".parse().unwrap(), &places, &Engines::new());
        found.retain(|signer| of_test.contains(&signer.name.as_str()));
        let told: Vec<_> = found.iter().map(|signer| (signer.name.as_str(), signer.other)).collect();
        assert_eq!(told, [(of_test[1], false), (of_test[0], true), (of_test[2], true)]);
        assert!(matches!(found[1].spec, Answer::Is(_)) && matches!(found[2].spec, Answer::Unknown(_)));
        assert!(found.iter().all(|signer| matches!(signer.process, Answer::Absent)));
    }

    #[test]
    fn two_of_one_name_are_told_apart() {
        let folder = Path::new("/x");
        let mut all = [running(folder), running(folder), Signer { process: Answer::Absent, ..running(folder) }];
        tell_apart(&mut all);
        let second = format!("lnd, process {}", std::process::id());
        assert_eq!(all.map(|signer| signer.name), ["lnd", second.as_str(), "lnd, number 3"]);
    }

    #[test]
    fn data_is_looked_at_apart_only_where_it_is_apart() {
        let signer = || running(Path::new("/a/b"));
        assert_eq!(signer().with_data(Answer::Is("/a/b/data".into())).data, Answer::Absent);
        let Answer::Is(data) = signer().with_data(Answer::Is("/srv/x".into())).data else { panic!("it is apart") };
        assert!(data.ends_with("srv/x"), "{data:?}");
        let unknown = Answer::Unknown("no".to_owned());
        assert_eq!(signer().with_data(unknown.clone()).data, unknown);
    }

    #[test]
    fn what_is_not_where_a_running_lnd_has_it_is_not_known() {
        let running = running(Path::new("/none"));
        assert!(matches!(running.made(Answer::<()>::Absent), Answer::Unknown(_)));
        assert_eq!(running.made(Answer::Is(1)), Answer::Is(1));
        let resting = Signer { process: Answer::Absent, ..running };
        assert_eq!(resting.made(Answer::<()>::Absent), Answer::Absent);
    }

    #[test]
    fn a_process_is_told_what_lnd_makes_of_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("lnd")).unwrap();
        fs::write(dir.join("lnd/lnd.conf"), "NoMacaroons=1\n").unwrap();
        for (folder, is_there) in [("$WHERE/lnd", true), ("lnd", true), ("$WHERE/none", false)] {
            let mut child = Command::new("sh")
                .args(["-c", "read line", "lnd", &format!("--lnddir={folder}")])
                .current_dir(&dir)
                .env("WHERE", &dir)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            // Its arguments come a moment after its program.
            let process = (0..1000).map(|_| process::look(child.id())).find(|process| process.arguments().is_ok());
            let signer = Signer::found(process.unwrap(), &Engines::new());
            child.kill().unwrap();
            child.wait().unwrap();
            let named = if is_there { "lnd" } else { "none" };
            assert_eq!(signer.folder, Some(dir.join(named)), "{folder}");
            let is_on = signer.settings.get().ok().flatten().map(|settings| settings.is_on("no-macaroons"));
            assert_eq!(is_on, is_there.then_some(true), "{folder}");
        }
    }
}
