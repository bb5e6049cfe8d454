//! What an install tells at its end.

use super::Look;
use crate::error::Result;
use crate::plan::{self, SeedSink};
use crate::spec::{Places, Spec};
use crate::ui::{self, say};
use serde_json::json;

/// Tells what the signer is by now.
///
/// # Errors
/// Where its receipt cannot be read.
pub(super) fn finish(look: &Look, changed: bool) -> Result<()> {
    let (spec, wishes, layout) = (&look.spec, &look.wishes, &look.layout);
    // A wallet that was there before has its words where they were written then.
    let seed = if changed && look.makes_wallet() { wishes.seed.file() } else { None };
    let identity = if wishes.no_wallet { None } else { Some(plan::read_receipt(&layout.receipt())?.identity_pubkey) };
    if ui::voice().json {
        let object = json!({
            "instance": spec.instance, "changed": changed, "listen": spec.listen, "network": spec.network,
            "release": spec.release, "identity_pubkey": identity, "bundle": wishes.bundle,
            "seed": seed,
        });
        say!("{object}");
        return Ok(());
    }
    let Some(identity) = identity else {
        say!("the signer {} is installed, without a wallet", spec.instance);
        return Ok(());
    };
    if !changed {
        say!("nothing to do: the signer is as wanted");
    }
    say!("signer     {} on {}, lnd {}", spec.instance, spec.network, spec.release);
    say!("answers    {}, allowed: {}", spec.listen, allowed(spec));
    say!("identity   {identity}");
    if let (Some(file), SeedSink::Age { recipient, .. }) = (seed, &wishes.seed) {
        say!("seed       {}, encrypted to {recipient}", file.display());
    }
    say!("bundle     {}", wishes.bundle.display());
    say!(
        "next       copy the bundle to the watch-only machine, and there: lsm watch-only init --bundle DIR --lnddir DIR"
    );
    Ok(())
}

fn allowed(spec: &Spec) -> String {
    match spec.allow.as_slice() {
        _ if Places::of(spec).are_users() => "programs of this host".to_owned(),
        [] => "nobody yet (--allow)".to_owned(),
        nets => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
