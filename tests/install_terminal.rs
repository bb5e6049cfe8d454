//! `lsm install` with a person at a terminal: the plan to consent to, the seed that is shown once and asked back.

use crate::stage::terminal::Terminal;
use crate::stage::{SEED, Stage, screenshot};
use std::fs;
use std::time::Duration;

/// Starts the usual install on a terminal of its own, the seed to be shown there.
fn install(stage: &Stage) -> Terminal {
    Terminal::start(stage, stage.arguments().into_iter().filter(|arg| !arg.starts_with("--seed-out")))
}

/// Consents, and gives the words that are shown.
fn read_words(terminal: &mut Terminal) -> Vec<String> {
    let plan = terminal.expect("[y/N] ");
    assert!(plan.contains("create the wallet; its seed is shown once"), "{plan}");
    terminal.type_line("y");
    terminal.expect("kept nowhere.");
    let table = terminal.expect("Press Enter");
    let words: Vec<String> = table
        .split_whitespace()
        .filter(|part| part.len() >= 3 && part.bytes().all(|b| b.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    assert_eq!(words.len(), 24, "{table}");
    terminal.type_line("");
    terminal.expect("\x1b[2J\x1b[3J");
    words
}

/// The place, from 0, of the word that is asked for.
fn asked_place(terminal: &mut Terminal) -> usize {
    terminal.expect("Word ");
    let number = terminal.expect(" (not shown): ");
    assert!(!terminal.echoes(), "what is typed is not shown");
    number.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number") - 1
}

#[test]
fn the_seed_is_shown_once_and_the_wallet_made_only_when_it_was_written_down() {
    let Some(stage) = Stage::boot("terminal") else { return };
    let wallet = stage.host.path("/var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db");

    let mut refused = install(&stage);
    refused.expect("[y/N] ");
    refused.type_line("n");
    let (code, shown) = refused.end();
    assert_eq!(code, 1, "{shown}");
    assert!(!stage.host.path("/etc/lsm").exists() && !stage.host.path("/var/lib/lsm").exists());

    let mut wrong = install(&stage);
    let lost = read_words(&mut wrong);
    nobody_reaches_an_lnd_that_waits_for_its_wallet(&stage);
    for _ in 0..3 {
        asked_place(&mut wrong);
        wrong.type_line("zzz");
    }
    let (code, shown) = wrong.end();
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("no wallet was made"), "{shown}");
    assert!(!wallet.exists());
    assert!(!stage.host.path("/run/systemd/system/lsm@signer.service.d").exists());
    assert_eq!(stage.host.run(["systemctl", "is-active", "lsm@signer"]).stdout, "inactive\n");

    let mut waiting = install(&stage);
    waiting.expect("[y/N] ");
    let mut right = install(&stage);
    let words = read_words(&mut right);
    assert_ne!(words, lost, "a seed that was not confirmed is never used");
    for _ in 0..3 {
        let place = asked_place(&mut right);
        right.type_line(&words[place]);
    }
    let (code, shown) = right.end();
    assert_eq!(code, 0, "{shown}");
    assert!(wallet.exists() && !stage.host.path(SEED).exists());
    assert!(stage.is_active("lsm@signer"));
    nothing_is_left_of_making_it(&stage);
    who_ends_lsm_before_it_does_anything_ends_no_signer(&stage, waiting);
    let journal = stage.host.journal(&["--all"]);
    for phrase in words.windows(3) {
        assert!(!journal.contains(&phrase.join(" ")) && !journal.contains(&phrase.join("\n")));
    }
    hold_picture(&stage, &shown);
    what_was_agreed_to_is_done_or_nothing(&stage);
    the_question_comes_with_what_it_is_about(&stage);
}

/// Another lsm has made it run while this one waited for an answer.
#[track_caller]
fn who_ends_lsm_before_it_does_anything_ends_no_signer(stage: &Stage, mut waiting: Terminal) {
    let lnd = stage.lnd();
    waiting.interrupt();
    let (code, shown) = waiting.end();
    assert_eq!(code, 128 + 2, "{shown}");
    assert!(stage.is_active("lsm@signer") && stage.lnd() == lnd);
}

/// Another lsm changes what there is to do while this one waits for an answer.
#[track_caller]
fn what_was_agreed_to_is_done_or_nothing(stage: &Stage) {
    stage.host.lsm(["allow", "add", "10.77.0.8", "--yes"]).ok();
    let mut other = Terminal::start(stage, ["rollback"]);
    other.expect("[y/N] ");
    stage.host.lsm(["allow", "add", "10.77.0.12", "--yes"]).ok();
    other.type_line("y");
    let (code, shown) = other.end();
    assert!(code == 1 && shown.contains("E-PLAN-051"), "{shown}");
    assert_eq!(stage.host.lsm(["allow", "list"]).ok().lines().count(), 3);
    // A plan that holds the time is the same one a little later.
    let mut same = Terminal::start(stage, ["macaroon", "rotate"]);
    same.expect("[y/N] ");
    std::thread::sleep(Duration::from_secs(2));
    same.type_line("y");
    let (code, shown) = same.end();
    assert_eq!(code, 0, "{shown}");
}

/// Nobody agrees to what they have not seen, wherever notes go.
#[track_caller]
fn the_question_comes_with_what_it_is_about(stage: &Stage) {
    for (line, about) in [
        ("allow add 10.77.0.20", "write /etc/lsm/signer.toml"),
        ("allow add 10.77.0.20 -q", "write /etc/lsm/signer.toml"),
        ("allow add 10.77.0.20 2>/root/out/said", "write /etc/lsm/signer.toml"),
        ("restart -q", "stops the watch-only node"),
    ] {
        let mut asked = Terminal::open(&stage.host, ["sh", "-c", &format!("exec /root/lsm {line}")]);
        let shown = asked.expect("[y/N] ");
        assert_eq!(shown.matches(about).count(), 1, "{line}: {shown}");
        asked.type_line("n");
        assert_eq!(asked.end().0, 1, "{line}");
    }
}

/// Holds the README's picture to be what was shown, without the words.
#[track_caller]
fn hold_picture(stage: &Stage, shown: &str) {
    let (plan, rest) = shown.split_once("[y/N] y\r\n").expect("the consent");
    let (_, end) = rest.rsplit_once("(not shown): \r\n").expect("the words were asked back");
    let typed: Vec<String> = stage.arguments().into_iter().filter(|arg| !arg.starts_with("--seed-out")).collect();
    let words = "[24 words, shown once; three of them are asked back; the screen is cleared]\r\n\r\n";
    let all = format!("# lsm {}\r\n{plan}[y/N] y\r\n\r\n{words}{end}", typed.join(" "));
    screenshot::hold("docs/install.svg", "lsm install on a terminal", &screenshot::lines(&all));
}

/// Its unit is not active, and so its port does not open, whoever asks systemd for it.
#[track_caller]
fn nobody_reaches_an_lnd_that_waits_for_its_wallet(stage: &Stage) {
    let state = |unit: &str| stage.host.run(["systemctl", "is-active", unit]).stdout;
    assert_eq!(state("lsm@signer.service"), "activating\n");
    let line = fs::read(stage.proc(stage.lnd(), "cmdline")).unwrap();
    assert!(
        !String::from_utf8_lossy(&line).contains("wallet-unlock"),
        "it is told of no password, and of no leave to make one"
    );
    stage.host.run(["systemctl", "start", "--no-block", "lsm-proxy@signer.socket"]).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(state("lsm-proxy@signer.socket"), "inactive\n");
    assert_eq!(stage.host.run(["ss", "-Hltn"]).ok(), "", "no port");
    assert_ne!(stage.host.lsm(["status"]).code, 0, "a signer without a wallet cannot sign");
    stage.host.run(["systemctl", "stop", "lsm-proxy@signer.socket"]).ok();
}

/// No file of it, and no lnd that was told to wait for a wallet.
#[track_caller]
fn nothing_is_left_of_making_it(stage: &Stage) {
    assert!(!stage.host.path("/run/systemd/system/lsm@signer.service.d").exists());
    let unit = stage.host.run(["systemctl", "show", "--property=ExecStart,Restart,DropInPaths", "lsm@signer"]).ok();
    assert!(unit.contains("wallet-unlock-password-file") && unit.contains("Restart=always"), "{unit}");
    assert!(!unit.contains("wallet.conf"), "{unit}");
}
