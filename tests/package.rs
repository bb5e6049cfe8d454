//! What is handed out: the Debian package on a real host, where a purge costs nobody a wallet; and, long, a release that
//! comes out the same wherever it is made.

use crate::lab;
use crate::lab::process::{self, Done};
use crate::stage::package::{self, ARCH};
use crate::stage::{BUNDLE, SEED, Stage, assert_unchanged};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The most bytes that lsm may have.
const LARGEST: usize = 10_000_000;
/// The package, inside.
const PACKAGE: &str = "/root/lsm.deb";
/// What a purge must not touch.
const STATE: &str = "/etc/lsm /etc/credstore.encrypted /etc/systemd/system /usr/local /var/lib/lsm/signer";

/// The static lsm; `None`, said as a skip, where that was not built.
#[track_caller]
fn static_lsm() -> Option<PathBuf> {
    let program = std::env::var_os("LSM_TEST_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    if program.is_none() {
        lab::skip("there is no static lsm (tests/run builds it)");
    }
    program.filter(|_| package::has(&["dpkg-deb", "git", "jq"]))
}

/// The package of the static lsm, made once.
#[track_caller]
fn package_of(program: &Path) -> &'static [u8] {
    static PACKAGE: OnceLock<Vec<u8>> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::read(package::make_of(program, folder.path())).unwrap()
    })
}

/// What `dpkg-deb` says of a package.
#[track_caller]
fn dpkg_deb(what: &str, package: &Path) -> String {
    let mut command = Command::new("dpkg-deb");
    command.arg(what).arg(package);
    process::run(command).ok()
}

#[test]
fn a_package_has_programs_and_texts_and_nothing_that_runs_by_itself() {
    let Some(program) = static_lsm() else { return };
    let folder = tempfile::tempdir().unwrap();
    let one = package::make_of(&program, folder.path());
    assert!(fs::read(&one).unwrap() == package_of(&program), "the same bytes each time");
    let control = process::run({
        let mut command = Command::new("sh");
        command.args(["-c", "dpkg-deb --ctrl-tarfile \"$0\" | tar -t"]).arg(&one);
        command
    });
    assert_eq!(
        control.ok().split_whitespace().collect::<BTreeSet<_>>(),
        BTreeSet::from(["./", "./control", "./md5sums"])
    );
    let listed = dpkg_deb("--contents", &one);
    for line in listed.lines() {
        let [mode, owner, _, _, _, path] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let wanted = if path.ends_with('/') || path == "./usr/bin/lsm" { "rwxr-xr-x" } else { "rw-r--r--" };
        assert_eq!((&mode[1..], owner), (wanted, "root/root"), "{line}");
    }
    let names: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.rsplit_once(" .").map(|(_, path)| path)).collect();
    for path in [
        "/usr/bin/lsm",
        "/usr/share/man/man1/lsm.1.gz",
        "/usr/share/man/man1/lsm-install.1.gz",
        "/usr/share/man/man1/lsm-watch-only-init.1.gz",
        "/usr/share/bash-completion/completions/lsm",
        "/usr/share/zsh/vendor-completions/_lsm",
        "/usr/share/fish/vendor_completions.d/lsm.fish",
        "/usr/share/doc/lsm-signer/copyright",
        "/usr/share/doc/lsm-signer/docs/operators-guide.md",
    ] {
        assert!(names.contains(path), "{path}: {listed}");
    }
    no_link_leads_nowhere(&one);
}

/// Whoever reads the documents of the package finds what they point to beside them.
fn no_link_leads_nowhere(package: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut extract = Command::new("dpkg-deb");
    extract.arg("--extract").arg(package).arg(folder.path());
    process::run(extract).ok();
    let (mut pages, mut links) = (vec![folder.path().join("usr/share/doc/lsm-signer")], 0);
    while let Some(path) = pages.pop() {
        if path.is_dir() {
            pages.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            assert!(path.with_file_name(target).exists(), "{}: {target}", path.display());
            links += 1;
        }
    }
    assert!(links > 100, "{links}");
}

impl Stage {
    /// The lsm that the package brought.
    #[track_caller]
    fn packaged(&self, args: &[&str]) -> Done {
        self.host.run(["lsm"].iter().chain(args))
    }
}

#[test]
fn a_host_with_only_the_package_becomes_a_signer_and_a_purge_leaves_it() {
    let Some(program) = static_lsm() else { return };
    let Some(stage) = Stage::boot("package") else { return };
    stage.host.sh("rm /root/lsm /usr/bin/lsm").ok();
    fs::write(stage.host.path(PACKAGE), package_of(&program)).unwrap();
    stage.host.run(["dpkg", "--install", PACKAGE]).ok();
    stage
        .host
        .sh("dpkg --verify lsm-signer && bash -c '. /usr/share/bash-completion/completions/lsm && complete -p lsm'")
        .ok();

    let (archive, release) = (stage.archive_inside(), stage.release.version.clone());
    let install =
        ["install", "--network=regtest", "--from", &archive, "--release", &release, "--listen=10.77.0.2:10012"];
    let install = [&install[..], &["--allow=10.77.0.3", "--seed-out", SEED, "--bundle-out", BUNDLE, "--yes"]].concat();
    stage.packaged(&install).ok();
    stage.packaged(&["status"]).ok();

    let before = stage.listing(STATE);
    stage.host.run(["dpkg", "--purge", "lsm-signer"]).ok();
    assert_ne!(stage.host.sh("test -e /usr/bin/lsm || ls -d /usr/share/doc/lsm-signer").code, 0, "the package is gone");
    assert_unchanged(&unused(&before), &unused(&stage.listing(STATE)));
    stage.host.run(["/usr/local/lib/lsm/lsm", "status"]).ok();
    signs(&stage);

    // Another lsm than the signer's own, as a newer package brings it.
    stage.host.copy_in(Path::new(lab::LSM), lab::host::LSM_INSIDE, 0o755);
    let drift = stage.host.lsm(["status", "--json"]).json()["drift"].to_string();
    assert!(drift.contains("/usr/local/lib/lsm/lsm"), "{drift}");
    stage.host.sh("rm /root/lsm").ok();

    stage.host.run(["dpkg", "--install", PACKAGE]).ok();
    let plan = stage.packaged(&[&install[..install.len() - 1], &["--dry-run", "--json"]].concat()).json();
    assert_eq!(plan["steps"], Value::Array(vec![]), "the same package again has nothing to do");
    stage.packaged(&["uninstall", "--yes"]).ok();
    stage.host.run(["dpkg", "--purge", "lsm-signer"]).ok();
    stage.host.sh("test -s /var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db").ok();
    stage.host.sh("test -s /etc/credstore.encrypted/lsm-signer.wallet-password && id lsm-signer").ok();
}

/// The lines of a listing but for what a running lnd writes: databases and logs in its folder.
fn unused(listing: &[String]) -> Vec<String> {
    listing.iter().filter(|line| !line.starts_with("/var/lib/lsm/signer/")).cloned().collect()
}

/// Holds that the allowed peer gets a signature.
#[track_caller]
fn signs(stage: &Stage) {
    let (bundle, signer) = (stage.bundle(), stage.signer());
    let proof = stage.host.allowed().inside(|| lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey()));
    assert_eq!(proof.unwrap().identity_pubkey, bundle.identity_pubkey());
}

/// A release, made with a scratch folder and a cargo folder whose paths are this test's own.
#[track_caller]
fn release(folder: &Path, key: &Path, archs: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let (scratch, cargo, out) = (folder.join("scratch"), folder.join("cargo"), folder.join("out"));
    fs::create_dir_all(&scratch).unwrap();
    fs::create_dir_all(&cargo).unwrap();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let own = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    for entry in fs::read_dir(own).unwrap().map(Result::unwrap) {
        symlink(entry.path(), cargo.join(entry.file_name())).unwrap();
    }
    let tools = lab::cache().join("tools/bin");
    let path =
        std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let mut make = Command::new(Path::new(ROOT).join("deploy/release"));
    make.env("XDG_CACHE_HOME", &scratch).env("CARGO_HOME", &cargo).env("PATH", path.unwrap());
    make.env_remove("CARGO_TARGET_DIR").arg("--out").arg(&out).arg("--sign").arg(key);
    make.args(archs.iter().flat_map(|arch| ["--arch", arch]));
    process::run(make).ok();
    let files = fs::read_dir(&out).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// Whether this machine can build for 64-bit ARM.
fn can_build_arm64() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    let sysroot = process::run(rustc).ok();
    Path::new(sysroot.trim()).join("lib/rustlib/aarch64-unknown-linux-musl").is_dir()
        && lsm::host::program::find("aarch64-linux-gnu-gcc").is_some()
}

#[test]
#[ignore = "long: builds lsm two times and more"]
fn a_release_is_the_same_bytes_in_two_folders() {
    if !package::has(&["git", "jq", "dpkg-deb", "musl-gcc", "minisign"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = (folder.path().join("key"), folder.path().join("key.pub"));
    let mut generate = Command::new("minisign");
    generate.arg("-GW").arg("-s").arg(&key).arg("-p").arg(&public);
    process::run(generate).ok();

    let one = release(&folder.path().join("one"), &key, &[ARCH]);
    let other_arch = if ARCH == "amd64" && can_build_arm64() {
        vec!["arm64"]
    } else {
        lab::skip("a release for 64-bit ARM is built on x86-64 with aarch64-linux-gnu-gcc and Rust's target");
        vec![]
    };
    let deeper = folder.path().join("another/and/a/deeper/folder");
    let other = release(&deeper, &key, &[&[ARCH], &other_arch[..]].concat());

    let differ: Vec<_> =
        one.iter().filter(|(name, bytes)| other.get(*name) != Some(bytes)).map(|(name, _)| name).collect();
    // They name more files, and another compiler, where more was built.
    let names_more = |name: &str| name.starts_with("SHA256SUMS") || name.ends_with(".buildinfo");
    assert!(differ.iter().all(|name| names_more(name) && !other_arch.is_empty()), "{differ:?} differ");
    let made_with = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        let text = String::from_utf8_lossy(&files[&format!("lsm-{VERSION}.buildinfo")]).into_owned();
        text.lines().filter(|line| !line.starts_with("aarch64-linux-gnu-gcc")).map(str::to_owned).collect()
    };
    assert_eq!(made_with(&one), made_with(&other));
    the_program_is_small_and_tells_no_path(&one, folder.path());
    the_parts_are_told(&one);
    if !other_arch.is_empty() {
        let program = &other[&format!("lsm-{VERSION}-linux-arm64")];
        // e_machine of a 64-bit ARM program (elf(5), EM_AARCH64).
        assert_eq!(program[18..20], 183_u16.to_le_bytes());
        assert!(other.contains_key(&format!("lsm-signer_{VERSION}_arm64.deb")));
    }
    the_sums_are_signed(&deeper.join("out"), &public, &other);
}

fn the_program_is_small_and_tells_no_path(files: &BTreeMap<String, Vec<u8>>, folder: &Path) {
    let program = &files[&format!("lsm-{VERSION}-linux-{}", ARCH)];
    println!("MEASURED bytes of the program that is handed out: {}", program.len());
    assert!(program.len() <= LARGEST, "{} bytes", program.len());
    let text = String::from_utf8_lossy(program);
    for path in [folder.to_str().unwrap(), ROOT, "/.cargo/registry"] {
        assert!(!text.contains(path), "the program tells {path}");
    }
}

/// The bill names every crate that is built into the program, with the hash of Cargo.lock.
fn the_parts_are_told(files: &BTreeMap<String, Vec<u8>>) {
    let bill: Value = serde_json::from_slice(&files[&format!("lsm-{VERSION}.cdx.json")]).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let told: BTreeMap<String, String> = bill["components"]
        .as_array()
        .expect("components")
        .iter()
        .map(|part| {
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            (format!("{} {}", text(&part["name"]), text(&part["version"])), text(&part["hashes"][0]["content"]))
        })
        .collect();
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", "--target"]);
    tree.arg(format!("{}-unknown-linux-musl", std::env::consts::ARCH)).current_dir(ROOT);
    let lock: toml::Table = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap().parse().unwrap();
    let locked = |name: &str| {
        let packages = lock["package"].as_array().unwrap().iter();
        let of =
            |p: &&toml::Value| format!("{} {}", p["name"].as_str().unwrap(), p["version"].as_str().unwrap()) == name;
        packages.clone().find(of).and_then(|p| p.get("checksum")?.as_str().map(str::to_owned))
    };
    let built = process::run(tree).ok();
    // The first is lsm itself; a second mention is marked.
    let built: BTreeSet<String> =
        built.lines().skip(1).map(|l| l.split(" (").next().unwrap().replace(" v", " ")).collect();
    assert!(built.len() > 100, "{built:?}");
    for part in built.iter().filter(|part| !part.is_empty()) {
        assert_eq!(told.get(part).cloned(), locked(part), "{part}");
    }
}

/// The sums are those of the files, and the signature is on them.
fn the_sums_are_signed(out: &Path, public: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let sums = String::from_utf8(files["SHA256SUMS"].clone()).unwrap();
    let told: BTreeMap<&str, &str> =
        sums.lines().map(|line| line.split_once("  ").expect("a sum")).map(|(hash, name)| (name, hash)).collect();
    let is_sum = |name: &str| name.starts_with("SHA256SUMS");
    assert_eq!(told.keys().count(), files.keys().filter(|name| !is_sum(name)).count());
    for (name, bytes) in files.iter().filter(|(name, _)| !is_sum(name)) {
        assert_eq!(told[name.as_str()], hex::encode(Sha256::digest(bytes)), "{name}");
    }
    let verify = || {
        let mut verify = Command::new("minisign");
        verify.arg("-Vm").arg(out.join("SHA256SUMS")).arg("-p").arg(public);
        process::run(verify)
    };
    assert!(verify().ok().contains(&format!("Trusted comment: lsm {VERSION} of commit ")));
    fs::write(out.join("SHA256SUMS"), sums.replacen('0', "1", 1)).unwrap();
    assert_ne!(verify().code, 0, "another sum has no signature");
}
