//! The native backend: systemd units, an own user, the packet filter.

mod allowlist;
mod guard;
mod stays;
mod upkeep;
mod watch;
mod wishes;

pub use allowlist::allow_steps;
pub(super) use allowlist::{FLUSHES, beside_flushes};
pub use stays::{heir, spec_before, stays};
pub use watch::watch_steps;
pub use wishes::Wishes;

use crate::backend::layout::Layout;
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::facts::units::UnitFile;
use crate::host::file;
use crate::plan::step::{Access, Port, Runner, Step};
use crate::release::pins::{Arch, Release};
use crate::render::launch::{LaunchPolicy, render_launch_policy};
use crate::render::lnd_conf::{LndConf, Tls, render_lnd_conf};
use crate::render::nft::render_nft;
use crate::render::unit::{
    Credential, Lnd, Platform, SERVICE, UNITS, render_create_drop_in, render_folders, render_service_drop_in,
    render_socket_drop_in, render_users, render_wallet_drop_in,
};
use crate::signer::middleware::CREDENTIAL;
use crate::spec::{Instance, Mode, Places, Spec};
use std::path::{Path, PathBuf};

const NO_SPEC: Code = Code::refused("E-NATIVE-001");
const NO_NAMES: Code = Code::usage("E-NATIVE-002");

/// Where units are installed.
const UNIT_FOLDER: &str = "/etc/systemd/system";
/// Where a unit lives that must not outlive a reboot (systemd.unit(5)).
const RUNTIME_UNIT_FOLDER: &str = "/run/systemd/system";
/// How many processes and threads lnd's user may have: the unit's TasksMax once more.
pub(super) const PROCESSES: u64 = 256;
/// The lsm that units start.
const LSM: &str = "/usr/local/lib/lsm/lsm";
/// Where releases of lnd are unpacked, each into a folder of its version.
const RELEASES: &str = "/usr/local/lib/lsm/lnd";
/// lnd's user can run it and not read it. The kernel then lets nobody but root look into the process, and treats its core
/// dump as that of a set-user-ID program (prctl(2), PR_SET_DUMPABLE; proc(5), `suid_dumpable`): by default there is none.
pub(super) const LND_MODE: u32 = 0o711;
/// The packet filter's unit.
pub(super) const FIREWALL_UNIT: &str = "lsm-firewall.service";
/// The packet filter's file.
const FIREWALL: &str = "/etc/lsm/firewall.nft";

/// The spec of an installed signer.
///
/// # Errors
/// Where it cannot be read or is no spec.
pub fn read_spec(path: &Path) -> Result<Spec> {
    let spec: Spec = toml::from_str(&file::read_text(path)?).map_err(|e| {
        Error::new(NO_SPEC, format!("{} is no signer's spec: {}", path.display(), e.message()))
            .hint("lsm wrote it: take back what was changed there since")
            .because(e)
    })?;
    spec.checked()
}

/// The specs of every signer in these places.
///
/// # Errors
/// Where one cannot be read: the packet filter must not lose a signer.
pub fn read_specs(places: &Places) -> Result<Vec<Spec>> {
    let settings = places.settings();
    let cannot = |e: std::io::Error| Error::new(NO_SPEC, format!("cannot read {}: {e}", settings.display()));
    let folder = match std::fs::read_dir(&settings) {
        Ok(folder) => folder,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(cannot(e)),
    };
    let mut specs = Vec::new();
    for entry in folder {
        let path = entry.map_err(cannot)?.path();
        let is_instance = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<Instance>().is_ok());
        // The launch policies and the waivers are TOML too, and have names that no instance can have.
        if path.extension().is_some_and(|ending| ending == "toml") && path.file_stem().is_some_and(is_instance) {
            specs.push(read_spec(&path)?);
        }
    }
    Ok(specs)
}

/// The steps from a bare host to a running signer, in order; the public port is the last.
///
/// # Errors
/// Where the spec asks for what cannot be: no name to put into the certificate, say.
pub fn steps(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    if spec.certificate_names().is_empty() {
        return Err(no_names(spec));
    }
    let build = Build::of(spec, release, arch, wishes, facts);
    let mut steps = build.ground()?;
    steps.extend(build.program()?);
    steps.extend(build.units()?);
    steps.extend(build.accesses(&steps));
    if !wishes.no_wallet {
        steps.extend(wishes.adopt_step(spec));
        steps.extend(build.wallet()?);
        steps.extend(build.guard_macaroon()?);
        steps.extend(build.service());
    }
    build.clear_units(&mut steps);
    Ok(steps)
}

/// What runs lnd while it is to have no port.
///
/// # Errors
/// Where a text cannot be rendered.
pub fn runner(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Runner> {
    Build::of(spec, release, arch, wishes, facts).runner()
}

/// The steps that export the bundle of an installed signer to `out`; where one was `handed` over before, only if it has to
/// be another one by now.
pub fn bundle_steps(spec: &Spec, out: &Path, handed: bool) -> Vec<Step> {
    let layout = Layout::of(spec);
    let door = layout.door();
    let is_own = out == layout.bundle();
    let own = (is_own && !handed && spec.docker.is_none()).then(|| folder("/var/lib/lsm/bundle", 0o700));
    let bundle = Step::Bundle {
        folder: out.to_owned(),
        given: !is_own,
        handed,
        encrypt_to: None,
        receipt: layout.receipt(),
        hosts: spec.certificate_names().iter().map(|name| dial(name, spec.listen.port())).collect(),
        taproot_channels: spec.taproot_channels,
        register: Some(layout.register()),
        next: Some(layout.next_certificate()),
        after: vec![door.certificate.clone(), layout.next_certificate(), layout.register(), layout.spec()],
        door,
    };
    own.into_iter().chain([bundle]).collect()
}

/// The public port as the watch-only side names it (`HOST:PORT`, a name of the certificate), where the host itself dials it,
/// and what has to run for that.
///
/// # Errors
/// Where the certificate has no name.
pub fn public_port(spec: &Spec) -> Result<Port> {
    let (layout, names) = (Layout::of(spec), spec.certificate_names());
    let name = names.first().ok_or_else(|| no_names(spec))?;
    Ok(Port {
        receipt: layout.receipt(),
        unit: spec.docker.is_none().then(|| layout.public_unit(spec)),
        host: dial(name, spec.listen.port()),
        address: spec.own_address(),
    })
}

fn no_names(spec: &Spec) -> Error {
    Error::new(NO_NAMES, format!("{} is no address that a watch-only node can dial", spec.listen))
        .hint("name what it dials with --san NAME or --san ADDRESS")
}

struct Build<'a> {
    spec: &'a Spec,
    wishes: &'a Wishes,
    layout: Layout,
    release: &'a Release,
    arch: Arch,
    platform: Platform,
    unit_files: &'a [UnitFile],
}

impl<'a> Build<'a> {
    fn of(spec: &'a Spec, release: &'a Release, arch: Arch, wishes: &'a Wishes, facts: &'a Facts) -> Self {
        let platform = Platform { systemd: facts.systemd, libraries: facts.libraries.clone() };
        Self { spec, wishes, layout: Layout::of(spec), release, arch, platform, unit_files: &facts.unit_files }
    }
}

impl Build<'_> {
    /// Users and folders.
    fn ground(&self) -> Result<Vec<Step>> {
        let mut names = vec![self.layout.user(), self.layout.proxy_user()];
        names.extend(self.spec.guard.is_on().then(|| self.layout.guard_user()));
        let users: PathBuf = format!("/etc/sysusers.d/lsm-{}.conf", self.spec.instance).into();
        let folders: PathBuf = format!("/etc/tmpfiles.d/lsm-{}.conf", self.spec.instance).into();
        let mut steps = vec![
            folder("/etc/lsm", 0o755),
            folder(self.layout.folder(), 0o755),
            folder("/etc/sysusers.d", 0o755),
            Step::Users { file: users, text: render_users(self.spec)?, names },
            folder("/etc/tmpfiles.d", 0o755),
            Step::Folders {
                file: folders,
                text: render_folders(self.spec)?,
                folders: self.folders().into_iter().chain(self.guard_folders()).collect(),
                closed: vec![self.layout.data(), self.run("-admin")],
            },
        ];
        let store = self.layout.keep("wallet-password", self.spec.sealed);
        steps.push(folder(store.path().parent().unwrap_or(Path::new("/etc/credstore")), 0o700));
        Ok(steps)
    }

    /// The signer's folder of this ending in /run.
    fn run(&self, ending: &str) -> PathBuf {
        format!("/run/lsm/{}{ending}", self.spec.instance).into()
    }

    /// The folders of lnd, and the one of what opens its port.
    fn folders(&self) -> [PathBuf; 4] {
        [self.layout.data(), self.run(""), self.run("-admin"), self.run("-gate")]
    }

    /// lsm, lnd and what lnd reads.
    fn program(&self) -> Result<Vec<Step>> {
        let pin = self.release.pin(self.arch)?;
        let lnd = self.lnd_folder();
        let door = self.layout.door();
        let conf = LndConf {
            instance: &self.spec.instance,
            network: self.spec.network,
            folder: &self.layout.data().display().to_string(),
            socket: &door.socket.display().to_string(),
            tls: Some(Tls {
                certificate: &door.certificate.display().to_string(),
                key: "$CREDENTIALS_DIRECTORY/tls-key",
            }),
            macaroons: &door.macaroon.parent().unwrap_or(Path::new("/run")).display().to_string(),
            sqlite: self.spec.sqlite,
        };
        let unpacked = [
            folder("/usr/local/lib/lsm", 0o755),
            Step::Lsm { path: LSM.into(), sha256: self.wishes.lsm_sha256.clone() },
            folder(RELEASES, 0o755),
            folder(&lnd, 0o755),
            Step::Release {
                version: self.release.version.clone(),
                folder: lnd,
                lnd_mode: LND_MODE,
                lnd_sha256: pin.lnd.clone(),
                lncli_sha256: pin.lncli.clone(),
            },
        ];
        let settings = [
            spec_file(self.spec)?,
            text(&self.layout.conf(), render_lnd_conf(&conf)?),
            text(&self.layout.launch_policy(), self.launch_policy()?),
            Step::Certificate {
                path: door.certificate,
                key: self.layout.keep("tls-key", self.spec.sealed),
                names: self.spec.certificate_names(),
            },
            Step::Password {
                keep: self.layout.keep("wallet-password", self.spec.sealed),
                from: self.wishes.password.clone(),
            },
        ];
        // Before the spec is another one, which alone says that there was an earlier port.
        Ok(unpacked.into_iter().chain(self.leave_port()).chain(settings).collect())
    }

    /// Where the signer is to have another port, what holds the one that it has: the packet filter, once it judges the other one,
    /// leaves that to everybody.
    fn leave_port(&self) -> Option<Step> {
        let there = self.wishes.others.iter().find(|other| other.instance == self.spec.instance)?;
        if there.listen.port() == self.spec.listen.port() {
            return None;
        }
        let (unit, service) = (self.layout.public_unit(there), self.layout.service());
        let by = if unit == service { "multi-user.target" } else { &service };
        Some(Step::Retire { link: wants(by, &unit), unit })
    }

    /// Units, drop-ins and the packet filter, which is loaded before anything can listen.
    fn units(&self) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> =
            UNITS.iter().map(|(name, body)| text(&unit_path(name), (*body).to_owned())).collect();
        let service = drop_in(&self.layout.service());
        steps.push(folder(parent(&service), 0o755));
        let drop_in_text = render_service_drop_in(
            self.spec,
            &self.lnd(),
            &self.platform,
            &self.credentials(&["wallet-password", "tls-key"]),
        )?;
        steps.push(text(&service, drop_in_text));
        if self.spec.mode == Mode::Isolated {
            let socket = drop_in(&self.layout.socket());
            steps.push(folder(parent(&socket), 0o755));
            steps.push(text(&socket, render_socket_drop_in(self.spec)?));
        }
        steps.extend(self.guard_units()?);
        let files = steps.iter().flat_map(Step::paths).collect();
        steps.push(Step::ReloadUnits { after: files, of: self.unit_names() });
        steps.extend(allowlist::in_force(self.spec, &self.wishes.others)?);
        Ok(steps)
    }

    /// What runs lnd while its wallet is made: its own unit, where that gives it neither a port nor a guard by itself. Not where a
    /// wallet is adopted: lnd writes its macaroons anew at the next start.
    fn maker(&self) -> Result<Runner> {
        if self.spec.mode == Mode::Host || self.spec.guard.is_on() || self.wishes.adopt.is_some() {
            return self.runner();
        }
        let unit = self.layout.service();
        let place = Path::new(RUNTIME_UNIT_FOLDER).join(format!("{unit}.d/wallet.conf"));
        Ok(Runner::Unit { unit, files: vec![(place, render_wallet_drop_in(&self.lnd())?)], stays: true })
    }

    /// What runs lnd whenever else it is to have no port.
    fn runner(&self) -> Result<Runner> {
        // The same sandbox under another name: it exists in /run while the wallet is made, and never has a port.
        let unit = format!("lsm-create@{}.service", self.spec.instance);
        let sandbox = SERVICE;
        let drop_in_text = render_create_drop_in(&self.lnd(), &self.platform, &self.credentials(&["tls-key"]))?;
        let files = vec![
            (Path::new(RUNTIME_UNIT_FOLDER).join(&unit), sandbox.to_owned()),
            (Path::new(RUNTIME_UNIT_FOLDER).join(format!("{unit}.d/lsm.conf")), drop_in_text),
        ];
        Ok(Runner::Unit { unit, files, stays: false })
    }

    fn wallet(&self) -> Result<Vec<Step>> {
        Ok(vec![Step::Wallet {
            runner: self.maker()?,
            door: self.layout.door(),
            password: self.layout.keep("wallet-password", self.spec.sealed),
            seed: self.wishes.seed.clone(),
            data: self.layout.data(),
            database: self.layout.database(self.spec),
            receipt: self.layout.receipt(),
            network: self.spec.network,
            account: Some(self.layout.user()),
            volume: None,
        }])
    }

    /// lnd, then the bundle, and the public port last of all.
    fn service(&self) -> Vec<Step> {
        let service = self.layout.service();
        let socket = self.layout.socket();
        let door = self.layout.door();
        let is_host = self.spec.mode == Mode::Host;
        let after: Vec<PathBuf> = vec![
            unit_path("lsm@.service"),
            drop_in(&service),
            self.layout.conf(),
            self.layout.launch_policy(),
            door.certificate,
            self.lnd_folder().join("lnd"),
            // The step that makes it stops lnd.
            self.layout.keep(CREDENTIAL, self.spec.sealed).path().to_owned(),
        ]
        .into_iter()
        // It sees the folders that were there when it started.
        .chain(self.folders().into_iter().filter(|folder| is_host || *folder != self.run("-gate")))
        .collect();
        let mut steps = Vec::new();
        if is_host {
            steps.push(Step::Retire { link: wants(&service, &socket), unit: socket.clone() });
        }
        let guard = self.guard_service(&after);
        steps.push(Step::Service {
            link: wants("multi-user.target", &service),
            unit: service.clone(),
            after,
            anew: true,
            with: vec![],
            program: Some(self.lnd_folder().join("lnd")),
        });
        steps.push(guard);
        steps.extend(bundle_steps(self.spec, &self.wishes.bundle, self.wishes.handed));
        if !is_host {
            steps.push(Step::Service {
                link: wants(&service, &socket),
                after: vec![
                    drop_in(&socket),
                    drop_in(&self.layout.proxy_service()),
                    unit_path("lsm-proxy@.socket"),
                    unit_path("lsm-proxy@.service"),
                ],
                unit: socket,
                anew: true,
                with: vec![self.layout.proxy_service()],
                program: None,
            });
        }
        steps
    }

    fn launch_policy(&self) -> Result<String> {
        let (data, door) = (self.layout.data(), self.layout.door());
        let listen = [self.spec.listen.port()];
        let folders = [Some(data.as_path()), door.socket.parent(), door.macaroon.parent()];
        render_launch_policy(&LaunchPolicy {
            instance: &self.spec.instance,
            read: &[&self.layout.conf(), &door.certificate, Path::new("$CREDENTIALS_DIRECTORY")],
            write: &folders.into_iter().flatten().collect::<Vec<_>>(),
            listen: if self.spec.mode == Mode::Host { &listen } else { &[] },
            socket: &door.socket,
            group: true,
            sqlite: self.spec.sqlite,
            processes: Some(PROCESSES),
        })
    }

    fn lnd_folder(&self) -> PathBuf {
        Path::new(RELEASES).join(&self.release.version)
    }

    fn lnd(&self) -> Lnd {
        Lnd {
            launcher: LSM.to_owned(),
            policy: self.layout.launch_policy().display().to_string(),
            program: self.lnd_folder().join("lnd").display().to_string(),
            require_landlock: self.spec.require_landlock,
            conf: self.layout.conf().display().to_string(),
            socket: self.layout.door().socket.display().to_string(),
        }
    }

    fn credentials(&self, names: &[&str]) -> Vec<Credential> {
        let credential = |name: &&str| {
            let keep = self.layout.keep(name, self.spec.sealed);
            Credential { name: (*name).to_owned(), path: keep.path().display().to_string(), sealed: keep.is_sealed() }
        };
        names.iter().map(credential).collect()
    }
}

/// The spec, as the next command finds it.
pub(super) fn spec_file(spec: &Spec) -> Result<Step> {
    let body = toml::to_string(spec).map_err(|e| Error::new(NO_SPEC, "the spec cannot be written").because(e))?;
    let body = format!("# What this signer is to be; `lsm install` reads and writes it.\n{body}");
    Ok(text(&Layout::of(spec).spec(), body))
}

/// The one packet filter for these signers.
pub(super) fn firewall<'a>(specs: impl Iterator<Item = &'a Spec>) -> Result<Step> {
    let mut specs: Vec<&Spec> = specs.collect();
    specs.sort_by(|a, b| a.instance.cmp(&b.instance));
    Ok(Step::Firewall {
        unit: FIREWALL_UNIT.into(),
        link: wants("sysinit.target", FIREWALL_UNIT),
        file: FIREWALL.into(),
        text: render_nft(&specs)?,
        after: vec![unit_path(FIREWALL_UNIT)],
    })
}

fn dial(name: &crate::spec::San, port: u16) -> String {
    match name {
        crate::spec::San::Address(std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
        name => format!("{name}:{port}"),
    }
}

pub(super) fn folder(path: impl Into<PathBuf>, mode: u32) -> Step {
    Step::Folder { path: path.into(), access: Access::mode(mode), whole: false }
}

pub(super) fn text(path: &Path, text: String) -> Step {
    Step::Text { path: path.to_owned(), access: Access::mode(0o644), text }
}

pub(super) fn unit_path(name: &str) -> PathBuf {
    Path::new(UNIT_FOLDER).join(name)
}

pub(super) fn drop_in(unit: &str) -> PathBuf {
    unit_path(&format!("{unit}.d/lsm.conf"))
}

fn wants(target: &str, unit: &str) -> PathBuf {
    unit_path(&format!("{target}.wants/{unit}"))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
