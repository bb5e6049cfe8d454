//! A folder in memory that only this process and its children see, without any network: gone when they are.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::program::{self, Program};
use crate::host::user::{self, Owner};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

const NO_CHAMBER: Code = Code::lacking("E-HOST-120");

/// What it is laid over: a folder that every Linux has, and that others go on seeing as it is.
const PLACE: &str = "/tmp";
/// How long a program in it may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The chamber. Its file system is ramfs, which is never swapped (the kernel's ramfs-rootfs-initramfs.rst).
#[derive(Debug)]
pub struct Chamber {
    owner: Owner,
}

impl Chamber {
    /// Has this thread, and what it starts from now on, see the chamber in place of /tmp, and no network. There is no way
    /// back. Only root can ask for that. The chamber is a user's whose number nobody has; `programs`, each under a name in
    /// it, are what that user may start, for what root can reach may be closed to others.
    ///
    /// # Errors
    /// Where a program is not there, or the kernel refuses.
    pub fn enter(programs: &[(&str, &Path)]) -> Result<Self> {
        let owner = user::passing()?;
        let cannot = |e: nix::Error| {
            Error::new(NO_CHAMBER, format!("cannot have a folder in memory for this process alone: {e}"))
                .hint("it takes root, and in a container the right to mount (CAP_SYS_ADMIN)")
        };
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(cannot)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(cannot)?;
        // Held in this view of the file system, and before anything is laid over it.
        let held: Vec<File> = programs.iter().map(|(_, path)| file::hold(path)).collect::<Result<_>>()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("ramfs"), PLACE, Some("ramfs"), flags, Some("mode=0700")).map_err(cannot)?;
        file::tighten(Path::new(PLACE), Access::owned(0o700, owner))?;
        let chamber = Self { owner };
        for ((name, _), program) in programs.iter().zip(&held) {
            let place = chamber.place(name);
            file::create(&place, b"", Access::mode(0o600))?;
            let from = format!("/proc/self/fd/{}", program.as_raw_fd());
            mount(Some(from.as_str()), &place, none, MsFlags::MS_BIND, none).map_err(cannot)?;
        }
        Ok(chamber)
    }

    /// The place of `name` in it.
    pub fn place(&self, name: &str) -> PathBuf {
        Path::new(PLACE).join(name)
    }

    /// The access of a file that its user alone may read.
    pub fn own(&self) -> Access {
        Access::owned(0o600, self.owner)
    }

    /// The number of its user and group.
    pub fn number(&self) -> u32 {
        self.owner.uid
    }

    /// Starts a program as its user, in a control group that is never swapped where systemd has one for it. It ends when
    /// this process does, however that ends. What it says goes into the chamber.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, log: &Path, command: &[String]) -> Result<Running> {
        let mut line: Vec<String> = Vec::new();
        if Path::new("/run/systemd/system").is_dir() {
            let scope = ["systemd-run", "--scope", "--quiet", "--collect", "-p", "MemorySwapMax=0", "--"];
            line.extend(scope.map(str::to_owned));
        } else if has_swap() {
            return Err(Error::new(
                NO_CHAMBER,
                "this machine swaps, and has no systemd that keeps one program out of it",
            )
            .hint("turn it off meanwhile: swapoff -a"));
        }
        let (uid, gid) = (self.owner.uid.to_string(), self.owner.gid.to_string());
        let identity = ["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--pdeathsig", "KILL", "--"];
        line.extend(identity.map(str::to_owned));
        line.extend_from_slice(command);
        let log = file::append(log, 0o600)?;
        // Not from where lsm was called: that folder may be closed to this user, and lnd looks at where it is.
        Program::new(&line[0]).args(&line[1..]).folder(Path::new(PLACE)).start(log).map(Running)
    }
}

/// A program that runs in a chamber; ended when it goes out of sight.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// True where it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            // It ends with this process at the latest.
            let _ = program::stop(&mut self.0, PATIENCE);
        }
    }
}

fn has_swap() -> bool {
    // The first line is a heading (proc_swaps(5)).
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}
