//! A signer in a container, on a real host with a real dockerd: it signs for the allowed alone, and goes without a trace.

use crate::lab;
use crate::lab::host::Host;
use crate::lab::net::Met;
use crate::lab::wait_for;
use crate::stage;
use crate::stage::{BUNDLE, PORT, SEED, Stage, assert_unchanged};
use lsm::signer::wallet::State;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(700);

impl Stage {
    /// The container as its engine describes it.
    #[track_caller]
    fn inspect(&self) -> Value {
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

    /// Holds that the allowed peer is served, and nobody else on any road.
    #[track_caller]
    fn hold_the_door(&self) {
        let (host, inside) = (&self.host, self.address());
        assert_eq!(host.allowed().knock(&host.v4, PORT, PATIENCE), Met::Open);
        host.allowed().inside(|| self.signer().state()).expect("the allowed peer is answered");
        let stranger = host.stranger();
        assert_eq!(stranger.knock(&host.v4, PORT, SOON), Met::Silence, "the published port");
        stranger.run(["ip", "route", "replace", &format!("{inside}/32"), "via", &host.v4]).ok();
        assert_eq!(stranger.knock(&inside, PORT, SOON), Met::Silence, "the container's own address");
        for address in [host.v4.as_str(), &inside] {
            assert_ne!(host.run_as_nobody(dial(address)).code, 0, "a user of the host, {address}");
            assert_ne!(neighbour(host, &dial(address)), 0, "another container, {address}");
        }
        assert_eq!(host.run(dial(&inside)).code, 0, "root");
    }
}

/// The program that connects to the signer's port at `address`, and fails where it cannot.
fn dial(address: &str) -> Vec<String> {
    let script = format!("exec 3<>/dev/tcp/{address}/{PORT}");
    ["timeout", "1", "bash", "-c", &script].map(str::to_owned).into()
}

/// How `line` ends in a namespace that is on the engine's usual bridge, as any other container is.
fn neighbour(host: &Host, line: &[String]) -> i32 {
    let made = "ip netns list | grep -q other || { ip netns add other && ip link add v0 type veth peer name eth0 netns other &&
        ip link set v0 master docker0 up && ip -n other address add 172.17.0.9/16 dev eth0 && ip -n other link set eth0 up &&
        ip -n other route add default via 172.17.0.1; }";
    host.sh(made).ok();
    host.run(["ip", "netns", "exec", "other"].map(str::to_owned).iter().chain(line)).code
}

#[test]
fn a_signer_in_a_container_serves_the_allowed_alone_and_goes_without_a_trace() {
    let Some(stage) = Stage::in_docker("docker") else { return };
    let before = stage.state_in_docker();
    stage.install(&["--backend=docker"]).ok();
    let again = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(again, json!({"steps": []}));
    stage.hold_the_door();
    let status = stage.host.lsm(["status", "--json"]).json();
    for (what, is) in [("signs", true), ("port_open", true), ("filtered", true)] {
        assert_eq!(status[what], is, "{status}");
    }
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    assert_unchanged(&before, &stage.state_in_docker());
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
    stage.host.lsm(["start", "--yes"]).ok();
    stage.hold_the_door();
}

#[test]
fn the_allowlist_changes_while_it_runs() {
    let Some(stage) = Stage::in_docker("docker-allow") else { return };
    stage.install(&["--backend=docker"]).ok();
    let (host, stranger) = (&stage.host, stage.host.stranger());
    let container = stage.inspect()["Id"].clone();
    host.lsm(["allow", "add", stranger.v4, "--yes"]).ok();
    assert_eq!(stranger.knock(&host.v4, PORT, PATIENCE), Met::Open);
    host.lsm(["allow", "remove", stranger.v4, "--yes"]).ok();
    stage.hold_the_door();
    assert_eq!(stage.inspect()["Id"], container, "nothing was restarted");
}

#[test]
fn the_container_may_do_nothing_and_shows_no_secret() {
    let Some(stage) = Stage::in_docker("docker-inside") else { return };
    stage.install(&["--backend=docker"]).ok();
    let (host, is) = (&stage.host, stage.inspect());
    let (config, may) = (&is["Config"], &is["HostConfig"]);
    assert_eq!(config["User"], "10012:10012");
    assert_eq!((&may["ReadonlyRootfs"], &may["CapDrop"]), (&json!(true), &json!(["ALL"])));
    // Where the kernel counts by control group; the launcher's own limits hold in any case.
    let counts = host.run(["docker", "info", "--format", "{{.MemoryLimit}} {{.PidsLimit}}"]).ok();
    if counts.trim() == "true true" {
        let limits = (&may["Memory"], &may["MemorySwap"], &may["PidsLimit"]);
        assert_eq!(limits, (&json!(2_i64 << 30), &json!(2_i64 << 30), &json!(256)));
    }
    let process = host.sh(&format!("cat /proc/{}/status", is["State"]["Pid"])).ok();
    for line in
        ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Uid:\t10012"]
    {
        assert!(process.contains(line), "{line} in {process}");
    }
    wait_for("the health check", Duration::from_secs(60), || {
        (stage.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
    });
    // Neither what the engine tells, nor what lnd logged, nor the image has a secret.
    let password = host.sh("cat /root/.lnget/signer/wallet-password.txt").ok();
    let seed = host.sh(&format!("cat {SEED}")).ok();
    let told = host
        .sh("docker inspect litd-signer; docker logs litd-signer 2>&1; docker history --no-trunc $(docker images -q)")
        .ok();
    assert!(!told.contains(password.trim()) && password.len() > 20, "the password");
    let words: Vec<&str> = seed.lines().collect();
    assert!(words.len() == 24 && !words.windows(3).any(|three| told.contains(&three.join(" "))), "the seed");
    assert_eq!(host.sh("stat -c '%a %u' /root/.lnget/signer /root/.lnget/signer/wallet-password.txt /root/.lnget/signer/tls.key 2>&1 || true").stdout.lines().next(), Some("700 0"));
    assert!(host.path(BUNDLE).is_dir());
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
    wait_for("the health check", Duration::from_secs(60), || {
        (stage.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
    });
    let two = number("cat /usr/local/lib/lsm/lsm /usr/local/lib/lsm/lnd/*/lnd | wc -c");
    assert!(image < two + (5 << 20), "{image} bytes, and the two have {two}");
}

/// What of a container's description says how it was made, not what it may do.
fn what_it_may(is: &Value) -> Value {
    let mut may = is["HostConfig"].clone();
    let config = &is["Config"];
    for name in
        ["User", "Cmd", "Env", "Image", "WorkingDir", "Healthcheck", "StopSignal", "StopTimeout", "ExposedPorts"]
    {
        may[name] = config[name].clone();
    }
    // The same mounts by their older name, or in another order.
    for name in ["Binds", "Mounts"] {
        may.as_object_mut().expect("an object").remove(name);
    }
    // The profile is a text in another layout.
    let options = may["SecurityOpt"].as_array().expect("options").clone();
    let profile = |option: &Value| serde_json::from_str(option.as_str()?.strip_prefix("seccomp=")?).ok();
    may["SecurityOpt"] = options.iter().map(|option| profile(option).unwrap_or_else(|| option.clone())).collect();
    let mount =
        |mount: &Value| format!("{} {} {} {}", mount["Type"], mount["Source"], mount["Destination"], mount["RW"]);
    let mut mounts: Vec<String> = is["Mounts"].as_array().expect("mounts").iter().map(mount).collect();
    mounts.sort();
    may["Mounts"] = json!(mounts);
    may
}

#[test]
fn compose_runs_the_same_container() {
    let Some(stage) = Stage::in_docker("docker-compose") else { return };
    stage.install(&["--backend=docker"]).ok();
    let made = what_it_may(&stage.inspect());
    let file = stage.host.lsm(["install", "--network=regtest", "--format=compose"]).ok();
    std::fs::write(stage.host.path("/root/compose.yml"), &file).expect("the file is written");
    stage.host.sh("docker rm -f litd-signer && docker-compose -p signer -f /root/compose.yml up -d").ok();
    wait_for("a signer that can sign", Duration::from_secs(60), || {
        stage.host.allowed().inside(|| stage.signer().state()).is_ok_and(|state| state == State::Active).then_some(())
    });
    stage.hold_the_door();
    let composed = what_it_may(&stage.inspect());
    let differs = |name: &&String| made[name.as_str()] != composed[name.as_str()];
    let empty = |value: &Value| value.is_null() || *value == json!([]) || *value == json!({}) || *value == "";
    let says = |name: &&String| !(empty(&made[name.as_str()]) && empty(&composed[name.as_str()]));
    let names = made.as_object().expect("an object").keys().filter(differs).filter(says);
    let different: Vec<String> =
        names.map(|name| format!("{name}: {} by lsm, {} by compose", made[name], composed[name])).collect();
    assert!(different.is_empty(), "{different:#?}");
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
