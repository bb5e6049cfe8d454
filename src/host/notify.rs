//! What a service tells the systemd that started it (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells it `state`, lines such as `READY=1`. Where nobody listens there is nobody to tell.
pub fn notify(state: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(e) = told {
        tracing::warn!("systemd was not told {state:?}: {e}");
    }
}

/// How long systemd waits for `WATCHDOG=1` before it kills the service, where it does (sd_watchdog_enabled(3)).
pub fn watchdog() -> Option<Duration> {
    std::env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)
}
