//! One column of the matrix: the hostile program under some layers, and what came of each of its attempts.

use super::container::{self, Container};
use super::servers::{FAR, NEAR, Servers};
use crate::lab::wait_for;
use crate::stage::Stage;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where lnd's own files are, inside.
const FOLDER: &str = "/var/lib/lsm/signer";
/// What is to be tried, and what came of it, in lnd's folder.
const PLAN: &str = "escape.plan";
const RESULT: &str = "escape.result";
/// The hostile program where anybody may run it, inside.
const PROGRAM: &str = "/usr/local/lib/escape/hostile";
const SETUID: &str = "/usr/local/lib/escape/setuid";
const LSM: &str = "/usr/local/lib/lsm/lsm";
const POLICY: &str = "/etc/lsm/signer-launch.toml";
const DROP_IN: &str = "/run/systemd/system/lsm@signer.service.d/zz-escape.conf";
/// How a program is started as lnd's user.
pub const AS_LND: &str = "setpriv --reuid lsm-signer --regid lsm-signer --clear-groups";
/// Long after a column would have ended.
const PATIENCE: Duration = Duration::from_secs(100);
/// The files of others that hold a token to be read, and their modes.
const SECRETS: [(&str, &str); 5] = [
    ("/root/secret", "600"),
    ("/home/other/secret", "644"),
    ("/srv/secret", "644"),
    ("/etc/credstore.encrypted/other", "600"),
    ("/var/lib/lsm/other/secret", "600"),
];

/// One way out, as the hostile program lists it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What it is about.
    pub group: String,
    /// Who can do it without a sandbox.
    pub who: String,
    /// How it shows.
    proof: String,
    /// Its name.
    pub name: String,
}

/// What stands between the hostile program and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layers {
    /// Nothing, as lnd's user.
    NoneAsUser,
    /// Nothing, as root.
    NoneAsRoot,
    /// systemd's unit.
    Unit,
    /// `lsm launch`.
    Launcher,
    /// Both, as installed.
    Both,
    /// A container of lsm's, and its packet filter.
    Container,
    /// With the launcher in it, as installed.
    Contained,
}

impl Layers {
    fn is_container(self) -> bool {
        matches!(self, Self::Container | Self::Contained)
    }

    /// lnd's folder, as the host has it.
    fn folder(self) -> &'static str {
        if self.is_container() { container::FOLDER } else { FOLDER }
    }

    fn plan(self) -> String {
        format!("{}/{PLAN}", self.folder())
    }

    fn result(self) -> String {
        format!("{}/{RESULT}", self.folder())
    }

    /// How a program of the host is started as lnd's user.
    fn as_lnd(self) -> &'static str {
        if self.is_container() { container::AS_LND } else { AS_LND }
    }

    /// That user and its group, as chown(1) takes them.
    fn owner(self) -> &'static str {
        if self.is_container() { container::OWNER } else { "lsm-signer:lsm-signer" }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It got there.
    Open,
    /// It was told no.
    Refused,
    /// It ended the program.
    Ended,
}

/// The host with the hostile program in lnd's place.
pub struct Field<'a> {
    stage: &'a Stage,
    servers: Servers,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// lnd's program.
    program: String,
    columns: u32,
    /// Where there is one too.
    container: Option<Container>,
}

impl<'a> Field<'a> {
    /// Puts the program at `hostile` into lnd's place on the installed host.
    pub fn take(stage: &'a Stage, hostile: &Path) -> Self {
        let host = &stage.host;
        host.run(["systemctl", "stop", "lsm@signer"]).ok();
        let program = format!("/usr/local/lib/lsm/lnd/{}/lnd", stage.release.version);
        host.copy_in(hostile, PROGRAM, 0o755);
        host.copy_in(hostile, SETUID, 0o4755);
        host.sh(&format!(
            "mkdir -p /root/kept && cp -a {program} /etc/lsm/signer-lnd.conf {POLICY} /etc/shadow /root/kept/ && hostname >/root/kept/name && \
             cat {PROGRAM} >{program} && mkdir -p /home/other /var/lib/lsm/other /run/lsm/other && \
             chmod 700 /var/lib/lsm/other /run/lsm/other"
        ))
        .ok();
        let listed = host.run([PROGRAM, "list"]).ok();
        let attempts = listed.lines().map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut next = || fields.next().expect("four fields");
            Attempt { group: next(), who: next(), proof: next(), name: next() }
        });
        Self {
            attempts: attempts.collect(),
            servers: Servers::start(stage),
            stage,
            program,
            columns: 0,
            container: None,
        }
    }

    /// Tries it in a container too.
    pub fn with(mut self, container: Container) -> Self {
        self.container = Some(container);
        self
    }

    /// Puts the real lnd back and takes away what the attempts need.
    pub fn give_back(mut self) {
        if let Some(container) = self.container.take() {
            container.give_back(self.stage);
        }
        self.stage.host.sh(&format!("systemctl stop lsm@signer; rm -f {DROP_IN}")).ok();
        self.restore();
        self.stage.host.sh(&format!("cat /root/kept/lnd >{} && systemctl daemon-reload", self.program)).ok();
    }

    /// Has the program under `layers` take as much of `what` as it can: how often it could, and why no more.
    pub fn exhaust(&self, layers: Layers, what: &str) -> (u32, u32) {
        let plan = format!("exhaust {what}\nstay yes\n");
        self.write(layers, &plan);
        self.stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
        self.serve(layers);
        let result = fs::read_to_string(self.stage.host.path(&layers.result())).expect("the result");
        let took = result.lines().find_map(|line| line.strip_prefix("took ")?.split_once(", then "));
        let (count, errno) = took.unwrap_or_else(|| panic!("{what}: {result}"));
        (count.parse().expect("a number"), errno.parse().expect("a number"))
    }

    fn restore(&self) {
        self.stage
            .host
            .sh(&format!(
                "cat /root/kept/signer-lnd.conf >/etc/lsm/signer-lnd.conf; cat /root/kept/signer-launch.toml >{POLICY}; \
                 cat /root/kept/shadow >/etc/shadow; chmod 700 {FOLDER}; hostname -F /root/kept/name; \
                 rm -rf /etc/escaped /usr/local/lib/lsm/lnd/escaped /var/lib/lsm/other/escaped /srv/board /root/escaped \
                 /tmp/escaped /var/tmp/escaped /dev/shm/escaped /dev/escape; find /run/lsm/signer /run/lsm/signer-admin -mindepth 1 -delete; \
                 cd {FOLDER} && \
                 find . -mindepth 1 -maxdepth 1 ! -name data ! -name logs ! -name letsencrypt -exec rm -rf {{}} +"
            ))
            .ok();
        if self.container.is_some() {
            self.stage.host.sh(&format!("find {} -mindepth 1 -maxdepth 1 -exec rm -rf {{}} +", container::FOLDER)).ok();
        }
    }

    fn write(&self, layers: Layers, plan: &str) {
        fs::write(self.stage.host.path(&layers.plan()), plan).expect("the plan");
        let (plan, result, owner) = (layers.plan(), layers.result(), layers.owner());
        self.stage.host.sh(&format!(": >{result} && chown {owner} {plan} {result}")).ok();
    }

    /// Makes the attempts `names` under `layers`.
    pub fn column(&mut self, layers: Layers, names: &[&str]) -> BTreeMap<String, Outcome> {
        self.columns += 1;
        let token = format!("token{}of{layers:?}", self.columns);
        self.restore();
        // The packet filter holds lnd's user too: alone, no layer may lean on it.
        let filter = match layers {
            Layers::Both | Layers::Container | Layers::Contained => "nft -f /etc/lsm/firewall.nft",
            _ => "nft delete table inet lsm || true",
        };
        self.stage.host.sh(filter).ok();
        self.plant(&token);
        let processes = self.processes(layers, &token);
        self.write_plan(layers, &token, &processes, names);
        self.servers.heard();
        match layers {
            Layers::NoneAsUser => self.repeat(layers, &format!("{AS_LND} {PROGRAM}")),
            Layers::NoneAsRoot => self.repeat(layers, PROGRAM),
            Layers::Launcher => {
                self.repeat(layers, &format!("{AS_LND} {LSM} launch --policy {POLICY} -- {}", self.program));
            }
            Layers::Unit | Layers::Both => self.serve(layers),
            Layers::Container | Layers::Contained => {
                let container = self.container.as_ref().expect("a container");
                self.repeat(layers, &container.prepare(self.stage, layers));
            }
        }
        let heard = self.servers.heard();
        self.stage.host.run(["systemctl", "stop", "lsm@signer"]).ok();
        let result = fs::read(self.stage.host.path(&layers.result())).expect("the result");
        let result = String::from_utf8_lossy(&result).into_owned();
        let outcome = |name: &&str| {
            let attempt = self.attempts.iter().find(|a| a.name == **name).expect("an attempt");
            let open = self.is_open(layers, attempt, &token, &processes, &heard, &result);
            let began = result.lines().any(|line| line == format!("begin {name}"));
            assert!(began, "{layers:?}: {name} was never tried: {result}");
            let ended = !result.lines().any(|line| is_about(line, "refused", name) || is_about(line, "done", name));
            let outcome = if open {
                Outcome::Open
            } else if ended {
                Outcome::Ended
            } else {
                Outcome::Refused
            };
            ((*name).to_owned(), outcome)
        };
        let outcomes = names.iter().map(outcome).collect();
        for pid in processes.values() {
            self.stage.host.run(["kill", "-KILL", pid]);
        }
        outcomes
    }

    /// What is secret, and what all may write.
    fn plant(&self, token: &str) {
        let secrets = SECRETS.map(|(path, mode)| format!("echo {token} >{path} && chmod {mode} {path}")).join(" && ");
        self.stage
            .host
            .sh(&format!("{secrets} && echo '{token}:*:::::::' >>/etc/shadow && : >/srv/board && chmod 666 /srv/board"))
            .ok();
    }

    /// Processes to be spied out and to be ended: what the plan calls them, and their ids.
    fn processes(&self, layers: Layers, token: &str) -> BTreeMap<&'static str, String> {
        let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let start = |line: String| {
            let script = format!("{line} >/srv/address 2>/srv/errors & echo $!");
            self.stage.host.sh(&script).ok().trim().to_owned()
        };
        let sleep = |who: &str| start(format!("{who} sleep 600"));
        let lnd = layers.as_lnd();
        let mut processes = BTreeMap::from([("prey", sleep(lnd)), ("quarry", sleep(lnd)), ("stranger", sleep(other))]);
        processes.insert("victim", start(format!("{lnd} env SECRET={token} {PROGRAM} victim {token}")));
        processes
    }

    fn write_plan(&self, layers: Layers, token: &str, processes: &BTreeMap<&str, String>, names: &[&str]) {
        let address = wait_for("the victim's address", Duration::from_secs(10), || {
            let said = fs::read_to_string(self.stage.host.path("/srv/address")).ok()?;
            said.ends_with('\n').then(|| said.trim().to_owned())
        });
        let peers = (self.stage.host.allowed(), self.stage.host.stranger());
        let (lnd, lsm) = if layers.is_container() { container::PROGRAMS } else { (self.program.as_str(), LSM) };
        let mut plan = format!(
            "token {token}\naddress {address}\nnear {NEAR}\nfar {FAR}\npeer4 {}\npeer6 {}\nstranger4 {}\ndisk {}\n\
             program {lnd}\nlsm {lsm}\nsetuid {SETUID}\n",
            peers.0.v4,
            peers.0.v6,
            peers.1.v4,
            disk()
        );
        if matches!(layers, Layers::NoneAsUser | Layers::NoneAsRoot) {
            plan.push_str("apart yes\n");
        }
        if matches!(layers, Layers::Unit | Layers::Both) {
            plan.push_str("stay yes\n");
        }
        processes.iter().for_each(|(name, pid)| plan.push_str(&format!("{name} {pid}\n")));
        names.iter().for_each(|name| plan.push_str(&format!("try {name}\n")));
        self.write(layers, &plan);
    }

    /// Starts the program again and again until it says that it is through.
    fn repeat(&self, layers: Layers, line: &str) {
        let script = format!("until grep -qx end {}; do {line} >/dev/null 2>>/srv/errors; done", layers.result());
        let done = self.stage.host.run(["timeout", "-s", "KILL", "100", "sh", "-c", &script]);
        let seen = || fs::read_to_string(self.stage.host.path(&layers.result())).unwrap_or_default();
        let errors = || fs::read_to_string(self.stage.host.path("/srv/errors")).unwrap_or_default();
        assert_eq!(done.code, 0, "{line} does not come to an end: {}\n{}", seen(), errors());
    }

    /// Has systemd start the program, in place of lnd, as installed or without the launcher.
    fn serve(&self, layers: Layers) {
        // It never becomes able to sign, and is started again at once: neither is part of the sandbox.
        let mut drop_in = "[Service]\nExecStartPost=\nRestartSec=20ms\n".to_owned();
        if layers == Layers::Unit {
            drop_in.push_str(&format!("ExecStart=\nExecStart={}\n", self.program));
        }
        let host = &self.stage.host;
        let path = host.path(DROP_IN);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the drop-in's folder");
        fs::write(path, drop_in).expect("the drop-in");
        host.sh("systemctl daemon-reload && systemctl reset-failed && systemctl start lsm@signer").ok();
        let result = || fs::read_to_string(host.path(&layers.result())).unwrap_or_default();
        let started = Instant::now();
        while !result().lines().any(|line| line == "end") {
            assert!(started.elapsed() < PATIENCE, "{layers:?}: not through after {PATIENCE:?}: {}", result());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it got there, from outside where that shows.
    fn is_open(
        &self,
        layers: Layers,
        attempt: &Attempt,
        token: &str,
        processes: &BTreeMap<&str, String>,
        heard: &HashSet<String>,
        result: &str,
    ) -> bool {
        let host = &self.stage.host;
        let done = result.lines().filter(|line| is_about(line, "done", &attempt.name));
        match attempt.proof.split_once(' ') {
            None if attempt.proof == "secret" => done.into_iter().any(|line| line.contains(token)),
            None if attempt.proof == "heard" => heard.contains(&attempt.name),
            None if attempt.proof == "hostname" => host.run(["hostname"]).ok().trim() == token,
            // A container's settings have another name.
            Some(("file", path)) if layers.is_container() && path.starts_with("/etc/lsm/") => done.count() > 0,
            Some(("file", path)) => fs::read_to_string(host.path(path)).is_ok_and(|text| text.contains(token)),
            Some(("ended", key)) => !host.path(&format!("/proc/{}", processes[key])).exists(),
            _ => done.count() > 0,
        }
    }
}

/// Whether a line of the result says `what` about the attempt `name`.
fn is_about(line: &str, what: &str, name: &str) -> bool {
    let rest = line.strip_prefix(what).and_then(|rest| rest.strip_prefix(' ')).and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" | "))
}

/// The number of this machine's first disk, as mknod(2) takes it; 0 where it has none.
fn disk() -> u64 {
    let partitions = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let line = partitions.lines().skip(2).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let numbers = line.filter_map(|fields| Some((fields.first()?.parse().ok()?, fields.get(1)?.parse().ok()?))).next();
    numbers.map_or(0, |(major, minor)| nix::sys::stat::makedev(major, minor))
}

/// Builds the hostile program into `folder`; the error says what is missing.
pub fn build(folder: &Path) -> Result<std::path::PathBuf, String> {
    compile(folder, &[])
}

/// Builds it for other `places` than those of a unit's lnd.
pub fn compile(folder: &Path, places: &[(&str, &str)]) -> Result<std::path::PathBuf, String> {
    let program = folder.join("hostile");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape/hostile/main.rs");
    let mut said = String::new();
    // Without an interpreter and libraries, of which its sandbox has none.
    for target in ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"] {
        let mut command = Command::new(&rustc);
        command.args(["--edition=2024", "--crate-name=hostile", "-Cpanic=abort", "-Copt-level=1", "-Cstrip=symbols"]);
        command.args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]);
        command.envs(places.iter().copied());
        command.args(["--target", target, "-o"]).arg(&program).arg(&source);
        let output = command.output().map_err(|e| format!("no rustc: {e}"))?;
        if output.status.success() {
            return Ok(program);
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    Err(format!("the hostile program cannot be built: {said}"))
}
