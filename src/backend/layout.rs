//! Where each part of a signer is. Every path is part of the command line's contract.

use crate::facts::{self, Facts};
use crate::host::credential::Keep;
use crate::host::user;
use crate::plan::register;
use crate::plan::step::{Access, Door};
use crate::spec::{Docker, Instance, Mode, Places, Spec};
use std::path::{Path, PathBuf};

/// The places of one instance.
#[derive(Debug, Clone)]
pub struct Layout {
    instance: Instance,
    places: Places,
    /// Where it runs in a container, what that has elsewhere.
    docker: Option<Docker>,
}

impl Layout {
    /// The places of `instance`, as far as they do not depend on what runs it: a user's own, where who runs lsm has such a
    /// signer, or began one.
    pub fn new(instance: &Instance) -> Self {
        Self { instance: instance.clone(), places: find_places(instance), docker: None }
    }

    /// The places of the signer `spec`.
    pub fn of(spec: &Spec) -> Self {
        Self { instance: spec.instance.clone(), places: Places::of(spec), docker: spec.docker.clone() }
    }

    /// Whose signer it is.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The folders that it shares with others.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A look at the machine, as it concerns this signer.
    pub fn look(&self) -> Facts {
        let mut facts = Facts::gather();
        if self.places.are_users() {
            let home = user::named_folder("HOME").unwrap_or_default();
            (facts.owner, facts.space) = (user::own_uid(), facts::free_space(&home));
        }
        facts
    }

    /// True where whoever runs lsm may change it: root, or the user whose own it is.
    pub fn is_ours(&self) -> bool {
        user::is_root() || self.places.are_users()
    }

    /// The spec.
    pub fn spec(&self) -> PathBuf {
        self.places.spec(&self.instance)
    }

    /// lnd's settings.
    pub fn conf(&self) -> PathBuf {
        if let Some(docker) = &self.docker {
            return docker.folder.join("signer-lnd.conf");
        }
        format!("/etc/lsm/{}-lnd.conf", self.instance).into()
    }

    /// What `lsm launch` lets lnd reach.
    pub fn launch_policy(&self) -> PathBuf {
        if let Some(docker) = &self.docker {
            return docker.folder.join("launch.toml");
        }
        format!("/etc/lsm/{}-launch.toml", self.instance).into()
    }

    /// The folder of what is public: certificate and receipt.
    pub fn folder(&self) -> PathBuf {
        self.places.settings().join(self.instance.as_str())
    }

    /// The wallet's receipt.
    pub fn receipt(&self) -> PathBuf {
        self.folder().join("wallet.toml")
    }

    /// Which macaroons were baked.
    pub fn register(&self) -> PathBuf {
        self.folder().join(register::FILE)
    }

    /// The certificate that is about to take the other one's place, while there is one.
    pub fn next_certificate(&self) -> PathBuf {
        self.folder().join("next.cert")
    }

    /// Its key: sealed under the name of the key in force, whose place it takes as it is.
    pub fn next_key(&self, sealed: bool) -> Keep {
        match self.keep("tls-key", sealed) {
            Keep::Sealed { name, path } => Keep::Sealed { name, path: beside(&path) },
            Keep::Plain { path, owner } => Keep::Plain { path: beside(&path), owner },
        }
    }

    /// lnd's own folder.
    pub fn data(&self) -> PathBuf {
        if let Some(docker) = &self.docker {
            return docker.data.clone();
        }
        format!("/var/lib/lsm/{}", self.instance).into()
    }

    /// The folder of the copies of lnd's database, each in a folder of lnd's version.
    pub fn snapshots(&self) -> PathBuf {
        self.places.snapshots().join(self.instance.as_str())
    }

    /// The names of those copies: the versions that a rollback goes back to.
    pub fn copied(&self) -> Vec<String> {
        names(&self.snapshots())
    }

    /// Those copies.
    pub fn copies(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.snapshots();
        self.copied().into_iter().map(move |name| folder.join(name))
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.places.journal(&self.instance)
    }

    /// The bundle, where no other place was named.
    pub fn bundle(&self) -> PathBuf {
        if let Some(docker) = &self.docker {
            return docker.folder.join("credentials-bundle");
        }
        format!("/var/lib/lsm/bundle/{}", self.instance).into()
    }

    /// The user of lnd.
    pub fn user(&self) -> String {
        if let Some(docker) = &self.docker {
            let name = || user::of_uid(docker.uid).map(|(name, _)| name);
            return docker.is_users().then(name).flatten().unwrap_or_else(|| docker.uid.to_string());
        }
        format!("lsm-{}", self.instance)
    }

    /// The access of what is lnd's: a user's own is whose plan it is.
    pub fn lnds(&self, mode: u32) -> Access {
        if self.places.are_users() { Access::mode(mode) } else { Access::owned(mode, self.user()) }
    }

    /// The user of the proxy, who may connect to lnd's socket.
    pub fn proxy_user(&self) -> String {
        format!("lsm-proxy-{}", self.instance)
    }

    /// The unit that holds the public port.
    pub fn public_unit(&self, spec: &Spec) -> String {
        match spec.mode {
            Mode::Isolated => self.socket(),
            Mode::Host => self.service(),
        }
    }

    /// lnd's unit.
    pub fn service(&self) -> String {
        format!("lsm@{}.service", self.instance)
    }

    /// The port's unit.
    pub fn socket(&self) -> String {
        format!("lsm-proxy@{}.socket", self.instance)
    }

    /// The unit of what passes connections on from that port.
    pub fn proxy_service(&self) -> String {
        format!("lsm-proxy@{}.service", self.instance)
    }

    /// The folder of what the watch saw last.
    pub fn watch(&self) -> PathBuf {
        format!("/var/lib/lsm/watch/{}", self.instance).into()
    }

    /// The unit of the audit that says what changed.
    pub fn watch_service(&self) -> String {
        format!("lsm-watch@{}.service", self.instance)
    }

    /// The unit that has it run.
    pub fn watch_timer(&self) -> String {
        format!("lsm-watch@{}.timer", self.instance)
    }

    /// The user of the guard.
    pub fn guard_user(&self) -> String {
        format!("lsm-guard-{}", self.instance)
    }

    /// The guard's unit.
    pub fn guard_service(&self) -> String {
        format!("lsm-guard@{}.service", self.instance)
    }

    /// The folder of what root tells the guard.
    pub fn guard(&self) -> PathBuf {
        format!("/var/lib/lsm/guard/{}", self.instance).into()
    }

    /// The guard's own folder.
    pub fn guard_own(&self) -> PathBuf {
        self.guard().join("log")
    }

    /// The folder of the socket at which a guard that enforces proves that lnd asks it.
    pub fn guard_run(&self) -> PathBuf {
        format!("/run/lsm/{}-guard", self.instance).into()
    }

    /// That socket.
    pub fn guard_fence(&self) -> PathBuf {
        self.guard_run().join("fence.sock")
    }

    /// What the guard was asked, and what it said.
    pub fn guard_log(&self) -> PathBuf {
        self.guard_own().join("entries.jsonl")
    }

    /// Where its guard writes down which accounts the wallet has.
    pub fn guard_accounts(&self) -> PathBuf {
        self.guard_own().join("accounts.json")
    }

    /// Where its guard keeps the wallet's addresses, which take seconds to derive.
    pub fn guard_addresses(&self) -> PathBuf {
        self.guard_own().join("addresses")
    }

    /// The operator's policy for the guard.
    pub fn guard_policy(&self) -> PathBuf {
        format!("/etc/lsm/{}-guard.toml", self.instance).into()
    }

    /// What the operator has approved by hand: root's, and for the guard to read.
    pub fn guard_approvals(&self) -> PathBuf {
        self.guard().join("approvals.json")
    }

    /// Where the operator says that the clock is right: root's, and for the guard to read.
    pub fn guard_clock(&self) -> PathBuf {
        self.guard().join("clock")
    }

    /// Where the operator says that nothing more is asked for of what waits for other inputs: root's, and for the guard to read.
    pub fn guard_forget(&self) -> PathBuf {
        self.guard().join("forget")
    }

    /// The file that is there while the operator has frozen the signer: root's, and for the guard to see.
    pub fn frozen(&self) -> PathBuf {
        self.guard().join("frozen")
    }

    /// How lsm reaches this lnd.
    pub fn door(&self) -> Door {
        if let Some(docker) = &self.docker {
            let run = docker.folder.join("run");
            return Door {
                socket: run.join("lnd.sock"),
                certificate: self.folder().join("tls.cert"),
                macaroon: run.join("admin.macaroon"),
            };
        }
        Door {
            socket: format!("/run/lsm/{}/lnd.sock", self.instance).into(),
            certificate: self.folder().join("tls.cert"),
            macaroon: format!("/run/lsm/{}-admin/admin.macaroon", self.instance).into(),
        }
    }

    /// lnd's wallet database on the spec's network (lnd's config_builder.go: `wallet.db` in its chain folder, or
    /// `chain.sqlite`).
    pub fn database(&self, spec: &Spec) -> PathBuf {
        let name = if spec.sqlite { "chain.sqlite" } else { "wallet.db" };
        self.data().join(format!("data/chain/bitcoin/{}/{name}", spec.network))
    }

    /// Where the secret `what` is kept.
    pub fn keep(&self, what: &str, sealed: bool) -> Keep {
        if let Some(docker) = &self.docker {
            // A container has no credentials of systemd's: files that its user alone may read.
            let name = if what == "wallet-password" { "wallet-password.txt" } else { what };
            // A user gives nothing away.
            let owner = (!docker.is_users()).then_some(docker.uid);
            return Keep::Plain { path: docker.folder.join(name), owner };
        }
        if sealed {
            let path = format!("/etc/credstore.encrypted/lsm-{}.{what}", self.instance).into();
            return Keep::Sealed { name: what.to_owned(), path };
        }
        Keep::Plain { path: format!("/etc/credstore/lsm-{}.{what}", self.instance).into(), owner: None }
    }
}

fn find_places(instance: &Instance) -> Places {
    let home = if user::is_root() { None } else { user::named_folder("HOME") };
    let own = home.map(|home| Places::below_home(&home));
    let has_one = |own: &Places| own.spec(instance).exists() || own.journal(instance).exists();
    own.filter(has_one).unwrap_or(Places::MACHINE)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// The names in a folder; none where it is not there, or this user may not look.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
