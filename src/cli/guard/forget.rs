//! `lsm guard forget`: the operator's word that nobody asks for more inputs of what was signed, where a flood has filled the room for it.

use super::{WordArgs, guarded, read_ledger, say_to_guard};
use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::rights::require_root;
use crate::error::Result;
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
    let waiting = read_ledger(&layout)?.waiting(at);
    if waiting > 0 {
        if !args.yes {
            terminal::ask_about("whoever can ask for their other inputs then takes what came back by them");
            terminal::confirm("Is the watch-only host yours alone, and the macaroon that it had before refused?")?;
        }
        say_to_guard(&layout.guard_forget(), at)?;
    }
    if ui::voice().json {
        say!("{}", json!({"instance": spec.instance, "changed": waiting > 0, "transactions": waiting}));
        return Ok(());
    }
    if waiting > 0 {
        say!("within seconds the guard forgets the inputs of {waiting} transactions; what has left by them counts on");
    } else {
        say!("nothing to do: no transaction of several inputs is remembered");
    }
    Ok(())
}
