//! `lsm trial`, as a user without any rights would have it: a signature proved, and nothing touched but its own folder.

use crate::lab;
use crate::lab::lnd::Release;
use crate::lab::process::Done;
use lsm::bundle::Bundle;
use lsm::signer::proof;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown, geteuid};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A number that is no user's, for when root runs the tests.
const STRANGER: u32 = 60_999;

/// A user with a home folder that holds lsm and, in its cache, a verified archive.
struct User {
    home: TempDir,
}

impl User {
    fn make(archive: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("lsm-t").tempdir_in("/tmp").unwrap();
        let user = Self { home };
        let name = archive.file_name().unwrap().to_string_lossy();
        let release = format!(".cache/lsm/archive/{}", name.trim_end_matches(".tar.gz"));
        let kept = user.path(&release);
        fs::create_dir_all(&kept).unwrap();
        fs::copy(archive, kept.join(archive.file_name().unwrap())).unwrap();
        lab::process::copy_program(Path::new(lab::LSM), &user.path("lsm"));
        if geteuid().is_root() {
            for path in ["", ".cache", ".cache/lsm", ".cache/lsm/archive", &release] {
                chown(&user.path(path), Some(STRANGER.into()), Some(STRANGER.into())).unwrap();
            }
        }
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn trial(&self, args: &[&str]) -> Done {
        let mut command = Command::new(self.path("lsm"));
        command.arg("trial").args(args).env_clear().env("HOME", self.home.path()).current_dir("/");
        if geteuid().is_root() {
            command.uid(STRANGER).gid(STRANGER);
        }
        lab::process::run(command)
    }

    /// Starts a trial, and waits until so many of its nodes run.
    fn begin_trial(&self, nodes: usize) -> Child {
        let mut command = Command::new(self.path("lsm"));
        command.arg("trial").env_clear().env("HOME", self.home.path());
        if geteuid().is_root() {
            command.uid(STRANGER).gid(STRANGER);
        }
        let trial = command.spawn().unwrap();
        let run = || (running(self.home.path()).len() >= nodes).then_some(());
        lab::wait_for("the lnds run", Duration::from_secs(60), run);
        trial
    }

    /// Every file below the home folder, by its path from there.
    fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                found.insert(entry.path());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.home.path(), &mut found);
        found.into_iter().map(|path| path.strip_prefix(self.home.path()).unwrap().to_owned()).collect()
    }
}

/// The lnds whose program is below `folder`.
fn running(folder: &Path) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let runs = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(folder) && exe.ends_with("lnd"))
    };
    numbers.filter(runs).collect()
}

fn hold_the_proof(user: &User, said: &Value) {
    let bundle = Bundle::read(user.path(".lnget/trial/bundle").to_str().unwrap()).unwrap();
    let proof = &said["proof"];
    assert_eq!(proof["identity_pubkey"], bundle.identity_pubkey());
    let (message, signature) = (proof["message"].as_str().unwrap(), proof["signature"].as_str().unwrap());
    proof::verify_node_signature(message.as_bytes(), signature, bundle.identity_pubkey()).unwrap();
    let other = format!("{message}.");
    assert!(proof::verify_node_signature(other.as_bytes(), signature, bundle.identity_pubkey()).is_err());
}

#[test]
fn a_trial_proves_a_signature_and_touches_its_own_folder_alone() {
    let Some(archive) = Release::find("v0.21.3-beta").and_then(|release| release.archive()) else { return };
    let user = User::make(&archive);
    let before = user.files();

    let done = user.trial(&["--json"]);
    hold_the_proof(&user, &done.json());
    assert!(running(user.home.path()).is_empty());

    let allowed =
        |path: &&PathBuf| path.starts_with(".lnget") || path.starts_with(".cache/lsm") || before.contains(*path);
    let after = user.files();
    assert_eq!(after.iter().find(|path| !allowed(path)), None);
    for path in after.iter().filter(|path| path.starts_with(".lnget/trial/signer") || path.ends_with("admin.macaroon"))
    {
        let meta = fs::symlink_metadata(user.home.path().join(path)).unwrap();
        let is_secret = meta.is_file()
            && path.to_str().is_some_and(|p| {
                p.ends_with("key") || p.ends_with("admin.macaroon") || p.ends_with(".db") || p.contains("password")
            });
        assert!(!is_secret || meta.mode() & 0o077 == 0, "{} {:o}", path.display(), meta.permissions().mode());
    }

    // Again, in words, and left running: it says how to stop it, and that works.
    let first = hold_kept(&user);
    // Once more over a trial that runs: the earlier one is stopped, not left behind.
    let second = hold_kept(&user);
    assert!(first.iter().all(|pid| !second.contains(pid)));
    for pid in &second {
        kill(Pid::from_raw(*pid), Signal::SIGTERM).unwrap();
    }
    lab::wait_for("both end", Duration::from_secs(20), || running(user.home.path()).is_empty().then_some(()));
}

/// Runs a trial that is kept; gives the processes that it names, which are those that run.
fn hold_kept(user: &User) -> Vec<i32> {
    let done = user.trial(&["--keep"]);
    let said = done.ok();
    let line = said.lines().find_map(|line| line.split_once("kill ")).expect("how to stop it").1;
    let named: BTreeSet<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(named.len(), 2, "{said}");
    assert_eq!(running(user.home.path()).into_iter().collect::<BTreeSet<_>>(), named);
    // The signer is in its sandbox; the watch-only node is an ordinary one.
    let confined = |pid: &&i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        ["NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Seccomp_filters:\t3\n"].iter().all(|line| status.contains(line))
    };
    assert_eq!(named.iter().filter(confined).count(), 1);
    named.into_iter().collect()
}

#[test]
fn an_interrupted_trial_leaves_nothing_running() {
    let Some(archive) = Release::find("v0.21.3-beta").and_then(|release| release.archive()) else { return };
    let user = User::make(&archive);
    let interrupt = |trial: &Child| kill(Pid::from_raw(i32::try_from(trial.id()).unwrap()), Signal::SIGINT).unwrap();
    let tell = |signal| running(user.home.path()).into_iter().for_each(|lnd| kill(Pid::from_raw(lnd), signal).unwrap());
    let end = |mut trial: Child| {
        assert_eq!(trial.wait().unwrap().code(), Some(128 + Signal::SIGINT as i32));
    };
    let nothing_runs = || {
        lab::wait_for("nothing runs", Duration::from_secs(20), || running(user.home.path()).is_empty().then_some(()))
    };
    // While the signer's wallet is made, and while the watch-only node is.
    for nodes in [1, 2] {
        let trial = user.begin_trial(nodes);
        interrupt(&trial);
        end(trial);
        nothing_runs();
    }
    // What hangs is waited for until somebody asks again.
    let trial = user.begin_trial(1);
    tell(Signal::SIGSTOP);
    interrupt(&trial);
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    interrupt(&trial);
    end(trial);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    tell(Signal::SIGKILL);
    nothing_runs();
}
