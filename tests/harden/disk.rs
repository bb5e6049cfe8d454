//! Faults that the DISK checks have to find.

use super::Area;

pub const AREA: Area = Area { planted: &[], recorded: &[], clean: &[] };
