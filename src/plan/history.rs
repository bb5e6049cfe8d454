//! What a journal says happened: its plans, what they touched, and what was there before lsm.

use crate::facts;
use crate::plan::event::{About, Event, Line};
use crate::plan::ledger::{Ledger, Touched};
use crate::plan::prior::Prior;
use crate::plan::step::SeedSink;
use crate::release::pins::numbers;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The verb of plans that undo another.
pub const ROLLBACK: &str = "rollback";

/// The lines of a journal.
#[derive(Debug, Default)]
pub struct History(Vec<Line>);

/// A plan as the journal has it.
#[derive(Debug)]
pub struct Record<'a> {
    /// The verb that made it.
    pub verb: &'a str,
    /// When it began, in seconds since 1970.
    pub at: u64,
    /// How many steps it had.
    pub steps: usize,
    /// It came to its end.
    pub ended: bool,
    about: &'a About,
    intents: Vec<Intent<'a>>,
}

/// A step that was begun.
#[derive(Debug)]
struct Intent<'a> {
    at: u64,
    step: usize,
    what: &'a Value,
    prior: &'a [Prior],
    left: Option<&'a [Prior]>,
}

impl Record<'_> {
    /// How many steps were begun, and what the last of them is called in the journal.
    pub fn reached(&self) -> (usize, &str) {
        let last = self.intents.last();
        let kind = last.and_then(|intent| intent.what["kind"].as_str()).unwrap_or("nothing");
        (last.map_or(0, |intent| intent.step + 1), kind)
    }

    /// True where a step of one of these kinds was begun.
    fn began(&self, kinds: &[&str]) -> bool {
        self.intents.iter().any(|intent| kinds.iter().any(|kind| intent.what["kind"] == *kind))
    }
}

/// The lnd of the last plan that had one.
fn last_release<'a>(records: &[Record<'a>]) -> Option<&'a str> {
    records.iter().rev().find_map(|record| record.about.release.as_deref())
}

/// What several plans touched, in the order in which they did, each with what it was before the first of them.
fn touched_by(records: &[Record<'_>]) -> Vec<Touched> {
    let mut touched: Vec<Touched> = Vec::new();
    for record in records {
        for prior in &record.about.made {
            touched.push(Touched { since: record.at, first: prior.clone(), left: None });
        }
        for intent in &record.intents {
            for prior in intent.prior {
                let left = intent.left.and_then(|left| find(left, prior));
                match touched.iter_mut().find(|t| t.first.thing() == prior.thing()) {
                    Some(known) => known.left = left,
                    None => touched.push(Touched { since: intent.at, first: prior.clone(), left }),
                }
            }
        }
    }
    touched
}

/// Where the last plan begins, which goes on with those before it that were cut off.
fn start_of_last(records: &[Record<'_>]) -> usize {
    let Some(last) = records.last() else { return 0 };
    let goes_on = |record: &&Record<'_>| record.verb == last.verb && !record.ended;
    records.len() - 1 - records.iter().rev().skip(1).take_while(goes_on).count()
}

/// What is said in `list` of the thing that `prior` is of.
fn find(list: &[Prior], prior: &Prior) -> Option<Prior> {
    list.iter().find(|other| other.thing() == prior.thing()).cloned()
}

/// What a step that puts something back puts back.
fn restored(what: &Value) -> Option<Prior> {
    (what["kind"] == "restore").then(|| serde_json::from_value(what["to"].clone()).ok()).flatten()
}

impl History {
    /// The history that these lines tell.
    pub fn new(lines: Vec<Line>) -> Self {
        Self(lines)
    }

    pub(super) fn push(&mut self, line: Line) {
        self.0.push(line);
    }

    /// True where nothing ever happened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plans, from the first to the last.
    pub fn records(&self) -> Vec<Record<'_>> {
        let mut records: Vec<Record<'_>> = Vec::new();
        for line in &self.0 {
            if let Event::Begin { verb, steps, about } = &line.event {
                let (verb, steps) = (verb.as_str(), *steps);
                records.push(Record { verb, at: line.at, steps, ended: false, about, intents: Vec::new() });
                continue;
            }
            let Some(record) = records.last_mut() else { continue };
            match &line.event {
                Event::Intent { step, what, prior } => {
                    record.intents.push(Intent { at: line.at, step: *step, what, prior, left: None });
                }
                Event::Done { step, left } => {
                    if let Some(intent) = record.intents.last_mut().filter(|intent| intent.step == *step) {
                        intent.left = Some(left);
                    }
                }
                Event::End => record.ended = true,
                _ => {}
            }
        }
        records
    }

    /// The last plan, where it was cut off or its undoing was.
    pub fn unfinished(&self) -> Option<Record<'_>> {
        self.records().pop().filter(|record| !record.ended)
    }

    /// True where that is a plan of this verb: run again, it goes on.
    pub fn was_cut_off(&self, verb: &str) -> bool {
        self.unfinished().is_some_and(|record| record.verb == verb)
    }

    /// Where the last bundle went, if the operator named the place.
    pub fn handed_bundle(&self) -> Option<PathBuf> {
        let records = self.records();
        let mut intents = records.iter().flat_map(|record| &record.intents).filter(|intent| intent.left.is_some());
        // An encrypted one is a copy, for whoever it is encrypted to.
        let is_one = |what: &Value| what["kind"] == "bundle" && what["encrypt_to"].is_null();
        let last = intents.rfind(|intent| is_one(intent.what))?;
        (last.what["given"] == true).then(|| last.what["folder"].as_str().map(PathBuf::from)).flatten()
    }

    /// When lsm itself last had a signature of this signer, in unix seconds: no bundle is exported without one, unless the
    /// signer is frozen, and no change of lnd comes to its end.
    pub fn proved_at(&self) -> Option<u64> {
        let proves = |what: &Value| ["bundle", "rotate", "prove", "sign"].iter().any(|kind| what["kind"] == *kind);
        let records = self.records();
        let mut intents = records.iter().flat_map(|record| &record.intents);
        intents.rfind(|intent| intent.left.is_some() && proves(intent.what)).map(|intent| intent.at)
    }

    /// What the step was about that the last plan was cut off in.
    pub fn cut_off(&self) -> Vec<Prior> {
        let last = self.unfinished().and_then(|mut record| record.intents.pop());
        last.filter(|intent| intent.left.is_none()).map(|intent| intent.prior.to_vec()).unwrap_or_default()
    }

    /// What a rollback puts back: all that the last plan touched, with those before it that were cut off and that it
    /// went on with; `None` where that was undone already. Where its undoing was cut off, it is the same again.
    pub fn to_undo(&self) -> Option<Vec<Touched>> {
        self.records_to_undo().map(|records| touched_by(&records))
    }

    /// True where a rollback undoes a step that `is` knows, which was begun.
    pub fn undoes(&self, is: impl Fn(&Value) -> bool) -> bool {
        let records = self.records_to_undo().unwrap_or_default();
        records.iter().flat_map(|record| &record.intents).any(|intent| is(intent.what))
    }

    fn records_to_undo(&self) -> Option<Vec<Record<'_>>> {
        let mut records = self.records();
        if records.last().is_some_and(|last| last.verb == ROLLBACK && last.ended) {
            return None;
        }
        while records.last().is_some_and(|last| last.verb == ROLLBACK) {
            records.pop();
        }
        records.last()?;
        Some(records.split_off(start_of_last(&records)))
    }

    /// The lnd that had the wallet last: of the last plan that had one and was not undone, or a newer one of a plan since that
    /// was undone only after lnd was started, with no copy of the database to put back.
    pub fn release(&self) -> Option<&str> {
        let mut standing = Vec::new();
        for record in self.records() {
            if record.verb != ROLLBACK {
                standing.push(record);
            } else if record.ended {
                let mut undone = standing.split_off(start_of_last(&standing));
                let last = last_release(&standing).and_then(numbers);
                let copied = undone.iter().any(|record| record.began(&["snapshot"]));
                undone.retain(|record| !copied && record.began(&["service", "container"]));
                undone.retain(|record| record.about.release.as_deref().and_then(numbers) > last);
                // Nothing goes on with one that was undone.
                undone.iter_mut().for_each(|record| record.ended = true);
                standing.append(&mut undone);
            }
        }
        last_release(&standing)
    }

    /// True where lsm answers for something of which it first saw what `is` says.
    pub fn began_with(&self, is: impl Fn(&Prior) -> bool) -> bool {
        self.touched().iter().any(|touched| is(&touched.first))
    }

    /// All that lsm answers for, each with what it was before lsm.
    pub fn touched(&self) -> Vec<Touched> {
        let mut ledger = Ledger::default();
        let mut under_way: Option<(&Value, &[Prior])> = None;
        for line in &self.0 {
            match &line.event {
                Event::Begin { about, .. } => about.made.iter().for_each(|made| ledger.take(line.at, made)),
                Event::Intent { what, prior, .. } => {
                    under_way = Some((what, prior));
                    // Also where an undoing is undone: what that puts there is answered for again.
                    prior.iter().for_each(|prior| ledger.take(line.at, prior));
                }
                Event::Done { left, .. } => {
                    let Some((what, prior)) = under_way.take() else { continue };
                    prior.iter().for_each(|prior| ledger.leave(&prior.thing(), find(left, prior)));
                    if let Some(to) = restored(what) {
                        ledger.give_back(&to);
                    }
                }
                Event::Inherit { since, prior } => ledger.inherit(*since, prior),
                Event::LetGo { prior } => ledger.forget(&prior.thing()),
                _ => {}
            }
        }
        ledger.into_touched()
    }

    /// The last step of this kind that was begun by a plan which is not at its end.
    pub fn unended_step(&self, kind: &str) -> Option<&Value> {
        let unended = self.0.iter().rev().take_while(|line| !matches!(line.event, Event::End));
        let mut begun =
            unended.filter_map(|line| if let Event::Intent { what, .. } = &line.event { Some(what) } else { None });
        begun.find(|what| what["kind"] == kind)
    }

    /// True where a plan that is not at its end has begun what nothing undoes, to replace lnd's root keys: it can only go on.
    pub fn is_past_return(&self) -> bool {
        self.unended_step("renew-root-keys").is_some()
    }

    /// Where the seed of the last wallet step went that was begun, or came from.
    pub fn last_seed(&self) -> Option<SeedSink> {
        let mut begun = self
            .0
            .iter()
            .rev()
            .filter_map(|line| if let Event::Intent { what, .. } = &line.event { Some(what) } else { None });
        let last = begun.find(|what| what["kind"] == "wallet")?;
        serde_json::from_value(last["seed"].clone()).ok()
    }

    /// True where it was handed this already.
    pub(super) fn has_inherited(&self, since: u64, prior: &Prior) -> bool {
        self.0
            .iter()
            .any(|line| matches!(&line.event, Event::Inherit { since: s, prior: p } if *s == since && p.is_same(prior)))
    }

    /// The names of all bytes that may still be put back: those of before lsm, and those of the plan that can be undone.
    pub(super) fn kept(&self) -> BTreeSet<String> {
        let all = self.touched().into_iter().chain(self.to_undo().unwrap_or_default());
        all.filter_map(|touched| touched.first.kept().map(str::to_owned)).collect()
    }

    /// True where the words of a seed for this wallet were kept by the operator.
    pub fn kept_seed(&self) -> bool {
        self.seed_kept_at().is_some()
    }

    /// When the last seed was kept, in unix seconds.
    pub fn seed_kept_at(&self) -> Option<u64> {
        self.0.iter().rev().find(|line| matches!(line.event, Event::SeedKept { .. })).map(|line| line.at)
    }

    /// The hash of the last seed that was to be written to `path` for this wallet.
    pub fn seed_written_to(&self, path: &Path) -> Option<&str> {
        self.0.iter().rev().find_map(|line| match &line.event {
            Event::SeedWriting { file, sha256 } if file == path => Some(sha256.as_str()),
            _ => None,
        })
    }

    /// The file that the last seed was written to, where it is there still, byte for byte.
    pub fn seed_file(&self) -> Option<&Path> {
        let file = self.0.iter().rev().find_map(|line| match &line.event {
            Event::SeedWriting { file, .. } => Some(file.as_path()),
            _ => None,
        });
        file.filter(|file| self.is_own_seed(file))
    }

    /// True where what is at `path` is such a seed, and no wallet was made since: it may give its place to another.
    pub fn is_unused_seed(&self, path: &Path) -> bool {
        let (mut makes, mut is_unused) = (false, false);
        for line in &self.0 {
            match &line.event {
                Event::SeedWriting { file, .. } if file == path => is_unused = true,
                Event::Intent { what, .. } => makes = what["kind"] == "wallet",
                Event::Done { .. } if makes => is_unused = false,
                _ => {}
            }
        }
        is_unused && self.is_own_seed(path)
    }

    /// True where what is at `path` is, byte for byte, the last seed that was written there for this wallet.
    pub fn is_own_seed(&self, path: &Path) -> bool {
        self.seed_written_to(path).is_some_and(|written| facts::hash(path).as_deref() == Some(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn history(events: Vec<Value>) -> History {
        let line = |(at, mut event): (usize, Value)| {
            event["v"] = json!(2);
            event["at"] = json!(at);
            serde_json::from_value(event).unwrap()
        };
        History::new(events.into_iter().enumerate().map(line).collect())
    }

    fn begin(verb: &str) -> Value {
        json!({"event": "begin", "verb": verb, "steps": 2})
    }

    fn at(path: &str, hash: &str) -> Value {
        if hash.is_empty() {
            json!({"path": path, "was": "absent"})
        } else {
            json!({"path": path, "was": "file", "sha256": hash})
        }
    }

    /// A step on one path, and its end where `to` is what it left.
    fn step(what: Value, path: &str, from: &str, to: Option<&str>) -> Vec<Value> {
        let mut events = vec![json!({"event": "intent", "step": 0, "what": what, "prior": [at(path, from)]})];
        events.extend(to.map(|to| json!({"event": "done", "step": 0, "left": [at(path, to)]})));
        events
    }

    fn write(path: &str, from: &str, to: Option<&str>) -> Vec<Value> {
        step(json!({"kind": "text"}), path, from, to)
    }

    fn restore(path: &str, from: &str, to: &str) -> Vec<Value> {
        step(json!({"kind": "restore", "to": at(path, to)}), path, from, Some(to))
    }

    fn shown(touched: &[Touched]) -> Vec<(String, Option<String>, bool)> {
        let show = |touched: &Touched| match &touched.first {
            Prior::Path(at) => (at.path.display().to_string(), at.sha256.clone(), touched.left.is_some()),
            other => panic!("{other:?}"),
        };
        touched.iter().map(show).collect()
    }

    fn seen(path: &str, hash: &str, is_left: bool) -> (String, Option<String>, bool) {
        (path.to_owned(), Some(hash.to_owned()).filter(|h| !h.is_empty()), is_left)
    }

    #[test]
    fn a_plan_and_those_cut_off_before_it_are_undone_together_and_once() {
        let mut events = vec![begin("install")];
        events.extend(write("/a", "", Some("1")));
        events.extend([json!({"event": "end"}), begin("install")]);
        events.extend(write("/a", "1", None));
        events.push(begin("install"));
        events.extend(write("/a", "1", Some("2")).into_iter().chain(write("/b", "", Some("3"))));
        let wanted = vec![seen("/a", "1", true), seen("/b", "", true)];
        assert_eq!(shown(&history(events.clone()).to_undo().unwrap()), wanted);
        events.push(begin(ROLLBACK));
        events.extend(restore("/b", "3", ""));
        let cut = history(events.clone());
        assert_eq!((shown(&cut.to_undo().unwrap()), cut.unfinished().unwrap().verb), (wanted, ROLLBACK));
        events.push(json!({"event": "end"}));
        let undone = history(events);
        assert!(undone.to_undo().is_none() && undone.unfinished().is_none());
        assert_eq!(shown(&undone.touched()), [seen("/a", "", true)]);
    }

    #[test]
    fn the_lnd_that_had_the_wallet_is_that_of_the_last_plan_that_stands() {
        let of = |verb: &str, release: &str| json!({"event": "begin", "verb": verb, "steps": 1, "release": release});
        let end = || json!({"event": "end"});
        let mut events = vec![of("install", "a"), end(), begin("allow add"), end()];
        assert_eq!(history(events.clone()).release(), Some("a"));
        events.extend([of("upgrade", "b"), of("upgrade", "b")]);
        assert_eq!(history(events.clone()).release(), Some("b"));
        events.extend([begin(ROLLBACK), begin(ROLLBACK), end()]);
        assert_eq!(history(events.clone()).release(), Some("a"));
        events.extend([begin("uninstall"), end()]);
        assert_eq!(history(events.clone()).release(), Some("a"));
        events.extend([begin(ROLLBACK), end()]);
        assert_eq!(history(events).release(), Some("a"));
    }

    #[test]
    fn an_undone_lnd_had_the_wallet_where_it_was_started_and_no_copy_was_put_back() {
        let of = |verb: &str, release: &str| json!({"event": "begin", "verb": verb, "steps": 2, "release": release});
        let begun = |kind: &str| json!({"event": "intent", "step": 0, "what": {"kind": kind}, "prior": []});
        let undone = || [begin(ROLLBACK), json!({"event": "end"})];
        let (old, new) = ("v0.9.0-beta", "v0.10.0-beta");
        let mut events = vec![of("install", old), begun("service")];
        events.extend(undone());
        assert_eq!(history(events.clone()).release(), Some(old));
        events.extend([of("install", new), begun("release")]);
        events.extend(undone());
        assert_eq!(history(events.clone()).release(), Some(old), "it was not started");
        events.extend([of("upgrade", new), begun("snapshot"), of("upgrade", new), begun("service")]);
        events.extend(undone());
        assert_eq!(history(events.clone()).release(), Some(old), "the copy was put back");
        events.extend([of("install", new), begun("container")]);
        events.extend(undone());
        assert_eq!(history(events.clone()).release(), Some(new));
        events.extend([of("install", old), begun("service")]);
        assert_eq!(history(events.clone()).release(), Some(old), "it stands");
        events.extend(undone());
        assert_eq!(history(events).release(), Some(new), "the older one that gave up changes nothing");
    }

    #[test]
    fn a_seed_gives_its_place_to_another_until_a_wallet_was_made_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seed");
        std::fs::write(&file, "words").unwrap();
        let wallet = || json!({"event": "intent", "step": 0, "what": {"kind": "wallet"}, "prior": []});
        let done = || json!({"event": "done", "step": 0, "left": []});
        let sha256 = facts::hash(&file).unwrap();
        let mut events =
            vec![begin("install"), done(), wallet(), json!({"event": "seed-writing", "file": file, "sha256": sha256})];
        assert!(history(events.clone()).is_unused_seed(&file));
        events.extend([begin("install"), wallet()]);
        assert!(history(events.clone()).is_unused_seed(&file), "cut off again");
        for more in [&[done()][..], &[json!({"event": "end"}), begin("uninstall"), json!({"event": "end"})]] {
            events.extend(more.iter().cloned());
            let history = history(events.clone());
            assert!(history.is_own_seed(&file) && !history.is_unused_seed(&file));
        }
        let other = json!({"event": "intent", "step": 0, "what": {"kind": "service"}, "prior": []});
        let unmade = events[..4].iter().cloned().chain([begin("install"), other, done()]).collect();
        assert!(history(unmade).is_unused_seed(&file), "another step came to its end");
    }

    #[test]
    fn what_a_boot_brings_back_is_answered_for_until_the_undoing_is_at_its_end() {
        let unit = |active: bool| json!({"unit": "lsm@signer.service", "active": active});
        let changed = |what: Value, from: Value, to: Value| {
            [
                json!({"event": "intent", "step": 0, "what": what, "prior": [from]}),
                json!({"event": "done", "step": 0, "left": [to]}),
            ]
        };
        let mut events = vec![begin("install")];
        events.extend(write("/a", "", Some("1")));
        events.extend(changed(json!({"kind": "service"}), unit(false), unit(true)));
        events.extend([json!({"event": "end"}), begin("uninstall")]);
        events.extend(changed(json!({"kind": "restore", "to": unit(false)}), unit(true), unit(false)));
        events.extend(restore("/a", "1", ""));
        let touched = history(events).touched();
        let firsts: Vec<&Prior> = touched.iter().map(|touched| &touched.first).collect();
        assert_eq!(firsts, [&Prior::Unit { unit: "lsm@signer.service".into(), active: false }]);
    }

    #[test]
    fn where_an_uninstall_is_undone_lsm_answers_for_all_of_it_again() {
        let mut events = vec![begin("install")];
        events.extend(write("/a", "", Some("1")).into_iter().chain(write("/b", "0", Some("2"))));
        events.extend([json!({"event": "end"}), begin("uninstall")]);
        events.extend(restore("/b", "2", "0").into_iter().chain(restore("/a", "1", "")));
        assert_eq!(shown(&history(events.clone()).touched()), []);
        events.push(begin(ROLLBACK));
        events.extend(restore("/a", "", "1").into_iter().chain(restore("/b", "0", "2")));
        events.push(json!({"event": "end"}));
        assert_eq!(shown(&history(events).touched()), [seen("/a", "", true), seen("/b", "0", true)]);
    }

    #[test]
    fn lsm_answers_for_what_was_there_before_it_until_that_is_back() {
        let mut events = vec![begin("install")];
        events.extend(write("/a", "0", Some("1")).into_iter().chain(write("/a", "1", Some("2"))));
        events.extend(write("/b", "", None));
        assert_eq!(shown(&history(events.clone()).touched()), [seen("/a", "0", true), seen("/b", "", false)]);
        // Back to something in between is not back.
        events.extend(restore("/a", "2", "1").into_iter().chain(restore("/b", "x", "")));
        assert_eq!(shown(&history(events.clone()).touched()), [seen("/a", "0", true)]);
        events.extend(restore("/a", "1", "0").into_iter().chain(write("/a", "5", Some("6"))));
        assert_eq!(shown(&history(events.clone()).touched()), [seen("/a", "5", true)]);
        events.push(json!({"event": "let-go", "prior": at("/a", "5")}));
        assert_eq!(shown(&history(events).touched()), []);
    }

    #[test]
    fn an_encrypted_copy_is_not_where_the_bundle_is() {
        let export = |what: Value| step(what, "/a", "", Some(""));
        let mut events = vec![begin("install")];
        events.extend(export(json!({"kind": "bundle", "folder": "/handed", "given": true})));
        events.extend([json!({"event": "end"}), begin("bundle export")]);
        events.extend(export(json!({"kind": "bundle", "folder": "/copy", "given": true, "encrypt_to": "age1"})));
        let told = history(events);
        assert_eq!((told.handed_bundle(), told.proved_at()), (Some("/handed".into()), Some(5)));
    }

    #[test]
    fn root_keys_that_are_being_replaced_leave_one_way() {
        let step = |kind: &str| json!({"event": "intent", "step": 0, "what": {"kind": kind}, "prior": []});
        let mut events = vec![begin("macaroon revoke --admin"), step("text")];
        assert!(!history(events.clone()).is_past_return());
        events.push(step("renew-root-keys"));
        assert!(history(events.clone()).is_past_return());
        // Run again, and cut off before that step.
        events.extend([begin("macaroon revoke --admin"), step("text")]);
        assert!(history(events.clone()).is_past_return());
        events.push(json!({"event": "end"}));
        assert!(!history(events).is_past_return());
    }

    #[test]
    fn of_two_signers_knowledge_the_older_counts() {
        let mut events = vec![begin("install")];
        events.extend(write("/a", "2", Some("3")));
        events.push(json!({"event": "inherit", "since": 0, "prior": at("/a", "1")}));
        events.push(json!({"event": "inherit", "since": 9, "prior": at("/a", "7")}));
        events.push(json!({"event": "inherit", "since": 9, "prior": at("/b", "8")}));
        assert_eq!(shown(&history(events).touched()), [seen("/a", "1", false), seen("/b", "8", false)]);
    }

    #[test]
    fn the_journal_of_every_schema_is_read() {
        for (schema, steps) in [(1, 30), (2, 30)] {
            let path = format!("{}/tests/fixtures/journal/{schema}.jsonl", env!("CARGO_MANIFEST_DIR"));
            let history = History::read(Path::new(&path)).unwrap();
            let [record] = &history.records()[..] else { panic!("schema {schema}") };
            assert!(record.ended && record.verb == "install" && record.steps >= steps, "schema {schema}");
            assert!(history.touched().len() >= steps && history.to_undo().is_some());
        }
    }
}
