//! `lsm guard clock`: the operator's word that the clock is right, where it was ahead.

use super::{guarded, read_log};
use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::control::require_root;
use crate::error::Result;
use crate::guard::budget::Ledger;
use crate::guard::clock::{in_words, render};
use crate::guard::now;
use crate::host::file::{self, Access};
use crate::host::user::Owner;
use crate::ui::{self, say};
use serde_json::json;

/// Writes it where the guard reads it.
///
/// # Errors
/// Where there is no guard, its log cannot be read, or it is not root who says so.
pub(super) fn run(common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let (layout, at) = (Layout::of(&spec), now());
    let mut ledger = Ledger::default();
    ledger.read(&read_log(&layout)?);
    let ahead = ledger.ahead_of(at);
    if ahead.is_some() {
        file::replace(&layout.guard_clock(), &render(at), Access::owned(0o644, Owner::ROOT))?;
    }
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": ahead.is_some(), "counted_until": ahead}));
        return Ok(());
    }
    match ahead.map(in_words) {
        Some(until) => say!(
            "within seconds the guard counts what was signed until {until} as of {}; nothing of it is forgotten",
            in_words(at)
        ),
        None => say!("nothing to do: what was signed is not ahead of the clock by more than an hour"),
    }
    Ok(())
}
