//! A caller that never stops: asks the signer's port for the wallet's state from the allowed peer, and keeps every answer.

use super::{certificate, endpoint};
use crate::lab::host::Host;
use lsm::error::Code;
use lsm::signer::channel::{HUNG_UP, NO_ROUTE, REFUSED, SILENT};
use lsm::signer::wallet::State;
use lsm::signer::{BROKEN, Node};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// The ways of not being answered; in every other case somebody shook hands.
const UNANSWERED: [Code; 5] = [REFUSED, SILENT, NO_ROUTE, HUNG_UP, BROKEN];

/// The caller.
pub struct Caller<'scope> {
    thread: ScopedJoinHandle<'scope, ()>,
    heard: &'scope Heard,
}

/// What callers heard: each kind of answer with how often it came.
#[derive(Default)]
pub struct Heard {
    answers: Mutex<BTreeMap<String, u32>>,
    over: AtomicBool,
}

impl Heard {
    fn keep(&self, answer: String) {
        *self.answers.lock().expect("no caller panicked").entry(answer).or_default() += 1;
    }
}

impl<'scope> Caller<'scope> {
    /// Begins to call.
    pub fn start(threads: &'scope Scope<'scope, '_>, host: &'scope Host, heard: &'scope Heard) -> Self {
        let thread = threads.spawn(move || {
            host.allowed().inside(|| {
                while !heard.over.load(Ordering::Relaxed) {
                    if let Some(answer) = ask(host) {
                        heard.keep(answer);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        Self { thread, heard }
    }

    /// Ends it; what it heard is how often each answer came.
    ///
    /// # Panics
    /// Where the caller did.
    pub fn end(self) -> BTreeMap<String, u32> {
        self.heard.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.heard.answers.lock().expect("no caller panicked").clone()
    }
}

/// One call: `None` where nobody shook hands.
fn ask(host: &Host) -> Option<String> {
    let address: SocketAddr = super::LISTEN.parse().expect("an address");
    // A closed port is most of what there is to see: don't wait long for a dropped packet.
    TcpStream::connect_timeout(&address, Duration::from_millis(150)).ok()?;
    let Some(pin) = certificate(host) else { return Some("open before there is a certificate".to_owned()) };
    match Node::new(endpoint(), &pin).state() {
        Ok(state) => Some(format!("{state:?}")),
        Err(fault) if UNANSWERED.contains(&fault.code()) => None,
        Err(fault) => Some(fault.to_string()),
    }
}

/// What a caller may hear: that the signer can sign, and nothing else, ever.
///
/// # Panics
/// Where it heard something else, or nothing at all.
#[track_caller]
pub fn assert_only_active(heard: &BTreeMap<String, u32>) {
    let active = format!("{:?}", State::Active);
    assert!(heard.keys().eq([&active]), "10012 said: {heard:?}");
}
