//! The watch: a timer that has the audit run, and say what changed.

use super::{LSM, Layout, Places, UNIT_FOLDER, folder, text, unit_path, wants};
use crate::error::{Code, Error, Result};
use crate::plan::step::{Access, Step};
use crate::render::unit::{WATCH_UNITS, render_watch_folders};
use crate::spec::Instance;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const NO_WATCHES: Code = Code::refused("E-NATIVE-007");

/// What wants the timers.
const TIMERS: &str = "timers.target";

/// The steps to a host that is watched for `instance`, which need not be installed by lsm. `lsm_sha256` is the running lsm's.
///
/// # Errors
/// Where a text cannot be rendered.
pub fn watch_steps(instance: &Instance, lsm_sha256: String) -> Result<Vec<Step>> {
    let layout = Layout::new(instance);
    let (timer, reports) = (layout.watch_timer(), layout.watch());
    let folders: PathBuf = format!("/etc/tmpfiles.d/lsm-watch-{instance}.conf").into();
    let files = WATCH_UNITS.map(|(name, _)| unit_path(name));
    let mut steps = vec![
        folder("/usr/local/lib/lsm", 0o755),
        Step::Lsm { path: LSM.into(), sha256: lsm_sha256 },
        folder("/etc/tmpfiles.d", 0o755),
        Step::Folders {
            file: folders.clone(),
            text: render_watch_folders(instance)?,
            folders: vec![reports.clone()],
            closed: vec![],
        },
    ];
    steps.extend(WATCH_UNITS.map(|(name, body)| text(&unit_path(name), body.to_owned())));
    steps.push(Step::Tighten { path: reports, access: Access::mode(0o700) });
    let readable = files.iter().chain([&folders]).cloned();
    steps.extend(readable.map(|path| Step::Tighten { path, access: Access::mode(0o644) }));
    steps.push(Step::ReloadUnits { after: files.to_vec(), of: vec![layout.watch_service(), timer.clone()] });
    steps.push(Step::Service {
        link: wants(TIMERS, &timer),
        unit: timer,
        after: files.to_vec(),
        anew: true,
        with: vec![],
        program: None,
    });
    Ok(steps)
}

/// The instances whose watch is on.
///
/// # Errors
/// Where that cannot be looked at.
pub(super) fn watched(places: &Places) -> Result<Vec<Instance>> {
    // Its timers are the machine's.
    if places.are_users() {
        return Ok(Vec::new());
    }
    let folder = Path::new(UNIT_FOLDER).join(format!("{TIMERS}.wants"));
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::new(NO_WATCHES, format!("cannot read {}: {e}", folder.display()))),
    };
    let of = |name: String| name.strip_prefix("lsm-watch@")?.strip_suffix(".timer")?.parse().ok();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(of).collect())
}
