//! A walk of random verbs and kills over one host, in which what must always hold is looked at after every step.

use super::cut::{self, Moment};
use super::held::{Held, assert_signs};
use super::verb::{NEWER, words};
use crate::lab::lnd::RELEASES;
use crate::lab::net::Met;
use crate::lab::process::Done;
use crate::lab::trace::Fate;
use crate::stage::{PORT, Stage};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Marsaglia's xorshift: a walk can be taken again with the seed that it printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The seed that `LSM_TEST_SEED` names, or another one each time.
pub fn seed() -> u64 {
    let named = std::env::var("LSM_TEST_SEED").ok().map(|text| text.parse().expect("LSM_TEST_SEED is a number"));
    named.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        u64::from(since.subsec_nanos()) | 1
    })
}

/// Takes so many steps; a signer is installed.
#[track_caller]
pub fn take(stage: &Stage, seed: u64, steps: u64) {
    let (mut dice, mut held) = (Dice(seed), Held::default());
    held.look(stage, "installed");
    for step in 0..steps {
        let arguments = pick(stage, &mut dice, step);
        let kill_at = (dice.roll(2) == 0).then(|| 1 + dice.roll(60));
        let when = format!("seed {seed}, step {step}: {}, killed at {kill_at:?}", arguments.join(" "));
        println!("{when}");
        let done = run(stage, &arguments, kill_at);
        // A verb may refuse what another that was cut off left; it may not fall over.
        assert!([0, 1, 2, 3, 128 + 9].contains(&done.code) && !done.stderr.contains("panicked"), "{when}: {done:?}");
        held.look(stage, &when);
        let met = stage.host.stranger().knock("10.77.0.2", PORT, Duration::from_millis(500));
        assert_ne!(met, Met::Open, "{when}: who is not allowed gets in");
    }
    end(stage, &mut held, &format!("seed {seed}, at the end"));
}

/// Whatever was cut off, the host becomes the same signer again.
#[track_caller]
fn end(stage: &Stage, held: &mut Held, when: &str) {
    let install = || install(stage, "end", &["--mode=isolated", "--allow=10.77.0.3"]);
    if stage.host.lsm(install()).code != 0 {
        stage.host.lsm(["rollback", "--yes"]).ok();
        stage.host.lsm(install()).ok();
    }
    held.look(stage, when);
    let mut again = install();
    again.retain(|argument| argument != "--yes");
    again.extend(["--dry-run".into(), "--json".into()]);
    assert_eq!(stage.host.lsm(&again).json(), json!({"steps": []}), "{when}");
    stage.host.lsm(words("bundle export --out /root/out/last --yes")).ok();
    stage.host.sh("rm -rf /root/out/bundle && cp -a /root/out/last /root/out/bundle").ok();
    assert_signs(stage, when);
}

fn run(stage: &Stage, arguments: &[String], kill_at: Option<u64>) -> Done {
    let mut changes = 0;
    cut::run(&stage.host, arguments, |_, moment| {
        changes += u64::from(matches!(moment, Moment::Change(_)));
        if kill_at.is_some_and(|at| changes == at) { Fate::Kill } else { Fate::Go }
    })
}

fn pick(stage: &Stage, dice: &mut Dice, step: u64) -> Vec<String> {
    let name = step.to_string();
    match dice.roll(12) {
        0 => install(stage, &name, &["--mode=host"]),
        1 => install(stage, &name, &["--mode=isolated"]),
        2 => install(stage, &name, &["--allow=10.77.0.3", "--allow=10.77.0.9"]),
        3 => words("restart --yes"),
        4 => words(&format!("bundle export --out /root/out/bundle.{name} --yes")),
        5 => words("uninstall --yes"),
        6 => words("rollback --yes"),
        7 => words("allow add 10.77.0.8 --yes"),
        8 => words("allow remove 10.77.0.8 --yes"),
        9 | 10 => words(&format!("upgrade {} --from={NEWER} --yes", RELEASES[0])),
        _ => install(stage, &name, &[]),
    }
}

/// An install whose seed, where it makes a wallet, goes into a file of its own: an earlier one is never overwritten.
fn install(stage: &Stage, name: &str, more: &[&str]) -> Vec<String> {
    let mut arguments = words("install --network=regtest --listen=10.77.0.2:10012");
    arguments.extend(source(stage));
    arguments.push(format!("--seed-out=/root/out/seed.{name}"));
    arguments.extend(more.iter().map(|more| (*more).to_owned()));
    arguments.push("--yes".into());
    arguments
}

/// The lnd that the signer has; where there is none, the newest, which reads what any left.
fn source(stage: &Stage) -> Vec<String> {
    let spec = fs::read_to_string(stage.host.path("/etc/lsm/signer.toml")).unwrap_or_default();
    if spec.contains(&stage.release.version) {
        return stage.source();
    }
    words(&format!("--release={} --from={NEWER}", RELEASES[0]))
}
