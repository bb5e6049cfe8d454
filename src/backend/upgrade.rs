//! Another version of lnd under an installed signer: what an install of it would do, around a copy of the database.

use super::layout::names;
use super::native::{Wishes, bundle_steps, drop_in, folder, public_port, read_specs};
use super::{Layout, docker, steps};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::plan::prior::Database;
use crate::plan::step::{Step, hash_text};
use crate::release::Installed;
use crate::release::pins::{Arch, Release};
use crate::spec::Spec;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const NO_SWAP: Code = Code::refused("E-NATIVE-006");

/// The steps from the lnd `from` to that of `spec`, in order.
///
/// # Errors
/// As [`steps`].
pub fn upgrade_steps(
    spec: &Spec,
    from: &str,
    release: &Release,
    arch: Arch,
    wishes: &Wishes,
    facts: &Facts,
) -> Result<Vec<Step>> {
    let layout = Layout::of(spec);
    let mut wanted = steps(spec, release, arch, wishes, facts)?;
    // The wallet is there, and its bundle stays good: only MuSig2's calls are not the same in every lnd.
    wanted.retain(|step| !matches!(step, Step::Wallet { .. } | Step::Bundle { .. }));
    let copy = layout.snapshots().join(from);
    let container = spec.docker.as_ref().map(docker::container);
    // What a container is made of is in no file: the spec says it, and is written before.
    let swap = if container.is_some() { layout.spec() } else { drop_in(&layout.service()) };
    let place = wanted.iter().position(|step| step.paths().contains(&layout.spec())).unwrap_or_default();
    let snapshot = Step::Snapshot {
        from: from.to_owned(),
        to: release.version.clone(),
        database: Database {
            data: layout.data().join("data"),
            copy: copy.clone(),
            unit: container.as_ref().map_or_else(|| layout.service(), |object| object.name.clone()),
            container: container.clone(),
            swapped: text_at(&wanted, &swap)?,
            swap: swap.clone(),
            password: None,
        },
        door: layout.door(),
        bundle: wishes.bundle.clone(),
        stops: if container.is_some() { vec![] } else { vec![layout.socket()] },
    };
    wanted.splice(
        place..place,
        [folder(layout.places().snapshots(), 0o700), folder(layout.snapshots(), 0o700), snapshot],
    );
    wanted.push(Step::Prove {
        version: release.version.clone(),
        door: layout.door(),
        port: public_port(spec)?,
        copy: copy.clone(),
        after: vec![swap.clone()],
    });
    if spec.taproot_channels {
        wanted.extend(
            bundle_steps(spec, &wishes.bundle, wishes.handed).into_iter().map(|step| refresh(step, &copy, &swap)),
        );
    }
    let folders = discarded(spec, from)?;
    let releases = folders
        .iter()
        .filter(|folder| folder.starts_with(layout.places().releases()))
        .filter_map(|folder| folder.file_name());
    let versions: Vec<String> = releases.map(|name| name.to_string_lossy().into_owned()).collect();
    let objects = spec.docker.as_ref().map(|docker| docker::images(docker, &versions)).unwrap_or_default();
    if !folders.is_empty() {
        wanted.push(Step::Discard { folders, objects });
    }
    Ok(wanted)
}

/// The hash of the text that `steps` put at `path`.
fn text_at(steps: &[Step], path: &Path) -> Result<String> {
    let text = steps.iter().find_map(|step| match step {
        Step::Text { path: at, text, .. } if at == path => Some(hash_text(text)),
        _ => None,
    });
    text.ok_or_else(|| Error::new(NO_SWAP, format!("nothing writes {}", path.display())))
}

fn refresh(step: Step, copy: &Path, swap: &Path) -> Step {
    match step {
        Step::Bundle { .. } => {
            Step::Refresh { bundle: Box::new(step), copy: copy.to_owned(), after: vec![swap.to_owned()] }
        }
        folder => folder,
    }
}

/// The releases that no signer of this host runs or goes back to, and this signer's copies of before `from`.
fn discarded(spec: &Spec, from: &str) -> Result<Vec<PathBuf>> {
    let layout = Layout::of(spec);
    let (places, all) = (layout.places(), layout.places().releases());
    let mut wanted = BTreeSet::from([spec.release.clone(), from.to_owned()]);
    for other in read_specs(places)?.into_iter().filter(|other| other.instance != spec.instance) {
        wanted.extend(Layout::of(&other).copied());
        wanted.insert(other.release);
    }
    let kept = layout.snapshots().join(from);
    let copies = layout.copies().filter(|copy| *copy != kept);
    let releases = names(&all).into_iter().filter(|name| !wanted.contains(name));
    let folders = releases.map(|name| all.join(name));
    // What lsm did not unpack is somebody else's.
    let own = folders.filter(|folder| Installed::place(folder).exists());
    Ok(copies.chain(own).collect())
}
