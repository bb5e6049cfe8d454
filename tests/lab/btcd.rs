//! A regtest chain: btcd as `tests/run` built it, in any place of the lab.

use super::net::Peer;
use super::process::{self, Daemon, Done};
use super::{cache, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The RPC port of a chain.
const RPC_PORT: u16 = 18334;

/// A running btcd. Dropped, it ends.
pub struct Chain<'a> {
    programs: PathBuf,
    folder: PathBuf,
    peer: &'a Peer,
    _daemon: Daemon,
}

/// The folder with btcd and btcctl, or `None`, said as a skip.
#[track_caller]
pub fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("LSM_TEST_BTCD_DIR").map_or_else(|| cache().join("btcd"), PathBuf::from);
    if folder.join("btcd").is_file() && folder.join("btcctl").is_file() {
        return Some(folder);
    }
    super::skip(&format!("there is no btcd in {} (tests/run builds it)", folder.display()));
    None
}

impl<'a> Chain<'a> {
    /// Starts a new chain at `peer`, its files in the new folder `folder`, paying for blocks to `miner`.
    #[track_caller]
    pub fn start(programs: &Path, peer: &'a Peer, folder: &Path, miner: &str) -> Self {
        std::fs::create_dir(folder).expect("a new folder for the chain");
        let mut command = peer.command(programs.join("btcd"));
        let at = |name: &str| folder.join(name).display().to_string();
        // lnd's estimates fall a few satoshi short of btcd's relay fee, and a new chain's coins have no age to make up for it.
        command.args(["--norelaypriority", "--minrelaytxfee=0.000005"]);
        command.args(["--regtest", "--txindex", "--rpcuser=lab", "--rpcpass=lab", "--nolisten", "--nodnsseed"]);
        command.arg(format!("--configfile={}", at("btcd.conf")));
        command.arg(format!("--datadir={}", at("data"))).arg(format!("--logdir={}", at("logs")));
        command.arg(format!("--rpccert={}", at("rpc.cert"))).arg(format!("--rpckey={}", at("rpc.key")));
        command.arg(format!("--rpclisten=127.0.0.1:{RPC_PORT}")).arg(format!("--miningaddr={miner}"));
        let log = folder.join("log");
        let mut daemon = Daemon::start(command, &log);
        let chain = Self {
            programs: programs.into(),
            folder: folder.into(),
            peer,
            _daemon: {
                wait_for("btcd's certificate", Duration::from_secs(30), || {
                    assert!(daemon.alive(), "btcd ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
                    folder.join("rpc.cert").is_file().then_some(())
                });
                daemon
            },
        };
        wait_for("btcd", Duration::from_secs(30), || (chain.ctl(["getblockcount"]).code == 0).then_some(()));
        chain
    }

    /// Runs btcctl.
    #[track_caller]
    pub fn ctl<const N: usize>(&self, args: [&str; N]) -> Done {
        let mut command = self.peer.command(self.programs.join("btcctl"));
        command.args(["--regtest", "--rpcuser=lab", "--rpcpass=lab"]);
        command.arg(format!("--configfile={}", self.folder.join("btcctl.conf").display()));
        command.arg(format!("--rpccert={}", self.folder.join("rpc.cert").display()));
        command.arg(format!("--rpcserver=127.0.0.1:{RPC_PORT}")).args(args);
        process::run(command)
    }

    /// Mines `blocks` blocks.
    #[track_caller]
    pub fn mine(&self, blocks: u32) {
        self.ctl(["generate", &blocks.to_string()]).ok();
    }

    /// The height of the chain.
    #[track_caller]
    pub fn height(&self) -> u64 {
        self.ctl(["getblockcount"]).ok().trim().parse().expect("a number")
    }

    /// The ids of the transactions that wait for a block.
    #[track_caller]
    pub fn waiting(&self) -> Vec<String> {
        serde_json::from_value(self.ctl(["getrawmempool"]).json()).expect("a list of ids")
    }

    /// What an lnd's settings say to use this chain.
    pub fn settings(&self) -> String {
        format!(
            "bitcoin.node=btcd\nbtcd.rpchost=127.0.0.1:{RPC_PORT}\nbtcd.rpcuser=lab\nbtcd.rpcpass=lab\nbtcd.rpccert={}\n",
            self.folder.join("rpc.cert").display()
        )
    }
}
