//! The log on the disk: what is found in it, and what is gone on from.

use super::*;
use crate::guard::entry::POLICY;
use crate::guard::refusal::Rule;
use std::os::unix::fs::PermissionsExt;

fn heard(verdict: Verdict, refusal: Option<&Refusal>) -> Heard<'_> {
    Heard { message: b"secret", refusal, ..Heard::new(7, "/a.B/C", verdict) }
}

fn read_all(path: &Path) -> Result<Whole> {
    verify(path, |path, limit| file::is_there(path)?.then(|| file::read_plain(path, limit)).transpose())
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    read_all(path).map(|log| log.entries)
}

/// A log of four entries, written by two guards one after the other.
fn four(path: &Path) -> Vec<u8> {
    let refusal = Refusal::new(Rule::Frozen, "frozen");
    for id in [1, 3] {
        let mut log = Log::open(path).unwrap();
        assert_eq!(log.write(&heard(Verdict::Passed, None)).unwrap(), id);
        assert_eq!(log.write(&heard(Verdict::Refused, Some(&refusal))).unwrap(), id + 1);
    }
    std::fs::read(path).unwrap()
}

#[test]
fn it_goes_on_where_the_last_guard_ended_and_says_nothing_of_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = four(&path);
    let entries = read(&path).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((entries[3].rule.as_deref(), entries[3].verdict), (Some("frozen"), Verdict::Refused));
    assert!(!String::from_utf8(text).unwrap().contains("secret"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_last_entry_of_a_kind_is_found_in_the_file_before_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    four(&path);
    let last = |verdict| {
        let read = |path: &Path, limit| file::is_there(path)?.then(|| file::read_plain(path, limit)).transpose();
        find_last(&path, read, |entry| entry.verdict == verdict).unwrap().map(|entry| entry.id)
    };
    let found = || [Verdict::Passed, Verdict::Refused, Verdict::WouldRefuse].map(last);
    assert_eq!(found(), [Some(3), Some(4), None]);
    std::fs::rename(&path, full(&path, 1)).unwrap();
    assert_eq!(found(), [Some(3), Some(4), None]);
}

#[test]
fn any_line_changed_missing_moved_or_put_in_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = String::from_utf8(four(&path)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let changed = lines[1].replace("refused", "passed");
    for (what, bad) in [
        ("changed", join(&[lines[0], &changed, lines[2], lines[3]])),
        ("missing", join(&[lines[0], lines[2], lines[3]])),
        ("moved", join(&[lines[0], lines[2], lines[1], lines[3]])),
        ("twice", join(&[lines[0], lines[1], lines[1], lines[2]])),
        ("an empty line", text.replacen('\n', "\n\n", 1)),
    ] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(read(&path).unwrap_err().code(), BROKEN, "{what}");
        assert_eq!(Log::open(&path).err().map(|e| e.code()), Some(BROKEN), "{what}");
    }
    // The last byte: of a full file nothing is cut off, and of the one that is written it is told.
    let no_end = [&text.as_bytes()[..text.len() - 1], b"x"].concat();
    std::fs::write(&path, &no_end).unwrap();
    let log = read_all(&path).unwrap();
    assert_eq!((log.entries.len(), log.rest), (3, lines[3].len() + 1));
    std::fs::write(full(&path, 1), &no_end).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&path).unwrap_err().code(), BROKEN);
    assert_eq!(Log::open(&path).err().map(|e| e.code()), Some(BROKEN));
}

/// Who writes it can make another chain of it: what was seen before is not in that.
#[test]
fn what_was_seen_before_is_found_or_missed_in_a_log_that_was_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = four(&path);
    let seen: Vec<Seen> = (1..=4)
        .map(|count| {
            let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').take(count).collect();
            std::fs::write(&path, lines.concat()).unwrap();
            read_all(&path).unwrap().last().unwrap()
        })
        .collect();
    let log = read_all(&path).unwrap();
    assert!(seen.iter().all(|seen| log.hold(seen).is_ok()));
    assert_eq!(seen[3].to_string().parse::<Seen>().as_ref(), Ok(&seen[3]));
    for bad in ["", "4", "4:", "4:12", &seen[3].to_string()[1..], &format!("{}0", seen[3])] {
        assert!(bad.parse::<Seen>().is_err(), "{bad:?}");
    }

    // The second entry was refused, and whatever follows goes on from one that was passed.
    std::fs::remove_file(&path).unwrap();
    let mut log = Log::open(&path).unwrap();
    for _ in 1..=4 {
        log.write(&heard(Verdict::Passed, None)).unwrap();
    }
    let other = read_all(&path).unwrap();
    assert!(other.hold(&seen[0]).is_ok(), "it is the same up to there");
    let cut_off = format!("5:{}", &seen[0].to_string()[2..]).parse().unwrap();
    assert!(seen[1..].iter().chain([&cut_off]).all(|missed| other.hold(missed).is_err()));
}

#[test]
fn a_line_that_a_crash_cut_off_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = four(&path);
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    assert_ne!(read_all(&path).unwrap().rest, 0);
    let mut log = Log::open(&path).unwrap();
    assert_eq!(log.write(&heard(Verdict::Passed, None)).unwrap(), 4);
    let log = read_all(&path).unwrap();
    assert_eq!((log.entries.len(), log.rest), (4, 0));
}

#[test]
fn a_file_that_somebody_else_touched_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = four(&path);
    let mut log = Log::open(&path).unwrap();
    assert!(log.is_as_left());
    log.write(&heard(Verdict::Passed, None)).unwrap();
    assert!(log.is_as_left());
    std::fs::write(&path, &text).unwrap();
    assert!(!log.is_as_left(), "cut off");
    let mut log = Log::open(&path).unwrap();
    assert_eq!(log.write(&heard(Verdict::Passed, None)).unwrap(), 5);
    std::fs::rename(&path, full(&path, 9)).unwrap();
    assert!(!log.is_as_left(), "moved away");
}

#[test]
fn a_full_file_is_put_aside_and_the_chain_goes_on_through_all_that_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let mut log = Log::open(&path).unwrap();
    let turns = u64::from(KEPT) + 2;
    for id in 1..=turns {
        assert_eq!(log.write(&heard(Verdict::Passed, None)).unwrap(), id);
        // As if it were full.
        log.length = LIMIT;
    }
    let ids = |entries: &[Entry]| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(ids(&read(&path).unwrap()), (2..=turns).collect::<Vec<_>>(), "the oldest is gone");
    let mut log = Log::open(&path).unwrap();
    assert_eq!(log.write(&heard(Verdict::Passed, None)).unwrap(), turns + 1);
    std::fs::remove_file(full(&path, 3)).unwrap();
    assert_eq!(read(&path).unwrap_err().code(), BROKEN);
}

/// The policy's entry is in neither of the two files that the next guard reads.
#[test]
fn what_was_told_of_the_policy_outlasts_the_files_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let mut log = Log::open(&path).unwrap();
    let told = Told { hash: Some(hash(b"a policy")), limited: true, ..Told::default() };
    log.write(&Heard { call: POLICY, policy: Some(told.clone()), ..heard(Verdict::Passed, None) }).unwrap();
    for _ in 0..3 {
        // As if it were full.
        log.length = LIMIT;
        log.write(&heard(Verdict::Passed, None)).unwrap();
    }
    assert_eq!(Log::open(&path).unwrap().ledger().told(), &told);
}
