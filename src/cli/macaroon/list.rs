//! `lsm macaroon list`: which macaroons of this signer there are, and which of them lnd still accepts.

use crate::backend::Layout;
use crate::cli::Common;
use crate::cli::rights::installed;
use crate::error::Result;
use crate::plan::register::{Entry, GUARD, Held};
use crate::plan::{self, Register};
use crate::signer::channel;
use crate::signer::macaroon::{self, Role};
use crate::ui::{self, say};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// The root keys that lnd has. Asked before anything is changed: without lnd no change comes to its end, nor its undoing.
pub(super) fn live_keys(layout: &Layout) -> Result<Vec<u64>> {
    let asked = plan::open_as_admin(&layout.door()).and_then(|admin| admin.root_key_ids());
    asked.map_err(|e| {
        let how = "start it with: lsm start";
        if e.code() == channel::REFUSED { e.hint(how) } else { e.hint_if_none(how) }
    })
}

/// Runs it.
pub(super) fn run(common: &Common) -> Result<()> {
    let spec = installed(&common.instance)?;
    let layout = Layout::of(&spec);
    let register = with_first(Register::read(&layout.register())?, spec.taproot_channels);
    let asked = plan::open_as_admin(&layout.door()).and_then(|admin| admin.root_key_ids());
    if let Err(e) = &asked {
        ui::note(&format!("which of them lnd accepts cannot be told: {}", e.cause()));
    }
    let live: Option<BTreeSet<u64>> = asked.ok().map(|keys| keys.into_iter().collect());
    let foreign = strange(&register, live.as_ref());
    if ui::voice().json {
        let one = |entry: &Entry| {
            let mut object = to_json(entry);
            object["good"] = json!(live.as_ref().map(|live| live.contains(&entry.root_key)));
            object
        };
        let all: Vec<Value> = register.entries.iter().map(one).collect();
        say!("{}", json!({"instance": common.instance, "macaroons": all, "other_root_keys": foreign}));
        return Ok(());
    }
    let now = OffsetDateTime::now_utc();
    for entry in &register.entries {
        let good = match live.as_ref().map(|live| live.contains(&entry.root_key)) {
            Some(true) => "good",
            Some(false) => "revoked",
            None => "?",
        };
        say!("{:5} {good:8} {}", entry.root_key, describe(entry, now));
    }
    for key in &foreign {
        let whose = match *key {
            0 => "lnd's own: admin.macaroon and those beside it",
            GUARD => "the guard's",
            _ => "somebody else's",
        };
        say!("{key:5} {:8} {whose}", "good");
    }
    Ok(())
}

/// Of the first bundle's macaroon nothing is kept; it is there all the same.
fn with_first(mut register: Register, taproot_channels: bool) -> Register {
    if let Some(root_key) = register.bundle_key(taproot_channels).filter(|key| register.find(*key).is_none()) {
        register.entries.insert(0, Entry::of_bundle(taproot_channels, root_key, Held::Bundle, 0));
    }
    register
}

/// The root keys that lnd has and the register does not name.
fn strange(register: &Register, live: Option<&BTreeSet<u64>>) -> Vec<u64> {
    let is_strange = |key: &&u64| register.find(**key).is_none();
    live.into_iter().flatten().filter(is_strange).copied().collect()
}

/// One macaroon, for programs.
pub(super) fn to_json(entry: &Entry) -> Value {
    let calls = if let Role::Calls(calls) = &entry.role { json!(calls) } else { Value::Null };
    json!({
        "root_key_id": entry.root_key, "name": entry.name, "role": entry.role.name(), "calls": calls,
        "held": entry.held, "made": entry.made, "caveats": entry.caveats,
    })
}

/// The same in words.
pub(super) fn describe(entry: &Entry, now: OffsetDateTime) -> String {
    let Entry { name, role, made, held, caveats, .. } = entry;
    let day = OffsetDateTime::from_unix_timestamp(made.cast_signed()).ok().filter(|_| *made > 0);
    let since = day.map(|day| format!(", baked {}", day.date())).unwrap_or_default();
    let conditions: String = caveats.iter().map(|caveat| format!(", {}", macaroon::describe(caveat, now))).collect();
    format!("{name}: role {role}{since}{conditions}; {}", held.words())
}
