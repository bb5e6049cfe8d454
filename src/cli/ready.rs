//! `lsm ready` (hidden): waits until a signer can sign, its unit's last start command; or tells at once whether it can, the
//! health check of its container.

use crate::backend::Layout;
use crate::cli::{Common, cert};
use crate::error::Result;
use crate::host::user;
use crate::plan::{self, Door};
use crate::signer::certificate::Urgency;
use crate::signer::wallet::State;
use crate::ui::say;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// How often it looks whether lnd still runs.
const LOOK: Duration = Duration::from_secs(1);

/// Which lnd is asked, where it is not the one of a unit.
#[derive(Debug, Args)]
pub struct Options {
    /// lnd's unix socket
    #[arg(long, requires = "certificate")]
    socket: Option<PathBuf>,
    /// lnd's certificate
    #[arg(long, requires = "socket")]
    certificate: Option<PathBuf>,
    /// How long it may take, in seconds; as long as the unit's TimeoutStartSec, less a little, so that the reason is lsm's
    /// and not a kill
    #[arg(long, value_name = "SECONDS", default_value_t = 170)]
    within: u64,
}

/// Runs it. Started by root, it talks to lnd as the proxy's user: what it reads comes from the program it waits for.
///
/// # Errors
/// Where lnd ends, or does not get there in time: why.
pub fn run(options: &Options, common: &Common) -> Result<()> {
    if let (Some(socket), Some(certificate)) = (&options.socket, &options.certificate) {
        let door = Door { socket: socket.clone(), certificate: certificate.clone(), macaroon: PathBuf::new() };
        return plan::open(&door)?.wait_for(|state| state == State::Active, LOOK).map(drop);
    }
    let layout = Layout::new(&common.instance);
    if user::is_root() {
        user::become_user(&layout.proxy_user())?;
    }
    let node = plan::open(&layout.door())?;
    let end = Instant::now() + Duration::from_secs(options.within);
    loop {
        let began = Instant::now();
        match node.wait_for(|state| state == State::Active, LOOK) {
            // Before its time: waiting cannot help.
            Err(fault) if began.elapsed() < LOOK || Instant::now() >= end || main_process_ended() => return Err(fault),
            Err(_) => {}
            Ok(_) => break,
        }
    }
    warn(&layout);
    Ok(())
}

/// The log says at each start how near its end the certificate is, as the journal takes it (sd-daemon(3)).
fn warn(layout: &Layout) {
    let Ok(certificate) = cert::read(&layout.door().certificate) else { return };
    let (end, now) = (certificate.validity().1.unix_timestamp(), OffsetDateTime::now_utc());
    if let Some(urgency) = Urgency::of(end, now.unix_timestamp()) {
        say!("<{}>the certificate is valid to {}", urgency.priority(), cert::describe_end(&certificate, now));
    }
}

/// True where systemd named the unit's main process (systemd.exec(5), `$MAINPID`) and it is gone.
fn main_process_ended() -> bool {
    std::env::var("MAINPID").is_ok_and(|pid| !Path::new("/proc").join(pid).exists())
}
