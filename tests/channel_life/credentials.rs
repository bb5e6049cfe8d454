//! Other credentials under a living channel, and what a node cannot do that lacks one of the calls it is permitted.

use super::Plan;
use super::life;
use super::signer::Made;
use crate::caller::{Client, Kind, Port};
use crate::lab::btcd::Chain;
use crate::lab::lnd::Node;
use crate::stage::{self, BUNDLE};
use lsm::signer::certificate::Certificate;
use lsm::signer::macaroon::{Macaroon, SIGNER_URIS, TAPROOT_URIS};
use lsm::signer::{MACAROON_REFUSED, Node as Signer};
use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

/// The bundle's macaroon and the signer's certificate are replaced; payments go both ways before, between and after.
pub fn change_all(made: &mut Made<'_>, bob: &Node<'_>, chain: &Chain<'_>, plan: &Plan<'_>) {
    life::receive(&made.watch_only, bob, chain);
    let identity = life::connect(&made.watch_only, bob);
    let channel = life::open(&made.watch_only, bob, chain, &identity, plan.taproot);
    let pay = |alice: &Node<'_>| {
        life::pay(alice, bob);
        life::pay(bob, alice);
    };
    let again = |alice: &mut Node<'_>| {
        if !alice.alive() {
            alice.start_synced();
        }
        life::wait_active(alice, bob, &channel, plan.taproot);
        pay(alice);
    };
    pay(&made.watch_only);
    let before = made.signer.bundle();
    let lsm = |made: &Made<'_>, args: [&str; 3]| made.signer.host.lsm(args).ok();
    lsm(made, ["macaroon", "rotate", "--yes"]);
    lsm(made, ["cert", "renew", "--yes"]);
    pay(&made.watch_only);
    made.take_bundle(plan);
    again(&mut made.watch_only);
    made.signer.host.lsm(["macaroon", "rotate", "--finish", "--yes"]).ok();
    pay(&made.watch_only);
    made.signer.host.lsm(["cert", "renew", "--finish", "--yes"]).ok();
    again(&mut made.watch_only);
    made.signer.host.lsm(["macaroon", "revoke", "--admin", "--yes"]).ok();
    made.take_bundle(plan);
    again(&mut made.watch_only);

    let shown = stage::certificate(&made.signer.host).expect("a certificate");
    assert_ne!(shown, before.certificate);
    let old = Signer::new(stage::endpoint(), &shown).with_macaroon(&before.macaroon);
    let refused = plan.net.allowed().inside(|| old.sign_with_key(6, 0, b"a message")).unwrap_err();
    assert_eq!(refused.code().id, MACAROON_REFUSED.id);
    life::close_together(&made.watch_only, chain, &channel);
}

/// A part of the life, in its order.
const PARTS: [&str; 9] = [
    "start",
    "sign a message",
    "connect",
    "send",
    "open",
    "pay and close",
    "close by force",
    "an application's session",
    "an application's session of combined nonces",
];

/// Which part is the first that fails without a call. Four of MuSig2's calls no channel of lnd's makes: the node hands on what
/// an application such as Loop or Taproot Assets asks of it (lnd's lnrpc/signrpc/signer_server.go, lnwallet/rpcwallet).
fn expected(uri: &str) -> Option<&'static str> {
    Some(match uri.rsplit('/').next()? {
        "SignMessage" => "start",
        "DeriveSharedKey" => "connect",
        "SignPsbt" => "send",
        "MuSig2CreateSession" | "MuSig2Sign" | "MuSig2CombineSig" => "open",
        "MuSig2RegisterNonces" | "MuSig2Cleanup" => PARTS[7],
        "MuSig2RegisterCombinedNonce" | "MuSig2GetCombinedNonce" => PARTS[8],
        _ => return None,
    })
}

/// For each call of the role: the node's macaroon permits all the others, and the first part of its life that fails is the one
/// that is written down here. With the whole macaroon all of it goes well again.
pub fn leave_out_each(made: &mut Made<'_>, bob: &Node<'_>, chain: &Chain<'_>, plan: &Plan<'_>) {
    life::receive(&made.watch_only, bob, chain);
    let whole = made.signer.bundle().macaroon;
    let held: Vec<String> = whole.permissions().iter().map(|permission| permission.action.clone()).collect();
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    let calls = SIGNER_URIS.into_iter().chain(TAPROOT_URIS).filter(|uri| held.iter().any(|held| held == uri));
    for uri in calls.filter(|uri| !plan.taproot || uri.contains("MuSig2")) {
        let others: Vec<&str> = held.iter().map(String::as_str).filter(|held| *held != uri).collect();
        give(made, &bake(made, uri, &others));
        let failed = first_failure(&mut made.watch_only, bob, chain, plan);
        let log = fs::read(made.watch_only.folder.join("log")).unwrap_or_default();
        let denied = String::from_utf8_lossy(&log).matches("permission denied").count();
        println!("without {uri}: {} ({denied} times denied)", failed.unwrap_or("nothing fails"));
        found.push((uri, failed));
        wanted.push((uri, expected(uri)));
        give(made, &whole);
        assert_eq!(first_failure(&mut made.watch_only, bob, chain, plan), None, "with all of them, after {uri}");
    }
    assert_eq!(found, wanted);
}

/// A macaroon that permits `calls`, all but the one that is left out.
fn bake(made: &Made<'_>, left_out: &str, calls: &[&str]) -> Macaroon {
    let out = format!("/root/without-{}.macaroon", left_out.rsplit('/').next().unwrap_or_default());
    let mut args = vec!["macaroon".to_owned(), "bake".into(), "--yes".into(), format!("--out={out}")];
    args.extend(calls.iter().map(|uri| format!("--uri={uri}")));
    made.signer.host.lsm(args).ok();
    Macaroon::parse(fs::read(made.signer.host.path(&out)).unwrap()).unwrap()
}

/// Puts a macaroon into the node's folder; it is read at the next start.
fn give(made: &mut Made<'_>, macaroon: &Macaroon) {
    made.watch_only.stop();
    let _ = fs::remove_file(made.watch_only.folder.join("log"));
    fs::write(made.watch_only.folder.join("signer-credentials/admin.macaroon"), macaroon.expose()).unwrap();
    assert!(made.signer.host.path(BUNDLE).exists());
}

/// Goes through the parts, and says which of them is the first to fail.
fn first_failure(alice: &mut Node<'_>, bob: &Node<'_>, chain: &Chain<'_>, plan: &Plan<'_>) -> Option<&'static str> {
    let mut place = 0;
    let done = catch_unwind(AssertUnwindSafe(|| {
        alice.start_synced();
        let mut next = || place += 1;
        next();
        alice.cli(["signmessage", "a message"]).ok();
        next();
        let identity = bob.json(["getinfo"])["identity_pubkey"].as_str().expect("an identity").to_owned();
        alice.cli(["disconnect", &identity]);
        life::connect(alice, bob);
        next();
        life::send_some(alice, bob, chain);
        next();
        let channel = life::open(alice, bob, chain, &identity, plan.taproot);
        next();
        life::pay(alice, bob);
        life::pay(bob, alice);
        life::close_together(alice, chain, &channel);
        next();
        let channel = life::open(alice, bob, chain, &identity, plan.taproot);
        life::close_by_force(alice, chain, &channel);
        next();
        if plan.taproot {
            let application = Application::of(alice, plan);
            application.ask(|client| Box::pin(async move { client.sign(Kind::MuSig2).await }));
            next();
            application.ask(|client| Box::pin(async move { client.combine_nonces().await }));
            next();
        }
    }));
    if done.is_ok() { None } else { PARTS.get(place).copied() }
}

/// A program beside the watch-only node, which asks that to sign as its admin.
struct Application<'a> {
    plan: &'a Plan<'a>,
    port: Port,
    macaroon: Macaroon,
    identity: String,
}

impl<'a> Application<'a> {
    fn of(node: &Node<'_>, plan: &'a Plan<'a>) -> Self {
        let read = |path: &str| fs::read(node.folder.join(path)).expect("a file of the node's");
        let certificate = Certificate::parse_pem(&read("tls.cert")).expect("a certificate");
        let macaroon = Macaroon::parse(read("data/chain/bitcoin/regtest/admin.macaroon")).expect("a macaroon");
        let identity = node.json(["getinfo"])["identity_pubkey"].as_str().expect("an identity").to_owned();
        let port = Port::new(SocketAddr::from(([127, 0, 0, 1], node.port)), &certificate);
        Self { plan, port, macaroon, identity }
    }

    /// Does this, from where the node is.
    #[track_caller]
    fn ask(&self, work: impl FnOnce(Client) -> Pin<Box<dyn Future<Output = Result<(), String>>>> + Send) {
        let done = self.plan.net.allowed().inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { work(Client::new(&self.port, None, &self.macaroon, &self.identity)).await })
        });
        done.expect("the session");
    }
}
