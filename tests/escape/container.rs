//! The hostile program in lnd's place in a container of lsm's own: all that the engine is told is as lsm told it.

use super::column::{Layers, compile};
use crate::stage::Stage;
use lsm::engine::{Engine, Kind};
use serde_json::{Value, json};

const NAME: &str = "litd-box";
/// Where the engine is asked while the attempts are made.
const ENGINE: &str = "/run/engine.sock";
/// Its lnd's folder, as the host has it.
pub const FOLDER: &str = "/var/lib/docker/volumes/box-data/_data";
/// lnd's user and group there.
pub const OWNER: &str = "10012:10012";
/// How a program of the host is started as that user.
pub const AS_LND: &str = "setpriv --reuid 10012 --regid 10012 --clear-groups";
/// lnd and lsm inside.
pub const PROGRAMS: (&str, &str) = ("/lnd", "/lsm");

/// The places that are other ones inside.
const PLACES: [(&str, &str); 6] = [
    ("HOSTILE_FOLDER", "/signer"),
    ("HOSTILE_PLAN", "/signer/escape.plan"),
    ("HOSTILE_RESULT", "/signer/escape.result"),
    ("HOSTILE_RUN", "/run/lsm"),
    ("HOSTILE_CONF", "/etc/lsm/lnd.conf"),
    ("HOSTILE_POLICY", "/etc/lsm/launch.toml"),
];

/// A second signer beside the stage's, in a container.
pub struct Container {
    /// What lsm made it of, in the API's JSON.
    body: Value,
}

impl Container {
    /// Makes the signer, and puts the hostile program into its image in the place of lnd.
    ///
    /// # Errors
    /// What the hostile program cannot be built without.
    pub fn take(stage: &Stage) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let hostile = compile(folder.path(), &PLACES)?;
        let host = &stage.host;
        let install = "/root/lsm install --instance box --backend docker --network regtest --listen 10.77.0.2:10013 \
            --allow 10.77.0.3 --seed-out /root/out/box --yes";
        host.sh(&format!("{install} {}", stage.source().join(" "))).ok();
        let body = engine(stage).body_of(NAME).expect("an engine").expect("the container");
        let mut body: Value = serde_json::from_slice(&body).expect("JSON");
        host.copy_in(&hostile, "/root/hostile", 0o755);
        let image = body["Image"].as_str().expect("an image").to_owned();
        host.sh(&format!(
            "docker stop {NAME} && docker create --name made {image} /lnd && docker cp /root/hostile made:/lnd && \
            docker commit made {image} && docker rm made"
        ))
        .ok();
        // The attempts find a server of the test's where every host has this socket.
        host.sh(&format!("mv /run/docker.sock {ENGINE}")).ok();
        // It is started as often as the test wants it, and by it alone.
        body["HostConfig"]["RestartPolicy"] = json!({"Name": "no"});
        body["Healthcheck"] = json!({"Test": ["NONE"]});
        Ok(Self { body })
    }

    /// Makes the container as lsm does, or without the launcher, and says the line that runs the program once.
    pub fn prepare(&self, stage: &Stage, layers: Layers) -> String {
        let mut body = self.body.clone();
        if layers == Layers::Container {
            body["Cmd"] = json!(["/lnd"]);
        }
        engine(stage).replace(NAME, &body.to_string(), None).expect("the container");
        format!("docker --host unix://{ENGINE} start --attach {NAME}")
    }

    /// Takes it away.
    pub fn give_back(self, stage: &Stage) {
        engine(stage).remove(Kind::Container, NAME).expect("the container goes");
        stage.host.sh(&format!("mv {ENGINE} /run/docker.sock")).ok();
    }
}

/// The engine inside, from outside.
fn engine(stage: &Stage) -> Engine {
    let there = [ENGINE, "/run/docker.sock"].map(|path| stage.host.path(path));
    Engine::open(there.iter().find(|path| path.exists()).expect("a socket")).expect("a dockerd")
}
