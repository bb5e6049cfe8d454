//! Real hosts: clones of a pristine Debian root, booted with their own systemd, network and control groups.

use super::disk::{self, Disk};
use super::net::{self, Net, Peer};
use super::process::{self, Daemon, Done};
use super::site::{kill_group, remove_groups, tool};
use super::{LSM, wait_for};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Where the test's `lsm` is inside a host.
pub const LSM_INSIDE: &str = "/root/lsm";
/// Where [`profiles`] is inside a host.
const PROFILES: &str = "/profiles";

/// What a container may not call by default and a machine may: control group filters, keyrings, limits, Landlock.
const HOST_CALLS: &str = "--system-call-filter=bpf keyctl add_key @resources landlock_create_ruleset landlock_add_rule \
    landlock_restrict_self";

/// Configures the host's own interface at every boot, at the moment and in the order in which ifupdown does it.
const NETWORK_UNIT: &str = "[Unit]
Description=The addresses of this host
DefaultDependencies=no
Wants=network.target
After=local-fs.target network-pre.target
Before=network.target network-online.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip address add @V4@/24 dev host0
ExecStart=/sbin/ip address add @V6@/64 dev host0 nodad
ExecStart=/sbin/ip link set host0 up

[Install]
WantedBy=multi-user.target
";

/// The Debian that a host is a clone of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debian {
    /// The one that nearly every test is made for: 12, where lsm as built on this machine runs there.
    Usual,
    /// 13.
    Trixie,
    /// 12 with its own dockerd, started at boot.
    Docker,
    /// The usual one as a fleet's hosts are: with sshd, Python and cloud-init.
    Fleet,
}

/// A host. Dropped, it is gone with everything that ran in it.
pub struct Host {
    net: Arc<Net>,
    debian: Debian,
    name: String,
    folder: PathBuf,
    machine: Option<Machine>,
    /// Its IPv4 address.
    pub v4: String,
    /// Its IPv6 address.
    pub v6: String,
}

/// A booted container: its supervisor, and the process id of its systemd as seen from outside.
struct Machine {
    supervisor: Daemon,
    leader: i32,
}

impl Host {
    /// Boots a clean host named `name` on a network of its own, with `lsm` at [`LSM_INSIDE`].
    /// `None`, said as a skip, where this machine cannot.
    #[track_caller]
    pub fn boot(name: &str) -> Option<Self> {
        Self::boot_with(name, Disk::Layer)
    }

    /// As [`Host::boot`], on a disk of this kind.
    #[track_caller]
    pub fn boot_with(name: &str, disk: Disk) -> Option<Self> {
        let net = Net::build()?;
        Self::boot_in(&net, name, 2, disk)
    }

    /// Boots a clean host on `net` with the addresses 10.77.0.`last` and fd77::`last`.
    #[track_caller]
    pub fn boot_in(net: &Arc<Net>, name: &str, last: u8, disk: Disk) -> Option<Self> {
        Self::boot_of(Debian::Usual, net, name, last, disk)
    }

    /// As [`Host::boot_in`], a clone of this Debian.
    #[track_caller]
    pub fn boot_of(debian: Debian, net: &Arc<Net>, name: &str, last: u8, disk: Disk) -> Option<Self> {
        let pristine = debian.root();
        if let Some(reason) = lacking(&pristine) {
            super::skip(&reason);
            return None;
        }
        let folder = net.site.folder.join(name);
        let mut host = Self {
            net: Arc::clone(net),
            debian,
            name: format!("{}-{name}", net.site.name),
            folder,
            machine: None,
            v4: format!("10.77.0.{last}"),
            v6: format!("fd77::{last}"),
        };
        host.clone_root(&pristine, disk);
        host.start();
        Some(host)
    }

    /// The peer that tests put on the allowlist.
    pub fn allowed(&self) -> &Peer {
        self.net.allowed()
    }

    /// The peer that tests leave off the allowlist.
    pub fn stranger(&self) -> &Peer {
        self.net.stranger()
    }

    /// The network that it is on.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// A command that will run inside as root: arguments and environment can still be added.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.net.site.command(&self.shells(), "nsenter");
        command.args(["-t", &self.leader().to_string(), "-a", "--wd", "--"]).arg(program);
        if profiles().is_some() {
            command.env("LLVM_PROFILE_FILE", format!("{PROFILES}/%m-%p.profraw"));
        }
        command
    }

    /// Runs a program inside, as root, to its end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = A>) -> Done {
        let mut line = line.into_iter();
        let mut command = self.command(line.next().expect("a program"));
        command.args(line);
        process::run(command)
    }

    /// Runs a shell script inside, as root, to its end.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Done {
        self.run(["sh", "-c", script])
    }

    /// What `journalctl` prints with these arguments, once journald has taken in all that was said before.
    #[track_caller]
    pub fn journal(&self, args: &[&str]) -> String {
        self.run(["journalctl", "--sync"]).ok();
        self.run(["journalctl", "--quiet", "--no-pager"].iter().chain(args)).ok()
    }

    /// Runs `lsm` inside with these arguments.
    #[track_caller]
    pub fn lsm<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        let mut command = self.command(LSM_INSIDE);
        command.args(args);
        process::run(command)
    }

    /// Runs a program inside as the unprivileged user nobody.
    #[track_caller]
    pub fn run_as_nobody<A: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = A>) -> Done {
        let mut command = self.command("setpriv");
        // Nobody has no home, and cannot look into root's.
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "env", "HOME=/nonexistent"]).args(line);
        process::run(command)
    }

    /// Runs `work` on a thread whose sockets are this host's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        net::inside(Path::new(&format!("/proc/{}/ns/net", self.leader())), work)
    }

    /// The path from outside of `path` inside. While the host runs, its /tmp and /run are seen too.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = match &self.machine {
            Some(machine) => PathBuf::from(format!("/proc/{}/root", machine.leader)),
            None => self.root(),
        };
        root.join(path.trim_start_matches('/'))
    }

    /// Copies a file of this machine to `to` inside, with `mode`, making its folder.
    #[track_caller]
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) {
        let to = self.path(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("the folder is made");
        process::copy_program(from, &to);
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("the mode is set");
    }

    /// Copies a file or folder from inside to `to` on this machine.
    #[track_caller]
    pub fn copy_out(&self, from: &str, to: &Path) {
        let from = self.path(from).to_string_lossy().into_owned();
        tool("cp", &["-a".into(), from, to.to_string_lossy().into_owned()]).ok();
    }

    /// The process id, seen from outside, of the host's systemd.
    pub fn leader(&self) -> i32 {
        self.machine.as_ref().expect("the host runs").leader
    }

    /// Shuts down as `systemctl poweroff` does.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut machine = self.machine.take().expect("the host runs");
        let ended = machine.supervisor.end(Signal::SIGTERM, Duration::from_secs(120));
        kill_group(&self.group());
        assert!(ended, "the host did not shut down by itself: {}", self.console());
    }

    /// Ends every process inside at once, as a loss of power does. What was written stays written.
    pub fn crash(&mut self) {
        kill_group(&self.net.site.group(&self.shells()));
        kill_group(&self.group());
        drop(self.machine.take());
    }

    /// Cuts the power of a host on [`Disk::Image`]: what has not reached its disk is lost. Its processes go on without a disk
    /// until [`Host::crash`] ends them.
    pub fn cut_power(&self) {
        disk::cut_power(&self.root());
    }

    /// After [`Host::crash`], boots from what has reached the image.
    #[track_caller]
    pub fn start_from_disk(&mut self) {
        disk::unmount_image(&self.folder, &self.root());
        disk::mount_image(&self.folder, &self.root());
        self.start();
    }

    /// Copies the image of a host that does not run to `to`.
    #[track_caller]
    pub fn save_disk(&self, to: &Path) {
        assert!(self.machine.is_none(), "the host runs");
        disk::unmount_image(&self.folder, &self.root());
        copy_sparse(&disk::image(&self.folder), to);
        disk::mount_image(&self.folder, &self.root());
    }

    /// Gives a host that does not run the image that was saved at `from`, and boots it.
    #[track_caller]
    pub fn start_from(&mut self, from: &Path) {
        assert!(self.machine.is_none(), "the host runs");
        disk::unmount_image(&self.folder, &self.root());
        copy_sparse(from, &disk::image(&self.folder));
        disk::mount_image(&self.folder, &self.root());
        self.start();
    }

    /// The folder of its own on this machine, gone with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Shuts down and boots again.
    #[track_caller]
    pub fn reboot(&mut self) {
        self.stop();
        self.start();
    }

    /// Boots, and waits until systemd says `running` or `degraded`.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_early();
        let limit = Duration::from_secs(120);
        let state = wait_for("the end of the boot", limit, || {
            let said = self.run(["systemctl", "is-system-running", "--wait"]).stdout;
            ["running", "degraded"].into_iter().find(|state| said.trim() == *state)
        });
        if state == "degraded" {
            eprintln!("{} is degraded: {}", self.name, self.run(["systemctl", "--failed", "--no-legend"]).stdout);
        }
    }

    /// Begins to boot and returns as soon as systemd runs inside, long before the boot is over.
    #[track_caller]
    pub fn start_early(&mut self) {
        assert!(self.machine.is_none(), "the host already runs");
        let mut supervisor = Daemon::start(self.nspawn(), &self.folder.join("console"));
        let first = self.group().join("payload/init.scope/cgroup.procs");
        let leader = wait_for("the host's systemd", Duration::from_secs(60), || {
            assert!(supervisor.alive(), "the host did not boot: {}", self.console());
            fs::read_to_string(&first).ok()?.lines().next()?.parse().ok()
        });
        self.machine = Some(Machine { supervisor, leader });
    }

    fn nspawn(&self) -> Command {
        let mut command = self.net.site.command(&self.group_name(), "nsenter");
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").arg(format!("--net={}", self.net.bridge().display()));
        command.args(["--", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--capability=all"]);
        command.args([HOST_CALLS, "--console=pipe", "--link-journal=no"]);
        // The veth pair is made in the bridge's namespace, which nspawn runs in: the machine's own never sees it.
        command.args(["--network-bridge=br0", "--resolv-conf=off", "--timezone=off"]);
        if self.debian == Debian::Docker {
            // On this machine's own disk: a container's layers cannot lie on the host's own layer (overlayfs, upper dir).
            let images = self.folder.join("docker");
            fs::create_dir_all(&images).expect("a folder for what the engine holds");
            command.arg(format!("--bind={}:/var/lib/docker", images.display()));
        }
        if let Some(folder) = profiles() {
            command.arg(format!("--bind={}:{PROFILES}", folder.display()));
        }
        command.arg("--directory").arg(self.root()).arg("--machine").arg(&self.name);
        command
    }

    /// What the console has shown, its end.
    fn console(&self) -> String {
        let text = fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    fn group_name(&self) -> String {
        format!("host-{}", self.v4)
    }

    /// The control group of what tests run inside.
    fn shells(&self) -> String {
        format!("shells-{}", self.v4)
    }

    fn group(&self) -> PathBuf {
        self.net.site.group(&self.group_name())
    }

    /// Lays a disk with the pristine root and puts the host's network unit and `lsm` into it.
    fn clone_root(&self, pristine: &Path, disk: Disk) {
        let root = self.root();
        disk.lay(pristine, &self.folder, &root);
        let unit = NETWORK_UNIT.replace("@V4@", &self.v4).replace("@V6@", &self.v6);
        let units = root.join("etc/systemd/system");
        fs::write(units.join("host-network.service"), unit).expect("the unit is written");
        let wants = units.join("multi-user.target.wants");
        fs::create_dir_all(&wants).expect("the unit's link");
        symlink("../host-network.service", wants.join("host-network.service")).expect("the unit's link");
        self.copy_in(Path::new(LSM), LSM_INSIDE, 0o755);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.crash();
        // The next host at this address must not start in groups that were killed: Linux kills at once what is cloned from a
        // group into another whose count of kills differs (cgroup.c, cgroup_post_fork), as a newer systemd starts its units.
        for group in [self.group(), self.net.site.group(&self.shells())] {
            remove_groups(&group);
        }
        for mount in [self.root(), self.folder.join("disk"), self.folder.clone()] {
            tool("umount", &["--lazy".into(), mount.to_string_lossy().into_owned()]);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Copies a file, leaving out what of it is a hole.
fn copy_sparse(from: &Path, to: &Path) {
    let paths = [from, to].map(|path| path.to_string_lossy().into_owned());
    tool("cp", &[&["--sparse=always".to_owned()], &paths[..]].concat()).ok();
}

impl Debian {
    /// The pristine root that `tests/run` built.
    fn root(self) -> PathBuf {
        let (variable, folder) = match self {
            Self::Usual => ("LSM_TEST_ROOT", "root"),
            Self::Trixie => ("LSM_TEST_TRIXIE", "root-trixie"),
            Self::Docker => ("LSM_TEST_DOCKER", "root-docker"),
            Self::Fleet => ("LSM_TEST_FLEET", "root-fleet"),
        };
        std::env::var_os(variable).map_or_else(|| super::cache().join(folder), PathBuf::from)
    }
}

/// Why this machine cannot boot hosts, where it cannot.
fn lacking(pristine: &Path) -> Option<String> {
    if lsm::host::program::find("systemd-nspawn").is_none() {
        return Some("this machine has no systemd-nspawn".to_owned());
    }
    let system = pristine.join("usr/lib/systemd/systemd").is_file();
    (!system).then(|| format!("there is no pristine host at {} (tests/run builds it)", pristine.display()))
}

/// The folder into which an lsm that counts its lines writes what it ran: see tests/coverage.
fn profiles() -> Option<PathBuf> {
    std::env::var_os("LSM_TEST_PROFILES").map(PathBuf::from)
}
