//! The kept corpus of every fuzz target, replayed: what once was found, and one good example of each form.

#[path = "../fuzz/cases.rs"]
mod cases;

use std::path::Path;

fn replay(target: &str, case: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        case(&bytes);
        // Cut anywhere, and with a bit flipped anywhere, it must be no worse; of long ones a part will do.
        for place in (0..bytes.len()).step_by(bytes.len() / 100 + 1) {
            case(&bytes[..place]);
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            case(&flipped);
        }
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn manifests() {
    replay("manifest", cases::manifest);
}

#[test]
fn signatures() {
    replay("signatures", cases::signatures);
}

#[test]
fn archives() {
    replay("archive", cases::archive);
}

#[test]
fn policies() {
    replay("releases", cases::releases);
}

#[test]
fn updates() {
    replay("update", cases::update);
}

#[test]
fn what_the_guard_is_asked() {
    replay("guard", cases::guard);
}

#[test]
fn the_guards_policies() {
    replay("policy", cases::policy);
}
