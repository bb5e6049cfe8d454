//! The foreground backend: a signer as a process of the user who runs lsm, all in one folder, for a trial.

use crate::error::Result;
use crate::host::credential::Keep;
use crate::plan::step::{Access, Door, Process, Runner, SeedSink, Step};
use crate::release::pins::{Arch, Release};
use crate::render::launch::{LaunchPolicy, render_launch_policy};
use crate::render::lnd_conf::{LndConf, render_lnd_conf};
use crate::spec::Spec;
use crate::watch_only;
use std::path::{Path, PathBuf};

/// The places of a trial below one folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The places below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.jsonl")
    }

    /// The signer's folder.
    pub fn signer(&self) -> PathBuf {
        self.root.join("signer")
    }

    /// The watch-only node's folder.
    pub fn watch_only(&self) -> PathBuf {
        self.root.join("watch-only")
    }

    /// The bundle.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    /// The folder of what the signer's container has, where it is in one.
    pub fn container(&self) -> PathBuf {
        self.root.join("container")
    }

    /// The folder of every release.
    pub fn programs(&self) -> PathBuf {
        self.root.join("lnd")
    }

    /// The folder of a release.
    pub fn lnd(&self, release: &Release) -> PathBuf {
        self.programs().join(&release.version)
    }

    /// The wallet's receipt.
    pub fn receipt(&self) -> PathBuf {
        self.signer().join("wallet.toml")
    }

    /// What the signer's lnd may reach; in no folder that it may write.
    pub fn signer_policy(&self) -> PathBuf {
        self.root.join("signer-launch.toml")
    }

    /// The file with the number of the signer's process.
    pub fn signer_pid(&self) -> PathBuf {
        self.root.join("signer.pid")
    }

    /// The file with the number of the watch-only node's process.
    pub fn watch_only_pid(&self) -> PathBuf {
        self.watch_only().join(watch_only::PID_FILE)
    }

    fn door(&self) -> Door {
        let signer = self.signer();
        Door {
            socket: signer.join("lnd.sock"),
            certificate: signer.join("tls.cert"),
            macaroon: signer.join("macaroons/admin.macaroon"),
        }
    }

    fn process(&self, release: &Release, conf: &Path, more: &[String]) -> Process {
        let mut args = vec![format!("--configfile={}", conf.display())];
        args.extend_from_slice(more);
        Process {
            program: self.lnd(release).join("lnd"),
            args,
            policy: self.signer_policy(),
            log: self.signer().join("lnd.log"),
            pid_file: self.signer_pid(),
        }
    }
}

/// The steps from nothing to a running signer with its bundle. The seed is kept nowhere: the wallet is a trial's.
///
/// # Errors
/// Where the release is not pinned for this processor.
pub fn steps(spec: &Spec, release: &Release, arch: Arch, layout: &Layout) -> Result<Vec<Step>> {
    let pin = release.pin(arch)?;
    let (signer, door, lnd) = (layout.signer(), layout.door(), layout.lnd(release));
    let conf = signer.join("lnd.conf");
    let password = Keep::Plain { path: signer.join("wallet-password.txt"), owner: None };
    // Addresses of the command line are taken instead of those in the settings, so the socket is named again.
    let outside = [
        format!("--rpclisten=unix://{}", door.socket.display()),
        format!("--rpclisten={}", spec.listen),
        format!("--wallet-unlock-password-file={}", password.path().display()),
    ];
    let text = render_lnd_conf(&LndConf {
        instance: &spec.instance,
        network: spec.network,
        folder: &signer.display().to_string(),
        socket: &door.socket.display().to_string(),
        tls: None,
        macaroons: &signer.join("macaroons").display().to_string(),
        sqlite: false,
    })?;
    let policy = render_launch_policy(&LaunchPolicy {
        instance: &spec.instance,
        read: &[],
        write: &[&signer],
        listen: &[spec.listen.port()],
        socket: &door.socket,
        group: false,
        sqlite: false,
        // The limit would count all that this user runs.
        processes: None,
    })?;
    let folder = |path: PathBuf| Step::Folder { path, access: Access::mode(0o700), whole: false };
    Ok(vec![
        folder(layout.programs()),
        folder(lnd.clone()),
        Step::Release {
            version: release.version.clone(),
            folder: lnd,
            lnd_mode: 0o755,
            lnd_sha256: pin.lnd.clone(),
            lncli_sha256: pin.lncli.clone(),
        },
        folder(signer.clone()),
        folder(signer.join("macaroons")),
        Step::Text { path: conf.clone(), access: Access::mode(0o600), text },
        Step::Text { path: layout.signer_policy(), access: Access::mode(0o600), text: policy },
        Step::Certificate {
            path: door.certificate.clone(),
            key: Keep::Plain { path: signer.join("tls.key"), owner: None },
            names: spec.certificate_names(),
        },
        Step::Password { keep: password.clone(), from: None },
        Step::Wallet {
            runner: Runner::Process(layout.process(release, &conf, &[])),
            door: door.clone(),
            password,
            seed: SeedSink::Nowhere,
            data: signer.clone(),
            database: signer.join(format!("data/chain/bitcoin/{}/wallet.db", spec.network)),
            receipt: layout.receipt(),
            network: spec.network,
            account: None,
            volume: None,
        },
        Step::Start { process: layout.process(release, &conf, &outside), door: door.clone() },
        Step::Bundle {
            folder: layout.bundle(),
            given: false,
            handed: false,
            encrypt_to: None,
            door,
            receipt: layout.receipt(),
            hosts: vec![spec.listen.to_string()],
            taproot_channels: spec.taproot_channels,
            register: None,
            next: None,
            after: vec![],
        },
    ])
}
