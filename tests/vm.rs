//! lsm on a real machine with a kernel of its own: what a container cannot have broken is broken for real, mended by
//! `harden --fix`, and held over real boots; its clock jumps, and its TPM is lost.

mod clock;
mod plants;
mod seal;
mod table;

use crate::lab::vm::{ADDRESS, Firmware, GATEWAY, Vm};
use crate::stage;
use crate::stage::assert_unchanged;
use data_encoding::BASE64;
use lsm::bundle::Bundle;
use lsm::release::known;
use lsm::release::pins::Status;
use lsm::signer::Node;
use lsm::signer::channel::Endpoint;
use plants::{Booted, KEXEC, PLANTED, Planted, SETTINGS, SSH_IDS};
use std::collections::BTreeMap;
use std::time::Instant;
use table::Table;

/// What came of each check, by id.
type Verdicts = BTreeMap<String, String>;

/// Where a machine has lnd's archive.
const ARCHIVES: &str = "/root/archives";

/// Everything in /etc: who may do what, and every byte.
const ETC: &str = "cd /etc && find . -printf '%p %y %m %U:%G %l\\n' | LC_ALL=C sort && \
    find . -type f -exec sha256sum {} + | LC_ALL=C sort";

/// A server of SNTP on the machine itself: nothing is reached from there (RFC 4330).
const NTP: &str = r"use IO::Socket::INET;
my $s = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => 123) or die;
while ($s->recv(my $asked, 48)) {
    my $now = pack('NN', time + 2208988800, 0);
    $s->send(pack('CCCcNNa4', 0x24, 1, 6, -20, 0, 0, 'LOCL') . $now . substr($asked, 40, 8) . $now . $now);
}
";

#[track_caller]
fn verdicts(said: &str) -> Verdicts {
    let report: serde_json::Value = serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().map(|finding| (text(finding, "id"), text(finding, "verdict"))).collect()
}

/// The checks whose verdict is another, each with what it is now.
fn changes(now: &Verdicts, before: &Verdicts) -> Vec<(String, String)> {
    let other = now.iter().filter(|(id, verdict)| before.get(*id) != Some(verdict));
    other.map(|(id, verdict)| (id.clone(), verdict.clone())).collect()
}

impl Vm {
    /// Installs a signer, with `more` arguments, and gives what was printed.
    #[track_caller]
    fn install(&self, more: &str) -> String {
        let version = stage::newest().expect("lnd's archive is there").version;
        let risk = match known::find(&version).expect("a known release").status {
            Status::NeedsAcceptRisk => format!("--accept-risk={version}"),
            _ => String::new(),
        };
        let done = self.lsm(&format!(
            "install --network=regtest --release={version} --from={ARCHIVES} {risk} --listen={ADDRESS}:10012 \
            --allow={GATEWAY} --bundle-out=/root/out/bundle {more} --yes"
        ));
        assert_eq!(done.code, 0, "{done:?}: {}", self.journal());
        done.stdout + &done.stderr
    }

    /// What was written down last, in the order in which it was.
    fn journal(&self) -> String {
        self.sh("journalctl --no-pager --output=short-monotonic | tail -n 100").stdout
    }

    /// The bundle that an install has left.
    #[track_caller]
    fn bundle(&self) -> Bundle {
        let text = self.sh("base64 -w0 /root/out/bundle/credentials-bundle.tar.gz.b64").ok();
        let text = BASE64.decode(text.trim().as_bytes()).expect("base64");
        Bundle::read(std::str::from_utf8(&text).expect("text")).expect("the bundle can be read")
    }

    /// Has the signer sign, as whoever holds the bundle.
    fn sign(&self, bundle: &Bundle) -> Result<(), String> {
        let endpoint: Endpoint = format!("{ADDRESS}:10012").parse().expect("an endpoint");
        let node = Node::at(endpoint, self.door, &bundle.certificate).with_macaroon(&bundle.macaroon);
        node.sign_with_key(6, 0, b"a message").map(drop).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn audit(&self) -> Verdicts {
        verdicts(&self.lsm("harden --json").stdout)
    }

    /// Boots, and waits until the signer answers.
    #[track_caller]
    fn boot_with_signer(&mut self, firmware: Firmware, words: &str) {
        let start = Instant::now();
        self.boot(firmware, words);
        self.sh("for i in $(seq 120); do systemctl -q is-active lsm@signer && exit; sleep 1; done; exit 1").ok();
        let with = if words.is_empty() { String::new() } else { format!(" with {words}") };
        println!("MEASURED boot of the emulated machine{with}: {} s", start.elapsed().as_secs());
    }

    /// What sshd takes, as it tells somebody whom it does not know; and that it lets the key in.
    #[track_caller]
    fn knock(&self) -> String {
        let ssh = "ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=accept-new";
        self.sh(&format!("{ssh} root@127.0.0.1 true")).ok();
        let said = self.sh(&format!("{ssh} -o PubkeyAuthentication=no root@127.0.0.1 true")).stderr;
        let methods = said.split_once("Permission denied (").and_then(|(_, rest)| rest.split(')').next());
        methods.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    #[track_caller]
    fn etc(&self) -> Vec<String> {
        self.sh(ETC).ok().lines().map(str::to_owned).collect()
    }

    /// The kernel's settings, without the one that only a boot brings back.
    #[track_caller]
    fn live(&self) -> String {
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.1).collect();
        self.sh(&format!("sysctl {}", names.join(" "))).ok()
    }

    #[track_caller]
    fn make(&self, script: &str) {
        let done = self.sh(script);
        assert_eq!(done.code, 0, "{script}: {done:?}");
    }

    /// Mends these by name, and says what is found then.
    #[track_caller]
    fn fix(&self, ids: &[&str]) -> Verdicts {
        let done = self.lsm(&format!("harden --fix={} --yes --json", ids.join(",")));
        let now = verdicts(&done.stdout);
        let left: Vec<&&str> = ids.iter().filter(|id| now[**id] != "pass").collect();
        assert!(left.is_empty(), "{left:?} after the fix: {}", done.stderr);
        now
    }

    /// Does one thing, holds that it is found and nothing else, and undoes it.
    #[track_caller]
    fn hold(&self, table: &mut Table, base: &Verdicts, planted: &Planted) {
        self.make(planted.cause);
        let now = self.audit();
        table.count(planted.what, planted.found, planted.with, &changes(&now, base), &now);
        if !planted.cure.is_empty() {
            self.make(planted.cure);
            table.hold_cured(planted.what, &changes(&self.audit(), base));
        }
    }

    /// The same of a setting of the kernel's.
    #[track_caller]
    fn hold_setting(&self, table: &mut Table, base: &Verdicts, setting: &plants::Setting) {
        let (id, name, bad, good) = setting;
        self.make(&format!("sysctl -qw '{name}={bad}'"));
        let now = self.audit();
        table.count(&format!("{name}={bad}"), (id, "fail"), &[], &changes(&now, base), &now);
        self.make(&format!("sysctl -qw '{name}={good}'"));
        table.hold_cured(name, &changes(&self.audit(), base));
    }

    /// Boots by other words, and holds what comes of them and nothing else.
    #[track_caller]
    fn hold_boot(&mut self, table: &mut Table, base: &Verdicts, firmware: Firmware, boot: &Booted) {
        self.stop();
        self.boot_with_signer(firmware, boot.words);
        let now = self.audit();
        let how = if firmware == Firmware::SecureBoot { "booted by Secure Boot with" } else { "booted with" };
        table.count_boot(&format!("{how} {}", boot.words), boot.found, &changes(&now, base));
        self.hold(table, &now, &boot.last);
    }
}

/// A machine that is off, with lnd's archive on its disk.
#[track_caller]
fn machine() -> Option<Vm> {
    let archive = stage::newest()?.archive()?;
    let inside = format!("{ARCHIVES}/{}", archive.file_name().expect("a name").to_string_lossy());
    Vm::set_up(&[(&archive, &inside)])
}

/// A machine with a signer, installed with `more` arguments.
#[track_caller]
fn signer(more: &str) -> Option<Vm> {
    let mut vm = machine()?;
    vm.boot(Firmware::Bios, "");
    vm.make("mkdir -m 700 /root/out");
    vm.install(&format!("--seed-out=/root/out/seed {more}"));
    Some(vm)
}

/// A signer with loose settings in files of its own, and a key that lets root in.
#[track_caller]
fn set_up() -> Option<Vm> {
    let vm = signer("")?;
    let loose: String = SETTINGS.iter().map(|(_, name, bad, _)| format!("{name} = {bad}\n")).collect();
    vm.make(&format!(
        "rm /root/out/seed && cat >/root/ntp <<'END'\n{NTP}END\n\
        printf '{loose}' >/etc/sysctl.d/99-y.conf && /usr/lib/systemd/systemd-sysctl && \
        printf '{}' >/etc/ssh/sshd_config.d/50-lab.conf && systemctl reload ssh && \
        ssh-keygen -q -t ed25519 -N '' -f /root/key && install -m 700 -d /root/.ssh && \
        install -m 600 /root/key.pub /root/.ssh/authorized_keys",
        plants::LOOSE_SSH
    ));
    Some(vm)
}

#[test]
#[ignore = "long: four boots of an emulated machine"]
fn what_is_broken_in_a_real_kernel_is_found_mended_and_holds_over_boots() {
    let start = Instant::now();
    let Some(mut vm) = set_up() else { return };
    let mut table = Table::default();
    let (first, etc, live) = (vm.audit(), vm.etc(), vm.live());
    let ids: Vec<&str> = SETTINGS.iter().map(|setting| setting.0).chain(SSH_IDS.iter().copied()).collect();
    let sound: Vec<&&str> = ids.iter().filter(|id| first[**id] != "fail").collect();
    assert!(sound.is_empty() && first[KEXEC] == "fail", "not broken: {sound:?}");
    assert_eq!(vm.knock(), "publickey,password");

    // Mended and undone while it runs.
    vm.fix(&ids);
    assert_eq!(vm.knock(), "publickey", "sshd has read its settings, and lets the key in");
    vm.lsm("rollback --yes").ok();
    assert_eq!(vm.live(), live);
    assert_unchanged(&etc, &vm.etc());
    assert_eq!(changes(&vm.audit(), &first), []);
    assert_eq!(vm.knock(), "publickey,password");

    // Mended again, and each fault alone on what is sound then.
    let mended = vm.fix(&[&ids[..], &[KEXEC]].concat());
    vm.make(plants::OWN_TMP);
    let base = vm.audit();
    assert_eq!(changes(&base, &mended), [("DISK-004".to_owned(), "pass".to_owned())]);
    SETTINGS.iter().for_each(|setting| vm.hold_setting(&mut table, &base, setting));
    PLANTED.iter().for_each(|planted| vm.hold(&mut table, &base, planted));

    // What is mended outlasts boots, also by words that are worse; what the words bring goes with them.
    vm.hold_boot(&mut table, &mended, Firmware::Bios, &plants::WEAK);
    vm.hold_boot(&mut table, &mended, Firmware::SecureBoot, &plants::STRONG);
    assert_eq!(vm.knock(), "publickey");
    vm.lsm("rollback --yes").ok();
    assert_unchanged(&etc, &vm.etc());
    assert_eq!(vm.live(), live, "what can go back goes back at once");
    vm.stop();
    vm.boot_with_signer(Firmware::Bios, "");
    assert_eq!((changes(&vm.audit(), &first), vm.live()), (Vec::new(), live));
    assert_unchanged(&etc, &vm.etc());
    println!("MEASURED the audit on an emulated machine: {} in {} s", table.sum(), start.elapsed().as_secs());
    table.hold_document();
}
