//! `lsm harden --fix` on real hosts: what is found is mended by a plan, and its undoing leaves every byte as it was.

use crate::lab::host::Host;
use crate::stage::{SEED, Stage, assert_unchanged, list_hashed};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where a fix could change something.
const FOLDERS: &str = "/etc /usr /root /var/lib/apt /opt -xdev";
/// What else it could, how many names a file has among it; of lnd's own folder, which changes all the time, who may do what.
const STATE: &str = "
find /etc /usr /root /var/lib/apt /opt -xdev -type f -links +1 -printf '%p %n\\n' | LC_ALL=C sort
find /var/lib/lsm -path /var/lib/lsm/journal -prune -o -printf '%p %y %m %U:%G\\n' | LC_ALL=C sort
getcap -r /usr/local
cat /proc/sys/fs/suid_dumpable /proc/sys/kernel/randomize_va_space /run/ssh-settings
systemctl list-unit-files --no-legend --no-pager
";

/// An sshd that obeys the drop-in as far as passwords go, and says how often it was reloaded with what.
const SSHD: &str = r#"mkdir -p /etc/ssh/sshd_config.d && echo 'Include /etc/ssh/sshd_config.d/*.conf' >/etc/ssh/sshd_config
cat >/usr/sbin/sshd <<'END'
#!/bin/sh
cd /etc/ssh
case $1 in
-t) if [ -e /root/kill ]; then kill -9 $PPID; fi; ! grep -qs Nonsense sshd_config.d/* ;;
-T) if grep -qs '^PasswordAuthentication no' sshd_config.d/*; then cat told
    else sed 's/^passwordauthentication no/passwordauthentication yes/' told; fi ;;
esac
END
chmod 755 /usr/sbin/sshd
printf '[Service]\nExecStart=/bin/sh -c "/usr/sbin/sshd -T >/run/ssh-settings; exec sleep inf"\nExecReload=/bin/sh -c "/usr/sbin/sshd -T >/run/ssh-settings"\n' \
    >/usr/lib/systemd/system/ssh.service
systemctl daemon-reload && systemctl start ssh.service && sleep 1"#;

/// Settings of the kernel that are this host's alone: files in the place of the outer machine's.
const KERNEL: &str = "mkdir /root/kernel && cd /root/kernel && echo 2 >suid_dumpable && echo 1 >randomize_va_space && \
    for name in fs/suid_dumpable kernel/randomize_va_space; do \
        mount --bind ${name#*/} /proc/sys/$name && mountpoint -q /proc/sys/$name || exit 1; done";

/// What is mended without being named, and by what it was broken.
const SAFE: &[(&str, &str)] = &[
    ("SECR-001", "chmod 0750 /var/lib/lsm/signer"),
    ("SECR-002", "chmod 0733 /etc/credstore.encrypted"),
    ("SECR-009", "chmod 0640 /etc/credstore.encrypted/lsm-signer.wallet-password"),
    ("BIN-002", "f=$(echo /usr/local/lib/lsm/lnd/v*/lncli); chmod g+s $f && setcap cap_net_raw+ep $f"),
    ("BIN-006", "chmod 0777 /usr/local/bin"),
    ("BIN-007", "chmod o+w /usr/local/lib/lsm/lsm && chown games /usr/local/lib/lsm/lsm"),
    ("CRON-001", "chmod 666 /etc/cron.d/e2scrub_all"),
    ("CRON-004", "install -m 757 /dev/null /opt/run && echo '0 0 * * * root /opt/run' >/etc/cron.d/x"),
    ("USER-017", "chmod 0644 /etc/shadow"),
    ("UNIT-007", "chmod 0666 /etc/systemd/system/lsm@.service"),
    ("UPD-001", "ln -s true /usr/bin/unattended-upgrade"),
];
/// What is mended by its name alone.
const NAMED: &[(&str, &str)] = &[
    ("KERN-002", KERNEL),
    ("KERN-007", "true"),
    ("SSH-002", SSHD),
    ("BIN-005", "echo libm.so.6 >/etc/ld.so.preload"),
    (
        "CRON-005",
        "install -m 755 -o games /dev/null /opt/timed && cd /etc/systemd/system && \
        printf '[Timer]\\nOnCalendar=daily\\n' >x.timer && printf '[Service]\\nExecStart=/opt/timed\\n' >x.service && \
        systemctl daemon-reload && systemctl start x.timer",
    ),
];

fn state(host: &Host) -> Vec<String> {
    host.sh(&(list_hashed(FOLDERS, "-type f") + STATE)).stdout.lines().map(str::to_owned).collect()
}

/// The verdict of each check.
#[track_caller]
fn audit(host: &Host) -> BTreeMap<String, String> {
    verdicts(&host.lsm(["harden", "--json"]).stdout)
}

#[track_caller]
fn verdicts(said: &str) -> BTreeMap<String, String> {
    let report: Value = serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().map(|finding| (text(finding, "id"), text(finding, "verdict"))).collect()
}

/// The ids of `all` that are not as `wanted` says.
fn other(found: &BTreeMap<String, String>, all: &[(&'static str, &str)], wanted: &[&str]) -> Vec<String> {
    let is = |id: &str| found.get(id).map_or("none", String::as_str);
    let wrong = all.iter().filter(|(id, _)| !wanted.contains(&is(id)));
    wrong.map(|(id, _)| format!("{id} is {}", is(id))).collect()
}

fn rollback(host: &Host) -> Value {
    host.lsm(["rollback", "--yes", "--json"]).json()
}

fn ids(of: &[(&str, &str)]) -> String {
    of.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(",")
}

#[test]
fn what_is_found_is_mended_and_comes_back_byte_for_byte() {
    let Some(stage) = Stage::boot("harden-fix") else { return };
    let host = &stage.host;
    stage.install(&[]).ok();
    host.run(["rm", SEED]).ok();
    let told = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harden/sshd.txt");
    host.sh("mkdir /etc/ssh").ok();
    host.copy_in(told.as_ref(), "/etc/ssh/told", 0o644);
    let installed = audit(host);
    SAFE.iter().chain(NAMED).for_each(|(_, cause)| drop(host.sh(cause).ok()));
    let before = state(host);
    let broken = audit(host);
    assert_eq!(other(&broken, SAFE, &["fail"]), [""; 0]);
    assert_eq!(other(&broken, NAMED, &["fail"]), [""; 0]);

    // A plan is shown, and nothing is done unasked.
    let plan = host.lsm(["harden", "--fix", "--dry-run", "--json"]).json();
    assert!(plan["steps"].as_array().is_some_and(|steps| steps.len() > 10), "{plan}");
    assert_ne!(host.lsm(["harden", "--fix"]).code, 0, "nobody agreed");
    let plain = host.lsm(["harden", "--fix", "--dry-run"]);
    assert!(
        plain.stderr.contains("KERN-002,") && plain.stdout.contains("close /etc/shadow to others (0640)"),
        "{plain:?}"
    );
    assert_unchanged(&before, &state(host));

    let done = host.lsm(["harden", "--fix", "--yes", "--json"]);
    assert_eq!(other(&verdicts(&done.stdout), SAFE, &["pass", "warn"]), [""; 0], "{}", done.stderr);
    assert_eq!(other(&audit(host), NAMED, &["fail"]), [""; 0], "only when named");
    host.lsm(["status"]).ok();
    rollback(host);
    assert_unchanged(&before, &state(host));
    assert_eq!(audit(host), broken);
    assert_eq!(rollback(host)["changed"], false);

    // All of it by name: nothing is left but what an operator has to do, and nothing else has changed.
    let all = format!("--fix={},{}", ids(SAFE), ids(NAMED));
    let done = host.lsm(["harden", &all, "--yes", "--json"]);
    let mended = verdicts(&done.stdout);
    assert_eq!(other(&mended, NAMED, &["pass"]), [""; 0], "{}", done.stderr);
    assert_eq!(other(&mended, SAFE, &["pass", "warn"]), [""; 0], "{}", done.stderr);
    assert!(done.stderr.contains("holds a key to log in with"), "{}", done.stderr);
    let settings = host.sh("cat /run/ssh-settings").ok();
    assert!(settings.contains("passwordauthentication no"), "sshd was reloaded");
    let again = host.lsm(["harden", &all, "--dry-run", "--json"]).json();
    assert_eq!(again, json!({"steps": []}), "done is done");
    for (id, verdict) in &mended {
        let was = [&installed[id], &broken[id]].map(String::as_str);
        assert!(was.contains(&verdict.as_str()) || ["pass", "warn"].contains(&verdict.as_str()), "{id} is {verdict}");
    }
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let is_grave = |finding: &&Value| {
        let is = |name: &str, any: &[&str]| any.iter().any(|one| finding[name] == *one);
        is("verdict", &["fail", "error"]) && is("severity", &["high", "critical"])
    };
    let grave = report["findings"].as_array().expect("findings").iter().filter(is_grave);
    let grave: Vec<&str> = grave.filter_map(|finding| finding["id"].as_str()).collect();
    // The kernel, the disks and the clock are the outer machine's.
    let of_outer = |id: &&&str| id.starts_with("KERN-") || id.starts_with("DISK-") || **id == "TIME-001";
    assert_eq!(grave.iter().filter(|id| !of_outer(id)).collect::<Vec<_>>(), [&""; 0]);
    rollback(host);
    assert_unchanged(&before, &state(host));

    // An uninstall undoes it with all the rest, and opens nothing that is lsm's own.
    host.lsm(["harden", &all, "--yes"]);
    host.lsm(["uninstall", "--yes"]).ok();
    let mode = |path: &str| host.run(["stat", "-c", "%a", path]).stdout.trim().to_owned();
    assert_eq!((mode("/etc/shadow").as_str(), mode("/var/lib/lsm/signer").as_str()), ("644", "700"));
    assert!(!host.path("/etc/ssh/sshd_config.d/00-lsm.conf").exists());
    assert!(host.sh("cat /run/ssh-settings").ok().contains("passwordauthentication yes"));
    assert_eq!(host.sh("cat /proc/sys/fs/suid_dumpable").ok().trim(), "2");
}

/// Anybody can run a program called lnd, and say where its files are.
#[test]
fn what_somebody_calls_their_lnd_decides_nothing_about_files_of_others() {
    let Some(stage) = Stage::boot("harden-fix-lnd") else { return };
    let host = &stage.host;
    stage.install(&[]).ok();
    host.run(["rm", SEED]).ok();
    host.sh("useradd -m -s /bin/sh mallory && chmod 755 /home/mallory && install -o mallory -m 4755 /usr/bin/perl /home/mallory/lnd").ok();
    host.sh("install -d -o mallory -m 777 /home/mallory/x && install -o mallory -m 666 /dev/null /home/mallory/x/a.macaroon").ok();
    for (name, told) in [
        ("one", "--lnddir=/home/mallory/x --adminmacaroonpath=/usr/bin/env"),
        ("two", "--lnddir=/etc --configfile=/home/mallory/none"),
        ("three", "--lnddir=/var/lib/lsm/signer/data"),
    ] {
        let unit = format!("--unit={name}");
        let run = format!("exec /home/mallory/lnd -e 'sleep 3600' x {told}");
        host.run(["systemd-run", "--quiet", "--uid=mallory", &unit, "sh", "-c", &run]).ok();
    }
    let others = || {
        host.sh("stat -c '%n %a %u %g' /usr /usr/bin /usr/bin/env /etc /etc/* /var/lib/lsm /var/lib/lsm/* /var/lib/lsm/signer/*").ok()
    };
    let before = others();
    assert_eq!(audit(host)["SECR-001"], "fail");
    assert!(host.lsm(["harden", "--fix", "--yes"]).stderr.contains("BIN-001"), "only when it is named");
    assert_eq!(others(), before);
    host.lsm(["status"]).ok();
    // What is their own is closed all the same; named, their program becomes root's and does not run as root by itself.
    let mine = host.sh("stat -c '%a %U' /home/mallory/x /home/mallory/x/a.macaroon /home/mallory/lnd").ok();
    assert_eq!(mine, "700 mallory\n600 mallory\n755 mallory\n");
    host.sh("chmod 4755 /home/mallory/lnd").ok();
    host.lsm(["harden", "--fix=BIN-001", "--yes"]);
    assert_eq!(host.sh("stat -c '%a %U' /home/mallory/lnd").ok(), "755 root\n");
    assert_eq!(others(), before);
}

#[test]
fn a_host_without_a_signer_is_mended_and_keeps_no_trace_of_lsm() {
    let Some(host) = Host::boot("harden-fix-bare") else { return };
    host.sh("chmod 0644 /etc/shadow && chmod 0777 /usr/local/bin").ok();
    let before = state(&host);
    let done = host.lsm(["harden", "--fix", "USER-017", "--yes", "--json"]);
    let found = verdicts(&done.stdout);
    assert_eq!((found["USER-017"].as_str(), found["BIN-006"].as_str()), ("pass", "fail"), "{}", done.stderr);
    rollback(&host);
    assert_unchanged(&before, &state(&host));
    assert!(!host.path("/var/lib/lsm").exists());

    // What somebody answers for is left, and so is a file that has another name too.
    host.sh("cd /etc/cron.d && chmod 666 e2scrub_all && ln e2scrub_all /root/other").ok();
    host.sh("printf '[[waiver]]\\nid = \"USER-017\"\\nowner = \"a\"\\nreason = \"b\"\\nexpires = 2999-01-01\\n' >/root/waivers").ok();
    let plan = host.lsm(["harden", "--fix", "--waivers=/root/waivers", "--dry-run", "--json"]).json();
    let steps = plan["steps"].as_array().expect("steps");
    assert_eq!(steps.iter().filter_map(|step| step["path"].as_str()).collect::<Vec<_>>(), ["/usr/local/bin"]);
    host.sh("rm /root/other && chmod 644 /etc/cron.d/e2scrub_all").ok();
    let named = host.lsm(["harden", "--fix=USER-017,USER-002", "--waivers=/root/waivers", "--dry-run"]);
    assert!(named.stderr.contains("USER-017 is waived") && named.stderr.contains("USER-002 is pass"), "{named:?}");
    assert_eq!(host.lsm(["harden", "--fix=KERN-999", "--yes"]).code, 2);
    assert_eq!(host.lsm(["harden", "--dry-run"]).code, 2);

    // A step that fails undoes those before it.
    host.sh("mkdir /etc/ssh").ok();
    let told = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harden/sshd.txt");
    host.copy_in(told.as_ref(), "/etc/ssh/told", 0o644);
    host.sh(SSHD).ok();
    host.sh("echo Nonsense >/etc/ssh/sshd_config.d/50.conf").ok();
    let before = state(&host);
    let done = host.lsm(["harden", "--fix", "SSH-002,USER-017", "--yes"]);
    assert!(done.code != 0 && done.stderr.contains("was undone"), "{done:?}");
    // The journal says what happened until nobody needs it any more.
    assert_eq!(rollback(&host)["changed"], false);
    assert_unchanged(&before, &state(&host));

    // Killed before sshd has read its settings, it goes back, or on when it is run again.
    host.sh("rm /etc/ssh/sshd_config.d/50.conf").ok();
    let before = state(&host);
    let fix = ["harden", "--fix=SSH-002,USER-017", "--yes"];
    let is_read =
        |value: &str| host.sh("cat /run/ssh-settings").ok().contains(&format!("\npasswordauthentication {value}"));
    for again in [false, true] {
        host.sh("touch /root/kill").ok();
        assert!(host.lsm(fix).code > 128 && is_read("yes"));
        host.sh("rm /root/kill").ok();
        if again {
            host.lsm(fix);
            assert!(is_read("no"));
        }
        rollback(&host);
        assert_unchanged(&before, &state(&host));
    }
    assert!(!host.path("/var/lib/lsm").exists());
}
