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
use crate::ui::{self, say};
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
    let is_now = args.now || has_expired(&layout) || History::read(&layout.journal())?.was_cut_off(NOW);
    let verb = if is_now { NOW } else { BEGIN };
    if is_now && !args.machine.dry_run {
        ui::note(&format!("warning: {NO_OVERLAP}"));
    }
    let look = |spec: &Spec, history: &History| look(spec, history, verb, args.now);
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
        // Cut off, the next one is this plan's own.
        (NOW, _) => credentials::replace_steps(spec, &wishes, &facts, leaked && !goes_on)?,
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
    say!("shows      {}, valid to {}; it signs", certificate.fingerprint(), describe_end(&certificate, now));
    say!("bundle     {} (with the new one alone)", renewal.bundle.display());
    say!("next       when it suits: {}", machine::SWITCH_OVER);
    Ok(())
}
