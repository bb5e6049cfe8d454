//! proto/ against lnd's own .proto files: every message, field, number, type, enum value and call that lsm names.

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

/// lnd's unpacked sources: LSM_TEST_LND_SOURCE (several apart by a colon), else those in Go's module cache.
fn sources() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("LSM_TEST_LND_SOURCE") {
        return std::env::split_paths(&named).collect();
    }
    let cache = std::env::var_os("GOMODCACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join("go/pkg/mod")));
    let Some(Ok(entries)) = cache.map(|c| std::fs::read_dir(c.join("github.com/lightningnetwork"))) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lnd@v"))).collect()
}

#[test]
fn what_lsm_says_on_the_wire_is_lnds() {
    let sources = sources();
    if sources.is_empty() {
        println!(
            "SKIP what_lsm_says_on_the_wire_is_lnds: LSM_TEST_LND_SOURCE is unset and Go's module cache has no lnd"
        );
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
