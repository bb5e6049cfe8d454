//! The real lnd: where `tests/run` put each release, and nodes made of it in any place of the lab.

use super::net::Peer;
use super::process::{self, Daemon, Done};
use super::{cache, wait_for};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The releases of the test matrix: the default, and the original system's.
pub const RELEASES: [&str; 2] = ["v0.21.3-beta", "v0.20.0-beta"];

/// One release: `lnd`, `lncli`, and the archive that they come from.
#[derive(Debug, Clone)]
pub struct Release {
    /// The version, as lnd's tag names it.
    pub version: String,
    /// The folder of its programs.
    pub folder: PathBuf,
}

impl Release {
    /// The release `version`, or `None`, said as a skip.
    #[track_caller]
    pub fn find(version: &str) -> Option<Self> {
        let all = std::env::var_os("LSM_TEST_LND_DIR").map_or_else(|| cache().join("lnd"), PathBuf::from);
        let found = Self { version: version.to_owned(), folder: all.join(version) };
        if found.lnd().is_file() && found.lncli().is_file() {
            return Some(found);
        }
        super::skip(&format!("there is no lnd in {} (tests/run builds it)", found.folder.display()));
        None
    }

    /// The release's `lnd`.
    pub fn lnd(&self) -> PathBuf {
        self.folder.join("lnd")
    }

    /// The release's `lncli`.
    pub fn lncli(&self) -> PathBuf {
        self.folder.join("lncli")
    }

    /// The release's archive, with the pinned hash; `None`, said as a skip, where only its programs are there.
    #[track_caller]
    pub fn archive(&self) -> Option<PathBuf> {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let path = self.folder.join(format!("lnd-linux-{arch}-{}.tar.gz", self.version));
        if path.is_file() {
            return Some(path);
        }
        super::skip(&format!("there is no {} (tests/run builds it)", path.display()));
        None
    }
}

/// What a service with `Restart=always` does: whenever lnd ends, and with a second's pause, it is started again.
const KEEPER: &str = "trap 'kill $lnd; wait $lnd; exit' TERM INT
while :; do
    echo lnd is started
    \"$@\" & lnd=$!
    wait $lnd
    sleep 1
done";

/// An lnd on regtest. Dropped, it ends.
pub struct Node<'a> {
    /// Its release.
    pub release: Release,
    /// Its folder (`--lnddir`), with `lnd.conf` and the log file `log`.
    pub folder: PathBuf,
    /// Its gRPC port on 127.0.0.1; its peer port is one more.
    pub port: u16,
    peer: &'a Peer,
    daemon: Option<Daemon>,
}

impl<'a> Node<'a> {
    /// Writes the settings of a node in `folder`, made if need be, with gRPC on 127.0.0.1:`port` and peers on the port
    /// after it: quick to gossip and to close channels, plus `settings`. It does not run yet.
    pub fn lay(release: &Release, peer: &'a Peer, folder: &Path, port: u16, settings: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder for the node");
        let peers = port + 1;
        let conf = format!(
            "rpclisten=127.0.0.1:{port}\nlisten=127.0.0.1:{peers}\nnorest=true\nnobootstrap=true\nbitcoin.regtest=true\n\
             trickledelay=50\nbitcoin.defaultremotedelay=4\nbitcoin.defaultchanconfs=1\n{settings}"
        );
        fs::write(folder.join("lnd.conf"), conf).expect("the settings are written");
        Self { release: release.clone(), folder: folder.into(), port, peer, daemon: None }
    }

    /// Starts it and waits until its RPC answers as far as `state` (of `lncli state`).
    #[track_caller]
    pub fn start(&mut self, state: &str) {
        self.run(self.peer.command(self.release.lnd()), state);
    }

    /// The same, as its service would: it is started again whenever it ends.
    #[track_caller]
    pub fn keep(&mut self, state: &str) {
        let mut command = self.peer.command("sh");
        command.args(["-c", KEEPER, "sh"]).arg(self.release.lnd());
        self.run(command, state);
    }

    #[track_caller]
    fn run(&mut self, mut command: Command, state: &str) {
        command.arg(format!("--lnddir={}", self.folder.display()));
        let mut daemon = Daemon::start(command, &self.folder.join("log"));
        wait_for(&format!("{state} of {}", self.folder.display()), Duration::from_secs(90), || {
            assert!(daemon.alive(), "lnd ended:\n{}", self.log_end());
            let said = self.cli(["state"]);
            (said.code == 0 && said.stdout.contains(&format!("\"{state}\""))).then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Starts it and waits until it is synced to the chain.
    #[track_caller]
    pub fn start_synced(&mut self) {
        self.start("SERVER_ACTIVE");
        self.wait_synced();
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.end(Signal::SIGINT, Duration::from_secs(30));
        }
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(Daemon::alive)
    }

    /// Waits until it knows the chain's end.
    #[track_caller]
    pub fn wait_synced(&self) {
        wait_for("a synced node", Duration::from_secs(90), || {
            let info = self.cli(["getinfo"]);
            (info.code == 0 && info.json()["synced_to_chain"] == true).then_some(())
        });
    }

    /// Runs `lncli` against it.
    #[track_caller]
    pub fn cli<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        process::run(self.lncli(args))
    }

    /// The same, beside what else is done: it ends with what it waits for, and with the node.
    pub fn begin<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Child {
        self.lncli(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("lncli starts")
    }

    fn lncli<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.peer.command(self.release.lncli());
        command.arg(format!("--lnddir={}", self.folder.display())).arg("--network=regtest");
        command.arg(format!("--rpcserver=127.0.0.1:{}", self.port)).args(args);
        command
    }

    /// Runs `lncli` against it and gives its JSON.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> serde_json::Value {
        self.cli(args).json()
    }

    /// How often a [kept](Self::keep) one was started.
    pub fn starts(&self) -> usize {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).matches("lnd is started\n").count()
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        let text = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(3000)..]).into_owned()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
