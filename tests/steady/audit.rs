//! The kernel's audit records of refused calls, read on the machine outside of the hosts (netlink(7), linux/audit.h).

use crate::lab::wait_for;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Asks for and sets the status (AUDIT_GET, AUDIT_SET), adds a rule (AUDIT_ADD_RULE).
const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
/// A call that a seccomp filter refused (AUDIT_SECCOMP).
const SECCOMP: u16 = 1326;
/// An access that Landlock refused to a domain, and the domain, told with the first of these (AUDIT_LANDLOCK_ACCESS,
/// AUDIT_LANDLOCK_DOMAIN).
const LANDLOCK: u16 = 1423;
const DOMAIN: u16 = 1424;
/// The group that gets every record (AUDIT_NLGRP_READLOG).
const READ_LOG: u32 = 1;
/// Fields of `struct audit_status`, in 32-bit words: which are set, whether auditing is on, how many records may wait,
/// how many were lost.
const MASK: usize = 0;
const ENABLED: usize = 1;
const BACKLOG_LIMIT: usize = 5;
const LOST: usize = 6;
/// The fields in the mask: enabled, and the backlog's limit.
const BOTH: u32 = 0x01 | 0x10;
const STATUS_WORDS: usize = 11;
/// `struct audit_rule_data` without text, in 32-bit words; the first says which list, and 1 is the one for new tasks.
const RULE_WORDS: usize = 3 + 64 * 4 + 1;
const LIST_OF_TASKS: u32 = 1;

/// Reads records until it is dropped; the settings are then as they were.
pub struct Audit {
    before: Vec<u32>,
    seen: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Audit {
    /// Turns auditing on and reads from now on; an error says why this machine cannot.
    pub fn start() -> Result<Self, String> {
        let logged = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_logged").unwrap_or_default();
        if !["errno", "kill_process"].iter().all(|action| logged.split_whitespace().any(|word| word == *action)) {
            return Err(format!("this kernel logs only {logged:?} (kernel.seccomp.actions_logged)"));
        }
        let before = status().map_err(|e| format!("no audit here: {e}"))?;
        let log = open(READ_LOG).map_err(|e| format!("no audit log here: {e}"))?;
        setsockopt(&log, sockopt::RcvBuf, &(8 << 20)).map_err(|e| e.to_string())?;
        // Where auditing was ever on, the kernel follows every call of every new process, unless a rule says never. The
        // rule stays: without it that would go on after this test.
        let mut never = vec![0; RULE_WORDS];
        never[0] = LIST_OF_TASKS;
        match ask(ADD_RULE, &never) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(format!("no audit rules here: {e}")),
        }
        set(1, 8192).map_err(|e| format!("auditing cannot be turned on: {e}"))?;
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let reader = std::thread::spawn({
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            move || read(&log, &seen, &over)
        });
        Ok(Self { before, seen, over, reader: Some(reader) })
    }

    /// What was refused so far to programs below the folder `programs`, or launched by one from there.
    #[track_caller]
    pub fn refused(&self, programs: &str) -> Vec<String> {
        assert!(!self.reader.as_ref().is_none_or(JoinHandle::is_finished), "the reader of the audit log has ended");
        let seen = self.seen.lock().expect("the reader did not panic");
        let of_programs = |record: &String| record.contains(&format!("exe=\"{programs}"));
        // Only a domain's record names a program.
        let domains = seen.iter().filter(|record| of_programs(record)).filter_map(|record| word(record, "domain="));
        let domains: HashSet<_> = domains.collect();
        let of_domains = |record: &String| word(record, "domain=").is_some_and(|domain| domains.contains(domain));
        let ended = |record: &String| word(record, "status=") == Some("deallocated");
        seen.iter().filter(|r| (of_programs(r) || of_domains(r)) && !ended(r)).cloned().collect()
    }

    /// Waits for a record of something refused to a program below `programs`.
    #[track_caller]
    pub fn wait_refused(&self, programs: &str) {
        wait_for(&format!("a record of {programs}"), Duration::from_secs(5), || {
            (!self.refused(programs).is_empty()).then_some(())
        });
    }

    /// How many records the kernel has lost since the start.
    #[track_caller]
    pub fn lost(&self) -> u32 {
        status().expect("the status could be read before")[LOST].wrapping_sub(self.before[LOST])
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = set(self.before[ENABLED], self.before[BACKLOG_LIMIT]);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// Keeps every record of a refusal, until `over`.
fn read(log: &OwnedFd, seen: &Mutex<Vec<String>>, over: &AtomicBool) {
    let mut buffer = vec![0; 16 << 10];
    while !over.load(Ordering::Relaxed) {
        match recv(log.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                let (kind, body) = split(&buffer[..length]);
                let text = String::from_utf8_lossy(body).into_owned();
                if [SECCOMP, LANDLOCK, DOMAIN].contains(&kind) && may_be_ours(&text) {
                    seen.lock().expect("nobody panicked").push(format!("type={kind} {text}"));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => std::thread::sleep(Duration::from_millis(10)),
            // Also where records came too fast: what was not seen may have been a refusal.
            Err(e) => panic!("the audit log cannot be read: {e}"),
        }
    }
}

/// False where the record is about a process of another test's host.
fn may_be_ours(record: &str) -> bool {
    let group = word(record, "pid=").and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    // What has ended already cannot be told.
    group.is_none_or(|group| group.is_empty() || group.contains(&format!("/lsmlab-{}-", std::process::id())))
}

/// What follows `key` in a record.
fn word<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record.split_whitespace().find_map(|word| word.strip_prefix(key))
}

fn status() -> Result<Vec<u32>, Errno> {
    let answer = ask(GET, &[])?.into_iter().find(|(kind, _)| *kind == GET).ok_or(Errno::EPROTO)?.1;
    let words = answer.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes")));
    let words: Vec<u32> = words.collect();
    if words.len() > LOST { Ok(words) } else { Err(Errno::EPROTO) }
}

fn set(enabled: u32, backlog_limit: u32) -> Result<(), Errno> {
    let mut status = [0; STATUS_WORDS];
    (status[MASK], status[ENABLED], status[BACKLOG_LIMIT]) = (BOTH, enabled, backlog_limit);
    ask(SET, &status).map(drop)
}

fn open(groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkAudit)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Sends one request and gives the answers up to the acknowledgement.
fn ask(kind: u16, words: &[u32]) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
    /// An acknowledgement, with the error in its first word (NLMSG_ERROR).
    const ACKNOWLEDGED: u16 = 2;
    /// A request that is to be acknowledged (NLM_F_REQUEST, NLM_F_ACK).
    const FLAGS: u16 = 1 | 4;
    const HEAD: usize = 16;
    let socket = open(0)?;
    let length = u32::try_from(HEAD + words.len() * 4).expect("requests are short");
    let mut request = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &FLAGS.to_ne_bytes(), &[0; 8]].concat();
    request.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let (mut answers, mut acknowledged, mut buffer) = (Vec::new(), false, [0; 8 << 10]);
    // The kernel acknowledges AUDIT_GET before it answers.
    while !acknowledged || (kind == GET && answers.is_empty()) {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let (kind, body) = split(&buffer[..length]);
        if kind == ACKNOWLEDGED {
            let error = i32::from_ne_bytes(body.get(..4).and_then(|b| b.try_into().ok()).ok_or(Errno::EPROTO)?);
            if error != 0 {
                return Err(Errno::from_raw(-error));
            }
            acknowledged = true;
        } else {
            answers.push((kind, body.to_vec()));
        }
    }
    Ok(answers)
}

/// A netlink message's type and body. The audit log's messages do not count their head in their length.
fn split(message: &[u8]) -> (u16, &[u8]) {
    let kind = message.get(4..6).map_or(0, |two| u16::from_ne_bytes(two.try_into().expect("two bytes")));
    (kind, message.get(16..).unwrap_or_default())
}
