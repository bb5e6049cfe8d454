//! What compose runs: the signer as lsm runs it, and a litd beside it. No litd is to be had here: an lnd takes its place, told the
//! same without `lnd.`.

use crate::docker_image::Registry;
use crate::lab::process::Done;
use crate::lab::wait_for;
use crate::stage::{BUNDLE, PORT, Stage};
use lsm::signer::wallet::State;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// lnd's folder, inside and outside of its container.
const FOLDER: &str = "/srv/litd";
/// The user whose it is.
const USER: &str = "1500:1600";

impl Stage {
    /// docker-compose, with what the operator names.
    fn compose(&self, named: &str, line: &str) -> Done {
        self.host.sh(&format!("{named} docker-compose -p signer -f /root/compose.yml {line}"))
    }

    #[track_caller]
    fn look_at_litd(&self) -> Value {
        let name = self.host.sh("docker ps --filter name=_litd_ --format '{{.Names}}'").ok();
        self.host.run(["docker", "inspect", name.trim()]).json()[0].clone()
    }

    /// True where litd's container gets a connection to the signer's port at this address.
    fn litd_reaches(&self, litd: &Value, address: &str) -> bool {
        let script = format!("exec 3<>/dev/tcp/{address}/{PORT}");
        let pid = litd["State"]["Pid"].to_string();
        self.host.run(["nsenter", "-t", &pid, "-n", "timeout", "1", "bash", "-c", &script]).code == 0
    }

    /// Runs a verb of `lsm watch-only` on litd's folder, as its user.
    fn watch_only(&self, line: &str) -> Done {
        self.host.sh(&format!(
            "setpriv --reuid=1500 --regid=1600 --clear-groups --reset-env -- /usr/bin/lsm watch-only {line} --for litd --lnddir {FOLDER}"
        ))
    }

    /// The settings as lnd by itself takes them.
    fn strip_settings(&self) {
        let path = self.host.path(&format!("{FOLDER}/lit.conf"));
        let text = fs::read_to_string(&path).expect("settings");
        fs::write(&path, text.replace("\nlnd.", "\n").replace("network=regtest", "bitcoin.regtest=true"))
            .expect("settings");
    }
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

/// Holds that compose has made the signer's container as lsm had `made` it.
#[track_caller]
fn hold_the_same(stage: &Stage, made: &Value) {
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
fn compose_runs_the_same_container_and_a_litd_beside_it_whose_address_is_judged() {
    let Some(stage) = Stage::in_docker("docker-litd") else { return };
    stage.install(&["--backend=docker"]).ok();
    let host = &stage.host;
    let made = what_it_may(&stage.inspect());
    let file = host.lsm(["install", "--network=regtest", "--format=compose"]).ok();
    fs::write(host.path("/root/compose.yml"), &file).expect("the file is written");
    // Who asks for no litd names nothing, and gets none; who asks for one has to say which.
    host.sh("docker rm -f litd-signer").ok();
    stage.compose("", "up -d").ok();
    assert_eq!(host.sh("docker ps --format '{{.Names}}'").ok(), "litd-signer\n");
    let unnamed = stage.compose("", "--profile litd up -d");
    let said = format!("{}{}", unnamed.stdout, unnamed.stderr);
    assert!(unnamed.code != 0 && said.contains("LSM_LITD_IMAGE"), "{unnamed:?}");
    wait_for("a signer that can sign", Duration::from_secs(60), || {
        host.allowed().inside(|| stage.signer().state()).is_ok_and(|state| state == State::Active).then_some(())
    });
    stage.hold_the_door();
    hold_the_same(&stage, &made);
    a_litd_beside_it_is_judged_by_its_own_address(&stage, &file);
}

fn a_litd_beside_it_is_judged_by_its_own_address(stage: &Stage, file: &str) {
    let host = &stage.host;
    let told = |before: &str| {
        let said = file.lines().find_map(|line| line.strip_prefix(before));
        said.and_then(|said| said.split(' ').next()).unwrap_or_else(|| panic!("no {before:?} in {file}")).to_owned()
    };
    let address = told("#   lsm allow add ");
    let registry = Arc::new(Registry::default());
    stage.serve(&registry);
    let image = registry.put(&[("bin/lnd", &fs::read(stage.release.lnd()).expect("lnd"))]);
    let (repository, digest) = image.split_once("@sha256:").expect("a digest");
    let named =
        format!("LSM_LITD_IMAGE={repository} LSM_LITD_SHA256={digest} LSM_LITD_DIR={FOLDER} LSM_LITD_USER={USER}");
    let own = "network=regtest\\nlnd.lnddir=/srv/litd\\nlnd.rpclisten=0.0.0.0:10009\\n";
    host.sh(&format!(
        "mkdir -p {FOLDER} && printf '{own}' >{FOLDER}/lit.conf && cp -r {BUNDLE} /srv/bundle &&
        chown -R {USER} {FOLDER} /srv/bundle && chmod 700 {FOLDER}"
    ))
    .ok();
    // Its user is judged by this host's address while it is set up from here.
    host.lsm(["allow", "add", &host.v4, "--yes"]).ok();
    host.lsm(["allow", "add", &address, "--yes"]).ok();
    let ready = std::thread::scope(|threads| {
        let init = threads.spawn(|| stage.watch_only("init --bundle /srv/bundle --json"));
        wait_for("lsm's settings", Duration::from_secs(60), || {
            let text = fs::read_to_string(host.path(&format!("{FOLDER}/lit.conf"))).ok()?;
            // What it ended with is told below.
            (init.is_finished() || text.contains("lnd.remotesigner.rpchost=10.77.0.2:10012")).then_some(())
        });
        stage.strip_settings();
        let up = stage.compose(&named, "--profile litd up -d");
        println!("{up:?}");
        init.join().expect("it ends")
    });
    let ready = ready.json();
    assert_eq!((&ready["created"], &ready["signer"]), (&json!(true), &json!("10.77.0.2:10012")), "{ready}");

    let (is, inside) = (stage.look_at_litd(), host.run(["docker", "inspect", "litd-signer"]).json());
    let may = &is["HostConfig"];
    assert_eq!((&is["Config"]["User"], &may["ReadonlyRootfs"]), (&json!(USER), &json!(true)));
    assert_eq!((&may["CapDrop"], &may["Privileged"]), (&json!(["ALL"]), &json!(false)));
    let credentials = is["Mounts"].as_array().expect("mounts").iter();
    let credentials = credentials.filter(|mount| mount["Destination"] == format!("{FOLDER}/signer-credentials"));
    assert_eq!(credentials.map(|mount| mount["RW"].clone()).collect::<Vec<_>>(), [json!(false)]);
    // By the port that is published, and by no other road.
    let own = inside[0]["NetworkSettings"]["Networks"]["lsm-signer"]["IPAddress"].as_str().expect("an address");
    assert!(stage.litd_reaches(&is, &host.v4) && !stage.litd_reaches(&is, own));
    host.lsm(["allow", "remove", "10.77.0.2/31", "--yes"]).ok();
    assert!(stage.litd_reaches(&is, &host.v4), "it is allowed by its own address");
    host.lsm(["allow", "remove", &address, "--yes"]).ok();
    assert!(!stage.litd_reaches(&is, &host.v4), "and by nothing else");
}
