//! Another password for an installed signer's wallet: made aside, taken over by lnd, and the old one forgotten at the end.

use super::native::{Wishes, folder, public_port};
use super::{Layout, docker, runner, steps};
use crate::error::{Code, Error, Result};
use crate::facts::Facts;
use crate::host::credential::Keep;
use crate::plan::prior::Database;
use crate::plan::step::Step;
use crate::release::pins::{Arch, Release};
use crate::spec::Spec;
use std::path::{Path, PathBuf};

const NO_WALLET_STEP: Code = Code::refused("E-NATIVE-009");

/// The ending of the other password's file, beside the one that is in force.
const ASIDE: &str = "aside";

/// Where the other password is.
pub fn aside(place: &Keep) -> Keep {
    let beside = |path: &Path| PathBuf::from(format!("{}.{ASIDE}", path.display()));
    match place {
        Keep::Sealed { name, path } => Keep::Sealed { name: name.clone(), path: beside(path) },
        Keep::Plain { path, owner } => Keep::Plain { path: beside(path), owner: *owner },
    }
}

/// The steps to another password, which the operator named or lsm makes; `old` is the mark of the file that holds the old one.
///
/// # Errors
/// As [`steps`].
pub fn password_steps(
    spec: &Spec,
    release: &Release,
    arch: Arch,
    wishes: &Wishes,
    facts: &Facts,
    old: String,
) -> Result<Vec<Step>> {
    let layout = Layout::of(spec);
    let place = layout.keep("wallet-password", spec.sealed);
    let aside = aside(&place);
    let copy = layout.snapshots().join("password");
    let container = spec.docker.as_ref().map(docker::container);
    let database = Database {
        data: layout.data().join("data"),
        copy: copy.clone(),
        unit: container.as_ref().map_or_else(|| layout.service(), |object| object.name.clone()),
        container: container.clone(),
        swap: aside.path().to_owned(),
        swapped: old,
        password: Some(place.path().to_owned()),
    };
    let older: Vec<PathBuf> = layout.copies().filter(|other| *other != copy).collect();
    let (mut services, mut image) = (Vec::new(), None);
    // Its guard too, without which one that enforces answers nobody.
    let runs = [layout.service(), layout.guard_service()];
    for mut step in steps(spec, release, arch, wishes, facts)? {
        match &mut step {
            Step::Image { .. } => image = Some(step),
            // A container's has it among what it is started anew after.
            Step::Container { .. } => services.push(step),
            Step::Service { unit, after, .. } if runs.contains(unit) => {
                after.push(place.path().to_owned());
                services.push(step);
            }
            _ => {}
        }
    }
    if services.is_empty() {
        return Err(Error::new(NO_WALLET_STEP, "nothing runs lnd while its password changes"));
    }
    let (door, receipt, port) = (layout.door(), layout.receipt(), public_port(spec)?);
    let change = [
        folder(layout.places().snapshots(), 0o700),
        folder(layout.snapshots(), 0o700),
        Step::Password { keep: aside.clone(), from: wishes.password.clone() },
        Step::Snapshot {
            from: spec.release.clone(),
            to: spec.release.clone(),
            database: database.clone(),
            door: door.clone(),
            bundle: wishes.bundle.clone(),
            stops: if container.is_some() { vec![] } else { vec![layout.socket()] },
        },
        Step::ChangePassword {
            runner: runner(spec, release, arch, wishes, facts)?,
            door: door.clone(),
            place: place.clone(),
            aside: aside.clone(),
            database,
            receipt,
        },
    ];
    let proof = [
        Step::Prove {
            version: spec.release.clone(),
            door,
            port,
            copy: copy.clone(),
            after: vec![place.path().to_owned()],
        },
        // The old one first: without it there is no way back, and none is looked for. What it opens goes with it, an
        // upgrade's copy too.
        Step::Discard { folders: [aside.path().to_owned(), copy].into_iter().chain(older).collect(), objects: vec![] },
    ];
    Ok(image.into_iter().chain(change).chain(services).chain(proof).collect())
}
