//! A node with private keys of its own, which is to become a watch-only one.

use super::free_port;
use crate::lab::wait_for;
use lsm::secret::Secret;
use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use lsm::signer::macaroon::Macaroon;
use lsm::signer::wallet::{Seed, State};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// A node with private keys of its own, from its settings in `lnddir`. Ends when dropped.
pub struct Hot(std::process::Child);

impl Hot {
    pub fn start(lnd: &Path, lnddir: &Path) -> Self {
        let mut command = Command::new(lnd);
        command.arg(format!("--lnddir={}", lnddir.display())).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// How it ends by itself.
    pub fn end(mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// The node of `lnddir`, once it is there.
pub fn node_in(lnddir: &Path, port: u16) -> Node {
    let pem = lnddir.join("tls.cert");
    // lnd does not write it at once.
    let pin = wait_for("a certificate", DEADLINE, || Certificate::parse_pem(&std::fs::read(&pem).ok()?).ok());
    Node::new(Endpoint::Tcp { host: "localhost".into(), port }, &pin)
}

pub fn holds_keys(lnddir: &Path, port: u16) -> bool {
    let macaroon = std::fs::read(lnddir.join("data/chain/bitcoin/regtest/admin.macaroon")).unwrap();
    node_in(lnddir, port).with_macaroon(&Macaroon::parse(macaroon).unwrap()).holds_keys().unwrap()
}

/// Makes a node with the wallet of `seed`, or of a new one, and leaves it running.
pub fn make_hot(lnd: &Path, lnddir: &Path, seed: Option<&Seed>) -> (Hot, u16) {
    std::fs::create_dir_all(lnddir).unwrap();
    let (port, password) = (free_port(), lnddir.join("password"));
    std::fs::write(&password, "the node's own password").unwrap();
    let own = format!(
        "# mine\n[Application Options]\nrpclisten=localhost:{port}\nnorest=true\nnolisten=true\n\
         wallet-unlock-password-file={}\nwallet-unlock-allow-create=true\n\n[Bitcoin]\nbitcoin.regtest=true\n\
         bitcoin.node=nochainbackend\n",
        password.display()
    );
    std::fs::write(lnddir.join("lnd.conf"), own).unwrap();
    let running = Hot::start(lnd, lnddir);
    let node = node_in(lnddir, port);
    node.wait_for(|s| s == State::Absent, DEADLINE).unwrap();
    let new = node.gen_seed(None).unwrap();
    node.init_wallet(&Secret::new(b"the node's own password".to_vec()), seed.unwrap_or(&new), false).unwrap();
    node.wait_for(|s| s == State::Active, DEADLINE).unwrap();
    (running, port)
}
