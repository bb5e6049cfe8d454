//! The table of every call that a signer offers, tried with an empty request: which of them each role's macaroon permits.

use crate::caller::{Client, Port};
use crate::node::{Lnd, make_certificate, versions};
use lsm::secret::Secret;
use lsm::signer::macaroon::{Macaroon, Role, SIGNER_URIS, TAPROOT_URIS};
use lsm::signer::wallet::State;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What lnd answers without looking at a macaroon (lnd's rpcperms/interceptor.go), of what it lists.
const FOR_ANYBODY: [&str; 2] = ["/lnrpc.State/GetState", "/lnrpc.State/SubscribeState"];

/// The calls of `all` that lnd does not refuse the holder of `macaroon`, and those that no service of this lnd has.
fn permitted<'a>(signer: &Lnd, macaroon: &Macaroon, all: &'a BTreeSet<String>) -> (BTreeSet<&'a str>, usize) {
    let port = Port::new(SocketAddr::from((Ipv4Addr::LOCALHOST, signer.port)), &signer.certificate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(&port, None, macaroon, GENERATOR);
        let (mut found, mut unserved) = (BTreeSet::new(), 0);
        for uri in all {
            match client.call_empty(uri).await {
                Err(said) if said.contains("permission denied") => {}
                Err(said) if said.contains("unknown service") || said.contains("unknown method") => unserved += 1,
                _ => {
                    found.insert(uri.as_str());
                }
            }
        }
        (found, unserved)
    })
}

/// The generator point of secp256k1: some valid key.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

#[test]
fn each_role_permits_the_calls_that_it_needs_and_no_other() {
    for (version, lnd) in versions("each_role_permits_the_calls_that_it_needs_and_no_other") {
        let folder = tempfile::tempdir().unwrap();
        let signer = Lnd::start_signer(&lnd, folder.path(), &make_certificate(&["127.0.0.1"], (-1, 30)), &[]);
        signer.wait(State::Absent);
        let node = signer.unix();
        let (seed, password) = (node.gen_seed(None).unwrap(), Secret::generate_password());
        let admin = node.init_wallet(&password, &seed, true).unwrap();
        node.wait_for(|state| state == State::Active, Duration::from_secs(60)).unwrap();
        let node = node.with_macaroon(&admin);
        let calls = node.calls().unwrap();
        let all: BTreeSet<String> = calls.keys().cloned().chain(FOR_ANYBODY.map(str::to_owned)).collect();
        let taproot: Vec<&str> = TAPROOT_URIS.into_iter().filter(|uri| all.contains(*uri)).collect();
        let version_call = ["/verrpc.Versioner/GetVersion"];
        for (role, wanted) in [
            (Role::Signer, SIGNER_URIS.to_vec()),
            (Role::SignerTaproot, [&SIGNER_URIS[..], &taproot].concat()),
            (Role::Monitor, version_call.to_vec()),
            (Role::Calls(["/lnrpc.Lightning/GetInfo".to_owned()].into()), vec!["/lnrpc.Lightning/GetInfo"]),
        ] {
            let macaroon = node.bake(&role.permissions(&calls).unwrap(), 7).unwrap();
            let (found, unserved) = permitted(&signer, &macaroon, &all);
            let wanted: BTreeSet<&str> = wanted.into_iter().chain(FOR_ANYBODY).collect();
            assert_eq!(found, wanted, "{version} {role}");
            println!("{version} {role}: {} of {} calls, {unserved} not served", found.len(), all.len());
        }
        assert!(all.len() > 150, "{version}: {}", all.len());
    }
}
