//! What the fuzz targets do with their bytes, and what `tests/fuzz_corpus.rs` does with the kept corpus. Nothing may panic.

use lsm::archive;
use lsm::release::pins::{self, Policy};
use lsm::release::policy::minisign::Key;
use lsm::release::policy::update::{self, Signed};
use lsm::release::quorum::{self, manifest::Manifest, openpgp};
use lsm::release::trust::Trust;
use std::sync::LazyLock;
use time::OffsetDateTime;

const VERSION: &str = "v0.21.3-beta";

/// January 2027, in seconds since 1970: after every shipped key was made and every release pinned.
const NOW: i64 = 1_800_000_000;

/// A manifest: what is read from it is what stands in it.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data, VERSION) {
        let name = format!("lnd-linux-amd64-{VERSION}.tar.gz");
        if let Some(hash) = manifest.sha256_of(&name) {
            let text = std::str::from_utf8(data).expect("a manifest that is read is text");
            assert!(text.contains(&format!("{hash}  {name}")));
        }
    }
}

/// A signature file, over the start of itself, by lnd's own signers: none of them signed that.
pub fn signatures(data: &[u8]) {
    static SIGNERS: LazyLock<Vec<lsm::release::quorum::certificate::Certificate>> =
        LazyLock::new(|| quorum::certificates(&Trust::shipped(), VERSION).expect("the shipped keys are read"));
    let message = &data[..data.len().min(16)];
    let judged = openpgp::judge(data, message, &SIGNERS, NOW, NOW).unwrap_or_default();
    assert!(!judged.iter().any(|j| matches!(j.class, openpgp::Class::Good { .. })));
}

/// An archive, of at most 1 MiB unpacked.
pub fn archive(data: &[u8]) {
    let mut had = 0;
    let unpacked = archive::unpack(data, &["lnd", "lncli"], 1 << 20, &mut |place, part| {
        assert!(place < 2);
        had += part.len();
        Ok(())
    });
    assert!(had <= 1 << 20);
    drop(unpacked);
}

/// A releases.toml.
pub fn releases(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(policy) = pins::parse(&text) {
        drop(policy.newest().map(|release| release.version.clone()));
    }
}

/// An update that is signed well: whatever it says, no judgement becomes milder and no pin another one.
pub fn update(data: &[u8]) {
    static KEY: LazyLock<minisign::KeyPair> =
        LazyLock::new(|| minisign::KeyPair::generate_unencrypted_keypair().expect("a key is made"));
    static TRUST: LazyLock<Trust> = LazyLock::new(|| {
        let mut trust = Trust::shipped();
        trust.update_keys.push(KEY.pk.to_base64());
        trust
    });
    static SHIPPED: LazyLock<Policy> = LazyLock::new(Policy::shipped);
    let id = Key::parse(&KEY.pk.to_base64()).expect("a key that was just made");
    // The key of this run stands where the corpus has KEYID.
    let text = String::from_utf8_lossy(data).replace("KEYID", id.id());
    let signature = minisign::sign(None, &KEY.sk, text.as_bytes(), None, None).expect("any text can be signed");
    let signed = Signed { text: text.into_bytes(), signature: signature.into_string().into_bytes() };
    let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
    let Ok(judged) = update::judge(&signed, &SHIPPED, &TRUST, now) else { return };
    for before in SHIPPED.releases() {
        let after = judged.policy.releases().iter().find(|r| r.version == before.version).expect("it stays known");
        assert!(after.status >= before.status);
        for (arch, pin) in &before.archive {
            assert_eq!(after.archive[arch].sha256, pin.sha256);
        }
    }
}
