//! A password that lies in a plain file: a container's, and one that systemd sealed nothing for.

use super::{NEW_PASSWORD, PLACES, assert_says, cut_words};
use crate::faults::fault::Place;
use crate::faults::held::{Held, assert_signs};
use crate::faults::{chain, cut};
use crate::lab::trace::Fate;
use crate::stage::{BUNDLE, SEED, Stage};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;

/// What runs the signer, as far as it matters here.
struct Plain<'a> {
    stage: &'a Stage,
    /// The password's file, inside.
    place: &'static str,
    /// At this call of its step the old password is no longer in its place, and lnd has yet to change it.
    between: Place,
}

impl<'a> Plain<'a> {
    fn container(stage: &'a Stage) -> Self {
        Self { stage, place: "/root/.lnget/signer/wallet-password.txt", between: Place::During(2) }
    }

    fn unsealed(stage: &'a Stage) -> Self {
        Self { stage, place: "/etc/credstore/lsm-signer.wallet-password", between: Place::During(12) }
    }

    #[track_caller]
    fn password(&self) -> String {
        fs::read_to_string(self.stage.host.path(self.place)).expect("a password")
    }

    /// The signer signs, nothing is left to do, and nothing of a change is left.
    #[track_caller]
    fn assert_complete(&self, when: &str) {
        assert_signs(self.stage, when);
        let plan = self.stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
        assert_eq!(plan, json!({"steps": []}), "{when}");
        let left = format!("ls -d {}.* /var/lib/lsm/snapshot/signer/password 2>/dev/null; {LOCKED}", self.place);
        assert_eq!(self.stage.host.sh(&left).stdout, "", "{when}");
        let access = self.stage.host.run(["stat", "--format=%a", self.place]).ok();
        assert_eq!(access, "600\n", "{when}");
    }

    /// No file that lsm writes to has the password, or a hash of it that it could be guessed from.
    #[track_caller]
    fn assert_forgotten(&self, password: &str) {
        let hash = hex::encode(Sha256::digest(password));
        let search = "grep --recursive --files-with-matches --fixed-strings --regexp";
        for said in [password, &hash] {
            let found = self.stage.host.sh(&format!("{search}='{said}' /etc /var/lib/lsm /root/.lnget /run/lsm"));
            assert_eq!(found.stdout, "", "{said} is there still");
        }
    }

    #[track_caller]
    fn changes_as_a_whole(&self) {
        let stage = self.stage;
        let first = self.password();
        stage.write(NEW_PASSWORD, "the operator's own\n");
        let change = |more: &[&str]| stage.host.lsm(["wallet", "change-password", "--json"].iter().chain(more));
        let named = ["--password-file", NEW_PASSWORD, "--yes"];
        let done = change(&named).json();
        println!("MEASURED gap of a change of the password in {}: {} ms", self.place, done["gap_ms"]);
        assert_eq!((&done["changed"], self.password().as_str()), (&json!(true), "the operator's own"));
        self.assert_complete("changed");
        self.assert_forgotten(&first);
        assert_eq!(change(&named).json()["changed"], false);
        stage.host.lsm(["rollback", "--yes"]).ok();
        assert_eq!(self.password(), "the operator's own", "it is not undone");
        self.assert_complete("not undone");
    }

    /// Killed, it goes back or on; in between it takes no other password than the one that was begun with.
    #[track_caller]
    fn killed_it_goes_on_or_back(&self) {
        let (stage, arguments) = (self.stage, cut_words("wallet change-password --yes"));
        let mut held = Held::default();
        for (step, place, forward) in [
            ("change-password", self.between, false),
            ("change-password", Place::After, true),
            ("prove", Place::Before, false),
            ("discard", Place::After, true),
        ] {
            let (when, before) = (format!("killed {place:?} in {step}"), self.password());
            let done = cut::run(&stage.host, &arguments, |at, moment| {
                if at.split(' ').next() == Some(step) && place.is(moment) { Fate::Kill } else { Fate::Go }
            });
            assert_eq!(done.code, 128 + 9, "{when}: {done:?}");
            held.look(stage, &when);
            if step == "change-password" {
                assert_says(&stage.host.lsm(["uninstall", "--yes", "--json"]), 1, "was cut off");
                stage.write(NEW_PASSWORD, "yet another one");
                let other = ["wallet", "change-password", "--json", "--yes", "--password-file", NEW_PASSWORD];
                assert_says(&stage.host.lsm(other), 1, "E-WALLET-071");
            }
            if forward {
                stage.host.lsm(&arguments).ok();
                assert_ne!(self.password(), before, "{when}");
            } else {
                stage.host.lsm(["rollback", "--yes"]).ok();
                assert_eq!(self.password(), before, "{when}");
            }
            self.assert_complete(&when);
        }
        self.assert_forgotten("the operator's own");
    }

    /// Whoever interrupts it leaves no open lnd behind; it goes on when it is run again.
    #[track_caller]
    fn interrupted_it_stops_lnd(&self) {
        let before = self.password();
        interrupt(self.stage, "wallet change-password", LOCKED);
        self.stage.host.lsm(["wallet", "change-password", "--yes"]).ok();
        assert_ne!(self.password(), before);
        self.assert_complete("interrupted and gone on");
    }

    #[track_caller]
    fn is_killed_at_every_step(&self) {
        let (before, mut held) = (self.password(), Held::default());
        let killed = chain::run(self.stage, &cut_words("wallet change-password --yes"), &PLACES, &mut held);
        assert!(killed.len() >= 8, "{killed:?}");
        assert_ne!(self.password(), before);
        self.assert_complete("after every kill");
        self.assert_forgotten(&before);
    }
}

/// Prints the lnd that nothing unlocks by itself, where one runs and none stayed in which the wallet was made.
const LOCKED: &str = "pgrep -a lnd | grep -v wallet-unlock-password-file";

/// Interrupts lsm with this verb as soon as a locked lnd runs, which `locked` then says, and holds that none does afterwards; one
/// that has ended may wait for its engine to see that.
#[track_caller]
pub fn interrupt(stage: &Stage, verb: &str, locked: &str) {
    let interrupted = stage.host.sh(&format!(
        "/root/lsm {verb} --yes >/root/out/said 2>&1 & lsm=$!
        until [ -n \"$({locked})\" ]; do kill -0 $lsm || break; sleep 0.05; done
        kill -INT $lsm; wait $lsm; echo ended with $?; pgrep -a lnd | grep -v '<defunct>'; true"
    ));
    let said = fs::read_to_string(stage.host.path("/root/out/said")).unwrap_or_default();
    assert_eq!(interrupted.stdout, "ended with 130\n", "{verb}: {}: {said}", interrupted.stderr);
}

#[test]
fn a_containers_password_changes_as_a_whole_and_its_seed_is_verified() {
    let Some(stage) = Stage::in_docker("wallet-docker") else { return };
    stage.install(&["--backend=docker"]).ok();
    let signer = Plain::container(&stage);
    signer.changes_as_a_whole();
    signer.killed_it_goes_on_or_back();
    signer.interrupted_it_stops_lnd();
    its_seed_is_verified_there_and_on_a_machine_without_a_signer(&stage);
}

/// The running container tells its keys; where there is no signer, a bundle does, and an lnd has to be named.
fn its_seed_is_verified_there_and_on_a_machine_without_a_signer(stage: &Stage) {
    let verify = |more: &str| stage.lsm_reading(&format!("wallet verify-seed --json --seed-file - {more}"), SEED);
    let yes = verify("").json();
    let wanted = (&json!(true), &json!("the running signer signer"), &json!(259));
    assert_eq!((&yes["verified"], &yes["compared_with"], &yes["accounts"]), wanted);
    stage.host.lsm(["stop", "--yes"]).ok();
    let stopped = verify("").json();
    assert_eq!(stopped["compared_with"], format!("the bundle in {BUNDLE}"));
    // A bundle of another wallet than the receipt's says nothing of this signer.
    stage.host.sh("sed -i.own 's/^identity_pubkey = .*/identity_pubkey = \"02ab\"/' /etc/lsm/signer/wallet.toml").ok();
    assert_says(&verify(""), 4, "not the one of the receipt of the signer signer");
    stage.host.sh("mv /etc/lsm/signer/wallet.toml.own /etc/lsm/signer/wallet.toml").ok();
    stage.host.sh("tac /root/out/seed >/root/out/turned").ok();
    let turned = stage.lsm_reading("wallet verify-seed --json --seed-file -", "/root/out/turned");
    assert_says(&turned, 4, "no seed");

    stage.host.copy_in(&stage.release.lnd(), "/root/lnd", 0o755);
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    assert_says(&verify(""), 1, "no signer called signer");
    assert_says(&verify(&format!("--bundle {BUNDLE}")), 3, "--lnd PATH");
    let elsewhere = verify(&format!("--bundle {BUNDLE} --lnd /root/lnd")).json();
    assert_eq!((&elsewhere["verified"], &elsewhere["accounts"]), (&json!(true), &json!(259)));
    assert_says(&verify(&format!("--bundle {BUNDLE} --lnd /root/lnd --network mainnet")), 2, "regtest");
}

#[test]
fn a_password_that_nothing_seals_changes_as_a_whole() {
    let Some(stage) = unsealed("wallet-unsealed") else { return };
    let signer = Plain::unsealed(&stage);
    signer.changes_as_a_whole();
    signer.killed_it_goes_on_or_back();
    signer.interrupted_it_stops_lnd();
}

/// A signer on a host without systemd-creds(1).
#[track_caller]
fn unsealed(name: &str) -> Option<Stage> {
    let stage = Stage::boot(name)?;
    stage.host.sh("rm /usr/bin/systemd-creds").ok();
    stage.install(&[]).ok();
    Some(stage)
}

#[test]
#[ignore = "long: every step of a change"]
fn a_change_of_a_containers_password_is_killed_at_every_step_and_goes_on() {
    let Some(stage) = Stage::in_docker("wallet-docker-kills") else { return };
    stage.install(&["--backend=docker"]).ok();
    Plain::container(&stage).is_killed_at_every_step();
}

#[test]
#[ignore = "long: every step of a change"]
fn a_change_of_a_password_that_nothing_seals_is_killed_at_every_step_and_goes_on() {
    let Some(stage) = unsealed("wallet-unsealed-kills") else { return };
    Plain::unsealed(&stage).is_killed_at_every_step();
}
