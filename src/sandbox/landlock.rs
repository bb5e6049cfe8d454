//! Landlock: what of the file system and the network is closed to a thread, as far as the kernel knows how.

use crate::error::{Code, Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

const NOT_CLOSED: Code = Code::lacking("E-SANDBOX-003");
const CANNOT_OPEN: Code = Code::lacking("E-SANDBOX-006");
const TOO_OLD: Code = Code::lacking("E-SANDBOX-007");

/// The newest interface whose rights are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// What came with which interface, and the Linux that brought it (landlock(7)).
const PARTS: [(u32, &str, &str); 6] = [
    (1, "files", "5.13"),
    (2, "refer", "5.19"),
    (3, "truncate", "6.2"),
    (4, "tcp", "6.7"),
    (5, "ioctl-dev", "6.10"),
    (6, "scopes", "6.12"),
];

/// What a folder or file that may be written grants: no execution, no device, pipe or link, no way to another folder.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSock | RemoveFile | RemoveDir
});

/// What a folder or file that may be read grants.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// What a program grants, and nothing else: to be started.
const START: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | Execute});

/// The version of the kernel's Landlock interface; 0 where it has none, or it is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Interface(u32);

impl Interface {
    /// The running kernel's.
    pub fn of_kernel() -> Self {
        // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h.
        const VERSION: u32 = 1;
        // SAFETY: with this flag landlock_create_ruleset(2) takes no attributes and only answers a number.
        let answer =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
        Self(u32::try_from(answer).unwrap_or(0))
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The parts that it lacks.
    pub fn missing(self) -> Vec<&'static str> {
        PARTS.iter().filter(|(since, ..)| *since > self.0).map(|(_, part, _)| *part).collect()
    }

    /// Refuses less than interface `wanted`.
    ///
    /// # Errors
    /// Where the kernel has less.
    pub fn require(self, wanted: u32) -> Result<()> {
        if self.0 >= wanted {
            return Ok(());
        }
        let error = Error::new(TOO_OLD, format!("Landlock ABI {wanted} is required, and {self}"));
        Err(match PARTS.iter().find(|(since, ..)| *since == wanted) {
            Some((.., linux)) => {
                error.hint(format!("it comes with Linux {linux}; boot a newer kernel, or require less"))
            }
            None => error.hint("boot a newer kernel, or require less"),
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("this kernel has no Landlock"),
            number => write!(f, "this kernel has Landlock ABI {number}"),
        }?;
        let missing = self.missing();
        if missing.is_empty() { Ok(()) } else { write!(f, ", without {}", missing.join(", ")) }
    }
}

/// What stays open of an otherwise closed world: no file, no TCP port, no signal to others, no abstract socket of others.
#[derive(Debug, Default)]
pub struct Fence {
    files: Vec<(OwnedFd, BitFlags<AccessFs>)>,
    ports: Vec<u16>,
}

impl Fence {
    /// Lets `file` be started and read. Nothing else can be.
    pub fn allow_start(&mut self, file: impl Into<OwnedFd>) {
        self.files.push((file.into(), START));
    }

    /// Lets the file at `path`, or the folder with all below it, be read. False where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be opened.
    pub fn allow_read(&mut self, path: &Path) -> Result<bool> {
        self.allow(path, READ)
    }

    /// Lets the file at `path`, or the folder with all below it, be read and written. False where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be opened.
    pub fn allow_write(&mut self, path: &Path) -> Result<bool> {
        self.allow(path, WRITE)
    }

    /// Lets TCP port `port` be listened on. None can be connected to.
    pub fn allow_listen(&mut self, port: u16) {
        self.ports.push(port);
    }

    fn allow(&mut self, path: &Path, rights: BitFlags<AccessFs>) -> Result<bool> {
        let cannot = |e| Error::new(CANNOT_OPEN, format!("cannot open {}: {e}", path.display()));
        let file = match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(nix::errno::Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(cannot(e)),
        };
        let kind = SFlag::from_bits_truncate(fstat(&file).map_err(cannot)?.st_mode) & SFlag::S_IFMT;
        let fitting = if kind == SFlag::S_IFDIR { rights } else { rights & AccessFs::from_file(NEWEST) };
        self.files.push((file, fitting));
        Ok(true)
    }

    /// Closes the rest to the calling thread and what it starts, under no_new_privs. What it has open already stays open.
    /// A kernel without Landlock is no error.
    ///
    /// # Errors
    /// Where the kernel has it and refuses.
    pub fn enforce(self) -> Result<Interface> {
        let kernel = Interface::of_kernel();
        let rules = self.files.into_iter().map(|(file, rights)| Ok(PathBeneath::new(file, rights)));
        let ports = self.ports.into_iter().map(|port| Ok(NetPort::new(port, AccessNet::BindTcp)));
        let done = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
            .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
            .and_then(Ruleset::create)
            // What is refused to the program that is started goes to the kernel's log too (audit), from ABI 7 on.
            .and_then(|fence| fence.log_new_exec(true))
            .and_then(|fence| fence.add_rules(rules))
            .and_then(|fence| fence.add_rules(ports))
            .and_then(landlock::RulesetCreated::restrict_self)
            .map_err(|e| Error::new(NOT_CLOSED, format!("cannot close the file system with Landlock: {e}")))?;
        if kernel.0 > 0 && done.ruleset == RulesetStatus::NotEnforced {
            return Err(Error::new(NOT_CLOSED, "Landlock is there and does not hold"));
        }
        Ok(kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    // Landlock holds a thread; the other tests stay free.
    fn in_a_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(f).join().unwrap()
    }

    fn denied<T>(tried: std::io::Result<T>) -> bool {
        tried.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn no_file_can_be_opened_and_no_port_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let (kernel, files, connects) = in_a_thread(move || {
            let kernel = Fence::default().enforce().unwrap();
            let files = [
                denied(std::fs::File::open("/etc/hostname")),
                denied(std::fs::read_dir("/")),
                denied(std::fs::File::create(new)),
            ];
            (kernel, files, denied(TcpStream::connect(port)))
        });
        assert_eq!(files, [kernel.number() >= 1; 3]);
        assert_eq!(connects, kernel.number() >= 4);
    }

    #[test]
    fn what_was_allowed_stays_open_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let [read, write] = ["read", "write"].map(|name| dir.path().join(name));
        std::fs::create_dir(&write).unwrap();
        std::fs::write(&read, "x").unwrap();
        in_a_thread(move || {
            let mut fence = Fence::default();
            assert!(fence.allow_read(&read).unwrap());
            assert!(fence.allow_write(&write).unwrap());
            assert!(!fence.allow_read(Path::new("/no/such")).unwrap());
            if fence.enforce().unwrap().number() < 6 {
                return;
            }
            std::fs::read(&read).unwrap();
            assert!(denied(std::fs::write(&read, "y")));
            std::fs::write(write.join("a"), "y").unwrap();
            std::fs::rename(write.join("a"), write.join("b")).unwrap();
            assert!(denied(std::os::unix::fs::symlink("b", write.join("link"))));
            assert!(denied(nix::unistd::mkfifo(&write.join("pipe"), Mode::S_IRUSR).map_err(Into::into)));
            std::fs::remove_file(write.join("b")).unwrap();
        });
    }

    #[test]
    fn only_an_allowed_port_can_be_listened_on() {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (allowed, other) = (free(), free());
        in_a_thread(move || {
            let mut fence = Fence::default();
            fence.allow_listen(allowed.port());
            let closes_ports = fence.enforce().unwrap().number() >= 4;
            TcpListener::bind(allowed).unwrap();
            assert_eq!(denied(TcpListener::bind(other)), closes_ports);
        });
    }

    #[test]
    fn an_older_kernel_says_what_it_lacks() {
        assert_eq!(
            Interface(2).to_string(),
            "this kernel has Landlock ABI 2, without truncate, tcp, ioctl-dev, scopes"
        );
        assert_eq!(Interface(7).to_string(), "this kernel has Landlock ABI 7");
        assert_eq!(Interface(0).missing().len(), PARTS.len());
        Interface(6).require(6).unwrap();
        let refused = Interface(2).require(6).unwrap_err();
        assert_eq!(refused.code(), TOO_OLD);
        assert!(refused.advice().unwrap().contains("Linux 6.12"), "{refused:?}");
    }
}
