//! An lnd on the bench's host that lsm did not install: as a program like any other, or through `lsm launch` alone.

use crate::lab::host::LSM_INSIDE;
use crate::lab::process::Daemon;
use crate::node::make_certificate;
use crate::stage::Stage;
use lsm::render::launch::{LaunchPolicy, render_launch_policy};
use lsm::render::lnd_conf::{LndConf, render_lnd_conf};
use lsm::secret::Secret;
use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use lsm::signer::macaroon::{Macaroon, signer_permissions};
use lsm::signer::wallet::State;
use lsm::spec::Network;
use std::fs;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running signer's lnd with a wallet of its own, and what a client needs. Dropped, it ends.
pub struct Bare {
    /// Its certificate.
    pub certificate: Certificate,
    /// A macaroon for everything that is measured.
    pub macaroon: Macaroon,
    /// Its public key, in hex.
    pub identity: String,
    _lnd: Daemon,
}

impl Bare {
    /// Starts the program `lnd` on `port` of the host, with the settings of an installed signer, and asks it for all that a
    /// bundle has.
    pub fn start(stage: &Stage, lnd: &str, name: &str, port: u16, launched: bool) -> Self {
        let folder = format!("/srv/{name}");
        stage.host.run(["mkdir", "-p", "-m", "700", &format!("{folder}/macaroons")]).ok();
        let write = |file: &str, text: &str| fs::write(stage.host.path(&format!("{folder}/{file}")), text).unwrap();
        let pair = make_certificate(&[&stage.host.v4], (-1, 30));
        write("tls.cert", &pair.certificate);
        write("tls.key", &pair.key);
        let socket = format!("{folder}/lnd.sock");
        let instance = name.parse().expect("a name");
        let conf = LndConf {
            instance: &instance,
            network: Network::Regtest,
            folder: &folder,
            socket: &socket,
            tls: None,
            macaroons: &format!("{folder}/macaroons"),
            sqlite: false,
        };
        write("lnd.conf", &render_lnd_conf(&conf).unwrap());
        let policy = LaunchPolicy {
            instance: &instance,
            read: &[],
            write: &[Path::new(&folder)],
            listen: &[port],
            socket: Path::new(&socket),
            group: false,
            sqlite: false,
            processes: None,
        };
        let policy_file = format!("/srv/{name}-launch.toml");
        fs::write(stage.host.path(&policy_file), render_launch_policy(&policy).unwrap()).unwrap();

        let mut command = stage.host.command(if launched { LSM_INSIDE } else { lnd });
        if launched {
            command.args(["launch", "--policy", &policy_file, "--", lnd]);
        }
        command.arg(format!("--configfile={folder}/lnd.conf")).arg(format!("--rpclisten=unix://{socket}"));
        command.arg(format!("--rpclisten={}:{port}", stage.host.v4));
        // As the unit has it.
        command.env("GOMEMLIMIT", "1536MiB");
        let log = stage.host.path(&format!("/srv/{name}.log"));
        let daemon = Daemon::start(command, &log);
        let certificate = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap();
        let node = || Node::new(Endpoint::Unix(stage.host.path(&socket)), &certificate);
        let (macaroon, identity) = make_wallet(node);
        Self { certificate, macaroon, identity, _lnd: daemon }
    }
}

/// Makes the wallet; gives the macaroon and the node's public key.
fn make_wallet(node: impl Fn() -> Node) -> (Macaroon, String) {
    let fresh = node();
    fresh.wait_for(|state| state == State::Absent, PATIENCE).expect("lnd without a wallet");
    let owner = fresh.init_wallet(&Secret::generate_password(), &fresh.gen_seed(None).unwrap(), true).unwrap();
    fresh.wait_for(|state| state == State::Active, PATIENCE).expect("lnd with a wallet");
    let owner = node().with_macaroon(&owner);
    let permissions = signer_permissions(true, &owner.known_uris().unwrap()).unwrap();
    owner.accounts().unwrap();
    (owner.bake(&permissions, 5).unwrap(), owner.info().unwrap().identity_pubkey)
}
