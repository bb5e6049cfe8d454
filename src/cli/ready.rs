//! `lsm ready` (hidden): waits until a signer can sign; its unit's last start command.

use crate::backend::native::Layout;
use crate::cli::Common;
use crate::error::Result;
use crate::host::user;
use crate::plan;
use crate::signer::wallet::State;
use std::time::Duration;

/// As long as the unit's TimeoutStartSec, less a little, so that the reason is lsm's and not a kill.
const DEADLINE: Duration = Duration::from_secs(170);

/// Runs it. Started by root, it talks to lnd as the proxy's user: what it reads comes from the program it waits for.
///
/// # Errors
/// Where lnd does not get there in time: why.
pub fn run(common: &Common) -> Result<()> {
    let layout = Layout::new(&common.instance);
    if user::is_root() {
        user::become_user(&layout.proxy_user())?;
    }
    plan::open(&layout.door())?.wait_for(|state| state == State::Active, DEADLINE).map(drop)
}
