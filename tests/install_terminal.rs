//! `lsm install` with a person at a terminal: the plan to consent to, the seed that is shown once and asked back.

mod lab;
mod stage;

use lab::process::run;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use stage::{SEED, Stage};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

/// The other end of a terminal that a program runs on.
struct Terminal {
    master: File,
    slave: OwnedFd,
    child: Child,
    shown: String,
    /// Up to where what was shown has been looked at.
    seen: usize,
}

impl Terminal {
    /// Starts the usual install on a terminal of its own, the seed to be shown there.
    fn install(stage: &Stage) -> Self {
        let pair = openpty(None, None).expect("a terminal");
        let mut command = stage.host.command("setsid");
        let args = stage.arguments().into_iter().filter(|arg| !arg.starts_with("--seed-out"));
        command.args(["--ctty", "--wait", "/root/lsm"]).args(args).env("TERM", "xterm");
        let end = || Stdio::from(pair.slave.try_clone().expect("a descriptor is left"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("lsm starts");
        Self { master: pair.master.into(), slave: pair.slave, child, shown: String::new(), seen: 0 }
    }

    /// Reads until `text` is shown, and gives all since the last time.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(found) = self.shown[self.seen..].find(text) {
                let end = self.seen + found + text.len();
                let new = self.shown[self.seen..end].to_owned();
                self.seen = end;
                return new;
            }
            let mut bytes = [0; 4096];
            assert!(self.child.try_wait().expect("a child").is_none(), "ended before {text:?}: {}", self.shown);
            let got = self.master.read(&mut bytes).expect("the terminal is open");
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..got]));
        }
    }

    fn type_line(&mut self, line: &str) {
        self.master.write_all(format!("{line}\n").as_bytes()).expect("the terminal is open");
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).expect("a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    /// Goes on to the end: the exit code, and all that was shown.
    fn end(mut self) -> (i32, String) {
        drop(self.slave);
        let mut rest = Vec::new();
        // The last end of a terminal closes with an error, not with nothing.
        let _ = self.master.read_to_end(&mut rest);
        let code = self.child.wait().expect("a child").code().expect("an exit code");
        (code, self.shown + &String::from_utf8_lossy(&rest))
    }
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

    let mut refused = Terminal::install(&stage);
    refused.expect("[y/N] ");
    refused.type_line("n");
    let (code, shown) = refused.end();
    assert_eq!(code, 1, "{shown}");
    assert!(!stage.host.path("/etc/lsm").exists() && !stage.host.path("/var/lib/lsm").exists());

    let mut wrong = Terminal::install(&stage);
    let lost = read_words(&mut wrong);
    for _ in 0..3 {
        asked_place(&mut wrong);
        wrong.type_line("zzz");
    }
    let (code, shown) = wrong.end();
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("no wallet was made"), "{shown}");
    assert!(!wallet.exists());
    assert!(!stage.is_active("lsm@signer") && !stage.is_active("lsm-create@signer"));

    let mut right = Terminal::install(&stage);
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
    let journal = run(stage.host.command("journalctl")).ok();
    for phrase in words.windows(3) {
        assert!(!journal.contains(&phrase.join(" ")) && !journal.contains(&phrase.join("\n")));
    }
}
