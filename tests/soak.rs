//! An hour of a busy node's life: a channel is paid through both ways all the time, and every so often something goes wrong
//! between the node and its signer, at the signer, or by a stranger's hand. Each time it comes back by itself.

use crate::caller::Port;
use crate::channel_life::signer::Made;
use crate::channel_life::{Kind, Plan, life, with_signer};
use crate::credentials::put_pair;
use crate::lab::disk::Disk;
use crate::lab::host::LSM_INSIDE;
use crate::lab::lnd::{Node, RELEASES};
use crate::lab::wait_for;
use crate::limits::abuse::{Idle, call_slowly, flood, hold};
use crate::node::make_certificate_for;
use crate::stage::watch::Until;
use crate::stage::{BUNDLE, LISTEN, Stage};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two payments of one side, from the end of one to the next.
const PAUSE: Duration = Duration::from_millis(250);
/// How long each trouble lasts that has no end of its own, and how long all is calm before it.
const TROUBLE: Duration = Duration::from_secs(15);
const CALM: Duration = Duration::from_secs(30);
/// What the signer's host may write beside Debian, in megabytes: so that it can be full.
const DISK: u64 = 1400;
/// Another address of the allowed peer, which is allowed too.
const OTHER: &str = "10.77.0.129";
/// How long the certificate is valid that ends during the soak: enough for the node to take it.
const SHORT: Duration = Duration::from_secs(60);

/// What is done to bring trouble.
type Trouble = fn(&Scene<'_>);

/// What goes wrong, in turns.
const TROUBLES: [(&str, Trouble); 9] = [
    ("lnd killed", |scene| scene.at_signer("systemctl kill --signal=KILL lsm@signer")),
    ("five hundred idle connections", |scene| {
        let held = hold(scene.plan.net.allowed(), &scene.port(), OTHER, 500, Idle::Tls);
        sleep(TROUBLE);
        drop(held);
    }),
    ("slow requests without an end", |scene| {
        call_slowly(scene.plan.net.allowed(), &scene.port(), OTHER, 16, TROUBLE);
    }),
    ("half-open connections", half_open),
    ("a stranger's flood", |scene| {
        let stranger = scene.plan.net.stranger();
        flood(stranger, &scene.port(), stranger.v4, TROUBLE, 0);
    }),
    ("no network", |scene| {
        let link = |state| scene.plan.net.allowed().run(["ip", "link", "set", "eth0", state]).ok();
        link("down");
        sleep(TROUBLE);
        link("up");
    }),
    ("a full disk", |scene| {
        scene.at_signer("cat /dev/zero >/var/lib/lsm/filling 2>/dev/null || true");
        sleep(TROUBLE);
        scene.at_signer("rm /var/lib/lsm/filling");
    }),
    ("the host's firewall loaded again", |scene| scene.at_signer("systemctl restart nftables")),
    ("a certificate that ends", a_certificate_ends),
];

#[test]
#[ignore = "long: an hour of payments and troubles"]
fn a_node_with_a_channel_comes_back_from_every_trouble() {
    with_signer(RELEASES[0], false, Kind::OnDisk(Disk::Small(DISK)), |made, bob, chain, plan| {
        let bob = &*bob;
        made.signer.host.lsm(["allow", "add", &format!("{OTHER}/32"), "--yes"]).ok();
        plan.net.allowed().run(["ip", "address", "add", &format!("{OTHER}/24"), "dev", "eth0"]).ok();
        life::receive(&made.watch_only, bob, chain);
        let identity = life::connect(&made.watch_only, bob);
        let channel = life::open(&made.watch_only, bob, chain, &identity, false);
        made.watch_only.stop();
        made.watch_only.keep("SERVER_ACTIVE");
        let over = AtomicBool::new(false);
        let paid = Paid::default();
        let scene = Scene { made, bob, plan, channel: &channel, paid: &paid };
        std::thread::scope(|threads| {
            let _until = Until(&over);
            threads.spawn(|| paid.keep_paying(&scene, &over));
            scene.go_through(lasting());
        });
        scene.no_channel_is_lost();
        life::close_together(&made.watch_only, chain, &channel);
    });
}

/// How long: an hour, or LSM_TEST_SOAK seconds.
fn lasting() -> Duration {
    let named = std::env::var("LSM_TEST_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(named.unwrap_or(60 * 60))
}

/// The node, its signer, and whom it has a channel with.
struct Scene<'a> {
    made: &'a Made<'a>,
    bob: &'a Node<'a>,
    plan: &'a Plan<'a>,
    channel: &'a str,
    paid: &'a Paid,
}

impl Scene<'_> {
    /// Trouble after trouble for `lasting`, each kind once at least; after each all is well again.
    fn go_through(&self, lasting: Duration) {
        let start = Instant::now();
        let (mut used, mut worst, mut count) = (Vec::new(), vec![Duration::ZERO; TROUBLES.len()], 0);
        for (kind, (what, trouble)) in TROUBLES.iter().enumerate().cycle() {
            if start.elapsed() >= lasting && count >= TROUBLES.len() {
                break;
            }
            sleep(CALM);
            used.push(Used::of(&self.made.signer));
            trouble(self);
            worst[kind] = worst[kind].max(self.all_is_well(what));
            count += 1;
        }
        for ((what, _), worst) in TROUBLES.iter().zip(worst) {
            println!("MEASURED after {what}, a payment each way again in at most: {:.1} s", worst.as_secs_f64());
        }
        let (there, back) = (self.paid.there.load(Ordering::Relaxed), self.paid.back.load(Ordering::Relaxed));
        println!("MEASURED troubles in {} s: {count}", start.elapsed().as_secs());
        println!("MEASURED payments there and back meanwhile: {there} and {back}");
        println!("MEASURED starts of the watch-only node: {}", self.made.watch_only.starts());
        Used::is_flat(&used);
    }

    /// Waits until a payment has come through each way that began from now on. Gives how long that took.
    #[track_caller]
    fn all_is_well(&self, after: &str) -> Duration {
        let start = Instant::now();
        let (there, back) = (self.paid.there.load(Ordering::Relaxed), self.paid.back.load(Ordering::Relaxed));
        // One may have been under way.
        wait_for(&format!("payments after {after}"), PATIENCE, || {
            let more = |count: &AtomicU64, before| count.load(Ordering::Relaxed) > before + 1;
            (more(&self.paid.there, there) && more(&self.paid.back, back)).then_some(())
        });
        start.elapsed()
    }

    fn no_channel_is_lost(&self) {
        for node in [&self.made.watch_only, self.bob] {
            let channels = node.json(["listchannels"]);
            let points: Vec<_> =
                channels["channels"].as_array().expect("channels").iter().map(|c| &c["channel_point"]).collect();
            assert_eq!(points, [self.channel], "{channels}");
            let pending = node.json(["pendingchannels"]);
            for kind in ["pending_force_closing_channels", "waiting_close_channels"] {
                assert_eq!(pending[kind].as_array().map(Vec::len), Some(0), "{pending}");
            }
        }
    }

    #[track_caller]
    fn at_signer(&self, script: &str) {
        self.made.signer.host.sh(script).ok();
    }

    fn port(&self) -> Port {
        Port::new(LISTEN.parse().expect("an address"), &self.made.signer.bundle().certificate)
    }

    /// The node's operator brings it the signer's bundle of now. Its service starts it again.
    #[track_caller]
    fn take_bundle(&self) {
        self.at_signer(&format!("{LSM_INSIDE} bundle export --yes --out {BUNDLE}"));
        self.made.import_bundle(self.plan);
        // It may be down already, since its signer is.
        self.made.watch_only.cli(["stop"]);
    }
}

/// Connections whose other end is gone without a word.
fn half_open(scene: &Scene<'_>) {
    let peer = scene.plan.net.allowed();
    let address = |verb| peer.run(["ip", "address", verb, &format!("{OTHER}/24"), "dev", "eth0"]).ok();
    let held = hold(peer, &scene.port(), OTHER, 16, Idle::Tls);
    address("del");
    drop(held);
    sleep(TROUBLE);
    address("add");
}

/// A certificate that nobody renewed: the node is cut off at its next connection, until somebody does.
fn a_certificate_ends(scene: &Scene<'_>) {
    let begin = Instant::now();
    let short = time::Duration::try_from(SHORT).expect("a minute");
    put_pair(&scene.made.signer, &make_certificate_for(&["10.77.0.2"], time::Duration::days(-1), short));
    scene.at_signer("systemctl restart lsm@signer");
    scene.take_bundle();
    sleep((SHORT + Duration::from_secs(1)).saturating_sub(begin.elapsed()));
    scene.at_signer("systemctl restart lsm-proxy@signer");
    sleep(TROUBLE);
    let paid = || scene.paid.there.load(Ordering::Relaxed) + scene.paid.back.load(Ordering::Relaxed);
    let before = paid();
    sleep(Duration::from_secs(5));
    assert_eq!(paid(), before, "nothing is signed for a certificate that has ended");
    scene.at_signer(&format!("{LSM_INSIDE} cert renew --now --yes"));
    scene.take_bundle();
}

/// Payments that came through.
#[derive(Default)]
struct Paid {
    there: AtomicU64,
    back: AtomicU64,
}

impl Paid {
    /// Each side pays the other until `over`. What fails is tried again: a trouble is why.
    fn keep_paying(&self, scene: &Scene<'_>, over: &AtomicBool) {
        let (alice, bob) = (&scene.made.watch_only, scene.bob);
        let pay = |from: &Node<'_>, to: &Node<'_>, count: &AtomicU64| {
            while !over.load(Ordering::Relaxed) {
                if life::try_to_pay(from, to) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                sleep(PAUSE);
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(|| pay(alice, bob, &self.there));
            threads.spawn(|| pay(bob, alice, &self.back));
        });
    }
}

/// What the signer's lnd and its proxy use.
struct Used {
    /// Resident, in KiB.
    memory: u64,
    files: usize,
}

impl Used {
    fn of(stage: &Stage) -> Self {
        let unit = |unit: &str| {
            let shown = stage.host.run(["systemctl", "show", "--property=MainPID", "--value", unit]).ok();
            shown.trim().parse::<u32>().expect("a number")
        };
        let of_one = |pid: u32| {
            let status = fs::read_to_string(stage.proc(pid, "status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
            let memory = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
            (memory, fs::read_dir(stage.proc(pid, "fd")).map_or(0, Iterator::count))
        };
        let all = ["lsm@signer", "lsm-proxy@signer"].map(|name| of_one(unit(name)));
        Self { memory: all.iter().map(|(memory, _)| memory).sum(), files: all.iter().map(|(_, files)| files).sum() }
    }

    /// In the last third nothing is much more than in the first.
    fn is_flat(used: &[Self]) {
        let third = used.len() / 3;
        let (first, last) = (&used[..third], &used[used.len() - third..]);
        let median = |mut all: Vec<u64>| {
            all.sort_unstable();
            all[all.len() / 2]
        };
        let memory = |used: &[Self]| median(used.iter().map(|used| used.memory).collect());
        let files = |used: &[Self]| median(used.iter().map(|used| used.files as u64).collect());
        let (before, after) = (memory(first), memory(last));
        println!(
            "MEASURED memory of lnd and its proxy, first and last third: {} and {} MiB",
            before >> 10,
            after >> 10
        );
        assert!(after < before + before / 3, "memory grew from {before} to {after} KiB");
        let (before, after) = (files(first), files(last));
        println!("MEASURED their descriptors, first and last third: {before} and {after}");
        assert!(after <= before + 8, "descriptors grew from {before} to {after}");
    }
}
