//! What a running lsm holds stays in its memory: it leaves no core dump, programs of its own user's do not trace it, and root's is
//! kept out of swap.

use crate::lab;
use crate::lab::nobody::{Nobodys, as_nobody};
use crate::lab::wait_for;
use caps::{CapSet, Capability};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// What has lsm wait for its input.
const WAITS: [&str; 3] = ["macaroon", "show", "-"];

/// A program whose input does not come. Dropped, it ends.
struct Waiting(Child);

impl Waiting {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    /// What /proc says of it.
    #[track_caller]
    fn told(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).expect("it runs")
    }

    /// Whose its memory is: nobody's but root's where it cannot be traced or dumped (proc_pid(5); prctl(2), PR_SET_DUMPABLE).
    #[track_caller]
    fn owner(&self) -> u32 {
        fs::metadata(format!("/proc/{}/mem", self.0.id())).expect("it runs").uid()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_lsm_leaves_no_core_dump_and_is_traced_by_root_alone() {
    let nobodys = Nobodys::make();
    let other = Waiting::start(as_nobody("cat"));
    assert_ne!(other.owner(), 0, "a user's program is that user's");
    let mut command = nobodys.lsm();
    command.args(WAITS);
    let lsm = Waiting::start(command);
    wait_for("a memory that is root's", SOON, || (lsm.owner() == 0).then_some(()));
    let limits = lsm.told("limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"], "soft and hard");
}

#[test]
fn roots_lsm_is_kept_out_of_swap() {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).expect("rights") {
        return lab::skip("nobody here may lock memory without a limit (CAP_SYS_RESOURCE)");
    }
    let mut command = Command::new(lab::LSM);
    command.args(WAITS);
    let lsm = Waiting::start(command);
    let is_locked = || {
        let status = lsm.told("status");
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("locked memory");
        !locked.trim_start().starts_with("0 ")
    };
    wait_for("memory that is locked", SOON, || is_locked().then_some(()));
}
