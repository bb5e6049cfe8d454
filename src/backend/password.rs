//! Another password for an installed signer's wallet: made aside, taken over by lnd, and the old one forgotten at the end.

use super::native::{Wishes, folder, public_port};
use super::{Layout, steps, upgrade};
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

/// The steps to another password, which is in the file `from` or made; `old` is the hash of the file that holds the old one.
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
    let database = Database {
        data: layout.data().join("data"),
        copy: copy.clone(),
        unit: layout.service(),
        container: None,
        swap: aside.path().to_owned(),
        swapped: old,
        password: Some(place.path().to_owned()),
    };
    let older: Vec<PathBuf> = upgrade::copies(&layout).filter(|other| *other != copy).collect();
    let (mut runner, mut service) = (None, None);
    for step in steps(spec, release, arch, wishes, facts)? {
        match step {
            Step::Wallet { runner: made, .. } => runner = Some(made),
            Step::Service { ref unit, .. } if *unit == layout.service() => service = Some(step),
            _ => {}
        }
    }
    let none = || Error::new(NO_WALLET_STEP, "nothing runs lnd while its password changes");
    let (runner, mut service) = runner.zip(service).ok_or_else(none)?;
    if let Step::Service { after, .. } = &mut service {
        after.push(place.path().to_owned());
    }
    let (door, receipt, port) = (layout.door(), layout.receipt(), public_port(spec)?);
    Ok(vec![
        folder(layout.places().snapshots(), 0o700),
        folder(layout.snapshots(), 0o700),
        Step::Password { keep: aside.clone(), from: wishes.password.clone() },
        Step::Snapshot {
            from: spec.release.clone(),
            to: spec.release.clone(),
            database: database.clone(),
            door: door.clone(),
            bundle: wishes.bundle.clone(),
            stops: vec![layout.socket()],
        },
        Step::ChangePassword {
            runner,
            door: door.clone(),
            place: place.clone(),
            aside: aside.clone(),
            database,
            receipt,
        },
        service,
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
    ])
}
