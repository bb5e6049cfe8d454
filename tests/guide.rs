//! docs/operators-guide.md, word for word: a newcomer types each of its blocks where it says, gets to a signature, loses the
//! signer, and brings it back on another host from the words on paper.

use crate::lab;
use crate::lab::disk::Disk;
use crate::lab::host::{Debian, Host, LSM_INSIDE};
use crate::lab::net::Net;
use crate::stage;
use crate::stage::package;
use crate::stage::terminal::Terminal;
use clap::Parser;
use clap::error::ErrorKind;
use lsm::cli::Cli;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Of the guide's addresses and network, those of the lab.
const HERE: [(&str, &str); 2] = [("10.0.0.", "10.77.0."), ("mainnet", "regtest")];
/// The machines of the guide: name, last part of the address, and the user who types there.
const SIGNER: (&str, u8, &str) = ("signer", 5, "ann");
const NEW_SIGNER: (&str, u8, &str) = ("new-signer", 5, "ann");
const WATCH_ONLY: (&str, u8, &str) = ("watch-only", 7, "lnd");

/// What no block takes, in seconds, however busy the machine.
const LIMIT: &str = "300";

/// A fenced block: what stands behind its fence, and its text.
struct Block {
    info: String,
    text: String,
}

impl Block {
    /// The machine that it is for, where it says.
    fn machine(&self) -> Option<&str> {
        self.info.split(' ').nth(1)
    }
}

fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/operators-guide.md")).unwrap();
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text: String =
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            blocks.push(Block { info: info.to_owned(), text });
        }
    }
    blocks
}

/// Why lsm does not understand a command of the guide; nothing where only something is left out (`...`).
fn misunderstood(command: &str) -> Option<String> {
    let words =
        command.split_whitespace().take_while(|word| !["...", "#", "|"].contains(word) && !word.starts_with('>'));
    match Cli::try_parse_from(words) {
        Err(e) if e.kind() != ErrorKind::MissingRequiredArgument => Some(format!("{command}: {e}")),
        _ => None,
    }
}

#[test]
fn every_command_of_the_guide_is_one_of_lsm() {
    let mut found = 0;
    for block in blocks() {
        let commands = block.text.split(['\n', '|', ';']);
        let commands = commands.map(|line| line.trim().trim_start_matches("until ").trim_start_matches("sudo "));
        for command in commands.filter(|command| command.starts_with("lsm ")) {
            assert_eq!(misunderstood(command), None);
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
    assert!(misunderstood("lsm instal --network mainnet").is_some());
}

/// A newcomer, with the words on paper.
#[derive(Default)]
struct Newcomer {
    paper: Vec<String>,
}

impl Newcomer {
    /// Types a block on a machine, and answers what is asked there.
    #[track_caller]
    fn type_block(&mut self, (host, user): (&Host, &str), text: &str) -> String {
        let environment = [&format!("HOME=/home/{user}"), "TERM=xterm", &format!("PATH={}", lab::process::PATH)];
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        // No block takes longer; a loop that waits for what does not come ends.
        let line = ["timeout", "--foreground", LIMIT, "setpriv", &uid, &gid, "--init-groups", "env", "-i"];
        let script = format!("cd\n{text}");
        let mut terminal = Terminal::open(
            host,
            line.into_iter().chain(environment).chain(["bash", "-e", "-o", "pipefail", "-c", &script]),
        );
        while let Some(shown) = terminal.expect_one(&["[y/N] ", "Press Enter", "(not shown): "]) {
            if shown.ends_with("[y/N] ") {
                terminal.type_line("y");
            } else if shown.ends_with("Press Enter") {
                self.write_down(&shown);
                terminal.type_line("");
            } else {
                let place = shown.rsplit("Word ").next().and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
                terminal.type_line(&self.paper[place.unwrap_or_else(|| panic!("{shown}")) - 1]);
            }
        }
        let (code, shown) = terminal.end();
        let journal = || host.run(["journalctl", "--no-pager", "--lines=60"]).stdout;
        assert_eq!(code, 0, "{text}\n{shown}\n{}", journal());
        println!("{text}{shown}");
        shown
    }

    #[track_caller]
    fn write_down(&mut self, shown: &str) {
        let table = shown.rsplit("kept nowhere.").next().unwrap_or_default();
        let is_word = |part: &&str| part.len() >= 3 && part.bytes().all(|b| b.is_ascii_lowercase());
        self.paper =
            table.trim_end_matches("Press Enter").split_whitespace().filter(is_word).map(str::to_owned).collect();
        assert_eq!(self.paper.len(), 24, "{table}");
    }
}

/// What the newcomer has before the guide begins: the package, an lnd on a stick, and SSH between the two machines.
struct Site {
    net: Arc<Net>,
    folder: tempfile::TempDir,
}

impl Site {
    #[track_caller]
    fn build() -> Option<Self> {
        stage::newest()?.archive()?;
        let (net, folder) = (Net::build()?, tempfile::tempdir().unwrap());
        package::make(folder.path())?;
        let mut key = Command::new("ssh-keygen");
        key.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join("key"));
        lab::process::run(key).ok();
        Some(Self { net, folder })
    }

    /// Boots a machine with its user, who may use sudo, the package and an archive of lnd.
    #[track_caller]
    fn boot(&self, (name, last, user): (&str, u8, &str)) -> Option<Host> {
        let host = Host::boot_of(Debian::Trixie, &self.net, name, last, Disk::Layer)?;
        host.sh(&format!(
            "rm {LSM_INSIDE} && useradd --create-home --shell /bin/bash {user} && mkdir -m 700 /home/{user}/.ssh
            echo '{user} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{user}; echo 127.0.1.1 $(hostname) >>/etc/hosts"
        ))
        .ok();
        let package = package::name();
        host.copy_in(&self.folder.path().join(&package), &format!("/home/{user}/{package}"), 0o644);
        host.copy_in(&self.folder.path().join("key"), &format!("/home/{user}/.ssh/id_ed25519"), 0o600);
        host.copy_in(&self.folder.path().join("key.pub"), &format!("/home/{user}/.ssh/authorized_keys"), 0o600);
        let archive = stage::newest()?.archive()?;
        let file = archive.file_name().unwrap().to_str().unwrap();
        // As an earlier download left it, and as `release fetch` leaves it: hosts of the lab have no network.
        let kept = format!("/var/cache/lsm/archive/{}/{file}", file.trim_end_matches(".tar.gz"));
        host.copy_in(&archive, &kept, 0o644);
        host.copy_in(&archive, &format!("/home/{user}/lnd/{file}"), 0o644);
        host.sh(&format!(
            "echo 'StrictHostKeyChecking accept-new' >/home/{user}/.ssh/config; chown -R {user}: /home/{user}"
        ))
        .ok();
        Some(host)
    }
}

/// Takes away what the signer's secrets are sealed to. There is no TPM in the lab, so that it is systemd's key for the host.
fn lose_the_seal(signer: &Host) {
    signer.sh("rm /var/lib/systemd/credential.secret").ok();
    assert_ne!(signer.sh("systemctl restart lsm@signer.service").code, 0, "the password cannot be opened");
    let said = signer.run(["systemctl", "show", "--property=ExecMainStatus", "lsm@signer.service"]).ok();
    assert_eq!(said.trim(), "ExecMainStatus=243");
    assert_ne!(signer.run(["lsm", "status"]).code, 0);
}

#[test]
fn a_newcomer_gets_to_a_signature_loses_the_signer_and_brings_it_back() {
    let Some(site) = Site::build() else { return };
    let Some(mut signer) = site.boot(SIGNER) else { return };
    let Some(watch_only) = site.boot(WATCH_ONLY) else { return };
    let mut newcomer = Newcomer::default();
    let mut is_lost = false;
    let mut typed = 0;
    for block in blocks() {
        let Some(machine) = block.machine() else { continue };
        let text = HERE.iter().fold(block.text.clone(), |text, (from, to)| text.replace(from, to));
        if let Some(file) = block.info.split(' ').nth(2) {
            assert_eq!(machine, WATCH_ONLY.0, "{}", block.info);
            fs::write(watch_only.path(file), text).unwrap();
            continue;
        }
        if machine == NEW_SIGNER.0 && !is_lost {
            // With its disk; another machine gets its address.
            drop(signer);
            signer = site.boot(NEW_SIGNER).expect("it booted before");
            is_lost = true;
        }
        if text.contains("--purge") && machine == NEW_SIGNER.0 {
            lose_the_seal(&signer);
        }
        match machine {
            "watch-only" => newcomer.type_block((&watch_only, WATCH_ONLY.2), &text),
            "signer" if !is_lost => newcomer.type_block((&signer, SIGNER.2), &text),
            "new-signer" => newcomer.type_block((&signer, NEW_SIGNER.2), &text),
            other => panic!("there is no {other} (any more)"),
        };
        typed += 1;
    }
    assert!(is_lost && typed > 15, "{typed}");
}
