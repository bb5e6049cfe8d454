//! One folder, control group and lock for everything that one network of the lab holds, and the sweep of what killed runs left.

use super::process::{self, Done};
use super::wait_for;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where sites are. On disk, since overlays of hosts grow to hundreds of megabytes.
const SITES: &str = "/var/tmp/lsm-lab";
const PREFIX: &str = "lsmlab-";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A site: its name is unique on the machine, and its lock is held while the test process lives.
pub struct Site {
    /// `lsmlab-PID-N`: also the prefix of its network namespaces and the name of its control group.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    _lock: File,
}

impl Site {
    /// Makes a site, after sweeping the sites whose process is gone.
    pub fn make() -> Self {
        fs::create_dir_all(SITES).expect("the lab's folder");
        let all = File::create(Path::new(SITES).join("lock")).expect("the lab's lock");
        all.lock().expect("the lab's lock");
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(SITES).join(&name);
        fs::create_dir(&folder).expect("a new site");
        let lock = File::create(folder.join("lock")).expect("the site's lock");
        lock.lock().expect("a new site's lock is free");
        let group = groups().join(&name);
        fs::create_dir_all(&group).expect("a control group");
        // What the machine can limit, hosts can limit too: their units' MemorySwapMax and TasksMax then hold.
        for controller in fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default().split_whitespace() {
            let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        Self { name, folder, _lock: lock }
    }

    /// `program` started inside this site's control group, so that nothing survives the site.
    pub fn command(&self, group: &str, program: &str) -> Command {
        let procs = groups().join(&self.name).join(group);
        fs::create_dir_all(&procs).expect("a control group");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("echo $$ >\"$0\" && exec \"$@\"").arg(procs.join("cgroup.procs")).arg(program);
        command.env_clear().env("PATH", process::PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        command
    }

    /// The control group `group` of this site.
    pub fn group(&self, group: &str) -> PathBuf {
        groups().join(&self.name).join(group)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        clear(&self.folder);
    }
}

/// The root of the version 2 control groups; a machine with both versions has it beside the old ones.
fn groups() -> PathBuf {
    let beside = Path::new("/sys/fs/cgroup/unified");
    if beside.is_dir() { beside.into() } else { "/sys/fs/cgroup".into() }
}

/// Kills everything in the control group `group` and below, and waits until it is empty.
pub fn kill_group(group: &Path) {
    if fs::write(group.join("cgroup.kill"), "1").is_ok() {
        wait_for("the end of killed processes", Duration::from_secs(20), || {
            let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
            (!events.contains("populated 1")).then_some(())
        });
    }
}

/// Clears the sites whose lock nobody holds any more. The lab's lock must be held.
fn sweep() {
    for entry in fs::read_dir(SITES).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let free = || File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
        if ours && free() {
            clear(&path);
        }
    }
}

/// Ends and removes all that a site holds; what is already gone is passed over.
fn clear(folder: &Path) {
    let name = folder.file_name().expect("a site has a name").to_string_lossy().into_owned();
    kill_group(&groups().join(&name));
    let mut mounts = mounts_below(folder);
    mounts.reverse();
    for mount in mounts {
        tool("umount", &["--lazy".into(), mount]);
    }
    let spaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for space in spaces.map(|e| e.file_name().to_string_lossy().into_owned()) {
        if space.starts_with(&format!("{name}-")) {
            tool("ip", &["netns".into(), "delete".into(), space]);
        }
    }
    remove_groups(&groups().join(&name));
    remove_groups(&Path::new("/sys/fs/cgroup/systemd").join(&name));
    let _ = fs::remove_dir_all(folder);
}

/// The mount points below `folder`, in the order of mounting.
fn mounts_below(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|p| Path::new(p).starts_with(folder)).map(str::to_owned).collect()
}

/// Removes a control group and those below it; all that was in them has ended.
pub fn remove_groups(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_groups(&below.path());
    }
    let _ = fs::remove_dir(group);
}

/// Runs one of the machine's tools, whatever its end.
pub fn tool(name: &str, args: &[String]) -> Done {
    let mut command = Command::new(name);
    command.args(args).env("PATH", process::PATH);
    process::run(command)
}
