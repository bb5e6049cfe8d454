//! Users: who could become lnd's, or root.

use super::{Area, Check};
use crate::facts::audit::Needs;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[];
