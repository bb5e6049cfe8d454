//! `lsm wallet`: a seed that is encrypted, verified and brought back, and a password that changes for lnd and systemd alike.

mod leak;
mod plain;
mod vectors;

use crate::faults::chain;
use crate::faults::cut;
use crate::faults::cut::Moment;
use crate::faults::fault::Place;
use crate::faults::held::{Held, assert_signs};
use crate::lab;
use crate::lab::process::Done;
use crate::lab::trace::Fate;
use crate::lab::wait_for;
use crate::node::{Lnd, make_certificate};
use crate::stage;
use crate::stage::terminal::Terminal;
use crate::stage::watch_only::WatchOnly;
use crate::stage::{BUNDLE, PASSWORD, Stage};
use leak::find_words;
use lsm::signer::accounts::Accounts;
use lsm::signer::wallet::State;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

/// The words of the signer's seed, and the passphrase that they are enciphered with, inside.
const WORDS: &str = "/root/out/words";
const PASSPHRASE: &str = "/root/out/passphrase";
/// Where the seed goes, encrypted.
const AGE: &str = "/root/out/seed.age";
/// The password that the operator wants.
const NEW_PASSWORD: &str = "/root/out/password";
/// Where the other password is while it changes.
const ASIDE: &str = "/etc/credstore.encrypted/lsm-signer.wallet-password.aside";

/// An age key of age-keygen(1)'s; `None`, said as a skip, where there is none.
#[track_caller]
fn age_key() -> Option<(String, String)> {
    if lsm::host::program::find("age").is_none() {
        lab::skip("this machine has no age");
        return None;
    }
    let made = Command::new("age-keygen").output().expect("age-keygen runs");
    let text = String::from_utf8(made.stdout).expect("text");
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned));
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).map(str::to_owned);
    Some((secret.expect("a secret half"), line("# public key: ").expect("a public half")))
}

/// What age(1) opens.
#[track_caller]
fn decrypt(secret: &str, armored: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("key"), folder.path().join("file"));
    fs::write(&key, secret).unwrap();
    fs::write(&file, armored).unwrap();
    let done = Command::new("age").args(["--decrypt", "--identity"]).args([&key, &file]).output().expect("age runs");
    assert!(done.status.success(), "age cannot open it: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn what_lsm_encrypts_age_opens() {
    let Some((secret, public)) = age_key() else { return };
    let recipient: lsm::age::Recipient = public.parse().unwrap();
    for length in [0, 216, 65536, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        assert_eq!(decrypt(&secret, lsm::age::encrypt(&plain, &recipient).unwrap().as_bytes()), plain, "{length}");
    }
}

impl Stage {
    /// `lsm` with these arguments and this file on its standard input, inside.
    #[track_caller]
    fn lsm_reading(&self, arguments: &str, file: &str) -> Done {
        self.host.sh(&format!("/root/lsm {arguments} <{file}"))
    }

    #[track_caller]
    fn verify(&self, more: &str, words: &str) -> Done {
        self.lsm_reading(
            &format!("wallet verify-seed --json --seed-file - --seed-passphrase-file {PASSPHRASE} {more}"),
            words,
        )
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.path(path);
        fs::write(&path, text).expect("a file inside");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    }

    fn words(&self) -> Vec<String> {
        let text = fs::read_to_string(self.host.path(WORDS)).expect("the words");
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn password(&self) -> String {
        self.host.sh(&format!("systemd-creds decrypt --name=wallet-password {PASSWORD} -")).ok()
    }
}

#[track_caller]
fn assert_says(done: &Done, code: i32, says: &str) {
    assert!(done.code == code && done.stdout.contains(says), "wanted {code} {says:?}: {done:?}");
}

#[test]
fn a_wallet_is_made_verified_given_another_password_and_brought_back() {
    let Some((secret, public)) = age_key() else { return };
    let Some(stage) = Stage::boot("wallet") else { return };
    stage.install_with(&stage.arguments_without_wallet(), &[]).ok();
    the_seed_is_encrypted(&stage, &secret, &public);
    its_backup_is_proved_and_leaves_nothing(&stage);
    the_password_changes_as_a_whole(&stage);
    interrupted_it_stops_lnd(&stage);
    a_locked_one_is_opened(&stage);
    and_all_of_it_is_brought_back(&stage);
}

fn the_seed_is_encrypted(stage: &Stage, secret: &str, public: &str) {
    stage.write(PASSPHRASE, "correct horse\n");
    let create = |more: &[&str]| {
        stage.host.lsm(["wallet", "create", "--bundle-out", BUNDLE, "--json", "--yes"].iter().chain(more))
    };
    assert_says(&create(&[]), 2, "--seed-out");
    assert_says(&create(&["--seed-age", secret]), 2, "secret half");
    assert!(!create(&["--seed-age", secret]).stdout.contains(secret), "not repeated");
    assert_says(&create(&["--seed-age", "age1nobody"]), 2, "no age recipient");
    let made = create(&["--seed-age", public, "--seed-out", AGE, "--seed-passphrase-file", PASSPHRASE]).json();
    assert_eq!((&made["seed"], &made["changed"]), (&json!(AGE), &json!(true)), "{made}");
    assert_says(&create(&["--seed-age", public]), 1, "has a wallet");
    let words = decrypt(secret, &fs::read(stage.host.path(AGE)).expect("the encrypted seed"));
    stage.write(WORDS, std::str::from_utf8(&words).expect("text"));
    assert_eq!(stage.words().len(), 24);
    assert_signs(stage, "created");
}

fn its_backup_is_proved_and_leaves_nothing(stage: &Stage) {
    let (lnd, before) =
        (stage.lnd(), stage.listing("/etc /var/lib/lsm/journal /tmp /var/tmp /dev/shm /root /usr/local"));
    let words = stage.words();
    let yes = stage.verify("", WORDS).json();
    let wanted = [json!(true), json!(259), json!(stage.bundle().identity_pubkey()), json!("the running signer signer")];
    assert_eq!(["verified", "accounts", "identity_pubkey", "compared_with"].map(|key| yes[key].clone()), wanted);
    assert_eq!(stage.verify(&format!("--bundle {BUNDLE}"), WORDS).json()["verified"], true);

    let mut swapped = words.clone();
    let other = (1..24).find(|at| words[*at] != words[0]).expect("two words that differ");
    swapped.swap(0, other);
    stage.write("/root/out/swapped", &swapped.join("\n"));
    assert_says(&stage.verify("", "/root/out/swapped"), 4, "no seed");
    stage.write("/root/out/short", &words[1..].join(" "));
    assert_says(&stage.verify("", "/root/out/short"), 2, "23 words");
    assert_says(&stage.verify("--network mainnet", WORDS), 4, "is for regtest, not for mainnet");
    let unprotected = stage.lsm_reading("wallet verify-seed --json --seed-file -", WORDS);
    assert_says(&unprotected, 4, "passphrase");
    stage.write("/root/out/wrong", "battery staple");
    let wrong =
        stage.lsm_reading("wallet verify-seed --json --seed-file - --seed-passphrase-file /root/out/wrong", WORDS);
    assert_says(&wrong, 4, "passphrase");
    for failed in [&unprotected, &wrong] {
        assert!(!words.windows(3).any(|three| failed.stdout.contains(&three.join(" "))));
    }
    assert_says(&stage.host.lsm(["wallet", "verify-seed", "--json"]), 2, "no terminal");
    let nobody = stage.lsm_as_nobody(&["wallet", "verify-seed"].map(str::to_owned));
    assert!(nobody.code == 3 && nobody.stderr.contains("needs root"), "{nobody:?}");

    let folder = tempfile::tempdir().unwrap();
    let fresh =
        Lnd::start_signer(&stage.release.lnd(), folder.path(), &make_certificate(&["127.0.0.1"], (-1, 30)), &[]);
    fresh.wait(State::Absent);
    let seed = fresh.unix().gen_seed(None).expect("a seed of no wallet");
    drop(fresh);
    stage.write("/root/out/other", std::str::from_utf8(seed.expose()).expect("words"));
    let other = stage.lsm_reading("wallet verify-seed --json --seed-file -", "/root/out/other");
    assert_says(&other, 4, "not the one of the running signer");
    typed_they_are_not_shown(stage, &words);

    killed_in_the_middle_it_is_gone(stage);
    assert_eq!(stage.lnd(), lnd, "the signer went on");
    let may = |line: &String| !line.starts_with("/root/out");
    let now = stage.listing("/etc /var/lib/lsm/journal /tmp /var/tmp /dev/shm /root /usr/local");
    let [before, now] = [before, now].map(|lines| lines.into_iter().filter(may).collect::<Vec<_>>());
    stage::assert_unchanged(&before, &now);
    stage.host.sh("rm -f /root/out/words /root/out/swapped /root/out/short").ok();
    assert_eq!(find_words(&stage.host, &words), [""; 0]);
    stage.write(WORDS, &(words.join("\n") + "\n"));
    // The search finds what is there.
    assert_eq!(find_words(&stage.host, &words), [WORDS]);
}

fn typed_they_are_not_shown(stage: &Stage, words: &[String]) {
    let mut terminal = Terminal::start(stage, ["wallet", "verify-seed", "--seed-passphrase"]);
    terminal.expect("Word 1 of 24 (not shown): ");
    assert!(!terminal.echoes());
    terminal.type_line("notaword");
    terminal.expect("no word of a seed");
    terminal.expect("Word 1 of 24 (not shown): ");
    terminal.type_line(&words[0]);
    terminal.expect("Word 2 of 24 (not shown): ");
    terminal.type_line(&words[1..23].join(" "));
    terminal.expect("Word 24 of 24 (not shown): ");
    terminal.type_line(&format!("24. {}", words[23]));
    terminal.expect("passphrase (not shown): ");
    terminal.type_line("correct horse");
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("these words bring back the keys of the running signer"), "{shown}");
    assert!(!words.windows(3).any(|three| shown.contains(&three.join(" "))) && !shown.contains("horse"), "{shown}");
}

/// Of the throw-away lnd: the kind of its /tmp, its network's devices, whose its number is, and how much of it may be swapped.
const CHAMBER: &str = r#"awk '$5 == "/tmp" { sub(".* - ", ""); kind = $1 } END { print kind }' /proc/$lnd/mountinfo
    sed '1,2d; s/:.*//; s/ //g' /proc/$lnd/net/dev
    getent passwd $(awk '/^Uid:/ { print $2 }' /proc/$lnd/status) || echo free
    systemctl show --property=MemorySwapMax --value $(sed -n 's,^0::.*/,,p' /proc/$lnd/cgroup)"#;

/// lsm is killed while its lnd has the words: lnd ends too, and its memory with it.
fn killed_in_the_middle_it_is_gone(stage: &Stage) {
    let arguments = format!("wallet verify-seed --seed-file - --seed-passphrase-file {PASSPHRASE}");
    let running = "ps -eo args | grep -c '^/tmp/l[n]d' || true";
    let killed = stage.host.sh(&format!(
        "/root/lsm {arguments} <{WORDS} >/dev/null 2>&1 & lsm=$!
        until lnd=$(pgrep -f ^/tmp/lnd); do kill -0 $lsm || exit; sleep 0.05; done
        until [ -e /proc/$lnd/root/tmp/data/chain/bitcoin/regtest/wallet.db ]; do kill -0 $lsm || exit; sleep 0.05; done
        {CHAMBER}
        kill -9 $lsm; wait $lsm; echo killed by $(($? - 128))"
    ));
    assert_eq!(killed.stdout, "ramfs\nlo\nfree\n0\nkilled by 9\n", "{killed:?}");
    wait_for("the end of the throw-away lnd", Duration::from_secs(30), || {
        (stage.host.sh(running).ok().trim() == "0").then_some(())
    });
    // systemd takes its scope away when it hears of it.
    wait_for("the end of its scope", Duration::from_secs(30), || {
        let left = stage.host.sh("systemctl list-units --all --no-legend 'run-*.scope'; ls -A /tmp").ok();
        (!left.contains("lnd") && !left.contains("run-")).then_some(())
    });
}

fn the_password_changes_as_a_whole(stage: &Stage) {
    let change = |more: &[&str]| stage.host.lsm(["wallet", "change-password", "--json"].iter().chain(more));
    let (first, lnd) = (stage.password(), stage.lnd());
    for bad in ["short", "", "two\nlines of it", "carriage-return\r\r\n"] {
        stage.write(NEW_PASSWORD, bad);
        assert_says(&change(&["--password-file", NEW_PASSWORD, "--yes"]), 2, "E-PLAN-012");
    }
    assert_says(&change(&[]), 2, "--yes");
    let plan = change(&["--dry-run"]).json();
    let kinds: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|s| s["kind"].as_str()).collect();
    let wanted = ["folder", "folder", "password", "snapshot", "change-password", "service", "prove", "discard"];
    assert_eq!(kinds, wanted, "{plan}");
    assert_eq!((stage.password(), stage.lnd()), (first.clone(), lnd), "nothing was changed");

    stage.write(NEW_PASSWORD, "the operator's own\n");
    let named = ["--password-file", NEW_PASSWORD, "--yes"];
    let sealed = fs::read(stage.host.path(PASSWORD)).expect("a sealed password");
    let done = change(&named).json();
    assert_eq!(done["changed"], true);
    assert_forgotten(stage, &sealed);
    println!("MEASURED gap of a password's change: {} ms", done["gap_ms"]);
    assert_eq!(stage.password(), "the operator's own");
    assert_complete(stage, "changed");
    assert_eq!(change(&named).json()["changed"], false);
    // It is not undone: the old password is forgotten, and lnd would not open with it.
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert_eq!(stage.password(), "the operator's own");
    assert_complete(stage, "not undone");

    let arguments = cut_words("wallet change-password --yes");
    let mut held = Held::default();
    // Half-way through lnd's own change, at the end of it, and while the old one is forgotten.
    for (step, place, forward) in [
        ("change-password", Place::During(12), false),
        ("change-password", Place::After, true),
        ("discard", Place::After, true),
    ] {
        let when = format!("killed {place:?} in {step}");
        let before = stage.password();
        let done =
            cut::run(
                &stage.host,
                &arguments,
                |at, moment| {
                    if at == step && place.is(moment) { Fate::Kill } else { Fate::Go }
                },
            );
        assert_eq!(done.code, 128 + 9, "{when}: {done:?}");
        held.look(stage, &when);
        if step == "change-password" {
            // The wallet would stay with a password that may not be its own, and its copy would go.
            assert_says(&stage.host.lsm(["uninstall", "--yes", "--json"]), 1, "was cut off");
        }
        if forward {
            stage.host.lsm(&arguments).ok();
            assert_ne!(stage.password(), before, "{when}");
        } else {
            stage.host.lsm(["rollback", "--yes"]).ok();
            assert_eq!(stage.password(), before, "{when}");
        }
        assert_complete(stage, &when);
    }
}

/// Nobody's old password outlives the change, sealed neither.
#[track_caller]
fn assert_forgotten(stage: &Stage, sealed: &[u8]) {
    let mut found = Vec::new();
    for line in stage.host.sh("find /etc /var/lib/lsm -type f -size -64k").ok().lines() {
        let bytes = fs::read(stage.host.path(line)).unwrap_or_default();
        found.extend((bytes == sealed).then(|| line.to_owned()));
    }
    assert_eq!(found, [""; 0]);
}

fn interrupted_it_stops_lnd(stage: &Stage) {
    let before = stage.password();
    // Each stop is slow to be told of: what goes on meanwhile would begin the next attempt.
    let slow = "#!/bin/sh\n/usr/bin/systemctl.real \"$@\"; code=$?; [ \"$1\" != stop ] || sleep 3; exit $code\n";
    stage.write("/root/out/systemctl", slow);
    let exchange =
        "mv /usr/bin/systemctl /usr/bin/systemctl.real && install -m 755 /root/out/systemctl /usr/bin/systemctl";
    stage.host.sh(exchange).ok();
    plain::interrupt(stage, "wallet change-password", "systemctl is-active lsm-create@signer | grep -x active");
    stage.host.sh("mv /usr/bin/systemctl.real /usr/bin/systemctl && rm /root/out/systemctl").ok();
    assert!(!stage.host.path("/run/systemd/system/lsm-create@signer.service").exists());
    stage.host.lsm(["wallet", "change-password", "--yes"]).ok();
    assert_ne!(stage.password(), before);
    assert_complete(stage, "interrupted and gone on");
}

fn cut_words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// The signer signs, nothing is left to do, and nothing of a change is left.
#[track_caller]
fn assert_complete(stage: &Stage, when: &str) {
    assert_signs(stage, when);
    let plan = stage.host.lsm(["install", "--network=regtest", "--dry-run", "--json"]).json();
    assert_eq!(plan, json!({"steps": []}), "{when}");
    let left = [ASIDE, "/var/lib/lsm/snapshot/signer/password"].map(|path| stage.host.path(path).exists());
    assert_eq!(left, [false, false], "{when}: the old password is still there");
}

fn a_locked_one_is_opened(stage: &Stage) {
    let dry = || stage.host.lsm(["wallet", "unlock", "--dry-run", "--json"]).json();
    assert_eq!(stage.host.lsm(["wallet", "unlock", "--json"]).json(), json!({"instance": "signer", "changed": false}));
    assert_eq!(dry(), json!({"steps": []}));
    // An lnd that is not told its password.
    let script = "cd /etc/systemd/system/lsm@signer.service.d && cp lsm.conf /root/lsm.conf &&
        sed -i 's, --wallet-unlock-password-file=[^ ]*,,' lsm.conf && systemctl daemon-reload &&
        systemctl stop lsm@signer && systemctl start --no-block lsm@signer";
    stage.host.sh(script).ok();
    stage.write("/root/out/wrong", "another password");
    assert_says(&stage.host.lsm(["wallet", "unlock", "--json"]), 2, "terminal");
    assert_eq!(dry(), json!({"steps": [{"kind": "unlock", "unit": "lsm@signer.service"}]}));
    let unlock = ["wallet", "unlock", "--yes", "--json"];
    let wrong = stage.host.lsm(unlock.iter().chain(&["--password-file", "/root/out/wrong"]));
    assert_says(&wrong, 1, "does not open");
    // Another lsm may have locked it for what it does.
    let held = "flock -o /var/lib/lsm/journal/lock sleep 30 >/dev/null 2>&1 & sleep 1
        /root/lsm wallet unlock --yes --json; code=$?; kill $!; exit $code";
    assert_says(&stage.host.sh(held), 1, "another lsm is at work");
    assert_eq!(stage.host.lsm(unlock).json()["changed"], true);
    assert_signs(stage, "unlocked");
    stage
        .host
        .sh("mv /root/lsm.conf /etc/systemd/system/lsm@signer.service.d/lsm.conf && systemctl daemon-reload")
        .ok();
}

fn and_all_of_it_is_brought_back(stage: &Stage) {
    let (bundle, words) = (stage.bundle(), stage.words());
    stage.host.lsm(["uninstall", "--purge", "--confirm=signer", "--yes"]).ok();
    assert!(!stage.host.path("/var/lib/lsm/signer").exists());
    stage.host.sh(&format!("rm -r {BUNDLE}")).ok();
    let mut install: Vec<String> = stage.arguments();
    install.retain(|argument| !argument.starts_with("--seed-out"));
    install.extend(["--restore", "--yes", "--json"].map(str::to_owned));
    assert_says(&stage.host.lsm(install.iter().map(String::as_str).chain(["--birthday=2023-02-29"])), 2, "is no day");
    assert_says(&stage.host.lsm(&install), 2, "no terminal");
    let line = format!(
        "{} --seed-file - --seed-passphrase-file {PASSPHRASE} --birthday 2024-05-17 --recovery-window 2500",
        install.join(" ")
    );
    // Other words than the wallet's: all of it goes back.
    stage.write("/root/out/wrong", "battery staple");
    let wrong = stage.lsm_reading(&line.replace(PASSPHRASE, "/root/out/wrong"), WORDS);
    assert_says(&wrong, 4, "passphrase");
    assert!(!stage.host.path("/etc/lsm").exists(), "undone");
    cut_off_while_lnd_restores(stage, &line.replace("--seed-file -", &format!("--seed-file {WORDS}")));
    let resumed = stage.lsm_reading(&line, WORDS);
    assert!(resumed.stderr.contains("it goes on with the words that lnd has"), "{resumed:?}");
    let restored = resumed.json();
    assert_eq!(restored["identity_pubkey"], bundle.identity_pubkey(), "{restored}");
    assert_eq!(stage.bundle().about.birthday, 1_715_904_000);
    let accounts = |bundle: &lsm::bundle::Bundle| -> Accounts { bundle.accounts.clone() };
    assert_eq!(accounts(&stage.bundle()).added_since(&accounts(&bundle)).unwrap(), [""; 0]);
    assert_signs(stage, "restored");
    let receipt = fs::read_to_string(stage.host.path("/etc/lsm/signer/wallet.toml")).expect("a receipt");
    assert!(receipt.contains("recovery_window = 2500") && receipt.contains("birthday = 1715904000"), "{receipt}");
    // The watch-only side looks for coins as it is told to.
    assert_eq!(stage.bundle().about.recovery_window, Some(2500));
    let folder = tempfile::tempdir().unwrap();
    WatchOnly::set_up(stage, stage.host.allowed(), folder.path()).check();
    // Once more it converges, and a wallet is never overwritten.
    assert_eq!(stage.lsm_reading(&line, WORDS).json()["changed"], false);
    assert_says(&stage.lsm_reading("wallet restore --json --yes --seed-file -", WORDS), 1, "has a wallet");
    assert_eq!(stage.verify("", WORDS).json()["verified"], Value::Bool(true));
    stage.host.sh(&format!("rm {WORDS}")).ok();
    assert_eq!(find_words(&stage.host, &words), [""; 0]);
}

/// lnd has the words, and there is no receipt yet.
#[track_caller]
fn cut_off_while_lnd_restores(stage: &Stage, line: &str) {
    let mut kept = false;
    let done = cut::run(&stage.host, &cut_words(line), |_, moment| {
        kept |= matches!(moment, Moment::Written(line) if line.event == "seed-kept");
        if kept && matches!(moment, Moment::Change(_)) { Fate::Kill } else { Fate::Go }
    });
    assert_eq!(done.code, 128 + 9, "{done:?}");
    assert!(!stage.host.path("/etc/lsm/signer/wallet.toml").exists());
}

const PLACES: [Place; 4] = [Place::During(2), Place::After, Place::Before, Place::Told];

#[test]
#[ignore = "long: every step of a change"]
fn a_change_of_the_password_is_killed_at_every_step_and_goes_on() {
    let Some(stage) = Stage::boot("wallet-kills") else { return };
    stage.install(&[]).ok();
    let (before, mut held) = (stage.password(), Held::default());
    let killed = chain::run(&stage, &cut_words("wallet change-password --yes"), &PLACES, &mut held);
    assert!(killed.len() >= 8, "{killed:?}");
    assert_ne!(stage.password(), before);
    assert_complete(&stage, "after every kill");
}
