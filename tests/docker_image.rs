//! `lsm install --image`: lnd's programs out of an image of a registry's, on a real dockerd; whatever the registry says or does,
//! what runs has the pinned bytes.

use crate::lab::LSM;
use crate::lab::host::Debian;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::lab::wait_for;
use crate::stage::{BUNDLE, PORT, SEED, Stage, assert_unchanged};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the registry is; an engine calls one on loopback without TLS.
const REGISTRY: &str = "127.0.0.1:5000";

/// A registry (opencontainers/distribution-spec: pulling manifests and blobs) with what the test puts into it.
#[derive(Default)]
pub struct Registry {
    /// Each by its digest: its media type, and its bytes.
    parts: Mutex<HashMap<String, (String, Vec<u8>)>>,
    /// How many of the coming answers break off in the middle, of those that are large.
    cuts: Mutex<u32>,
    /// The answer of a layer waits in its middle as long as this is so.
    stalls: AtomicBool,
    /// How many wait.
    waiting: AtomicUsize,
    /// What is answered in the place of a layer, where anything is.
    false_layer: Mutex<Option<Vec<u8>>>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Registry {
    /// Puts an image with these files in, and gives its reference.
    pub fn put(&self, files: &[(&str, &[u8])]) -> String {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, body) in files {
            let mut head = tar::Header::new_gnu();
            head.set_size(body.len() as u64);
            head.set_mode(0o755);
            layer.append_data(&mut head, path, *body).expect("a file");
        }
        let layer = layer.into_inner().expect("a layer");
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["lnd"], "Volumes": {"/root/.lnd": {}}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let kind = "application/vnd.oci.image";
        let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
            "config": part(&format!("{kind}.config.v1+json"), &config),
            "layers": [part(&format!("{kind}.layer.v1.tar"), &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let reference = format!("{REGISTRY}/lnd@{}", digest(&manifest));
        let mut parts = self.parts.lock().expect("a lock");
        for (kind, bytes) in [("manifest.v1+json", manifest), ("config.v1+json", config), ("layer.v1.tar", layer)] {
            parts.insert(digest(&bytes), (format!("application/vnd.oci.image.{kind}"), bytes));
        }
        reference
    }

    /// Answers one call.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 && head.lines().last().is_some_and(|line| !line.is_empty()) {}
        let mut words = line.split(' ');
        // A TLS hello is no call: the engine tries again without.
        let (Some(method @ ("GET" | "HEAD")), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let wanted = path.rsplit('/').next().unwrap_or_default();
        let found = match path {
            "/v2/" => Some(("application/json".to_owned(), b"{}".to_vec())),
            _ => self.parts.lock().expect("a lock").get(wanted).cloned(),
        };
        let Some((kind, mut body)) = found else {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        };
        let is_layer = kind.ends_with("tar");
        if let Some(other) = self.false_layer.lock().expect("a lock").clone().filter(|_| is_layer) {
            body = other;
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {wanted}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        let mut cuts = self.cuts.lock().expect("a lock");
        let end = if is_layer && *cuts > 0 { body.len() / 2 } else { body.len() };
        *cuts -= u32::from(end < body.len());
        drop(cuts);
        if method != "GET" {
            return Ok(());
        }
        stream.write_all(&body[..end / 2])?;
        if is_layer && self.stalls.load(SeqCst) {
            self.waiting.fetch_add(1, SeqCst);
            while self.stalls.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            self.waiting.fetch_sub(1, SeqCst);
        }
        stream.write_all(&body[end / 2..end])
    }
}

impl Stage {
    /// Has a registry answer on this host.
    pub fn serve(&self, registry: &Arc<Registry>) {
        let listener = self.host.inside(|| TcpListener::bind(REGISTRY).expect("the port is free"));
        let registry = Arc::clone(registry);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let registry = Arc::clone(&registry);
                std::thread::spawn(move || registry.answer(stream));
            }
        });
    }

    fn install_image(&self, image: &str, more: &[&str]) -> Done {
        let version = format!("--release={}", self.release.version);
        let (image, seed, bundle) =
            (format!("--image={image}"), format!("--seed-out={SEED}"), format!("--bundle-out={BUNDLE}"));
        let mut line = vec![
            "install",
            "--network=regtest",
            &version,
            &image,
            &seed,
            &bundle,
            "--listen=10.77.0.2:10012",
            "--allow=10.77.0.3",
            "--yes",
        ];
        line.extend(more);
        self.host.run(std::iter::once("/root/image-lsm").chain(line))
    }
}

/// What the engine holds of images, containers and volumes, and lsm's cache of files but its mark.
const KEPT: &str = "docker ps -a --format '{{.Names}}'; docker images -a -q; docker volume ls -q
    find /var/cache/lsm -type f ! -name CACHEDIR.TAG 2>/dev/null; true";

#[track_caller]
fn a_pull_that_is_interrupted_or_killed_leaves_nothing_for_good(
    stage: &Stage,
    registry: &Registry,
    [good, half]: [&str; 2],
) {
    let host = &stage.host;
    // Ends lsm by this signal as soon as `is_time`.
    let cut = |signal: &str, is_time: &(dyn Fn() -> bool + Sync)| {
        std::thread::scope(|threads| {
            let install = threads.spawn(|| stage.install_image(good, &["--backend=docker"]));
            wait_for("the moment", Duration::from_secs(120), || is_time().then_some(()));
            host.sh(&format!("kill -{signal} $(pidof image-lsm)")).ok();
            install.join().expect("it ends").code
        })
    };
    let is_pulling = || registry.waiting.load(SeqCst) > 0;
    registry.stalls.store(true, SeqCst);
    assert_eq!(cut("INT", &is_pulling), 130);
    assert_eq!(host.sh(KEPT).ok(), "", "interrupted");
    registry.stalls.store(false, SeqCst);
    wait_for("a quiet registry", Duration::from_secs(10), || (!is_pulling()).then_some(()));

    // Of one that is killed the next run takes away what it left, whatever comes of that run: the image is here for lsm alone.
    assert_eq!(cut("KILL", &|| host.sh("docker ps -a").stdout.contains("litd-signer-image")), 128 + 9);
    let kept = host.sh(KEPT).ok();
    assert!(kept.contains("litd-signer-image") && kept.contains("image.pulled"), "killed: {kept}");
    let refuse = || {
        let refused = stage.install_image(half, &["--backend=docker"]);
        assert!(refused.code == 4 && refused.stderr.contains("E-ENGINE-041"), "{refused:?}");
    };
    refuse();
    assert_eq!(host.sh(KEPT).ok(), "", "killed, and run again");
    // One that was here before stays.
    host.sh(&format!("docker pull {half}")).ok();
    let before = host.sh(KEPT).ok();
    refuse();
    assert_eq!(host.sh(KEPT).ok(), before);
    host.sh(&format!("docker rmi {half}")).ok();
}

#[test]
fn an_images_lnd_runs_where_it_has_the_pinned_bytes_and_nothing_else_is_kept() {
    let Some(stage) = Stage::boot_of(Debian::Docker, "docker-image-of") else { return };
    let docker = ["--backend=docker"];
    // To pack lnd takes an lsm that was not made for debugging some seconds, and the other one a minute.
    let lsm = std::env::var_os("LSM_TEST_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    stage.host.copy_in(&lsm.unwrap_or_else(|| LSM.into()), "/root/image-lsm", 0o755);
    let (host, before) = (&stage.host, stage.state_in_docker());
    let registry = Arc::new(Registry::default());
    let folder = stage.release.lnd();
    let [lnd, lncli] = ["lnd", "lncli"].map(|name| std::fs::read(folder.with_file_name(name)).expect("a program"));
    let mut other = lnd.clone();
    *other.last_mut().expect("bytes") ^= 1;
    let good = registry.put(&[("bin/lnd", &lnd), ("bin/lncli", &lncli)]);
    let changed = registry.put(&[("bin/lnd", &other), ("bin/lncli", &lncli)]);
    let half = registry.put(&[("usr/local/bin/lnd", &lnd)]);
    let absent = format!("{REGISTRY}/lnd@sha256:{}", "ab".repeat(32));
    let refused = |what: &str, image: &str, more: &[&str], code: i32, id: &str| {
        let done = stage.install_image(image, more);
        println!("{what}: {}", done.stderr);
        assert!(done.code == code && done.stderr.contains(id), "{what}: {done:?}");
        assert!(
            !host
                .sh("docker ps -a --format '{{.Names}}'; docker images -q; docker volume ls -q")
                .ok()
                .contains(|_| true),
            "{what}: the engine keeps something"
        );
        assert!(
            host.sh("find /var/cache/lsm -type f ! -name CACHEDIR.TAG 2>/dev/null").stdout.is_empty(),
            "{what}: the cache keeps something"
        );
    };
    refused("a tag", "docker.io/lightninglabs/lnd:latest", &docker, 2, "E-SPEC-008");
    refused("no engine", &good, &["--backend=native"], 2, "E-INSTALL-018");
    refused("no registry", &good, &docker, 3, "E-ENGINE-040");
    stage.serve(&registry);
    refused("no such image", &absent, &docker, 3, "E-ENGINE-040");
    refused("another lnd", &changed, &docker, 4, "E-RELEASE-067");
    refused("no lncli", &half, &docker, 4, "E-ENGINE-041");
    *registry.false_layer.lock().expect("a lock") = Some(b"something else".to_vec());
    refused("another layer than the manifest's", &good, &docker, 3, "E-ENGINE-040");
    *registry.false_layer.lock().expect("a lock") = None;
    a_pull_that_is_interrupted_or_killed_leaves_nothing_for_good(&stage, &registry, [&good, &half]);
    assert_unchanged(&before, &stage.state_in_docker());

    // A pull that breaks off is gone on with by the engine.
    *registry.cuts.lock().expect("a lock") = 1;
    stage.install_image(&good, &docker).ok();
    assert_eq!(*registry.cuts.lock().expect("a lock"), 0, "it broke off");
    assert_eq!(host.allowed().knock(&host.v4, PORT, Duration::from_secs(5)), Met::Open);
    let status = host.lsm(["status", "--json"]).json();
    assert_eq!(
        (&status["signs"], &status["lnd"]["provenance"][1]["reference"]),
        (&json!(true), &json!(good)),
        "{status}"
    );
    let images = host.sh("docker images --format '{{.Repository}}'").ok();
    assert_eq!(images, "lsm-signer\n", "the image itself does not run, and is gone");
    host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    host.sh("rm -r /root/out/*").ok();
    assert_unchanged(&before, &stage.state_in_docker());
}
