//! The guard at work: lnd asks, the judge says, the log keeps it, and only then lnd hears it.

use super::approval;
use super::budget::{Limits, Weighed};
use super::judge::{self, Refusal, Rule, Terms};
use super::log::{Heard, Log, POLICY, Verdict};
use super::policy::Current;
use super::request::Request;
use super::spend::Spend;
use super::wallet::Wallet;
use super::{SAYS, frozen, now};
use crate::error::Result;
use crate::host::notify::{notify, watchdog};
use crate::signer::Node;
use crate::signer::middleware::{Event, NAME};
use crate::ui;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
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
    /// What the operator has approved.
    pub approvals: PathBuf,
}

impl Guard {
    /// Judges what is asked of `node`, and dials it again whenever the stream has ended. Never returns.
    pub fn run(mut self, node: &Node) -> ! {
        let mut work = Work { path: self.log.clone(), log: None, policy: Current::default(), pulse: Pulse::default() };
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
                    Ok(wallet) => {
                        wallet.look_far();
                        self.terms.wallet = Some(wallet);
                    }
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
        let mut asked = None;
        let verdict = if replaceable {
            Err(Refusal::new(Rule::Replaceable, "another middleware may replace what is asked"))
        } else {
            self.judge(uri, message, at, work, &mut asked)
        };
        let (weighed, refusal) = match verdict {
            Ok(Passed::Harmless) => return None,
            Ok(Passed::Signed(weighed)) => (weighed, None),
            Err(refusal) => (Weighed::default(), Some(refusal)),
        };
        let said = match (&refusal, self.enforces) {
            (None, _) => Verdict::Passed,
            (Some(_), true) => Verdict::Refused,
            (Some(_), false) => Verdict::WouldRefuse,
        };
        let heard = Heard { at, call: uri, message, verdict: said, refusal: refusal.as_ref(), asked, weighed };
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

    /// Judges one call, and says what it asks for where it takes from the wallet; whatever goes wrong on the way is a refusal.
    fn judge(
        &mut self,
        uri: &str,
        message: &[u8],
        at: u64,
        work: &mut Work,
        asked: &mut Option<Spend>,
    ) -> Result<Passed, Refusal> {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let request = Request::read(uri, message)?;
            if request.is_harmless() {
                return judge::judge(&request, &mut self.terms).map(|_| Passed::Harmless);
            }
            if frozen(&self.frozen) {
                return Err(Refusal::new(Rule::Frozen, "the operator has frozen this signer"));
            }
            let judged = judge::judge(&request, &mut self.terms)?;
            asked.clone_from(&judged.spend);
            work.look(&self.policy, at).map_err(|e| Refusal::new(Rule::NoLog, e.cause()))?;
            // One that does not read is none: the refusal stands, and names what was asked for.
            let approvals = || approval::read(&self.approvals).unwrap_or_default();
            let limits = Limits { policy: work.policy.policy(), rates: work.policy.rates(), approvals: &approvals };
            let log = work.log.as_ref().ok_or_else(|| Refusal::new(Rule::NoLog, "the log is not open"))?;
            log.ledger().weigh(&judged, at, &limits).map(Passed::Signed)
        }));
        judged.unwrap_or_else(|_| Err(Refusal::new(Rule::GuardFault, "the guard failed while it judged")))
    }
}

/// What is passed on to lnd.
enum Passed {
    /// It signs nothing.
    Harmless,
    /// It signs; and what it is counted as.
    Signed(Weighed),
}

struct Work {
    path: PathBuf,
    log: Option<Log>,
    policy: Current,
    pulse: Pulse,
}

impl Work {
    /// The log. After a failure it is opened anew each time: it goes on once what is wrong was mended.
    fn log(&mut self) -> Result<&mut Log> {
        let log = self.log.take().map_or_else(|| Log::open(&self.path), Ok)?;
        Ok(self.log.insert(log))
    }

    /// Looks at the operator's policy of now, and tells the log where it is another one.
    fn look(&mut self, path: &Path, at: u64) -> Result<()> {
        self.policy.look(path);
        let told = self.log()?.ledger().policy().map(str::to_owned);
        if self.policy.is_told(told.as_deref()) {
            return Ok(());
        }
        let refusal = self.policy.policy().err().map(|why| Refusal::new(Rule::NoPolicy, why));
        let text = self.policy.text().to_owned();
        self.write(&Heard {
            at,
            call: POLICY,
            message: text.as_bytes(),
            verdict: if refusal.is_some() { Verdict::Refused } else { Verdict::Passed },
            refusal: refusal.as_ref(),
            asked: None,
            weighed: Weighed::default(),
        })
        .map(drop)
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
