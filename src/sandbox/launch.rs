//! Drop everything, then become the program: what `lsm launch` does.

use crate::error::{Code, Error, Result};
use crate::host::{file, program};
use crate::sandbox::calls::Use;
use crate::sandbox::landlock::{Fence, Interface};
use crate::sandbox::policy::Policy;
use crate::sandbox::seccomp::Filter;
use crate::sandbox::{capabilities, elf, memory};
use nix::fcntl::AtFlags;
use nix::libc;
use nix::unistd::execveat;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const NO_PROGRAM: Code = Code::usage("E-SANDBOX-013");
const BAD_ARGUMENT: Code = Code::usage("E-SANDBOX-014");
const NOT_STARTED: Code = Code::lacking("E-SANDBOX-015");
const NOT_THERE: Code = Code::lacking("E-SANDBOX-016");
const NOT_CLOSED: Code = Code::lacking("E-SANDBOX-017");

/// Where an interpreter looks for libraries (ld.so(8)); a folder that is not there is passed over.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];

/// What is to be launched.
pub struct Launch {
    /// What it may reach; without one, itself alone.
    pub policy: Option<PathBuf>,
    /// The oldest version of the kernel's Landlock interface that will do.
    pub require_landlock: Option<u32>,
    /// The program, and its arguments.
    pub command: Vec<OsString>,
}

impl Launch {
    /// Gives up every right but those of the policy, tells through `tell` what the kernel gave, and becomes the program.
    /// Needs a process with one thread that owns no descriptor but the first three: every other is closed.
    ///
    /// # Errors
    /// Where something is wrong with what was asked for, or the kernel refuses.
    pub fn run(self, tell: impl FnOnce(Interface)) -> Result<Infallible> {
        close_inherited()?;
        Interface::of_kernel().require(self.require_landlock.unwrap_or(0))?;
        let policy = self.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default();
        close_to_others(policy.group)?;
        let program = Program::open(self.command)?;
        let filters = Filter::of_launch(Use {
            dynamic: program.interpreter.is_some(),
            tcp: !policy.listen.is_empty(),
            sqlite: policy.sqlite,
        })?;
        let fence = fence(&policy, &program)?;
        if let Some(socket) = &policy.socket {
            file::remove_socket(socket)?;
        }
        memory::release();
        policy.limits.enforce()?;
        capabilities::drop_all()?;
        tell(fence.enforce()?);
        filters.iter().try_for_each(Filter::enforce)?;
        program.become_it()
    }
}

/// The program, open: what is judged is what is started.
struct Program {
    path: PathBuf,
    file: File,
    interpreter: Option<PathBuf>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn open(command: Vec<OsString>) -> Result<Self> {
        let name = command.first().ok_or_else(|| Error::new(NO_PROGRAM, "no program is named"))?;
        let path = program::find(name).map(PathBuf::from).ok_or_else(|| {
            Error::new(NO_PROGRAM, format!("there is no program {}", Path::new(name).display()))
                .hint("name it by its path")
        })?;
        let held = file::hold(&path)?;
        let (file, interpreter) = match file::open(&path) {
            Ok(file) => {
                let interpreter = elf::interpreter(&file, &path)?;
                (file, interpreter)
            }
            // What its user may not read is taken for static; were it not, the fence would keep its interpreter out.
            Err(_) => (held, None),
        };
        let argv = command.into_iter().map(|arg| c_string(arg.into_vec())).collect::<Result<_>>()?;
        let env = std::env::vars_os().map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Self { file, interpreter, argv, env: env.collect::<Result<_>>()?, path })
    }

    fn become_it(self) -> Result<Infallible> {
        execveat(&self.file, c"", &self.argv, &self.env, AtFlags::AT_EMPTY_PATH)
            .map_err(|e| Error::new(NOT_STARTED, format!("cannot start {}: {e}", self.path.display())))
    }
}

fn fence(policy: &Policy, program: &Program) -> Result<Fence> {
    let mut fence = Fence::default();
    let start =
        program.file.try_clone().map_err(|e| Error::new(NOT_STARTED, format!("cannot keep a file open: {e}")))?;
    fence.allow_start(start);
    if let Some(interpreter) = &program.interpreter {
        fence.allow_start(file::open(interpreter)?);
        for folder in LIBRARIES {
            fence.allow_read(Path::new(folder))?;
        }
    }
    for path in &policy.read {
        fence.allow_read(path)?;
    }
    for path in &policy.write {
        if !fence.allow_write(path)? {
            return Err(Error::new(
                NOT_THERE,
                format!("there is no {}, which the program is to write", path.display()),
            ));
        }
    }
    policy.listen.iter().for_each(|port| fence.allow_listen(*port));
    Ok(fence)
}

/// What the program makes is for its user alone and, where that is wanted, its group: lnd leaves many a mode to the umask.
fn close_to_others(group: bool) -> Result<()> {
    let others: libc::mode_t = if group { 0o007 } else { 0o077 };
    // SAFETY: it takes a number and gives one. nix's would end the process where a filter of the caller's refuses the call.
    match unsafe { libc::umask(others) } {
        libc::mode_t::MAX => {
            let e = std::io::Error::last_os_error();
            Err(Error::new(NOT_CLOSED, format!("cannot close new files to others: {e}"))
                .hint("the unit or profile that starts it is of another lsm; lsm install writes it anew"))
        }
        inherited => {
            // SAFETY: as above.
            unsafe { libc::umask(inherited | others) };
            Ok(())
        }
    }
}

/// Closes whatever the caller left open besides the first three.
fn close_inherited() -> Result<()> {
    // SAFETY: nothing of this process owns a descriptor above the first three yet, as `run` demands.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } {
        0 => Ok(()),
        _ => {
            let e = std::io::Error::last_os_error();
            Err(Error::new(NOT_CLOSED, format!("cannot close inherited descriptors: {e}")))
        }
    }
}

fn c_string(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(BAD_ARGUMENT, "an argument holds a zero byte"))
}
