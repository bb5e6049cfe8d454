//! Back again: rollback and uninstall on real hosts, held against a listing of everything that was there before.

use crate::faults::cut;
use crate::faults::fault::Place;
use crate::lab::net::Met;
use crate::lab::trace::Fate;
use crate::stage::{BUNDLE, LISTEN, PASSWORD, PORT, SEED, Stage, assert_unchanged, list_hashed};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Where an install could change something. systemd's own key for this host is made once and stays: what others seal hangs
/// on it too. What systemd-sysusers(8) leaves of shadow(5) as it was has hashes of passwords, which lsm does not keep.
const FOLDERS: &str = "/etc /usr /var/lib /var/cache /root /run -xdev \\( -path /run/systemd -o -path /run/log \
    -o -path /var/lib/systemd/credential.secret -o -path '/etc/*shadow-' \\) -prune -o";
/// What else it could.
const STATE: &str = "
find /etc /usr/local /var/lib/lsm /run/lsm -exec getfattr --absolute-names -h -d -m - {} + 2>/dev/null
systemctl list-unit-files --no-legend --no-pager
systemctl list-units --all --no-legend --no-pager --plain --type=service,socket,target 'lsm*' 'nftables*'
nft list ruleset
";

impl Stage {
    fn state(&self) -> Vec<String> {
        let state = list_hashed(FOLDERS, "-type f -a -not -name lock") + STATE;
        self.host.sh(&state).ok().lines().map(str::to_owned).collect()
    }

    /// What `lsm` would do, step by step.
    fn plan(&self, args: &[&str]) -> Vec<Value> {
        let plan = self.host.lsm(args.iter().chain(&["--dry-run", "--json"])).json();
        plan["steps"].as_array().expect("steps").clone()
    }

    fn undo(&self, args: &[&str]) -> Value {
        self.host.lsm(args.iter().chain(&["--yes", "--json"])).json()
    }

    fn without_wallet(&self) -> Vec<String> {
        self.without_wallet_at(LISTEN)
    }

    fn without_wallet_at(&self, listen: &str) -> Vec<String> {
        let mut args: Vec<String> = ["install", "--network=regtest", "--no-wallet"].map(str::to_owned).to_vec();
        args.extend(self.source());
        args.extend([format!("--listen={listen}"), "--allow=10.77.0.3".to_owned()]);
        args
    }
}

#[test]
fn without_a_wallet_everything_is_as_it_was_but_for_what_somebody_else_changed() {
    let Some(stage) = Stage::boot("undo-bare") else { return };
    // What is there already under names that lsm uses too.
    stage.host.sh("mkdir -m 750 /etc/systemd/system/nftables.service.d /etc/sysusers.d && chgrp daemon /etc/sysusers.d
        echo '[Unit]' >/etc/systemd/system/nftables.service.d/lsm.conf && chmod 640 /etc/systemd/system/nftables.service.d/lsm.conf
        echo '[Unit]' >/etc/systemd/system/nftables.service.d/other.conf && systemctl daemon-reload").ok();
    let before = stage.state();
    for undo in [["rollback", "-q"], ["uninstall", "-q"]] {
        stage.install_with(&stage.without_wallet(), &[]).ok();
        assert!(stage.state().len() > before.len() + 30);
        let plan = stage.plan(&undo);
        assert!(plan.len() > 30);
        // As long as nftables.service is told to load lsm's filter there is one: a boot in between finds both.
        let place = |path: &str| plan.iter().position(|step| step["to"]["path"] == path).expect("a step");
        assert!(place("/etc/systemd/system/nftables.service.d/lsm.conf") < place("/etc/lsm/firewall.nft"));
        let done = stage.undo(&undo);
        assert_eq!((&done["changed"], &done["kept"], &done["left"]), (&json!(true), &json!([]), &json!([])));
        assert_unchanged(&before, &stage.state());
        assert_eq!(stage.undo(&undo)["changed"], false, "twice does nothing");
        assert_eq!(stage.plan(&undo), [] as [Value; 0]);
        assert_unchanged(&before, &stage.state());
    }
    a_step_that_fails_undoes_those_before_it(&stage, &before);
    what_somebody_else_changed_since_is_kept_and_named(&stage);
}

#[track_caller]
fn a_step_that_fails_undoes_those_before_it(stage: &Stage, before: &[String]) {
    let breaks =
        "mv /usr/sbin/nft /usr/sbin/nft.kept && printf '#!/bin/sh\nexit 1\n' >/usr/sbin/nft && chmod 755 /usr/sbin/nft";
    let mends = "mv /usr/sbin/nft.kept /usr/sbin/nft";
    stage.host.sh(breaks).ok();
    let done = stage.install_with(&stage.without_wallet(), &[]);
    assert!(done.code != 0 && done.stderr.contains("was undone"), "{done:?}");
    stage.host.sh(mends).ok();
    // The journal says what happened until nobody needs it any more.
    assert_eq!(stage.undo(&["rollback"])["changed"], false);
    assert_unchanged(before, &stage.state());

    stage.host.sh(breaks).ok();
    let done = stage.install_with(&stage.without_wallet(), &["--keep-going"]);
    assert!(done.code != 0 && stage.host.path("/etc/lsm/signer.toml").exists(), "{done:?}");
    stage.host.sh(mends).ok();
    let done = stage.install_with(&stage.without_wallet(), &[]);
    assert!(done.code == 0 && done.stderr.contains("was cut off at step"), "{done:?}");
    // All of it, not only what the second run did.
    stage.undo(&["rollback"]);
    assert_unchanged(before, &stage.state());
}

#[track_caller]
fn what_somebody_else_changed_since_is_kept_and_named(stage: &Stage) {
    stage.install_with(&stage.without_wallet(), &[]).ok();
    stage.host.sh("echo '# mine' >>/etc/lsm/signer-lnd.conf && echo mine >/etc/sysusers.d/mine.conf").ok();
    let done = stage.undo(&["uninstall"]);
    assert_eq!(done["kept"], json!(["/etc/lsm/signer-lnd.conf"]));
    let left: Vec<&str> = done["left"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(left.contains(&"/etc/lsm"), "{left:?}");
    assert!(fs::read_to_string(stage.host.path("/etc/lsm/signer-lnd.conf")).unwrap().ends_with("# mine\n"));
    assert!(stage.host.path("/etc/sysusers.d/mine.conf").exists() && !stage.host.path("/etc/lsm/signer.toml").exists());
}

#[test]
fn a_wallet_stays_until_it_is_purged_by_name() {
    let Some(stage) = Stage::boot("undo-wallet") else { return };
    stage.host.sh("echo 'root:$lsm-test$:1::::::' >/etc/shadow- && chmod 640 /etc/shadow-").ok();
    let before = stage.state();
    stage.install(&[]).ok();
    let identity = stage.bundle().identity_pubkey().to_owned();
    // Of those who can log in no hash is kept.
    stage.host.sh("! grep -rF '$lsm-test$' /var/lib/lsm").ok();
    let [seed, password] = [SEED, PASSWORD].map(|path| fs::read(stage.host.path(path)).unwrap());
    whoever_may_not_read_the_journal_is_not_told_that_it_is_empty(&stage);

    // Undone, an uninstall is one that never was.
    let planned = stage.plan(&["uninstall"]).len();
    stage.undo(&["uninstall"]);
    stage.undo(&["rollback"]);
    stage.host.lsm(["status"]).ok();
    assert_eq!(stage.plan(&["uninstall"]).len(), planned);
    let done = stage.undo(&["uninstall"]);
    assert_eq!(done["wallet"], "/var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db");
    assert!(done["seed"].is_null(), "it is that wallet's: {done}");
    assert_eq!([SEED, PASSWORD].map(|path| fs::read(stage.host.path(path)).unwrap()), [seed.clone(), password]);
    assert!(stage.host.path(BUNDLE).join("admin.macaroon").exists());
    assert_eq!(stage.host.run(["id", "-u", "lsm-signer"]).code, 0);
    assert_ne!(stage.host.run(["id", "-u", "lsm-proxy-signer"]).code, 0);
    assert!(matches!(stage.host.allowed().knock("10.77.0.2", PORT, Duration::from_secs(2)), Met::Refused));
    assert_eq!(stage.undo(&["uninstall"])["changed"], false);

    // The kept wallet is taken up again, by no other seed.
    stage.install(&[]).ok();
    assert_eq!(stage.bundle().identity_pubkey(), identity);
    assert_eq!(fs::read(stage.host.path(SEED)).unwrap(), seed);
    stage.host.lsm(["status"]).ok();

    for args in [&["uninstall", "--purge", "--yes"][..], &["uninstall", "--purge", "--confirm=other", "--yes"]] {
        assert_eq!(stage.host.lsm(args).code, 2, "{args:?}");
    }
    assert!(stage.is_active("lsm@signer.service"));
    let purged = stage.undo(&["uninstall", "--purge", "--confirm=signer"]);
    assert_eq!(purged["seed"], SEED, "of no wallet any more");
    // What was handed to the operator is the operator's.
    assert_eq!(fs::read(stage.host.path(SEED)).unwrap(), seed);
    stage.host.sh("rm -r /root/out/*").ok();
    assert_unchanged(&before, &stage.state());
}

#[track_caller]
fn whoever_may_not_read_the_journal_is_not_told_that_it_is_empty(stage: &Stage) {
    for undo in [&["rollback"][..], &["uninstall"], &["stop", "--clean", "--confirm=signer"]] {
        for how in ["--yes", "--dry-run"] {
            let args: Vec<String> = undo.iter().chain(&[how]).map(|arg| (*arg).to_owned()).collect();
            let done = stage.lsm_as_nobody(&args);
            assert!(done.code == 3 && done.stderr.contains("E-UNDO-001"), "{args:?}: {done:?}");
        }
    }
}

#[test]
fn one_of_two_signers_goes_and_the_other_notices_nothing() {
    let Some(stage) = Stage::boot("undo-two") else { return };
    // The operator's own, and no signer's spec.
    stage.host.sh("mkdir /etc/lsm && touch /etc/lsm/waivers.toml").ok();
    let before = stage.state();
    stage.install_with(&stage.without_wallet(), &[]).ok();
    let mut second = stage.without_wallet_at("10.77.0.2:10013");
    second.push("--instance=other".to_owned());
    stage.install_with(&second, &[]).ok();
    a_change_that_fails_leaves_the_filter_of_both_as_it_was(&stage);
    // Cut off when the first user has gone: at a boot the other one's filter is loaded all the same.
    let uninstall = ["uninstall", "--yes"].map(str::to_owned);
    let killed = cut::run(&stage.host, &uninstall, |step, moment| {
        if step.starts_with("restore lsm-") && !step.contains('.') && Place::After.is(moment) {
            Fate::Kill
        } else {
            Fate::Go
        }
    });
    assert_eq!(killed.code, 128 + 9, "{killed:?}");
    assert_ne!(stage.host.sh("id -u lsm-signer && id -u lsm-proxy-signer").code, 0, "a user has gone");
    stage.host.run(["systemctl", "restart", "lsm-firewall"]).ok();
    stage.undo(&["uninstall"]);
    let table = stage.host.run(["nft", "list", "table", "inet", "lsm"]).ok();
    assert!(table.contains("other_judge") && !table.contains("signer_judge"), "{table}");
    let mut again = second.clone();
    again.extend(["--dry-run".to_owned(), "--json".to_owned()]);
    assert_eq!(stage.host.lsm(&again).json(), json!({"steps": []}));
    // What the first one brought goes with the last one.
    stage.undo(&["uninstall", "--instance=other"]);
    assert_unchanged(&before, &stage.state());
}

fn a_change_that_fails_leaves_the_filter_of_both_as_it_was(stage: &Stage) {
    let table = || stage.host.run(["nft", "list", "table", "inet", "lsm"]).ok();
    let had = table();
    // Once, after the filter has the new address.
    let breaks =
        "mv /usr/bin/systemctl /usr/bin/systemctl.kept && touch /root/breaks && cat >/usr/bin/systemctl <<'END'
#!/bin/sh
case \"$*\" in *daemon-reload*) [ ! -e /root/breaks ] || { rm /root/breaks; exit 1; } ;; esac
exec /usr/bin/systemctl.kept \"$@\"
END
chmod 755 /usr/bin/systemctl";
    stage.host.sh(breaks).ok();
    let failed = stage.host.lsm(["allow", "add", "10.77.0.77", "--yes"]);
    stage.host.sh("mv /usr/bin/systemctl.kept /usr/bin/systemctl").ok();
    assert!(failed.code != 0 && failed.stderr.contains("was undone"), "{failed:?}");
    assert!(!stage.host.path("/root/breaks").exists());
    assert!(!stage.host.lsm(["allow", "list"]).ok().contains("10.77.0.77"));
    assert_eq!(table(), had);
}
