//! Steady signing through an installed signer in its whole sandbox, with restarts in between: nothing that lnd asks of the
//! kernel is refused.

mod audit;

use crate::caller::{Client, Kind, Port};
use crate::lab::host::LSM_INSIDE;
use crate::lab::{skip, wait_for};
use crate::stage::watch::Until;
use crate::stage::watch_only::WatchOnly;
use crate::stage::{LISTEN, Stage};
use audit::Audit;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Calls that are under way at a time.
const AT_ONCE: usize = 4;
/// Of each of them, between two calls.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// Where all that runs in the sandbox is, lnd and its launcher.
const PROGRAMS: &str = "/usr/local/lib/lsm/";

#[test]
#[ignore = "long: half an hour of steady signing"]
fn an_isolated_signer_signs_steadily_and_is_refused_nothing() {
    sign_steadily("isolated", lasting());
}

#[test]
#[ignore = "long: ten minutes of steady signing"]
fn a_signer_in_host_mode_signs_steadily_and_is_refused_nothing() {
    sign_steadily("host", lasting() / 3);
}

/// How long: half an hour, or LSM_TEST_STEADY seconds.
fn lasting() -> Duration {
    let named = std::env::var("LSM_TEST_STEADY").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(named.unwrap_or(30 * 60))
}

fn sign_steadily(mode: &str, lasting: Duration) {
    let audit = match Audit::start() {
        Ok(audit) => audit,
        Err(reason) => return skip(&reason),
    };
    let Some(stage) = Stage::boot("steady") else { return };
    units_filters_log(&stage);
    a_planted_refusal_shows(&stage, &audit);
    stage.install(&["--taproot-channels", &format!("--mode={mode}")]).ok();
    let folder = tempfile::tempdir().unwrap();
    let kept = WatchOnly::set_up(&stage, stage.host.allowed(), folder.path()).keep();
    let (load, refused) = (Load::default(), Refused { audit: &audit });
    let stretch = lasting / u32::try_from(DISTURBANCES.len() + 1).unwrap();
    let over = AtomicBool::new(false);
    kept.sign_while(|asking| {
        std::thread::scope(|threads| {
            let _until = Until(&over);
            threads.spawn(|| load.put(&stage, &over));
            for disturbance in DISTURBANCES {
                refused.nothing_while(|| std::thread::sleep(stretch));
                refused.only_probes_while(|| {
                    load.disturb(|| {
                        stage.host.sh(disturbance).ok();
                        asking.wait_signed();
                    });
                });
            }
            refused.nothing_while(|| std::thread::sleep(stretch));
        });
        println!("MEASURED signatures of the watch-only node, {mode}: {}", asking.so_far().0);
    });
    for (kind, count) in load.signed.into_inner().unwrap() {
        println!("MEASURED {} in {} s, {mode}: {count}", kind.name(), lasting.as_secs());
        assert!(count > lasting.as_secs(), "{}: {count}", kind.name());
    }
    let failed = load.failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} calls failed: {:?}", failed.len(), failed.first());
    assert_eq!(audit.lost(), 0, "records were lost");
}

/// What Go and lnd look for at every start, and do without.
const PROBES: [&str; 7] = [
    // socket(2), by its number on x86-64 and on ARM: which versions of IP there are. An isolated lnd has none.
    " arch=c000003e syscall=41 ",
    " arch=c00000b7 syscall=198 ",
    // The same where there is one: any port of loopback.
    "blockers=net.bind_tcp saddr=::1",
    "blockers=net.bind_tcp saddr=::ffff:127.0.0.1",
    // How many processors its control group may use, and the home of its user, which is not used.
    "blockers=fs.read_file path=\"/proc/",
    "blockers=fs.read_file path=\"/etc/passwd\"",
    // Told with the first of these.
    "type=1424 ",
];

/// What happens in between: each ends with a signer that signs, or will soon.
const DISTURBANCES: [&str; 6] = [
    "systemctl restart lsm@signer",
    "journalctl --rotate --vacuum-size=1M",
    "systemctl kill --signal=KILL lsm@signer",
    "systemctl restart lsm-firewall && systemctl restart nftables",
    "systemctl stop lsm@signer && systemctl start lsm@signer",
    "journalctl --rotate && systemctl restart systemd-journald",
];

/// From now on the filters of the host's units log what they refuse, as the launcher's do.
fn units_filters_log(stage: &Stage) {
    let folder = stage.host.path("/etc/systemd/system.conf.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("log.conf"), "[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n").unwrap();
    stage.host.run(["systemctl", "daemon-reexec"]).ok();
}

/// A call and a file refused by the launcher, and a call refused by a unit: each shows in the audit log.
fn a_planted_refusal_shows(stage: &Stage, audit: &Audit) {
    stage.host.sh("mkdir /opt/plants && cp /bin/sync /bin/cat /opt/plants && cp /bin/sync /opt/unit-sync").ok();
    stage.host.run([LSM_INSIDE, "launch", "--", "/opt/plants/sync"]);
    audit.wait_refused("/opt/plants/sync");
    assert_ne!(stage.host.run([LSM_INSIDE, "launch", "--", "/opt/plants/cat", "/etc/shadow"]).code, 0);
    // Landlock's record names the program that made the domain.
    audit.wait_refused(LSM_INSIDE);
    let unit = ["--wait", "--property=SystemCallFilter=~sync", "--property=SystemCallErrorNumber=EPERM"];
    stage.host.run(["systemd-run"].into_iter().chain(unit).chain(["/opt/unit-sync"]));
    audit.wait_refused("/opt/unit-sync");
    assert!(audit.refused(PROGRAMS).is_empty(), "nothing is installed yet");
}

/// What was refused to lnd and its launcher.
struct Refused<'a> {
    audit: &'a Audit,
}

impl Refused<'_> {
    /// Nothing at all, while `work` lasts.
    #[track_caller]
    fn nothing_while(&self, work: impl FnOnce()) {
        let new = self.while_doing(work);
        assert!(new.is_empty(), "{} calls were refused: {new:#?}", new.len());
    }

    /// Only what Go asks at a start and does without, while `work` lasts.
    #[track_caller]
    fn only_probes_while(&self, work: impl FnOnce()) {
        let mut new = self.while_doing(work);
        new.retain(|record| !PROBES.iter().any(|probe| record.contains(probe)));
        assert!(new.is_empty(), "{} calls were refused at a start: {new:#?}", new.len());
    }

    fn while_doing(&self, work: impl FnOnce()) -> Vec<String> {
        let before = self.audit.refused(PROGRAMS).len();
        work();
        self.audit.refused(PROGRAMS).split_off(before)
    }
}

/// The calls of a holder of the bundle, and what came of them.
#[derive(Default)]
struct Load {
    signed: Mutex<BTreeMap<Kind, u64>>,
    failed: Mutex<Vec<String>>,
    disturbed: AtomicBool,
}

impl Load {
    /// Has everything signed, in turns, from the allowed peer until `over`.
    fn put(&self, stage: &Stage, over: &AtomicBool) {
        let bundle = stage.bundle();
        let port = Port::new(LISTEN.parse().unwrap(), &bundle.certificate);
        std::thread::scope(|threads| {
            for first in 0..AT_ONCE {
                let (port, bundle) = (&port, &bundle);
                threads.spawn(move || {
                    stage.host.allowed().inside(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(async {
                            let client = Client::new(port, None, &bundle.macaroon, bundle.identity_pubkey());
                            for kind in Kind::ALL.into_iter().cycle().skip(first) {
                                if over.load(Ordering::Relaxed) {
                                    break;
                                }
                                self.keep(kind, client.sign(kind).await);
                                tokio::time::sleep(PAUSE).await;
                            }
                        });
                    });
                });
            }
        });
    }

    fn keep(&self, kind: Kind, answer: Result<(), String>) {
        match answer {
            Ok(()) => *self.signed.lock().unwrap().entry(kind).or_default() += 1,
            Err(_) if self.disturbed.load(Ordering::Relaxed) => {}
            Err(why) => self.failed.lock().unwrap().push(why),
        }
    }

    /// Does `work`, which may make calls fail, and waits until they succeed again.
    fn disturb(&self, work: impl FnOnce()) {
        self.disturbed.store(true, Ordering::Relaxed);
        work();
        let count = || self.signed.lock().unwrap().values().sum::<u64>();
        let (before, start) = (count(), Instant::now());
        // Each of those at once, several times: none still waits for the old lnd.
        wait_for("signatures", PATIENCE, || {
            let steady = start.elapsed() > Duration::from_secs(2) && count() > before + 10 * AT_ONCE as u64;
            steady.then_some(())
        });
        self.disturbed.store(false, Ordering::Relaxed);
    }
}
