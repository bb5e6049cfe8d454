//! What runs by itself: tables of cron and at, and systemd's timers.

mod cron;
mod timers;

pub use cron::Job;

use super::{Answer, Place, Signer, Unknown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What runs by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jobs {
    /// Tables and scripts of cron, and what waits for at.
    pub cron: Answer<Vec<Job>>,
    /// What root's timers start, and the units that say so.
    pub timers: Answer<Vec<Job>>,
}

/// Words by which a job names an lnd.
struct Words(BTreeSet<String>);

impl Jobs {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        let words = Words::of(signers);
        Self { cron: Answer::told(cron::gather(&words)), timers: Answer::told(timers::gather(&words)) }
    }
}

impl Words {
    /// lnd and its tool, and each signer's folder and user.
    fn of(signers: &[Signer]) -> Self {
        let folders = signers.iter().filter_map(|signer| Some(signer.folder.as_ref()?.to_string_lossy().into_owned()));
        // A job of root's names root, and tells nothing by it.
        let users = signers.iter().filter_map(|signer| signer.user.clone()).filter(|user| user != "root");
        let own = ["lnd", "lncli"].map(str::to_owned);
        Self(own.into_iter().chain(folders).chain(users).filter(|word| word.len() > 1).collect())
    }

    /// The words that stand in `text`, each as a whole word or a whole part of a path.
    fn within(&self, text: &str) -> Vec<String> {
        let is_of_word = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let stands = |word: &&String| {
            text.match_indices(word.as_str()).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                let after = text[at + word.len()..].chars().next();
                !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
            })
        };
        self.0.iter().filter(stands).cloned().collect()
    }
}

/// The programs that `line` names by absolute paths and that are there, of each way what more users than root can change.
fn programs(line: &str) -> Result<Vec<Place>, Unknown> {
    const BETWEEN: &[char] = &[' ', '\t', ';', '|', '&', '(', ')', '<', '>', '`', '"', '\'', '=', '{', '}'];
    let mut loose = Vec::new();
    let paths = line.split(BETWEEN).map(Path::new).filter(|path| path.is_absolute() && is_program(path));
    for path in paths {
        loose.extend(Place::open_way(path).take()?.unwrap_or_default());
    }
    loose.dedup();
    Ok(loose)
}

/// A plain file that can be run, or that an interpreter is given to run.
fn is_program(path: &Path) -> bool {
    let script =
        path.extension().is_some_and(|kind| ["sh", "py", "pl", "rb", "js"].iter().any(|script| kind == *script));
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && (script || meta.permissions().mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_names_a_signer_by_whole_words() {
        let words = Words(["lnd", "lncli", "lsm-signer", "/var/lib/lsm/signer"].map(str::to_owned).into());
        for (text, wanted) in [
            ("0 3 * * * root tar c /var/lib/lsm/signer/data", &["/var/lib/lsm/signer"][..]),
            ("@daily lsm-signer true", &["lsm-signer"]),
            ("* * * * * root /opt/lnd/bin/lncli --x", &["lncli", "lnd"]),
            ("* * * * * root /usr/bin/lndmon /var/lib/lsm/signer2 lsm-signer-x", &[]),
        ] {
            assert_eq!(words.within(text), wanted, "{text}");
        }
    }
}
