//! The house is as its documents say: each room uses those below it alone, no two files use each other, and each area of error
//! codes has its row.

use std::collections::{BTreeMap, BTreeSet};
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

/// The paths that a `use` names, each whole.
fn written_out(path: &str) -> Vec<String> {
    let Some((before, list)) = path.split_once('{') else { return vec![path.to_owned()] };
    let mut depth = 0;
    let parts = list.strip_suffix('}').unwrap_or(list).split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.is_empty()).flat_map(|part| written_out(&format!("{before}{part}"))).collect()
}

/// What the file of the module `file` imports, by paths from the crate's root.
fn imports(file: &str, text: &str) -> Vec<String> {
    let imported = text.split(';').filter_map(|statement| {
        let (before, path) = statement.rsplit_once("use ")?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        (line.is_empty() || line.starts_with("pub")).then(|| path.split_whitespace().collect::<String>())
    });
    let from_root = |path: String| {
        let mut here: Vec<&str> = file.split('/').collect();
        let mut parts = path.split("::").peekable();
        match parts.peek() {
            Some(&"crate") => {
                parts.next();
                here.clear();
            }
            Some(&"self") => drop(parts.next()),
            _ => {}
        }
        while parts.next_if_eq(&"super").is_some() {
            here.pop();
        }
        here.extend(parts);
        here.join("/")
    };
    imported.flat_map(|path| written_out(&path)).map(from_root).collect()
}

#[test]
fn no_two_files_use_each_other() {
    let src = Path::new(ROOT).join("src");
    let module = |path: &Path| {
        let path = path.strip_prefix(&src).unwrap().with_extension("");
        path.to_str().unwrap().trim_end_matches("/mod").to_owned()
    };
    let files: BTreeMap<String, String> = sources(&src).into_iter().map(|(path, text)| (module(&path), text)).collect();
    let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let used_by = |file: &str, text: &str| {
        let to_file = |path: String| {
            let mut path = Path::new(&path);
            while !files.contains_key(path.to_str()?) {
                path = path.parent()?;
            }
            path.to_str().map(str::to_owned)
        };
        // A folder's own file and what is in the folder are one.
        let is_another = |used: &String| used != file && !is_below(used, file) && !is_below(file, used);
        imports(file, text).into_iter().filter_map(to_file).filter(is_another).collect::<BTreeSet<_>>()
    };
    let mut uses: BTreeMap<&str, BTreeSet<String>> =
        files.iter().map(|(file, text)| (file.as_str(), used_by(file, text))).collect();
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 1000);
    // Whoever uses none of those that are left is in no circle.
    while let Some(free) = uses.iter().find(|(_, used)| !used.iter().any(|one| uses.contains_key(one.as_str()))) {
        let free = *free.0;
        uses.remove(free);
    }
    while let Some(top) = uses.keys().find(|file| !uses.values().any(|used| used.contains(**file))).copied() {
        uses.remove(top);
    }
    assert!(uses.is_empty(), "in a circle: {:?}", uses.keys());
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
