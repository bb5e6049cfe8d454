//! What the journal's verbs come to.

use crate::cli::macaroon::{bake, revoke, rotate};
use crate::cli::{bundle, cert};
use crate::plan::History;
use crate::plan::history::ROLLBACK;

/// True where a plan was cut off that asks the running lnd, and changes nothing of what runs it; or the undoing of one.
pub(super) fn asks_lnd(history: &History) -> bool {
    let verbs = [bake::VERB, rotate::BEGIN, rotate::FINISH, revoke::VERB, cert::RENEW, bundle::EXPORT];
    let records = history.records();
    let last = records.iter().rev().find(|record| record.verb != ROLLBACK);
    history.unfinished().is_some() && last.is_some_and(|record| verbs.contains(&record.verb))
}

/// True where the last plan revoked something: it stands, for nothing brings a macaroon back.
pub(super) fn revoked_last(history: &History) -> bool {
    let for_good = [revoke::VERB, revoke::ADMIN, rotate::FINISH];
    history.records().last().is_some_and(|record| record.ended && for_good.contains(&record.verb))
}
