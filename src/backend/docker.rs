//! The Docker backend: an image of lsm's own, a container that may do nothing else, and the packet filter in front of it.

mod control;
mod settle;
pub mod trial;

pub use control::{pid, read_log, runs, show_log, start, stop};
pub use settle::{check, check_files, check_volume, hold_own, settle};

use crate::backend::Layout;
use crate::backend::native::{self, FLUSHES, Wishes, beside_flushes, drop_in, folder, text, unit_path};
use crate::bundle;
use crate::engine::{Bounds, Engine, Image, Kind, Object};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::user;
use crate::host::user::Owner;
use crate::plan::step::{Access, LNCLI_MODE, Runner, Step};
use crate::release::pins::{Arch, Release};
use crate::release::{self, Archive, Verified};
use crate::render::compose::{Litd, render_compose};
use crate::render::container::{self, Files, Frame, Home, Place};
use crate::render::launch::{LaunchPolicy, render_launch_policy};
use crate::render::lnd_conf::{LndConf, Tls, render_lnd_conf};
use crate::render::unit::UNITS;
use crate::spec::docker::{CREATE, Docker, IMAGE, PORT, Reference};
use crate::spec::{Places, Spec};
use crate::watch_only::CREDENTIALS;
use settle::hold_loopback;
use std::path::{Path, PathBuf};

const NO_CONTAINER: Code = Code::refused("E-DOCKER-003");

/// What a container's signer is, where `spec` is one.
///
/// # Errors
/// Where systemd runs it.
pub fn of(spec: &Spec) -> Result<&Docker> {
    spec.docker
        .as_ref()
        .ok_or_else(|| Error::new(NO_CONTAINER, format!("the signer {} is in no container", spec.instance)))
}

/// The official archive of `release`, of the programs in an image; what of it the engine holds meanwhile has the container's name
/// in its own.
///
/// # Errors
/// Where the engine cannot get the image, or it holds another lnd.
pub fn lnd_of(
    docker: &Docker,
    image: &Reference,
    release: &Release,
    arch: Arch,
    cache: &Path,
) -> Result<Verified<Archive>> {
    let engine = Engine::open(&docker.engine)?;
    let aside = aside(docker);
    release::from_image(&image.to_string(), release, arch, cache, &cache.join(&aside), |names, to| {
        engine.take(image, names, &aside, to)
    })
}

/// Takes away what a run of [`lnd_of`] left that was cut off: of the engine's and in `cache`.
///
/// # Errors
/// Where the engine does not.
pub fn take_back(docker: &Docker, cache: &Path) -> Result<()> {
    let aside = aside(docker);
    release::take_back(cache, &cache.join(&aside), |to| Engine::open(&docker.engine)?.take_back(&aside, to))
}

/// The container out of which lnd is taken, and the folder in the cache that its programs are in meanwhile: each signer has its
/// own.
fn aside(docker: &Docker) -> String {
    format!("{}{IMAGE}", docker.container)
}

/// The volume that holds the signer's wallet, where one does.
fn volume(docker: &Docker) -> Option<Object> {
    let name = docker.volume.clone()?;
    Some(Object { engine: docker.engine.clone(), object: Kind::Volume, name })
}

/// Whose lnd and its files are.
pub fn owner(docker: &Docker) -> Owner {
    let Docker { uid, .. } = *docker;
    if docker.is_users() { user::owner_of(uid) } else { Owner { uid, gid: uid } }
}

/// The signer's container.
pub fn container(docker: &Docker) -> Object {
    Object { engine: docker.engine.clone(), object: Kind::Container, name: docker.container.clone() }
}

/// How the names of all images of an lnd begin. They are a signer's own, for its folder is of the user that the container has.
fn image_names(docker: &Docker, version: &str) -> String {
    format!("lsm-signer:{version}-{}-", docker.uid)
}

/// The images of these versions of lnd that the engine holds for the signer; none where it cannot be asked.
pub(super) fn images(docker: &Docker, versions: &[String]) -> Vec<Object> {
    let list = |version| Engine::open(&docker.engine)?.images(&image_names(docker, version));
    let names = versions.iter().filter_map(|version| list(version).ok()).flatten();
    names.map(|name| Object { engine: docker.engine.clone(), object: Kind::Image, name }).collect()
}

/// What runs lnd while it is to have no port.
///
/// # Errors
/// Where the spec is of no container.
pub fn runner(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Runner> {
    Build::of(spec, release, arch, wishes, facts)?.runner()
}

/// The steps from a bare host with an engine to a running signer, in order; the published port is the last.
///
/// # Errors
/// As those of the native backend.
pub fn steps(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    native::public_port(spec)?;
    hold_loopback(spec, of(spec)?)?;
    let build = Build::of(spec, release, arch, wishes, facts)?;
    let mut steps = build.ground();
    steps.extend(build.program()?);
    // Before anything that an upgrade stops the signer for.
    steps.extend(build.engine());
    steps.extend(build.settings()?);
    if !build.docker.is_users() {
        steps.extend(build.filter()?);
    }
    steps.extend(build.accesses(&steps));
    if !wishes.no_wallet {
        steps.extend(wishes.adopt_step(spec));
        steps.push(build.wallet()?);
        steps.push(build.service()?);
        steps.extend(native::bundle_steps(spec, &wishes.bundle, wishes.handed));
    }
    Ok(steps)
}

/// The signer's container as a compose file, with a litd beside it.
///
/// # Errors
/// Where it is in none, or a text cannot be rendered.
pub fn compose(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<String> {
    let docker = of(spec)?;
    let service = steps(spec, release, arch, wishes, facts)?.into_iter().find_map(|step| match step {
        Step::Container { body, .. } => Some(body),
        _ => None,
    });
    let litd = Litd::of(spec, &wishes.bundle, CREDENTIALS);
    render_compose(&docker.container, &service.unwrap_or_default(), &seccomp(docker), litd.as_ref())
}

/// The profile of system calls as a file.
fn seccomp(docker: &Docker) -> PathBuf {
    docker.folder.join("seccomp.json")
}

/// The steps that give a signer in a container the allowlist of `spec`. `others` are the other signers of this host. The
/// filter judges every packet: a removed peer's connections get no further.
///
/// # Errors
/// Where a text cannot be rendered, or who is not root asks for what takes the packet filter.
pub fn allow_steps(spec: &Spec, others: &[Spec]) -> Result<Vec<Step>> {
    if let Some(docker) = spec.docker.as_ref().filter(|docker| docker.is_users()) {
        hold_loopback(spec, docker)?;
        return Ok(vec![native::spec_file(spec)?]);
    }
    Ok(vec![
        native::spec_file(spec)?,
        native::firewall(others.iter().filter(|other| other.instance != spec.instance).chain([spec]))?,
    ])
}

/// The image of lnd and the lsm with this hash; where lsm is not static, with `libraries`, which it needs to run.
pub fn image(docker: &Docker, places: &Places, version: &str, lsm_sha256: &str, libraries: &[PathBuf]) -> Image {
    let name = image_names(docker, version) + &lsm_sha256.chars().take(12).collect::<String>();
    image_of(name, docker.uid, places.releases().join(version).join("lnd"), places.lsm(), libraries)
}

/// The image of these programs, for this user.
fn image_of(name: String, uid: u32, lnd: PathBuf, lsm: PathBuf, libraries: &[PathBuf]) -> Image {
    let programs = [(lnd, container::LND.to_owned(), native::LND_MODE), (lsm, container::LSM.to_owned(), 0o755)];
    let libraries = libraries.iter().map(|path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        (real, path.display().to_string(), 0o755)
    });
    Image { name, programs: programs.into_iter().chain(libraries).collect(), home: container::HOME.to_owned(), uid }
}

/// The files of the signer `spec` that its container has, as this host has them.
pub fn files(spec: &Spec, docker: &Docker) -> Files {
    let layout = Layout::of(spec);
    let keep = |what| layout.keep(what, false).path().to_owned();
    Files {
        home: docker.volume.clone().map_or_else(|| Home::Folder(docker.data.clone()), Home::Volume),
        conf: layout.conf(),
        policy: layout.launch_policy(),
        certificate: layout.door().certificate,
        key: keep("tls-key"),
        password: keep("wallet-password"),
        run: docker.folder.join("run"),
    }
}

/// lnd's settings, by the places inside.
fn lnd_conf(spec: &Spec) -> Result<String> {
    render_lnd_conf(&LndConf {
        instance: &spec.instance,
        network: spec.network,
        folder: container::HOME,
        socket: container::SOCKET,
        tls: Some(Tls { certificate: container::CERTIFICATE, key: container::KEY }),
        macaroons: container::RUN,
        sqlite: spec.sqlite,
    })
}

/// What the launcher inside lets lnd reach.
fn launch_policy(spec: &Spec) -> Result<String> {
    let read = [container::CONF, container::CERTIFICATE, container::KEY, container::PASSWORD].map(Path::new);
    render_launch_policy(&LaunchPolicy {
        instance: &spec.instance,
        read: &read,
        write: &[Path::new(container::HOME), Path::new(container::RUN)],
        listen: &[PORT],
        socket: Path::new(container::SOCKET),
        group: false,
        sqlite: spec.sqlite,
        processes: Some(native::PROCESSES),
    })
}

struct Build<'a> {
    spec: &'a Spec,
    docker: &'a Docker,
    wishes: &'a Wishes,
    layout: Layout,
    release: &'a Release,
    arch: Arch,
    facts: &'a Facts,
}

impl<'a> Build<'a> {
    fn of(spec: &'a Spec, release: &'a Release, arch: Arch, wishes: &'a Wishes, facts: &'a Facts) -> Result<Self> {
        Ok(Self { spec, docker: of(spec)?, wishes, layout: Layout::of(spec), release, arch, facts })
    }
}

impl Build<'_> {
    fn ground(&self) -> Vec<Step> {
        let home = &self.docker.folder;
        let above = home.parent().map(|above| folder(above, 0o700));
        let lnds = |path| Step::Folder { path, access: self.layout.lnds(0o700), whole: true };
        // A volume is its user's from the image.
        let data = self.docker.is_users().then(|| lnds(self.layout.data()));
        let ours = [folder(self.layout.places().settings(), 0o755), folder(self.layout.folder(), 0o755)];
        let own = above.into_iter().chain([folder(home, 0o700), lnds(self.run())]).chain(data);
        ours.into_iter().chain(own).collect()
    }

    /// lsm and lnd.
    fn program(&self) -> Result<Vec<Step>> {
        let (pin, places) = (self.release.pin(self.arch)?, self.layout.places());
        let lnd = self.lnd_folder();
        Ok(vec![
            folder(places.programs(), 0o755),
            Step::Lsm { path: places.lsm(), sha256: self.wishes.lsm_sha256.clone() },
            folder(places.releases(), 0o755),
            folder(&lnd, 0o755),
            Step::Release {
                version: self.release.version.clone(),
                folder: lnd,
                lnd_mode: native::LND_MODE,
                lnd_sha256: pin.lnd.clone(),
                lncli_sha256: pin.lncli.clone(),
            },
        ])
    }

    /// What lnd reads.
    fn settings(&self) -> Result<Vec<Step>> {
        let keep = |what| self.layout.keep(what, false);
        Ok(vec![
            native::spec_file(self.spec)?,
            text(&self.layout.conf(), lnd_conf(self.spec)?),
            text(&self.layout.launch_policy(), launch_policy(self.spec)?),
            text(&seccomp(self.docker), container::render_seccomp()? + "\n"),
            Step::Certificate {
                path: self.layout.door().certificate,
                key: keep("tls-key"),
                names: self.spec.certificate_names(),
            },
            Step::Password { keep: keep("wallet-password"), from: self.wishes.password.clone() },
        ])
    }

    /// The packet filter, loaded before anything is published, and again by whatever flushes it.
    fn filter(&self) -> Result<Vec<Step>> {
        let unit = UNITS.iter().filter(|(name, _)| *name == native::FIREWALL_UNIT);
        let mut steps: Vec<Step> = unit.map(|(name, body)| text(&unit_path(name), (*body).to_owned())).collect();
        let files = steps.iter().flat_map(Step::paths).collect();
        steps.push(Step::ReloadUnits { after: files, of: vec![native::FIREWALL_UNIT.to_owned()] });
        let others = self.wishes.others.iter().filter(|other| other.instance != self.spec.instance);
        steps.push(native::firewall(others.chain([self.spec]))?);
        steps.extend(beside_flushes());
        steps.push(Step::ReloadUnits { after: vec![drop_in(FLUSHES)], of: vec![] });
        Ok(steps)
    }

    /// What the engine has to hold before there is a container.
    fn engine(&self) -> Vec<Step> {
        let network = self.docker.network(&self.spec.instance);
        let made = [
            Step::Image { engine: self.docker.engine.clone(), image: self.image() },
            Step::Network { object: self.object(Kind::Network, &network), bounds: Bounds::Bridge(network.clone()) },
        ];
        made.into_iter().chain(volume(self.docker).map(|object| Step::Volume { object })).collect()
    }

    /// What runs lnd while its wallet is made, and whenever else it is to have no port.
    fn runner(&self) -> Result<Runner> {
        let image = self.image();
        let name = format!("{}{CREATE}", self.docker.container);
        let body = container::render_create(&self.frame(image.name), &self.files(), self.spec.require_landlock)?;
        Ok(Runner::Container { object: self.object(Kind::Container, &name), body })
    }

    fn wallet(&self) -> Result<Step> {
        Ok(Step::Wallet {
            runner: self.runner()?,
            door: self.layout.door(),
            password: self.layout.keep("wallet-password", false),
            seed: self.wishes.seed.clone(),
            data: self.layout.data(),
            database: self.layout.database(self.spec),
            receipt: self.layout.receipt(),
            network: self.spec.network,
            account: None,
            volume: volume(self.docker),
        })
    }

    fn service(&self) -> Result<Step> {
        let image = self.image();
        let network = self.docker.network(&self.spec.instance);
        let place = Place::Published { network, at: self.spec.listen, filtered: !self.docker.is_users() };
        let frame = self.frame(image.name.clone());
        let body = container::render_service(&frame, &self.files(), self.spec.require_landlock, place)?;
        let door = self.layout.door();
        let files = [self.layout.conf(), self.layout.launch_policy(), door.certificate.clone(), self.run()];
        let programs = image.programs.iter().map(|(path, ..)| path.clone());
        let secrets = ["tls-key", "wallet-password"].map(|what| self.layout.keep(what, false).path().to_owned());
        Ok(Step::Container {
            object: container(self.docker),
            body,
            after: files.into_iter().chain(secrets).chain(programs).collect(),
            image,
            door,
        })
    }

    fn image(&self) -> Image {
        image(self.docker, self.layout.places(), &self.release.version, &self.wishes.lsm_sha256, &self.facts.libraries)
    }

    /// The access of what was made and then is not looked at again.
    fn accesses(&self, steps: &[Step]) -> Vec<Step> {
        let texts = steps.iter().filter_map(|step| match step {
            Step::Text { path, access, .. } => Some((path.clone(), access.clone())),
            _ => None,
        });
        let journal = self.layout.journal();
        let mut accesses: Vec<(PathBuf, Access)> = texts.collect();
        let places = self.layout.places();
        accesses.extend(places.roots().into_iter().map(|root| (root, Access::mode(places.root_mode()))));
        accesses.extend([
            (journal.parent().unwrap_or(Path::new("/")).to_owned(), Access::mode(0o700)),
            (journal, Access::mode(0o600)),
            (self.lnd_folder().join("lnd"), Access::mode(native::LND_MODE)),
            (self.lnd_folder().join("lncli"), Access::mode(LNCLI_MODE)),
            (self.layout.door().certificate, Access::mode(0o644)),
            (self.layout.receipt(), Access::mode(0o644)),
            (self.layout.register(), Access::mode(0o644)),
            (self.layout.next_certificate(), Access::mode(0o644)),
            (self.layout.next_key(false).path().to_owned(), self.layout.lnds(0o600)),
        ]);
        for what in ["wallet-password", "tls-key"] {
            accesses.push((self.layout.keep(what, false).path().to_owned(), self.layout.lnds(0o600)));
        }
        let bundle = self.layout.bundle();
        accesses.extend(bundle::files(&bundle).into_iter().map(|file| (file, Access::mode(0o600))));
        accesses.push((bundle, Access::mode(0o700)));
        accesses.into_iter().map(|(path, access)| Step::Tighten { path, access }).collect()
    }

    fn object(&self, object: Kind, name: &str) -> Object {
        Object { engine: self.docker.engine.clone(), object, name: name.to_owned() }
    }

    fn files(&self) -> Files {
        files(self.spec, self.docker)
    }

    fn frame(&self, image: String) -> Frame {
        let Owner { uid, gid } = owner(self.docker);
        Frame { image, uid, gid, maps_users: self.docker.maps_users }
    }

    fn run(&self) -> PathBuf {
        self.docker.folder.join("run")
    }

    fn lnd_folder(&self) -> PathBuf {
        self.layout.places().releases().join(&self.release.version)
    }
}
