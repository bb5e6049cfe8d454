//! `lsm install` on a real host, from the bare machine to the running signer: the plan, the secrets, the confinement.

use crate::stage;
use crate::stage::{BUNDLE, PASSWORD, SEED, Stage, assert_unchanged, port, watch};
use lsm::signer::{NOT_PERMITTED, Node};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Where secrets live; no file in them may ever be anybody else's to read.
const SECRET_FOLDERS: &[&str] =
    &["/root/out", "/etc/credstore.encrypted", "/var/lib/lsm", "/run/lsm/signer", "/run/lsm/signer-admin"];
/// What an install changes.
const CHANGED: &str = "/etc /var/lib /usr/local /root";

#[test]
fn a_bare_host_becomes_a_signer_and_tells_no_secret() {
    let Some(stage) = Stage::boot("install") else { return };
    the_plan_needs_no_root_and_changes_nothing(&stage);
    let seen = install_watched(&stage);
    no_file_of_a_secret_was_ever_open_to_others(&seen.modes);
    no_secret_is_anywhere_but_in_its_file(&stage, &seen);
    the_signer_runs_on_one_port(&stage);
    lnd_has_no_rights_and_no_network(&stage);
    nothing_in_lnds_sandbox_leads_out(&stage);
    the_bundle_signs_and_no_more(&stage);
    the_same_again_changes_nothing(&stage);
}

fn the_plan_needs_no_root_and_changes_nothing(stage: &Stage) {
    let before = stage.listing(CHANGED);
    let mut dry = stage.arguments();
    dry.push("--dry-run".into());
    let as_root = stage.host.lsm(&dry).ok();
    assert!(as_root.contains("create the wallet") && as_root.contains("lsm-proxy@signer.socket"), "{as_root}");
    assert_eq!(stage.lsm_as_nobody(&dry).ok(), as_root);
    dry.push("--json".into());
    let as_root = stage.host.lsm(&dry).json();
    assert!(as_root["steps"].as_array().is_some_and(|steps| steps.len() > 20), "{as_root}");
    assert_eq!(stage.lsm_as_nobody(&dry).json(), as_root);
    assert_unchanged(&before, &stage.listing(CHANGED));
}

/// What watchers saw of an install, and what it said.
struct Watched {
    processes: HashSet<Vec<u8>>,
    modes: BTreeMap<PathBuf, HashSet<u32>>,
    said: String,
}

fn install_watched(stage: &Stage) -> Watched {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let processes = watch::processes(threads, &stage.host, &over);
        let modes = watch::modes(threads, &stage.host, SECRET_FOLDERS, &over);
        let until = watch::Until(&over);
        let said = port::call_while(&stage.host, || {
            let done = stage.install(&["--verbose", "--verbose"]);
            let said = format!("{}\n{}", done.stdout, done.stderr);
            assert_eq!(done.code, 0, "{said}");
            said
        });
        drop(until);
        let seen = (processes.join().expect("a watcher"), modes.join().expect("a watcher"));
        Watched { processes: seen.0, modes: seen.1, said }
    })
}

fn no_file_of_a_secret_was_ever_open_to_others(modes: &BTreeMap<PathBuf, HashSet<u32>>) {
    for (path, modes) in modes {
        let open: Vec<_> = modes.iter().filter(|mode| *mode & 0o077 != 0).map(|mode| format!("{mode:o}")).collect();
        assert!(open.is_empty(), "{} was seen with {open:?}", path.display());
    }
    let watched = ["out/seed", "bundle/admin.macaroon", "wallet-password", "tls-key", "wallet.db", "admin.macaroon"];
    for name in watched.into_iter().chain(["macaroons.db", "journal/signer.jsonl", "readonly.macaroon"]) {
        assert!(modes.keys().any(|path| path.to_string_lossy().ends_with(name)), "the watcher missed {name}");
    }
}

fn no_secret_is_anywhere_but_in_its_file(stage: &Stage, seen: &Watched) {
    let shown = seen.processes.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<Vec<_>>();
    let started = |line: &str| shown.iter().any(|p| p.contains(line));
    assert!(started("encrypt\0--name=wallet-password"), "the watcher sees what runs for a moment");
    let places = [
        ("a process", shown.join("\n")),
        ("journald", stage.host.journal(&["--output=export", "--all"])),
        ("lsm's journal", fs::read_to_string(stage.host.path("/var/lib/lsm/journal/signer.jsonl")).unwrap()),
        ("lsm's output", seen.said.clone()),
    ];
    let secrets = secrets(stage);
    for (place, text) in &places {
        assert!(!text.is_empty());
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
        for (name, secret) in &secrets {
            assert!(!text.contains(secret.as_str()), "{name} is in {place}");
        }
        let seed = fs::read_to_string(stage.host.path(SEED)).unwrap();
        let seed: Vec<&str> = seed.lines().collect();
        assert_eq!(seed.len(), 24);
        // Two words of a list of 2048 could stand side by side in a log by chance, three do not.
        for phrase in seed.windows(3) {
            assert!(!words.windows(3).any(|found| found == phrase), "words of the seed are in {place}");
        }
    }
}

/// The secrets of an installed signer as they would look in a text.
fn secrets(stage: &Stage) -> Vec<(&'static str, String)> {
    let unseal = ["systemd-creds", "decrypt", "--name=wallet-password", PASSWORD, "-"];
    let password = stage.host.run(unseal).ok();
    assert!(password.len() >= 20, "the password can be unsealed");
    let mut secrets = vec![("the password", password.trim_end().to_owned())];
    for (name, path) in [
        ("the bundle's macaroon", format!("{BUNDLE}/admin.macaroon")),
        ("the admin macaroon", "/run/lsm/signer-admin/admin.macaroon".to_owned()),
    ] {
        let macaroon = fs::read(stage.host.path(&path)).unwrap();
        secrets.push((name, hex::encode(&macaroon)));
        secrets.push((name, hex::encode_upper(&macaroon)));
        // Its last 32 bytes are what makes it valid.
        secrets.push((name, hex::encode(&macaroon[macaroon.len() - 32..])));
        secrets.push((name, data_encoding::BASE64_NOPAD.encode(&macaroon[..macaroon.len() / 3 * 3])));
    }
    secrets
}

fn the_signer_runs_on_one_port(stage: &Stage) {
    for unit in ["lsm@signer.service", "lsm-proxy@signer.socket", "lsm-firewall.service"] {
        assert!(stage.is_active(unit), "{unit}");
    }
    assert_ne!(stage.host.run(["systemctl", "is-failed", "lsm@signer", "lsm-proxy@signer"]).code, 0);
    // The lnd in which the wallet was made is the signer: no other was started, and nothing is left of making it.
    let starts = stage.host.journal(&["-t", "lnd", "-o", "cat"]).matches("LTND: Version").count();
    assert_eq!(starts, 1);
    assert!(!stage.host.path("/run/systemd/system/lsm@signer.service.d").exists());
    let listeners = stage.host.run(["ss", "-Hltn"]).ok();
    let addresses: Vec<&str> = listeners.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(addresses, [stage::LISTEN]);
    assert_eq!(stage.host.run(["ss", "-Hlun"]).ok(), "", "no UDP");
    let status = stage.host.lsm(["status", "--json"]).json();
    assert_eq!((&status["filtered"], &status["unit_filters"]), (&json!(true), &json!(true)));
    let exposure = stage.exposure("lsm@signer.service");
    println!("MEASURED exposure isolated: {exposure}");
    assert!(exposure <= 0.2, "{exposure}");
    for (unit, limit) in [("lsm-proxy@signer.service", 0.3), ("lsm-firewall.service", 1.2)] {
        let exposure = stage.exposure(unit);
        println!("MEASURED exposure of {unit}: {exposure}");
        assert!(exposure <= limit, "{unit}: {exposure}");
    }
    let units = ["lsm@signer.service", "lsm-proxy@signer.service", "lsm-proxy@signer.socket", "lsm-firewall.service"];
    let verified = stage.host.run(["systemd-analyze", "verify", "--man=no"].iter().chain(&units));
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified:?}");
    // A directive that this systemd does not know would be told here, and ignored.
    let told = stage.host.journal(&["-b", "_PID=1", "-o", "cat"]);
    let told: Vec<_> = told.lines().filter(|line| line.contains("lsm")).collect();
    assert!(!told.is_empty());
    for word in ["Unknown", "ignoring", "deprecated"] {
        assert!(!told.iter().any(|line| line.contains(word)), "{told:?}");
    }
}

fn lnd_has_no_rights_and_no_network(stage: &Stage) {
    let pid = stage.lnd();
    let status = fs::read_to_string(stage.proc(pid, "status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {key}: {status}")).to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{set}");
    }
    assert_eq!((value("NoNewPrivs"), value("Seccomp")), ("1".into(), "2".into()));
    let user = stage.host.run(["id", "-u", "lsm-signer"]).ok();
    assert!(value("Uid").split('\t').all(|uid| uid == user.trim()), "{}", value("Uid"));
    let space = |pid: u32| fs::read_link(stage.proc(pid, "ns/net")).unwrap();
    assert_ne!(space(pid), space(1));
    // In /proc it is root's: not even a process of its own user may look into it.
    for file in ["environ", "mem", "root"] {
        let owner = fs::symlink_metadata(stage.proc(pid, file)).unwrap().uid();
        assert_eq!(owner, 0, "{file}");
    }
    let links = stage.host.run(["nsenter", &format!("--net=/proc/{pid}/ns/net"), "ip", "-o", "link"]).ok();
    assert_eq!(links.lines().filter_map(|line| line.split(": ").nth(1)).collect::<Vec<_>>(), ["lo"]);
}

/// What a program meets that runs in lnd's place: same unit, same user, another command, and a shell's system calls.
const TRIES: &str = "
try() { if timeout 3 bash -c \"$2\" 2>/dev/null; then echo \"$1 open\"; else echo \"$1 shut\"; fi; }
try tcp 'exec 3<>/dev/tcp/10.77.0.3/7777'
try own 'exec 3<>/dev/tcp/10.77.0.2/7778'
try loopback 'exec 3<>/dev/tcp/127.0.0.1/7778'
try udp 'exec 3<>/dev/udp/10.77.0.3/7777'
try write 'echo >/etc/x'
try tmp 'echo >/tmp/x'
find / -xdev -type s 2>/dev/null; find /run /tmp /dev -type s 2>/dev/null; true
";

fn nothing_in_lnds_sandbox_leads_out(stage: &Stage) {
    let _far = stage.host.allowed().inside(|| std::net::TcpListener::bind("10.77.0.3:7777").unwrap());
    let _near = stage.host.inside(|| std::net::TcpListener::bind("0.0.0.0:7778").unwrap());
    let said = |unit: &str| {
        let text = stage.host.journal(&["-u", unit, "-o", "cat"]);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    stage.host.run(["systemd-run", "--wait", "--unit=free", "bash", "-c", TRIES]).ok();
    let free = said("free");
    for line in ["tcp open", "own open", "loopback open", "udp open", "write open", "/run/dbus/system_bus_socket"] {
        assert!(free.iter().any(|said| said == line), "outside of the sandbox {line} does not hold: {free:?}");
    }
    let unit = fs::read_to_string(stage.host.path("/etc/systemd/system/lsm@.service")).unwrap();
    // Its end is not the signer's.
    let unit = unit.replace("\nPropagatesStopTo=", "\n#");
    let folder = stage.host.path("/run/systemd/system/lsm-tries@signer.service.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.with_file_name("lsm-tries@signer.service"), unit).unwrap();
    fs::write(stage.host.path("/usr/bin/tries"), TRIES).unwrap();
    let drop_in = "[Service]\nType=oneshot\nRestart=no\nExecStartPre=\nExecStart=/bin/bash /usr/bin/tries\nExecStartPost=\nExecPaths=/usr /lib /lib64\n\
        SystemCallFilter=\nSystemCallFilter=@system-service\n";
    fs::write(folder.join("tries.conf"), drop_in).unwrap();
    stage.host.sh("systemctl daemon-reload && systemctl start lsm-tries@signer").ok();
    let held = said("lsm-tries@signer");
    for line in ["tcp shut", "own shut", "loopback shut", "udp shut", "write shut", "tmp open"] {
        assert!(held.iter().any(|said| said == line), "not {line}: {held:?}");
    }
    let sockets: HashSet<&str> = held.iter().map(String::as_str).filter(|line| line.starts_with('/')).collect();
    assert_eq!(sockets, HashSet::from(["/run/lsm/signer/lnd.sock"]));
    // The running lnd's own view, not only that of its stand-in.
    let run = fs::read_dir(stage.proc(stage.lnd(), "root/run")).unwrap();
    let names: HashSet<String> = run.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(names.contains("lsm") && !names.contains("dbus") && !names.contains("nscd"), "{names:?}");
}

fn the_bundle_signs_and_no_more(stage: &Stage) {
    let bundle = stage.bundle();
    let signer = stage.signer();
    let refused = |what: &str, tried: lsm::error::Result<()>| {
        assert_eq!(tried.expect_err(what).code(), NOT_PERMITTED, "{what}");
    };
    stage.host.allowed().inside(|| {
        let proof = lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey()).unwrap();
        assert_eq!(proof.identity_pubkey, bundle.identity_pubkey());
        // A stranger's keys are needed only after the macaroon was looked at.
        refused("MuSig2", signer.try_musig2(0, 0, &[]));
        refused("ListAccounts", signer.accounts().map(drop));
        refused("GetInfo", signer.info().map(drop));
        refused("BakeMacaroon", signer.bake(&[], 7).map(drop));
        refused("ListMacaroonIDs", signer.root_key_ids().map(drop));
        refused("lnrpc's SignMessage", signer.sign_as_node(b"x").map(drop));
        let without = Node::new(stage::endpoint(), &bundle.certificate);
        assert!(without.sign_with_key(6, 0, b"x").is_err(), "nobody signs without a macaroon");
    });
}

fn the_same_again_changes_nothing(stage: &Stage) {
    let folders = "/etc /var/lib/lsm /usr/local /root";
    let before = stage.listing(folders);
    let mut dry = stage.arguments();
    dry.extend(["--dry-run".into(), "--json".into()]);
    assert_eq!(stage.host.lsm(&dry).json(), json!({"steps": []}));
    assert_eq!(stage.lsm_as_nobody(&dry).json(), json!({"steps": []}));
    let pid = stage.lnd();
    let said = stage.install(&["--json"]).json();
    assert_eq!(said["changed"], false, "{said}");
    assert_eq!(said["identity_pubkey"], stage.bundle().identity_pubkey());
    assert_unchanged(&before, &stage.listing(folders));
    assert_eq!(stage.lnd(), pid, "the signer was not restarted");
}
