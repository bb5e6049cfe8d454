//! A clock that jumps, on a machine that has one of its own: the signer runs on and signs, before its certificate began by
//! that clock, and after it ended.

use super::signer;
use crate::lab::vm::Vm;
use crate::lab::wait_for;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400;
/// By how many days the clock jumps, from where it is.
const JUMPS: [i64; 4] = [2, -40, 800, -762];
/// A watchdog's two rounds, in seconds.
const WHILE: u32 = 40;
/// For how many days lsm makes a certificate.
const VALID: i64 = 730;
const BEGINNING: Duration = Duration::from_secs(900);
const PATIENCE: Duration = Duration::from_secs(300);
const UNITS: [&str; 2] = ["lsm@signer.service", "lsm-proxy@signer.socket"];
const CERTIFICATE: &str = "/etc/lsm/signer/tls.cert";

impl Vm {
    /// Which processes they are, and how often they were started again. Not of the guard: lnd drops one that does not answer within
    /// two seconds, which is soon on an emulated machine whose timers all fire at once.
    #[track_caller]
    fn lives(&self) -> String {
        self.sh(&format!("systemctl show --property=Id,MainPID,NRestarts,ActiveState {}", UNITS.join(" "))).ok()
    }

    /// How it is, and what was written down.
    fn looks(&self) -> String {
        let script = "top -b -n 1 | head -n 15; ss -tnpi; nft list ruleset; systemctl list-jobs";
        format!("{}\n{}\n{}", self.lives(), self.sh(script).stdout, self.journal())
    }
}

#[test]
#[ignore = "long: an emulated machine"]
fn a_signer_signs_on_while_the_clock_jumps() {
    let Some(vm) = signer("--guard=enforce") else { return };
    let bundle = vm.bundle();
    wait_for("a signature", BEGINNING, || vm.sign(&bundle).ok());
    let (lives, certificate) = (vm.lives(), vm.sh(&format!("sha256sum {CERTIFICATE}")).ok());
    let mut longest = Duration::ZERO;
    let mut signs = |when: &str| {
        let start = Instant::now();
        while let Err(why) = vm.sign(&bundle) {
            assert!(start.elapsed() < PATIENCE, "{when}: {why}: {}", vm.looks());
        }
        longest = longest.max(start.elapsed());
    };
    let mut now = 0;
    for days in JUMPS {
        now += days;
        vm.sh(&format!("date -s @$(($(date +%s) + {}))", days * DAY)).ok();
        signs(&format!("at once, {days} days on"));
        vm.sh(&format!("sleep {WHILE}")).ok();
        signs(&format!("a while later, {days} days on"));
        assert_eq!(vm.lives(), lives, "{days} days on: {}", vm.journal());
        vm.lsm("guard log verify").ok();
        vm.lsm("guard status").ok();
        // A guard that begins at such a time is asked too.
        vm.sh("systemctl kill --signal=KILL lsm-guard@signer.service").ok();
        signs(&format!("with another guard, {days} days on"));
        // lsm goes by the clock, and says what is wrong with the certificate.
        let said = vm.lsm("status").stdout;
        assert_eq!(said.contains("lsm cert renew"), now > VALID, "{said}");
    }
    println!("MEASURED the longest wait for a signature around {} jumps: {} s", JUMPS.len(), longest.as_secs());
    // Started anew past its certificate's end lnd would make another one, which no watch-only node knows: it may not, and ends.
    vm.sh(&format!("date -s @$(($(date +%s) + {}))", 800 * DAY)).ok();
    let said = vm.lsm("restart --yes");
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(vm.sh(&format!("sha256sum {CERTIFICATE}")).ok(), certificate);
    let said = vm.lsm("status");
    assert!(said.stdout.contains("lsm cert renew"), "{said:?}");
    // With the clock put right it comes back by itself.
    vm.sh(&format!("date -s @$(($(date +%s) - {}))", 800 * DAY)).ok();
    wait_for("a signature of the lnd started anew", BEGINNING, || vm.sign(&bundle).ok());
}
