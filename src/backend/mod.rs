//! A backend says which steps a Spec needs; it changes nothing itself.

pub mod adopt;
pub mod control;
pub mod credentials;
pub mod docker;
pub mod foreground;
mod layout;
pub mod native;
pub mod password;
pub mod preflight;
mod upgrade;
pub mod verify;

pub use layout::Layout;
pub use password::password_steps;
pub use upgrade::upgrade_steps;

use crate::error::Result;
use crate::facts::Facts;
use crate::plan::step::{Runner, Step};
use crate::release::pins::{Arch, Release};
use crate::spec::Spec;
use native::Wishes;

/// The steps from a bare host to the running signer of `spec`, in order.
///
/// # Errors
/// Where the spec asks for what cannot be.
pub fn steps(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Vec<Step>> {
    let steps = if spec.docker.is_some() { docker::steps } else { native::steps };
    steps(spec, release, arch, wishes, facts)
}

/// What runs the lnd of a signer that has its wallet while it is to have no port.
///
/// # Errors
/// As [`steps`].
pub fn runner(spec: &Spec, release: &Release, arch: Arch, wishes: &Wishes, facts: &Facts) -> Result<Runner> {
    let runner = if spec.docker.is_some() { docker::runner } else { native::runner };
    runner(spec, release, arch, wishes, facts)
}

/// The steps that give an installed signer the allowlist of `spec`. `others` are the other signers of this host.
///
/// # Errors
/// Where a text cannot be rendered.
pub fn allow_steps(spec: &Spec, others: &[Spec]) -> Result<Vec<Step>> {
    let steps = if spec.docker.is_some() { docker::allow_steps } else { native::allow_steps };
    steps(spec, others)
}
