//! lsm killed at every step, on real hosts: the next command goes on or goes back, and nothing is ever half done.

pub mod chain;
pub mod cut;
pub mod fault;
pub mod held;
pub mod matrix;
mod verb;
mod walk;

use crate::lab::disk::Disk;
use crate::lab::lnd::{RELEASES, Release};
use crate::lab::net::Net;
use crate::lab::snapshot::{Snapshot, is_kept_with_a_wallet, is_kept_without_a_wallet};
use crate::lab::trace::Fate;
use crate::stage;
use crate::stage::{Stage, port};
use fault::{Fault, Place};
use held::{Held, assert_complete};
use nix::errno::Errno;
use verb::{VERBS, Verb, consented, of_credentials, words};

/// A step is killed at one of them, the next at the next.
const PLACES: [Place; 4] = [Place::During(2), Place::After, Place::Before, Place::Told];

#[test]
fn what_is_killed_at_every_step_goes_on_until_it_is_done() {
    let Some(stage) = Stage::boot("faults-go-on") else { return };
    let (before, mut held) = (Snapshot::of(&stage.host), Held::default());
    let install = consented(stage.arguments());
    port::call_while(&stage.host, || {
        kill_each(&stage, "install", &install, &mut held);
        assert_complete(&stage, "after the last resume");
        kill_each(&stage, "uninstall", &words("uninstall --yes"), &mut held);
    });
    assert_back(&stage, &before, is_kept_with_a_wallet, "uninstalled");
    // The same wallet again; then all of it goes.
    stage.host.lsm(&install).ok();
    held.look(&stage, "installed again");
    assert_complete(&stage, "installed again");
    held.forget();
    stage.host.lsm(words("uninstall --purge --confirm=signer --yes")).ok();
    assert_back(&stage, &before, is_kept_without_a_wallet, "purged");
}

/// Kills a verb at every step until it ends well, and holds that these were many.
#[track_caller]
fn kill_each(stage: &Stage, verb: &str, arguments: &[String], held: &mut Held) {
    let killed = chain::run(stage, arguments, &PLACES, held);
    println!("MEASURED steps at which {verb} was killed, and went on: {}", killed.len());
    assert!(killed.len() >= 20, "{verb}: {killed:?}");
}

#[test]
fn what_is_killed_or_fails_goes_back_without_a_trace() {
    let Some(stage) = Stage::boot("faults-back") else { return };
    let before = Snapshot::of(&stage.host);
    let install = consented(stage.arguments_without_wallet());
    let faults = [
        (3, Fault::Missing),
        (4, Fault::Error(Errno::ENOSPC)),
        (14, Fault::Hanging),
        (16, Fault::Kill(Place::During(2))),
        (20, Fault::Error(Errno::EACCES)),
        (27, Fault::Kill(Place::After)),
    ];
    for (step, fault) in faults {
        let when = format!("{fault:?} in step {step}");
        let done = fault.run(&stage.host, &install, step, || {});
        assert_ne!(done.code, 0, "{when}: {done:?}");
        stage.host.lsm(["rollback", "--yes"]).ok();
        assert_back(&stage, &before, is_kept_without_a_wallet, &when);
    }
    // The way back is cut off too, at every step.
    let last = Fault::Kill(Place::Told).run(&stage.host, &install, 25, || {});
    assert_eq!(last.code, 128 + 9, "{last:?}");
    kill_each(&stage, "rollback", &words("rollback --yes"), &mut Held::default());
    assert_back(&stage, &before, is_kept_without_a_wallet, "rolled back at last");
}

#[test]
fn a_power_cut_is_gone_on_from_also_where_the_boot_makes_or_starts_something() {
    let (Some(release), Some(net)) = (stage::newest(), Net::build()) else { return };
    let Some(mut stage) = Stage::boot_on(&net, "faults-power", &release, Disk::Image) else { return };
    stage.host.sh("sync").ok();
    let before = Snapshot::of(&stage.host);
    let cut = |stage: &mut Stage, arguments: &[String], step, place| {
        let host = &stage.host;
        let done = Fault::Kill(place).run(host, arguments, step, || host.cut_power());
        assert_eq!(done.code, 128 + 9, "{done:?}");
        stage.host.crash();
        stage.host.start_from_disk();
    };
    let (install, uninstall) = (consented(stage.arguments()), words("uninstall --yes"));
    // The file that names lsm's folders is there, and none of the folders: the boot makes them.
    cut(&mut stage, &install, 4, Place::During(6));
    assert!(stage.host.path("/run/lsm/signer-admin").exists(), "the boot makes it");
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert_back(&stage, &before, is_kept_without_a_wallet, "rolled back after a power cut");
    cut(&mut stage, &install, 10, Place::During(6));
    stage.host.lsm(&install).ok();
    assert_complete(&stage, "installed after a power cut");
    // The signer was stopped, and what enables it is there still.
    cut(&mut stage, &uninstall, 2, Place::After);
    assert!(stage.is_active("lsm@signer.service"), "the boot starts it");
    stage.host.lsm(&uninstall).ok();
    assert_back(&stage, &before, is_kept_with_a_wallet, "uninstalled after a power cut");
}

#[test]
fn whatever_is_done_and_cut_off_in_whatever_order_keeps_the_wallet_and_the_port() {
    walk("faults-walk", 8);
}

#[test]
#[ignore = "a long walk"]
fn a_long_walk_of_verbs_and_kills_keeps_the_wallet_and_the_port() {
    walk("faults-long-walk", 120);
}

#[track_caller]
fn walk(name: &str, steps: u64) {
    let (Some(old), Some(net)) = (Release::find(RELEASES[1]), Net::build()) else { return };
    let Some(stage) = Stage::boot_in(&net, name, &old) else { return };
    verb::bring_newer(&stage);
    let seed = walk::seed();
    println!("MEASURED verbs and kills of a random walk: {steps}, seed {seed}");
    port::call_while(&stage.host, || {
        stage.install(&[]).ok();
        walk::take(&stage, seed, steps);
    });
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_an_install() {
    go_through("install");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_an_uninstall() {
    go_through("uninstall");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_change_of_the_allowlist() {
    go_through("allow add");
    go_through("allow remove");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_an_upgrade() {
    go_through("upgrade");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_macaroon() {
    let is_made = |verb: &&Verb| verb.name.starts_with("macaroon ") && !verb.name.contains("revoke");
    of_credentials().filter(is_made).for_each(|verb| go_through(verb.name));
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_revocation() {
    go_through("macaroon revoke");
    go_through("macaroon revoke --admin");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_certificate() {
    go_through("cert renew");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_switch_of_certificates() {
    go_through("cert renew --finish");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_certificate_that_leaked() {
    go_through("cert renew --now");
}

#[test]
#[ignore = "every fault at every step"]
fn nothing_is_half_done_whatever_befalls_a_change_of_the_password() {
    go_through("wallet change-password");
}

/// Each once, in the step that matters most, done when the journal does not say so yet; one after the other on one host.
#[test]
fn a_change_of_credentials_that_is_killed_goes_on() {
    let Some(stage) = Stage::boot("faults-credentials") else { return };
    let (clean, mut held) = (Snapshot::of(&stage.host), Held::default());
    stage.install(&[]).ok();
    for (name, kind) in [
        ("macaroon bake", "bake"),
        ("macaroon revoke", "revoke"),
        ("cert renew", "certificate"),
        ("cert renew --finish", "switch"),
        ("cert renew --now", "switch"),
        ("wallet change-password", "change-password"),
        ("macaroon revoke --admin", "renew-root-keys"),
    ] {
        let verb = of_credentials().find(|verb| verb.name == name).expect("a verb of the table");
        let arguments = (verb.arguments)(&stage);
        let killed = cut::run(&stage.host, &arguments, |step, moment| {
            if step.split(' ').next() == Some(kind) && Place::After.is(moment) { Fate::Kill } else { Fate::Go }
        });
        assert_eq!(killed.code, 128 + 9, "{name}: {killed:?}");
        held.look(&stage, name);
        stage.host.lsm(&arguments).ok();
        (verb.assert_done)(&stage, &clean, name);
        held.look(&stage, name);
    }
}

#[track_caller]
fn go_through(name: &str) {
    let verb = VERBS.iter().find(|verb| verb.name == name).expect("a verb of the table");
    let Some(counts) = matrix::go_through(verb) else { return };
    println!("MEASURED faults during {name} that left nothing half done: {}", counts.total());
    counts.keep();
    assert!(counts.failures.is_empty(), "{:#?}", counts.failures);
}

/// The host is as it was, but for what may stay.
#[track_caller]
fn assert_back(stage: &Stage, before: &Snapshot, may_stay: impl Fn(&str) -> bool, when: &str) {
    let differences = before.differences(&Snapshot::of(&stage.host), may_stay);
    let journal = std::fs::read_to_string(stage.host.path(held::JOURNAL)).unwrap_or_default();
    // On standard output, which is shown of a test that fails.
    println!("{}", if differences.is_empty() { "" } else { &journal });
    assert!(differences.is_empty(), "{when}: {differences:#?}");
}
