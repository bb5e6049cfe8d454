//! docs/operators-guide.md, word for word: a newcomer types each block that names a machine there, gets to a signature, loses
//! the signer, and brings it back on another host from the words on paper.

use crate::lab;
use crate::lab::disk::Disk;
use crate::lab::host::{Debian, Host, LSM_INSIDE};
use crate::lab::net::Net;
use crate::stage::terminal::Terminal;
use crate::stage::{self, package, screenshot};
use clap::Parser;
use clap::error::ErrorKind;
use lsm::cli::Cli;
use lsm::release::trust::Trust;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Of the guide's addresses, network and chain, those of the lab.
const HERE: [(&str, &str); 3] =
    [("10.0.0.", "10.77.0."), ("mainnet", "regtest"), ("bitcoin.node=bitcoind", "bitcoin.node=nochainbackend")];
/// The machines of the guide: name, last part of the address, and the user who types there.
const MACHINES: [(&str, u8, &str); 5] =
    [SIGNER, (NEW_SIGNER, 5, "ann"), (WATCH_ONLY, 7, "lnd"), (OFFLINE, 6, "ann"), ("spare", 9, "ann")];
const SIGNER: (&str, u8, &str) = ("signer", 5, "ann");
const NEW_SIGNER: &str = "new-signer";
const WATCH_ONLY: &str = "watch-only";
/// It has lnd on a stick alone, and a wallet of its own.
const OFFLINE: &str = "offline";
/// How many blocks name a machine: one that does not any more is missed.
const TYPED: usize = 36;

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

/// Why lsm does not understand a command of the guide. Where something is left out (`...`) it may lack something.
fn misunderstood(command: &str) -> Option<String> {
    let words =
        command.split_whitespace().take_while(|word| !["...", "#", "|"].contains(word) && !word.starts_with('>'));
    let is_cut = command.split_whitespace().any(|word| word == "...");
    match Cli::try_parse_from(words) {
        Err(e) if !(is_cut && e.kind() == ErrorKind::MissingRequiredArgument) => Some(format!("{command}: {e}")),
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
    assert!(misunderstood("lsm install --allow none").is_some() && misunderstood("lsm install ...").is_none());
}

/// The first words of a result's lines, which say what each is.
fn labels(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split_once("  ")).map(|(label, _)| label).collect()
}

/// What the README shows of a command: the lines below it, up to the next one.
fn shown_in_readme(command: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, below) = page.split_once(&format!("$ {command}")).expect("the README shows it");
    let lines = below.lines().skip(1).take_while(|line| !line.starts_with("$ ") && *line != "```");
    lines.map(str::to_owned).collect()
}

#[test]
fn what_the_guide_says_of_trust_is_read_by_lsm() {
    let folder = tempfile::tempdir().unwrap();
    let of_trust: Vec<Block> = blocks().into_iter().filter(|block| block.info == "toml").collect();
    let [block] = &of_trust[..] else { panic!("{}", of_trust.len()) };
    fs::write(folder.path().join("trust.toml"), &block.text).unwrap();
    fs::create_dir(folder.path().join("signers")).unwrap();
    // Whose key it is shows only when something is signed with it.
    fs::copy(Path::new(ROOT).join("policies/signers/guggero.asc"), folder.path().join("signers/alice.asc")).unwrap();
    let trust = Trust::load(folder.path()).unwrap();
    assert_eq!((trust.quorum, trust.mirrors[0].as_str()), (7, "https://mirror.example/lnd"));
    assert!(trust.signers_of("v0.21.3-beta").iter().any(|signer| signer.name == "alice" && signer.added));
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
        let questions = ["[y/N] ", "Press Enter", "(not shown): ", "Type signer to go on: "];
        while let Some(shown) = terminal.expect_one(&questions) {
            if shown.ends_with("[y/N] ") {
                terminal.type_line("y");
            } else if shown.ends_with("to go on: ") {
                terminal.type_line("signer");
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
        let kept = format!("/var/cache/lsm/archive/{}", file.trim_end_matches(".tar.gz"));
        let folders =
            if name == OFFLINE { vec!["/media/stick/lnd".into()] } else { vec![kept, format!("/home/{user}/lnd")] };
        folders.iter().for_each(|folder| host.copy_in(&archive, &format!("{folder}/{file}"), 0o644));
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

/// The identities that a result tells.
fn identities(shown: &str) -> BTreeSet<String> {
    let is_key = |word: &&str| word.len() == 66 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let told = shown.lines().filter(|line| line.contains("identity "));
    told.flat_map(|line| line.split_whitespace().filter(is_key)).map(str::to_owned).collect()
}

#[test]
fn a_newcomer_gets_to_a_signature_loses_the_signer_and_brings_it_back() {
    let Some(site) = Site::build() else { return };
    let (mut newcomer, mut visitor) = (Newcomer::default(), Newcomer::default());
    let (mut hosts, mut seen, mut typed) = (BTreeMap::new(), BTreeSet::new(), 0);
    for block in blocks() {
        let Some(name) = block.machine() else { continue };
        let machine = MACHINES.into_iter().find(|(machine, ..)| *machine == name).expect(name);
        if name == NEW_SIGNER {
            // With its disk; another machine gets its address.
            drop(hosts.remove(SIGNER.0));
        }
        assert!(name != SIGNER.0 || !hosts.contains_key(NEW_SIGNER), "there is no signer any more");
        if !hosts.contains_key(name) {
            let Some(host) = site.boot(machine) else { return };
            hosts.insert(name.to_owned(), host);
        }
        let host = &hosts[name];
        let text = HERE.iter().fold(block.text.clone(), |text, (from, to)| text.replace(from, to));
        if let Some(file) = block.info.split(' ').nth(2) {
            fs::write(host.path(file), text).unwrap();
            continue;
        }
        if text.contains("--purge") && name == NEW_SIGNER {
            lose_the_seal(host);
        }
        let is_apart = name == OFFLINE;
        let who = if is_apart { &mut visitor } else { &mut newcomer };
        let shown = who.type_block((host, machine.2), &text);
        if text.contains("watch-only init") {
            let of_init = shown_in_readme("lsm watch-only init");
            assert_eq!(labels(&of_init), labels(&screenshot::lines(&shown)), "the README shows what it says");
        }
        if text.contains("--purge") {
            // Nothing of it is left, or another one is there.
            host.sh("test ! -e /var/lib/lsm/signer || systemctl is-active lsm@signer.service").ok();
        }
        if !is_apart {
            seen.extend(identities(&shown));
        }
        typed += 1;
    }
    assert_eq!(typed, TYPED);
    assert_eq!(seen.len(), 1, "one signer, on three hosts: {seen:?}");
}
