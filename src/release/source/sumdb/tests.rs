//! The checksum database's proof, from recorded answers, from trees made here, and from the real one.

use super::*;
use crate::release::known;
use crate::release::pins::Arch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

const LND: Module<'_> = Module {
    path: "github.com/lightningnetwork/lnd",
    version: "v0.20.0-beta",
    hash: "h1:ML+jgJ3UKDGJdUf0m73ZeR/szJKWVtHxpQP+yFC79b8=",
};
const LOOKUP: &str = "lookup/github.com/lightningnetwork/lnd@v0.20.0-beta";

/// What the real database once answered, by path; in the files' names `!` stands for a slash.
fn recorded() -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/sumdb");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let path = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().replace('!', "/");
    files.map(|p| (path(&p), std::fs::read(&p).unwrap())).collect()
}

fn ask(module: Module<'_>, answers: &BTreeMap<String, Vec<u8>>) -> Result<Recorded> {
    prove(module, &|path| Ok(answers.get(path).cloned()))
}

#[test]
fn the_recorded_answers_prove_lnd_and_every_one_is_needed() {
    let (answers, asked) = (recorded(), RefCell::new(Vec::new()));
    let get = |path: &str| {
        asked.borrow_mut().push(path.to_owned());
        Ok(answers.get(path).cloned())
    };
    assert_eq!(prove(LND, &get).unwrap(), Recorded { record: 46_257_626, tree: 57_931_183 });
    let mut asked = asked.into_inner();
    asked.sort();
    assert!(asked.iter().eq(answers.keys()), "{asked:?}");
    for gone in answers.keys() {
        let mut fewer = answers.clone();
        fewer.remove(gone);
        assert_eq!(ask(LND, &fewer).unwrap_err().code().exit, Exit::Lacking, "without {gone}");
    }
}

#[test]
fn a_part_of_a_tile_is_also_found_in_the_full_one() {
    let mut answers = recorded();
    let part = answers.keys().find(|p| p.starts_with("tile/8/0/") && p.contains(".p/")).unwrap().clone();
    let mut full = answers.remove(&part).unwrap();
    full.resize(256 * 32, 7);
    answers.insert(part.split(".p/").next().unwrap().to_owned(), full);
    ask(LND, &answers).unwrap();
}

#[test]
fn one_changed_byte_anywhere_in_a_tile_is_noticed() {
    let answers = recorded();
    for tile in answers.keys().filter(|p| p.starts_with("tile/")) {
        let length = answers[tile].len();
        for place in [0, 31, length / 2, length - 1] {
            let mut changed = answers.clone();
            changed.get_mut(tile).unwrap()[place] ^= 1;
            let error = ask(LND, &changed).unwrap_err();
            assert_eq!(error.code(), UNPROVED, "byte {place} of {tile}");
            assert!(error.cause().contains("github.com/lightningnetwork/lnd@v0.20.0-beta"), "{error}");
        }
        let mut cut = answers.clone();
        cut.get_mut(tile).unwrap().pop();
        assert_eq!(ask(LND, &cut).unwrap_err().code(), UNPROVED, "{tile} cut short");
    }
}

#[test]
fn a_lookup_changed_in_any_part_is_noticed() {
    let answers = recorded();
    let genuine = std::str::from_utf8(&answers[LOOKUP]).unwrap();
    for (what, with, code) in [
        ("46257626", "46257625", UNPROVED),
        ("46257626", "57931183", UNPROVED),
        ("46257626", "18446744073709551615", UNPROVED),
        ("46257626", "", UNPROVED),
        ("h1:ML+j", "h1:ML+k", UNPROVED),
        ("go.sum database tree", "go.sum database tree v2", UNPROVED),
        ("57931183", "57931182", UNPROVED),
        ("82hhGKP5", "82hhGKP6", UNPROVED),
        ("— sum.golang.org Az3grhm", "— sum.golang.org Az3grhn", UNPROVED),
        ("— sum.golang.org Az3grhm", "— sum.golang.org Bz3grhm", UNPROVED),
        ("— sum.golang.org Az3", "— sum.example.org Az3", UNPROVED),
        ("+QI=", "+QM=", UNPROVED),
        ("\n\n—", "\n—", UNPROVED),
    ] {
        assert!(genuine.contains(what), "{what}");
        let mut changed = answers.clone();
        changed.insert(LOOKUP.to_owned(), genuine.replacen(what, with, 1).into_bytes());
        let error = ask(LND, &changed).unwrap_err();
        assert_eq!(error.code(), code, "{what} made {with}: {error}");
    }
    for length in 0..genuine.len() {
        let mut cut = answers.clone();
        cut.insert(LOOKUP.to_owned(), genuine.as_bytes()[..length].to_vec());
        // Without its last line break the last line is still whole.
        assert!(length == genuine.len() - 1 || ask(LND, &cut).is_err(), "cut after {length} bytes");
    }
}

#[test]
fn another_hash_and_another_module_are_told_apart() {
    let answers = recorded();
    let false_source = Module { hash: "h1:8hc55AnE3mMSJ/UAEJZgmhgNCcH0yWaPg0olpxhhp4M=", ..LND };
    let error = ask(false_source, &answers).unwrap_err();
    assert_eq!(error.code(), OTHER_HASH);
    assert!(error.cause().contains("github.com/lightningnetwork/lnd@v0.20.0-beta"), "{error}");
    // A genuine record in the place of another one.
    let other = Module { version: "v0.20.1-beta", ..LND };
    let mut swapped = answers.clone();
    swapped.insert(LOOKUP.replace("v0.20.0", "v0.20.1"), answers[LOOKUP].clone());
    assert_eq!(ask(other, &swapped).unwrap_err().code(), UNPROVED);
}

#[test]
fn names_and_numbers_are_spelt_as_the_database_spells_them() {
    assert_eq!(
        hex::encode(&Sha256::digest([b"sum.golang.org\n", &STANDARD.decode(KEY).unwrap()[..]].concat())[..4]),
        "033de0ae"
    );
    assert_eq!(escape("github.com/Azure/x"), "github.com/!azure/x");
    assert_eq!([spell(0), spell(999), spell(1000), spell(1_234_067)], ["000", "999", "x001/000", "x001/x234/067"]);
}

#[test]
fn every_tree_of_up_to_70000_records_proves_its_records() {
    // The definition itself (RFC 6962), from the records up, against the proof by tiles.
    for size in [1_u64, 2, 3, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000] {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf(&n.to_string())).collect();
        let get = |path: &str| Ok(Some(tile_of(&leaves, path)));
        let tree = Tree { module: &LND, get: &get, size, root: root(&leaves) };
        for number in [0, size / 2, size - 1] {
            tree.include(number, leaves[number as usize]).unwrap();
            tree.include(number, leaf("x")).unwrap_err();
        }
        let other = Tree { root: leaf("x"), ..tree };
        other.include(0, leaves[0]).unwrap_err();
    }
}

fn tile_of(leaves: &[Hash], path: &str) -> Vec<u8> {
    let (place, width) = path.strip_prefix("tile/8/").unwrap().split_once(".p/").unwrap_or((&path[7..], "256"));
    let (level, index) = place.split_once('/').unwrap();
    let index: usize = index.replace(['x', '/'], "").parse().unwrap();
    let records = 256_usize.pow(level.parse().unwrap());
    let nodes = leaves.chunks_exact(records).skip(index * 256).take(width.parse().unwrap());
    nodes.flat_map(root).collect()
}

/// A module proxy on loopback that passes on these answers.
fn serve(answers: BTreeMap<String, Vec<u8>>) -> Proxies {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxies = Proxies::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&mut stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty());
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.for_each(drop);
            let body = path.strip_prefix("/sumdb/sum.golang.org/").and_then(|p| answers.get(p));
            let head = format!("HTTP/1.1 {}\r\nConnection: close\r\n\r\n", if body.is_some() { 200 } else { 404 });
            let _ = stream.write_all(&[head.as_bytes(), body.map_or(b"", Vec::as_slice)].concat());
        }
    });
    proxies
}

#[test]
fn a_proxy_passes_the_database_on_and_can_neither_change_nor_swell_it() {
    let mut answers = recorded();
    answers.insert("supported".to_owned(), Vec::new());
    let (fetcher, other) = (Fetcher::any().unwrap(), Module { hash: "h1:other", ..LND });
    assert_eq!(hold(LND, &serve(answers.clone()), &fetcher).unwrap().record, 46_257_626);
    assert_eq!(hold(other, &serve(answers.clone()), &fetcher).unwrap_err().code(), OTHER_HASH);
    let last = answers.iter_mut().find(|(p, _)| p.starts_with("tile/8/3/")).unwrap().1;
    last.resize(ANSWER_LIMIT as usize + 1, 0);
    let error = hold(LND, &serve(answers), &fetcher).unwrap_err();
    assert!(error.cause().ends_with("sends more than 16384 bytes"), "{error}");
}

#[test]
fn every_pinned_module_is_in_the_real_database() {
    let (proxies, fetcher) = (Proxies::from_environment().unwrap(), Fetcher::any().unwrap());
    for (release, source) in known::all().unwrap().iter().filter_map(|r| Some((r, r.source.as_ref()?))) {
        let lnd = Module { version: &release.version, hash: &source.module, ..LND };
        let versions = [Arch::Amd64, Arch::Arm64].map(|a| (format!("v0.0.1-go{}.linux-{a}", source.go), a));
        let toolchains = versions.iter().filter_map(|(version, arch)| {
            Some(Module {
                path: "golang.org/toolchain",
                version,
                hash: &known::in_force().unwrap().toolchain(&source.go, *arch)?.hash,
            })
        });
        for module in toolchains.chain([lnd]) {
            match hold(module, &proxies, &fetcher) {
                Ok(recorded) => assert!(recorded.record < recorded.tree),
                Err(e) if e.code() == OUT_OF_REACH => {
                    println!("SKIP every_pinned_module_is_in_the_real_database: {}", e.cause());
                    return;
                }
                Err(e) => panic!("{e}"),
            }
            let error = hold(Module { hash: "h1:other", ..module }, &proxies, &fetcher).unwrap_err();
            assert_eq!(error.code(), OTHER_HASH, "{error}");
        }
    }
}
