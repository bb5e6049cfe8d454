//! A release whose lnd starts and serves, and knows no call to sign a message: pinned by an update and signed by a quorum,
//! all of the test's own keys, which the host's operator trusts.

use crate::forge::{self, Forge};
use crate::lab::lnd::Release;
use crate::lab::{process, skip};
use crate::stage::Stage;
use crate::update::desk::{Key, head, release as pinned, update_keys};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Its version, which nobody else has.
pub const VERSION: &str = "v0.21.99-beta";
/// Its archive, manifest and signatures, inside.
pub const FOLDER: &str = "/root/broken";

/// The call by which a watch-only node has messages signed, and what is in its place.
const CALL: (&[u8], &[u8]) = (b"/signrpc.Signer/SignMessage", b"/signrpc.Signer/SignMessagX");
/// What the hashes of the desk are made of that are not the real ones.
const SEED: u8 = 0x40;

/// Makes it of `release`, and has the host trust it; false, said as a skip, where that cannot be.
#[track_caller]
pub fn bring(stage: &Stage, release: &Release) -> bool {
    if !forge::is_possible() {
        skip("there is no gpg (apt-get install gpg gpg-agent gpgv)");
        return false;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (arch, part) = if cfg!(target_arch = "aarch64") { ("arm64", 0x20) } else { ("amd64", 0x10) };
    let top = format!("lnd-linux-{arch}-{VERSION}");
    pack(release, folder.path(), &top);

    let hash = |name: &str| hex::encode(Sha256::digest(fs::read(folder.path().join(name)).expect("a file")));
    let names = [format!("{top}.tar.gz"), format!("{top}/lnd"), format!("{top}/lncli")];
    let (key, mut manifest) = (Key::new(), String::new());
    let mut text = head(2, &key) + &pinned(VERSION, "current", SEED);
    for (part, name) in (part..).zip(&names) {
        text = text.replace(&hex::encode([SEED ^ part; 32]), &hash(name));
        manifest += &format!("{}  {name}\n", hash(name));
    }
    let put = |path: &str, bytes: &[u8]| fs::write(stage.host.path(path), bytes).expect("a file inside");
    stage.host.sh(&format!("mkdir {FOLDER} && install -d -m 755 /etc/lsm/release-policy/signers")).ok();
    stage.host.copy_in(&folder.path().join(&names[0]), &format!("{FOLDER}/{}", names[0]), 0o644);
    put(&format!("{FOLDER}/manifest-{VERSION}.txt"), manifest.as_bytes());
    let (forge, mut trust) = (Forge::new(), format!("quorum = 2\n{}", update_keys(&[&key])));
    for name in ["one", "two"] {
        let id = forge.key("20250101T000000", "ed25519", "sign", "never", &[]);
        let signature = forge.sign("20261101T000000", &id, manifest.as_bytes(), &[]);
        put(&format!("{FOLDER}/manifest-{name}-{VERSION}.sig"), &signature);
        put(&format!("/etc/lsm/release-policy/signers/{name}.asc"), &forge::armor(&forge.export(&id)));
        trust += &format!("[[signer]]\nname = \"{name}\"\nfingerprint = \"{id}\"\n");
    }
    put("/etc/lsm/release-policy/trust.toml", trust.as_bytes());
    put("/root/update.toml", text.as_bytes());
    put("/root/update.toml.minisig", &key.sign(text.as_bytes()));
    stage.host.lsm(["release", "update", "/root/update.toml", "--yes"]).ok();
    true
}

/// Packs the programs of `release`, lnd without the call, as lnd's own archives are packed.
fn pack(release: &Release, folder: &Path, top: &str) {
    let inner = folder.join(top);
    fs::create_dir(&inner).expect("a folder");
    let mut lnd = fs::read(release.lnd()).expect("lnd");
    let at: Vec<usize> = (0..lnd.len() - CALL.0.len()).filter(|at| lnd[*at..].starts_with(CALL.0)).collect();
    assert_eq!(at.len(), 1, "lnd names the call once");
    lnd[at[0]..at[0] + CALL.1.len()].copy_from_slice(CALL.1);
    fs::write(inner.join("lnd"), lnd).expect("an lnd");
    // A hash stands for one program of one release: a byte after its end makes it another.
    let lncli = [fs::read(release.lncli()).expect("lncli"), vec![0]].concat();
    fs::write(inner.join("lncli"), lncli).expect("an lncli");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--mode=755", "-czf"]).arg(format!("{top}.tar.gz")).arg(top);
    tar.current_dir(folder);
    process::run(tar).ok();
}
