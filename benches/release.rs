//! How long a verified lnd takes, against the plain commands that give an unverified one, measured side by side.
//!
//! `cargo bench --bench release [-- ARCHIVE]`: unpacking, against `sha256sum -c` and `tar xzf` after each other, of that archive or of
//! the newest one that `tests/run` built.
//! `cargo bench --bench release -- --build CACHE`: the source build, against a plain `go build` (many minutes). CACHE is
//! a folder that `lsm release build` filled; its build cache is emptied before each.
//!
//! The table goes to standard output and into docs/performance.md. It asserts nothing.

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "a bench uses its own part")]
mod lab;
#[allow(dead_code, reason = "a bench uses its own part")]
mod report;

use lab::LSM;
use lab::lnd::{RELEASES, Release};
use lsm::host::draft::Durable;
use lsm::release::{self, known, pins};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of each command, in turns, so that a disturbance meets all of them.
const ROUNDS: usize = 9;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let folder = tempfile::tempdir().expect("a folder to work in");
    release::set_unpacker(Path::new(LSM));
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [archive] => unpacking(Path::new(archive), folder.path()),
        ["--build", cache] => building(&fs::canonicalize(cache).expect("the cache is there"), folder.path()),
        [] => {
            let built = RELEASES.iter().find_map(|version| Release::find(version)?.archive());
            if let Some(archive) = built {
                unpacking(&archive, folder.path());
            }
        }
        _ => println!("usage: cargo bench --bench release [-- ARCHIVE | --build CACHE]"),
    }
}

/// Runs `work` with an empty folder, away from what was written before it; gives its time.
fn time(folder: &Path, work: impl FnOnce(&Path)) -> Duration {
    let to = folder.join("to");
    fs::create_dir(&to).unwrap();
    nix::unistd::sync();
    let start = Instant::now();
    work(&to);
    let taken = start.elapsed();
    fs::remove_dir_all(&to).unwrap();
    taken
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn median(times: &[Duration]) -> Duration {
    Duration::from_secs_f64(report::median(times.iter().map(Duration::as_secs_f64)))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn unpacking(archive: &Path, folder: &Path) {
    let archive = fs::canonicalize(archive).expect("the archive is there");
    let verified = release::verify(&archive, None).expect("the archive is an official one");
    let sums = folder.join("sums");
    fs::write(&sums, format!("{}  {}\n", verified.sha256(), archive.display())).unwrap();
    let lsm = |to: &Path| {
        let mut lsm = Command::new(LSM);
        lsm.args(["release", "verify"]).arg(&archive).arg("--unpack").arg(to);
        lsm
    };
    let (mut plain, mut ours, mut durable) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(time(folder, |to| {
            run(Command::new("sha256sum").arg("-c").arg(&sums));
            run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(to));
        }));
        ours.push(time(folder, |to| run(&mut lsm(to))));
        durable.push(time(folder, |to| drop(release::verify_and_unpack(&archive, None, to, Durable::Yes).unwrap())));
    }
    let (parent, child) = peaks(&mut lsm(&folder.join("peak")));
    let (plain, ours, durable) = (median(&plain), median(&ours), median(&durable));
    let ratio = |time: Duration| format!("{:.2}", time.as_secs_f64() / plain.as_secs_f64());
    let mut table = format!("Of `{}`, {} bytes; ", archive.file_name().unwrap().to_string_lossy(), size(&archive));
    let _ = write!(table, "the median of {ROUNDS} rounds, the files in the page cache.\n\n");
    table += "| what | time | of the plain way |\n| --- | --- | --- |\n";
    let _ = writeln!(table, "| `sha256sum -c`, then `tar xzf` | {} | 1 |", seconds(plain));
    let _ = writeln!(table, "| `lsm release verify --unpack` | {} | {} |", seconds(ours), ratio(ours));
    let _ = writeln!(
        table,
        "| the same with fsync, as `lsm install` does it | {} | {} |",
        seconds(durable),
        ratio(durable)
    );
    let _ = writeln!(table, "\nPeak memory: lsm {parent} KiB and its unpacking child {child} KiB.");
    report::write("Verifying and unpacking", &table);
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// The peak memory (VmHWM) of a program and of its one child, in KiB, as last seen before they ended.
fn peaks(command: &mut Command) -> (u64, u64) {
    let mut parent = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = parent.id();
    let peak = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    let (mut own, mut childs) = (0, 0);
    while parent.try_wait().unwrap().is_none() {
        own = own.max(peak(pid).unwrap_or(0));
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let child = children.split_whitespace().next().and_then(|c| c.parse().ok());
        childs = childs.max(child.and_then(peak).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    (own, childs)
}

fn building(cache: &Path, folder: &Path) {
    let (release, arch) = (known::newest().unwrap(), pins::Arch::of_this_machine().unwrap());
    let source = release.source.as_ref().expect("the newest release has a pinned source");
    let forget = || drop(fs::remove_dir_all(cache.join("go/build")));
    // Whoever comes first must not be the one that reads the modules from the disk.
    let read = "find \"$1\" -type f -exec cat {} + >/dev/null";
    run(Command::new("sh").args(["-c", read, "sh"]).arg(cache.join("go/pkg")));
    forget();
    let ours = time(folder, |to| {
        run(Command::new(LSM)
            .args(["release", "build", &release.version])
            .arg("--out")
            .arg(to)
            .env("LSM_CACHE", cache));
    });
    let unzip = |name: String, to: &Path| {
        let zip = fs::File::open(cache.join("zip").join(format!("{}.zip", name.replace('/', "!")))).unwrap();
        zip::ZipArchive::new(zip).unwrap().extract(to).unwrap();
        to.join(name)
    };
    let lnd = unzip(format!("github.com/lightningnetwork/lnd@{}", release.version), &folder.join("lnd"));
    let go = unzip(format!("golang.org/toolchain@v0.0.1-go{}.linux-{arch}", source.go), &folder.join("go"));
    run(Command::new("chmod").args(["-R", "u+x"]).arg(go.join("bin")).arg(go.join("pkg/tool")));
    let flags = fs::read_to_string(lnd.join("make/release_flags.mk")).unwrap();
    let tags = flags.lines().find_map(|l| l.strip_prefix("RELEASE_TAGS = ")).unwrap();
    forget();
    let plain = time(folder, |to| {
        let stamp = format!("-s -w -buildid= -X github.com/lightningnetwork/lnd/build.Commit={}", release.version);
        let mut build = Command::new(go.join("bin/go"));
        build.current_dir(&lnd).env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin");
        build.env("GOPATH", cache.join("go")).env("GOCACHE", cache.join("go/build")).env("GOTOOLCHAIN", "local");
        build.env("CGO_ENABLED", "0").env("GOPROXY", "off").env("GOENV", "off").env("GOFLAGS", "-modcacherw");
        run(build.args(["build", "-trimpath", "-ldflags", &stamp, "-tags", tags, "-o"]).arg(to).args(PROGRAMS));
    });
    // It belongs to another user than lsm's builder now.
    forget();
    let mut table = format!("lnd {}, modules fetched before, with an empty build cache each.\n\n", release.version);
    table += "| what | time | of the plain way |\n| --- | --- | --- |\n";
    let _ = writeln!(table, "| `go build` of both programs, same flags | {} | 1 |", seconds(plain));
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    let _ =
        writeln!(table, "| `lsm release build`: verified, built, packed, verified | {} | {ratio:.2} |", seconds(ours));
    report::write("Building from source", &table);
}

const PROGRAMS: [&str; 2] = ["./cmd/lnd", "./cmd/lncli"];
