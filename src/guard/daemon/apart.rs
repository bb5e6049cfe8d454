//! The work in a thread of its own: what it panics on ends neither lnd's stream nor the guard.
//!
//! A release of lsm ends where it panics (`panic = "abort"` in Cargo.toml), and before that it calls the panic hook. For this one
//! thread the hook says that it failed, and never returns. The thread stands still with all that it held; another one begins as after
//! a start. That is done some times and no more, since what the old one holds is lost.

use super::says;
use crate::error::{Error, Result};
use crate::guard::NO_ACCOUNTS;
use crate::guard::refusal::{Refusal, Rule};
use crate::guard::request;
use crate::signer::accounts::Accounts;
use crate::signer::middleware::{Answer, Call, Leave, Middleware};
use crate::ui;
use std::cell::RefCell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

/// How often it may fail before the guard ends, and begins anew with all of its memory.
const FAILURES: u32 = 5;

/// Who works: a [`Middleware`] that can also go on after one like it has failed.
pub(super) trait Worker: Middleware {
    /// What the caller is told of a call on which the one before this failed.
    fn fault(&mut self, uri: &str) -> Option<String>;
}

/// What it is told.
enum Told {
    Begin(Result<Accounts>),
    Ask(Call),
    Leave(u64, Answer),
    Fault(String),
    Idle,
}

/// What it says of that.
enum Said {
    Begun(Result<()>),
    Refused(Option<String>),
    Left(Leave),
    Done,
    Failed,
}

thread_local! {
    /// To whom this thread says that it has failed.
    static FAILS: RefCell<Option<Sender<Said>>> = const { RefCell::new(None) };
}

/// A worker apart.
pub(super) struct Apart<W> {
    make: Arc<dyn Fn() -> W + Send + Sync>,
    /// What it says is in force; else it is only written down.
    enforces: bool,
    /// How often it hears something.
    tick: Duration,
    thread: Thread,
    accounts: Option<Accounts>,
    is_asked: bool,
    /// When it heard something last.
    heard: Instant,
    failures: u32,
}

struct Thread {
    tell: Sender<Told>,
    hear: Receiver<Said>,
}

impl<W: Worker + 'static> Apart<W> {
    /// One whose work is what `make` makes.
    pub(super) fn new(enforces: bool, tick: Duration, make: impl Fn() -> W + Send + Sync + 'static) -> Self {
        stand_still_where_it_fails();
        let make: Arc<dyn Fn() -> W + Send + Sync> = Arc::new(make);
        let thread = Thread::begin(&make);
        Self { make, enforces, tick, thread, accounts: None, is_asked: false, heard: Instant::now(), failures: 0 }
    }

    /// True once lnd has asked it.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    fn tell(&mut self, told: Told) -> Said {
        self.heard = Instant::now();
        let said = self.thread.tell.send(told).ok().and_then(|()| self.thread.hear.recv().ok()).unwrap_or(Said::Failed);
        if matches!(said, Said::Failed) {
            // It stands still and says nothing more: whoever tells it something is not to wait for that.
            self.thread.hear = channel().1;
        }
        said
    }

    /// Has another take the place of one that failed.
    fn replace(&mut self) {
        self.begin_anew();
        let known =
            self.accounts.clone().ok_or_else(|| Error::new(NO_ACCOUNTS, "lnd has not said which accounts there are"));
        if !matches!(self.tell(Told::Begin(known)), Said::Begun(Ok(()))) {
            give_up();
        }
    }

    /// Has it hear something now and then where what comes is not for it: it may never be idle.
    fn look_in(&mut self) {
        if self.heard.elapsed() >= self.tick {
            self.idle();
        }
    }

    fn begin_anew(&mut self) {
        self.failures += 1;
        if self.failures > FAILURES {
            give_up();
        }
        self.thread = Thread::begin(&self.make);
    }
}

/// As where it is killed: nothing leaves before another guard is asked.
fn give_up() -> ! {
    ui::note("the guard has failed too often, and ends");
    std::process::exit(1)
}

impl<W: Worker + 'static> Middleware for Apart<W> {
    fn begin(&mut self, accounts: Result<Accounts>) -> Result<()> {
        let known = accounts.as_ref().ok().cloned();
        match self.tell(Told::Begin(accounts)) {
            Said::Begun(Ok(())) => {
                (self.accounts, self.is_asked) = (known, true);
                Ok(())
            }
            Said::Begun(begun) => begun,
            _ => {
                self.begin_anew();
                Err(Error::new(NO_ACCOUNTS, "the guard failed as it began"))
            }
        }
    }

    fn ask(&mut self, call: Call) -> Option<String> {
        if !call.replaceable && request::is_harmless(&call.uri) {
            self.look_in();
            return None;
        }
        let uri = call.uri.clone();
        match self.tell(Told::Ask(call)) {
            Said::Refused(refused) => return refused,
            _ => self.replace(),
        }
        match self.tell(Told::Fault(uri)) {
            Said::Refused(refused) => refused,
            _ => self.enforces.then(fault),
        }
    }

    fn leave(&mut self, id: u64, answer: Answer) -> Leave {
        if request::is_harmless(&answer.uri) {
            self.look_in();
            return Leave::Now;
        }
        match self.tell(Told::Leave(id, answer)) {
            Said::Left(leave) => return leave,
            _ => self.replace(),
        }
        if self.enforces { Leave::Never(fault()) } else { Leave::Now }
    }

    fn idle(&mut self) {
        if !matches!(self.tell(Told::Idle), Said::Done) {
            self.replace();
        }
    }
}

impl Thread {
    fn begin<W: Worker + 'static>(make: &Arc<dyn Fn() -> W + Send + Sync>) -> Self {
        let ((tell, told), (say, hear), make) = (channel(), channel(), Arc::clone(make));
        std::thread::spawn(move || {
            FAILS.set(Some(say.clone()));
            let mut worker = make();
            while let Ok(told) = told.recv() {
                let said = match told {
                    Told::Begin(accounts) => Said::Begun(worker.begin(accounts)),
                    Told::Ask(call) => Said::Refused(worker.ask(call)),
                    Told::Leave(id, answer) => Said::Left(worker.leave(id, answer)),
                    Told::Fault(uri) => Said::Refused(worker.fault(&uri)),
                    Told::Idle => {
                        worker.idle();
                        Said::Done
                    }
                };
                if say.send(said).is_err() {
                    return;
                }
            }
        });
        Self { tell, hear }
    }
}

/// Why a call is refused on which the guard failed.
pub(super) fn refusal() -> Refusal {
    Refusal::new(Rule::GuardFault, "the guard failed while it judged")
}

fn fault() -> String {
    says(&refusal())
}

/// Has a thread that fails say so, and stop.
fn stand_still_where_it_fails() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Some(say) = FAILS.take() {
                // Nobody waits for it where the guard ends.
                let _ = say.send(Said::Failed);
                loop {
                    std::thread::park();
                }
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::judge::tests::accounts;

    /// Panics on what it is told to, and counts what else it is asked.
    #[derive(Default)]
    struct Frail(u32);

    impl Middleware for Frail {
        fn begin(&mut self, accounts: Result<Accounts>) -> Result<()> {
            accounts.map(drop)
        }
        fn ask(&mut self, call: Call) -> Option<String> {
            assert!(!call.uri.starts_with("/panic"));
            self.0 += 1;
            Some(format!("{} since", self.0))
        }
        fn leave(&mut self, id: u64, _: Answer) -> Leave {
            assert_ne!(id, 7);
            Leave::Now
        }
        fn idle(&mut self) {
            self.0 += 100;
        }
    }

    impl Worker for Frail {
        fn fault(&mut self, uri: &str) -> Option<String> {
            assert_ne!(uri, "/panic/again");
            Some(format!("it failed on {uri}"))
        }
    }

    fn ask(apart: &mut Apart<Frail>, uri: &str) -> Option<String> {
        apart.ask(Call { id: 1, uri: uri.to_owned(), message: vec![], replaceable: false })
    }

    /// Runs the test `name` in a process of its own: a thread that stands still in the hook keeps the harness from taking that away.
    fn alone(name: &str, test: impl Fn()) {
        const ALONE: &str = "LSM_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            test();
            std::process::exit(0);
        }
        let own = std::env::current_exe().unwrap();
        let name = format!("guard::daemon::apart::tests::{name}");
        let ran = std::process::Command::new(own).args([&name, "--exact"]).env(ALONE, "").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success() && said.contains("running 1 test") && !said.contains("test result"), "{said}");
    }

    #[test]
    fn what_it_panics_on_is_refused_and_the_next_is_heard() {
        alone("what_it_panics_on_is_refused_and_the_next_is_heard", || {
            let mut apart = Apart::new(true, Duration::from_secs(60), Frail::default);
            apart.begin(Ok(accounts())).unwrap();
            for _ in 0..2 {
                assert_eq!(ask(&mut apart, "/a.B/C"), Some("1 since".to_owned()));
                assert_eq!(ask(&mut apart, "/a.B/C"), Some("2 since".to_owned()));
                assert_eq!(ask(&mut apart, "/panic"), Some("it failed on /panic".to_owned()));
            }
            // Also where the next one fails on that: the call after it finds a third.
            assert!(ask(&mut apart, "/panic/again").is_some_and(|why| why.contains("(guard-fault)")));
            assert!(ask(&mut apart, "/a.B/C").is_some());
            let answer = || Answer { uri: "/a.B/C".to_owned(), message: None };
            assert!(matches!(apart.leave(1, answer()), Leave::Now));
            assert!(matches!(apart.leave(7, answer()), Leave::Never(why) if why.contains("(guard-fault)")));
            assert!(apart.is_asked());
            assert_eq!(ask(&mut apart, "/lnrpc.State/GetState"), None);
        });
    }

    #[test]
    fn it_hears_something_also_where_nothing_that_comes_is_for_it() {
        alone("it_hears_something_also_where_nothing_that_comes_is_for_it", || {
            let mut apart = Apart::new(true, Duration::ZERO, Frail::default);
            apart.begin(Ok(accounts())).unwrap();
            assert_eq!(ask(&mut apart, "/lnrpc.State/GetState"), None);
            let answer = Answer { uri: "/lnrpc.State/GetState".to_owned(), message: None };
            assert!(matches!(apart.leave(1, answer), Leave::Now));
            assert_eq!(ask(&mut apart, "/a.B/C"), Some("201 since".to_owned()));
        });
    }

    #[test]
    fn one_that_observes_keeps_no_answer_back() {
        alone("one_that_observes_keeps_no_answer_back", || {
            let mut apart = Apart::new(false, Duration::from_secs(60), Frail::default);
            apart.begin(Ok(accounts())).unwrap();
            assert!(matches!(apart.leave(7, Answer { uri: "/a.B/C".to_owned(), message: None }), Leave::Now));
        });
    }
}
