//! Whose keys a seed makes: a throw-away lnd restores it in memory, tells its accounts, and nothing of it is left.

use crate::error::{Code, Error, Result};
use crate::host::chamber::{Chamber, Running};
use crate::host::credential::Keep;
use crate::host::file;
use crate::plan;
use crate::render::launch::{LaunchPolicy, render_launch_policy};
use crate::render::lnd_conf::{LndConf, render_lnd_conf};
use crate::secret::Secret;
use crate::signer::Node;
use crate::signer::accounts::Accounts;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::wallet::{Seed, State};
use crate::spec::{Instance, Network, San};
use crate::ui::progress::Progress;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ENDED: Code = Code::refused("E-WALLET-020");
const NO_SELF: Code = Code::lacking("E-WALLET-021");

/// How long lnd may take to start, and to restore a wallet: its key derivation is slow on purpose.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often it is looked at whether it still runs.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most of its log that is read, in bytes.
const LOG: u64 = 1 << 20;

/// The accounts that `seed` gives on `network`, told by the lnd at `program`. Afterwards this thread sees a folder in
/// memory in place of /tmp, and no network ([`Chamber::enter`]).
///
/// # Errors
/// Where the words are no seed, or the lnd cannot be run in memory.
pub fn restore_accounts(program: &Path, network: Network, seed: &Seed, shown: &Progress) -> Result<Accounts> {
    let itself =
        std::env::current_exe().map_err(|e| Error::new(NO_SELF, format!("cannot tell what lsm runs from: {e}")))?;
    let chamber = Chamber::enter(&[("lsm", &itself), ("lnd", program)])?;
    let mut lnd = Lnd::start(&chamber, network)?;
    shown.say("waiting for a throw-away lnd");
    lnd.wait(|state| state == State::Absent)?;
    shown.say("restoring the wallet in memory");
    // The password of a wallet that nobody will open again.
    let macaroon = lnd.node.init_wallet(&Secret::generate_password(), seed, true)?;
    lnd.node = lnd.node.with_macaroon(&macaroon);
    lnd.wait(|state| state >= State::RpcActive)?;
    lnd.node.accounts()
}

/// The throw-away lnd.
struct Lnd {
    node: Node,
    running: Running,
    log: PathBuf,
}

impl Lnd {
    fn start(chamber: &Chamber, network: Network) -> Result<Self> {
        let [conf, policy, log] = ["lnd.conf", "launch.toml", "lnd.log"].map(|name| chamber.place(name));
        let (folder, socket, certificate) = (chamber.place(""), chamber.place("lnd.sock"), chamber.place("tls.cert"));
        let key = Keep::Plain { path: chamber.place("tls.key"), owner: Some(chamber.number()) };
        plan::make_certificate(&certificate, &key, &[San::Name("localhost".to_owned())])?;
        let instance = Instance::default();
        let text = render_lnd_conf(&LndConf {
            instance: &instance,
            network,
            folder: &folder.display().to_string(),
            socket: &socket.display().to_string(),
            tls: None,
            macaroons: &folder.display().to_string(),
            sqlite: false,
        })?;
        file::create(&conf, text.as_bytes(), chamber.own())?;
        let text = render_launch_policy(&LaunchPolicy {
            instance: &instance,
            read: &[],
            write: &[&folder],
            listen: &[],
            socket: &socket,
            group: false,
            sqlite: false,
            processes: Some(super::native::PROCESSES),
        })?;
        file::create(&policy, text.as_bytes(), chamber.own())?;
        let in_it = |name: &str| chamber.place(name).display().to_string();
        let launch = [in_it("lsm"), "launch".to_owned(), format!("--policy={}", policy.display())];
        let becomes = ["--".to_owned(), in_it("lnd"), format!("--configfile={}", conf.display())];
        let running = chamber.start(&log, &[launch, becomes].concat())?;
        let pin = Certificate::parse_pem(&file::read(&certificate, 1 << 16)?)?;
        Ok(Self { node: Node::new(Endpoint::Unix(socket), &pin), running, log })
    }

    fn wait(&mut self, wanted: impl Fn(State) -> bool) -> Result<State> {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.node.wait_for(&wanted, PATIENCE) {
                Err(_) if self.running.has_ended() => return Err(self.ended()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {}
                reached => return reached,
            }
        }
    }

    /// Its log is gone with it; it holds no word of a seed (lnd logs no request).
    fn ended(&self) -> Error {
        let log = file::read(&self.log, LOG).unwrap_or_default();
        let said = String::from_utf8_lossy(&log);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        Error::new(ENDED, format!("the throw-away lnd ended; it said: {last}"))
    }
}
