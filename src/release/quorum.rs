//! The quorum: enough of lnd's signers, each with a good signature of his own over one manifest.

pub(super) mod armor;
pub mod certificate;
pub mod manifest;
pub mod openpgp;
pub(super) mod papers;
pub mod reason;

use crate::error::{Code, Error, Result, plain};
use crate::release::pins::Release;
use crate::release::quorum::certificate::Certificate;
use crate::release::quorum::manifest::Manifest;
use crate::release::quorum::openpgp::{Class, Judgement};
use crate::release::trust::Trust;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const BAD_SIGNATURE: Code = Code::unverified("E-QUORUM-001");
const NO_SIGNATURE: Code = Code::unverified("E-QUORUM-002");
const TOO_FEW: Code = Code::unverified("E-QUORUM-003");
const NO_DAY: Code = Code::unverified("E-QUORUM-004");
const NO_QUORUM: Code = Code::usage("E-QUORUM-005");

/// What was found over one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// How many signers had to agree.
    pub needed: usize,
    /// The SHA-256 of the manifest, in hexadecimal.
    pub manifest_sha256: String,
    /// Who did, each once.
    pub signatures: Vec<Counted>,
    /// What else was there, and why it did not count: `FILE: REASON`.
    pub ignored: Vec<String>,
}

/// A signature that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The signer's name.
    pub name: String,
    /// The fingerprint of the signer's primary key: 40 hexadecimal digits in capitals.
    pub fingerprint: String,
    /// When it was made, as RFC 3339 has it (`2026-09-02T08:00:00Z`).
    pub made: String,
    /// True where the key has expired since.
    pub key_expired: bool,
    /// True where the operator added the signer.
    pub added: bool,
}

/// The names of the signature files that the signers of lnd `version` would publish.
pub fn signature_names(trust: &Trust, version: &str) -> Vec<String> {
    trust.signers_of(version).iter().map(|s| signature_name(&s.name, version)).collect()
}

/// True where the error is that too few signed, and nothing worse.
pub(super) fn is_too_few(error: &Error) -> bool {
    error.code() == TOO_FEW
}

fn signature_name(signer: &str, version: &str) -> String {
    format!("manifest-{signer}-{version}.sig")
}

/// The keys of the signers of lnd `version`.
///
/// # Errors
/// Where one cannot be read.
pub fn certificates(trust: &Trust, version: &str) -> Result<Vec<Certificate>> {
    trust.signers_of(version).into_iter().map(Certificate::parse).collect()
}

/// Reads how many good signatures there have to be.
///
/// # Errors
/// Where it is no number, or 0.
pub fn parse_needed(text: &str) -> Result<usize> {
    let needed = text.parse().map_err(|_| Error::new(NO_QUORUM, format!("{text:?} is no number of signatures")))?;
    at_least_one(needed).map(|()| needed)
}

fn at_least_one(needed: usize) -> Result<()> {
    if needed == 0 {
        return Err(Error::new(NO_QUORUM, "a quorum of 0 signatures is none").hint("at least 1 must be good"));
    }
    Ok(())
}

/// Reads a manifest that at least `needed` distinct signers of the release signed. `signatures` are files, each with its
/// name, which is for messages: whose a signature is, the signature says.
///
/// # Errors
/// Where fewer did, where a signature of one of them is bad, whatever the others say, where a file with a signer's name
/// is no signature, and where the manifest or a signer's key cannot be read.
pub fn hold(
    manifest: &[u8],
    signatures: &[(String, Vec<u8>)],
    release: &Release,
    trust: &Trust,
    needed: usize,
) -> Result<(Manifest, Quorum)> {
    at_least_one(needed)?;
    let latest = release.pinned_until().ok_or_else(|| {
        Error::new(NO_DAY, format!("the pin of lnd {} names no day: {:?}", release.version, release.pinned))
    })?;
    // Each signature hashes it, by each key that may have made it.
    manifest::hold_size(manifest, &release.version)?;
    let signers = certificates(trust, &release.version)?;
    let mut quorum = Quorum {
        needed,
        manifest_sha256: hex::encode(Sha256::digest(manifest)),
        signatures: Vec::new(),
        ignored: Vec::new(),
    };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for (file, bytes) in signatures {
        match openpgp::judge(bytes, manifest, &signers, latest, now) {
            Ok(judged) => judged.into_iter().try_for_each(|judgement| quorum.take(file, judgement))?,
            // What somebody unknown left there is as unknown as his signature would be.
            Err(e) if signers.iter().any(|s| signature_name(&s.name, &release.version) == *file) => {
                return Err(Error::new(NO_SIGNATURE, format!("{file} is no signature"))
                    .hint("get it again; if it stays so, somebody changed it on the way")
                    .because(e));
            }
            Err(_) => quorum.ignored.push(plain(&format!("{file}: it is no signature"))),
        }
    }
    if quorum.signatures.len() < needed {
        return Err(quorum.too_few(release));
    }
    Ok((Manifest::parse(manifest, &release.version)?, quorum))
}

impl Quorum {
    fn take(&mut self, file: &str, judgement: Judgement<'_>) -> Result<()> {
        let name = judgement.signer.map_or("somebody", |s| s.name.as_str());
        let ignored = match (judgement.class, judgement.signer) {
            (Class::Bad, _) => {
                let cause = format!("BAD signature of {name} in {file}: it is not over this manifest");
                return Err(Error::new(BAD_SIGNATURE, cause).hint(
                    "the manifest or the signature was changed: nothing of it is believed, whoever else signed",
                ));
            }
            (Class::Good { made, expired_since }, Some(signer)) => {
                if self.signatures.iter().all(|s| s.fingerprint != signer.fingerprint) {
                    self.signatures.push(Counted {
                        name: signer.name.clone(),
                        fingerprint: signer.fingerprint.clone(),
                        made: rfc3339(made),
                        key_expired: expired_since.is_some(),
                        added: signer.added,
                    });
                    return Ok(());
                }
                format!("{file}: {name} counts once")
            }
            (Class::Void(reason), _) => format!("{file}: of {name}, but {reason}"),
            (Class::Unknown | Class::Good { .. }, _) => format!("{file}: by nobody who signs this release"),
        };
        self.ignored.push(plain(&ignored));
        Ok(())
    }

    fn too_few(&self, release: &Release) -> Error {
        let names: Vec<_> = self.signatures.iter().map(|s| s.name.as_str()).collect();
        let good = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let why = if self.ignored.is_empty() { String::new() } else { format!("; {}", self.ignored.join("; ")) };
        let (had, needed, version) = (names.len(), self.needed, &release.version);
        Error::new(TOO_FEW, format!("{had} of {needed} needed signatures over lnd {version} are good{good}{why}")).hint(
            "get its signatures again, from another mirror where one is known; five is what lnd's own script asks for",
        )
    }
}

fn rfc3339(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
