//! An lnd that was a signer before lsm: its wallet, and what it says of itself.

use crate::lab::host::Host;
use crate::lab::wait_for;
use lsm::secret::Secret;
use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use lsm::signer::macaroon::Macaroon;
use lsm::signer::wallet::{Seed, State};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Makes a wallet in the lnd that begins to run on `host` and listens at `address`, as `lncli create` does: lnd writes its
/// macaroons into its `folder`. Returns the words once the wallet's calls answer.
#[track_caller]
pub fn make_wallet(host: &Host, address: &str, folder: &str, password: &Secret) -> Seed {
    let node = find(host, address, folder);
    host.inside(|| {
        node.wait_for(|state| state == State::Absent, SOON).expect("an lnd without a wallet");
        let seed = node.gen_seed(None).expect("a seed");
        node.init_wallet(password, &seed, false).expect("a wallet");
        node.wait_for(|state| state >= State::RpcActive, SOON).expect("the wallet's calls");
        seed
    })
}

/// The identity that an lnd on this network shows, once it has opened its wallet.
#[track_caller]
pub fn identity(host: &Host, address: &str, folder: &str, network: &str) -> String {
    let (node, path) = (find(host, address, folder), format!("{folder}/data/chain/bitcoin/{network}/admin.macaroon"));
    host.inside(|| node.wait_for(|state| state >= State::RpcActive, SOON)).expect("the wallet opens");
    let macaroon = wait_for("lnd's macaroon", SOON, || Macaroon::parse(fs::read(host.path(&path)).ok()?).ok());
    host.inside(|| node.with_macaroon(&macaroon).accounts()).expect("accounts").identity_pubkey().to_owned()
}

fn find(host: &Host, address: &str, folder: &str) -> Node {
    let path = host.path(&format!("{folder}/tls.cert"));
    let certificate = wait_for("lnd's certificate", SOON, || Certificate::parse_pem(&fs::read(&path).ok()?).ok());
    let endpoint: Endpoint = address.parse().expect("an endpoint");
    Node::new(endpoint, &certificate)
}
