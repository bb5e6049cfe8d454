//! `lsm cert renew`: the next certificate beside the one in force, then in its place.

use super::told::{describe_end, read, read_next, to_json};
use crate::backend::native::Wishes;
use crate::backend::{Layout, credentials};
use crate::cli::machine::{self, MachineArgs, NO_OVERLAP};
use crate::cli::rights::installed;
use crate::cli::{Common, strings};
use crate::error::{Code, Error, Result};
use crate::plan::{self, History, Plan};
use crate::signer::certificate::{Certificate, Urgency};
use crate::spec::Spec;
use crate::ui::{self, say, terminal};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use time::OffsetDateTime;

const OTHER_NAMES: Code = Code::refused("E-CERT-010");
const OUTDATED: Code = Code::refused("E-CERT-011");

/// Under which names the journal has these plans.
pub(in crate::cli) const BEGIN: &str = "cert renew";
const FINISH: &str = "cert renew --finish";
const NOW: &str = "cert renew --now";

/// The options of `lsm cert renew`.
#[derive(Debug, Args)]
#[command(
    after_help = "First it makes the next certificate and exports a bundle with both; the signer goes on showing the old one.\n\
    Then copy the bundle to the watch-only machine, import it there (lsm bundle import) and restart its lnd: it\n\
    accepts either. Last, --finish has the signer show the new one, and exports a bundle without the old one.\n\
    A certificate that has expired already is replaced at once.\n\n\
    Examples:\n  sudo lsm cert renew\n  sudo lsm cert renew --finish --yes"
)]
pub struct RenewArgs {
    /// The other side has the bundle with both: show the new certificate
    #[arg(long)]
    finish: bool,
    /// Both at once: the key of the old one leaked. The other side is cut off until it has the new bundle
    #[arg(long, conflicts_with = "finish")]
    now: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What there is to tell of a renewal.
struct Renewal {
    bundle: PathBuf,
    layout: Layout,
    pending: bool,
}

/// Runs it.
pub(super) fn run(args: &RenewArgs, common: &Common) -> Result<()> {
    if args.finish {
        let look = |spec: &Spec, history: &History| look(spec, history, FINISH, false);
        let Some((renewal, changed)) = machine::change(FINISH, &args.machine, common, look)? else { return Ok(()) };
        return tell_finished(&renewal, changed);
    }
    let layout = Layout::of(&installed(&common.instance)?);
    let (has_expired, goes_on) = (has_expired(&layout), History::read(&layout.journal())?.was_cut_off(NOW));
    let is_now = args.now || has_expired || goes_on;
    // What goes on was begun because of a key that leaked, unless the certificate has expired.
    let leaked = args.now || goes_on && !has_expired;
    let verb = if is_now { NOW } else { BEGIN };
    if is_now && !args.machine.dry_run {
        terminal::ask_about(&format!("warning: {NO_OVERLAP}"));
    }
    let look = |spec: &Spec, history: &History| look(spec, history, verb, leaked);
    let Some((renewal, changed)) = machine::change(verb, &args.machine, common, look)? else { return Ok(()) };
    if is_now { tell_finished(&renewal, changed) } else { tell_begun(&renewal, changed) }
}

/// Of one that cannot be read nothing is known: making the next one says what is wrong.
fn has_expired(layout: &Layout) -> bool {
    let end = read(&layout.door().certificate).map(|certificate| certificate.validity().1.unix_timestamp());
    end.is_ok_and(|end| Urgency::of(end, OffsetDateTime::now_utc().unix_timestamp()) == Some(Urgency::Expired))
}

fn look(spec: &Spec, history: &History, verb: &str, leaked: bool) -> Result<(Plan, Renewal)> {
    let layout = Layout::of(spec);
    let (facts, goes_on, next) = (layout.look(), history.was_cut_off(verb), read_next(&layout)?);
    let wishes = Wishes::for_export(&layout, history)?;
    let steps = match (verb, &next) {
        (BEGIN, _) => credentials::renew_steps(spec, &wishes),
        (NOW, _) => {
            let anew = leaked && !(goes_on && has_own_next(history));
            credentials::replace_steps(spec, &wishes, &facts, anew)?
        }
        (_, Some(next)) => {
            check(next, spec)?;
            credentials::switch_steps(spec, &wishes, &facts)?
        }
        // Cut off after the certificate had its place.
        (_, None) if goes_on => credentials::switch_steps(spec, &wishes, &facts)?,
        (_, None) => vec![],
    };
    let facts = plan::observe(facts, &steps);
    let (plan, pending) = (plan::make_plan(steps, &facts, goes_on), next.is_some() || goes_on);
    Ok((plan, Renewal { bundle: wishes.bundle, layout, pending }))
}

/// True where the plan that was cut off has begun to make the next certificate, or to put it in force: it is that plan's own, and
/// its key may be the one in force already.
fn has_own_next(history: &History) -> bool {
    ["certificate", "switch"].iter().any(|kind| history.unended_step(kind).is_some())
}

/// Holds that the next certificate is what the signer now has to show.
fn check(next: &Certificate, spec: &Spec) -> Result<()> {
    let again = "make it anew, and give the new bundle to the watch-only side: lsm cert renew";
    if next.names() != spec.certificate_names() {
        let names = strings(&spec.certificate_names()).join(", ");
        return Err(Error::new(OTHER_NAMES, format!("the next certificate is not for {names}")).hint(again));
    }
    if next.validity().1 <= OffsetDateTime::now_utc() {
        return Err(Error::new(OUTDATED, "the next certificate has expired too").hint(again));
    }
    Ok(())
}

fn tell_begun(renewal: &Renewal, changed: bool) -> Result<()> {
    let (now, next) = (OffsetDateTime::now_utc(), read_next(&renewal.layout)?);
    if ui::voice().json {
        say!("{}", json!({"changed": changed, "bundle": renewal.bundle, "next": next.map(|next| to_json(&next, now))}));
        return Ok(());
    }
    if let Some(next) = next {
        let made = if changed { "made" } else { "made already" };
        say!("new        {} ({made}), valid to {}", next.fingerprint(), describe_end(&next, now));
    }
    say!("bundle     {} (with both)", renewal.bundle.display());
    say!("next       {}", machine::SWITCH_OVER);
    say!("then       lsm cert renew --finish");
    Ok(())
}

fn tell_finished(renewal: &Renewal, changed: bool) -> Result<()> {
    let (now, certificate) = (OffsetDateTime::now_utc(), read(&renewal.layout.door().certificate)?);
    if ui::voice().json {
        say!("{}", json!({"changed": changed, "bundle": renewal.bundle, "certificate": to_json(&certificate, now)}));
        return Ok(());
    }
    if !changed && !renewal.pending {
        say!("nothing to do: no renewal is under way");
        return Ok(());
    }
    let (end, proved) = (describe_end(&certificate, now), machine::proved(&renewal.layout));
    say!("shows      {}, valid to {end}{proved}", certificate.fingerprint());
    say!("bundle     {} (with the new one alone)", renewal.bundle.display());
    say!("next       when it suits: {}", machine::SWITCH_OVER);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn history(events: &[Value]) -> History {
        let line = |event: &Value| {
            let mut line = event.clone();
            (line["v"], line["at"]) = (json!(2), json!(0));
            serde_json::from_value(line).unwrap()
        };
        History::new(events.iter().map(line).collect())
    }

    #[test]
    fn the_next_certificate_is_the_plans_own_once_that_has_begun_to_make_it() {
        let begin = |verb: &str| json!({"event": "begin", "verb": verb, "steps": 4});
        let intent = |kind: &str| json!({"event": "intent", "step": 0, "what": {"kind": kind}, "prior": []});
        let renewed = [begin(BEGIN), intent("certificate"), json!({"event": "end"})];
        let cut_off = [&renewed[..], &[begin(NOW), intent("remove")]].concat();
        assert!(!has_own_next(&history(&cut_off)), "what is there is of the renewal, and may have leaked too");
        for kind in ["certificate", "switch"] {
            // Run again, and cut off before its first step.
            let again = [&cut_off[..], &[intent(kind), begin(NOW)]].concat();
            assert!(has_own_next(&history(&again)), "{kind}");
        }
    }
}
