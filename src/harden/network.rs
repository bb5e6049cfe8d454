//! The network: who reaches the signer, and what else is open.

use super::{Area, Check};
use crate::facts::audit::Needs;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[];
