//! What stays when one signer's changes are undone: all that the other signers of this host need.

use super::watch::{watch_steps, watched};
use super::{Layout, Wishes, firewall, read_spec, read_specs};
use crate::backend::steps;
use crate::error::Result;
use crate::host::kept::Kept;
use crate::plan::journal::kept_beside;
use crate::plan::prior::{AtPath, Prior, Thing, Was};
use crate::plan::undo::{BundleBefore, Stays};
use crate::plan::{History, SeedSink, Step};
use crate::release::pins::Arch;
use crate::release::{Installed, known};
use crate::spec::Spec;
use std::path::PathBuf;

/// What other signers than that of `layout` need; the packet filter is theirs, and that of `own`, which is what this signer's
/// spec will be afterwards.
///
/// # Errors
/// Where a spec cannot be read.
pub fn stays(layout: &Layout, own: Option<&Spec>) -> Result<Stays> {
    let (instance, places) = (layout.instance(), layout.places());
    let others: Vec<Spec> = read_specs(places)?.into_iter().filter(|spec| spec.instance != *instance).collect();
    let bundle = own.map(|own| {
        let own_layout = Layout::of(own);
        BundleBefore {
            door: own_layout.door(),
            unit: own_layout.service(),
            register: own_layout.register(),
            taproot_channels: own.taproot_channels,
        }
    });
    let mut stays = Stays { bundle, ..Stays::default() };
    for other in watched(places)?.iter().filter(|other| *other != instance) {
        stays.shared.extend(watch_steps(other, String::new())?.iter().flat_map(Step::touches));
    }
    if others.is_empty() {
        return Ok(stays);
    }
    let facts = layout.look();
    for spec in &others {
        let wishes = Wishes {
            seed: SeedSink::Nowhere,
            adopt: None,
            password: None,
            bundle: Layout::of(spec).bundle(),
            handed: false,
            no_wallet: false,
            lsm_sha256: String::new(),
            others: vec![],
        };
        let wanted = steps(spec, known::find(&spec.release)?, Arch::of_this_machine()?, &wishes, &facts)?;
        stays.shared.extend(wanted.iter().flat_map(Step::touches));
        // Its rollback goes back to the lnd that a copy of its database is of.
        let copied = Layout::of(spec).copied().into_iter();
        let programs = copied.map(|version| places.releases().join(version)).flat_map(|folder| {
            let files = Installed::files(&folder);
            std::iter::once(folder).chain(files)
        });
        stays.shared.extend(programs.map(Thing::Path));
    }
    if !places.are_users() {
        stays.filter = Some(firewall(others.iter().chain(own))?);
    }
    Ok(stays)
}

/// The journal of another signer in the same places, which takes over what both know of.
///
/// # Errors
/// Where a spec cannot be read.
pub fn heir(layout: &Layout) -> Result<Option<PathBuf>> {
    let signers = read_specs(layout.places())?.into_iter().map(|spec| spec.instance);
    let other = signers.chain(watched(layout.places())?).find(|other| other != layout.instance());
    Ok(other.map(|other| layout.places().journal(&other)))
}

/// The spec of the signer of `layout` as it was before the plan that a rollback undoes.
pub fn spec_before(layout: &Layout, history: &History) -> Option<Spec> {
    let prior = history.to_undo()?.into_iter().find_map(|touched| match touched.first {
        Prior::Path(at) if at.path == layout.spec() => Some(at),
        _ => None,
    });
    match prior {
        None => read_spec(&layout.spec()).ok(),
        Some(AtPath { was: Was::File, kept: Some(name), .. }) => {
            let text = Kept::new(kept_beside(&layout.journal())).read(&name, 1 << 20).ok()?;
            toml::from_str::<Spec>(std::str::from_utf8(&text).ok()?).ok()?.checked().ok()
        }
        Some(_) => None,
    }
}
