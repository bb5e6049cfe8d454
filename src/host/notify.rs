//! What a service tells the systemd that started it, and what that keeps for it (sd_notify(3), sd_pid_notify_with_fds(3)).

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, sendmsg, shutdown, socket,
};
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first descriptor that systemd gives (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// Tells it `state`, lines such as `READY=1`. Where nobody listens there is nobody to tell.
pub fn notify(state: &str) {
    if let Err(e) = tell(state, None) {
        tracing::warn!("systemd was not told {state:?}: {e}");
    }
}

/// Has it keep `socket` under `name` in place of what it had under that, however this process ends: until then the other end
/// does not learn that this one is gone. The unit needs `FileDescriptorStoreMax=`.
///
/// # Errors
/// Where systemd could not be told.
pub fn keep(name: &str, socket: BorrowedFd<'_>) -> std::io::Result<()> {
    forget(name)?;
    tell(&format!("FDSTORE=1\nFDNAME={name}"), Some(socket))
}

/// Hangs up what it kept under `name` for earlier processes of this service: from then on the other ends know. Says how many
/// there were.
pub fn hang_up(name: &str) -> usize {
    let kept = given(name);
    for socket in &kept {
        // One whose other end is gone is hung up already.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    }
    if let Err(e) = forget(name) {
        tracing::warn!("systemd was not told to forget {name}: {e}");
    }
    kept.len()
}

fn forget(name: &str) -> std::io::Result<()> {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)
}

/// The sockets that it gave this process under `name`: those that it kept, and of a socket unit those that listen, under the
/// unit's (systemd.socket(5), `FileDescriptorName=`). The first call gives them, a second none.
pub fn given(name: &str) -> Vec<OwnedFd> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let said = |name: &str| std::env::var(name).ok();
    let is_own = said("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    if !is_own || GIVEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let count = said("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or_default();
    let names = said("LISTEN_FDNAMES").unwrap_or_default();
    let of_name = (FIRST..FIRST.saturating_add(count)).zip(names.split(':')).filter(|(_, of)| *of == name);
    // SAFETY: systemd put these descriptors into this process when it started it, nothing else here uses them, and each is taken
    // once, as GIVEN sees to.
    of_name.map(|(number, _)| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

/// How long systemd waits for `WATCHDOG=1` before it kills the service, where it does (sd_watchdog_enabled(3)).
pub fn watchdog() -> Option<Duration> {
    std::env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)
}

fn tell(state: &str, with: Option<BorrowedFd<'_>>) -> std::io::Result<()> {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(OsStr::new(&place))?,
    };
    let own = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let numbers = with.map(|with| [with.as_raw_fd()]);
    let rights: Vec<ControlMessage<'_>> = numbers.iter().map(|numbers| ControlMessage::ScmRights(numbers)).collect();
    let said = [IoSlice::new(state.as_bytes())];
    sendmsg(own.as_raw_fd(), &said, &rights, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}
