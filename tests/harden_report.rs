//! `lsm harden` on this machine, whatever it is: its formats, its exit codes, and what it does with bad input.

mod sarif;

use crate::lab;
use crate::lab::nobody::Nobodys;
use crate::lab::process::{Done, run};
use boon::{Compiler, Schemas};
use data_encoding::BASE64;
use lsm::harden;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const FORMATS: [&str; 4] = ["text", "json", "sarif", "html"];
/// What was written by this test.
const MARK: &str = "<!-- written by tests/harden_report.rs -->";
/// Nothing that is named may keep the audit longer than this, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Facts of this machine in a folder of their own, changed so that KERN-002 fails.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().expect("a folder"));
        harden(&["--record", desk.path("facts").to_str().expect("a path")]).ok();
        desk.change(|facts| facts["texts"]["/proc/sys/fs/suid_dumpable"] = json!({ "is": "2\n" }));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).expect("a file is written");
        self.path(name).to_str().expect("a path").to_owned()
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut facts = serde_json::from_slice(&fs::read(self.path("facts")).expect("facts")).expect("JSON");
        change(&mut facts);
        self.write("facts", facts.to_string());
    }

    /// The audit of the facts.
    fn judge(&self, args: &[&str]) -> Done {
        let facts = self.path("facts");
        harden(&[&["--facts", facts.to_str().expect("a path")], args].concat())
    }

    /// The audit of the one check that is broken in the facts.
    fn judge_broken(&self, args: &[&str]) -> Done {
        self.judge(&[&["--only", "KERN-002"], args].concat())
    }
}

fn harden(args: &[&str]) -> Done {
    let start = Instant::now();
    let mut command = Command::new(lab::LSM);
    command.arg("harden").args(args);
    let done = run(command);
    assert!(start.elapsed() < SOON, "{args:?} took {:?}", start.elapsed());
    done
}

fn json_of(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

/// Holds a refusal to its exit code, its one line of cause and an empty standard output.
#[track_caller]
fn assert_refused(done: &Done, code: i32, cause: &str) {
    assert_eq!(done.code, code, "{done:?}");
    assert!(done.stdout.is_empty() && done.stderr.starts_with("error: ") && done.stderr.contains(cause), "{done:?}");
}

/// Holds JSON to docs/schemas/harden.json.
#[track_caller]
fn assert_valid(report: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/harden.json");
    let schema = serde_json::from_slice(&fs::read(path).expect("the schema")).expect("JSON");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("harden.json", schema).expect("a resource");
    let schema = compiler.compile("harden.json", &mut schemas).unwrap_or_else(|e| panic!("{e}"));
    schemas.validate(report, schema).unwrap_or_else(|e| panic!("{e:#}"));
}

fn ids(report: &Value) -> Vec<&str> {
    report["findings"].as_array().expect("findings").iter().map(|f| f["id"].as_str().expect("an id")).collect()
}

#[test]
fn a_run_here_judges_every_check_and_its_json_is_of_its_schema() {
    let report = json_of(&harden(&["--json"]));
    assert_valid(&report);
    assert_eq!(ids(&report), harden::checks().map(|check| check.id).collect::<Vec<_>>());
    for (place, key) in [("", "grade"), ("/findings/0", "verdict"), ("/findings/0", "fix")] {
        let mut broken = report.clone();
        broken.pointer_mut(place).unwrap()[key] = json!(7);
        let held = std::panic::catch_unwind(|| assert_valid(&broken));
        assert!(held.is_err(), "the schema holds {place}/{key}");
    }
}

#[test]
fn two_runs_say_the_same_byte_for_byte() {
    // Other programs come and go on this machine: two runs in a row have to agree, not all.
    for format in FORMATS {
        let mut last = said(&harden(&["--format", format]));
        let agree = (0..5).any(|_| {
            let now = said(&harden(&["--format", format]));
            std::mem::replace(&mut last, now.clone()) == now
        });
        assert!(agree, "{format} is not stable: {last:?}");
    }
    let desk = Desk::new();
    for format in FORMATS {
        let judged = || said(&desk.judge(&["--format", format]));
        assert_eq!(judged(), judged());
    }
}

/// What an audit that came to its end said, and its exit code.
#[track_caller]
fn said(done: &Done) -> (String, i32) {
    assert!(done.code <= 1 && !done.stdout.is_empty(), "{done:?}");
    (done.stdout.clone(), done.code)
}

#[test]
fn a_user_without_rights_is_told_what_he_may_see() {
    if !geteuid().is_root() {
        return lab::skip("it has to become another user, as only root can");
    }
    let nobodys = Nobodys::make();
    let told = |args: &[&str]| {
        let mut command = nobodys.lsm();
        command.arg("harden").args(args);
        run(command)
    };
    let report = told(&["--json"]);
    assert!(report.code <= 1 && report.stderr.is_empty(), "{report:?}");
    assert_valid(&json_of(&report));
    assert!(told(&[]).stdout.contains("not read as root"));
}

#[test]
fn what_was_written_down_is_judged_as_the_host_itself() {
    let desk = Desk(tempfile::tempdir().expect("a folder"));
    let facts = desk.path("facts");
    let same = (0..5).any(|_| {
        let _ = fs::remove_file(&facts);
        let here = harden(&["--json"]);
        let recorded = harden(&["--record", facts.to_str().expect("a path")]);
        assert!(recorded.code == 0 && recorded.stdout.is_empty(), "{recorded:?}");
        let there = desk.judge(&["--json"]);
        assert_eq!(fs::metadata(&facts).expect("facts").permissions().mode() & 0o777, 0o600);
        (here.stdout, here.code) == (there.stdout, there.code)
    });
    assert!(same, "the facts give other findings than the host");
    let again = harden(&["--record", facts.to_str().expect("a path")]);
    assert!(again.code != 0, "a file that is there is left alone: {again:?}");
}

#[test]
fn the_exit_code_is_of_what_reaches_the_severity() {
    let desk = Desk::new();
    // KERN-002 is high.
    for (least, code) in [("low", 1), ("medium", 1), ("high", 1), ("critical", 0)] {
        for format in FORMATS {
            let done = desk.judge_broken(&["--fail-on", least, "--format", format]);
            assert!(done.code == code && !done.stdout.is_empty(), "{least}, {format}: {done:?}");
        }
    }
    assert_eq!(desk.judge_broken(&[]).code, 1, "high is the default");
    desk.change(|facts| facts["texts"]["/proc/sys/fs/suid_dumpable"] = json!({ "is": "two\n" }));
    let untold = desk.judge_broken(&["--json"]);
    assert_eq!((untold.code, &json_of(&untold)["findings"][0]["verdict"]), (1, &json!("error")));
    desk.change(|facts| facts["texts"]["/proc/sys/fs/suid_dumpable"] = json!({ "is": "0\n" }));
    assert_eq!(desk.judge_broken(&["--fail-on", "low"]).code, 0);
}

#[test]
fn text_says_first_what_to_do_first() {
    let desk = Desk::new();
    let text = desk.judge_broken(&["-v"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Grade D: "), "{text}");
    let at = |start: &str| {
        lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start:?}: {text}"))
    };
    assert!(at("Do first") < at("High") && at("High") < at("  fail   KERN-002  "), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("\nPassed"), "{text}");
    desk.change(|facts| facts["texts"]["/proc/sys/fs/suid_dumpable"] = json!({ "is": "0\n" }));
    let part = desk.judge_broken(&["-v"]).stdout;
    assert!(part.contains("\nPassed\n  KERN-002  "), "{part}");
    let of = format!("; 1 of {} checks were judged", harden::checks().count());
    assert!(
        part.lines().next().is_some_and(|line| line.ends_with(&of)) && !part.contains("fit to hold keys"),
        "{part}"
    );
    let report = json_of(&desk.judge_broken(&["--json"]));
    assert_valid(&report);
    assert_eq!((&report["judged"], &report["checks"]), (&json!(1), &json!(harden::checks().count())));
    assert!(!desk.judge_broken(&[]).stdout.contains("Passed"));
}

#[test]
fn the_page_is_whole_and_lets_nothing_in() {
    let desk = Desk::new();
    desk.change(|facts| facts["texts"]["/proc/sys/kernel/hostname"] = json!({ "is": "<script>\"x'&</script>\n" }));
    let waivers = desk.write("waivers", waiver("2999-12-31"));
    let page = desk.judge(&["--format", "html", "--waivers", &waivers]).stdout;
    assert!(page.starts_with("<!DOCTYPE html>\n") && page.ends_with("</html>\n"), "{page}");
    for never in ["<script", "<link", "<img", "<iframe", "<b>", " src=", " href=", " on", "url(", "@import", "://"] {
        assert!(!tags(&page).contains(never) && !page.contains("<script"), "{never}");
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = BASE64.encode(digest(&SHA256, style.as_bytes()).as_ref());
    assert!(page.contains(&format!("default-src 'none'; style-src 'sha256-{hash}'")), "the policy knows the style");
    for check in harden::checks() {
        assert!(page.contains(&format!("<td class=\"wide\">{}</td>", check.id)), "{} is in the table", check.id);
    }
    assert!(page.contains("tried &#60;b&#62;it&#60;/b&#62;"), "who waived says why");
}

/// The tags of a page, without the text between them.
fn tags(page: &str) -> String {
    page.split('<').skip(1).map(|part| format!("<{}>", part.split('>').next().unwrap_or_default())).collect()
}

/// A waiver of what is broken in the facts.
fn waiver(expires: &str) -> String {
    format!("[[waiver]]\nid = \"KERN-002\"\nowner = \"Ann\"\nreason = \"tried <b>it</b>\"\nexpires = {expires}\n")
}

#[test]
fn a_waived_finding_is_shown_and_does_not_count() {
    let desk = Desk::new();
    let path = desk.write("waivers", waiver("2999-12-31"));
    let waived = desk.judge_broken(&["--json", "--waivers", &path]);
    let report = json_of(&waived);
    assert_valid(&report);
    let terms = json!({"owner": "Ann", "reason": "tried <b>it</b>", "expires": "2999-12-31"});
    let finding = &report["findings"][0];
    assert_eq!((&finding["verdict"], &finding["waived"]), (&json!("fail"), &terms));
    assert_eq!((waived.code, &report["grade"]), (0, &json!("A")));
    let text = desk.judge_broken(&["--waivers", &path]).stdout;
    assert!(text.contains("Waived") && text.contains("Ann, until 2999-12-31: tried"), "{text}");
    desk.write("waivers", waiver("2001-01-01"));
    let expired = desk.judge_broken(&["--json", "--waivers", &path]);
    let report = json_of(&expired);
    assert_valid(&report);
    assert_eq!((expired.code, ids(&report), &report["grade"]), (1, vec!["KERN-002", "WAIV-001"], &json!("D")));
    assert_eq!(report["findings"][0].get("waived"), None);
    desk.change(|facts| facts["taken"] = json!(978_307_199));
    assert_eq!(desk.judge_broken(&["--waivers", &path]).code, 0, "the day counts on which the facts were read");
}

#[test]
fn what_changed_since_a_baseline_is_told_and_counts_alone() {
    let desk = Desk::new();
    let set = |value: &str| {
        desk.change(|facts| facts["texts"]["/proc/sys/fs/suid_dumpable"] = json!({ "is": format!("{value}\n") }));
    };
    let before = desk.write("before", desk.judge_broken(&["--json"]).stdout);
    let compare = || {
        let done = desk.judge_broken(&["--json", "--baseline", &before]);
        let report = json_of(&done);
        assert_valid(&report);
        (done.code, report["changed"].clone())
    };
    assert_eq!(compare(), (0, json!([])), "what was there before does not count");
    set("1");
    let other = json!([{"id": "KERN-002", "change": "other", "was": "fail", "is": "fail"}]);
    assert_eq!(compare(), (1, other), "it fails otherwise");
    set("0");
    assert_eq!(compare(), (0, json!([{"id": "KERN-002", "change": "mended", "was": "fail", "is": "pass"}])));
    let text = desk.judge_broken(&["--baseline", &before]).stdout;
    assert!(text.contains("mended KERN-002  fail, now pass"), "{text}");
    desk.write("before", desk.judge_broken(&["--json"]).stdout);
    set("2");
    assert_eq!(compare(), (1, json!([{"id": "KERN-002", "change": "new", "was": "pass", "is": "fail"}])));
    let sarif = json_of(&desk.judge_broken(&["--format", "sarif", "--baseline", &before]));
    assert_eq!(sarif["runs"][0]["results"][0]["baselineState"], "new");
}

#[test]
fn bad_input_is_bad_usage_and_never_a_hang() {
    let desk = Desk::new();
    assert_refused(&harden(&["--only", "KERN-999"]), 2, "no check \"KERN-999\"");
    assert_refused(&harden(&["--skip", "kern-002"]), 2, "no check \"kern-002\"");
    assert_refused(&desk.judge_broken(&["--skip", "KERN-002"]), 2, "no check is left");
    assert_refused(&desk.judge_broken(&["--fail-on", "urgent"]), 2, "urgent");
    let both = desk.judge_broken(&["--json", "--format", "html"]);
    assert!(both.code == 2 && json_of(&both)["error"]["code"] == "E-HARDEN-005", "{both:?}");
    let pipe = desk.path("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let huge = desk.path("huge");
    fs::File::create(&huge).expect("a file").set_len(1 << 40).expect("a hole");
    let loops = desk.path("loop");
    std::os::unix::fs::symlink(&loops, &loops).expect("a link");
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let binary = desk.write("binary", [0_u8, 159, 146, 150]);
    let other = desk.write("other", r#"{"schema": 1, "steps": []}"#);
    let newer = desk.path("newer");
    desk.change(|facts| facts["schema"] = json!(2));
    fs::rename(desk.path("facts"), &newer).expect("a rename");
    for option in ["--facts", "--waivers", "--baseline"] {
        for bad in [&text(&pipe), &text(&huge), &text(&loops), &binary, &other, &text(&newer), "/dev/zero", "/"] {
            let done = harden(&["--only", "KERN-002", option, bad]);
            assert_refused(&done, 2, "");
        }
        assert_refused(&harden(&[option, "/nonexistent"]), 3, "/nonexistent");
    }
    let waivers = desk.write("waivers", waiver("2999-12-31").replace("owner", "# owner"));
    assert_refused(&harden(&["--waivers", &waivers]), 2, "waiver 1 (\"KERN-002\"): it has no owner");
}

#[test]
fn whoever_reads_one_line_gets_one_line_and_no_error() {
    for format in FORMATS {
        let mut command = Command::new(lab::LSM);
        command.args(["harden", "-v", "--format", format, "--fail-on", "critical", "--only", "KERN-002"]);
        let mut audit = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lsm starts");
        let mut line = String::new();
        BufReader::with_capacity(1, audit.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let done = audit.wait_with_output().expect("lsm ends");
        assert!(!line.is_empty() && done.status.success(), "{format}: {done:?}");
        assert!(!String::from_utf8_lossy(&done.stderr).contains("panicked"), "{format}: {done:?}");
    }
}

#[test]
fn the_help_and_the_completions_know_every_option() {
    let ran = |args: &[&str]| {
        let mut command = Command::new(lab::LSM);
        command.args(args);
        run(command).ok()
    };
    let completions = ran(&["completions", "bash"]);
    let help = ran(&["harden", "--help"]);
    for option in
        ["--waivers", "--baseline", "--format", "--facts", "--record", "--fail-on", "--only", "--skip", "--watch"]
    {
        assert!(completions.contains(option) && help.contains(option), "{option}");
    }
    assert!(completions.contains("text json sarif html"));
}

/// What stands on the page of a check, of the index, and of nothing else.
fn pages() -> BTreeMap<String, String> {
    let mut index = format!(
        "# The checks\n\n{MARK}\n\nEach is told by `lsm harden` ([harden.md](../harden.md)); `lsm harden --only ID` asks about one.\n\n\
        | check | severity | what should be |\n| --- | --- | --- |\n"
    );
    let mut pages = BTreeMap::new();
    for check in harden::checks() {
        let (id, severity) = (check.id, harden::severity(check.id).name());
        index += &format!("| [{id}]({id}.md) | {severity} | {} |\n", check.title);
        let page = format!(
            "# {id}: {}\n\n{MARK}\n\n- Severity: {severity}\n- Why: {}\n- To mend it: {}\n- To ask again: `lsm harden --only {id}`\n\n\
            [Every check](README.md)\n",
            check.title, check.why, check.mend
        );
        pages.insert(format!("{id}.md"), page);
    }
    pages.insert("README.md".to_owned(), index);
    pages
}

#[test]
fn there_is_a_page_for_every_check_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks");
    let pages = pages();
    if std::env::var_os("LSM_WRITE_DOCS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder is made");
        pages.iter().for_each(|(name, text)| fs::write(folder.join(name), text).expect("the page is written"));
        return;
    }
    let names =
        fs::read_dir(&folder).expect("docs/checks").map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let kept: BTreeMap<String, String> =
        names.map(|name| (name.clone(), fs::read_to_string(folder.join(&name)).expect("a page"))).collect();
    assert!(kept == pages, "docs/checks is not of these checks (LSM_WRITE_DOCS=1 writes it)");
}
