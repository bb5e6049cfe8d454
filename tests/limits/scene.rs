//! An installed signer, its watch-only node that signs all the while, and addresses that may connect too.

use crate::caller::Port;
use crate::lab::lnd::Release;
use crate::lab::net::{Net, Peer};
use crate::stage::watch::Until;
use crate::stage::watch_only::{Kept, WatchOnly};
use crate::stage::{LISTEN, Stage};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whom the signer hears: the watch-only node's address, and a network for all the others.
const ALLOW: [&str; 2] = ["--allow=10.77.0.3", "--allow=10.77.0.128/26"];
/// The address of the watch-only node.
pub const WATCH_ONLY: &str = "10.77.0.3";
/// Other allowed addresses, all of them the allowed peer's.
pub const OTHERS: [&str; 5] = ["10.77.0.129", "10.77.0.130", "10.77.0.131", "10.77.0.132", "10.77.0.133"];
/// How long anything may take that has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// lnd's memory in bytes (units/lsm@.service).
const MEMORY: u64 = 2 << 30;
/// The addresses that it may have for data, also in bytes.
const DATA: u64 = 3 << 30;
/// What it may be seen above those: Go makes room for a whole request in a reserve of addresses that it holds already, and
/// the kernel checks the limit again only at the next new mapping.
const PIECE: u64 = 256 << 20;
/// Its threads and its descriptors.
const THREADS: u64 = 256;
const FILES: u64 = 4096;

/// The signer and who uses it.
pub struct Scene<'a> {
    /// The signer's host.
    pub stage: &'a Stage,
    /// Where the watch-only node is, and everybody else who is allowed.
    pub peer: &'a Peer,
    /// The signer's port.
    pub port: Port,
    kept: &'a Kept<'a>,
}

/// Installs a signer of `version` in `mode` with a watch-only node, and does `work` there.
pub fn with_scene(mode: &str, version: &str, work: impl FnOnce(&Scene<'_>)) {
    let (Some(release), Some(net)) = (Release::find(version), Net::build()) else { return };
    let Some(stage) = Stage::boot_in(&net, "limits", &release) else { return };
    let arguments: Vec<_> = stage.arguments().into_iter().filter(|a| !a.starts_with("--allow")).collect();
    stage.install_with(&arguments, &[ALLOW[0], ALLOW[1], &format!("--mode={mode}")]).ok();
    let peer = net.allowed();
    for address in OTHERS {
        peer.run(["ip", "address", "add", &format!("{address}/24"), "dev", "eth0"]).ok();
    }
    let folder = tempfile::tempdir().unwrap();
    let kept = WatchOnly::set_up(&stage, peer, folder.path()).keep();
    let port = Port::new(LISTEN.parse().unwrap(), &stage.bundle().certificate);
    work(&Scene { stage: &stage, peer, port, kept: &kept });
}

impl Scene<'_> {
    /// All the while that `work` lasts every signature that is asked for comes, and nothing has to be started again.
    #[track_caller]
    pub fn unharmed(&self, what: &str, work: impl FnOnce()) {
        let before = (self.kept.starts(), self.stage.lnd());
        self.kept.sign_while(|asking| {
            asking.wait_signed();
            work();
            asking.wait_signed();
            let (signed, failed) = asking.so_far();
            assert!(failed.is_empty(), "during {what}: {signed} signatures, {failed:?}");
        });
        assert_eq!((self.kept.starts(), self.stage.lnd()), before, "nothing has to start again after {what}");
    }

    /// Where `work` harms the signer, signer and watch-only node come back by themselves; lnd stays within its limits.
    #[track_caller]
    pub fn alive(&self, what: &str, work: impl FnOnce()) {
        let over = AtomicBool::new(false);
        let (used, back) = std::thread::scope(|threads| {
            let until = Until(&over);
            let used = threads.spawn(|| self.watch_lnd(&over));
            let back = self.kept.sign_while(|asking| {
                asking.wait_signed();
                work();
                let worked = Instant::now();
                asking.wait_signed();
                worked.elapsed()
            });
            drop(until);
            (used.join().expect("a watcher"), back)
        });
        assert!(used.memory < DATA + PIECE, "during {what}: {used:?}");
        assert!(used.threads <= THREADS && used.files <= FILES, "during {what}: {used:?}");
        let (most, back) = (used.memory >> 20, back.as_millis());
        println!("MEASURED {what}: lnd had at most {most} MiB, the next signature took {back} ms");
    }

    /// lnd's limits are what its unit says, in systemd and in the kernel.
    #[track_caller]
    pub fn limits_are_set(&self) {
        let show = ["systemctl", "show", "--property=MemoryMax,MemorySwapMax,TasksMax", "lsm@signer"];
        let shown = self.stage.host.run(show).ok();
        let mut shown: Vec<_> = shown.lines().collect();
        shown.sort_unstable();
        assert_eq!(shown, [format!("MemoryMax={MEMORY}"), "MemorySwapMax=0".into(), format!("TasksMax={THREADS}")]);
        let limits = fs::read_to_string(self.stage.proc(self.stage.lnd(), "limits")).unwrap();
        for (name, value) in [("Max data size", DATA), ("Max open files", FILES), ("Max core file size", 0)] {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
            let hard = line.split_whitespace().nth(1).and_then(|hard| hard.parse().ok());
            assert_eq!(hard, Some(value), "{name}");
        }
    }

    /// The most that lnd was seen with until `over`.
    fn watch_lnd(&self, over: &AtomicBool) -> Used {
        let mut most = Used::default();
        while !over.load(Ordering::Relaxed) {
            let now = self.lnd_uses().unwrap_or_default();
            most.memory = most.memory.max(now.memory);
            most.threads = most.threads.max(now.threads);
            most.files = most.files.max(now.files);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    }

    fn lnd_uses(&self) -> Option<Used> {
        let group = "/sys/fs/cgroup/system.slice/system-lsm.slice/lsm@signer.service/cgroup.procs";
        let pids = fs::read_to_string(self.stage.host.path(group)).ok()?;
        let process = Path::new("/proc").join(pids.lines().next()?);
        let status = fs::read_to_string(process.join("status")).ok()?;
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
        Some(Used {
            memory: value("VmData:")?.parse::<u64>().ok()? << 10,
            threads: value("Threads:")?.parse().ok()?,
            files: u64::try_from(fs::read_dir(process.join("fd")).ok()?.count()).ok()?,
        })
    }
}

/// What an lnd uses of what is limited.
#[derive(Debug, Default)]
struct Used {
    /// Its data in bytes, as RLIMIT_DATA counts it.
    memory: u64,
    threads: u64,
    files: u64,
}
