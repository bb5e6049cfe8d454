//! `lsm launch`: what a program finds closed that was started by it, against the same program started without it.

use crate::lab;
use crate::lab::lnd::{RELEASES, Release};
use crate::lab::process::{self, Daemon, Done};
use crate::lab::wait_for;
use crate::node::{free_port, make_certificate};
use nix::fcntl::AT_FDCWD;
use nix::sys::signal::Signal;
use nix::unistd::{UnlinkatFlags, geteuid};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How the filters refuse.
const EPERM: i32 = nix::libc::EPERM;
/// How Landlock refuses.
const EACCES: i32 = nix::libc::EACCES;

/// Names what [`probe`] is to try, and has it do nothing in any other run of the tests.
const PROBE: &str = "LSM_TEST_PROBE";

/// A folder, a policy in it, and what is tried under that policy.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn make() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with something in it.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, "x").expect("it can be written");
        path
    }

    fn sub_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("it can be made");
        path
    }

    /// `lsm launch` with `policy`, which starts `program`.
    fn launch(&self, policy: &str, program: &Path) -> Command {
        let path = self.path("policy.toml");
        fs::write(&path, policy).expect("the policy can be written");
        let mut command = Command::new(lab::LSM);
        command.arg("launch").arg("--policy").arg(path).arg("--").arg(program);
        command
    }

    /// What becomes of each of `attempts` under `policy`, and without any.
    fn try_all(&self, policy: &str, attempts: &[String]) -> [BTreeMap<String, i32>; 2] {
        let itself = std::env::current_exe().expect("this program");
        [self.launch(policy, &itself), Command::new(&itself)].map(|command| tried(command, attempts))
    }

    /// Holds that each of `attempts` works without a sandbox and is refused under `policy` with one of `errors`.
    #[track_caller]
    fn refuses(&self, policy: &str, attempts: &[String], errors: &[i32]) {
        let [confined, free] = self.try_all(policy, attempts);
        for attempt in attempts {
            assert_eq!(free[attempt], 0, "without a sandbox: {attempt}");
            assert!(errors.contains(&confined[attempt]), "{attempt}: {}", confined[attempt]);
        }
    }

    /// Holds that each of `attempts` works under `policy`.
    #[track_caller]
    fn allows(&self, policy: &str, attempts: &[String]) {
        let [confined, _] = self.try_all(policy, attempts);
        attempts.iter().for_each(|attempt| assert_eq!(confined[attempt], 0, "{attempt}"));
    }
}

fn tried(mut command: Command, attempts: &[String]) -> BTreeMap<String, i32> {
    command.args(["--exact", "launch::probe", "--nocapture", "--test-threads=1"]).env(PROBE, attempts.join("\n"));
    let said = process::run(command).ok();
    let line = |line: &str| {
        let (attempt, answer) = line.strip_prefix("TRIED ")?.rsplit_once(" = ")?;
        Some((attempt.to_owned(), answer.parse().expect("a number")))
    };
    let answers: BTreeMap<String, i32> = said.lines().filter_map(line).collect();
    assert_eq!(answers.len(), attempts.len(), "{said}");
    answers
}

/// No test of its own: the program that is started, which tries what it is told to.
#[test]
fn probe() {
    let Ok(attempts) = std::env::var(PROBE) else { return };
    println!();
    for attempt in attempts.lines() {
        let (what, object) = attempt.split_once(' ').unwrap_or((attempt, ""));
        let answer = attempt_one(what, object).map_or_else(|e| e.raw_os_error().unwrap_or(-1), |()| 0);
        println!("TRIED {attempt} = {answer}");
    }
}

fn attempt_one(what: &str, object: &str) -> io::Result<()> {
    let path = Path::new(object);
    let local = |port: &str| format!("127.0.0.1:{port}");
    match what {
        "read" => fs::read(path).map(drop),
        "list" => fs::read_dir(path).map(drop),
        "write" => fs::write(path, "y"),
        // As Go does it; the C library has an older call for it.
        "remove" => nix::unistd::unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir).map_err(Into::into),
        "descriptors" => {
            let numbers = fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
            let numbers: Vec<_> = numbers.collect::<io::Result<_>>()?;
            println!("OPEN {}", numbers.join(OsStr::new(" ")).display());
            Ok(())
        }
        "link" => symlink("/etc/shadow", path),
        "run" => Command::new(path).status().map(drop),
        "listen" => TcpListener::bind(local(object)).map(drop),
        "connect" => TcpStream::connect(local(object)).map(drop),
        "udp" => UdpSocket::bind(local("0")).map(drop),
        "serve" => UnixListener::bind(path).map(drop),
        "call" => UnixStream::connect(path).map(drop),
        "datagram" => UnixDatagram::unbound().map(drop),
        "signal" => {
            let parent = nix::unistd::getppid();
            nix::sys::signal::kill(parent, None).map_err(Into::into)
        }
        "thread" => std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().expect("it ends")),
        other => panic!("{other}?"),
    }
}

/// `/proc/self/NAME` of a program that was launched with `policy` besides.
fn proc_file(scene: &Scene, policy: &str, name: &str) -> String {
    let policy = format!("read = [\"/proc\"]\n{policy}");
    let mut command = scene.launch(&policy, Path::new("/bin/cat"));
    command.arg(format!("/proc/self/{name}"));
    process::run(command).ok()
}

fn launch(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Done {
    let mut command = Command::new(lab::LSM);
    command.arg("launch").args(args);
    process::run(command)
}

fn quoted(paths: &[&Path]) -> String {
    paths.iter().map(|path| format!("\"{}\"", path.display())).collect::<Vec<_>>().join(", ")
}

fn landlock() -> u32 {
    lsm::sandbox::landlock::Interface::of_kernel().number()
}

#[test]
fn no_right_is_left_in_any_set() {
    let scene = Scene::make();
    let status = proc_file(&scene, "", "status");
    let mut sets = vec!["CapInh", "CapPrm", "CapEff", "CapAmb"];
    if geteuid().is_root() {
        sets.push("CapBnd");
    }
    for set in sets {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set} in {status}");
    }
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t3", "Threads:\t1"] {
        assert!(status.lines().any(|l| l == line), "{line} in {status}");
    }
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:\t")).expect("a umask");
    assert!(umask.ends_with("77"), "what it makes is closed to others: {umask}");
    let status = proc_file(&scene, "group = true", "status");
    assert!(status.contains("Umask:\t0027\n") || status.contains("Umask:\t0077\n"), "{status}");
}

#[test]
fn every_limit_is_in_force_and_no_core_is_left() {
    let policy = "[limits]\nfiles = 64\nprocesses = 5000\nmemory = 1000000000\nfile-size = 4096\n";
    let limits = proc_file(&Scene::make(), policy, "limits");
    for (name, value) in [
        ("Max core file size", "0"),
        ("Max open files", "64"),
        ("Max processes", "5000"),
        ("Max data size", "1000000000"),
        ("Max file size", "4096"),
        ("Max locked memory", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(line[name.len()..].split_whitespace().collect::<Vec<_>>()[..2], [value, value], "{line}");
    }
}

#[test]
fn inherited_descriptors_are_closed() {
    let scene = Scene::make();
    let policy = scene.path("policy.toml");
    fs::write(&policy, "read = [\"/proc\"]").unwrap();
    // The shell leaves 7 and 200 open to what it becomes.
    let seen = |launch: &str| {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("exec 7</etc/passwd 200</etc/passwd; exec {launch} \"$0\" \"$@\""));
        shell.arg(std::env::current_exe().expect("this program")).args(["--exact", "launch::probe", "--nocapture"]);
        let said = process::run({
            shell.env(PROBE, "descriptors");
            shell
        })
        .ok();
        said.lines().find_map(|line| line.strip_prefix("OPEN ").map(str::to_owned)).expect("what is open")
    };
    assert!(seen("").split(' ').any(|number| number == "7") && seen("").contains(" 200"));
    // 3 is the folder in which it looks.
    assert_eq!(seen(&format!("{} launch --policy {} --", lab::LSM, policy.display())), "0 1 2 3");
}

#[test]
fn files_are_closed_but_those_of_the_policy() {
    if landlock() == 0 {
        return lab::skip("this kernel has no Landlock");
    }
    let scene = Scene::make();
    let (read, write, beside) = (scene.file("read"), scene.sub_folder("write"), scene.file("beside"));
    let policy = format!("read = [{}]\nwrite = [{}]\n", quoted(&[&read, Path::new("/no/such")]), quoted(&[&write]));
    let inside = |what: &str, name: &str| format!("{what} {}", write.join(name).display());
    scene.allows(
        &policy,
        &[format!("read {}", read.display()), inside("write", "a"), inside("read", "a"), inside("remove", "a")],
    );
    scene.refuses(
        &policy,
        &[
            "read /etc/passwd".to_owned(),
            "list /".to_owned(),
            format!("read {}", beside.display()),
            format!("write {}", read.display()),
            format!("write {}", scene.path("new").display()),
            format!("remove {}", beside.display()),
        ],
        &[EACCES],
    );
    // The control took it away, or made it.
    fs::write(&beside, "x").unwrap();
    scene.refuses(&policy, &[inside("link", "l")], &[EPERM]);
}

#[test]
fn nothing_else_is_started_and_nobody_is_signalled() {
    let scene = Scene::make();
    scene.refuses("", &["run /bin/true".to_owned(), "signal".to_owned()], &[EPERM, EACCES]);
    scene.allows("", &["thread".to_owned()]);
}

#[test]
fn there_is_no_network_but_the_ports_of_the_policy() {
    let scene = Scene::make();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (ours, other) = (free(), free());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().port();
    let all = [format!("listen {ours}"), format!("connect {there}"), "udp".to_owned()];
    scene.refuses("", &all, &[EPERM]);
    let policy = format!("listen = [{ours}]");
    scene.allows(&policy, &all[..1]);
    scene.refuses(&policy, &all[1..], &[EPERM]);
    if landlock() >= 4 {
        scene.refuses(&policy, &[format!("listen {other}")], &[EACCES]);
    }
}

#[test]
fn a_unix_socket_is_served_and_none_is_called() {
    let scene = Scene::make();
    let folder = scene.sub_folder("run");
    let theirs = scene.path("theirs.sock");
    let _listener = UnixListener::bind(&theirs).unwrap();
    let policy = format!("write = [{}]", quoted(&[&folder]));
    scene.refuses(&policy, &[format!("call {}", theirs.display()), "datagram".to_owned()], &[EPERM]);
    let [confined, _] = scene.try_all(&policy, &[format!("serve {}", folder.join("own.sock").display())]);
    assert_eq!(confined.into_values().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_left_socket_is_removed_and_nothing_else() {
    let scene = Scene::make();
    let socket = scene.path("lnd.sock");
    let policy = format!("socket = {}", quoted(&[&socket]));
    let start = || process::run(scene.launch(&policy, Path::new("/bin/true")));
    start().ok();
    drop(UnixListener::bind(&socket).unwrap());
    start().ok();
    assert!(!socket.exists());

    fs::write(&socket, "precious").unwrap();
    let refused = start();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("is no socket [E-HOST-007]"), "{}", refused.stderr);
    assert_eq!(fs::read(&socket).unwrap(), b"precious");

    // A link to somebody's socket is no socket either.
    fs::remove_file(&socket).unwrap();
    let theirs = scene.path("theirs.sock");
    let _listener = UnixListener::bind(&theirs).unwrap();
    symlink(&theirs, &socket).unwrap();
    assert_eq!(start().code, 1);
    assert!(theirs.exists() && fs::symlink_metadata(&socket).unwrap().is_symlink());
}

#[test]
fn the_credentials_folder_is_known_by_its_variable() {
    if landlock() == 0 {
        return lab::skip("this kernel has no Landlock");
    }
    let scene = Scene::make();
    let folder = scene.sub_folder("credentials");
    fs::write(folder.join("password"), "secret").unwrap();
    let read = |policy: &str, named: Option<&Path>| {
        let mut command = scene.launch(policy, Path::new("/bin/cat"));
        command.arg(folder.join("password")).env_remove("CREDENTIALS_DIRECTORY");
        named.map(|folder| command.env("CREDENTIALS_DIRECTORY", folder));
        process::run(command)
    };
    let policy = "read = [\"$CREDENTIALS_DIRECTORY\"]";
    assert_eq!(read(policy, Some(&folder)).ok(), "secret");
    // The variable and the rest of the environment reach the program.
    let mut env = scene.launch(policy, Path::new("/usr/bin/env"));
    env.env_clear().env("CREDENTIALS_DIRECTORY", &folder).env("A", "b");
    let said = process::run(env).ok();
    assert!(
        said.contains(&format!("CREDENTIALS_DIRECTORY={}\n", folder.display())) && said.contains("A=b\n"),
        "{said}"
    );
    for refused in [read(policy, None), read("", Some(&folder))] {
        assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
    }
}

#[test]
fn it_says_what_the_kernel_gave() {
    let done = launch(["--", "/bin/true"]);
    assert_eq!(done.code, 0);
    assert_eq!(done.stderr, format!("sandbox: {}\n", lsm::sandbox::landlock::Interface::of_kernel()));
    assert_eq!(done.stdout, "");
    let number = landlock();
    launch(["--require-landlock", &number.to_string(), "--", "/bin/true"]).ok();
    let refused = launch(["--require-landlock", &(number + 1).to_string(), "--", "/bin/true"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("Landlock ABI {} is required", number + 1)), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
}

#[test]
fn a_bad_policy_or_program_is_bad_input() {
    let scene = Scene::make();
    let script = scene.file("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let text = scene.file("text");
    for (policy, program, says) in [
        ("reed = []", Path::new("/bin/true"), "unknown field `reed`"),
        ("read = [\"etc\"]", Path::new("/bin/true"), "etc is no absolute path"),
        ("listen = [70000]", Path::new("/bin/true"), "line 1"),
        ("[limits]\nfiles = \"many\"", Path::new("/bin/true"), "line 2"),
        ("\"", Path::new("/bin/true"), "is no launch policy"),
        ("", Path::new("/no/such"), "there is no program /no/such"),
        ("", script.as_path(), "is a script"),
        ("", text.as_path(), "is no ELF program"),
        ("", scene.folder.path(), "there is no program"),
    ] {
        let refused = process::run(scene.launch(policy, program));
        assert_eq!(refused.code, 2, "{policy} {}: {}", program.display(), refused.stderr);
        assert!(refused.stderr.contains(says), "{says}: {}", refused.stderr);
        assert_eq!(refused.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    }
    assert_eq!(launch(["--policy", "/no/such", "--", "/bin/true"]).code, 3);
    assert_eq!(launch(["--"]).code, 2);
    // What it is to write has to be there.
    let missing = process::run(scene.launch("write = [\"/no/such\"]", Path::new("/bin/true")));
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    // Its own exit code is the program's.
    assert_eq!(launch(["--", "/bin/false"]).code, 1);
}

#[test]
fn an_lnd_starts_without_any_library() {
    for version in RELEASES {
        let Some(release) = Release::find(version) else { return };
        let done = launch([OsStr::new("--"), release.lnd().as_os_str(), OsStr::new("--version")]);
        assert!(done.ok().starts_with(&format!("lnd version {}", version.trim_start_matches('v'))));
    }
}

/// The static lsm that `tests/run` builds.
fn static_lsm() -> Option<PathBuf> {
    let found = std::env::var_os("LSM_TEST_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    if found.is_none() {
        lab::skip("there is no static lsm (tests/run builds it)");
    }
    found
}

#[test]
fn a_static_lsm_launches_where_nothing_else_is() {
    let Some(lsm) = static_lsm() else { return };
    let mut readelf = Command::new("readelf");
    readelf.args(["-l", "-d"]).arg(&lsm);
    let said = process::run(readelf).ok();
    // No interpreter, no library: the C library is in it.
    assert!(!said.contains("INTERP") && !said.contains("NEEDED"), "{said}");
    let Some(release) = Release::find(RELEASES[0]) else { return };
    if !geteuid().is_root() {
        return lab::skip("only root can make a folder the root");
    }
    let root = Scene::make();
    process::copy_program(&lsm, &root.path("lsm"));
    process::copy_program(&release.lnd(), &root.path("lnd"));
    fs::write(root.path("policy.toml"), "read = [\"/etc/hosts\"]\n[limits]\nfiles = 64\n").unwrap();
    let mut command = Command::new("chroot");
    command.arg(root.folder.path()).args(["/lsm", "launch", "--policy", "/policy.toml", "--", "/lnd", "--version"]);
    let done = process::run(command);
    assert!(done.stderr.starts_with("sandbox: "), "{}", done.stderr);
    assert!(done.ok().starts_with("lnd version "));
    let inside: Vec<_> = fs::read_dir(root.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(inside.len(), 3, "{inside:?}");
}

/// What lnd's REST interface says of its wallet, with and without the launcher. lnd is a client of its own there.
#[test]
fn an_lnd_under_the_launcher_has_no_rest() {
    for release in RELEASES.into_iter().filter_map(Release::find) {
        for confined in [true, false] {
            let (scene, pair) = (Scene::make(), make_certificate(&["127.0.0.1"], (-1, 30)));
            let folder = scene.sub_folder("lnd");
            fs::write(folder.join("tls.cert"), &pair.certificate).expect("written");
            fs::write(folder.join("tls.key"), &pair.key).expect("written");
            let [rpc, rest] = [free_port(), free_port()];
            let policy = format!(
                "read = [\"/etc\", \"/proc\", \"/sys\"]\nwrite = [{}]\nlisten = [{rpc}, {rest}]\n",
                quoted(&[&folder])
            );
            let lnd = release.lnd();
            let mut command = if confined { scene.launch(&policy, &lnd) } else { Command::new(&lnd) };
            command.arg(format!("--lnddir={}", folder.display())).env("HOME", &folder);
            command.arg(format!("--rpclisten=127.0.0.1:{rpc}")).arg(format!("--restlisten=127.0.0.1:{rest}"));
            command.args(["--bitcoin.regtest", "--bitcoin.node=nochainbackend", "--nolisten", "--nobootstrap"]);
            let mut running = Daemon::start(command, &scene.path("log"));
            let said = wait_for("lnd's REST", Duration::from_secs(60), || {
                let mut curl = Command::new("curl");
                curl.args(["--silent", "--insecure", "--max-time", "5"])
                    .arg(format!("https://127.0.0.1:{rest}/v1/state"));
                Some(process::run(curl).stdout).filter(|said| !said.is_empty() && !said.contains("WAITING_TO_START"))
            });
            println!("{} {confined}: {said}", release.version);
            let answers = said.contains("NON_EXISTING");
            let refused = said.contains("operation not permitted") || said.contains("permission denied");
            assert_eq!((answers, refused), (!confined, confined), "{said}");
            assert!(running.end(Signal::SIGTERM, Duration::from_secs(30)), "it ends");
        }
    }
}
