//! Watchers from outside a host: what its processes were started with, and with which modes its secret files were seen.

use crate::lab::host::Host;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

/// Ends the watchers of its flag when it is dropped, in a panic too: a scope waits for its threads.
pub struct Until<'a>(pub &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Command lines and environments, each once, of every process seen in `host` until the end.
///
/// However short it lives, a program that needs a library is seen: it opens the linker's list of them, and waits at that
/// until it has been looked at (fanotify(7)). One that needs none is seen where it lives for a moment.
pub fn processes<'scope>(
    threads: &'scope Scope<'scope, '_>,
    host: &'scope Host,
    over: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, HashSet<Vec<u8>>> {
    let proc = host.path("/proc");
    let linked = Fanotify::init(InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_NONBLOCK, EventFFlags::empty()).unwrap();
    let list = host.path("/etc/ld.so.cache");
    linked.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, nix::fcntl::AT_FDCWD, Some(&list)).unwrap();
    threads.spawn(move || {
        let mut seen = HashSet::new();
        let mut look = |process: &Path| {
            seen.extend(["cmdline", "environ"].iter().filter_map(|f| fs::read(process.join(f)).ok()));
        };
        while !over.load(Ordering::Relaxed) {
            // None is waiting: not an error of note.
            for event in linked.read_events().unwrap_or_default() {
                look(&Path::new("/proc").join(event.pid().to_string()));
                linked.write_response(FanotifyResponse::new(event.fd().expect("a file"), Response::FAN_ALLOW)).unwrap();
            }
            for process in fs::read_dir(&proc).into_iter().flatten().flatten() {
                if process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
                    look(&process.path());
                }
            }
        }
        seen
    })
}

/// Every regular file ever seen below `folders` of `host` until the end, with every mode that it was seen with.
pub fn modes<'scope>(
    threads: &'scope Scope<'scope, '_>,
    host: &'scope Host,
    folders: &'static [&'static str],
    over: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, BTreeMap<PathBuf, HashSet<u32>>> {
    let root = host.path("/");
    threads.spawn(move || {
        let mut seen: BTreeMap<PathBuf, HashSet<u32>> = BTreeMap::new();
        while !over.load(Ordering::Relaxed) {
            for folder in folders {
                look(&root, &root.join(folder.trim_start_matches('/')), &mut seen);
            }
        }
        seen
    })
}

fn look(root: &Path, folder: &Path, seen: &mut BTreeMap<PathBuf, HashSet<u32>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            look(root, &path, seen);
        } else if meta.is_file() {
            let inside = path.strip_prefix(root).expect("below the root").to_owned();
            seen.entry(inside).or_default().insert(meta.mode() & 0o7777);
        }
    }
}
