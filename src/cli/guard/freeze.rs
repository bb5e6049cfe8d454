//! `lsm guard freeze` and `thaw`: nothing is signed, and what that costs.

use super::guarded;
use crate::backend::Layout;
use crate::cli::rights::require_root;
use crate::cli::{Common, machine};
use crate::error::Result;
use crate::guard::freeze::{AFTER, AT_STAKE, Frozen};
use crate::guard::now;
use crate::host::file::{self, Access};
use crate::host::user::Owner;
use crate::spec::{Guard, Spec};
use crate::ui::{self, say};
use serde_json::json;

/// Freezes it.
///
/// # Errors
/// Where there is no guard, it is not root who asks, or the mark cannot be written.
pub(super) fn freeze(common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let flag = layout.frozen();
    // Whatever else is done to the signer now: nothing waits here.
    let changed = !file::is_there(&flag)?;
    if changed {
        file::replace(&flag, b"", Access::owned(0o644, Owner::ROOT))?;
    }
    tell(&spec, changed, Frozen::look(&flag).as_ref());
    Ok(())
}

/// Ends that.
///
/// # Errors
/// Where there is no guard, it is not root who asks, or the mark cannot be taken away.
pub(super) fn thaw(common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let layout = Layout::of(&spec);
    let _lock = machine::open_journal(&layout)?;
    let changed = file::remove(&layout.frozen())?;
    tell(&spec, changed, None);
    Ok(())
}

fn tell(spec: &Spec, changed: bool, frozen: Option<&Frozen>) {
    let at_stake = frozen.filter(|_| spec.guard == Guard::Enforce).map_or(&[][..], |_| &AT_STAKE);
    let next = (changed && frozen.is_none() && spec.guard == Guard::Enforce).then_some(AFTER);
    if ui::voice().json {
        let said = json!({
            "instance": spec.instance, "changed": changed, "frozen": frozen.is_some(),
            "frozen_seconds": frozen.and_then(|frozen| frozen.seconds(now())), "at_stake": at_stake, "next": next,
        });
        say!("{said}");
        return;
    }
    let what = match (frozen, spec.guard) {
        (Some(_), Guard::Enforce) => "frozen: nothing is signed until lsm guard thaw",
        (Some(_), _) => "marked as frozen, but the guard only observes: everything is signed as before",
        (None, _) => "not frozen",
    };
    let already = match frozen {
        _ if changed => String::new(),
        Some(frozen) => format!(", already, {}", frozen.describe(now())),
        None => ", already".to_owned(),
    };
    say!("{what}{already}");
    at_stake.iter().chain(&next).for_each(|what| say!("- {what}"));
}
