//! What holds at every moment, whatever was cut off: one wallet and always the same, no secret that others can read.

use crate::lab::wait_for;
use crate::stage::{PASSWORD, SEED, Stage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The journal, inside.
pub const JOURNAL: &str = "/var/lib/lsm/journal/signer.jsonl";
const RECEIPT: &str = "/etc/lsm/signer/wallet.toml";
/// What is lnd's and holds the keys: of a unit's, of a container's.
const DATA: [&str; 2] = ["/var/lib/lsm", "/var/lib/docker/volumes/signer-data"];
/// The password of a container's wallet, and one that nothing sealed, inside the host.
const PLAIN_PASSWORDS: [&str; 2] =
    ["/root/.lnget/signer/wallet-password.txt", "/etc/credstore/lsm-signer.wallet-password"];
/// Where secrets are: nobody but its owner may open any file there.
const SECRET: [&str; 6] =
    ["/root/out", "/etc/credstore.encrypted", "/etc/credstore", "/root/.lnget/signer/run", DATA[0], DATA[1]];
/// Copies that an upgrade made, to go back to: no second wallet.
const COPIES: &str = "/var/lib/lsm/snapshot";

/// What was seen of a signer so far.
#[derive(Default)]
pub struct Held {
    wallet: Option<String>,
    receipt: Option<String>,
}

impl Held {
    /// Looks at the host, and holds it to what was seen before.
    ///
    /// # Panics
    /// Where something does not hold, with `when`.
    #[track_caller]
    pub fn look(&mut self, stage: &Stage, when: &str) {
        let mut wallets = Vec::new();
        for data in DATA {
            files(&stage.host.path(data), &mut |path, _| {
                if path.ends_with("wallet.db") && !path.starts_with(stage.host.path(COPIES)) {
                    wallets.push(path.display().to_string());
                }
            });
        }
        assert!(wallets.len() <= 1, "{when}: two wallets: {wallets:?}");
        let wallet = wallets.pop();
        assert!(wallet.is_some() || self.wallet.is_none(), "{when}: the wallet is gone");
        self.wallet = wallet;
        if let Ok(receipt) = fs::read_to_string(stage.host.path(RECEIPT)) {
            assert!(self.wallet.is_some(), "{when}: a receipt of no wallet");
            let had = self.receipt.get_or_insert_with(|| receipt.clone());
            assert_eq!(*had, receipt, "{when}: another wallet");
        }
        let has_password =
            [&PLAIN_PASSWORDS[..], &[PASSWORD]].concat().iter().any(|path| stage.host.path(path).is_file());
        assert!(self.wallet.is_none() || has_password, "{when}: a wallet without its password");
        for folder in SECRET {
            files(&stage.host.path(folder), &mut |path, mode| {
                // A certificate; a second name of a program, in a folder that is root's alone.
                let is_program = path.to_string_lossy().contains("/journal/signer.kept/") && mode & 0o111 != 0;
                let public = (path.ends_with("tls.cert") && mode & 0o022 == 0) || is_program;
                assert!(mode & 0o077 == 0 || public, "{when}: {} is {mode:04o}", path.display());
            });
        }
    }

    /// True where a wallet was seen.
    pub fn has_wallet(&self) -> bool {
        self.wallet.is_some()
    }

    /// Begins anew: the wallet was given up on purpose.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Calls `found` for each file below `folder` that others could reach, with its mode: not for those below a folder that is
/// its owner's alone.
fn files(folder: &Path, found: &mut dyn FnMut(&Path, u32)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if meta.is_dir() {
            files(&entry.path(), found);
        } else if meta.is_file() {
            found(&entry.path(), meta.mode() & 0o7777);
        }
    }
}

/// The signer is complete: nothing is left to do, the seed file is that of its wallet, and it signs for the allowed peer.
///
/// # Panics
/// Where it is not, with `when`.
#[track_caller]
pub fn assert_complete(stage: &Stage, when: &str) {
    let mut dry = stage.arguments();
    dry.extend(["--dry-run".into(), "--json".into()]);
    assert_eq!(stage.host.lsm(&dry).json(), json!({"steps": []}), "{when}");
    let seed = fs::read(stage.host.path(SEED)).expect("a seed was written");
    assert_eq!(journalled_seed(stage), Some(hex::encode(Sha256::digest(&seed))), "{when}: the seed of no wallet");
    assert_signs(stage, when);
}

/// The signer signs for the allowed peer, with the identity of its receipt.
///
/// # Panics
/// Where it does not, with `when`.
#[track_caller]
pub fn assert_signs(stage: &Stage, when: &str) {
    let (signer, bundle) = (stage.signer(), stage.bundle());
    let proof = wait_for(&format!("{when}: a signature"), Duration::from_secs(60), || {
        stage.host.allowed().inside(|| lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey()).ok())
    });
    let receipt = fs::read_to_string(stage.host.path(RECEIPT)).expect("a receipt");
    assert!(receipt.contains(&proof.identity_pubkey), "{when}: {receipt}");
}

/// The hash of the last seed that was to be written.
fn journalled_seed(stage: &Stage) -> Option<String> {
    let text = fs::read_to_string(stage.host.path(JOURNAL)).ok()?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == "seed-writing").find_map(|line| Some(line["sha256"].as_str()?.to_owned()))
}
