//! A caller that never stops: asks the signer's port for the wallet's state from the allowed peer, and keeps every answer.

use super::{LISTEN, certificate, endpoint, next_certificate};
use crate::lab::host::Host;
use lsm::error::Code;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::{HUNG_UP, NO_ROUTE, REFUSED, SILENT};
use lsm::signer::wallet::State;
use lsm::signer::{BROKEN, Node};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The ways of not being answered; in every other case somebody shook hands.
const UNANSWERED: [Code; 5] = [REFUSED, SILENT, NO_ROUTE, HUNG_UP, BROKEN];

/// What the caller heard: each kind of answer with how often it came.
#[derive(Default)]
struct Heard {
    answers: Mutex<BTreeMap<String, u32>>,
    /// Every certificate that a bundle could have been exported with meanwhile: who has it accepts each of them.
    pins: Mutex<Vec<Certificate>>,
    over: OnceLock<Instant>,
    /// How long after the end the first answer may come.
    patience: Duration,
}

impl Heard {
    /// True where the end was asked for, and either an answer came or none will.
    fn is_over(&self) -> bool {
        let quiet = self.answers.lock().expect("nobody panicked").is_empty();
        self.over.get().is_some_and(|asked| !quiet || asked.elapsed() > self.patience)
    }

    fn call_until_over(&self, host: &Host) {
        while !self.is_over() {
            if let Some(answer) = self.ask(host) {
                *self.answers.lock().expect("nobody panicked").entry(answer).or_default() += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One call: `None` where nobody shook hands.
    fn ask(&self, host: &Host) -> Option<String> {
        let address: SocketAddr = LISTEN.parse().expect("an address");
        let mut pins = self.pins.lock().expect("nobody panicked");
        learn(host, &mut pins);
        // A closed port is most of what there is to see: don't wait long for a dropped packet.
        let is_open = || TcpStream::connect_timeout(&address, Duration::from_millis(150)).ok();
        is_open()?;
        if certificate(host).is_none() {
            // An uninstall may have closed the port and taken the certificate since.
            return is_open().map(|_| "open while there is no certificate".to_owned());
        }
        match Node::new(endpoint(), &*pins).state() {
            Ok(state) => Some(format!("{state:?}")),
            Err(fault) if UNANSWERED.contains(&fault.code()) => None,
            // The call waited for an lnd that has a certificate made since.
            Err(_) if learn(host, &mut pins) => None,
            Err(fault) => Some(fault.to_string()),
        }
    }
}

/// Adds the certificates that are there now; true where one is new.
fn learn(host: &Host, pins: &mut Vec<Certificate>) -> bool {
    let known = pins.len();
    for is in [certificate(host), next_certificate(host)].into_iter().flatten() {
        if !pins.contains(&is) {
            pins.push(is);
        }
    }
    pins.len() > known
}

/// Calls all the while that `work` lasts, and holds every answer to be that the signer can sign.
///
/// # Panics
/// Where `work` does, another answer came, or none at all within ten seconds of its end.
#[track_caller]
pub fn call_while<T>(host: &Host, work: impl FnOnce() -> T) -> T {
    let (done, answers) = listen_while(host, Duration::from_secs(10), work);
    assert!(!answers.is_empty(), "{LISTEN} said nothing");
    done
}

/// As [`call_while`], where there may be nobody who answers.
///
/// # Panics
/// Where `work` does, or another answer came.
#[track_caller]
pub fn hold_while<T>(host: &Host, work: impl FnOnce() -> T) -> T {
    listen_while(host, Duration::ZERO, work).0
}

#[track_caller]
fn listen_while<T>(host: &Host, patience: Duration, work: impl FnOnce() -> T) -> (T, BTreeMap<String, u32>) {
    let heard = Heard { patience, ..Heard::default() };
    let done = std::thread::scope(|threads| {
        threads.spawn(|| host.allowed().inside(|| heard.call_until_over(host)));
        let done = catch_unwind(AssertUnwindSafe(work));
        // Also after a panic: the scope waits for its threads.
        heard.over.get_or_init(Instant::now);
        done
    });
    let done = done.unwrap_or_else(|panic| resume_unwind(panic));
    let answers = heard.answers.into_inner().expect("the caller did not panic");
    let good = format!("{:?}", State::Active);
    assert!(answers.keys().all(|answer| *answer == good), "{LISTEN} said: {answers:?}");
    (done, answers)
}
