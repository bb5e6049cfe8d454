//! The SSH server: the one door that a signer host has besides its own.

use super::{Area, Check};
use crate::facts::audit::Needs;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[];
