//! A source build in a hostile environment: whatever its caller, its user's settings or its own cache say, the archive
//! is the published one or there is none.
//!
//! The real build needs the network once; its caches stay in `LSM_TEST_CACHE` (else below the target folder).

use crate::lab;
use lsm::host::program::{Output, Program};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

const VERSION: &str = "v0.20.0-beta";
const ARCHIVE: &str = "lnd-linux-amd64-v0.20.0-beta.tar.gz";
const PUBLISHED: &str = "88c43d138bb2fb38ccc806da3a2d2a6845cd6a0d6a25b8a3f9ba047a73533557";

/// A module proxy that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1";

/// The environment of the build, with `EVIL` for the folder that [`Evil`] fills. What go, git, gzip and the loader obey.
const ENVIRONMENT: [(&str, &str); 53] = [
    ("PATH", "EVIL/bin:/usr/bin:/bin"),
    ("HOME", "EVIL/home"),
    ("XDG_CONFIG_HOME", "EVIL/home/.config"),
    ("TMPDIR", "EVIL/nowhere"),
    ("LD_LIBRARY_PATH", "EVIL"),
    ("GOENV", "EVIL/home/.config/go/env"),
    ("GOFLAGS", "-tags=evil -ldflags=-X=main.evil=yes -overlay=EVIL/overlay.json -toolexec=EVIL/bin/go"),
    ("GOWORK", "EVIL/go.work"),
    ("GO111MODULE", "off"),
    ("GOTOOLCHAIN", "go1.21.0+path"),
    ("GOROOT", "EVIL/goroot"),
    ("GOTOOLDIR", "EVIL/bin"),
    ("GOPATH", "EVIL/gopath"),
    ("GOBIN", "EVIL/bin"),
    ("GOMODCACHE", "EVIL/gopath/pkg/mod"),
    ("GOCACHE", "EVIL/nowhere"),
    ("GOCACHEPROG", "EVIL/bin/go"),
    ("GOTMPDIR", "EVIL/nowhere"),
    ("GOSUMDB", "off"),
    ("GONOSUMDB", "*"),
    ("GOPRIVATE", "*"),
    ("GONOPROXY", "*"),
    ("GOINSECURE", "*"),
    ("GOVCS", "*:all"),
    ("GOAUTH", "EVIL/bin/git"),
    ("GOOS", "windows"),
    ("GOARCH", "arm64"),
    ("GOAMD64", "v3"),
    ("GOFIPS140", "latest"),
    ("GOEXPERIMENT", "nogreenteagc,arenas"),
    ("GODEBUG", "gocacheverify=0,installgoroot=all"),
    ("GO_EXTLINK_ENABLED", "1"),
    ("GO_LDSO", "EVIL/evil.so"),
    ("CGO_ENABLED", "1"),
    ("CGO_CFLAGS", "-DEVIL"),
    ("CC", "EVIL/bin/cc"),
    ("CXX", "EVIL/bin/cc"),
    ("AR", "EVIL/bin/cc"),
    ("PKG_CONFIG", "EVIL/bin/cc"),
    ("GIT_DIR", "EVIL/repository/.git"),
    ("GIT_WORK_TREE", "EVIL/repository"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_CONFIG_GLOBAL", "EVIL/home/.gitconfig"),
    ("GIT_CONFIG_SYSTEM", "EVIL/home/.gitconfig"),
    ("GIT_EXEC_PATH", "EVIL/bin"),
    ("GIT_SSH_COMMAND", "EVIL/bin/git"),
    ("GZIP", "-1"),
    ("TAR_OPTIONS", "--mtime=now"),
    ("SOURCE_DATE_EPOCH", "1"),
    ("TZ", "Asia/Kathmandu"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("BASH_ENV", "EVIL/bin/git"),
];

/// The same settings in a file, as `go env -w` leaves them.
const GO_ENV: &str = "GOFLAGS=-tags=evil\nGOAMD64=v3\nGOFIPS140=latest\nGOEXPERIMENT=arenas\nGOPROXY=off\n";

/// Every door by which git runs a program.
const GIT_CONFIG: &str = "[core]\n\tfsmonitor = EVIL/bin/git\n\tsshCommand = EVIL/bin/git\n\tpager = EVIL/bin/git\n\
    \thooksPath = EVIL/bin\n[protocol \"ext\"]\n\tallow = always\n[log]\n\tshowSignature = true\n[gpg]\n\
    \tprogram = EVIL/bin/git\n[url \"ext::EVIL/bin/git\"]\n\tinsteadOf = https://\n[alias]\n\tstatus = !EVIL/bin/git\n";

/// Says into which programs it was loaded.
const PRELOADED: &str = r#"
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
    char name[64] = "";
    FILE *comm = fopen("/proc/self/comm", "r");
    FILE *mark = fopen(MARK, "a");
    if (comm && mark && fgets(name, sizeof name, comm)) fprintf(mark, "loaded into %s", name);
    if (mark) fclose(mark);
}
"#;

/// A folder that any user can enter: root's builds are made by somebody else.
fn open_tempdir(within: &Path) -> TempDir {
    let dir = tempfile::Builder::new().prefix("lsm-hostile-").tempdir_in(within).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn cache() -> PathBuf {
    let cache = lab::release_cache();
    std::fs::create_dir_all(&cache).unwrap();
    cache
}

/// What waits for a build that looks where it should not: programs, settings, a repository. Each leaves its name in
/// `mark` where it is run.
struct Evil(TempDir);

impl Evil {
    fn prepare() -> Self {
        let evil = Self(open_tempdir(&std::env::temp_dir()));
        evil.write("mark", "", 0o666);
        for name in ["git", "go", "gzip", "cc", "gcc", "tar", "sh", "fsmonitor-watchman"] {
            evil.write(&format!("bin/{name}"), "#!/bin/bash -p\necho \"run: $0 $*\" >>EVIL/mark\nexit 1\n", 0o755);
        }
        evil.write("home/.gitconfig", GIT_CONFIG, 0o644);
        evil.write("home/.config/go/env", GO_ENV, 0o644);
        evil.write("go.work", "go 1.25\n\nuse ./work\n", 0o644);
        evil.write("work/go.mod", "module github.com/lightningnetwork/lnd/signal\n\ngo 1.25\n", 0o644);
        evil.write("work/signal.go", "package signal\n", 0o644);
        evil.write("overlay.json", "{\"Replace\": {\"version.go\": \"EVIL/work/signal.go\"}}", 0o644);
        evil.write("repository/.git/HEAD", "ref: refs/heads/evil\n", 0o644);
        evil.write("repository/.git/config", GIT_CONFIG, 0o644);
        evil.write("evil.c", PRELOADED, 0o644);
        let mark = format!("-DMARK=\"{}\"", evil.path("mark").display());
        let library = Program::new("cc").args(["-shared", "-fPIC", &mark, "-o"]).arg(evil.path("evil.so"));
        library.arg(evil.path("evil.c")).run().unwrap();
        evil
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("EVIL", self.0.path().to_str().unwrap())
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, self.fill_in(text)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
}

/// A build into `out` from `cache`, asking `goproxy`; `script` starts it, as `"$@"`.
fn build(script: &str, cache: &Path, goproxy: &str, out: &Path) -> Program {
    let lsm = env!("CARGO_BIN_EXE_lsm");
    let args = ["-c", script, "sh", lsm, "--json", "release", "build", VERSION, "--arch", "amd64", "--out"];
    let build = Program::new("/bin/sh").args(args).arg(out).env("LSM_CACHE", cache).env("GOPROXY", goproxy);
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY"];
    let settings = names.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    settings.fold(build, |build, (name, value)| build.env(name, value))
}

fn goproxy() -> String {
    std::env::var("GOPROXY").unwrap_or_else(|_| "https://proxy.golang.org".to_owned())
}

fn assert_published(output: &Output, out: &Path) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {}", output.stderr);
    assert_eq!(hex::encode(Sha256::digest(std::fs::read(out.join(ARCHIVE)).unwrap())), PUBLISHED);
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 1);
}

/// What the hostile build left, made once a run: what it said, and its mark.
fn hostile_build() -> &'static (Output, String) {
    static BUILT: OnceLock<(Output, String)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let (evil, out) = (Evil::prepare(), open_tempdir(&std::env::temp_dir()));
        // The shell is not meant: it sets what would hit itself.
        let script = evil.fill_in("umask 077; ulimit -c unlimited; LD_PRELOAD=EVIL/evil.so exec \"$@\"");
        let build = build(&script, &cache(), &format!("{NOBODY}|{}", goproxy()), out.path());
        let build = ENVIRONMENT.iter().fold(build, |build, (name, value)| build.env(name, evil.fill_in(value)));
        let output = build.output().unwrap();
        assert_published(&output, out.path());
        (output, std::fs::read_to_string(evil.path("mark")).unwrap())
    })
}

#[test]
fn no_setting_of_the_caller_reaches_the_build() {
    let (output, mark) = hostile_build();
    assert!(!output.stderr.contains("once more"), "{}", output.stderr);
    // The loader obeyed for lsm itself, which shows that the trap works, and for nothing that lsm started.
    assert_eq!(mark, "loaded into lsm\n");
}

/// A copy of the cache, by hard links, in which one byte of a compiled package of lnd is another.
fn poisoned_cache() -> TempDir {
    hostile_build();
    let (from, to) = (cache(), open_tempdir(&cache()));
    lsm::release::cache::claim(to.path()).unwrap();
    let copied = ["go", "zip"].map(|name| from.join(name));
    let copy = Program::new("cp").arg("-al").args(copied).arg(to.path());
    copy.run().unwrap();
    // A message of lnd's package signal.
    let find = "find \"$1\" -name '*-d' -size -400k -exec grep -laF 'Gracefully shutting down.' {} +; true";
    let found = Program::new("sh").args(["-c", find, "sh"]).arg(to.path().join("go/build")).run().unwrap();
    let found = String::from_utf8(found).unwrap();
    assert!(!found.is_empty(), "the package is in the cache");
    for object in found.lines() {
        // A new file in its place: the linked one is the real cache's.
        let script = "sed 's/Gracefully shutting down[.]/Gracefully shutting down!/' \"$1\" >\"$1.new\" && \
            chown --reference=\"$1\" \"$1.new\" && mv \"$1.new\" \"$1\"";
        Program::new("sh").args(["-c", script, "sh", object]).run().unwrap();
    }
    to
}

#[test]
fn what_comes_out_of_a_poisoned_cache_is_not_kept() {
    let (cache, out) = (poisoned_cache(), open_tempdir(&std::env::temp_dir()));
    // The second build, with an emptied cache, finds no module.
    let output = build("exec \"$@\"", cache.path(), NOBODY, out.path()).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said} {}", output.stderr);
    assert!(said["error"]["cause"].as_str().unwrap().contains("not as the official archive"), "{said}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("Go's caches were emptied"), "{said}");
    assert!(output.stderr.contains("Go's caches are emptied"), "{}", output.stderr);
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "long: a build with empty caches"]
fn a_poisoned_cache_is_emptied_and_the_build_made_once_more() {
    let (cache, out) = (poisoned_cache(), open_tempdir(&std::env::temp_dir()));
    let output = build("exec \"$@\"", cache.path(), &goproxy(), out.path()).output().unwrap();
    assert!(output.stderr.contains("Go's caches are emptied"), "{}", output.stderr);
    assert_published(&output, out.path());
    // It is the cache that is mended, not the one build.
    let output = build("exec \"$@\"", cache.path(), NOBODY, out.path()).output().unwrap();
    assert!(!output.stderr.contains("once more"), "{}", output.stderr);
    assert_published(&output, out.path());
}
