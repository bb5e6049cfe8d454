//! A clock that jumps, on a machine that has one of its own: the signer runs on and signs, before its certificate began by
//! that clock, and after it ended.

use super::signer;
use crate::lab::vm::{ADDRESS, Vm};
use crate::lab::wait_for;
use data_encoding::BASE64;
use lsm::bundle::Bundle;
use lsm::signer::Node;
use lsm::signer::channel::Endpoint;
use std::time::Duration;

const DAY: i64 = 86_400;
/// By how many days the clock jumps, from where it is.
const JUMPS: [i64; 4] = [2, -40, 800, -762];
/// A watchdog's two rounds, in seconds.
const WHILE: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(300);
const UNITS: [&str; 3] = ["lsm@signer.service", "lsm-guard@signer.service", "lsm-proxy@signer.socket"];
const CERTIFICATE: &str = "/etc/lsm/signer/tls.cert";

impl Vm {
    /// Which processes they are, and how often they were started again.
    #[track_caller]
    fn lives(&self) -> String {
        self.sh(&format!("systemctl show --property=Id,MainPID,NRestarts,ActiveState {}", UNITS.join(" "))).ok()
    }

    #[track_caller]
    fn bundle(&self) -> Bundle {
        let text = self.sh("base64 -w0 /root/out/bundle/credentials-bundle.tar.gz.b64").ok();
        let text = BASE64.decode(text.trim().as_bytes()).expect("base64");
        Bundle::read(std::str::from_utf8(&text).expect("text")).expect("the bundle can be read")
    }

    fn sign(&self, bundle: &Bundle) -> Result<(), String> {
        let endpoint: Endpoint = format!("{ADDRESS}:10012").parse().expect("an endpoint");
        let node = Node::at(endpoint, self.door, &bundle.certificate).with_macaroon(&bundle.macaroon);
        node.sign_with_key(6, 0, b"a message").map(drop).map_err(|e| e.to_string())
    }
}

#[test]
#[ignore = "long: an emulated machine"]
fn a_signer_signs_on_while_the_clock_jumps() {
    let Some(vm) = signer("--guard=enforce") else { return };
    let bundle = vm.bundle();
    wait_for("a signature", PATIENCE, || vm.sign(&bundle).ok());
    let (lives, certificate) = (vm.lives(), vm.sh(&format!("sha256sum {CERTIFICATE}")).ok());
    for days in JUMPS {
        vm.sh(&format!("date -s @$(($(date +%s) + {}))", days * DAY)).ok();
        vm.sign(&bundle).unwrap_or_else(|e| panic!("{days} days on: {e}"));
        vm.sh(&format!("sleep {WHILE}")).ok();
        vm.sign(&bundle).unwrap_or_else(|e| panic!("{days} days on, a while later: {e}"));
        assert_eq!(vm.lives(), lives, "{days} days on");
        vm.lsm("guard status").ok();
        vm.lsm("guard log verify").ok();
        println!("{days}: {:?}", vm.lsm("status"));
    }
    // Started anew past its certificate's end it signs too, and makes none behind the operator's back.
    vm.sh(&format!("date -s @$(($(date +%s) + {}))", 800 * DAY)).ok();
    vm.lsm("restart").ok();
    wait_for("a signature of the lnd started anew", PATIENCE, || vm.sign(&bundle).ok());
    assert_eq!(vm.sh(&format!("sha256sum {CERTIFICATE}")).ok(), certificate);
    let said = vm.lsm("status");
    assert!(said.stdout.contains("lsm cert renew"), "{said:?}");
}
