//! Disks: what of lnd's memory and files reaches them, and who could read it there.

use super::{Area, Check};
use crate::facts::audit::Needs;

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[];
