//! The guard at work: lnd asks, the judge says, the log keeps it, and only then lnd hears it.

mod apart;
mod pulse;

use super::approval;
use super::budget::{Limits, Weighed};
use super::entry::{CLOCK, FORGET, POLICY, Verdict};
use super::judge::{self, Judged, Terms};
use super::log::{Heard, Kept, Log};
use super::policy::Current;
use super::refusal::{Refusal, Rule};
use super::request::Request;
use super::session::Sessions;
use super::wallet::Wallet;
use super::{ASKED, NO_COIN, REFUSES_ALL, SAYS, WARNS, clock, frozen, now, word};
use crate::error::{Error, Result};
use crate::facts;
use crate::host::file::{self, Access};
use crate::host::notify;
use crate::signer::accounts::Accounts;
use crate::signer::fence::Fence;
use crate::signer::middleware::{Answer, Call, Leave, Middleware, NAME};
use crate::signer::{IS_FROZEN, Node};
use crate::ui;
use apart::{Apart, Worker};
use pulse::Pulse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it waits before it dials lnd again.
const AGAIN: Duration = Duration::from_millis(50);
/// Under which name systemd keeps the connection to lnd.
const HELD: &str = "lnd";
/// How many calls may be under way whose entries are not on the disk.
const UNDER_WAY: usize = 100_000;
/// Below how many free bytes its disk counts as full.
const ROOM: u64 = 256 << 10;
/// The largest list of accounts that is kept, in bytes: lnd's own 260 have 130 KB.
const ACCOUNTS: u64 = 1 << 20;
/// From how many percent on it is told how much of what can be remembered is.
const HALF: usize = 50;

/// One guard.
pub struct Guard {
    /// It refuses; else it only writes down what it would refuse.
    pub enforces: bool,
    /// The signer's watch-only node has taproot channels.
    pub taproot_channels: bool,
    /// Where it writes down what it says.
    pub log: PathBuf,
    /// Where it writes down which accounts the wallet has.
    pub accounts: PathBuf,
    /// The file that is there while the operator has frozen the signer.
    pub frozen: PathBuf,
    /// Where the wallet's addresses are kept.
    pub addresses: PathBuf,
    /// The operator's policy.
    pub policy: PathBuf,
    /// What the operator has approved.
    pub approvals: PathBuf,
    /// Where the operator says that the clock is right.
    pub clock: PathBuf,
    /// Where the operator says that nothing more is asked for of what waits for other inputs.
    pub forget: PathBuf,
    /// Where it proves that lnd asks it, to what holds back lnd's answers until then; of one that enforces.
    pub fence: PathBuf,
}

impl Guard {
    /// Judges what is asked of `node`. Ends when lnd asks no more: the port that is bound to this service shuts with it, and the next
    /// one begins anew. While lnd does not ask yet it dials it again and again.
    ///
    /// Where it enforces, no answer of lnd's leaves without its proof that it is asked. And systemd keeps the connection to lnd, so
    /// that lnd does not learn of this process's end: it goes on asking somebody who does not answer, and refuses, until the next
    /// guard hangs up, and that begins once the port is shut. So nobody else gets its name meanwhile.
    ///
    /// # Errors
    /// Where it cannot begin.
    pub fn run(self, node: Node) -> Result<Error> {
        notify::hang_up(HELD);
        let node = if self.enforces { node.on_open(|socket| notify::keep(HELD, socket)) } else { node };
        let fence = if self.enforces { Some(Fence::bind(&self.fence)?) } else { None };
        let (guard, mut pulse, mut told) = (Arc::new(self), Pulse::default(), String::new());
        let mut work = Apart::new(guard.enforces, pulse.tick(), move || Work::new(Arc::clone(&guard)));
        loop {
            let ended = node.judge_calls(NAME, pulse.tick(), fence.as_ref(), &mut work);
            let Err(why) = ended;
            if work.is_asked() {
                return Ok(why);
            }
            // Not every try anew: lnd may be down for hours.
            if told != why.to_string() {
                told = why.to_string();
                ui::note(&format!("no stream from lnd: {why}"));
            }
            notify::notify(&format!("STATUS=waiting for lnd: {}", why.cause()));
            pulse.beat();
            std::thread::sleep(AGAIN);
        }
    }
}

/// What is passed on to lnd.
enum Passed {
    /// It signs nothing, and is not written down.
    Harmless,
    /// It is written down; and what it is counted as, where something is signed.
    Noted(Option<Box<Weighed>>),
}

/// A guard, and what it knows.
struct Work {
    guard: Arc<Guard>,
    /// What it judges by.
    terms: Terms,
    log: Option<Log>,
    /// The calls that were passed and not answered yet, each with its entry, and whether something is signed.
    passed: BTreeMap<u64, (u64, bool)>,
    policy: Current,
    /// When it last looked around.
    looked: Instant,
    /// Its disk has no room for more.
    is_full: bool,
    /// What it warns of what it remembers, as it was when it last looked around.
    crowded: String,
    /// What systemd was told last.
    status: String,
    pulse: Pulse,
}

impl Middleware for Work {
    fn begin(&mut self, accounts: Result<Accounts>) -> Result<()> {
        match Wallet::new(self.keep_accounts(accounts)?) {
            Ok(wallet) => {
                // Before that what comes back counts as leaving. Where it enforces, the port is shut meanwhile.
                wallet.gather(&self.guard.addresses, is_ready);
                self.terms.wallet = Some(wallet);
            }
            Err(e) => {
                ui::note(&e.to_string());
                is_ready();
            }
        }
        self.look_after_log();
        ui::note(&format!("the guard is asked by lnd and {}", self.does()));
        self.pulse.beat();
        Ok(())
    }

    fn ask(&mut self, call: Call) -> Option<String> {
        let refused = self.answer(&call);
        // It may never be idle.
        if self.looked.elapsed() >= self.pulse.tick() {
            self.look_around();
        }
        self.pulse.beat();
        refused
    }

    fn leave(&mut self, id: u64, answer: Answer) -> Leave {
        // A while may bring answers alone.
        self.pulse.beat();
        let passed = self.passed.remove(&id);
        // One that observes keeps no account of what it passes, and has seen all that began since it did.
        if passed.is_some() || !self.guard.enforces {
            let begun = answer.message.and_then(|message| Request::begun(&answer.uri, &message));
            begun.into_iter().for_each(|session| self.terms.sessions.note(session));
        }
        let Some((entry, signs)) = passed else { return self.leave_unknown(&answer.uri) };
        // Since it was passed.
        if signs && frozen(&self.guard.frozen) {
            return Leave::Never(says(&Refusal::new(Rule::Frozen, IS_FROZEN)));
        }
        let no_log = |why: &str| Leave::Never(says(&Refusal::new(Rule::NoLog, why)));
        match self.log.as_ref().map(|log| log.has(entry)) {
            Some(Kept::Yes) => Leave::Now,
            Some(Kept::Later(told)) => Leave::Told(told),
            Some(Kept::Never(why)) => {
                self.log = None;
                no_log(&why)
            }
            None => no_log("its log could not be written"),
        }
    }

    fn idle(&mut self) {
        self.look_around();
        self.pulse.beat();
    }
}

impl Worker for Work {
    fn fault(&mut self, uri: &str) -> Option<String> {
        let call = Call { id: 0, uri: uri.to_owned(), message: vec![], replaceable: false };
        self.conclude(&call, now(), Judged::default(), Err(apart::refusal()))
    }
}

impl Work {
    fn new(guard: Arc<Guard>) -> Self {
        let (passed, policy) = (BTreeMap::new(), Current::default());
        let terms = Terms { taproot_channels: guard.taproot_channels, wallet: None, sessions: Sessions::default() };
        Self {
            guard,
            terms,
            log: None,
            passed,
            policy,
            looked: Instant::now(),
            is_full: false,
            crowded: String::new(),
            status: String::new(),
            pulse: Pulse::default(),
        }
    }

    /// The accounts as lnd has just told them, else those that it told before. It makes one for each family that somebody asks it to
    /// sign with, at a moment when it asks nobody too, and never takes one away: that their list is too long is not to be the end.
    fn keep_accounts(&self, told: Result<Accounts>) -> Result<Accounts> {
        let (place, kept) = (&self.guard.accounts, file::read_plain(&self.guard.accounts, ACCOUNTS));
        match told {
            Ok(accounts) => {
                let text = accounts.to_json();
                if text.len() as u64 <= ACCOUNTS && kept.ok().is_none_or(|kept| kept != text) {
                    file::replace(place, &text, Access::mode(0o600))
                        .unwrap_or_else(|e| ui::note(&format!("the wallet's accounts are not written down: {e}")));
                }
                Ok(accounts)
            }
            Err(why) => {
                let before = kept.and_then(|kept| Accounts::parse(&kept)).map_err(|_| why)?;
                ui::note("lnd does not say which accounts its wallet has: it has those of before");
                Ok(before)
            }
        }
    }

    fn does(&self) -> &'static str {
        if self.guard.enforces { "enforces" } else { "observes" }
    }

    /// What the caller is told, where it is refused.
    fn answer(&mut self, call: &Call) -> Option<String> {
        let at = now();
        let mut judged = Judged::default();
        let verdict = if call.replaceable {
            Err(Refusal::new(Rule::Replaceable, "another middleware may replace what is asked"))
        } else {
            self.judge(call, at, &mut judged)
        };
        self.conclude(call, at, judged, verdict)
    }

    /// Writes down what was said of a call, and says it.
    fn conclude(&mut self, call: &Call, at: u64, judged: Judged, verdict: Result<Passed, Refusal>) -> Option<String> {
        let (weighed, refusal) = match verdict {
            Ok(Passed::Harmless) => return None,
            Ok(Passed::Noted(weighed)) => (weighed, None),
            Err(refusal) => (None, Some(refusal)),
        };
        // What is refused counts nowhere, and is of a class all the same, for who tries another policy on it.
        let unweighed = Weighed { class: judged.class, ..Weighed::default() };
        let (signs, weighed, asked) = (weighed.is_some(), weighed.map_or(unweighed, |weighed| *weighed), judged.spend);
        let said = match (&refusal, self.guard.enforces) {
            (None, _) => Verdict::Passed,
            (Some(_), true) => Verdict::Refused,
            (Some(_), false) => Verdict::WouldRefuse,
        };
        let (uri, message) = (call.uri.as_str(), call.message.as_slice());
        let refused = refusal.as_ref();
        let heard = Heard { message, refusal: refused, asked, weighed, ..Heard::new(at, uri, said) };
        let written = self.write(&heard);
        self.tell(written.as_ref().err());
        if !self.guard.enforces {
            return None;
        }
        match (refusal, written) {
            (Some(refusal), Ok(id)) => Some(format!("{}; entry {id} of its log", says(&refusal))),
            (Some(refusal), Err(_)) => Some(says(&refusal)),
            (None, Err(e)) => Some(says(&Refusal::new(Rule::NoLog, e.cause()))),
            (None, Ok(entry)) => {
                self.passed.insert(call.id, (entry, signs));
                None
            }
        }
    }

    /// Whether the answer to a call leaves of which nothing was kept: it signs nothing, or it was not asked about.
    fn leave_unknown(&self, uri: &str) -> Leave {
        if !self.guard.enforces || Request::read(uri, &[]).is_ok_and(|request| request == Request::Harmless) {
            return Leave::Now;
        }
        Leave::Never(says(&Refusal::new(Rule::GuardFault, "it was not asked about this call")))
    }

    /// Judges one call, and says what it asks for; whatever goes wrong on the way is a refusal.
    fn judge(&mut self, call: &Call, at: u64, asked: &mut Judged) -> Result<Passed, Refusal> {
        let request = Request::read(&call.uri, &call.message)?;
        if request == Request::Harmless {
            return Ok(Passed::Harmless);
        }
        if request.signs() && frozen(&self.guard.frozen) {
            return Err(Refusal::new(Rule::Frozen, IS_FROZEN));
        }
        let judged = judge::judge(&request, &mut self.terms)?;
        if !request.signs() {
            return Ok(Passed::Noted(None));
        }
        asked.clone_from(&judged);
        self.look_at_policy(at).map_err(|e| Refusal::new(Rule::NoLog, e.cause()))?;
        // One that does not read is none: the refusal stands, and names what was asked for.
        let approvals = || approval::read(&self.guard.approvals).unwrap_or_default();
        let limits = Limits { policy: self.policy.policy(), rates: self.policy.rates(), approvals: &approvals };
        let log = self.log.as_ref().ok_or_else(|| Refusal::new(Rule::NoLog, "the log is not open"))?;
        log.ledger().weigh(&judged, at, &limits).map(|weighed| Passed::Noted(Some(Box::new(weighed))))
    }

    /// Looks at the operator's policy of now, and tells the log where it is another one.
    fn look_at_policy(&mut self, at: u64) -> Result<()> {
        let told = self.log()?.ledger().told().clone();
        self.policy.look(&self.guard.policy, &told);
        if self.policy.is_told(&told) {
            return Ok(());
        }
        let refusal = self.policy.policy().err().map(|why| Refusal::new(Rule::NoPolicy, why));
        let (text, policy) = (self.policy.text().to_owned(), Some(self.policy.told()));
        let verdict = if refusal.is_some() { Verdict::Refused } else { Verdict::Passed };
        let heard = Heard { message: text.as_bytes(), policy, ..Heard::new(at, POLICY, verdict) };
        self.write(&Heard { refusal: refusal.as_ref(), ..heard }).map(drop)
    }

    /// Tells the log that the clock is right now, where the operator says so and what was signed counts as later.
    fn look_at_clock(&mut self, at: u64) -> Result<()> {
        if self.log()?.ledger().ahead_of(at).is_none() || word::said(&self.guard.clock, at).is_none() {
            return Ok(());
        }
        self.write(&Heard::new(at, CLOCK, Verdict::Passed)).map(drop)
    }

    /// Tells the log what need not be waited for any more, where the operator says so.
    fn look_at_forget(&mut self, at: u64) -> Result<()> {
        let Some(said) = word::said(&self.guard.forget, at) else { return Ok(()) };
        if self.log()?.ledger().waiting(said) == 0 {
            return Ok(());
        }
        self.write(&Heard::new(said, FORGET, Verdict::Passed)).map(drop)
    }

    /// The log, read again where somebody else touched it. After a failure it is opened anew each time: it goes on once what is
    /// wrong was mended.
    fn log(&mut self) -> Result<&mut Log> {
        let as_left = self.log.take().filter(Log::is_as_left);
        let log = as_left.map_or_else(|| Log::open(&self.guard.log), Ok)?;
        Ok(self.log.insert(log))
    }

    fn write(&mut self, heard: &Heard<'_>) -> Result<u64> {
        if self.passed.len() >= UNDER_WAY {
            let synced = self.log()?.synced();
            self.passed.retain(|_, (entry, _)| *entry > synced);
        }
        self.is_full = self.is_full && self.has_no_room();
        if self.is_full {
            return Err(self.no_room());
        }
        let written = self.log()?.write(heard);
        if written.is_err() {
            self.log = None;
        }
        written
    }

    /// What is done now and then, whether or not anybody asks for a signature.
    fn look_around(&mut self) {
        self.looked = Instant::now();
        self.terms.wallet.iter_mut().for_each(Wallet::make_room);
        self.look_after_log();
    }

    /// Says what is wrong with the log before anybody asks for a signature, and that it is mended.
    fn look_after_log(&mut self) {
        let opened = self.log().map(drop);
        self.is_full = self.has_no_room();
        let fault = opened.err().or_else(|| self.is_full.then(|| self.no_room()));
        // Also where nobody asks: what is wrong with it is to be known before.
        if fault.is_none()
            && let Err(e) = self
                .look_at_policy(now())
                .and_then(|()| self.look_at_clock(now()))
                .and_then(|()| self.look_at_forget(now()))
        {
            ui::note(&e.to_string());
        }
        self.crowded = self.look_at_room(now()).unwrap_or_default();
        self.tell(fault.as_ref());
    }

    /// What to say of what is remembered, from where half of its room is taken: that is how far a flood or many fees have filled it.
    /// Where nothing is limited the oldest is forgotten instead.
    fn look_at_room(&self, now: u64) -> Option<String> {
        self.policy.policy().ok().filter(|policy| policy.is_bounded())?;
        let (together, day) = self.log.as_ref()?.ledger().filled(now);
        let together = (together >= HALF).then(|| {
            format!(
                "{WARNS}transactions of several inputs fill {together} % of what can be remembered of them; beyond that their change \
                 counts as leaving; once nobody asks for more of them: lsm guard forget"
            )
        });
        let day = (day >= HALF).then(|| {
            format!("{WARNS}what left within a day fills {day} % of what can be remembered of it; beyond that nothing more leaves")
        });
        Some([together, day].into_iter().flatten().collect())
    }

    fn has_no_room(&self) -> bool {
        facts::free_space(&self.guard.log) < ROOM
    }

    fn no_room(&self) -> Error {
        Error::new(super::NO_ROOM, format!("{} has no room left", self.guard.log.display()))
    }

    /// Tells systemd, and so the operator, how it is.
    fn tell(&mut self, fault: Option<&Error>) {
        let status = match fault {
            Some(fault) if self.guard.enforces => format!("{REFUSES_ALL}{}", fault.cause()),
            Some(fault) => format!("writes nothing down: {}", fault.cause()),
            None => {
                let no_coin = self.policy.policy().err().map(|why| format!("; {NO_COIN}{why}")).unwrap_or_default();
                format!("{ASKED}{}{}{no_coin}", self.does(), self.warn())
            }
        };
        if status != self.status {
            if let Some(fault) = fault {
                ui::note(&format!("the guard cannot write down what it says: {fault}"));
            }
            notify::notify(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// What the operator has to know.
    fn warn(&self) -> String {
        let ahead = self.log.as_ref().and_then(|log| log.ledger().ahead_of(now()));
        let ahead = ahead.map(|until| {
            let until = clock::in_words(until);
            format!("{WARNS}the clock was ahead, and what is signed counts until {until}; if it is right now: lsm guard clock")
        });
        let near = self.terms.wallet.as_ref().and_then(Wallet::near_end).map(|(highest, end)| {
            format!(
                "{WARNS}an address with number {highest} was named, and what comes back to those from {end} on counts as leaving"
            )
        });
        [ahead, near].into_iter().flatten().chain([self.crowded.clone()]).collect()
    }
}

/// Has systemd open the port.
fn is_ready() {
    notify::notify("READY=1");
}

fn says(refusal: &Refusal) -> String {
    format!("{SAYS}{refusal}")
}

#[cfg(test)]
mod tests;
