//! The whole matrix: every step of every verb, each fault, gone on from and gone back from; and its place in the documents.

use super::cut::{self, Moment};
use super::fault::{Fault, Place};
use super::held::{Held, assert_signs};
use super::verb::Verb;
use super::{assert_back, chain};
use crate::lab::disk::Disk;
use crate::lab::lnd::Release;
use crate::lab::net::Net;
use crate::lab::snapshot::Snapshot;
use crate::lab::trace::Fate;
use crate::stage::{PASSWORD, Stage, port};
use nix::errno::Errno;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

/// The document.
const DOCUMENT: &str = "docs/fault-matrix.md";
/// Where the matrix begins in it.
const MARK: &str = "<!-- written by tests/faults.rs -->\n";

/// How often something was tried, and how often it came out as it has to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    tried: u32,
    good: u32,
}

/// What came of everything that befell the steps of one verb.
pub struct Counts {
    verb: &'static str,
    steps: usize,
    counts: BTreeMap<&'static str, Count>,
    /// What did not hold.
    pub failures: Vec<String>,
}

/// The columns, in their order: what befell each step, and what had to come of it.
pub const COLUMNS: [&str; 8] = [
    "killed before, during and after: gone on",
    "killed before, during and after: rolled back",
    "power cut: gone on",
    "power cut: rolled back",
    "no space",
    "no permission",
    "program missing",
    "program hanging",
];

impl Counts {
    /// Nothing yet, of a verb with so many steps.
    pub fn new(verb: &'static str, steps: usize) -> Self {
        Self { verb, steps, counts: BTreeMap::new(), failures: Vec::new() }
    }

    /// Counts `tried` of a column, all good unless `work` panics; true where they are.
    pub fn count(&mut self, column: &'static str, what: &str, tried: u32, work: impl FnOnce()) -> bool {
        let good = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        });
        println!("{} {what}: {column}: {}", self.verb, if good.is_ok() { "good" } else { "bad" });
        let count = self.counts.entry(column).or_default();
        count.tried += tried;
        match &good {
            Ok(()) => count.good += tried,
            Err(why) => self.failures.push(format!("{} {what}: {column}: {why}", self.verb)),
        }
        good.is_ok()
    }

    fn add(&mut self, other: Self) {
        for (column, count) in other.counts {
            let mine = self.counts.entry(column).or_default();
            (mine.tried, mine.good) = (mine.tried + count.tried, mine.good + count.good);
        }
        self.failures.extend(other.failures);
    }
}

/// A host that comes back to where a verb begins.
struct Range<'a> {
    stage: Stage,
    verb: &'a Verb,
    arguments: Vec<String>,
    clean: Snapshot,
    prepared: Snapshot,
    image: PathBuf,
    /// What each step is called, and how many of its calls change something.
    steps: Vec<(String, u32)>,
}

impl<'a> Range<'a> {
    /// `None`, said as a skip, where this machine has no hosts.
    #[track_caller]
    fn open(verb: &'a Verb, name: &str) -> Option<Self> {
        let stage = Stage::boot_on(&Net::build()?, name, &Release::find(verb.release)?, Disk::Image)?;
        let clean = Snapshot::of(&stage.host);
        (verb.prepare)(&stage);
        let image = stage.host.folder().join("prepared");
        let arguments = (verb.arguments)(&stage);
        let mut range = Self { prepared: clean.clone(), stage, verb, arguments, clean, image, steps: vec![] };
        range.stage.host.stop();
        range.stage.host.save_disk(&range.image);
        range.stage.host.start();
        range.prepared = Snapshot::of(&range.stage.host);
        range.steps = range.count_steps();
        range.renew();
        Some(range)
    }

    /// Runs the verb to its end once, and counts.
    fn count_steps(&self) -> Vec<(String, u32)> {
        let mut steps = Vec::new();
        let done = cut::run(&self.stage.host, &self.arguments, |step, moment| {
            match moment {
                Moment::Written(line) if line.event == "intent" => steps.push((step.to_owned(), 0)),
                Moment::Change(n) => steps.last_mut().expect("a step").1 = *n,
                _ => {}
            }
            Fate::Go
        });
        assert_eq!(done.code, 0, "{}: {}", self.verb.name, done.stderr);
        steps
    }

    /// A host as prepared.
    fn renew(&mut self) {
        self.stage.host.crash();
        self.stage.host.start_from(&self.image.clone());
    }

    fn middle(&self, step: usize) -> Place {
        Place::During(self.steps[step].1.div_ceil(2).max(1))
    }

    /// Kills at every step, at one place a time, going on until it is done; then kills once at each and goes back.
    fn kills(&mut self) -> Counts {
        let mut counts = Counts::new(self.verb.name, self.steps.len());
        let tried = u32::try_from(self.steps.len()).expect("few");
        for place in [Place::Before, Place::During(2), Place::After] {
            counts.count(COLUMNS[0], &format!("killed {place:?} each step"), tried, || {
                port::hold_while(&self.stage.host, || {
                    let killed = chain::run(&self.stage, &self.arguments, &[place], &mut Held::default());
                    assert!(killed.len() + 2 >= self.steps.len(), "only {killed:?}");
                    (self.verb.assert_done)(&self.stage, &self.clean, "gone on");
                });
            });
            self.renew();
        }
        for step in 0..self.steps.len() {
            for place in [Place::Before, self.middle(step), Place::After] {
                self.go_back(&mut counts, COLUMNS[1], step, Fault::Kill(place));
            }
            let failing = [Fault::Error(Errno::ENOSPC), Fault::Error(Errno::EACCES), Fault::Missing, Fault::Hanging];
            for (column, fault) in COLUMNS[4..].iter().zip(failing) {
                self.go_back(&mut counts, column, step, fault);
            }
        }
        counts
    }

    fn go_back(&mut self, counts: &mut Counts, column: &'static str, step: usize, fault: Fault) {
        let (name, changes) = &self.steps[step];
        if !fault.befalls(name, *changes) {
            return;
        }
        let when = format!("step {step} ({name}), {fault:?}");
        let mut makes_wallet = false;
        let good = counts.count(column, &when, 1, || {
            port::hold_while(&self.stage.host, || {
                let done = fault.run(&self.stage.host, &self.arguments, step, || {});
                let killed = matches!(fault, Fault::Kill(_));
                assert_eq!(killed, done.code == 128 + 9, "{done:?}");
                assert_ne!(done.code, 0, "{done:?}");
                let mut held = Held::default();
                held.look(&self.stage, &when);
                makes_wallet = held.has_wallet();
                // What failed was undone at once, unless a program that this needs was not to be had.
                self.stage.host.lsm(["rollback", "--yes"]).ok();
                assert_back(&self.stage, &self.prepared, |name| self.may_stay(step, name, makes_wallet), &when);
                held.look(&self.stage, &when);
            });
        });
        // A wallet stays, and so does a seed that was handed out: the next plan would be another one. What was revoked stays so.
        let stays = makes_wallet || self.stage.host.path("/root/out").exists();
        if !good || (stays && self.verb.name == "install") || self.is_done() {
            self.renew();
        }
    }

    /// What may differ after a rollback from `step`. With the old password the way back to it ends; then the new one is in force.
    fn may_stay(&self, step: usize, name: &str, wallet: bool) -> bool {
        let is_forgotten = self.steps[step].0.starts_with("discard") && name == format!("file {PASSWORD}");
        if is_forgotten {
            assert_signs(&self.stage, "with the password that is there");
        }
        is_forgotten || (self.verb.may_stay)(name, wallet)
    }

    /// True where nothing is left for the verb to do.
    fn is_done(&self) -> bool {
        let mut dry: Vec<&str> =
            self.arguments.iter().map(String::as_str).filter(|argument| *argument != "--yes").collect();
        dry.extend(["--dry-run", "--json"]);
        serde_json::from_str::<Value>(&self.stage.host.lsm(dry).stdout).is_ok_and(|plan| plan == json!({"steps": []}))
    }

    /// Cuts the power at every step; what reached the disk is gone on from, and gone back from.
    fn cuts(&mut self) -> Counts {
        let mut counts = Counts::new(self.verb.name, self.steps.len());
        let cut = self.image.with_extension("cut");
        for step in 0..self.steps.len() {
            let place = [self.middle(step), Place::After, Place::Before][step % 3];
            let when = format!("step {step} ({}), power cut {place:?}", self.steps[step].0);
            let host = &self.stage.host;
            let done = Fault::Kill(place).run(host, &self.arguments, step, || host.cut_power());
            assert_eq!(done.code, 128 + 9, "{when}: {done:?}");
            self.stage.host.crash();
            self.stage.host.save_disk(&cut);
            self.stage.host.start();
            counts.count(COLUMNS[2], &when, 1, || {
                port::hold_while(&self.stage.host, || {
                    let mut held = Held::default();
                    held.look(&self.stage, &when);
                    self.stage.host.lsm(&self.arguments).ok();
                    (self.verb.assert_done)(&self.stage, &self.clean, &when);
                    held.look(&self.stage, &when);
                });
            });
            self.stage.host.crash();
            self.stage.host.start_from(&cut);
            counts.count(COLUMNS[3], &when, 1, || {
                port::hold_while(&self.stage.host, || {
                    let mut held = Held::default();
                    held.look(&self.stage, &when);
                    self.stage.host.lsm(["rollback", "--yes"]).ok();
                    // The boot goes on meanwhile, and starts what nothing is to be done about.
                    self.stage.host.sh("timeout 120 sh -c 'until [ -z \"$(systemctl list-jobs --no-legend)\" ]; do sleep 0.2; done'").ok();
                    let may_stay = |name: &str| self.may_stay(step, name, held.has_wallet());
                    assert_back(&self.stage, &self.prepared, may_stay, &when);
                });
            });
            self.renew();
        }
        counts
    }
}

/// The matrix of one verb: kills and errors on one host, power cuts on another, at the same time. `None`, said as a skip,
/// where this machine has no hosts.
#[track_caller]
pub fn go_through(verb: &Verb) -> Option<Counts> {
    let open = |what: &str| Range::open(verb, &format!("{}-{what}", verb.name.replace(' ', "-")));
    let (mut kills, mut cuts) = (open("kills")?, open("cuts")?);
    std::thread::scope(|threads| {
        let cuts = threads.spawn(move || cuts.cuts());
        let mut counts = kills.kills();
        counts.add(cuts.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Some(counts)
    })
}

impl Counts {
    /// Of all that was tried, how much came out as it has to.
    pub fn total(&self) -> String {
        let sum = |of: fn(&Count) -> u32| self.counts.values().map(of).sum::<u32>();
        format!("{} of {}", sum(|count| count.good), sum(|count| count.tried))
    }

    /// The verb's row of the table.
    fn row(&self) -> String {
        let cell = |column| match self.counts.get(column) {
            Some(Count { tried, good }) => format!(" {good} of {tried} |"),
            None => " - |".to_owned(),
        };
        format!("| {} | {} |{}", self.verb, self.steps, COLUMNS.into_iter().map(cell).collect::<String>())
    }

    /// Puts the row into the document, where `LSM_WRITE_DOCS` is set, in the place of the verb's earlier one.
    pub fn keep(&self) {
        if std::env::var_os("LSM_WRITE_DOCS").is_none() {
            return;
        }
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().expect("no other row failed to be written");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let document = std::fs::read_to_string(&path).expect(DOCUMENT);
        let (prose, rows) = document.split_once(MARK).expect("the document has a place for the matrix");
        let start = format!("| {} |", self.verb);
        let others = rows.lines().filter(|line| line.starts_with("| ") && !line.starts_with(&start));
        let rows: Vec<&str> =
            others.filter(|line| !line.starts_with("| verb ") && !line.starts_with("| --- ")).collect();
        let head = format!("| verb | steps | {} |\n|{}", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len() + 2));
        let table = [&[head.as_str()], &rows[..], &[&self.row()]].concat().join("\n");
        std::fs::write(&path, format!("{prose}{MARK}\n{table}\n")).expect("the document is written");
    }
}
