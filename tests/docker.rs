//! A signer in a container, on a real host with a real dockerd: it signs for the allowed alone, and goes without a trace.

use crate::lab;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::lab::wait_for;
use crate::stage;
use crate::stage::{BUNDLE, PORT, SEED, Stage, assert_unchanged};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(700);

impl Stage {
    /// The container as its engine describes it.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        self.host.run(["docker", "inspect", "litd-signer"]).json()[0].clone()
    }

    /// The container's own address.
    #[track_caller]
    fn address(&self) -> String {
        self.inspect()["NetworkSettings"]["Networks"]["lsm-signer"]["IPAddress"]
            .as_str()
            .expect("an address")
            .to_owned()
    }

    #[track_caller]
    fn wait_until_healthy(&self) {
        wait_for("the health check", Duration::from_secs(60), || {
            (self.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
        });
    }

    /// Holds that the allowed peer is served, and nobody else on any road.
    #[track_caller]
    pub fn hold_the_door(&self) {
        let (host, inside) = (&self.host, self.address());
        assert_eq!(host.allowed().knock(&host.v4, PORT, PATIENCE), Met::Open);
        host.allowed().inside(|| self.signer().state()).expect("the allowed peer is answered");
        let stranger = host.stranger();
        stranger.run(["ip", "route", "replace", &format!("{inside}/32"), "via", &host.v4]).ok();
        host.sh(NEIGHBOUR).ok();
        // Each waits for an answer that does not come: all at once.
        let roads = [host.v4.as_str(), &inside];
        let (knocks, codes) = std::thread::scope(|threads| {
            let knocks = roads.map(|address| threads.spawn(move || stranger.knock(address, PORT, SOON)));
            let codes = roads.map(|address| {
                let nobody = threads.spawn(move || host.run_as_nobody(dial(address)).code);
                let other = threads.spawn(move || host.run(as_neighbour(address)).code);
                [nobody, other]
            });
            let code = |dialling: ScopedJoinHandle<'_, i32>| dialling.join().expect("it ends");
            (knocks.map(|knock| knock.join().expect("it ends")), codes.map(|both| both.map(code)))
        });
        assert_eq!(knocks, [Met::Silence; 2], "a stranger at {roads:?}");
        for (address, [nobody, other]) in roads.into_iter().zip(codes) {
            assert_ne!(nobody, 0, "a user of the host, {address}");
            assert_ne!(other, 0, "another container, {address}");
        }
        assert_eq!(host.run(dial(&inside)).code, 0, "root");
    }
}

/// The program that connects to the signer's port at `address`, and fails where it cannot.
fn dial(address: &str) -> Vec<String> {
    let script = format!("exec 3<>/dev/tcp/{address}/{PORT}");
    ["timeout", "1", "bash", "-c", &script].map(str::to_owned).into()
}

/// Makes a namespace that is on the engine's usual bridge, as any other container is.
const NEIGHBOUR: &str = "ip netns list | grep -q other || { ip netns add other && ip link add v0 type veth peer name eth0 netns other &&
    ip link set v0 master docker0 up && ip -n other address add 172.17.0.9/16 dev eth0 && ip -n other link set eth0 up &&
    ip -n other route add default via 172.17.0.1; }";

/// [`dial`] in that namespace.
fn as_neighbour(address: &str) -> Vec<String> {
    [&["ip", "netns", "exec", "other"].map(str::to_owned)[..], &dial(address)].concat()
}

#[test]
fn a_signer_in_a_container_serves_the_allowed_alone_and_goes_without_a_trace() {
    let Some(stage) = Stage::in_docker("docker") else { return };
    let before = stage.state_in_docker();
    let installed = stage.install(&["--backend=docker"]);
    assert_eq!(installed.code, 0, "{installed:?}");
    let again = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(again, json!({"steps": []}));
    stage.hold_the_door();
    let status = stage.host.lsm(["status", "--json"]).json();
    for (what, is) in [("signs", true), ("port_open", true), ("filtered", true)] {
        assert_eq!(status[what], is, "{status}");
    }
    its_allowlist_changes_while_it_runs(&stage);
    it_may_do_nothing(&stage, &installed);
    it_shows_no_secret(&stage);
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    assert_unchanged(&before, &stage.state_in_docker());
}

#[track_caller]
fn its_allowlist_changes_while_it_runs(stage: &Stage) {
    let (host, stranger) = (&stage.host, stage.host.stranger());
    let container = stage.inspect()["Id"].clone();
    host.lsm(["allow", "add", stranger.v4, "--yes"]).ok();
    assert_eq!(stranger.knock(&host.v4, PORT, PATIENCE), Met::Open);
    host.lsm(["allow", "remove", stranger.v4, "--yes"]).ok();
    stage.hold_the_door();
    assert_eq!(stage.inspect()["Id"], container, "nothing was restarted");
}

#[track_caller]
fn it_may_do_nothing(stage: &Stage, installed: &Done) {
    let (host, is) = (&stage.host, stage.inspect());
    let (config, may) = (&is["Config"], &is["HostConfig"]);
    assert_eq!(config["User"], "10012:10012");
    assert_eq!((&may["ReadonlyRootfs"], &may["CapDrop"]), (&json!(true), &json!(["ALL"])));
    // Where the kernel counts by control group, and where it does not lsm says so; the launcher's own limits hold in any case.
    let counts = host.run(["docker", "info", "--format", "{{.MemoryLimit}} {{.PidsLimit}}"]).ok();
    if counts.trim() == "true true" {
        let limits = (&may["Memory"], &may["MemorySwap"], &may["PidsLimit"]);
        assert_eq!(limits, (&json!(2_i64 << 30), &json!(2_i64 << 30), &json!(256)));
    } else {
        assert!(installed.stderr.contains("the engine says of litd-signer: "), "{counts}: {installed:?}");
    }
    let process = host.sh(&format!("cat /proc/{}/status", is["State"]["Pid"])).ok();
    for line in
        ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Uid:\t10012"]
    {
        assert!(process.contains(line), "{line} in {process}");
    }
}

/// Neither what the engine tells, nor what lnd logged, nor the image has one.
#[track_caller]
fn it_shows_no_secret(stage: &Stage) {
    let host = &stage.host;
    let folder = "/root/.lnget/signer";
    let modes = host.sh(&format!("cd {folder} && stat -c '%a %u %n' . wallet-password.txt tls-key run")).ok();
    assert_eq!(modes, "700 0 .\n600 10012 wallet-password.txt\n600 10012 tls-key\n700 10012 run\n");
    assert!(host.path(BUNDLE).is_dir());
    let password = host.sh(&format!("cat {folder}/wallet-password.txt")).ok();
    let seed = host.sh(&format!("cat {SEED}")).ok();
    // What the health check said is told too.
    stage.wait_until_healthy();
    let told = host
        .sh("docker inspect litd-signer; docker logs litd-signer 2>&1; docker history --no-trunc $(docker images -q)")
        .ok();
    assert!(!told.contains(password.trim()) && password.len() > 20, "the password");
    let words: Vec<&str> = seed.lines().collect();
    assert!(words.len() == 24 && !words.windows(3).any(|three| told.contains(&three.join(" "))), "the seed");
}

#[test]
fn its_door_holds_when_the_engine_the_filter_and_the_host_start_anew() {
    let Some(mut stage) = Stage::in_docker("docker-again") else { return };
    stage.install(&["--backend=docker"]).ok();
    let signs = |stage: &Stage| {
        wait_for("a signer that can sign", Duration::from_secs(60), || {
            (stage.host.lsm(["status"]).code == 0).then_some(())
        });
    };
    // Debian's nftables flushes the engine's rules too, which then has to start anew before it can start a container.
    for restart in ["systemctl restart nftables", "systemctl restart lsm-firewall", "systemctl restart docker"] {
        stage.host.sh(restart).ok();
        signs(&stage);
        stage.hold_the_door();
    }
    stage.host.lsm(["restart", "--yes"]).ok();
    stage.hold_the_door();
    stage.host.reboot();
    signs(&stage);
    stage.hold_the_door();
    stage.host.lsm(["stop", "--yes"]).ok();
    assert_ne!(stage.host.allowed().knock(&stage.host.v4, PORT, SOON), Met::Open);
    stage.host.sh("systemctl restart docker && docker info").ok();
    assert_ne!(stage.host.lsm(["status"]).code, 0, "what was stopped stays so");
    std::thread::sleep(stage::RESTARTED);
    assert_ne!(stage.host.allowed().knock(&stage.host.v4, PORT, SOON), Met::Open, "a while later too");
    stage.host.lsm(["start", "--yes"]).ok();
    stage.hold_the_door();
}

#[test]
fn the_image_is_lnd_and_lsm_and_no_larger() {
    let Some(stage) = Stage::in_docker("docker-image") else { return };
    let host = &stage.host;
    // A static lsm needs nothing beside it; another one brings its libraries along.
    let lsm = std::env::var_os("LSM_TEST_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    let libraries: &[&str] = if lsm.is_some() { &[] } else { &["lib/", "lib64/"] };
    host.copy_in(&lsm.unwrap_or_else(|| lab::LSM.into()), "/root/image-lsm", 0o755);
    let args = [&stage.arguments()[..], &["--backend=docker".to_owned(), "--yes".to_owned()]].concat();
    host.run(std::iter::once("/root/image-lsm".to_owned()).chain(args)).ok();
    let files = host.sh("docker export litd-signer | tar -t | grep -v '/$' | LC_ALL=C sort").ok();
    let known = |file: &str| {
        // What the engine puts into every container, and the places where it mounts.
        let engines = [
            ".dockerenv",
            "dev/",
            "etc/hostname",
            "etc/hosts",
            "etc/mtab",
            "etc/resolv.conf",
            "etc/lsm/",
            "run/secrets/",
        ];
        ["lnd", "lsm"].contains(&file) || engines.iter().chain(libraries).any(|known| file.starts_with(known))
    };
    let strange: Vec<&str> = files.lines().filter(|file| !known(file)).collect();
    assert!(strange.is_empty() && files.lines().any(|file| file == "lnd"), "{strange:?}");
    let number = |script: &str| host.sh(script).ok().trim().parse::<u64>().expect("a number");
    let image = number("docker image inspect --format '{{.Size}}' $(docker images -q)");
    let two = number("cat /usr/local/lib/lsm/lsm /usr/local/lib/lsm/lnd/*/lnd | wc -c");
    assert!(image < two + (5 << 20), "{image} bytes, and the two have {two}");
    stage.wait_until_healthy();
}

#[test]
fn another_lnd_takes_the_container_over_and_gives_it_back() {
    let Some(release) = lab::lnd::Release::find("v0.20.0-beta") else { return };
    let Some(stage) = Stage::in_docker("docker-upgrade") else { return };
    let Some(archive) = release.archive() else { return };
    let old = format!("/root/{}", archive.file_name().expect("a name").to_string_lossy());
    stage.host.copy_in(&archive, &old, 0o644);
    let mut args =
        ["install", "--network=regtest", "--backend=docker", "--release=v0.20.0-beta"].map(str::to_owned).to_vec();
    args.extend([format!("--from={old}"), "--accept-risk=v0.20.0-beta".into(), format!("--listen={}", stage::LISTEN)]);
    args.extend(["--allow=10.77.0.3".into(), format!("--seed-out={SEED}"), format!("--bundle-out={BUNDLE}")]);
    stage.install_with(&args, &[]).ok();
    let version = &stage.release.version;
    let from = format!("--from={}", stage.archive_inside());
    let upgraded = stage.host.lsm(["upgrade", version, &from, "--yes", "--json"]).json();
    assert_eq!((&upgraded["from"], &upgraded["to"]), (&json!("v0.20.0-beta"), &json!(version)));
    stage.hold_the_door();
    stage.host.lsm(["rollback", "--yes"]).ok();
    stage.host.lsm(["status"]).ok();
    assert_eq!(stage.host.lsm(["status", "--json"]).json()["release"], "v0.20.0-beta");
    stage.hold_the_door();
}

#[test]
fn what_the_engine_lacks_or_has_too_much_is_said_and_nothing_is_changed() {
    let Some(stage) = Stage::in_docker("docker-faults") else { return };
    let before = stage.state_in_docker();
    let refused = |what: &str, more: &[&str], code: i32, id: &str| {
        let done = stage.install(&[&["--backend=docker"], more].concat());
        assert!(done.code == code && done.stderr.contains(id), "{what}: {} {}", done.code, done.stderr);
    };
    stage
        .host
        .sh("printf x | docker import - strange:1 2>/dev/null || tar -cf- /etc/hosts | docker import - strange:1")
        .ok();
    stage.host.sh("docker create --name litd-signer strange:1 /x").ok();
    refused("the name is taken", &[], 1, "E-DOCKER-005");
    stage.host.sh("docker rm litd-signer && docker rmi strange:1").ok();
    refused("no container's name", &["--container=a b"], 2, "E-SPEC-007");
    stage.host.sh("systemctl stop docker.socket docker").ok();
    refused("no engine", &[], 3, "E-ENGINE-001");
    stage.host.sh("systemctl start docker.socket docker").ok();
    assert_unchanged(&before, &stage.state_in_docker());
}
