//! The other machine: give its lnd a bundle, the settings and a watch-only wallet, and prove that the signer signs for it.

pub mod check;
pub mod conf;
pub mod import;
pub mod init;
mod migrate;
mod place;
pub mod request;
mod started;

pub use check::{CheckRequest, Checked, check};
pub use import::import;
pub use init::{Ready, init, plan};
pub use place::Change;
pub use request::InitRequest;

use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use crate::signer::{Node, proof};
use crate::spec::Network;
use conf::Conf;
use std::path::{Path, PathBuf};

const NO_HOST: Code = Code::usage("E-WATCH-001");
const NO_MACAROON: Code = Code::lacking("E-WATCH-002");

/// The folder in lnd's that holds the bundle.
pub const CREDENTIALS: &str = "signer-credentials";

/// The file in lnd's folder with the process number of an lnd that lsm started.
pub const PID_FILE: &str = "lsm-lnd.pid";

/// A signature that was made and checked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Proof {
    /// What was signed, after lnd's prefix: new every time.
    pub message: String,
    /// The signature, as `lncli verifymessage` takes it (zbase32).
    pub signature: String,
    /// The key that it was recovered to, which is the bundle's.
    pub identity_pubkey: String,
}

/// Has `node` sign a new message with its identity, which a watch-only node asks its signer for, and recovers the key.
///
/// # Errors
/// Where it does not sign, or another key did.
pub fn prove(node: &Node, identity_pubkey: &str) -> Result<Proof> {
    let message = proof::new_message();
    let signature = node.sign_as_node(message.as_bytes())?;
    proof::verify_node_signature(message.as_bytes(), &signature, identity_pubkey)?;
    Ok(Proof { message, signature, identity_pubkey: identity_pubkey.to_owned() })
}

/// Has the signer itself sign what a watch-only node would ask of it, and recovers the key.
///
/// # Errors
/// As [`prove`].
pub fn prove_at_signer(node: &Node, identity_pubkey: &str) -> Result<Proof> {
    let message = proof::new_message();
    let (family, index) = proof::IDENTITY;
    let signature = node.sign_with_key(family, index, &[proof::NODE_PREFIX, message.as_bytes()].concat())?;
    let signature = proof::encode(&signature);
    proof::verify_node_signature(message.as_bytes(), &signature, identity_pubkey)?;
    Ok(Proof { message, signature, identity_pubkey: identity_pubkey.to_owned() })
}

/// Which of the signer's addresses to dial: the one that was asked for, else the bundle's first.
fn choose_host(asked: Option<&Endpoint>, bundle: &crate::bundle::Bundle) -> Result<Endpoint> {
    asked.or(bundle.about.rpchost.first()).cloned().ok_or_else(|| {
        Error::new(NO_HOST, "the bundle does not say where the signer answers")
            .hint("name it: --signer-host HOST:PORT, as the signer's certificate names it")
    })
}

/// The local lnd of `lnddir`, reached as its settings say.
struct Local {
    endpoint: Endpoint,
    certificate: PathBuf,
    macaroon: PathBuf,
}

impl Local {
    fn new(lnddir: &Path, conf: &Conf, network: Network) -> Self {
        let folder = |key: &str, default: PathBuf| conf.path(key).unwrap_or(default);
        let data = folder("datadir", lnddir.join("data"));
        let macaroon = data.join("chain/bitcoin").join(network.name()).join("admin.macaroon");
        Self {
            endpoint: conf.rpc_endpoint(),
            certificate: folder("tlscertpath", lnddir.join("tls.cert")),
            macaroon: folder("adminmacaroonpath", macaroon),
        }
    }

    /// The node without a macaroon. lnd makes its certificate at the first start: read anew every time.
    fn node(&self) -> Result<Node> {
        let pin = Certificate::parse_pem(&file::read(&self.certificate, 1 << 16)?)?;
        Ok(Node::new(self.endpoint.clone(), &pin))
    }

    /// True where it runs, with a wallet or without.
    fn answers(&self) -> bool {
        self.node().and_then(|node| node.state()).is_ok()
    }

    fn node_with_macaroon(&self) -> Result<Node> {
        let bytes = file::read(&self.macaroon, 1 << 16).map_err(|e| {
            Error::new(NO_MACAROON, format!("lnd's admin macaroon cannot be read: {}", e.cause()))
                .hint("run it as lnd's own user; a wallet that was made stateless has none on disk")
        })?;
        Ok(self.node()?.with_macaroon(&Macaroon::parse(bytes)?))
    }
}
