//! The lab itself: its hosts are real enough to test on, its network tells friend from stranger, and it cleans up.

use crate::lab;
use crate::lab::disk::Disk;
use crate::lab::host::Host;
use crate::lab::net::{Met, Net};
use crate::lab::trace::{self, Fate};
use nix::errno::Errno;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_host_boots_meets_its_peers_and_keeps_its_files_over_a_reboot() {
    let Some(mut host) = Host::boot("reboot") else { return };
    for (to, peer) in [("10.77.0.2", host.allowed()), ("fd77::2", host.allowed()), ("10.77.0.2", host.stranger())] {
        assert_eq!(peer.knock(to, 10012, SOON), Met::Refused, "{to}");
    }
    host.sh("nft add table inet t && echo kept >/root/kept && touch /run/gone").ok();
    let listener = host.inside(|| std::net::TcpListener::bind(("10.77.0.2", 10012)).unwrap());
    assert_eq!(host.allowed().knock("10.77.0.2", 10012, SOON), Met::Open);
    drop(listener);

    host.reboot();
    assert_eq!(host.run(["nft", "list", "tables"]).ok(), "", "the kernel's tables are those of a new boot");
    assert_eq!(host.run(["cat", "/root/kept"]).ok(), "kept\n");
    assert_ne!(host.run(["test", "-e", "/run/gone"]).code, 0);
    assert_eq!(host.allowed().knock("fd77::2", 10012, SOON), Met::Refused, "its addresses are there again");

    host.crash();
    assert_eq!(host.allowed().knock("10.77.0.2", 10012, Duration::from_millis(300)), Met::Silence);
    host.start();
    assert_eq!(host.run(["cat", "/root/kept"]).ok(), "kept\n");
    assert_eq!(host.run_as_nobody(["id", "-u"]).ok(), "65534\n");
}

#[test]
fn a_unit_is_held_to_its_sandbox_in_a_host() {
    let Some(host) = Host::boot("sandbox") else { return };
    let unit = |property: &str, script: &str| {
        host.run(["systemd-run", "--quiet", "--wait", "--pipe", "-p", property, "sh", "-c", script]).code
    };
    assert_eq!(unit("ProtectSystem=no", "touch /usr/x"), 0);
    assert_ne!(unit("ProtectSystem=strict", "touch /usr/x"), 0);
    assert_ne!(unit("SystemCallFilter=~uname", "uname"), 0);
    let _listener = host.inside(|| std::net::TcpListener::bind("127.0.0.1:7777").unwrap());
    let connect = "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777'";
    assert_eq!(unit("ProtectSystem=no", connect), 0);
    assert_ne!(unit("IPAddressDeny=any", connect), 0, "a filter that does not hold here would prove nothing");
}

#[test]
fn what_has_not_reached_the_disk_is_lost_with_the_power() {
    let Some(mut host) = Host::boot_with("power", Disk::Image) else { return };
    host.sh("echo kept >/root/kept && sync -f /root && echo lost >/root/lost").ok();
    host.cut_power();
    assert_ne!(host.sh("echo later >/root/later").code, 0, "there is no disk any more");
    host.crash();
    host.start_from_disk();
    assert_eq!(host.sh("cat /root/kept").ok(), "kept\n");
    assert_ne!(host.sh("test -e /root/lost || test -e /root/later").code, 0);
    host.stop();
    let saved = host.path("/").with_file_name("saved");
    host.save_disk(&saved);
    host.start();
    host.sh("rm /root/kept").ok();
    host.stop();
    host.start_from(&saved);
    assert_eq!(host.sh("cat /root/kept").ok(), "kept\n");
}

#[test]
fn a_traced_program_is_killed_or_told_an_error_as_the_test_decides() {
    if let Some(reason) = trace::cannot_fail() {
        return lab::skip(reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let (program, made) = (folder.path().join("lsm"), folder.path().join("made"));
    lab::process::copy_program(Path::new("/bin/mkdir"), &program);
    let mut command = Command::new(&program);
    command.arg(&made);
    let meets = |fate: Fate| trace::run(&command, |call| if call.changes_a_file() { fate } else { Fate::Go });
    let refused = meets(Fate::Fail(Errno::ENOSPC));
    assert!(refused.code == 1 && refused.stderr.contains("No space left on device"), "{refused:?}");
    assert_eq!((meets(Fate::Kill).code, made.exists()), (128 + 9, false));
    assert_eq!((meets(Fate::TimeOut).code, made.exists()), (0, false));
    assert_eq!((meets(Fate::Go).code, made.exists()), (0, true));
}

#[test]
fn a_full_disk_is_full() {
    let Some(host) = Host::boot_with("full", Disk::Small(48)) else { return };
    assert_ne!(host.sh("head -c 60000000 /dev/zero >/root/large").code, 0);
}

/// What is there of the lab of process `pid`: mounts, network namespaces, control groups.
fn remains(pid: u32) -> Vec<String> {
    let ours = format!("lsmlab-{pid}-");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut found: Vec<_> = mounts.lines().filter(|l| l.contains(&ours)).map(str::to_owned).collect();
    for folder in
        ["/run/netns", "/var/tmp/lsm-lab", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]
    {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(names.map(|e| e.path().display().to_string()).filter(|p| p.contains(&ours)));
    }
    found
}

#[test]
fn a_killed_test_leaves_nothing_that_the_next_does_not_sweep() {
    if std::env::var_os("LSM_LAB_HOLD").is_some() {
        let Some(_host) = Host::boot("held") else { return };
        println!("\nheld");
        std::thread::sleep(Duration::from_secs(600));
    }
    let Some(net) = Net::build() else { return };
    let mut held = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lab_hosts::a_killed_test_leaves_nothing_that_the_next_does_not_sweep", "--nocapture"])
        .env("LSM_LAB_HOLD", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(held.stdout.take().unwrap()).lines().map_while(Result::ok).find(|l| l == "held");
    let before = remains(held.id());
    held.kill().unwrap();
    held.wait().unwrap();
    if said.is_none() {
        return lab::skip("no host boots here");
    }
    assert!(before.len() > 4, "{before:?}");
    drop(Net::build());
    assert_eq!(remains(held.id()), Vec::<String>::new());
    drop(net);
}
