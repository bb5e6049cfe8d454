//! Hostile hosts: whatever lies where the audit looks, it ends soon, with a verdict or an error, and tells no secret.

use super::{Verdicts, foreign, verdicts};
use crate::lab::host::{Debian, Host};
use crate::lab::wait_for;
use crate::stage::{self, SEED, Stage};
use data_encoding::{BASE64, HEXLOWER};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// No audit may take longer, on a busy machine and with two programs that are waited for in vain.
const SOON: Duration = Duration::from_secs(30);
/// What of memory the audit may map, in kilobytes: less than the huge files have.
const MEMORY: u32 = 1_000_000;
const HUGE: u64 = 1 << 30;
const MANY: usize = 100_000;
const LISTENERS: usize = 10_000;
const CROWD: usize = 200;
/// A password's hash that no report may show.
const HASH: &str = "$y$j9T$nobodymaysee$thishashofapassword";

/// What programs and the system's own library read too, which wait for a pipe: all in one batch, to wait once.
const SLOW: [&str; 5] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/ssh/sshd_config",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/apt/apt.conf.d/20auto-upgrades",
];

/// What the audit reads beside the texts that its areas name and lnd's folder.
const OTHERS: [&str; 29] = [
    "/etc/shadow",
    "/etc/sudoers",
    "/etc/sudoers.d/README",
    "/etc/crontab",
    "/etc/cron.d/job",
    "/etc/cron.daily/dpkg",
    "/etc/lsm/signer.toml",
    "/etc/lsm/signer-lnd.conf",
    "/etc/lsm/signer/tls.cert",
    "/etc/lsm/firewall.nft",
    "/etc/systemd/coredump.conf",
    "/var/lib/lsm/journal/signer.jsonl",
    "/etc/credstore.encrypted/lsm-signer.wallet-password",
    "/etc/systemd/system/lsm@.service",
    "/etc/systemd/system/lsm@signer.service.d/lsm.conf",
    "/etc/systemd/system/lsm-firewall.service",
    "/usr/lib/systemd/system/apt-daily.timer",
    "/usr/lib/systemd/system/apt-daily.service",
    "/usr/share/polkit-1/rules.d/systemd-networkd.rules",
    "/etc/polkit-1/rules.d/10-a.rules",
    "/root/.bash_history",
    "/root/.ssh/authorized_keys",
    "/root/notes",
    "/root/out/bundle/accounts.json",
    "/root/out/bundle/admin.macaroon",
    "/root/out/bundle/bundle.json",
    "/var/lib/apt/periodic/update-stamp",
    "/var/spool/cron/crontabs/lsm-signer",
    "/var/lib/systemd/coredump/core.lnd.1",
];

/// The dynamic linker reads it before any program begins: what waits there is not the audit.
const OF_THE_LINKER: &str = "/etc/ld.so.preload";

/// What somebody can put in a file's place, and how it is made.
type Kind = (&'static str, fn(&Path));

const KINDS: [Kind; 5] = [
    ("a pipe", |path| mkfifo(path, Mode::S_IRWXU).expect("a pipe")),
    ("a link to itself", |path| symlink(path.file_name().expect("a name"), path).expect("a link")),
    ("a huge file", |path| File::create(path).expect("a file").set_len(HUGE).expect("a hole")),
    ("a binary file", |path| fs::write(path, (0..=255).cycle().take(70_000).collect::<Vec<u8>>()).expect("a file")),
    ("a folder", |path| fs::create_dir(path).expect("a folder")),
];

/// Something in the place of a file, which is kept aside.
struct Instead {
    at: PathBuf,
    kept: PathBuf,
}

impl Instead {
    fn put(host: &Host, path: &str, make: fn(&Path)) -> Self {
        let (at, kept) = (host.path(path), host.path("/kept").join(path.replace('/', "%")));
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        fs::create_dir_all(kept.parent().expect("a folder")).expect("a folder");
        if fs::symlink_metadata(&at).is_ok() {
            fs::rename(&at, &kept).expect("what is there is kept");
        }
        make(&at);
        Self { at, kept }
    }

    fn put_back(self) {
        // Whoever waits for a pipe's other end waits no longer.
        let _ = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&self.at);
        fs::remove_file(&self.at).or_else(|_| fs::remove_dir(&self.at)).expect("it is there");
        if fs::symlink_metadata(&self.kept).is_ok() {
            fs::rename(&self.kept, &self.at).expect("what was kept is back");
        }
    }
}

/// A host on which there is every kind of file that the audit reads, and what nobody may be told of it.
struct Victim {
    stage: Stage,
    secrets: Vec<String>,
    /// What came of each check before anything hostile was there.
    clean: Verdicts,
}

impl Victim {
    #[track_caller]
    fn boot() -> Option<Self> {
        let stage = Stage::boot_of(Debian::Trixie, "hostile")?;
        // In host mode lnd sees every socket of the host.
        stage.install(&["--mode=host"]).ok();
        stage.host.sh(&format!("echo 'games:{HASH}' | chpasswd --encrypted")).ok();
        let seed = fs::read_to_string(stage.host.path(SEED)).expect("the seed");
        let words: Vec<&str> = seed.split_whitespace().take(2).collect();
        let macaroon = fs::read(stage.host.path(&format!("{}/admin.macaroon", stage::BUNDLE))).expect("a macaroon");
        let mut secrets = vec![HASH.to_owned(), words.join(" "), words.join("\\n")];
        secrets.extend([HEXLOWER.encode(&macaroon), BASE64.encode(&macaroon)]);
        stage.host.run(["rm", SEED]).ok();
        let clean = stage.audit();
        Some(Self { stage, secrets, clean })
    }

    /// As [`audit`], and holds that no fault passes for being hidden.
    #[track_caller]
    fn audit(&self, what: &str) -> Value {
        let (facts, verdicts) = audit(&self.stage, &self.secrets, what);
        let hidden = self.clean.iter().find(|(id, was)| *was == "fail" && verdicts[*id] == "pass");
        assert_eq!(hidden, None, "{what}: it passes now");
        facts
    }

    /// The texts that the areas name and the files in lnd's folder, but for what only a kernel makes.
    fn paths(&self, facts: &Value) -> Vec<String> {
        let texts = facts["texts"].as_object().expect("texts").keys().cloned();
        let texts = texts.filter(|path| ["/proc", "/sys"].iter().all(|root| !path.starts_with(root)));
        let own = self.stage.host.sh("find /var/lib/lsm/signer -type f").ok();
        let own: Vec<String> = own.lines().map(str::to_owned).collect();
        assert!(own.iter().any(|path| path.ends_with("wallet.db")), "{own:?}");
        let others = OTHERS.iter().map(|path| (*path).to_owned());
        let lnd = format!("/usr/local/lib/lsm/lnd/{}", self.stage.release.version);
        let programs = ["lnd", "provenance.json"].map(|name| format!("{lnd}/{name}"));
        let all = texts.chain(own).chain(others).chain(programs);
        all.filter(|path| path != OF_THE_LINKER && !SLOW.contains(&path.as_str())).collect()
    }

    /// Puts each kind of thing in the place of each file, some at a time.
    fn replace_files(&self, clean: &Value) {
        let paths = self.paths(clean);
        let slow = SLOW.map(str::to_owned);
        for (kind, make) in KINDS {
            for batch in paths.chunks(12).chain([&slow[..]]) {
                let put: Vec<Instead> = batch.iter().map(|path| Instead::put(&self.stage.host, path, make)).collect();
                let facts = self.audit(&format!("{kind} in place of {batch:?}"));
                put.into_iter().for_each(Instead::put_back);
                for path in batch.iter().filter(|path| clean["texts"].get(path).is_some() && kind != "a binary file") {
                    assert!(facts["texts"][path]["unknown"].is_string(), "{kind} in place of {path} is told");
                }
            }
        }
    }

    /// As a user who may read nothing of it.
    fn close_files(&self, clean: &Value) {
        let mut kept = Vec::new();
        for path in self.paths(clean).iter().map(|path| self.stage.host.path(path)).filter(|path| path.is_file()) {
            let mode = fs::metadata(&path).expect("it is there").permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("a mode");
            kept.push((path, mode));
        }
        let said = self.stage.lsm_as_nobody(&["harden", "--json"].map(str::to_owned));
        assert!(said.code == 1 && said.stderr.is_empty(), "{said:?}");
        assert_whole(&verdicts(&said.stdout));
        kept.into_iter().for_each(|(path, mode)| fs::set_permissions(path, mode).expect("a mode"));
    }

    /// While files become pipes, links, nothing and themselves again.
    fn race(&self) {
        const PATHS: [&str; 8] = [
            "/etc/login.defs",
            "/etc/sudoers",
            "/etc/crontab",
            "/etc/lsm/signer.toml",
            "/etc/lsm/signer-lnd.conf",
            "/etc/lsm/signer/tls.cert",
            "/root/out/bundle/admin.macaroon",
            "/var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db",
        ];
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for (_, make) in KINDS {
                        let put: Vec<Instead> = PATHS.map(|path| Instead::put(&self.stage.host, path, make)).into();
                        put.into_iter().for_each(Instead::put_back);
                    }
                }
            });
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..10).for_each(|_| drop(self.audit("files that come and go")));
            }));
            over.store(true, Ordering::Relaxed);
            held.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    /// Folders that hold more than anybody would put there.
    fn fill_folders(&self) {
        let heap = self.stage.host.path("/srv/heap");
        fs::create_dir(&heap).expect("a folder");
        (0..MANY).for_each(|n| drop(File::create(heap.join(format!("{n}.conf"))).expect("a file")));
        for folder in [
            "/var/lib/lsm/signer",
            "/root/heap",
            "/etc/cron.d",
            "/etc/sudoers.d",
            "/etc/ssh",
            "/etc/polkit-1/rules.d",
            "/etc/systemd/system/timers.target.wants",
            "/etc/systemd/system/lsm@signer.service.d",
            "/var/lib/systemd/coredump",
        ] {
            let script = format!("mkdir -p {folder} && mount --bind /srv/heap {folder}");
            self.stage.host.sh(&script).ok();
            self.audit(&format!("{MANY} entries in {folder}"));
            self.stage.host.run(["umount", folder]).ok();
        }
        self.stage.host.run(["rm", "-r", "/srv/heap"]).ok();
    }

    /// Sockets on every address, more than any host has.
    fn listen(&self) {
        let script = format!(
            "use Socket; my @all; for my $port (20000..{}) {{ socket(my $s, PF_INET, SOCK_STREAM, 0) or die; \
             bind($s, pack_sockaddr_in($port, INADDR_ANY)) or die; listen($s, 1) or die; push @all, $s }} sleep 3600",
            20_000 + LISTENERS - 1
        );
        let unit = ["systemd-run", "--quiet", "--unit=listeners", "--property=LimitNOFILE=20000", "perl", "-e"];
        self.stage.host.run(unit.into_iter().chain([script.as_str()])).ok();
        wait_for("the listeners", Duration::from_secs(30), || {
            let count = self.stage.host.sh("grep -c ' 0A ' /proc/net/tcp").stdout;
            count.trim().parse().ok().filter(|count: &usize| *count >= LISTENERS)
        });
        self.audit("10,000 listeners");
        self.stage.host.run(["systemctl", "stop", "listeners"]).ok();
    }

    /// Programs of somebody else's that are called lnd, many, and some that come and go, told to read what waits.
    fn crowd(&self) {
        let lay =
            "mkdir -m 777 /srv/x && cp /usr/bin/perl /srv/x/lnd && mkfifo /srv/x/pipe && ln -s pipe /srv/x/tls.cert";
        self.stage.host.sh(lay).ok();
        let run = format!(
            "for n in $(seq {CROWD}); do /srv/x/lnd -e 'sleep 3600' x --lnddir=/srv/x --configfile=/srv/x/pipe & done; \
             while :; do /srv/x/lnd -e 1 x --lnddir=/etc --configfile=/etc/shadow; done"
        );
        let unit = ["systemd-run", "--quiet", "--unit=crowd", "--uid=nobody", "sh", "-c"];
        self.stage.host.run(unit.into_iter().chain([run.as_str()])).ok();
        wait_for("the crowd", Duration::from_secs(30), || {
            let count = self.stage.host.sh("ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c /srv/x/lnd").stdout;
            count.trim().parse().ok().filter(|count: &usize| *count >= CROWD)
        });
        (0..3).for_each(|_| drop(self.audit("a crowd of lnds")));
        self.stage.host.run(["systemctl", "stop", "crowd"]).ok();
        self.stage.host.run(["rm", "-r", "/srv/x"]).ok();
    }

    /// What lnd's own user can put into its folder.
    fn plant_links(&self) {
        let plant = "cd /var/lib/lsm/signer && for name in x.macaroon x_history x.db seed tls.cert lnd.conf; do \
            ln -s /etc/shadow $name; done && ln -s /etc folder && ln -s . loop && ln /etc/shadow hard_history; \
            mkdir -p .ssh && ln -s /etc/shadow .ssh/authorized_keys && chown -hR lsm-signer: .ssh [xlsfh]*";
        self.stage.host.sh(plant).ok();
        let facts = self.audit("links to the passwords in lnd's folder");
        assert_eq!(self.stage.judge(&facts)["SECR-001"], "fail", "links are no secrets of lnd's");
    }
}

/// The facts of a host and what comes of them, after holding that they were read soon, in little memory, tell no secret, and
/// are judged whole.
#[track_caller]
fn audit(stage: &Stage, secrets: &[String], what: &str) -> (Value, Verdicts) {
    let script =
        format!("rm -f /root/facts; ulimit -v {MEMORY}; exec timeout -k 1 60 /root/lsm harden --record /root/facts");
    let start = Instant::now();
    let done = stage.host.sh(&script);
    let took = start.elapsed();
    assert!(done.code == 0 && done.stderr.is_empty() && took < SOON, "{what}: {took:?}, {done:?}");
    let text = fs::read_to_string(stage.host.path("/root/facts")).expect("facts");
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{what}: a secret is told");
    let facts = serde_json::from_str(&text).expect("JSON");
    let verdicts = stage.judge(&facts);
    assert_whole(&verdicts);
    (facts, verdicts)
}

#[track_caller]
fn assert_whole(verdicts: &Verdicts) {
    assert_eq!(verdicts.len(), lsm::harden::checks().count(), "every check says something");
}

#[test]
#[ignore = "long: every file that the audit reads, by every kind of fault"]
fn nothing_that_lies_on_a_host_stops_the_audit() {
    let Some(victim) = Victim::boot() else { return };
    let before = victim.audit("nothing yet");
    victim.replace_files(&before);
    victim.close_files(&before);
    victim.race();
    victim.fill_folders();
    victim.listen();
    victim.crowd();
    assert_eq!(victim.stage.audit(), victim.clean, "everything is back");
    victim.plant_links();
}

#[test]
fn two_audits_say_the_same_byte_for_byte() {
    let Some(victim) = Victim::boot() else { return };
    for format in ["text", "json", "sarif", "html"] {
        let [one, other] = [(); 2].map(|()| victim.stage.host.lsm(["harden", "-v", "--format", format]));
        assert!(one.code <= 1 && !one.stdout.is_empty(), "{format}: {one:?}");
        assert_eq!((one.code, one.stdout), (other.code, other.stdout), "{format}");
    }
}

#[test]
fn an_lnd_that_somebody_else_set_up_shows_nobody_the_passwords() {
    let Some(release) = stage::newest() else { return };
    let Some(host) = foreign::boot(&release) else { return };
    host.sh(&format!("echo 'games:{HASH}' | chpasswd --encrypted")).ok();
    let plant = "cd /home/lnd/.lnd && rm lnd.conf tls.cert && for name in lnd.conf tls.cert x.macaroon .bash_history; do \
        ln -s /etc/shadow $name; done && cd .. && ln -s /etc .ssh && ln -s /etc/shadow .bash_history";
    host.sh(plant).ok();
    let stage = Stage { host, release };
    let (_, verdicts) = audit(&stage, &[HASH.to_owned()], "links in lnd's folder");
    assert_eq!(verdicts["LND-001"], "error", "settings behind a link are nobody's");
    // The library that knows users waits for it; the audit asks that only for users of another directory.
    let put = Instead::put(&stage.host, "/etc/passwd", |path| mkfifo(path, Mode::S_IRWXU).expect("a pipe"));
    let (_, verdicts) = audit(&stage, &[HASH.to_owned()], "a pipe in place of the users");
    put.put_back();
    assert_eq!(verdicts["USER-001"], "error");
}
