//! A booted host with lnd's archive in it: installing a signer there, and what the tests look at around that.

pub mod docker;
pub mod older;
pub mod package;
pub mod port;
pub mod screenshot;
pub mod terminal;
pub mod watch;
pub mod watch_only;

use crate::lab::disk::Disk;
use crate::lab::host::{Debian, Host, LSM_INSIDE};
use crate::lab::lnd::{RELEASES, Release};
use crate::lab::net::Net;
use crate::lab::process::Done;
use lsm::bundle::Bundle;
use lsm::release::known;
use lsm::release::pins::{Arch, Status};
use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the signer listens.
pub const LISTEN: &str = "10.77.0.2:10012";
/// The signer's port.
pub const PORT: u16 = 10012;
/// Where the seed goes, inside.
pub const SEED: &str = "/root/out/seed";
/// Where the bundle goes, inside.
pub const BUNDLE: &str = "/root/out/bundle";
/// The sealed password, inside.
pub const PASSWORD: &str = "/etc/credstore.encrypted/lsm-signer.wallet-password";
/// Where the archives are, inside.
const ARCHIVES: &str = "/root/archives";

/// Longer than systemd waits before it starts again what has ended (units/lsm@.service, RestartSec).
pub const RESTARTED: Duration = Duration::from_millis(1500);

/// `lsm` where everybody may run it, inside.
const LSM_FOR_ALL: &str = "/usr/bin/lsm";

/// A host, and the lnd that is installed on it.
pub struct Stage {
    /// The host.
    pub host: Host,
    /// The release to install.
    pub release: Release,
}

impl Stage {
    /// Boots a host with the newest release's archive that there is; `None`, said as a skip, where it cannot.
    #[track_caller]
    pub fn boot(name: &str) -> Option<Self> {
        let release = newest()?;
        Self::boot_in(&Net::build()?, name, &release)
    }

    /// As [`Stage::boot`], on `net` and with this release.
    #[track_caller]
    pub fn boot_in(net: &Arc<Net>, name: &str, release: &Release) -> Option<Self> {
        Self::boot_on(net, name, release, Disk::Layer)
    }

    /// As [`Stage::boot_in`], on a disk of this kind.
    #[track_caller]
    pub fn boot_on(net: &Arc<Net>, name: &str, release: &Release, disk: Disk) -> Option<Self> {
        release.archive()?;
        Self::set(Host::boot_in(net, name, 2, disk)?, release)
    }

    /// As [`Stage::boot`], on this Debian.
    #[track_caller]
    pub fn boot_of(debian: Debian, name: &str) -> Option<Self> {
        Self::boot_of_in(debian, &Net::build()?, name, &newest()?)
    }

    /// As [`Stage::boot_in`], on this Debian.
    #[track_caller]
    pub fn boot_of_in(debian: Debian, net: &Arc<Net>, name: &str, release: &Release) -> Option<Self> {
        release.archive()?;
        Self::set(Host::boot_of(debian, net, name, 2, Disk::Layer)?, release)
    }

    /// Brings the release's archive onto a host.
    #[track_caller]
    fn set(host: Host, release: &Release) -> Option<Self> {
        let archive = release.archive()?;
        let file = archive.file_name().expect("an archive has a name").to_string_lossy().into_owned();
        host.copy_in(&archive, &format!("{ARCHIVES}/{file}"), 0o644);
        // Nobody cannot enter /root: a second name for lsm.
        host.sh(&format!("mkdir -m 700 /root/out && ln {LSM_INSIDE} {LSM_FOR_ALL}")).ok();
        Some(Self { host, release: release.clone() })
    }

    /// What chooses the release and its archive on the command line.
    pub fn source(&self) -> Vec<String> {
        let version = &self.release.version;
        let mut args = vec![format!("--release={version}"), format!("--from={ARCHIVES}")];
        if known::find(version).expect("a known release").status == Status::NeedsAcceptRisk {
            args.push(format!("--accept-risk={version}"));
        }
        args
    }

    /// The archive, inside.
    pub fn archive_inside(&self) -> String {
        let name = self.release.archive().expect("it was there at boot");
        format!("{ARCHIVES}/{}", name.file_name().expect("an archive has a name").to_string_lossy())
    }

    /// The arguments of the usual install for the allowed peer, but for the consent.
    pub fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = ["install", "--network=regtest"].map(str::to_owned).to_vec();
        args.extend(self.source());
        args.extend([format!("--listen={LISTEN}"), "--allow=10.77.0.3".into()]);
        args.extend([format!("--seed-out={SEED}"), format!("--bundle-out={BUNDLE}")]);
        args
    }

    /// As [`Stage::arguments`], without the wallet: then there is no seed either.
    pub fn arguments_without_wallet(&self) -> Vec<String> {
        let mut args = self.arguments();
        args.retain(|arg| !arg.starts_with("--seed-out"));
        args.push("--no-wallet".into());
        args
    }

    /// Installs as usual, with `more` arguments.
    #[track_caller]
    pub fn install(&self, more: &[&str]) -> Done {
        self.install_with(&self.arguments(), more)
    }

    /// Runs `args`, then `more`, then the consent.
    #[track_caller]
    pub fn install_with(&self, args: &[String], more: &[&str]) -> Done {
        self.host.lsm(args.iter().map(String::as_str).chain(more.iter().copied()).chain(["--yes"]))
    }

    /// `lsm` inside as the user nobody.
    #[track_caller]
    pub fn lsm_as_nobody(&self, args: &[String]) -> Done {
        self.host.run_as_nobody(std::iter::once(LSM_FOR_ALL).chain(args.iter().map(String::as_str)))
    }

    /// Every file, folder and link below `folders`: type, mode, owner, size and the times of content and attributes.
    #[track_caller]
    pub fn listing(&self, folders: &str) -> Vec<String> {
        let list = format!("find {folders} -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | LC_ALL=C sort");
        self.host.sh(&list).ok().lines().map(str::to_owned).collect()
    }

    /// The bundle that was installed, read from outside.
    #[track_caller]
    pub fn bundle(&self) -> Bundle {
        Bundle::read(&self.host.path(BUNDLE).to_string_lossy()).expect("the bundle can be read")
    }

    /// The signer as the bundle's holder reaches it; calls have to be made inside a peer.
    #[track_caller]
    pub fn signer(&self) -> Node {
        let bundle = self.bundle();
        Node::new(endpoint(), &bundle.certificate).with_macaroon(&bundle.macaroon)
    }

    /// The process number of lnd, inside.
    #[track_caller]
    pub fn lnd(&self) -> u32 {
        let shown = self.host.run(["systemctl", "show", "--property=MainPID", "--value", "lsm@signer"]).ok();
        shown.trim().parse().ok().filter(|pid| *pid != 0).expect("lnd runs")
    }

    /// A path of the process `pid` (inside) in the host's /proc, from outside.
    pub fn proc(&self, pid: u32, path: &str) -> PathBuf {
        self.host.path(&format!("/proc/{pid}/{path}"))
    }

    /// True where systemd says that the unit is active.
    pub fn is_active(&self, unit: &str) -> bool {
        self.host.run(["systemctl", "is-active", "--quiet", unit]).code == 0
    }

    /// How many packets the signer's chain has dropped.
    #[track_caller]
    pub fn dropped(&self) -> u64 {
        let shown = self.host.run(["nft", "-j", "list", "counter", "inet", "lsm", "signer_dropped"]).json();
        let of = |item: &Value| item["counter"]["packets"].as_u64();
        shown["nftables"].as_array().and_then(|items| items.iter().find_map(of)).expect("a counter")
    }

    /// The exposure that systemd computes for a unit, 0 to 10.
    #[track_caller]
    pub fn exposure(&self, unit: &str) -> f64 {
        let said = self.host.run(["systemd-analyze", "security", "--no-pager", unit]).ok();
        let line = said.lines().find(|line| line.contains("Overall exposure level")).expect("an exposure");
        let number = line.rsplit_once(": ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no number: {line}"))
    }
}

/// Where peers dial the signer.
pub fn endpoint() -> Endpoint {
    LISTEN.parse().expect("an endpoint")
}

/// The certificate that the host has now, if it has one.
pub fn certificate(host: &Host) -> Option<Certificate> {
    read_certificate(host, "/etc/lsm/signer/tls.cert")
}

/// The one that is to take its place, where there is one.
pub fn next_certificate(host: &Host) -> Option<Certificate> {
    read_certificate(host, "/etc/lsm/signer/next.cert")
}

fn read_certificate(host: &Host, path: &str) -> Option<Certificate> {
    Certificate::parse_pem(&std::fs::read(host.path(path)).ok()?).ok()
}

/// Holds two listings to be the same.
///
/// # Panics
/// Where they are not, with the lines that differ.
#[track_caller]
pub fn assert_unchanged(before: &[String], now: &[String]) {
    if before == now {
        return;
    }
    let [was, is] = [before, now].map(|lines| lines.iter().collect::<BTreeSet<_>>());
    let (gone, new): (Vec<_>, Vec<_>) = (was.difference(&is).collect(), is.difference(&was).collect());
    assert!(gone.is_empty() && new.is_empty(), "was: {gone:#?}\nis: {new:#?}");
}

/// What has a shell list all that find(1) finds with `what`: kind, mode and owner, and of the files that are `hashed` (an
/// expression of find's) the hash, many by one sha256sum(1).
pub fn list_hashed(what: &str, hashed: &str) -> String {
    format!(
        "find {what} \\( {hashed} \\) -fprint0 /tmp/files -printf '%p %y %m %U:%G\\n' -o -printf '%p %y %m %U:%G %l\\n' | LC_ALL=C sort
        xargs -0 sha256sum </tmp/files | LC_ALL=C sort; rm /tmp/files\n"
    )
}

/// The newest release of the matrix that can be installed: it is pinned, and its archive is there.
#[track_caller]
pub fn newest() -> Option<Release> {
    let arch = Arch::of_this_machine().expect("a processor that lnd is released for");
    let pinned = |version: &&str| known::find(version).is_ok_and(|release| release.pin(arch).is_ok());
    let versions: Vec<&str> = RELEASES.into_iter().filter(pinned).collect();
    let found = versions.iter().filter_map(|version| Release::find(version)).find(|r| r.archive().is_some());
    if found.is_none() {
        crate::lab::skip(&format!("there is no archive of {}", versions.join(" or ")));
    }
    found
}
