//! A watch-only lnd on a peer, made from the host's bundle: asked once in a while, or kept running and signing all the time.

use super::{BUNDLE, Stage};
use crate::lab::lnd::Node as Lnd;
use crate::lab::net::Peer;
use crate::lab::process::Daemon;
use crate::lab::{LSM, process, wait_for};
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use lsm::signer::macaroon::Macaroon;
use lsm::signer::{Node, proof};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where its gRPC listens, on the peer's loopback.
const PORT: u16 = 20_009;
const PATIENCE: Duration = Duration::from_secs(60);
/// What a service with `Restart=always` does: whenever lnd ends, and with a second's pause, it is started again.
const KEEPER: &str = "trap 'kill $lnd; wait $lnd; exit' TERM
while :; do
    echo lnd is started
    \"$@\" & lnd=$!
    wait $lnd
    sleep 1
done";

/// A watch-only node. Dropped, it ends.
pub struct WatchOnly<'a> {
    node: Lnd<'a>,
    peer: &'a Peer,
    identity: String,
}

impl<'a> WatchOnly<'a> {
    /// Made by `lsm watch-only init` from the host's bundle, in `folder`. It does not run yet.
    #[track_caller]
    pub fn set_up(stage: &Stage, peer: &'a Peer, folder: &Path) -> Self {
        let (lnddir, bundle) = (folder.join("lnd"), folder.join("bundle"));
        stage.host.copy_out(BUNDLE, &bundle);
        let node = Lnd::lay(&stage.release, peer, &lnddir, PORT, "bitcoin.node=nochainbackend\n");
        let mut init = peer.command(LSM);
        init.args(["watch-only", "init", "--json", "--bundle"]).arg(&bundle).arg("--lnddir").arg(&lnddir);
        init.arg("--lnd").arg(stage.release.lnd());
        let ready = process::run(init).json();
        assert_eq!(ready["created"], true, "{ready}");
        let identity = stage.bundle().identity_pubkey().to_owned();
        assert_eq!(ready["proof"]["identity_pubkey"], identity);
        // From here on it is this test's own process.
        let pid = ready["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("lnd runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        wait_for("lnd's end", PATIENCE, || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
        Self { node, peer, identity }
    }

    /// It gives addresses and signs; where the signer's absence ended it, it is started again, as its service would be.
    #[track_caller]
    pub fn check(&mut self) {
        if !self.node.alive() {
            self.node.start("SERVER_ACTIVE");
        }
        let address = self.node.json(["newaddress", "p2tr"]);
        assert!(address["address"].as_str().is_some_and(|a| a.starts_with("bcrt1p")), "{address}");
        let signed = self.node.json(["signmessage", "a message of the watch-only node"]);
        let signature = signed["signature"].as_str().expect("a signature");
        proof::verify_node_signature(b"a message of the watch-only node", signature, &self.identity).unwrap();
        assert!(proof::verify_node_signature(b"another message", signature, &self.identity).is_err());
        let folder = self.node.folder.to_string_lossy().into_owned();
        self.peer.run([LSM, "watch-only", "check", "--lnddir", &folder]).ok();
    }

    /// Runs it as a service would, from now until the end, with no hand on it, and waits for its first signature.
    #[track_caller]
    pub fn keep(self) -> Kept<'a> {
        let log = self.node.folder.join("log");
        let mut command = self.peer.command("sh");
        command.args(["-c", KEEPER, "sh"]).arg(self.node.release.lnd());
        command.arg(format!("--lnddir={}", self.node.folder.display()));
        let kept = Kept { _keeper: Daemon::start(command, &log), watch_only: self };
        wait_for("the watch-only node", PATIENCE, || kept.watch_only.sign_once().ok());
        kept
    }

    /// Has a message signed by the node, and checks the signature.
    fn sign_once(&self) -> Result<(), String> {
        let file = |name: &str| fs::read(self.node.folder.join(name)).map_err(|e| format!("{name}: {e}"));
        let pin = Certificate::parse_pem(&file("tls.cert")?).map_err(|e| e.to_string())?;
        let macaroon = file("data/chain/bitcoin/regtest/admin.macaroon")?;
        let macaroon = Macaroon::parse(macaroon).map_err(|e| e.to_string())?;
        let node = Node::new(Endpoint::Tcp { host: "127.0.0.1".into(), port: PORT }, &pin).with_macaroon(&macaroon);
        let signature = self.peer.inside(|| node.sign_as_node(b"a message of every day")).map_err(|e| e.to_string())?;
        proof::verify_node_signature(b"a message of every day", &signature, &self.identity).map_err(|e| e.to_string())
    }
}

/// A watch-only node that its service keeps running.
pub struct Kept<'a> {
    // Before the node's folder goes.
    _keeper: Daemon,
    watch_only: WatchOnly<'a>,
}

/// What came of asking a [`Kept`] node for signatures all the while.
#[derive(Default)]
pub struct Signed {
    /// When each good signature was asked for.
    asked: Vec<Instant>,
    /// What else came, with the time.
    failed: Vec<(Instant, String)>,
}

/// The one who asks.
pub struct Asking<'a> {
    signed: &'a Mutex<Signed>,
}

impl Asking<'_> {
    /// Waits for a signature that is asked for from now on.
    #[track_caller]
    pub fn wait_signed(&self) {
        let now = Instant::now();
        wait_for("a signature of the watch-only node", PATIENCE, || {
            let signed = self.signed.lock().expect("nobody panicked");
            signed.asked.last().is_some_and(|asked| *asked > now).then_some(())
        });
    }

    /// How many signatures were good so far, and what else came.
    pub fn so_far(&self) -> (usize, Vec<String>) {
        let signed = self.signed.lock().expect("nobody panicked");
        (signed.asked.len(), signed.failed.iter().map(|(_, why)| why.clone()).collect())
    }
}

impl Kept<'_> {
    /// How often its service has started it.
    pub fn starts(&self) -> usize {
        let log = fs::read(self.watch_only.node.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).matches("lnd is started\n").count()
    }

    /// Takes the host's bundle of now, as its operator does: imported, then lnd started anew.
    #[track_caller]
    pub fn take_bundle(&self, stage: &Stage, folder: &Path) {
        let bundle = folder.join("new-bundle");
        let _ = fs::remove_dir_all(&bundle);
        stage.host.copy_out(BUNDLE, &bundle);
        let (node, peer) = (&self.watch_only.node, self.watch_only.peer);
        let mut import = peer.command(LSM);
        import.args(["bundle", "import", "--bundle"]).arg(&bundle).arg("--lnddir").arg(&node.folder);
        process::run(import).ok();
        let starts = self.starts();
        node.cli(["stop"]).ok();
        wait_for("the node's next start", PATIENCE, || (self.starts() > starts).then_some(()));
    }

    /// Has messages signed all the while that `work` lasts.
    pub fn sign_while<T>(&self, work: impl FnOnce(&Asking<'_>) -> T) -> T {
        let (signed, over) = (Mutex::new(Signed::default()), AtomicBool::new(false));
        let done = std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = self.watch_only.sign_once();
                    let mut signed = signed.lock().expect("nobody panicked");
                    match answer {
                        Ok(()) => signed.asked.push(asked),
                        Err(why) => signed.failed.push((asked, why)),
                    }
                    drop(signed);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let done = catch_unwind(AssertUnwindSafe(|| work(&Asking { signed: &signed })));
            // Also after a panic: the scope waits for its threads.
            over.store(true, Ordering::Relaxed);
            done
        });
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
