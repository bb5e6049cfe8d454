//! The guard at work: lnd asks, the judge says, the log keeps it, and only then lnd hears it.

use super::budget::{Limits, Signed};
use super::judge::{self, Refusal, Rule, Terms};
use super::log::{Heard, Log, Verdict};
use super::request::Request;
use super::wallet::Wallet;
use super::{SAYS, frozen, now};
use crate::error::Result;
use crate::host::notify::{notify, watchdog};
use crate::signer::Node;
use crate::signer::middleware::{Event, NAME};
use crate::ui;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long it waits before it dials lnd again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often systemd hears of it where nothing says how often it has to.
const TICK: Duration = Duration::from_secs(5);

/// One guard.
pub struct Guard {
    /// It refuses; else it only writes down what it would refuse.
    pub enforces: bool,
    /// What it judges by.
    pub terms: Terms,
    /// Where it writes down what it says.
    pub log: PathBuf,
    /// The file that is there while the operator has frozen the signer.
    pub frozen: PathBuf,
    /// The operator's policy.
    pub policy: PathBuf,
}

impl Guard {
    /// Judges what is asked of `node`, and dials it again whenever the stream has ended. Never returns.
    pub fn run(mut self, node: &Node) -> ! {
        let mut work = Work { path: self.log.clone(), log: None, limited: false, pulse: Pulse::default() };
        let mut told = String::new();
        loop {
            let ended = node.judge_calls(NAME, work.pulse.tick(), |event| self.hear(event, &mut work));
            let Err(why) = ended;
            // Not every try anew: lnd may be down for hours.
            if told != why.to_string() {
                told = why.to_string();
                ui::note(&format!("no stream from lnd: {why}"));
            }
            notify(&format!("STATUS=waiting for lnd: {}", why.cause()));
            // No longer what it was: lnd may come back with another wallet.
            self.terms.wallet = None;
            work.pulse.beat();
            std::thread::sleep(AGAIN);
        }
    }

    fn hear(&mut self, event: Event<'_>, work: &mut Work) -> Option<String> {
        let refused = match event {
            Event::Idle => None,
            Event::Ready(accounts) => {
                match Wallet::new(*accounts) {
                    Ok(wallet) => self.terms.wallet = Some(wallet),
                    Err(e) => ui::note(&e.to_string()),
                }
                let does = if self.enforces { "enforces" } else { "observes" };
                ui::note(&format!("the guard is asked by lnd and {does}"));
                notify(&format!("READY=1\nSTATUS=asked by lnd, {does}"));
                None
            }
            Event::Asked { uri, message, replaceable } => self.answer(uri, message, replaceable, work),
        };
        work.pulse.beat();
        refused
    }

    /// What the caller is told, where it is refused.
    fn answer(&mut self, uri: &str, message: &[u8], replaceable: bool, work: &mut Work) -> Option<String> {
        let at = now();
        let verdict = if replaceable {
            Err(Refusal::new(Rule::Replaceable, "another middleware may replace what is asked"))
        } else {
            self.judge(uri, message, at, work)
        };
        if matches!(&verdict, Ok(Passed::Harmless)) {
            return None;
        }
        let (signed, refusal) = match verdict {
            Ok(Passed::Signed(signed)) => (signed, None),
            Ok(Passed::Harmless) => (None, None),
            Err(refusal) => (None, Some(refusal)),
        };
        let said = match (&refusal, self.enforces) {
            (None, _) => Verdict::Passed,
            (Some(_), true) => Verdict::Refused,
            (Some(_), false) => Verdict::WouldRefuse,
        };
        let heard = Heard { at, call: uri, message, verdict: said, refusal: refusal.as_ref(), signed };
        let written = work.write(&heard);
        if let Err(e) = &written {
            ui::note(&format!("the guard cannot write down what it says: {e}"));
        }
        if !self.enforces {
            return None;
        }
        match (refusal, written) {
            (Some(refusal), Ok(id)) => Some(format!("{SAYS}{refusal}; entry {id} of its log")),
            (Some(refusal), Err(_)) => Some(format!("{SAYS}{refusal}")),
            (None, Err(e)) => Some(format!("{SAYS}{}", Refusal::new(Rule::NoLog, e.cause()))),
            (None, Ok(_)) => None,
        }
    }

    /// The operator's limits of now. Once there were any they do not vanish: an editor takes a file away for a moment.
    fn limits(&self, work: &mut Work) -> Result<Limits, String> {
        let limits = Limits::read(&self.policy).map_err(|e| e.cause().to_owned())?;
        if limits == Limits::default() && work.limited {
            return Err("the limits that were in force are gone; to go on without any, restart the guard".to_owned());
        }
        work.limited |= limits != Limits::default();
        Ok(limits)
    }

    /// Judges one call; whatever goes wrong on the way is a refusal.
    fn judge(&mut self, uri: &str, message: &[u8], at: u64, work: &mut Work) -> Result<Passed, Refusal> {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let request = Request::read(uri, message)?;
            if request.is_harmless() {
                return Ok(Passed::Harmless);
            }
            if frozen(&self.frozen) {
                return Err(Refusal::new(Rule::Frozen, "the operator has frozen this signer"));
            }
            let Some(spend) = judge::judge(&request, &mut self.terms)? else { return Ok(Passed::Signed(None)) };
            let limits = self.limits(work).map_err(|why| Refusal::new(Rule::NoPolicy, why))?;
            let log = work.log().map_err(|e| Refusal::new(Rule::NoLog, e.cause()))?;
            log.ledger().weigh(&spend, at, &limits).map(|signed| Passed::Signed(Some(signed)))
        }));
        judged.unwrap_or_else(|_| Err(Refusal::new(Rule::GuardFault, "the guard failed while it judged")))
    }
}

/// What is passed on to lnd.
enum Passed {
    /// It signs nothing.
    Harmless,
    /// It signs; and what it takes from the wallet's coins, where it does.
    Signed(Option<Signed>),
}

struct Work {
    path: PathBuf,
    log: Option<Log>,
    /// The operator's policy had limits since the guard began.
    limited: bool,
    pulse: Pulse,
}

impl Work {
    /// The log. After a failure it is opened anew each time: it goes on once what is wrong was mended.
    fn log(&mut self) -> Result<&mut Log> {
        let log = self.log.take().map_or_else(|| Log::open(&self.path), Ok)?;
        Ok(self.log.insert(log))
    }

    fn write(&mut self, heard: &Heard<'_>) -> Result<u64> {
        let written = self.log()?.write(heard);
        if written.is_err() {
            self.log = None;
        }
        written
    }
}

/// What systemd hears of it: that it is not hung.
struct Pulse {
    every: Duration,
    last: Option<Instant>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { every: watchdog().map_or(TICK, |limit| limit / 3), last: None }
    }
}

impl Pulse {
    fn tick(&self) -> Duration {
        self.every
    }

    fn beat(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= self.every) {
            notify("WATCHDOG=1");
            self.last = Some(Instant::now());
        }
    }
}
