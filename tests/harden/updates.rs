//! Faults that the UPD checks have to find.

use super::Area;

pub const AREA: Area = Area { planted: &[], recorded: &[], clean: &[] };
