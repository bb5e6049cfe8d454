//! The system's own updates: what is old is known to its attackers.

use super::{Area, Check};
use crate::facts::audit::Needs;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[];
