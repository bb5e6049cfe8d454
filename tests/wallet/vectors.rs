//! age's own test vectors (c2sp.org/CCTV/age), those for X25519 keys: each is opened, or refused for what is wrong with it.

use flate2::read::ZlibDecoder;
use lsm::age::{Identity, decrypt};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::path::Path;

/// Where they are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/age");

/// A vector: lines of names and values, an empty one, an age file.
struct Vector {
    about: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\n\n").expect("an empty line");
        let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let line = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        let (about, mut file) = (text.lines().map(line).collect(), bytes[end + 2..].to_vec());
        let vector = Self { about, file: Vec::new() };
        if vector.says("compressed").is_some() {
            let mut plain = Vec::new();
            ZlibDecoder::new(file.as_slice()).read_to_end(&mut plain).unwrap();
            file = plain;
        }
        Self { file, ..vector }
    }

    fn says(&self, name: &str) -> Option<&str> {
        self.about.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn identities(&self, folder: &Path) -> Vec<Identity> {
        let keys = self.about.iter().filter(|(name, _)| name == "identity").map(|(_, key)| format!("{key}\n"));
        fs::write(folder.join("key"), keys.collect::<String>()).unwrap();
        Identity::read(&folder.join("key")).unwrap()
    }
}

#[test]
fn ages_own_vectors_are_opened_or_refused_as_they_have_to() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let vector = Vector::read(&path);
        let expect = vector.says("expect").unwrap().to_owned();
        let is = decrypt(&vector.file, &vector.identities(folder.path()));
        let good = match (&expect[..], &is) {
            ("success", Ok(plain)) => vector.says("payload") == Some(&hex::encode(Sha256::digest(plain.expose()))),
            ("success", Err(_)) => false,
            ("no match", Err(e)) => e.code().id == "E-AGE-011",
            (_, is) => is.is_err(),
        };
        opened += usize::from(good && expect == "success");
        if !good {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            wrong.push(format!("{name}: {expect}, and was: {:?}", is.map(|_| "opened").map_err(|e| e.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(opened, 16);
}
