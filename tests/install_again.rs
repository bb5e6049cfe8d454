//! A host that lives on: a second signer under an unlucky name, changed wishes, a killed install, a lost password.

use crate::lab;
use crate::lab::net::Met;
use crate::lab::wait_for;
use crate::stage::{BUNDLE, PASSWORD, PORT, SEED, Stage};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// An open port has answered by then, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Long after an answer on this network would have come.
const SOON: Duration = Duration::from_millis(500);

impl Stage {
    /// Installs another signer beside the first, on `port`, under a name that is a word of nft's.
    fn second(&self, name: &str, port: u16) -> Vec<String> {
        let mut args = self.source();
        args.splice(0..0, ["install".to_owned(), "--network=regtest".to_owned()]);
        args.extend([
            format!("--instance={name}"),
            format!("--listen=10.77.0.2:{port}"),
            "--allow=10.77.0.3".to_owned(),
            format!("--seed-out=/root/out/{name}.seed"),
            format!("--bundle-out=/root/out/{name}"),
            "--yes".to_owned(),
        ]);
        args
    }

    /// Holds what the allowed peer and the stranger meet.
    #[track_caller]
    fn assert_meets(&self, port: u16, wanted: (Met, Met)) {
        let knock = |peer: &lab::net::Peer, wanted: Met| {
            let limit = if wanted == Met::Silence { SOON } else { PATIENCE };
            peer.knock("10.77.0.2", port, limit)
        };
        let met = (knock(self.host.allowed(), wanted.0), knock(self.host.stranger(), wanted.1));
        assert_eq!(met, wanted, "{port}");
    }

    #[track_caller]
    fn assert_guarded(&self, port: u16) {
        self.assert_meets(port, (Met::Open, Met::Silence));
    }
}

#[test]
fn signers_of_one_host_share_a_filter_whatever_their_names() {
    let Some(mut stage) = Stage::boot("again-names") else { return };
    stage.install(&[]).ok();
    // At the same time, or one of them after the other: neither may lose the other's rules.
    let (drop, output) = (stage.second("drop", PORT + 1), stage.second("output", PORT + 2));
    std::thread::scope(|threads| {
        let other = threads.spawn(|| stage.host.lsm(&output));
        let one = stage.host.lsm(&drop);
        let other = other.join().expect("an install");
        for (done, args) in [(one, &drop), (other, &output)] {
            if done.code != 0 {
                assert!(done.stderr.contains("E-PLAN-002"), "{}", done.stderr);
                stage.host.lsm(args).ok();
            }
        }
    });
    for port in [PORT, PORT + 1, PORT + 2] {
        stage.assert_guarded(port);
    }
    another_signers_bundle_stays_where_it_is(&stage);
    stage.host.reboot();
    for (unit, port) in [("lsm@signer", PORT), ("lsm@drop", PORT + 1), ("lsm@output", PORT + 2)] {
        wait_for(unit, Duration::from_secs(90), || {
            let is_open = || stage.host.allowed().knock("10.77.0.2", port, SOON) == Met::Open;
            (stage.is_active(unit) && is_open()).then_some(())
        });
        stage.assert_guarded(port);
    }
}

/// It gives its place neither to a signer that has a wallet nor to one that has none yet.
#[track_caller]
fn another_signers_bundle_stays_where_it_is(stage: &Stage) {
    let identity = stage.bundle().identity_pubkey().to_owned();
    let mut tried = [("drop", PORT + 1), ("third", PORT + 3)].map(|(name, port)| stage.second(name, port)).to_vec();
    for install in &mut tried {
        install.retain(|arg| !arg.starts_with("--bundle-out"));
        install.push(format!("--bundle-out={BUNDLE}"));
    }
    tried.push(["bundle", "export", "--instance=drop", "--out", BUNDLE, "--yes"].map(str::to_owned).to_vec());
    for line in &tried {
        let refused = stage.host.lsm(line);
        assert!(refused.code == 1 && refused.stderr.contains("E-BUNDLE-030"), "{line:?}: {refused:?}");
    }
    assert_eq!(stage.bundle().identity_pubkey(), identity);
}

#[test]
fn wishes_change_and_what_is_lost_is_not_made_up() {
    let Some(stage) = Stage::boot("again-wishes") else { return };
    stage.install(&[]).ok();
    stage.assert_guarded(PORT);

    // A converging install says what it costs, as the verbs do that are for that.
    let again = ["install".to_owned(), "--network=regtest".to_owned()];
    let named = stage.install_with(&again, &["--san=signer.lab"]);
    for said in ["stops the watch-only node", "cut off until it has the new bundle", "lsm cert renew"] {
        assert!(named.stderr.contains(said), "{said}: {named:?}");
    }
    let open = stage.install_with(&again, &["--allow=10.77.0.3", "--allow=10.77.0.5"]);
    assert!(open.code == 0 && !open.stderr.contains("warning"), "nothing is stopped: {open:?}");

    // Both ways between the modes, over the same wallet, with all else as it was.
    for mode in ["--mode=host", "--mode=isolated"] {
        stage.install_with(&again, &[mode]).ok();
        stage.assert_guarded(PORT);
        let plan = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
        assert!(plan["steps"].as_array().is_some_and(|steps| steps.iter().all(|s| s["kind"] != "wallet")), "{plan}");
    }
    // From one address to every address on the same port, and back.
    for listen in ["--listen=0.0.0.0:10012", "--listen=10.77.0.2:10012"] {
        stage.install_with(&again, &[listen, "--san=10.77.0.2"]).ok();
        stage.assert_guarded(PORT);
    }
    another_port_is_taken_once_the_old_one_is_shut(&stage);
    // The allowlist, while the old peer's connection stands: it is cut off.
    stage.install_with(&again, &["--allow=10.77.0.4"]).ok();
    stage.assert_meets(PORT, (Met::Silence, Met::Open));
    stage.install_with(&again, &["--allow=none"]).ok();
    stage.assert_meets(PORT, (Met::Silence, Met::Silence));
    stage.install_with(&again, &["--allow=10.77.0.3"]).ok();

    // The password is gone: no new one takes its place, and the wallet is left alone.
    let sealed = fs::read(stage.host.path(PASSWORD)).unwrap();
    fs::remove_file(stage.host.path(PASSWORD)).unwrap();
    let done = stage.install_with(&again, &[]);
    assert!(done.code == 1 && done.stderr.contains("password of this signer's wallet is gone"), "{done:?}");
    assert!(!stage.host.path(PASSWORD).exists());
    fs::write(stage.host.path(PASSWORD), sealed).unwrap();
    stage.host.sh("systemctl restart lsm@signer && lsm status || /root/lsm status").ok();
}

/// The filter that judges the new one leaves the old one to everybody.
#[track_caller]
fn another_port_is_taken_once_the_old_one_is_shut(stage: &Stage) {
    let moves = ["install", "--network=regtest", "--listen=10.77.0.2:10013", "--dry-run", "--json"];
    let plan = stage.host.lsm(moves).json();
    let steps = plan["steps"].as_array().expect("steps");
    let place = |is: &dyn Fn(&Value) -> bool| steps.iter().position(is).unwrap_or_else(|| panic!("{plan}"));
    let socket = |kind: &str| place(&|step| step["kind"] == kind && step["unit"] == "lsm-proxy@signer.socket");
    let spec = place(&|step| step["path"] == "/etc/lsm/signer.toml");
    let filter = place(&|step| step["kind"] == "firewall");
    assert!(socket("retire") < spec && spec < filter && filter < socket("service"), "{plan}");
    for (port, left) in [(PORT + 1, PORT), (PORT, PORT + 1)] {
        let listen = format!("--listen=10.77.0.2:{port}");
        stage.host.lsm(["install", "--network=regtest", &listen, "--yes"]).ok();
        stage.assert_guarded(port);
        stage.assert_meets(left, (Met::Refused, Met::Refused));
    }
}

#[test]
fn an_install_killed_while_the_wallet_is_made_goes_on_and_takes_no_other_seed() {
    let Some(stage) = Stage::boot("again-killed") else { return };
    for moment in ["seed-writing", "seed-kept"] {
        // As a power cut would: at the moment when the journal has that line.
        let kill = format!(
            "{} & lsm=$!
            until grep -qs {moment} /var/lib/lsm/journal/signer.jsonl; do kill -0 $lsm || break; done
            kill -9 $lsm; wait $lsm; echo $?",
            std::iter::once("/root/lsm".to_owned())
                .chain(stage.arguments())
                .map(|arg| format!("'{arg}'"))
                .chain(["--yes >/dev/null 2>&1".to_owned()])
                .collect::<Vec<_>>()
                .join(" ")
        );
        let killed = stage.host.sh(&kill);
        assert_eq!(killed.stdout, format!("{}\n", 128 + 9), "{moment}: {killed:?}");
    }
    // Somebody else's seed lies where this one's was to go: it is not touched.
    let ours = fs::read(stage.host.path(SEED)).unwrap_or_default();
    fs::write(stage.host.path(SEED), "another signer's words").unwrap();
    // Goes on in a unit of its own, as with a guard it has to: not beside the lnd that was left waiting for its wallet.
    let install = || stage.install(&["--guard=observe"]);
    let done = install();
    assert_eq!(fs::read(stage.host.path(SEED)).unwrap(), b"another signer's words");
    // Where lnd had the seed already when lsm was killed, the wallet is its own and the install goes on with it.
    if done.code != 0 {
        assert!(done.code == 1 && done.stderr.contains(SEED), "{done:?}");
        fs::write(stage.host.path(SEED), ours).unwrap();
        install().ok();
        assert_eq!(fs::read_to_string(stage.host.path(SEED)).unwrap().lines().count(), 24);
    }
    stage.assert_guarded(PORT);
    assert!(!stage.is_active("lsm-create@signer"));
}
