//! proto/ against lnd's own .proto files: every message, field, number, type, enum value and call that lsm names.

use crate::lab;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const OURS: [&str; 5] =
    ["stateservice.proto", "walletunlocker.proto", "lightning.proto", "signer.proto", "walletkit.proto"];
const THEIRS: [&str; 5] = [
    "stateservice.proto",
    "walletunlocker.proto",
    "lightning.proto",
    "signrpc/signer.proto",
    "walletrpc/walletkit.proto",
];

/// Every name and what it is on the wire, as lines that compare.
fn describe(files: &[&str], folder: &Path) -> BTreeMap<String, String> {
    let set = protox::compile(files, [folder]).unwrap();
    let mut found = BTreeMap::new();
    for file in set.file {
        let package = file.package().to_owned();
        for service in &file.service {
            for call in &service.method {
                let streams = (call.client_streaming(), call.server_streaming());
                let wire = format!("{} -> {} {streams:?}", call.input_type(), call.output_type());
                found.insert(format!("rpc {package}.{}/{}", service.name(), call.name()), wire);
            }
        }
        let mut messages: Vec<_> = file.message_type.iter().map(|m| (format!("{package}.{}", m.name()), m)).collect();
        while let Some((name, message)) = messages.pop() {
            found.insert(format!("message {name}"), String::new());
            for field in &message.field {
                let wire = format!("{} {:?} {:?} {}", field.number(), field.label(), field.r#type(), field.type_name());
                found.insert(format!("field {name}.{}", field.name()), wire);
            }
            messages.extend(message.nested_type.iter().map(|m| (format!("{name}.{}", m.name()), m)));
        }
        for one in &file.enum_type {
            for value in &one.value {
                found.insert(format!("enum {package}.{}.{}", one.name(), value.name()), value.number().to_string());
            }
        }
    }
    found
}

/// The folders with lnd's own .proto files: LSM_TEST_LND_SOURCE (several apart by a colon), else out of the module zips from
/// which lsm built lnd, unpacked below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("LSM_TEST_LND_SOURCE") {
        return std::env::split_paths(&named).collect();
    }
    let zips = std::fs::read_dir(lab::release_cache().join("zip")).into_iter().flatten().flatten();
    let is_lnd = |zip: &PathBuf| zip.to_string_lossy().contains("!lnd@");
    zips.map(|entry| entry.path()).filter(is_lnd).map(|zip| unpack(&zip, folder)).collect()
}

/// The .proto files of a module's zip, in which everything is below `github.com/lightningnetwork/lnd@VERSION`.
fn unpack(zip: &Path, folder: &Path) -> PathBuf {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(zip).unwrap()).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let names: Vec<String> = names.into_iter().filter(|name| name.ends_with(".proto")).collect();
    for name in &names {
        let to = folder.join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::io::copy(&mut zip.by_name(name).unwrap(), &mut std::fs::File::create(to).unwrap()).unwrap();
    }
    let top = names[0].split('/').take(3).collect::<Vec<_>>().join("/");
    folder.join(top)
}

#[test]
fn what_lsm_says_on_the_wire_is_lnds() {
    let folder = tempfile::tempdir().unwrap();
    let sources = sources(folder.path());
    if sources.is_empty() {
        lab::skip("LSM_TEST_LND_SOURCE is unset, and lsm has built no lnd here");
    }
    let ours = describe(&OURS, &Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    assert!(ours.len() > 80, "{}", ours.len());
    for source in sources {
        let theirs = describe(&THEIRS, &source.join("lnrpc"));
        for (name, wire) in &ours {
            assert_eq!(theirs.get(name), Some(wire), "{name} in {}", source.display());
        }
    }
}
