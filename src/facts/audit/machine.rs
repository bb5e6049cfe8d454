//! What only the running kernel tells: how much of Landlock it has, what it says of the processor, whether its clock is right.

use super::{Answer, names, read};
use crate::host::clock;
use crate::sandbox::landlock::Interface;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What only the running kernel tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// How much of Landlock it has.
    pub landlock: Interface,
    /// What it says of each known fault of processors, by name (/sys/devices/system/cpu/vulnerabilities).
    pub faults: Answer<BTreeMap<String, String>>,
    /// Something keeps its clock right.
    pub clock: Answer<bool>,
}

impl Machine {
    pub(super) fn gather() -> Self {
        let clock = clock::is_synchronised();
        Self {
            landlock: Interface::of_kernel(),
            faults: faults(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            clock: clock
                .map_or_else(|e| Answer::Unknown(format!("the kernel tells nothing of its clock: {e}")), Answer::Is),
        }
    }
}

fn faults(folder: &Path) -> Answer<BTreeMap<String, String>> {
    let paths = match names(folder) {
        Answer::Is(paths) => paths,
        other => return other.map(|_| BTreeMap::new()),
    };
    let mut faults = BTreeMap::new();
    for path in paths {
        match read(&path) {
            Answer::Is(text) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                faults.insert(name, text.trim().to_owned());
            }
            Answer::Absent => {}
            Answer::Unknown(why) => return Answer::Unknown(why),
        }
    }
    Answer::Is(faults)
}
