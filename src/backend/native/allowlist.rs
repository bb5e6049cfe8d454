//! Who may connect: the packet filter, the end of what no longer may, and the unit's own list. Nothing is restarted.

use super::{FIREWALL, Layout, drop_in, firewall, folder, parent, spec_file, text, unit_path};
use crate::error::Result;
use crate::plan::step::Step;
use crate::render::unit::{NFTABLES_DROP_IN, render_allow_drop_in};
use crate::spec::Spec;

/// Debian's unit, which flushes every table (nft(8)).
pub(in crate::backend) const FLUSHES: &str = "nftables.service";

/// The steps that give an installed signer the allowlist of `spec`. `others` are the other signers of this host.
///
/// # Errors
/// Where a text cannot be rendered.
pub fn allow_steps(spec: &Spec, others: &[Spec]) -> Result<Vec<Step>> {
    Ok([spec_file(spec)?].into_iter().chain(in_force(spec, others)?).collect())
}

/// What puts it in force, and keeps it there. The packet filter first, and the unit's last: a peer that is removed can still be
/// told that its connections have ended, and calls again in vain.
pub(super) fn in_force(spec: &Spec, others: &[Spec]) -> Result<Vec<Step>> {
    let unit = Layout::new(&spec.instance).public_unit(spec);
    let list = unit_path(&format!("{unit}.d/allow.conf"));
    let peers = [spec.own_address().ip().into()].into_iter().chain(spec.allow.iter().copied()).collect();
    let steps = vec![
        firewall(others.iter().filter(|other| other.instance != spec.instance).chain([spec]))?,
        Step::Cut { unit, address: spec.listen, peers, after: vec![FIREWALL.into()] },
        text(&list, render_allow_drop_in(spec)?),
    ];
    let reload = Step::ReloadUnits { after: vec![list, drop_in(FLUSHES)], of: vec![] };
    Ok(steps.into_iter().chain(beside_flushes()).chain([reload]).collect())
}

/// What has the unit that flushes every table load lsm's again. After the filter's own file, without which that unit would fail,
/// at a boot in between too; and so gone before it.
pub(in crate::backend) fn beside_flushes() -> [Step; 2] {
    let place = drop_in(FLUSHES);
    [folder(parent(&place), 0o755), text(&place, NFTABLES_DROP_IN.to_owned())]
}
