//! What a node does in its life: receives, sends, opens, pays, is paid, closes both ways, sweeps, signs a PSBT.

use super::Plan;
use super::signer::Made;
use crate::lab::btcd::Chain;
use crate::lab::lnd::Node;
use crate::lab::wait_for;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// What a node's settings say to allow taproot channels.
pub const TAPROOT: &str = "protocol.simple-taproot-chans=true\n";
const PAYMENTS: usize = 10;

/// Lives the whole life of `alice`, whose keys are elsewhere, with `bob`, who has the money.
pub fn live(alice: &Node, bob: &Node, chain: &Chain, taproot: bool) {
    receive(alice, bob, chain);
    for kind in ["WITNESS_PUBKEY_HASH", "TAPROOT_PUBKEY"] {
        send(alice, bob, chain, kind);
    }
    send_many(alice, bob, chain);
    spend_psbt(alice, bob, chain);
    join(alice, bob, chain);

    let identity = connect(alice, bob);
    for close in [close_together, close_by_force] {
        let channel = open(alice, bob, chain, &identity, taproot);
        for _ in 0..PAYMENTS {
            pay(alice, bob);
            pay(bob, alice);
        }
        close(alice, chain, &channel);
    }
}

/// Makes Bob a peer of Alice's; gives his identity.
pub fn connect(alice: &Node, bob: &Node) -> String {
    let identity = text(&bob.json(["getinfo"])["identity_pubkey"]);
    let done = alice.cli(["connect", &format!("{identity}@127.0.0.1:{}", bob.port + 1)]);
    // Where there was a channel before, he may have been quicker.
    assert!(done.code == 0 || done.stderr.contains("already connected"), "{done:?}");
    identity
}

/// Bob pays Alice on an address of each kind.
pub fn receive(alice: &Node, bob: &Node, chain: &Chain) {
    for kind in ["p2wkh", "p2wkh", "p2tr", "p2tr"] {
        let to = address(alice, kind);
        bob.cli(["sendcoins", "--force", "--addr", &to, "--amt", "50000000"]).ok();
        confirm(alice, bob, chain, 1);
    }
    wait_for("four coins", LIMIT, || (coins(alice).len() == 4).then_some(()));
}

/// Alice sends a coin of this kind, and nothing else, to each kind of address.
fn send(alice: &Node, bob: &Node, chain: &Chain, kind: &str) {
    let coin = coins(alice).into_iter().find(|c| kind_of(c) == kind).expect("a coin of this kind");
    let to = address(bob, if kind == "TAPROOT_PUBKEY" { "p2wkh" } else { "p2tr" });
    let from = text(&coin["outpoint"]);
    alice.cli(["sendcoins", "--force", "--utxo", &from, "--addr", &to, "--amt", "1000000"]).ok();
    confirm(alice, bob, chain, 1);
    assert!(coins(alice).iter().all(|c| text(&c["outpoint"]) != from), "the coin is spent");
}

/// Alice's machine is lost: another one, made of the same bundle, finds her coins and can send them.
pub fn comes_back<'a>(made: &mut Made<'a>, bob: &Node, chain: &Chain, plan: &Plan<'a>) {
    let outpoints = |node: &Node| -> BTreeSet<_> { coins(node).iter().map(|coin| text(&coin["outpoint"])).collect() };
    let had = outpoints(&made.watch_only);
    made.lose_watch_only(plan);
    let again = &made.watch_only;
    wait_for("the coins that she had", LIMIT, || (outpoints(again) == had).then_some(()));
    send_some(again, bob, chain);
}

/// Alice sends some of what she has.
pub fn send_some(alice: &Node, bob: &Node, chain: &Chain) {
    let to = address(bob, "p2tr");
    alice.cli(["sendcoins", "--force", "--addr", &to, "--amt", "100000"]).ok();
    confirm(alice, bob, chain, 1);
}

fn send_many(alice: &Node, bob: &Node, chain: &Chain) {
    let to = [address(bob, "p2wkh"), address(bob, "p2tr")];
    alice.cli(["sendmany", &format!(r#"{{"{}":100000,"{}":200000}}"#, to[0], to[1])]).ok();
    confirm(alice, bob, chain, 1);
}

fn spend_psbt(alice: &Node, bob: &Node, chain: &Chain) {
    let outputs = format!(r#"{{"{}":300000}}"#, address(bob, "p2tr"));
    let funded = alice.json(["wallet", "psbt", "fund", &format!("--outputs={outputs}"), "--sat_per_vbyte=5"]);
    let signed = alice.json(["wallet", "psbt", "finalize", &text(&funded["psbt"])]);
    alice.cli(["wallet", "publishtx", &text(&signed["final_tx"])]).ok();
    confirm(alice, bob, chain, 1);
}

/// Alice spends all of her coins at once, to herself: lnd has each signed by itself, with the signatures of those before it.
fn join(alice: &Node, bob: &Node, chain: &Chain) {
    let before = coins(alice);
    assert!(before.len() > 3, "{before:?}");
    let all: u64 = before.iter().map(|coin| coin["amount_sat"].as_u64().expect("an amount")).sum();
    let (to, amount) = (address(alice, "p2tr"), (all - 100_000).to_string());
    alice.cli(["sendcoins", "--force", "--addr", &to, "--amt", &amount]).ok();
    confirm(alice, bob, chain, 1);
    wait_for("one coin and its change", LIMIT, || (coins(alice).len() == 2).then_some(()));
}

/// Opens a channel with money on both sides; gives its point.
pub fn open(alice: &Node, bob: &Node, chain: &Chain, identity: &str, taproot: bool) -> String {
    let mut line = vec!["openchannel", "--node_key", identity, "--local_amt", "2000000", "--push_amt", "1000000"];
    if taproot {
        line.extend(["--channel_type", "taproot", "--private"]);
    }
    wait_for("a connected peer", LIMIT, || {
        let peers = alice.json(["listpeers"]);
        if !list(&peers["peers"]).is_empty() {
            return Some(());
        }
        // One with whom there is no channel, and who is lost, a ping being late say, is dialled again by nobody.
        alice.cli(["connect", &format!("{identity}@127.0.0.1:{}", bob.port + 1)]);
        None
    });
    let funding = text(&alice.json(line)["funding_txid"]);
    confirm(alice, bob, chain, 6);
    wait_active(alice, bob, &funding, taproot)
}

/// Waits until the channel with this funding transaction is usable on both sides; gives its point.
pub fn wait_active(alice: &Node, bob: &Node, funding: &str, taproot: bool) -> String {
    wait_for("an active channel on both sides", LIMIT, || {
        let active = |node: &Node| {
            let channels = node.json(["listchannels", "--active_only"]);
            let mut channels = list(&channels["channels"]).into_iter();
            let found = channels.find(|c| text(&c["channel_point"]).starts_with(funding))?;
            let point = text(&found["channel_point"]);
            // A payment finds no way before both sides' policies are in the graph.
            let edge: Value = serde_json::from_str(&node.cli(["getchaninfo", "--chan_point", &point]).stdout).ok()?;
            let usable = edge["node1_policy"].is_object() && edge["node2_policy"].is_object();
            usable.then(|| (point, text(&found["commitment_type"])))
        };
        let (point, kind) = active(alice)?;
        assert_eq!(kind.contains("TAPROOT"), taproot, "{kind}");
        active(bob).map(|_| point)
    })
}

/// `from` pays an invoice of `to`.
pub fn pay(from: &Node, to: &Node) {
    let invoice = text(&to.json(["addinvoice", "--amt", "1000"])["payment_request"]);
    let said = from.cli(["payinvoice", "--force", "--json", "--pay_req", &invoice]).ok();
    assert!(said.contains("SUCCEEDED"), "{said}");
}

/// The same where either may be down: whether it came through, within ten seconds.
pub fn try_to_pay(from: &Node, to: &Node) -> bool {
    let made = to.cli(["addinvoice", "--amt", "1000"]);
    let Ok(invoice) = serde_json::from_str::<Value>(&made.stdout) else { return false };
    let Some(request) = invoice["payment_request"].as_str() else { return false };
    let paid = from.cli(["payinvoice", "--force", "--json", "--timeout=10s", "--pay_req", request]);
    paid.stdout.contains("SUCCEEDED")
}

pub fn close_together(alice: &Node, chain: &Chain, channel: &str) {
    // Named, since lnd's own estimate can fall some satoshi short of what btcd passes on.
    alice.cli(["closechannel", "--sat_per_vbyte=10", "--chan_point", channel]).ok();
    mine_until_closed(alice, chain, channel, "COOPERATIVE_CLOSE");
}

pub fn close_by_force(alice: &Node, chain: &Chain, channel: &str) {
    let swept = sweeps(alice);
    alice.cli(["closechannel", "--force", "--chan_point", channel]).ok();
    mine_until_closed(alice, chain, channel, "LOCAL_FORCE_CLOSE");
    wait_for("a sweep", LIMIT, || (sweeps(alice) > swept).then_some(()));
}

/// Bob closes by force with a state that he has revoked, in which a payment is under way, while Alice is away: back again, she takes all
/// that was in the channel by one transaction of three inputs.
pub fn punish(alice: &mut Node, bob: &mut Node, chain: &Chain, channel: &str) {
    let states = bob.folder.join("data/graph/regtest/channel.db");
    let revoked = bob.folder.join("revoked.db");
    let hash = "ab".repeat(32);
    let invoice = text(&alice.json(["addholdinvoice", &hash, "--amt", "100000"])["payment_request"]);
    let mut paying = bob.begin(["payinvoice", "--force", "--json", "--pay_req", &invoice]);
    wait_for("a payment under way", LIMIT, || is_accepted(alice, &hash).then_some(()));
    bob.stop();
    paying.wait().expect("it ends with the node");
    fs::copy(&states, &revoked).expect("his channels are copied");
    bob.start_synced();
    let funding = channel.split(':').next().expect("a transaction");
    wait_active(alice, bob, funding, false);
    alice.cli(["cancelinvoice", &hash]).ok();
    for _ in 0..PAYMENTS {
        pay(bob, alice);
    }
    alice.stop();
    bob.stop();
    fs::copy(&revoked, &states).expect("his channels are what they were");
    bob.start_synced();
    bob.cli(["closechannel", "--force", "--chan_point", channel]).ok();
    wait_for("the revoked state", LIMIT, || (!chain.waiting().is_empty()).then_some(()));
    chain.mine(1);
    alice.start_synced();
    // lnd takes a close for one after three blocks, and after four Bob might have what is in it.
    chain.mine(2);
    mine_until_closed(alice, chain, channel, "BREACH_CLOSE");
}

fn is_accepted(node: &Node, hash: &str) -> bool {
    node.json(["lookupinvoice", hash])["state"] == "ACCEPTED"
}

/// Mines, a block at a time, until `channel` counts as closed in this way, its money swept.
fn mine_until_closed(alice: &Node, chain: &Chain, channel: &str, way: &str) {
    wait_for("the closing transaction", LIMIT, || (!chain.waiting().is_empty()).then_some(()));
    wait_for(way, LIMIT, || {
        let closed = list(&alice.json(["closedchannels"])["channels"]);
        if let Some(done) = closed.into_iter().find(|c| text(&c["channel_point"]) == channel) {
            assert_eq!(text(&done["close_type"]), way);
            return Some(());
        }
        // Empty blocks too: a close counts after several, and a forced one is locked for some.
        chain.mine(1);
        alice.wait_synced();
        None
    });
}

fn sweeps(node: &Node) -> usize {
    list(&node.json(["wallet", "listsweeps"])["Sweeps"]["TransactionIds"]["transaction_ids"]).len()
}

/// Waits until a transaction is there, mines `blocks` on it, and waits until both nodes have seen them.
fn confirm(alice: &Node, bob: &Node, chain: &Chain, blocks: u32) {
    wait_for("a transaction", LIMIT, || (!chain.waiting().is_empty()).then_some(()));
    chain.mine(blocks);
    let height = chain.height();
    for node in [alice, bob] {
        wait_for("the new block", LIMIT, || {
            let info = node.json(["getinfo"]);
            (info["block_height"] == height && info["synced_to_chain"] == true).then_some(())
        });
    }
}

fn address(node: &Node, kind: &str) -> String {
    text(&node.json(["newaddress", kind])["address"])
}

fn coins(node: &Node) -> Vec<Value> {
    list(&node.json(["listunspent", "--min_confs=1"])["utxos"])
}

/// The kind of a coin; lncli prints the number (`lnrpc.AddressType`) in some places and the name in others.
fn kind_of(coin: &Value) -> &str {
    match &coin["address_type"] {
        Value::String(name) => name,
        Value::Number(n) if n.as_u64() == Some(0) => "WITNESS_PUBKEY_HASH",
        Value::Number(n) if n.as_u64() == Some(4) => "TAPROOT_PUBKEY",
        _ => "another",
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
