//! Tampered inputs, one table: manifest, signatures, keys, archive, pins, updates and servers, each with its code.
//!
//! A row begins with a release as it should be and an operator's folder, changes one thing, and says how lsm ends. Rows
//! with exit code 0 are the controls: what looks odd and is right. After each row nothing is there that was not before.

mod archives;
mod keys;
mod manifests;
mod pins;
mod scene;
mod servers;
mod signatures;
mod updates;

use lsm::host::program::Output;
use scene::{Row, Scene, Stock};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The table has at least so many rows that are refused.
const LEAST: usize = 70;
/// How many rows are played at once.
const HANDS: usize = 4;

/// Every path below, links not followed.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(tree(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// The plain files below, with what is in them.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_plain = |path: &PathBuf| std::fs::symlink_metadata(path).unwrap().is_file();
    let plain = tree(folder).into_iter().filter(is_plain);
    plain.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// What is wrong with how lsm ended.
fn faults(row: &Row, output: &Output) -> Vec<String> {
    let mut wrong = Vec::new();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let Ok(said) = serde_json::from_slice::<Value>(&output.stdout) else {
        return vec![format!("stdout is not one object: {stdout:?}, stderr {:?}", output.stderr)];
    };
    let told = (output.status.code(), said["error"]["code"].as_str().unwrap_or_default());
    let cause = said["error"]["cause"].as_str().unwrap_or_default();
    if told != (Some(row.exit), row.code) || !cause.contains(row.says) {
        wrong.push(format!("ended with {told:?} {cause:?}, not with {:?} {:?}", (row.exit, row.code), row.says));
    }
    if !said.is_object() || stdout.contains('\u{1b}') || output.stderr.contains('\u{1b}') {
        wrong.push(format!("is told as {stdout:?}"));
    }
    if output.stderr.contains("panicked") {
        wrong.push(output.stderr.clone());
    }
    wrong
}

/// Plays one row, and says what is wrong.
fn play(stock: &Stock, row: &Row) -> Vec<String> {
    let mut scene = Scene::set(stock);
    {
        // gpg's home is one, and stands no two at once.
        let _alone = stock.hand.lock().unwrap();
        (row.tamper)(&mut scene);
    }
    let policy = || if scene.policy().is_dir() { contents(&scene.policy()) } else { BTreeMap::new() };
    let (before, believed) = (tree(scene.home.path()), policy());
    let output = scene.run();
    let mut wrong = faults(row, &output);
    let after = tree(scene.home.path());
    let new: Vec<_> = after.difference(&before).map(|p| p.strip_prefix(scene.home.path()).unwrap()).collect();
    if (row.exit == 0) != (new == ["out/into", "out/into/lncli", "out/into/lnd"].map(Path::new)) {
        wrong.push(format!("leaves {new:?}"));
    }
    if row.exit != 0 && !new.is_empty() || before.difference(&after).next().is_some() {
        wrong.push(format!("leaves {new:?}, and {} of {} files", after.len(), before.len()));
    }
    if policy() != believed {
        wrong.push("changes the operator's folder".to_owned());
    }
    wrong
}

#[test]
fn whatever_is_tampered_with_has_its_code_and_leaves_nothing_behind() {
    let Some(stock) = Stock::open() else { return };
    let tables = [
        ("manifest", manifests::rows()),
        ("signature", signatures::rows()),
        ("key", keys::rows()),
        ("archive", archives::rows()),
        ("pin", pins::rows()),
        ("update", updates::rows()),
        ("server", servers::rows()),
    ];
    let rows: Vec<_> = tables.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (*table, row))).collect();
    let names: BTreeSet<_> = rows.iter().map(|(table, row)| (*table, row.name)).collect();
    assert_eq!(names.len(), rows.len(), "a name stands twice");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some((table, row)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let faults = play(&stock, row).into_iter().map(|what| format!("{table}, {}: {what}", row.name));
                    wrong.lock().unwrap().extend(faults);
                }
            });
        }
    });
    let (wrong, refused) = (wrong.into_inner().unwrap(), rows.iter().filter(|(_, row)| row.exit != 0).count());
    println!("{refused} tampered inputs, {} controls", rows.len() - refused);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(refused >= LEAST, "{refused}");
}
