//! A signer in a container: the names and places of its parts.

use super::Instance;
use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const BAD_NAME: Code = Code::usage("E-SPEC-007");
const NO_DIGEST: Code = Code::usage("E-SPEC-008");

/// The port of every container: the one that is judged, whatever it is published as.
pub const PORT: u16 = super::DEFAULT_PORT;
/// The longest name of a network interface (linux/if.h: IFNAMSIZ, with its end).
const LONGEST_INTERFACE: usize = 15;

/// What a signer in a container has besides what every signer has. Decided once, when it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Docker {
    /// The engine's socket.
    pub engine: PathBuf,
    /// The container's name.
    pub container: String,
    /// The volume that holds the wallet; without it a user installed it without root, and keeps lnd's folder at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// lnd's folder: where the engine keeps that volume, or the user's own.
    pub data: PathBuf,
    /// The folder of settings, secrets and lnd's socket.
    pub folder: PathBuf,
    /// The user and group of lnd, by number: one that nobody on this host has, or that of the user whose signer it is.
    pub uid: u32,
    /// The engine gives containers other user numbers than their own, unless it is told not to.
    #[serde(default)]
    pub maps_users: bool,
}

impl Docker {
    /// The container of `instance` as the original system named it; a second signer's has its name behind it.
    pub fn container_of(instance: &Instance) -> String {
        if *instance == Instance::default() { "litd-signer".to_owned() } else { format!("litd-{instance}") }
    }

    /// The volume of `instance`, as the original system named it for the first.
    pub fn volume_of(instance: &Instance) -> String {
        format!("{instance}-data")
    }

    /// True where it was installed without root, by the user with its number.
    pub fn is_users(&self) -> bool {
        self.volume.is_none()
    }

    /// The network of its signer `instance`, and the bridge that it is on this host. Users may have signers of one name.
    pub fn network(&self, instance: &Instance) -> String {
        let hashed = |whose: &str| format!("lsm-{}", &hex::encode(Sha256::digest(whose))[..8]);
        let name = format!("lsm-{instance}");
        match name.len() {
            _ if self.is_users() => hashed(&format!("{}/{instance}", self.uid)),
            ..=LONGEST_INTERFACE => name,
            _ => hashed(instance.as_str()),
        }
    }
}

/// An image of a registry's by its digest: a tag is whatever its registry says today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(String);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(NO_DIGEST, format!("{text:?} {why}"))
                .hint("name the image by its digest: REF@sha256:64-hex-digits; see: docker images --digests")
        };
        let (name, digest) = text.split_once('@').ok_or_else(|| bad("has no digest"))?;
        let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digest.strip_prefix("sha256:").is_some_and(is_hex) {
            return Err(bad("has no SHA-256 for its digest"));
        }
        // distribution/reference: a domain with its port, a path, perhaps a tag besides.
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
        if !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) || !name.bytes().all(is_inner) {
            return Err(bad("is no image's name"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.0
    }
}

/// What the name of the container ends in that makes a signer's wallet.
pub const CREATE: &str = "-create";
/// And of that out of which lnd is taken.
pub const IMAGE: &str = "-image";

/// A container's name, as an engine accepts it (moby, daemon/names: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`).
///
/// # Errors
/// Where it is none.
pub fn parse_container(text: &str) -> Result<String> {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if let Some(end) = [CREATE, IMAGE].iter().find(|end| text.ends_with(*end)) {
        return Err(Error::new(
            BAD_NAME,
            format!("the name {text:?} is that of a container which lsm makes for a moment"),
        )
        .hint(format!("choose one that does not end in {end}")));
    }
    if text.len() >= 2 && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(is_inner) {
        return Ok(text.to_owned());
    }
    Err(Error::new(BAD_NAME, format!("{text:?} is no container's name"))
        .hint("letters, digits, and after the first _ . -"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signer_has_the_names_of_the_original_system() {
        let (first, second) = (Instance::default(), "second".parse().unwrap());
        assert_eq!(
            (Docker::container_of(&first), Docker::volume_of(&first)),
            ("litd-signer".into(), "signer-data".into())
        );
        assert_eq!(
            (Docker::container_of(&second), Docker::volume_of(&second)),
            ("litd-second".into(), "second-data".into())
        );
    }

    #[test]
    fn every_signer_has_a_bridge_whose_name_the_kernel_takes() {
        let mut docker = Docker {
            engine: PathBuf::new(),
            container: String::new(),
            volume: Some(String::new()),
            data: PathBuf::new(),
            folder: PathBuf::new(),
            uid: 10012,
            maps_users: false,
        };
        let of = |docker: &Docker, instance: &str| docker.network(&instance.parse().unwrap());
        let name = |instance: &str| of(&docker, instance);
        assert_eq!((name("signer"), name("a1234567890")), ("lsm-signer".into(), "lsm-a1234567890".into()));
        let long = ["a12345678901", "a123456789012345"].map(name);
        assert!(long[0] != long[1] && long.iter().all(|name| name.len() == 12), "{long:?}");
        // Each user's has one of its own.
        docker.volume = None;
        let own = of(&docker, "signer");
        docker.uid += 1;
        assert!(own.len() == 12 && own != of(&docker, "signer"), "{own}");
    }

    #[test]
    fn an_image_is_named_by_its_digest_alone() {
        let hex = "ab".repeat(32);
        for good in ["lnd", "docker.io/lightninglabs/lnd", "127.0.0.1:5000/lnd:v1"] {
            let text = format!("{good}@sha256:{hex}");
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let short = format!("lnd@sha256:{}", &hex[1..]);
        let (capital, other) = (format!("lnd@sha256:{}", hex.to_uppercase()), format!("lnd@sha512:{hex}"));
        let (none, twice) = (format!("@sha256:{hex}"), format!("a@b@sha256:{hex}"));
        for bad in ["lnd", "lnd:latest", "lnd@", &short, &capital, &other, &none, &twice, &format!("-x@sha256:{hex}")] {
            assert_eq!(bad.parse::<Reference>().unwrap_err().code(), NO_DIGEST, "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_the_engine() {
        for good in ["litd-signer", "a1", "A_b.c"] {
            assert_eq!(parse_container(good).unwrap(), good);
        }
        for bad in ["", "a", "-ab", "a b", "a/b", "ä1"] {
            assert_eq!(parse_container(bad).unwrap_err().code(), BAD_NAME, "{bad}");
        }
    }
}
