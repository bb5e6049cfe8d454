//! `lsm harden --watch` on a real host: it sees what the audit sees by hand, tells each change once, and is undone whole.

use crate::lab::process::Done;
use crate::stage;
use crate::stage::{Stage, assert_unchanged, list_hashed};
use serde_json::{Value, json};

const TIMER: &str = "lsm-watch@signer.timer";
const SERVICE: &str = "lsm-watch@signer.service";
/// The folder of the last report, inside.
const FOLDER: &str = "/var/lib/lsm/watch/signer";
/// What turning the watch on could change beside files. Below /run systemd writes for itself.
const STATE: &str = "
systemctl list-unit-files --no-legend --no-pager
systemctl list-units --all --no-legend --no-pager --plain --type=service,timer 'lsm*'
";

impl Stage {
    /// What could be changed, without the journal, which remembers.
    fn state_but_journal(&self) -> Vec<String> {
        let hashed = "-type f -a -not -name lock -a -not -path '/var/lib/lsm/signer/*'";
        let lines = self.host.sh(&(list_hashed("/etc /usr /var/lib -xdev", hashed) + STATE)).ok();
        lines.lines().filter(|line| !line.contains("/var/lib/lsm/journal/")).map(str::to_owned).collect()
    }

    fn watch(&self, more: &[&str]) -> Done {
        self.host.lsm(["harden", "--watch"].iter().chain(more))
    }

    /// All that the watch has logged: each line's priority and text.
    #[track_caller]
    fn logged(&self) -> Vec<(String, String)> {
        let said = self.host.journal(&["-t", "lsm-watch", "-o", "json"]);
        let entry = |line: &str| {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
            (text("PRIORITY"), text("MESSAGE"))
        };
        said.lines().map(entry).collect()
    }

    /// Has the watch look now, and gives what it logs.
    #[track_caller]
    fn look(&self) -> Vec<(String, String)> {
        let before = self.logged().len();
        self.host.run(["systemctl", "start", SERVICE]).ok();
        self.logged().split_off(before)
    }
}

/// What came of each check, and what was seen.
#[track_caller]
fn findings(report: &str) -> Vec<[String; 3]> {
    let report: Value = serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {report}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().map(|finding| ["id", "verdict", "evidence"].map(|name| text(finding, name))).collect()
}

/// What is in one of them alone.
fn other(a: &[[String; 3]], b: &[[String; 3]]) -> Vec<String> {
    let only = |these: &[[String; 3]], those: &[[String; 3]]| {
        these.iter().filter(|finding| !those.contains(finding)).map(|finding| finding.join(" ")).collect::<Vec<_>>()
    };
    [only(a, b), only(b, a)].concat()
}

#[test]
fn the_watch_tells_each_change_once_and_is_undone_whole() {
    let Some(stage) = Stage::boot("harden-watch") else { return };
    stage.install(&[]).ok();
    stage.host.run(["rm", stage::SEED]).ok();
    let (before, by_hand) = (stage.state_but_journal(), || findings(&stage.host.lsm(["harden", "--json"]).stdout));
    let clean = by_hand();

    let steps = stage.watch(&["--dry-run", "--json"]).json()["steps"].as_array().expect("steps").len();
    assert!(steps >= 5, "{steps}");
    assert_eq!(stage.watch(&[]).code, 2, "nobody said yes");
    assert_unchanged(&before, &stage.state_but_journal());
    assert_eq!(stage.watch(&["--yes", "--json"]).json()["changed"], true);
    let watched = stage.state_but_journal();
    assert_eq!(stage.watch(&["--dry-run", "--json"]).json(), json!({"steps": []}));
    assert_eq!(stage.watch(&["--yes", "--json"]).json()["changed"], false);
    assert_eq!(stage.host.run(["stat", "-c", "%a %U", FOLDER]).ok().trim(), "700 root");
    assert!(stage.is_active(TIMER));
    // It would run by itself some minutes after the boot.
    stage.host.run(["systemctl", "stop", TIMER]).ok();

    let first = stage.look();
    assert!(first.len() == 1 && first[0].1.starts_with("grade "), "{first:?}");
    let seen = stage.host.run(["cat", &format!("{FOLDER}/report.json")]).ok();
    let now = by_hand();
    assert_eq!(other(&findings(&seen), &now), [""; 0], "what it sees in its sandbox is what is seen by hand");
    let verdicts = |findings: &[[String; 3]]| findings.iter().map(|finding| finding[..2].to_vec()).collect::<Vec<_>>();
    assert_eq!(verdicts(&now), verdicts(&clean), "the audit has nothing to say of its own units");
    let exposure = stage.exposure(SERVICE);
    println!("exposure of {SERVICE}: {exposure}");
    assert!(exposure <= 5.0, "{exposure}");
    assert_eq!(stage.look(), []);

    let told = |priority: &str, text: &str| (priority.to_owned(), text.to_owned());
    for (cause, cure, id) in [
        ("chmod 0750 /var/lib/lsm/signer", "chmod 0700 /var/lib/lsm/signer", "SECR-001"),
        (
            "cp -a /etc/passwd /root/p && echo toor:x:0:0::/root:/bin/sh >>/etc/passwd",
            "mv /root/p /etc/passwd",
            "USER-002",
        ),
    ] {
        stage.host.sh(cause).ok();
        let now = by_hand().into_iter().find(|finding| finding[0] == id).expect("the finding");
        assert_eq!(stage.look(), [told("2", &format!("{id} was pass, is fail (critical): {}", now[2]))]);
        assert_eq!(stage.look(), [], "it is told once");
        stage.host.sh(cure).ok();
        let now = by_hand().into_iter().find(|finding| finding[0] == id).expect("the finding");
        assert_eq!(stage.look(), [told("5", &format!("{id} was fail, is pass (critical): {}", now[2]))]);
        assert_eq!(stage.look(), []);
    }

    stage.host.run(["systemctl", "start", TIMER]).ok();
    assert_unchanged(
        &watched,
        &stage.state_but_journal().into_iter().filter(|line| !line.contains("report.json")).collect::<Vec<_>>(),
    );
    stage.host.lsm(["rollback", "--yes"]).ok();
    assert_unchanged(&before, &stage.state_but_journal());
    stage.host.lsm(["status"]).ok();
}
