//! What a guard writes down and says that no lnd asks.

use super::*;
use crate::guard::entry::Entry;
use crate::guard::judge::tests::accounts;
use crate::guard::log::verify;
use crate::guard::policy::Policy;
use crate::guard::rates::Class;
use crate::guard::signed::Signed;
use crate::guard::{HOUR, replay, warnings};
use crate::signer::macaroon::{SIGNER_URIS, TAPROOT_URIS};
use crate::signer::wire::signrpc::{KeyLocator, MuSig2SessionRequest, MuSig2SessionResponse, SignMessageReq};
use prost::Message as _;
use std::path::Path;

fn work(folder: &Path) -> Work {
    Work::new(Arc::new(guard(folder)))
}

fn guard(folder: &Path) -> Guard {
    let at = |name| folder.join(name);
    Guard {
        enforces: true,
        taproot_channels: true,
        log: at("log"),
        accounts: at("accounts"),
        addresses: at("addresses"),
        frozen: at("frozen"),
        policy: at("policy"),
        approvals: at("approvals"),
        clock: at("clock"),
        forget: at("forget"),
        fence: at("fence"),
    }
}

/// What is said of a message that the node signs.
fn ask(work: &mut Work) -> Option<String> {
    let key_loc = Some(KeyLocator { key_family: 6, key_index: 0 });
    let message = SignMessageReq { msg: b"hello".to_vec(), key_loc, ..SignMessageReq::default() }.encode_to_vec();
    work.ask(Call { id: 1, uri: SIGNER_URIS[2].into(), message, replaceable: false })
}

fn entries(folder: &Path) -> Vec<Entry> {
    let read = |path: &Path, limit| file::is_there(path)?.then(|| file::read_plain(path, limit)).transpose();
    verify(&folder.join("log"), read).unwrap().entries
}

#[test]
fn what_is_asked_too_often_is_of_its_class_for_who_tries_another_policy_on_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy"), "[rates.message]\nper-hour = 1\n").unwrap();
    let mut work = work(folder.path());
    assert_eq!(ask(&mut work), None);
    assert!(ask(&mut work).is_some_and(|said| said.contains("(rate)")));
    let entries = entries(folder.path());
    assert_eq!(
        entries.last().map(|entry| (entry.class, entry.verdict)),
        Some((Some(Class::Message), Verdict::Refused))
    );
    let tried = |text: &str| replay::replay(&entries, 0, &Policy::parse(text).unwrap());
    assert_eq!((tried("").judged, tried("").passed_now), (2, 1));
    assert_eq!(tried("[rates.message]\nper-hour = 1\n").refused.len(), 1);
}

#[test]
fn a_clock_that_was_ahead_is_warned_of_until_the_operator_says_that_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let weighed = Weighed { class: Some(Class::Message), ..Weighed::default() };
    let ahead = Heard { weighed, ..Heard::new(now() + 9 * HOUR, "/a.B/C", Verdict::Passed) };
    Log::open(&folder.path().join("log")).unwrap().write(&ahead).unwrap();
    let mut work = work(folder.path());
    work.look_around();
    assert!(matches!(warnings(&work.status)[..], [what] if what.contains("lsm guard clock")), "{}", work.status);
    std::fs::write(folder.path().join("clock"), word::render(now())).unwrap();
    (0..2).for_each(|_| work.look_around());
    assert_eq!(warnings(&work.status), [""; 0]);
    let told = entries(folder.path()).iter().filter(|entry| entry.call == CLOCK).count();
    assert_eq!(told, 1);
}

#[test]
fn no_answer_leaves_that_it_was_not_asked_about_unless_its_call_signs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut work = work(folder.path());
    let leave = |work: &mut Work, uri: &str| work.leave(1, Answer { uri: uri.to_owned(), message: Some(vec![]) });
    assert_eq!(ask(&mut work), None);
    assert!(!matches!(leave(&mut work, SIGNER_URIS[2]), Leave::Never(_)));
    assert!(matches!(leave(&mut work, SIGNER_URIS[2]), Leave::Never(why) if why.contains("not asked")));
    assert!(matches!(leave(&mut work, "/lnrpc.State/GetState"), Leave::Now));
    Arc::get_mut(&mut work.guard).unwrap().enforces = false;
    assert!(matches!(leave(&mut work, SIGNER_URIS[2]), Leave::Now));
}

#[test]
fn a_session_is_signed_in_only_where_it_was_asked_whether_that_may_begin() {
    let folder = tempfile::tempdir().unwrap();
    let mut work = work(folder.path());
    let [create, register, ..] = TAPROOT_URIS;
    let session = |id| MuSig2SessionResponse { session_id: vec![id; 32] }.encode_to_vec();
    let ask = |work: &mut Work, uri: &str, message: &[u8]| {
        work.ask(Call { id: 1, uri: uri.into(), message: message.to_vec(), replaceable: false })
    };
    let key_loc = Some(KeyLocator::default());
    let begin = MuSig2SessionRequest { key_loc, ..MuSig2SessionRequest::default() }.encode_to_vec();
    assert_eq!(ask(&mut work, create, &begin), None);
    drop(work.leave(1, Answer { uri: create.into(), message: Some(session(7)) }));
    // lnd has answered one more, of which it had asked nobody.
    drop(work.leave(2, Answer { uri: create.into(), message: Some(session(8)) }));
    assert_eq!(ask(&mut work, register, &session(7)), None);
    assert!(ask(&mut work, register, &session(8)).is_some_and(|said| said.contains("(musig2-session)")));
}

#[test]
fn a_wallet_whose_accounts_lnd_cannot_tell_any_more_is_known_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let cannot = || Err(Error::new(crate::guard::NO_ACCOUNTS, "too long"));
    assert!(work(folder.path()).keep_accounts(cannot()).is_err());
    work(folder.path()).keep_accounts(Ok(accounts())).unwrap();
    assert_eq!(work(folder.path()).keep_accounts(cannot()).unwrap(), accounts());
}

#[test]
fn that_half_of_the_room_to_remember_is_taken_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy"), "[coins]\nper-day = 90000000\n").unwrap();
    let (mut work, at) = (work(folder.path()), now());
    let warned = |work: &mut Work, numbers: std::ops::Range<u32>, one: &Signed| {
        for number in numbers {
            let signed = Signed { at, txid: format!("{number:064}"), ..one.clone() };
            let weighed = Weighed { signed: Some(signed), ..Weighed::default() };
            work.write(&Heard { weighed, ..Heard::new(at, "/a.B/C", Verdict::Passed) }).unwrap();
        }
        work.look_around();
        warnings(&work.status).concat()
    };
    let several = Signed { together: true, signed: (0..1_499).map(|input| (input, 70)).collect(), ..Signed::default() };
    assert_eq!(warned(&mut work, 0..45, &several), "");
    assert!(warned(&mut work, 45..55, &several).contains("lsm guard forget"), "{}", work.status);
    // In its own room, what has left.
    let left = Signed { coins: 1, ..Signed::default() };
    assert!(!work.status.contains("a day"));
    assert!(warned(&mut work, 100..3_100, &left).contains("51 %"), "{}", work.status);
    std::fs::write(folder.path().join("policy"), "unlimited = true\n").unwrap();
    assert_eq!(warned(&mut work, 0..0, &left), "");
}

#[test]
fn an_answer_is_a_sign_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let mut work = work(folder.path());
    assert!(work.pulse.last.is_none());
    drop(work.leave(1, Answer { uri: "/lnrpc.State/GetState".to_owned(), message: None }));
    assert!(work.pulse.last.is_some());
}

#[test]
fn what_waits_is_forgotten_once_where_the_operator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = now();
    let waits = Signed { at, together: true, signed: [(0, 70)].into(), ..Signed::default() };
    let weighed = Weighed { signed: Some(waits), ..Weighed::default() };
    let heard = Heard { weighed, ..Heard::new(at, "/a.B/C", Verdict::Passed) };
    Log::open(&folder.path().join("log")).unwrap().write(&heard).unwrap();
    let mut work = work(folder.path());
    let told = |work: &mut Work| {
        work.look_around();
        entries(folder.path()).iter().filter(|entry| entry.call == FORGET).count()
    };
    assert_eq!(told(&mut work), 0);
    std::fs::write(folder.path().join("forget"), word::render(now())).unwrap();
    assert_eq!([told(&mut work), told(&mut work)], [1, 1]);
    assert_eq!(work.log().unwrap().ledger().waiting(now()), 0);
}
