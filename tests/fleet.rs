//! Many hosts: the Ansible collection against three real hosts at once, and a machine that cloud-init makes a signer.

use crate::lab::disk::Disk;
use crate::lab::host::{Debian, Host};
use crate::lab::net::Net;
use crate::lab::process::{self, Done};
use crate::stage;
use crate::stage::package;
use lsm::bundle::Bundle;
use lsm::signer::Node;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The hosts, each with the last part of its address; the last one is broken at first.
const HOSTS: [(&str, u8); 3] = [("one", 2), ("two", 5), ("broken", 6)];

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    process::run(command).ok()
}

/// A new age key in the file `path`: its recipient.
#[track_caller]
fn age_key(path: &Path) -> String {
    run("age-keygen", &["--output", path.to_str().unwrap()]);
    run("age-keygen", &["-y", path.to_str().unwrap()]).trim().to_owned()
}

/// A control machine, with three hosts that it reaches by SSH.
struct Control {
    net: Arc<Net>,
    hosts: Vec<Host>,
    folder: tempfile::TempDir,
    archive: PathBuf,
    /// The recipients of words and of bundles.
    recipients: [String; 2],
}

impl Control {
    #[track_caller]
    fn build() -> Option<Self> {
        let archive = stage::newest()?.archive()?;
        let net = Net::build()?;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("ssh-key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        let mut known = String::new();
        let mut hosts = Vec::new();
        for (name, last) in HOSTS {
            let host = Host::boot_of(Debian::Fleet, &net, name, last, Disk::Layer)?;
            // Nothing of lsm is there before.
            host.sh("rm /root/lsm && mkdir -p -m 700 /root/.ssh").ok();
            host.copy_in(&key.with_extension("pub"), "/root/.ssh/authorized_keys", 0o600);
            known += &format!("{} {}", host.v4, host.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).ok());
            hosts.push(host);
        }
        fs::write(folder.path().join("known"), known).unwrap();
        let recipients = ["seed-key", "bundle-key"].map(|name| age_key(&folder.path().join(name)));
        let control = Self { net, hosts, folder, archive, recipients };
        control.write_settings();
        Some(control)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_settings(&self) {
        let at = self.folder.path().display();
        let write = |name: &str, text: String| fs::write(self.path(name), text).unwrap();
        write(
            "ssh.conf",
            format!(
                "Host *\nUser root\nIdentityFile {at}/ssh-key\nIdentitiesOnly yes\nUserKnownHostsFile {at}/known\nControlPath none\n"
            ),
        );
        write(
            "ansible.cfg",
            format!(
                "[defaults]\ncollections_path={at}/collections\nlocal_tmp={at}/tmp\nforks=3\nretry_files_enabled=false\n\
                 [ssh_connection]\nssh_args=-F {at}/ssh.conf\n"
            ),
        );
        let hosts = self.hosts.iter().zip(HOSTS).map(|(host, (name, _))| {
            format!("    {name}: {{ ansible_host: {0}, lsm_listen: '{0}:10012', lsm_allow: [10.77.0.3] }}\n", host.v4)
        });
        write(
            "inventory.yml",
            format!(
                "signers:\n  vars:\n    ansible_python_interpreter: /usr/bin/python3\n    ansible_become: false\n    lsm_network: regtest\n    \
                 lsm_program: {}\n    lsm_archive: {}\n    lsm_seed_recipient: {}\n    lsm_bundle_recipient: {}\n    \
                 lsm_collect: {at}/collected\n  hosts:\n{}",
                package::strip(self.folder.path()).display(),
                self.archive.display(),
                self.recipients[0],
                self.recipients[1],
                hosts.collect::<String>()
            ),
        );
        let collection = format!("{ROOT}/deploy/ansible");
        self.ansible("ansible-galaxy", &["collection", "install", &collection, "-p", &format!("{at}/collections")])
            .ok();
    }

    /// Runs a program of Ansible's where the signers allow it.
    fn ansible(&self, program: &str, arguments: &[&str]) -> Done {
        let mut command = self.net.allowed().command(program);
        command.env("HOME", self.folder.path()).env("ANSIBLE_CONFIG", self.path("ansible.cfg")).args(arguments);
        process::run(command)
    }

    /// Plays the collection's own playbook.
    fn play(&self, more: &[&str]) -> Done {
        let inventory = self.path("inventory.yml");
        self.ansible(
            "ansible-playbook",
            &[&["--inventory", inventory.to_str().unwrap(), "lsm.signer.signers"], more].concat(),
        )
    }
}

/// A count of the play's recap for a host.
#[track_caller]
fn count(done: &Done, host: &str, what: &str) -> u32 {
    let recap = done.stdout.split("PLAY RECAP").nth(1).unwrap_or_else(|| panic!("no recap: {done:?}"));
    let line = recap.lines().find(|line| line.split(' ').next() == Some(host)).unwrap_or_else(|| panic!("{recap}"));
    let field = line.split_whitespace().find_map(|field| field.strip_prefix(&format!("{what}=")));
    field.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
#[ignore = "long: three hosts"]
fn a_fleet_converges_by_ansible_and_tells_no_secret() {
    if !package::has(&["ansible-playbook", "ssh", "age", "strip"]) {
        return;
    }
    let Some(control) = Control::build() else { return };
    let broken = &control.hosts[2];
    broken.sh("cp /etc/hosts /root/hosts && : >/etc/hosts").ok();

    let checked = control.play(&["--check", "--diff"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    for host in &control.hosts {
        assert_ne!(host.sh("ls -d /etc/lsm /usr/local/bin/lsm /var/lib/lsm").code, 0, "check mode changes nothing");
    }

    let first = control.play(&["-vvvv"]);
    assert_eq!(first.code, 2, "a host failed: {first:?}");
    for (name, _) in &HOSTS[..2] {
        assert_eq!((count(&first, name, "failed"), count(&first, name, "changed") > 0), (0, true), "{first:?}");
    }
    assert_eq!(count(&first, "broken", "failed"), 1);
    assert!(first.stdout.contains("E-INSTALL-"), "lsm's own words: {first:?}");
    the_collected_open_and_sign(&control, &HOSTS[..2]);

    broken.sh("cp /root/hosts /etc/hosts").ok();
    let mended = control.play(&[]);
    assert_eq!(
        (mended.code, count(&mended, "one", "changed"), count(&mended, "two", "changed")),
        (0, 0, 0),
        "{mended:?}"
    );
    assert!(count(&mended, "broken", "changed") > 0);
    let again = control.play(&[]);
    for (name, _) in HOSTS {
        assert_eq!((count(&again, name, "changed"), count(&again, name, "failed")), (0, 0), "{again:?}");
    }
    the_collected_open_and_sign(&control, &HOSTS);
    a_bundle_that_is_gone_is_missed(&control);
    the_difference_is_shown_and_then_made(&control);
    nothing_tells_a_secret(&control, &[checked, first, mended, again]);
}

/// The bundle of a host, as it was collected.
#[track_caller]
fn collected(control: &Control, name: &str) -> Bundle {
    let file = control.path("collected").join(name).join("signer-bundle.age");
    let source = file.to_str().unwrap();
    assert!(Bundle::read(source).is_err(), "nobody reads it without the key");
    Bundle::read_with(source, Some(&control.path("bundle-key"))).unwrap()
}

fn the_collected_open_and_sign(control: &Control, hosts: &[(&str, u8)]) {
    for (name, last) in hosts {
        let bundle = collected(control, name);
        let endpoint = format!("10.77.0.{last}:10012").parse().unwrap();
        let signer = Node::new(endpoint, &bundle.certificate).with_macaroon(&bundle.macaroon);
        let prove = || lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey());
        control.net.allowed().inside(prove).unwrap();
    }
}

fn the_difference_is_shown_and_then_made(control: &Control) {
    let wider = ["--limit", "one", "--diff", "--extra-vars", "{\"lsm_allow\": [\"10.77.0.3\", \"10.77.0.4\"]}"];
    let checked = control.play(&[&wider[..], &["--check"]].concat());
    assert!(
        checked.stdout.contains("+write /etc/lsm/firewall.nft") && count(&checked, "one", "changed") == 1,
        "{checked:?}"
    );
    let one = &control.hosts[0];
    let allowed = || one.run(["/usr/local/bin/lsm", "allow", "list"]).ok();
    assert!(!allowed().contains("10.77.0.4"), "check mode changes nothing");
    control.play(&wider).ok();
    assert!(allowed().contains("10.77.0.4"));
}

fn a_bundle_that_is_gone_is_missed(control: &Control) {
    let one = &control.hosts[0];
    one.sh("rm /root/lsm-signer-bundle/*.age").ok();
    let checked = control.play(&["--limit", "one", "--check"]);
    assert_eq!(count(&checked, "one", "changed"), 1, "{checked:?}");
    assert_eq!(one.sh("ls /root/lsm-signer-bundle/*.age").code, 2, "check mode changes nothing");
    control.play(&["--limit", "one"]).ok();
    one.sh("ls /root/lsm-signer-bundle/*.age").ok();
}

fn nothing_tells_a_secret(control: &Control, said: &[Done]) {
    for (host, (name, _)) in control.hosts.iter().zip(HOSTS) {
        let seed = control.path("collected").join(name).join("signer-seed.age");
        let key = control.path("seed-key");
        let words = run("age", &["--decrypt", "--identity", key.to_str().unwrap(), seed.to_str().unwrap()]);
        let words: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(words.len(), 24);
        let macaroon = hex::encode(collected(control, name).macaroon.expose());
        let journal = host.run(["journalctl", "--no-pager", "-o", "cat"]).ok();
        assert!(
            journal.contains("lsm_seed") || journal.contains("seed_recipient"),
            "what Ansible logs on a host is there"
        );
        let logs = said.iter().flat_map(|done| [&done.stdout, &done.stderr]).chain([&journal]);
        for log in logs {
            for pair in words.windows(2) {
                assert!(!log.contains(&pair.join(" ")) && !log.contains(&pair.join("\\n")), "words of {name}");
            }
            assert!(!log.contains(&macaroon), "the macaroon of {name}");
        }
    }
}

/// A real cloud-init, which reads its user data from a disk as in a virtual machine without a network service.
#[test]
#[ignore = "long: a host that is made by cloud-init"]
fn a_machine_is_a_signer_after_its_first_boot() {
    if !package::has(&["age"]) {
        return;
    }
    let Some(archive) = stage::newest().and_then(|release| release.archive()) else { return };
    let Some(net) = Net::build() else { return };
    let Some(mut host) = Host::boot_of(Debian::Fleet, &net, "cloud", 2, Disk::Layer) else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(package) = package::make(folder.path()) else { return };
    let recipients = ["seed-key", "bundle-key"].map(|name| age_key(&folder.path().join(name)));
    host.copy_in(&package, "/srv/lsm.deb", 0o644);
    host.copy_in(&archive, &format!("/srv/lnd/{}", archive.file_name().unwrap().to_str().unwrap()), 0o644);
    let hash = host.run(["sha256sum", "/srv/lsm.deb"]).ok().split(' ').next().unwrap().to_owned();

    let mut data = fs::read_to_string(Path::new(ROOT).join("deploy/cloud-init/user-data.yaml")).unwrap();
    let package_url = format!("https://files.example/{}", package::name());
    for (from, to) in [
        (&*package_url, "file:///srv/lsm.deb"),
        ("PACKAGE-SHA256", &*hash),
        ("SEED-RECIPIENT", &*recipients[0]),
        ("BUNDLE-RECIPIENT", &*recipients[1]),
        (
            "--network mainnet --listen 10.0.0.5:10012 --allow 10.0.0.7",
            "--network regtest --from /srv/lnd --listen 10.77.0.2:10012 --allow 10.77.0.3",
        ),
    ] {
        assert!(data.contains(from), "{from}");
        data = data.replace(from, to);
    }
    fs::write(folder.path().join("user-data"), data).unwrap();
    fs::write(folder.path().join("meta-data"), "instance-id: lab-1\nlocal-hostname: cloud\n").unwrap();
    // No network to ask for packages: those of the example are there. Nor has this Debian the packages of locales.
    let lab =
        "locale: false\ndatasource_list: [NoCloud]\napt: {preserve_sources_list: true}\nnetwork: {config: disabled}\n";
    fs::write(folder.path().join("lab.cfg"), lab).unwrap();
    for name in ["user-data", "meta-data"] {
        host.copy_in(&folder.path().join(name), &format!("/var/lib/cloud/seed/nocloud/{name}"), 0o600);
    }
    host.copy_in(&folder.path().join("lab.cfg"), "/etc/cloud/cloud.cfg.d/99-lab.cfg", 0o644);
    host.sh(": >/etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; rm /root/lsm /etc/cloud/cloud-init.disabled")
        .ok();
    host.reboot();

    let status = host.run(["cloud-init", "status", "--wait", "--long"]);
    let log = host.sh("cat /var/log/cloud-init-output.log").stdout;
    assert!(status.stdout.contains("status: done"), "{status:?}\n{log}");
    host.run(["lsm", "status"]).ok();
    let encrypted = folder.path().join("bundle.age");
    host.copy_out("/root/collect/credentials-bundle.tar.gz.b64.age", &encrypted);
    let bundle = Bundle::read_with(encrypted.to_str().unwrap(), Some(&folder.path().join("bundle-key"))).unwrap();
    let signer = Node::new(stage::endpoint(), &bundle.certificate).with_macaroon(&bundle.macaroon);
    net.allowed().inside(|| lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey())).unwrap();
    assert_eq!(
        fs::metadata(host.path("/root/collect/seed.age")).unwrap().permissions(),
        Permissions::from_mode(0o100_600)
    );
}
