//! Unpacking an archive: by a child without rights, whole or not at all.

use crate::lab;
use flate2::{Compression, write::GzEncoder};
use lsm::host::draft::Durable;
use lsm::host::program::{Output, Program};
use lsm::plan::{self, Journal, Machine, Plan, Step};
use lsm::release::{self, known, pins};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LSM: &str = env!("CARGO_BIN_EXE_lsm");
const VERSION: &str = "v0.21.3-beta";

fn verify(archive: &Path, to: &Path) -> Output {
    let program = Program::new(LSM).args(["--json", "release", "verify"]).arg(archive).arg("--unpack").arg(to);
    program.output().unwrap()
}

/// The error that a run ended with: exit code, error code, cause.
fn error_of(output: &Output) -> (i32, String, String) {
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |name: &str| said["error"][name].as_str().unwrap().to_owned();
    (output.status.code().unwrap(), text("code"), text("cause"))
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// One tar entry of one byte.
fn entry(path: &str, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(1);
    header.set_cksum();
    let mut all = header.as_bytes().to_vec();
    all.push(b'x');
    all.resize(1024, 0);
    all
}

#[test]
fn a_verified_archive_gives_exactly_the_pinned_programs() {
    let Some(archive) = lab::lnd::Release::find(VERSION).and_then(|r| r.archive()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("not/there/yet");
    let output = verify(&archive, &to);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let pin = known::find(VERSION).unwrap().pin(pins::Arch::of_this_machine().unwrap()).unwrap();
    for (name, pinned) in [("lnd", &pin.lnd), ("lncli", &pin.lncli)] {
        let path = to.join(name);
        assert_eq!(hex::encode(Sha256::digest(fs::read(&path).unwrap())), *pinned.as_ref().unwrap(), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    assert_eq!(count(&to), 2);
}

#[test]
fn what_is_wrong_with_an_archive_is_said_and_nothing_is_left() {
    use tar::EntryType as T;
    let (lnd, lncli, end) = (entry("f/lnd", T::Regular), entry("f/lncli", T::Regular), vec![0; 1024]);
    let tar = |odd: Vec<u8>| gz(&[&odd[..], &lnd, &lncli, &end].concat());
    let whole = tar(Vec::new());
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, code, word) in [
        (whole.clone(), "E-RELEASE-032", "no archive that lsm has a pin for"),
        (whole[..whole.len() / 2].to_vec(), "E-RELEASE-031", "cut short: it ends after"),
        (Vec::new(), "E-RELEASE-031", "cut short: it ends after 0 bytes"),
        (flipped, "E-RELEASE-032", "was changed"),
        (b"plain text".to_vec(), "E-RELEASE-032", "was changed"),
        (gz(b"no tar"), "E-RELEASE-031", "cut short"),
        (tar(entry("f/../lnd", T::Regular)), "E-RELEASE-032", "f/../lnd"),
        (tar(entry("/etc/passwd", T::Regular)), "E-RELEASE-032", "/etc/passwd"),
        (tar(entry("f/\u{1b}[2J", T::Regular)), "E-RELEASE-032", "f/\\u{1b}[2J"),
        (tar(entry("f/lnd", T::Symlink)), "E-RELEASE-032", "Symlink"),
        (tar(entry("f/lnd", T::Block)), "E-RELEASE-032", "Block"),
        (tar(entry("f/lnd", T::Regular)), "E-RELEASE-032", "f/lnd"),
        (tar(entry("f/lnd", T::XHeader)), "E-RELEASE-032", "XHeader"),
        ([&whole[..], b"more"].concat(), "E-RELEASE-032", "more after the end of the gzip member"),
        ([&whole[..], &whole].concat(), "E-RELEASE-032", "more after the end of the gzip member"),
        (gz(&vec![0; 1 << 20]), "E-RELEASE-032", "lacks lnd"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (file, to) = (dir.path().join("lnd-linux-amd64-v1.tar.gz"), dir.path().join("to"));
        fs::write(&file, bytes).unwrap();
        let program = Program::new(LSM).args(["--json", "release", "verify"]).arg(dir.path());
        // Unpacked and not, by name and by the folder that holds it.
        for output in [verify(&file, &to), program.output().unwrap()] {
            let (exit, is, cause) = error_of(&output);
            assert_eq!((exit, is.as_str()), (4, code), "{cause}");
            assert!(cause.contains(word), "{cause}");
        }
        assert_eq!(count(dir.path()), 1, "only the archive is there");
    }
}

#[test]
fn what_is_no_plain_file_or_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, large) = (dir.path().join("pipe"), dir.path().join("large"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::File::create(&large).unwrap().set_len((128 << 20) + 1).unwrap();
    for (path, exit) in [(pipe.as_path(), 2), (Path::new("/dev/zero"), 2), (&dir.path().join("none"), 3), (&large, 4)] {
        let (is, code, cause) = error_of(&verify(path, &dir.path().join("to")));
        assert_eq!(is, exit, "{code} {cause}");
    }
    assert_eq!(count(dir.path()), 2);
}

fn status_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

#[test]
fn the_child_has_no_right_left_before_it_reads() {
    let mut child =
        Command::new(LSM).arg("unpack-archive").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let status = lab::wait_for("a confined child", Duration::from_secs(10), || {
        Some(status_of(pid)).filter(|s| s.contains("Seccomp:\t2\n"))
    });
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000\n")), "{line} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Threads:\t1\n"), "{status}");
    if lsm::host::user::is_root() {
        assert!(status.contains("CapBnd:\t0000000000000000\n"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for name in ["Max file size", "Max core file size"] {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        assert_eq!(line[name.len()..].split_whitespace().collect::<Vec<_>>()[..2], ["0", "0"], "{line}");
    }
    drop(child.stdin.take());
    let mut said = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    let report: serde_json::Value = serde_json::from_slice(&said[5..]).unwrap();
    assert_eq!(report["fault"]["code"], "E-ARCHIVE-004");
    // As much of Landlock as this kernel has.
    let here = std::thread::spawn(|| lsm::sandbox::landlock::Fence::default().enforce()).join().unwrap().unwrap();
    assert_eq!(report["landlock"], serde_json::json!(here));
}

/// Starts a verification of the real archive that unpacks into `to`, and waits for its child.
fn start(archive: &Path, to: &Path) -> Option<(Child, i32)> {
    let mut command = Command::new(LSM);
    command.args(["--json", "release", "verify"]).arg(archive).arg("--unpack").arg(to).stdout(Stdio::piped());
    let mut parent = command.spawn().unwrap();
    let pid = parent.id();
    let children = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    loop {
        let found = fs::read_to_string(&children).unwrap_or_default();
        if let Some(child) = found.split_whitespace().next() {
            return Some((parent, child.parse().unwrap()));
        }
        if parent.try_wait().unwrap().is_some() {
            return None;
        }
    }
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_lsm_leaves_neither_a_file_nor_a_child() {
    let Some(archive) = lab::lnd::Release::find(VERSION).and_then(|r| r.archive()) else { return };
    let dir = tempfile::tempdir().unwrap();
    for wait in [0, 20, 50, 100, 150] {
        let (mut parent, child) = start(&archive, &dir.path().join("to")).expect("it runs long enough");
        std::thread::sleep(Duration::from_millis(wait));
        parent.kill().unwrap();
        parent.wait().unwrap();
        lab::wait_for("the end of the child", Duration::from_secs(10), || {
            let alive = fs::read_to_string(format!("/proc/{child}/status")).is_ok_and(|s| !s.contains("State:\tZ"));
            (!alive).then_some(())
        });
        // Done in the meantime, or nothing.
        let left = fs::read_dir(dir.path().join("to")).map_or(0, Iterator::count);
        assert!(left == 0 && count(dir.path()) == 0 || left == 2, "{left} left after {wait} ms");
        let _ = fs::remove_dir_all(dir.path().join("to"));
    }
}

#[test]
fn without_its_child_lsm_fails_and_leaves_nothing() {
    let Some(archive) = lab::lnd::Release::find(VERSION).and_then(|r| r.archive()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (parent, child) = start(&archive, &dir.path().join("to")).expect("it runs long enough");
    kill(child);
    let ended = parent.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("E-RELEASE-070"));
    assert_eq!(count(dir.path()), 0);
}

#[test]
fn an_archive_that_changes_after_it_was_verified_is_not_unpacked() {
    let Some(archive) = lab::lnd::Release::find(VERSION).and_then(|r| r.archive()) else { return };
    release::set_unpacker(Path::new(LSM));
    let dir = tempfile::tempdir().unwrap();
    let (copy, to) = (dir.path().join("lnd.tar.gz"), dir.path().join("to"));
    fs::copy(&archive, &copy).unwrap();
    let verified = release::verify(&copy, None).unwrap();
    // Another file of the same name is not what was verified, and not what is unpacked.
    fs::rename(&copy, dir.path().join("moved")).unwrap();
    fs::write(&copy, b"another").unwrap();
    verified.unpack(&to, [0o711, 0o755], Durable::No).unwrap();
    let mode = |name| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((count(&to), mode("lnd"), mode("lncli")), (2, 0o711, 0o755));
    fs::remove_dir_all(&to).unwrap();
    // The same file with another byte is noticed.
    let same = fs::File::options().write(true).open(dir.path().join("moved")).unwrap();
    same.write_all_at(b"\0", 20_000_000).unwrap();
    let error = verified.unpack(&to, [0o755; 2], Durable::No).unwrap_err();
    assert_eq!((error.code().id, error.code().exit as u8), ("E-RELEASE-036", 4), "{error}");
    assert_eq!(count(dir.path()), 2);
}

#[test]
fn a_verified_archive_is_not_unpacked_as_another_version() {
    let Some(archive) = lab::lnd::Release::find(VERSION).and_then(|r| r.archive()) else { return };
    let dir = tempfile::tempdir().unwrap();
    release::set_unpacker(Path::new(LSM));
    let archive = release::verify(&archive, None).unwrap();
    let folder = dir.path().join("lnd");
    let version = "v0.20.0-beta".to_owned();
    let step = Step::Release { version, folder: folder.clone(), lnd_mode: 0o755, lnd_sha256: None, lncli_sha256: None };
    let mut journal = Journal::open(&dir.path().join("journal.jsonl")).unwrap();
    let machine = Machine { archive: Some(&archive), ..Machine::default() };
    let error = plan::apply(&Plan { steps: vec![step] }, "test", &mut journal, &machine).unwrap_err();
    assert_eq!(error.code().id, "E-PLAN-014");
    assert!(!folder.exists());
}
