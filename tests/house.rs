//! The house is as its documents say: each room uses those below it alone, and each area of error codes has its row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join("docs").join(name)).unwrap()
}

/// Every Rust file below `folder` that is no test, with what stands before its tests.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| {
        if path.file_stem().is_some_and(|name| name == "tests") {
            return vec![];
        }
        if path.is_dir() {
            return sources(&path);
        }
        let text = fs::read_to_string(&path).unwrap();
        vec![(path, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())]
    };
    entries.flat_map(of).collect()
}

/// The name at the beginning of a text.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// What follows each `mark` in a text: a name, or several in braces.
fn names_after<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(mark).flat_map(move |(at, _)| {
        let rest = &text[at + mark.len()..];
        let all = rest.strip_prefix('{').map_or(name(rest), |list| list.split('}').next().unwrap_or_default());
        all.split(',').map(|one| name(one.trim()))
    })
}

/// The rooms in the order of the document, top floor first.
fn rooms() -> Vec<String> {
    let page = document("architecture.md");
    let (_, list) = page.split_once("\n## Rooms\n").expect("the chapter");
    let rows =
        list.lines().skip_while(|line| !line.starts_with("| ---")).skip(1).take_while(|line| line.starts_with('|'));
    let firsts: Vec<&str> = rows.map(|row| row.split('|').nth(1).unwrap_or_default()).collect();
    firsts.iter().flat_map(|first| names_after(first, "`src/").map(str::to_owned)).collect()
}

#[test]
fn a_room_uses_those_below_it_alone() {
    let (rooms, src) = (rooms(), Path::new(ROOT).join("src"));
    let place = |room: &str| rooms.iter().position(|one| one == room);
    let (mut wrong, mut uses) = (Vec::new(), 0);
    for (path, text) in sources(&src) {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
        let room = first.as_os_str().to_str().unwrap().trim_end_matches(".rs");
        // The library's root only names the rooms.
        if room == "lib" {
            continue;
        }
        let own = place(room).unwrap_or_else(|| panic!("{room} is not in docs/architecture.md"));
        for used in names_after(&text, "crate::").filter_map(place) {
            uses += 1;
            if used < own {
                wrong.push(format!("{} uses {}", path.display(), rooms[used]));
            }
        }
    }
    assert!(uses > 500, "{uses}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_area_of_error_codes_has_its_row() {
    let sources = sources(&Path::new(ROOT).join("src"));
    let used: BTreeSet<String> =
        sources.iter().flat_map(|(_, text)| names_after(text, "\"E-").map(|area| format!("`E-{area}`"))).collect();
    let guide = document("operators-guide.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `E-").and_then(|_| line.split('|').nth(1)));
    let named: Vec<&str> = rows.flat_map(|row| row.split(',')).map(str::trim).collect();
    let told: BTreeSet<String> = named.iter().map(|&area| area.to_owned()).collect();
    assert_eq!(told, used);
    assert_eq!(named.len(), told.len(), "{named:?}: one row each");
}
