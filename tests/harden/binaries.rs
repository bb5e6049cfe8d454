//! Faults that the BIN checks have to find.

use super::Area;

pub const AREA: Area = Area { planted: &[], recorded: &[], clean: &[] };
