//! A trial in two containers: a signer and a watch-only node on a network of theirs that leads nowhere, for no root but the
//! engine's.

use super::settle::find_uid;
use super::{image_of, launch_policy, lnd_conf};
use crate::backend::foreground::Layout;
use crate::backend::native;
use crate::engine::{Bounds, Engine, Image, Kind, Object, find_socket};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::credential::Keep;
use crate::host::user::{self, Owner};
use crate::plan::step::{Access, Door, Runner, SeedSink, Step};
use crate::release::pins::{Arch, Release};
use crate::render::container::{self, Files, Frame, Home, Place};
use crate::spec::docker::PORT;
use crate::spec::{Places, Spec};
use crate::watch_only::request::Start;
use ipnet::Ipv4Net;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const SMALL_NET: Code = Code::refused("E-DOCKER-010");
const NO_SELF: Code = Code::lacking("E-DOCKER-011");

/// The watch-only node's port (lnd's config.go, `DefaultRPCPort`).
const WATCH_ONLY_PORT: u16 = 10_009;

/// A trial of one user on one engine.
#[derive(Debug, Clone)]
pub struct Trial {
    layout: Layout,
    engine: PathBuf,
    maps_users: bool,
    /// Whose the nodes and their files are.
    owner: Owner,
}

impl Trial {
    /// The trial of this user, on the engine that is meant here. Nobody's containers run as root.
    ///
    /// # Errors
    /// Where no engine that will do answers, or no user number is free.
    pub fn settle(layout: &Layout) -> Result<Self> {
        let engine = find_socket()?;
        let maps_users = Engine::open(&engine)?.about()?.maps_users;
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let owner = if user::is_root() {
            let uid = find_uid(&native::read_specs(&Places::MACHINE)?, &layout.signer())?;
            Owner { uid, gid: uid }
        } else {
            Owner { uid, gid }
        };
        Ok(Self { layout: layout.clone(), engine, maps_users, owner })
    }

    /// Addresses that are free on this host: the signer's and the watch-only node's.
    ///
    /// # Errors
    /// Where the engine has none left.
    pub fn find_addresses(&self) -> Result<(Ipv4Net, [SocketAddr; 2])> {
        let net = Engine::open(&self.engine)?.find_addresses(&self.name())?;
        // The first is this host's.
        let mut hosts = net.hosts().skip(1);
        let (Some(signer), Some(watch_only)) = (hosts.next(), hosts.next()) else {
            let cause = format!("the engine's networks are too small for two containers: {net}");
            return Err(Error::new(SMALL_NET, cause).hint("see default-address-pools in the engine's daemon.json"));
        };
        Ok((net, [(signer, PORT).into(), (watch_only, WATCH_ONLY_PORT).into()]))
    }

    /// The steps from nothing to a running signer with its bundle, as those of a trial in the foreground.
    ///
    /// # Errors
    /// Where the release is not pinned for this processor, or a container cannot be described.
    pub fn steps(&self, spec: &Spec, release: &Release, arch: Arch, net: Ipv4Net, facts: &Facts) -> Result<Vec<Step>> {
        let pin = release.pin(arch)?;
        let (layout, files, image) = (&self.layout, self.files(), self.image(release, facts)?);
        let folder = |path: PathBuf, owner| Step::Folder {
            path,
            access: Access { mode: 0o700, owner, group: None },
            whole: false,
        };
        let text = |path: &Path, text| Step::Text { path: path.to_owned(), access: Access::mode(0o644), text };
        let keep =
            |path: &Path| Keep::Plain { path: path.to_owned(), owner: user::is_root().then_some(self.owner.uid) };
        let (door, receipt) = (self.door(), self.layout.container().join("wallet.toml"));
        let network = self.object(Kind::Network, &self.name());
        let place = Place::Inside { network: network.name.clone(), address: spec.listen.ip() };
        let frame = self.frame(&image);
        Ok(vec![
            folder(layout.programs(), None),
            folder(layout.lnd(release), None),
            Step::Release {
                version: release.version.clone(),
                folder: layout.lnd(release),
                lnd_mode: native::LND_MODE,
                lnd_sha256: pin.lnd.clone(),
                lncli_sha256: pin.lncli.clone(),
            },
            Step::Image { engine: self.engine.clone(), image: image.clone() },
            Step::Network { object: network, bounds: Bounds::Inside(net) },
            folder(self.layout.container(), None),
            folder(layout.signer(), self.owner_name()),
            folder(files.run.clone(), self.owner_name()),
            text(&files.conf, lnd_conf(spec)?),
            text(&files.policy, launch_policy(spec)?),
            Step::Certificate {
                path: door.certificate.clone(),
                key: keep(&files.key),
                names: spec.certificate_names(),
            },
            Step::Password { keep: keep(&files.password), from: None },
            Step::Wallet {
                runner: Runner::Container {
                    object: self.container("create"),
                    body: container::render_create(&frame, &files, None)?,
                },
                door: door.clone(),
                password: keep(&files.password),
                seed: SeedSink::Nowhere,
                data: layout.signer(),
                database: layout.signer().join(format!("data/chain/bitcoin/{}/wallet.db", spec.network)),
                receipt: receipt.clone(),
                network: spec.network,
                account: None,
                volume: None,
            },
            Step::Container {
                object: self.container("signer"),
                body: container::render_service(&frame, &files, None, place)?,
                image,
                door: door.clone(),
                after: vec![],
            },
            Step::Bundle {
                folder: layout.bundle(),
                given: false,
                handed: false,
                encrypt_to: None,
                door,
                receipt,
                hosts: vec![spec.listen.to_string()],
                taproot_channels: spec.taproot_channels,
                register: None,
                next: None,
                after: vec![],
            },
        ])
    }

    /// What starts the watch-only node, whose settings are `conf`, at `address`.
    ///
    /// # Errors
    /// Where the container cannot be described.
    pub fn watch_only(&self, release: &Release, facts: &Facts, conf: &Path, address: IpAddr) -> Result<Start> {
        let place = Place::Inside { network: self.name(), address };
        let frame = self.frame(&self.image(release, facts)?);
        let body = container::render_watch_only(&frame, &self.layout.watch_only(), conf, place)?;
        Ok(Start::Container { object: self.container("watch-only"), body })
    }

    /// Takes away whatever of a trial the engine holds; it keeps nothing of one.
    ///
    /// # Errors
    /// Where something does not go; the rest is gone.
    pub fn stop(&self) -> Result<()> {
        let engine = Engine::open(&self.engine)?;
        let containers = self.nodes().into_iter().chain([self.container("create")]);
        let all = containers.chain([self.object(Kind::Network, &self.name())]);
        let mut gone: Vec<Result<()>> = all.map(|object| engine.remove(object.object, &object.name)).collect();
        gone.extend(engine.images(&self.image_names())?.iter().map(|name| engine.remove(Kind::Image, name)));
        gone.into_iter().collect()
    }

    /// The two nodes, the last to be started first.
    pub fn nodes(&self) -> [Object; 2] {
        ["watch-only", "signer"].map(|what| self.container(what))
    }

    /// What somebody types to take all of it away; the next trial does too.
    pub fn end(&self) -> String {
        let [first, second] = self.nodes().map(|node| node.name);
        format!("docker rm --force {first} {second} && docker network rm {}", self.name())
    }

    /// Whose the files are, where not of the user who runs lsm.
    pub fn file_owner(&self) -> Option<Owner> {
        user::is_root().then_some(self.owner)
    }

    /// No signer's name: theirs begin with `lsm-`.
    fn name(&self) -> String {
        format!("lsmtrial-{}", nix::unistd::geteuid())
    }

    fn image_names(&self) -> String {
        format!("{}:", self.name())
    }

    fn container(&self, what: &str) -> Object {
        self.object(Kind::Container, &format!("{}-{what}", self.name()))
    }

    fn object(&self, object: Kind, name: &str) -> Object {
        Object { engine: self.engine.clone(), object, name: name.to_owned() }
    }

    fn owner_name(&self) -> Option<String> {
        self.file_owner().map(|owner| owner.uid.to_string())
    }

    fn image(&self, release: &Release, facts: &Facts) -> Result<Image> {
        let lsm = std::env::current_exe().map_err(|e| Error::new(NO_SELF, format!("lsm does not find itself: {e}")))?;
        let lnd = self.layout.lnd(release).join("lnd");
        Ok(image_of(self.image_names() + &release.version, self.owner.uid, lnd, lsm, &facts.libraries))
    }

    fn frame(&self, image: &Image) -> Frame {
        let Owner { uid, gid } = self.owner;
        Frame { image: image.name.clone(), uid, gid, maps_users: self.maps_users }
    }

    fn files(&self) -> Files {
        let file = |name| self.layout.container().join(name);
        Files {
            home: Home::Folder(self.layout.signer()),
            conf: file("lnd.conf"),
            policy: file("launch.toml"),
            certificate: file("tls.cert"),
            key: file("tls.key"),
            password: file("wallet-password.txt"),
            run: file("run"),
        }
    }

    fn door(&self) -> Door {
        let Files { certificate, run, .. } = self.files();
        Door { socket: run.join("lnd.sock"), certificate, macaroon: run.join("admin.macaroon") }
    }
}
