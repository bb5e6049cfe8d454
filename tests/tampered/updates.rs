//! Updates: of each kind a few of those that are bad, whose whole tables are in update/bad.rs.

use super::scene::{Row, Scene, copy, put, row};
use crate::update::bad::{self, Met};
use crate::update::desk::release;
use std::ffi::OsString;
use std::sync::Arc;

/// Texts and signatures by what is wrong with them, and the state that they meet.
struct Bad {
    met: Met,
    all: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
}

impl Bad {
    fn new() -> Self {
        let met = Met::new();
        let mut all: Vec<_> = bad::badly_signed(&met).into_iter().map(|b| (b.0, b.1, b.2)).collect();
        for (what, text, ..) in bad::bad_texts(&met) {
            let signature = met.good.sign(text.as_bytes());
            all.push((what, text.into_bytes(), signature));
        }
        Self { met, all }
    }

    fn ask(&self, scene: &mut Scene<'_>, text: &[u8], signature: Option<&[u8]>) {
        std::fs::remove_dir_all(scene.policy()).unwrap();
        std::fs::create_dir(scene.policy()).unwrap();
        copy(&self.met.desk.policy(), &scene.policy());
        let file = scene.file("releases.toml");
        put(&file, text);
        signature.inspect(|bytes| put(&scene.file("releases.toml.minisig"), bytes));
        scene.asked = ["release", "update", "--yes"].map(OsString::from).into();
        scene.asked.push(file.into());
    }
}

pub fn rows() -> Vec<Row> {
    let bad = Arc::new(Bad::new());
    let mut rows: Vec<_> = [
        ("wrong key", (4, "E-UPDATE-004", "does not know")),
        ("key revoked by the operator", (4, "E-UPDATE-005", "revoked")),
        ("key revoked by an update", (4, "E-UPDATE-005", "revoked")),
        ("flipped bit in the text", (4, "E-UPDATE-003", "changed")),
        ("signature of another file", (4, "E-UPDATE-003", "changed")),
        ("empty signature", (4, "E-UPDATE-003", "not one of minisign")),
        ("signature too large", (2, "E-HOST-004", "larger than")),
        ("old kind of signature", (4, "E-UPDATE-003", "old kind")),
        ("key id that lies", (4, "E-UPDATE-006", "")),
        ("counter old", (4, "E-UPDATE-007", "")),
        ("counter equal", (4, "E-UPDATE-007", "")),
        ("expired", (4, "E-UPDATE-008", "expired")),
        ("expiry too far", (4, "E-UPDATE-009", "400 days")),
        ("un-refused, by an update", (4, "E-UPDATE-011", "")),
        ("shipped pin changed", (4, "E-UPDATE-012", "")),
        ("pin of an update changed", (4, "E-UPDATE-012", "")),
        ("leaves no key", (4, "E-UPDATE-013", "")),
        ("not TOML", (2, "E-UPDATE-001", "")),
        ("too large", (2, "E-HOST-004", "larger than")),
    ]
    .into_iter()
    .map(|(name, end)| {
        let bad = Arc::clone(&bad);
        row(name, end, move |scene| {
            let (_, text, signature) = bad.all.iter().find(|b| b.0 == name).unwrap();
            bad.ask(scene, text, Some(signature));
        })
    })
    .collect();
    rows.push(row("without a signature", (2, "E-UPDATE-002", "minisig"), move |scene| {
        let text = bad.met.head() + &release("v0.23.0-beta", "current", 0x80);
        bad.ask(scene, text.as_bytes(), None);
    }));
    rows
}
