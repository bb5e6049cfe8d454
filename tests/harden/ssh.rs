//! Faults that the SSH checks have to find.

use super::Area;

pub const AREA: Area = Area { planted: &[], recorded: &[], clean: &[] };
