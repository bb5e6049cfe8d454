//! What gives a signer other credentials: macaroons and the keys that they hang on, and the certificate.

use super::native::{Wishes, bundle_steps, public_port, text};
use super::{Layout, docker, runner, steps};
use crate::error::Result;
use crate::facts::Facts;
use crate::plan::register::{self, Entry, Register};
use crate::plan::step::{Guarded, Step};
use crate::release::known;
use crate::release::pins::Arch;
use crate::signer::middleware::CREDENTIAL;
use crate::spec::Spec;
use std::path::Path;

/// The step that bakes a macaroon for the operator into the new file `out`.
pub fn bake_steps(spec: &Spec, entry: Entry, out: &Path) -> Vec<Step> {
    let layout = Layout::of(spec);
    vec![Step::Bake { door: layout.door(), register: layout.register(), entry, out: out.to_owned() }]
}

/// The steps that put the bundle's macaroon on `root_key`; `register` says so already.
///
/// # Errors
/// Where the register cannot be rendered, or the port has no name.
pub fn rotate_steps(spec: &Spec, register: &Register, root_key: u64, bundle: &Path) -> Result<Vec<Step>> {
    let (place, port) = (Layout::of(spec).register(), public_port(spec)?);
    let rotate = |step| match step {
        Step::Bundle { .. } => {
            Step::Rotate { bundle: Box::new(step), root_key, port: port.clone(), after: vec![place.clone()] }
        }
        folder => folder,
    };
    let register = text(&place, register.render()?);
    Ok([register].into_iter().chain(bundle_steps(spec, bundle, false).into_iter().map(rotate)).collect())
}

/// The steps that revoke the macaroons of earlier bundles; none where there are none.
///
/// # Errors
/// Where the register cannot be rendered.
pub fn retire_steps(spec: &Spec, register: &Register) -> Result<Vec<Step>> {
    let keys: Vec<u64> = register.retiring().iter().map(|entry| entry.root_key).collect();
    if keys.is_empty() {
        return Ok(vec![]);
    }
    let done = text(&Layout::of(spec).register(), register.clone().finished().render()?);
    Ok(revoke_steps(spec, &keys).into_iter().chain([done]).collect())
}

/// The steps that revoke what hangs on these root keys.
pub fn revoke_steps(spec: &Spec, root_keys: &[u64]) -> Vec<Step> {
    let door = Layout::of(spec).door();
    let revoked = root_keys.iter().map(|key| Step::Revoke { door: door.clone(), root_key: *key });
    // First: cut off in between, it is not taken for a good one.
    let forgotten = root_keys.contains(&register::GUARD).then(|| forget_guard(spec)).flatten();
    forgotten.into_iter().chain(revoked).collect()
}

/// The macaroon of a guard that is off, which is kept for when it is on again, is of no use once its root key is gone.
fn forget_guard(spec: &Spec) -> Option<Step> {
    let kept = Layout::of(spec).keep(CREDENTIAL, spec.sealed);
    (!spec.guard.is_on()).then(|| Step::Discard { folders: vec![kept.path().to_owned()], objects: vec![] })
}

/// The steps that replace every root key, and give the bundle a new macaroon; `register` says so already.
///
/// # Errors
/// As [`steps`].
pub fn renew_root_keys_steps(spec: &Spec, register: &Register, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    let (layout, port, container) = (Layout::of(spec), public_port(spec)?, spec.docker.as_ref().map(docker::container));
    let mut wanted = standing(spec, wishes, facts)?;
    wanted.retain(is_of_image);
    wanted.push(text(&layout.register(), register.render()?));
    wanted.push(Step::RenewRootKeys {
        runner: runner(spec, known::find(&spec.release)?, Arch::of_this_machine()?, wishes, facts)?,
        door: layout.door(),
        password: layout.keep("wallet-password", spec.sealed),
        unit: container.as_ref().map_or_else(|| layout.service(), |object| object.name.clone()),
        container,
        port,
        guard: spec
            .guard
            .is_on()
            .then(|| Guarded { unit: layout.guard_service(), keep: layout.keep(CREDENTIAL, spec.sealed) }),
    });
    wanted.extend(forget_guard(spec));
    wanted.extend(bundle_steps(spec, &wishes.bundle, wishes.handed));
    Ok(wanted)
}

/// The steps that make the next certificate, and export a bundle with both.
pub fn renew_steps(spec: &Spec, wishes: &Wishes) -> Vec<Step> {
    [next_certificate(spec)].into_iter().chain(bundle_steps(spec, &wishes.bundle, wishes.handed)).collect()
}

/// The steps that put the next certificate in force, and export a bundle with that alone.
///
/// # Errors
/// As [`steps`].
pub fn switch_steps(spec: &Spec, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    let layout = Layout::of(spec);
    let (door, port) = (layout.door(), public_port(spec)?);
    let mut wanted = standing(spec, wishes, facts)?;
    let follows = |step: &Step| matches!(step, Step::Service { .. } | Step::Container { .. } | Step::Bundle { .. });
    wanted.retain(|step| is_of_image(step) || follows(step));
    let switch = Step::Switch {
        path: door.certificate.clone(),
        key: layout.keep("tls-key", spec.sealed),
        next: layout.next_certificate(),
        next_key: layout.next_key(spec.sealed),
    };
    wanted.insert(0, switch);
    wanted.push(Step::Sign { after: vec![door.certificate.clone()], door, port });
    Ok(wanted)
}

/// Both at once, with nothing that overlaps. `anew` says that the key leaked: then the next one, which lies beside it, is made
/// anew too.
///
/// # Errors
/// As [`steps`].
pub fn replace_steps(spec: &Spec, wishes: &Wishes, facts: &Facts, anew: bool) -> Result<Vec<Step>> {
    let layout = Layout::of(spec);
    let next = [layout.next_certificate(), layout.next_key(spec.sealed).path().to_owned()];
    let gone = next.into_iter().filter(|_| anew).map(|path| Step::Remove { path });
    Ok(gone.chain([next_certificate(spec)]).chain(switch_steps(spec, wishes, facts)?).collect())
}

fn next_certificate(spec: &Spec) -> Step {
    let layout = Layout::of(spec);
    Step::Certificate {
        path: layout.next_certificate(),
        key: layout.next_key(spec.sealed),
        names: spec.certificate_names(),
    }
}

/// What an install would want.
fn standing(spec: &Spec, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    steps(spec, known::find(&spec.release)?, Arch::of_this_machine()?, wishes, facts)
}

/// What a container that is made anew has to find: this lsm in its image.
fn is_of_image(step: &Step) -> bool {
    matches!(step, Step::Image { .. })
}
