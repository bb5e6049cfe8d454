//! `lsm guard clock`: the operator's word that the clock is right, where it was ahead.

use super::{WordArgs, guarded, read_ledger, say_to_guard};
use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::rights::require_root;
use crate::error::Result;
use crate::guard::clock::in_words;
use crate::guard::now;
use crate::ui::{self, say, terminal};
use serde_json::json;

/// Writes it where the guard reads it.
///
/// # Errors
/// Where there is no guard, its log cannot be read, it is not root who says so, or nobody agrees.
pub(super) fn run(args: &WordArgs, common: &Common) -> Result<()> {
    let spec = guarded(common)?;
    require_root()?;
    let (layout, at) = (Layout::of(&spec), now());
    let ahead = read_ledger(&layout)?.ahead_of(at);
    if let Some(until) = ahead {
        if !args.yes {
            let (is, until) = (in_words(at), in_words(until));
            terminal::confirm(&format!(
                "The clock says {is}, and something was signed at {until}. Is the clock right?"
            ))?;
        }
        say_to_guard(&layout.guard_clock(), at)?;
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
