//! Faults that the KERN checks have to find.

use super::{Area, Recorded, set_text};

pub const AREA: Area = Area { planted: &[], recorded: RECORDED, clean: &[] };

const RECORDED: &[Recorded] = &[Recorded {
    found: ("KERN-002", "fail"),
    cause: |facts| set_text(facts, "/proc/sys/fs/suid_dumpable", "2\n"),
    with: &[],
}];
